//! Writes HLS playlists (RFC 8216) for titles on a [`Grid`]: fMP4 segments, each independent, audio as a rendition of its own.
//!
//! Invariant: the times written are the grid's own; no text of a file gets in unchecked.

use super::fraction::Fraction;
use super::grid::{AUDIO_FRAME_SAMPLES, AUDIO_RATE, Grid};
use super::ladder::Rung;
use std::fmt::Write as _;

/// Bits a second of the one audio rendition.
pub const AUDIO_BITS_PER_S: u32 = 128_000;
/// RFC 6381: AAC-LC.
const AUDIO_CODEC: &str = "mp4a.40.2";
/// Its folder, beside those of the rungs.
pub const AUDIO: &str = "audio";

/// The multivariant playlist. `language`: None where there is no audio; `und` where it is unknown.
pub fn multivariant(rungs: &[Rung], grid: &Grid, language: Option<&str>) -> String {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let (codec, group) = match language {
        Some(language) => {
            let letters = language.len() <= 3 && language.bytes().all(|byte| byte.is_ascii_lowercase());
            let language = match language {
                known if letters && !matches!(known, "" | "und") => format!("LANGUAGE=\"{known}\","),
                _ => String::new(),
            };
            let _ = writeln!(
                text,
                "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{AUDIO}\",NAME=\"Audio\",{language}DEFAULT=YES,AUTOSELECT=YES,\
                 CHANNELS=\"2\",URI=\"{AUDIO}/index.m3u8\""
            );
            (format!(",{AUDIO_CODEC}"), format!(",AUDIO=\"{AUDIO}\""))
        }
        None => (String::new(), String::new()),
    };
    // A tenth more than the nominal rate holds AAC's wavering and the boxes.
    let audio = if language.is_some() { AUDIO_BITS_PER_S / 10 * 11 } else { 0 };
    for rung in rungs {
        let _ = writeln!(
            text,
            "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}{codec}\",RESOLUTION={}x{},FRAME-RATE={:.3}{group}\n{}/index.m3u8",
            rung.peak_bits_per_s() + audio,
            rung.bits_per_s + audio,
            rung.codec(),
            rung.width,
            rung.height,
            grid.frame_rate.as_f64(),
            rung.name,
        );
    }
    text
}

/// The media playlist of any rung: all have the same times. Its segments lie in the folder `version` beside it.
pub fn video(grid: &Grid, version: &str) -> String {
    media(
        (0..grid.segments()).filter_map(|segment| grid.frames_of(segment)).map(|f| grid.time_of(f.end - f.start)),
        version,
    )
}

/// The media playlist of the audio rendition.
pub fn audio(grid: &Grid, version: &str) -> String {
    let durations = (0..grid.segments()).filter_map(|segment| grid.audio_frames_of(segment)).filter_map(|frames| {
        Fraction::new(i128::from(frames.end - frames.start) * i128::from(AUDIO_FRAME_SAMPLES), AUDIO_RATE)
    });
    media(durations, version)
}

fn media(durations: impl Iterator<Item = Fraction> + Clone, version: &str) -> String {
    // §4.3.3.1: each EXTINF, rounded to the nearest second, is at most this.
    let target = durations.clone().map(|duration| duration.as_f64().round() as u64).max().unwrap_or(1).max(1);
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-MAP:URI=\"{version}/init.mp4\"\n"
    );
    for (segment, duration) in durations.enumerate() {
        let _ = writeln!(text, "#EXTINF:{:.6},\n{version}/{segment}.m4s", duration.as_f64());
    }
    text + "#EXT-X-ENDLIST\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{hls, ladder::ladder};

    fn grid(frames: u64) -> Grid {
        Grid { frame_rate: Fraction::parse("30000/1001").unwrap(), frames }
    }

    #[test]
    fn a_multivariant_playlist() {
        let rungs = ladder(640, 360, &grid(1));
        assert_eq!(
            multivariant(&rungs, &grid(1), Some("eng")),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",LANGUAGE=\"eng\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio/index.m3u8\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=650800,AVERAGE-BANDWIDTH=440800,CODECS=\"avc1.640015,mp4a.40.2\",RESOLUTION=426x240,FRAME-RATE=29.970,AUDIO=\"audio\"\n240p/index.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1500800,AVERAGE-BANDWIDTH=940800,CODECS=\"avc1.64001E,mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=29.970,AUDIO=\"audio\"\n360p/index.m3u8\n"
        );
        let silent = multivariant(&rungs, &grid(1), None);
        assert!(!silent.contains("AUDIO") && silent.contains("CODECS=\"avc1.640015\""), "{silent}");
        for wrong in ["und", "", "e\"x", "toolong"] {
            assert!(!multivariant(&rungs, &grid(1), Some(wrong)).contains("LANGUAGE"), "{wrong}");
        }
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
