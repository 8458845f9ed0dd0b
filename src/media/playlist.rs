//! Writes HLS playlists (RFC 8216) for titles on a [`Grid`]: fMP4 segments, each independent, audio as a rendition of its own.
//!
//! Invariant: the times written are the grid's own; no text of a file gets in unchecked.

use super::fraction::Fraction;
use super::grid::{AUDIO_FRAME_SAMPLES, AUDIO_RATE, Grid};
use super::renditions::{Audio, Renditions, Text};
use std::fmt::Write as _;

/// RFC 6381: AAC-LC.
pub const AUDIO_CODEC: &str = "mp4a.40.2";
/// The group of all subtitles.
const TEXT: &str = "text";

/// The multivariant playlist: each rung with each group of audio, from the lowest rung, stereo first. H.264 comes before the codecs that
/// fewer players take: one that looks no further than the first variant (Apple's begin with it) can play it.
pub fn multivariant(title: &Renditions) -> String {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let groups = title.groups();
    for group in &groups {
        for audio in &group.renditions {
            text += &audio_media(group.id, audio);
        }
    }
    for subtitles in &title.text {
        text += &text_media(subtitles);
    }
    let subtitles = if title.text.is_empty() { String::new() } else { format!(",SUBTITLES=\"{TEXT}\"") };
    for rung in title.rungs {
        let mut variant = |codec: &str, group: &str, audio_bits_per_s: u32| {
            let _ = writeln!(
                text,
                "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}{codec}\",RESOLUTION={}x{},FRAME-RATE={:.3}{group}{subtitles}\n\
                 {}/index.m3u8",
                rung.peak_bits_per_s().saturating_add(audio_bits_per_s),
                rung.bits_per_s.saturating_add(audio_bits_per_s),
                rung.codec(),
                rung.width,
                rung.height,
                title.grid.frame_rate.as_f64(),
                rung.name,
            );
        };
        if groups.is_empty() {
            variant("", "", 0);
        }
        for group in &groups {
            variant(&format!(",{AUDIO_CODEC}"), &format!(",AUDIO=\"{}\"", group.id), group.bits_per_s());
        }
    }
    text
}

fn audio_media(group: &str, audio: &Audio) -> String {
    let language = audio.language.as_ref().map_or(String::new(), |tag| format!(",LANGUAGE=\"{tag}\""));
    // §4.3.4.1: a player may take one by itself, but not somebody who talks about the film.
    let chosen = match (audio.default, audio.commentary) {
        (true, _) => "DEFAULT=YES,AUTOSELECT=YES",
        (false, false) => "DEFAULT=NO,AUTOSELECT=YES",
        (false, true) => "DEFAULT=NO,AUTOSELECT=NO",
    };
    let described = if audio.descriptive { ",CHARACTERISTICS=\"public.accessibility.describes-video\"" } else { "" };
    format!(
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{group}\",NAME=\"{}\"{language},{chosen}{described},CHANNELS=\"{}\",URI=\"{}/index.m3u8\"\n",
        audio.label,
        audio.layout.channels(),
        audio.name,
    )
}

fn text_media(text: &Text) -> String {
    let language = text.language.as_ref().map_or(String::new(), |tag| format!(",LANGUAGE=\"{tag}\""));
    let forced = if text.forced { "YES" } else { "NO" };
    let described = match text.hearing_impaired {
        true => {
            ",CHARACTERISTICS=\"public.accessibility.transcribes-spoken-dialog,public.accessibility.describes-music-and-sound\""
        }
        false => "",
    };
    format!(
        "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"{TEXT}\",NAME=\"{}\"{language},DEFAULT=NO,AUTOSELECT=YES,FORCED={forced}{described},\
         URI=\"{}/index.m3u8\"\n",
        text.label, text.name,
    )
}

/// The media playlist of any rung: all have the same times. Its segments lie in the folder `version` beside it.
pub fn video(grid: &Grid, version: &str) -> String {
    media(video_durations(grid), version, Some("m4s"))
}

/// The media playlist of any audio rendition.
pub fn audio(grid: &Grid, version: &str) -> String {
    let durations = (0..grid.segments()).filter_map(|segment| grid.audio_frames_of(segment)).filter_map(|frames| {
        Fraction::new(i128::from(frames.end - frames.start) * i128::from(AUDIO_FRAME_SAMPLES), AUDIO_RATE)
    });
    media(durations, version, Some("m4s"))
}

/// The media playlist of subtitles: a segment a minute, or one over the whole title.
pub fn text(grid: &Grid, version: &str, whole: bool) -> String {
    if whole {
        return media(std::iter::once(grid.time_of(grid.frames)), version, None);
    }
    let frames = (0..grid.text_segments()).filter_map(|segment| grid.text_frames_of(segment));
    media(frames.map(|frames| grid.time_of(frames.end - frames.start)), version, None)
}

fn video_durations(grid: &Grid) -> impl Iterator<Item = Fraction> + Clone {
    (0..grid.segments()).filter_map(|segment| grid.frames_of(segment)).map(|f| grid.time_of(f.end - f.start))
}

/// `boxes`: the extension of segments that have an init; None: WebVTT, which needs none.
fn media(durations: impl Iterator<Item = Fraction> + Clone, version: &str, boxes: Option<&str>) -> String {
    // §4.3.3.1: each EXTINF, rounded to the nearest second, is at most this.
    let target = durations.clone().map(|duration| duration.as_f64().round() as u64).max().unwrap_or(1).max(1);
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n"
    );
    let extension = boxes.unwrap_or("vtt");
    if boxes.is_some() {
        let _ = writeln!(text, "#EXT-X-MAP:URI=\"{version}/init.mp4\"");
    }
    for (segment, duration) in durations.enumerate() {
        let _ = writeln!(text, "#EXTINF:{:.6},\n{version}/{segment}.{extension}", duration.as_f64());
    }
    text + "#EXT-X-ENDLIST\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::aac::Layout;
    use crate::media::{hls, ladder::ladder};
    use std::collections::BTreeMap;

    fn grid(frames: u64) -> Grid {
        Grid { frame_rate: Fraction::parse("30000/1001").unwrap(), frames }
    }

    fn sound(name: &str, label: &str, layout: Layout) -> Audio {
        let language = Some("en".to_owned());
        Audio {
            name: name.into(),
            label: label.into(),
            language,
            layout,
            default: false,
            commentary: false,
            descriptive: false,
        }
    }

    fn subtitles(name: &str) -> Text {
        Text {
            name: name.into(),
            label: name.into(),
            language: None,
            forced: false,
            hearing_impaired: false,
            whole: false,
            version: "v1".into(),
        }
    }

    #[test]
    fn a_multivariant_playlist() {
        let (grid, head) = (grid(1), "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n");
        let rungs = ladder(640, 360, &grid);
        let mut title = Renditions {
            grid: &grid,
            rungs: &rungs,
            version: "v1",
            versions: BTreeMap::new(),
            audio: vec![],
            text: vec![],
        };
        let silent = multivariant(&title);
        assert!(!silent.contains("AUDIO") && silent.contains("CODECS=\"avc1.640015\""), "{silent}");
        title.audio = vec![Audio { default: true, ..sound("audio-1", "English", Layout::Stereo) }];
        assert_eq!(
            multivariant(&title),
            format!(
                "{head}\
                 #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"English\",LANGUAGE=\"en\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio-1/index.m3u8\"\n\
                 #EXT-X-STREAM-INF:BANDWIDTH=650800,AVERAGE-BANDWIDTH=440800,CODECS=\"avc1.640015,mp4a.40.2\",RESOLUTION=426x240,FRAME-RATE=29.970,AUDIO=\"audio\"\n240p/index.m3u8\n\
                 #EXT-X-STREAM-INF:BANDWIDTH=1500800,AVERAGE-BANDWIDTH=940800,CODECS=\"avc1.64001E,mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=29.970,AUDIO=\"audio\"\n360p/index.m3u8\n"
            )
        );
    }

    #[test]
    fn surround_is_a_group_of_its_own_with_every_track_in_it() {
        let grid = grid(1);
        let rungs = ladder(320, 180, &grid);
        let audio = vec![
            Audio { default: true, ..sound("audio-1", "English", Layout::Stereo) },
            Audio { commentary: true, ..sound("audio-2", "The director", Layout::Stereo) },
            Audio { default: true, ..sound("audio-1-surround", "English", Layout::Surround) },
        ];
        let text = vec![
            Text { hearing_impaired: true, ..subtitles("text-4") },
            Text { forced: true, language: Some("pt-BR".into()), ..subtitles("text-5") },
        ];
        let master = multivariant(&Renditions {
            grid: &grid,
            rungs: &rungs,
            version: "v1",
            versions: BTreeMap::new(),
            audio,
            text,
        });
        let lines: Vec<&str> = master.lines().skip(3).collect();
        assert_eq!(
            lines,
            [
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"English\",LANGUAGE=\"en\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio-1/index.m3u8\"",
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"The director\",LANGUAGE=\"en\",DEFAULT=NO,AUTOSELECT=NO,CHANNELS=\"2\",URI=\"audio-2/index.m3u8\"",
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"surround\",NAME=\"English\",LANGUAGE=\"en\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"6\",URI=\"audio-1-surround/index.m3u8\"",
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"surround\",NAME=\"The director\",LANGUAGE=\"en\",DEFAULT=NO,AUTOSELECT=NO,CHANNELS=\"2\",URI=\"audio-2/index.m3u8\"",
                "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"text\",NAME=\"text-4\",DEFAULT=NO,AUTOSELECT=YES,FORCED=NO,CHARACTERISTICS=\"public.accessibility.transcribes-spoken-dialog,public.accessibility.describes-music-and-sound\",URI=\"text-4/index.m3u8\"",
                "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"text\",NAME=\"text-5\",LANGUAGE=\"pt-BR\",DEFAULT=NO,AUTOSELECT=YES,FORCED=YES,URI=\"text-5/index.m3u8\"",
                "#EXT-X-STREAM-INF:BANDWIDTH=650800,AVERAGE-BANDWIDTH=440800,CODECS=\"avc1.640015,mp4a.40.2\",RESOLUTION=320x180,FRAME-RATE=29.970,AUDIO=\"audio\",SUBTITLES=\"text\"",
                "240p/index.m3u8",
                "#EXT-X-STREAM-INF:BANDWIDTH=932400,AVERAGE-BANDWIDTH=722400,CODECS=\"avc1.640015,mp4a.40.2\",RESOLUTION=320x180,FRAME-RATE=29.970,AUDIO=\"surround\",SUBTITLES=\"text\"",
                "240p/index.m3u8",
            ]
        );
    }

    #[test]
    fn subtitles_have_a_segment_a_minute_or_one() {
        let grid = grid(1801);
        assert_eq!(
            text(&grid, "v1", false),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:60\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXTINF:60.060000,\nv1/0.vtt\n#EXTINF:0.033367,\nv1/1.vtt\n#EXT-X-ENDLIST\n"
        );
        assert!(text(&grid, "v1", true).contains("#EXTINF:60.093367,\nv1/0.vtt\n#EXT-X-ENDLIST"));
    }

    #[test]
    fn a_media_playlist_has_the_times_of_the_grid() {
        assert_eq!(
            video(&grid(250), "v1"),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-MAP:URI=\"v1/init.mp4\"\n#EXTINF:4.004000,\nv1/0.m4s\n#EXTINF:4.004000,\nv1/1.m4s\n#EXTINF:0.333667,\nv1/2.m4s\n#EXT-X-ENDLIST\n"
        );
        let sound = audio(&grid(250), "v1");
        let (video_s, audio_s) = (hls::duration_s(&video(&grid(250), "v1")).unwrap(), hls::duration_s(&sound).unwrap());
        assert!(audio_s >= video_s && audio_s - video_s < 0.022, "{audio_s} {video_s}");
    }
}
