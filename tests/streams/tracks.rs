//! Every track of a film is offered and meets itself at every boundary: languages, surround, commentary, subtitles in the film and
//! beside it, in both manifests.

use super::{joined, library, rendition, title, tool, wait_until_ready, written};
use crate::support::Edge;
use reelgate::media::webvtt::{self, Cue};
use std::path::Path;

/// Hertz of the channels of 5.1, in ffmpeg's order; 7.1 has two more at the sides.
const TONES: [u32; 8] = [300, 500, 700, 60, 900, 1100, 1300, 1500];
const FRAMES: u64 = 230;
const SEGMENT_FRAMES: u64 = 100;

fn tones(count: usize) -> String {
    let each: Vec<String> = TONES[..count].iter().map(|tone| format!("0.2*sin(2*PI*{tone}*t)")).collect();
    each.join("|")
}

const SUBRIP: &str = "1\n00:00:01,000 --> 00:00:03,500\nHello <i>world</i> & all\n\n\
                      2\n00:00:05,000 --> 00:00:06,000\n<font color=\"red\">second</font>\n\n";

/// 9.2 s of video at 25, that begins 21 ms late: 5.1 in English, stereo in French, a commentary from 3 s to 6 s, a track that nobody can
/// decode, subtitles as SubRip and as ASS (forced).
fn film(films: &Path, work: &Path) {
    let subtitles = written(work, "text.srt", SUBRIP.as_bytes());
    let sound = format!("aevalsrc=exprs={}:c=5.1:s=48000:d=9.2", tones(6));
    let file = films.join("Tracks.mkv").display().to_string();
    let mut arguments =
        vec!["-nostdin", "-y", "-f", "lavfi", "-i", "testsrc=s=320x180:r=25:d=9.2", "-f", "lavfi", "-i", &sound];
    arguments.extend(["-f", "lavfi", "-i", "sine=f=440:r=44100:d=9.2"]);
    arguments.extend(["-itsoffset", "3", "-f", "lavfi", "-i", "sine=f=800:r=48000:d=3", "-i", &subtitles]);
    arguments.extend(["-map", "0", "-map", "1", "-map", "2", "-map", "3", "-map", "2", "-map", "4", "-map", "4"]);
    arguments.extend(["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-g", "40"]);
    arguments
        .extend(["-c:a:0", "ac3", "-b:a:0", "448k", "-c:a:1", "aac", "-ac:a:1", "2", "-c:a:2", "aac", "-c:a:3", "mp2"]);
    arguments.extend([
        "-c:s:0",
        "srt",
        "-c:s:1",
        "ass",
        "-metadata:s:a:0",
        "language=eng",
        "-metadata:s:a:1",
        "language=fre",
    ]);
    arguments.extend([
        "-metadata:s:a:2",
        "title=Director \"X\"",
        "-disposition:a:2",
        "comment",
        "-disposition:a:1",
        "default",
    ]);
    arguments.extend(["-disposition:a:0", "0", "-metadata:s:s:0", "language=eng", "-disposition:s:1", "forced", &file]);
    tool("ffmpeg", &arguments);
    let mut bytes = std::fs::read(&file).expect("the film");
    let at = bytes.windows(9).position(|found| found == b"A_MPEG/L2").expect("a track of MP2");
    bytes[at..at + 9].copy_from_slice(b"A_NOTHING");
    std::fs::write(&file, bytes).expect("the film");
}

fn frames_of(segment: usize) -> (u64, u64) {
    let first = segment as u64 * SEGMENT_FRAMES;
    (first, SEGMENT_FRAMES.min(FRAMES - first))
}

fn audio_frames_of(segment: usize) -> (u64, u64) {
    let (start, count) = frames_of(segment);
    let first = |frame: u64| (frame * 1920).div_ceil(1024);
    (first(start), first(start + count) - first(start))
}

/// Samples of each channel, decoded without a word of complaint.
#[track_caller]
pub fn samples(file: &str, channels: usize) -> Vec<Vec<f64>> {
    let said = tool("ffprobe", &["-show_entries", "stream=channels", "-of", "csv=p=0", file]);
    assert_eq!(String::from_utf8_lossy(&said).trim(), channels.to_string(), "channels of {file}");
    let decoded = std::process::Command::new("ffmpeg")
        .args(["-v", "warning", "-i", file, "-f", "f32le", "-"])
        .output()
        .expect("ffmpeg runs");
    assert!(decoded.stderr.is_empty() && decoded.status.success(), "{}", String::from_utf8_lossy(&decoded.stderr));
    let all: Vec<f64> = decoded
        .stdout
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four")).into())
        .collect();
    (0..channels).map(|channel| all.iter().skip(channel).step_by(channels).copied().collect()).collect()
}

/// Amplitude and phase (in periods) of a tone in 48 kHz samples that begin with sample `at` of the title.
fn tone(samples: &[f64], at: usize, hertz: f64) -> (f64, f64) {
    let (mut cosine, mut sine) = (0.0, 0.0);
    for (index, sample) in samples.iter().enumerate() {
        let angle = 2.0 * std::f64::consts::PI * hertz * (at + index) as f64 / 48_000.0;
        cosine += sample * angle.cos();
        sine += sample * angle.sin();
    }
    let scale = 2.0 / samples.len() as f64;
    ((cosine * cosine + sine * sine).sqrt() * scale, cosine.atan2(sine) / (2.0 * std::f64::consts::PI))
}

/// How far a tone wanders, in samples, over every window of ten periods between two samples: a boundary where audio jumps shows.
fn wander(samples: &[f64], hertz: u32) -> f64 {
    let window = 48_000 * 10 / hertz as usize;
    let phases: Vec<f64> = (4096..samples.len() - 8192)
        .step_by(window / 4)
        .map(|at| tone(&samples[at..at + window], at, f64::from(hertz)).1 * 48_000.0 / f64::from(hertz))
        .collect();
    let first = phases[0];
    phases.iter().map(|phase| (phase - first).abs()).fold(0.0, f64::max)
}

fn fetched(edge: &Edge, films: &Path, title: &str, name: &str, layout: usize) -> Vec<Vec<f64>> {
    let bytes = joined(edge, title, name, audio_frames_of, 1024);
    samples(&written(films, &format!("{name}.mp4"), &bytes), layout)
}

#[test]
fn every_track_is_a_rendition_without_a_gap() {
    let (films, work) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    film(films.path(), work.path());
    std::fs::write(films.path().join("Tracks.de.srt"), b"1\n00:00:02,000 --> 00:00:04,500\nGr\xfc\xdfe\n")
        .expect("a file");
    std::fs::write(films.path().join("Tracks.sdh.vtt"), "WEBVTT\n\n00:07.000 --> 00:08.000 align:start\n[rain]\n")
        .expect("a file");
    let edge = library(films.path()).run();
    wait_until_ready(&edge);
    let title = title(&edge, "Tracks");

    let master = edge.get(&format!("{title}/master.m3u8")).expect_status(200).text();
    let media: Vec<&str> = master.lines().filter_map(|line| line.strip_prefix("#EXT-X-MEDIA:TYPE=")).collect();
    let audio = |group: &str, rest: &str| format!("AUDIO,GROUP-ID=\"{group}\",NAME={rest}/index.m3u8\"");
    let text = |rest: &str| format!("SUBTITLES,GROUP-ID=\"text\",NAME={rest}");
    let english = "\"English\",LANGUAGE=\"en\",DEFAULT=NO,AUTOSELECT=YES,CHANNELS=";
    let french = "\"French\",LANGUAGE=\"fr\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio-2";
    let director = "\"Director X\",DEFAULT=NO,AUTOSELECT=NO,CHANNELS=\"2\",URI=\"audio-3";
    assert_eq!(
        media[..7],
        [
            audio("audio", &format!("{english}\"2\",URI=\"audio-1")),
            audio("audio", french),
            audio("audio", director),
            audio("surround", &format!("{english}\"6\",URI=\"audio-1-surround")),
            audio("surround", french),
            audio("surround", director),
            text("\"English\",LANGUAGE=\"en\",DEFAULT=NO,AUTOSELECT=YES,FORCED=NO,URI=\"text-5/index.m3u8\""),
        ]
    );
    assert!(media[7].contains("FORCED=YES,URI=\"text-6/") && media[8].contains("LANGUAGE=\"de\""), "{master}");
    assert!(media[9].contains("CHARACTERISTICS=\"public.accessibility.transcribes") && media.len() == 10, "{master}");
    let described = edge.get(&format!("{title}/streams.json")).expect_status(200).json();
    let left_out =
        serde_json::json!([{"stream": 4, "kind": "audio", "language": "und", "reason": "its codec is unknown"}]);
    assert_eq!(described["left_out"], left_out);

    // Each channel of surround is where it was; the loudness of others is not in it.
    let surround = fetched(&edge, work.path(), &title, "audio-1-surround", 6);
    for (channel, own) in surround.iter().enumerate() {
        for (other, hertz) in TONES[..6].iter().enumerate() {
            let (amplitude, _) = tone(&own[96_000..144_000], 96_000, f64::from(*hertz));
            let expected = if other == channel { 0.2 } else { 0.0 };
            assert!((amplitude - expected).abs() < 0.03, "tone {hertz} in channel {channel}: {amplitude}");
        }
        assert!(wander(own, TONES[channel]) < 1.0, "channel {channel} jumps: {} samples", wander(own, TONES[channel]));
    }
    let stereo = fetched(&edge, work.path(), &title, "audio-1", 2);
    let (left, right) =
        (tone(&stereo[0][96_000..144_000], 96_000, 300.0).0, tone(&stereo[1][96_000..144_000], 96_000, 300.0).0);
    assert!(left > 0.05 && right < left / 10.0, "the left is left: {left} {right}");
    let french = fetched(&edge, work.path(), &title, "audio-2", 2);
    assert!(wander(&french[0], 440) < 1.0, "{} samples", wander(&french[0], 440));
    // From 3 s to 6 s, and silence around it, though the last segment has nothing of it.
    let commentary = fetched(&edge, work.path(), &title, "audio-3", 2);
    let loud = |from_s: f64, to_s: f64| {
        let part = &commentary[0][(from_s * 48_000.0) as usize..(to_s * 48_000.0) as usize];
        part.iter().fold(0.0_f64, |loudest, sample| loudest.max(sample.abs()))
    };
    assert!(loud(0.0, 2.9) < 0.001 && loud(3.1, 5.9) > 0.05 && loud(6.1, 9.1) < 0.001);

    expect_subtitles(&edge, &title, &master);
    expect_a_dash_player_sees_the_same(&edge, &title);
}

#[track_caller]
fn cues(edge: &Edge, title: &str, name: &str) -> Vec<(u64, u64, String)> {
    let playlist = edge.get(&format!("{title}/{name}/index.m3u8")).expect_status(200).text();
    let segments: Vec<&str> = playlist.lines().filter(|line| line.ends_with(".vtt")).collect();
    assert_eq!(segments.len(), 1, "{playlist}");
    assert!(playlist.contains("#EXTINF:9.200000,") && !playlist.contains("EXT-X-MAP"), "{playlist}");
    let answer = edge.get(&format!("{title}/{name}/{}", segments[0])).expect_status(200);
    assert_eq!(answer.header("content-type"), Some("text/vtt; charset=utf-8"));
    assert!(answer.text().starts_with("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n"), "{}", answer.text());
    let cues = webvtt::parse(&answer.text()).expect("WebVTT");
    cues.into_iter().map(|Cue { start_ms, end_ms, text, .. }| (start_ms, end_ms, text)).collect()
}

#[track_caller]
fn expect_subtitles(edge: &Edge, title: &str, master: &str) {
    let cue = |start_ms, end_ms, text: &str| (start_ms, end_ms, text.to_owned());
    // In the file all is 21 ms later, as its pictures are; ASS counts hundredths.
    let own = [cue(1000, 3500, "Hello <i>world</i> &amp; all"), cue(5000, 6000, "second")];
    assert_eq!(cues(edge, title, "text-5"), own);
    for (found, expected) in cues(edge, title, "text-6").iter().zip(&own) {
        assert!(found.0.abs_diff(expected.0) <= 10 && found.2 == expected.2, "{found:?}");
    }
    let files: Vec<&str> = master.split("URI=\"text-file-").skip(1).map(|rest| &rest[..8]).collect();
    let file = |hash: &str| cues(edge, title, &format!("text-file-{hash}"));
    assert_eq!(file(files[0]), [cue(2000, 4500, "Grüße")]);
    assert_eq!(file(files[1]), [cue(7000, 8000, "[rain]")]);
}

#[test]
fn subtitles_of_a_long_film_come_a_minute_at_a_time_and_their_times_are_the_films() {
    let (films, work) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let text = "1\n00:00:10,000 --> 00:00:11,000\nearly\n\n2\n00:00:59,000 --> 00:01:01,500\nacross\n\n3\n00:02:05,000 --> 00:02:06,000\nlate\n";
    // One that is shown for two minutes; `mov_text` cannot say that others are meanwhile.
    let long = format!("{text}\n4\n00:00:04,000 --> 00:02:08,000\nlong\n");
    let text = written(work.path(), "text.srt", text.as_bytes());
    let long = written(work.path(), "long.srt", long.as_bytes());
    for (name, codec, text) in [("Longer.mkv", "ass", &long), ("Long.mp4", "mov_text", &text)] {
        let file = films.path().join(name).display().to_string();
        let mut arguments = vec!["-nostdin", "-y", "-f", "lavfi", "-i", "testsrc=s=64x36:r=10:d=130", "-i", text];
        arguments.extend(["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-g", "100", "-c:s", codec]);
        arguments.extend(["-output_ts_offset", "7", &file]);
        tool("ffmpeg", &arguments);
    }
    let edge = library(films.path()).run();
    wait_until_ready(&edge);
    let list = edge.get("/titles.json").expect_status(200).json();
    let titles = list["titles"].as_array().expect("titles").clone();
    assert_eq!(titles.len(), 2);
    for listed in titles {
        let title = format!("/t/{}", listed["id"].as_str().expect("an id"));
        let playlist = edge.get(&format!("{title}/text-1/index.m3u8")).expect_status(200).text();
        let segments: Vec<&str> = playlist.lines().filter(|line| line.ends_with(".vtt")).collect();
        assert_eq!(segments.len(), 3, "{playlist}");
        for (segment, expected) in [(1, vec!["across"]), (2, vec!["late"]), (0, vec!["early", "across"])] {
            let text = edge.get(&format!("{title}/text-1/{}", segments[segment])).expect_status(200).text();
            let found: Vec<Cue> = webvtt::parse(&text).expect("WebVTT");
            let has_long = found.iter().any(|cue| cue.text == "long");
            assert_eq!(has_long, listed["name"] == "Longer", "segment {segment}: {text}");
            let found: Vec<Cue> = found.into_iter().filter(|cue| cue.text != "long").collect();
            assert_eq!(found.iter().map(|cue| cue.text.as_str()).collect::<Vec<_>>(), expected, "segment {segment}");
            let start = |text: &str| match text {
                "early" => 10_000,
                "across" => 59_000,
                _ => 125_000,
            };
            assert!(found.iter().all(|cue| cue.start_ms.abs_diff(start(&cue.text)) <= 10), "{text}");
        }
    }
}

/// ffmpeg's DASH demuxer reads the manifest by itself, over HTTP.
#[track_caller]
fn expect_a_dash_player_sees_the_same(edge: &Edge, title: &str) {
    let answer = edge.get(&format!("{title}/manifest.mpd")).expect_status(200);
    assert_eq!(answer.header("content-type"), Some("application/dash+xml"));
    let url = format!("http://{}{title}/manifest.mpd", edge.http());
    let fields = "stream=codec_type,channels:stream_tags=language";
    let said = tool("ffprobe", &["-allowed_extensions", "ALL", "-show_entries", fields, "-of", "json", &url]);
    let said: serde_json::Value = serde_json::from_slice(&said).expect("JSON");
    let streams = said["streams"].as_array().expect("streams");
    let count = |kind: &str| streams.iter().filter(|stream| stream["codec_type"] == kind).count();
    assert_eq!((count("audio"), count("subtitle")), (4, 4), "{said}");
    assert!(streams.iter().any(|stream| stream["channels"] == 6) && count("video") == 1, "{said}");
    let counted = [
        "-allowed_extensions",
        "ALL",
        "-count_packets",
        "-select_streams",
        "v:0",
        "-show_entries",
        "stream=nb_read_packets",
    ];
    let counted = tool("ffprobe", &[&counted[..], &["-of", "csv=p=0", &url]].concat());
    assert_eq!(String::from_utf8_lossy(&counted).lines().next(), Some("230"), "frames through the manifest");
}

/// Periods since the start of a tone that rises, so that no two places of it are alike: 300 Hz, and 80 more each second.
fn risen(seconds: f64) -> f64 {
    300.0 * seconds + 40.0 * seconds * seconds
}

/// The rising tone in samples from `at` on, as if it began `late` samples late: in phase, and a quarter of a period off.
pub fn rising(samples: &[f64], at: usize, late: f64) -> (f64, f64) {
    let scale = 2.0 / samples.len() as f64;
    let parts = samples.iter().enumerate().map(|(index, sample)| {
        let angle = 2.0 * std::f64::consts::PI * risen(((at + index) as f64 - late) / 48_000.0);
        (sample * angle.sin() * scale, sample * angle.cos() * scale)
    });
    parts.fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
}

/// How many samples apart the places of a film's sound are, at most: 0 where all of it is as late as its beginning.
#[track_caller]
fn strays(samples: &[f64]) -> f64 {
    const WINDOW: usize = 2400;
    let start = 24_000;
    let places = |step: usize| (start..samples.len() - 2 * WINDOW).step_by(step);
    // How late all of it is: together, windows tell a period from the next.
    let together = |late: &f64| {
        let parts = places(12_000).map(|at| rising(&samples[at..at + 300], at, *late));
        let sum = parts.fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        sum.0.hypot(sum.1)
    };
    let tries = (-400..400).map(|late| f64::from(late) * 6.0);
    let late = tries.max_by(|a, b| together(a).total_cmp(&together(b))).expect("there are some");
    let lags = places(WINDOW / 2).map(|at| {
        let (level, quarter) = rising(&samples[at..at + WINDOW], at, late);
        assert!(level.hypot(quarter) > 0.25, "at {at} there is another tone: {}", level.hypot(quarter));
        let hertz = 300.0 + 80.0 * (at + WINDOW / 2) as f64 / 48_000.0;
        -quarter.atan2(level) / (2.0 * std::f64::consts::PI) * 48_000.0 / hertz
    });
    let (least, most) = lags.fold((f64::MAX, f64::MIN), |(least, most), lag| (least.min(lag), most.max(lag)));
    most - least
}

#[test]
fn audio_is_where_it_belongs_whatever_rate_and_clock_its_file_has() {
    let (films, work) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    // Matroska counts milliseconds; packets of these last 21.33, 23.22, 26.12 and 10.67. Vorbis's are of any length.
    let sounds = [
        ("aac", "48000", "mkv", 3.0),
        ("aac", "44100", "mkv", 3.0),
        ("libmp3lame", "44100", "mkv", 3.0),
        ("dca", "48000", "mkv", 3.0),
        ("aac", "44100", "mp4", 3.0),
        ("aac", "22050", "mp4", 3.0),
        ("libvorbis", "44100", "mkv", 3.0),
        ("libopus", "48000", "webm", 3.0),
    ];
    for (index, (codec, rate, container, _)) in sounds.into_iter().enumerate() {
        let sound = format!("aevalsrc=exprs=0.4*sin(2*PI*(300*t+40*t*t)):c=mono:s={rate}:d=9.2");
        let file = films.path().join(format!("Film {index}.{container}")).display().to_string();
        let mut arguments =
            vec!["-nostdin", "-y", "-f", "lavfi", "-i", "testsrc=s=64x36:r=25:d=9.2", "-f", "lavfi", "-i", &sound];
        let webm = container == "webm";
        arguments.extend(["-c:v", if webm { "libvpx" } else { "libx264" }, "-threads", "1", "-g", "33", "-ac", "2"]);
        arguments.extend(["-c:a", codec, "-strict", "-2", &file]);
        tool("ffmpeg", &arguments);
    }
    let large = films.path().join("Large.mkv").display().to_string();
    let sound = format!("aevalsrc=exprs={}:c=7.1:s=48000:d=9.2", tones(8));
    let video = ["-nostdin", "-y", "-f", "lavfi", "-i", "testsrc=s=64x36:r=25:d=9.2", "-f", "lavfi", "-i", &sound];
    tool("ffmpeg", &[&video[..], &["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "flac", &large]].concat());
    let edge = library(films.path()).run();
    wait_until_ready(&edge);
    for (index, (codec, rate, container, most)) in sounds.into_iter().enumerate() {
        let title = title(&edge, &format!("Film {index}"));
        let strays = strays(&fetched(&edge, work.path(), &title, "audio-1", 2)[0]);
        println!("{codec} at {rate} in {container}: {strays:.2} samples");
        assert!(strays <= most, "{codec} at {rate} in {container}: {strays} samples");
    }
    let title = title(&edge, "Large");
    let (_, segments, _) = rendition(&edge, &title, "audio-1-surround");
    assert_eq!(segments, 3);
    for (channel, own) in fetched(&edge, work.path(), &title, "audio-1-surround", 8).iter().enumerate() {
        let (amplitude, _) = tone(&own[96_000..144_000], 96_000, f64::from(TONES[channel]));
        assert!((amplitude - 0.2).abs() < 0.03, "channel {channel} of 7.1: {amplitude}");
        // Eight channels share half a megabit: a little is the encoder's noise.
        assert!(wander(own, TONES[channel]) < 4.0, "channel {channel} jumps: {} samples", wander(own, TONES[channel]));
    }
}
