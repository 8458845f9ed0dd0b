//! Films that a seek does not find its way in: recordings in MPEG-TS, AVI, MPEG-PS, FLV, ASF and Ogg. The same promise as for any
//! other film: segments asked for in any order hold exactly their frames, with the sound where it belongs.

use super::tracks::{rising, samples};
use super::{BLACK, SPAN, STEP};
use super::{expect_every_frame, joined, library, rendition, title, tool, wait_until_ready, written};
use crate::support::Edge;
use std::path::Path;

/// Frames of these films: seconds are chosen so that the last segment is a short one.
struct Film {
    name: &'static str,
    rate: &'static str,
    seconds: &'static str,
    frames: u64,
    encoding: &'static [&'static str],
}

const X264: [&str; 8] = ["-threads", "1", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "10"];
const MPEG2: [&str; 8] = ["-threads", "1", "-c:v", "mpeg2video", "-q:v", "2", "-g", "15"];

/// Its frames are as bright as their number says, its sound rises.
#[track_caller]
fn make(folder: &Path, film: &Film, sound_rate: &str, more: &[&str]) {
    let Film { name, rate, seconds, .. } = film;
    let picture = format!(
        "color=s=320x180:r={rate}:d={seconds},geq=lum='{BLACK}+mod(N*{STEP}\\,{SPAN})':cb=128:cr=128,format=yuv420p"
    );
    let sound = format!("aevalsrc=exprs=0.4*sin(2*PI*(300*t+40*t*t)):c=mono:s={sound_rate}:d={seconds}");
    let file = folder.join(name).display().to_string();
    let mut arguments = vec!["-nostdin", "-y", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound];
    arguments.extend(["-ac", "2"]);
    arguments.extend(more);
    arguments.extend(film.encoding);
    arguments.push(&file);
    tool("ffmpeg", &arguments);
}

/// Seconds of a frame, by the film's rate.
fn seconds(film: &Film, frame: u64) -> f64 {
    let (numerator, denominator) = film.rate.split_once('/').unwrap_or((film.rate, "1"));
    frame as f64 * denominator.parse::<f64>().expect("a number") / numerator.parse::<f64>().expect("a number")
}

/// Segments asked for out of order: every frame of the video, and the sound of all of it as late as at its beginning, which is so little
/// that nobody hears it.
#[track_caller]
fn expect_exact(edge: &Edge, work: &Path, film: &Film, ticks: u32) {
    let (stem, _) = film.name.rsplit_once('.').expect("an extension");
    let title = title(edge, stem);
    let (_, segments, playlist) = rendition(edge, &title, "240p");
    let segment_frames = (4.0 / seconds(film, 1)).round() as u64;
    assert_eq!(segments as u64, film.frames.div_ceil(segment_frames), "{stem}: {playlist}");
    let part = |segment: usize| {
        let first = segment as u64 * segment_frames;
        (first, segment_frames.min(film.frames - first))
    };
    let video = joined(edge, &title, "240p", part, ticks);
    expect_every_frame(&written(work, &format!("{stem}.mp4"), &video), film.frames);
    let first = |frame: u64| (seconds(film, frame) * 48_000.0 / 1024.0 - 1e-6).ceil() as u64;
    let part = |segment: usize| {
        let (start, count) = part(segment);
        (first(start), first(start + count) - first(start))
    };
    let audio = (1..9).map(|stream| format!("audio-{stream}")).chain(["audio-0".to_owned()]);
    let track = audio.into_iter().find(|name| edge.get(&format!("{title}/{name}/index.m3u8")).status == 200);
    let track = track.expect("a track");
    let sound = joined(edge, &title, &track, part, 1024);
    let sound = samples(&written(work, &format!("{stem}-sound.mp4"), &sound), 2).swap_remove(0);
    expect_sound_in_place(stem, &sound);
}

/// How late the sound is, in milliseconds, at every twentieth of a second: always the same, and little.
#[track_caller]
fn expect_sound_in_place(name: &str, samples: &[f64]) {
    const WINDOW: usize = 2400;
    let places: Vec<usize> = (24_000..samples.len() - 3 * WINDOW).step_by(WINDOW).collect();
    // The last half second is the film's own end.
    let places = &places[..places.len() - 10];
    let level = |late: f64| {
        let parts = places.iter().map(|at| rising(&samples[*at..at + 300], *at, late));
        let (level, quarter) = parts.fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        f64::hypot(level, quarter)
    };
    // Samples: up to 50 ms.
    let late = (-400..400).map(|late| f64::from(late) * 6.0).max_by(|a, b| level(*a).total_cmp(&level(*b)));
    let late = late.expect("there are some");
    let mut strays = (f64::MAX, f64::MIN);
    for at in places {
        let (level, quarter) = rising(&samples[*at..at + WINDOW], *at, late);
        assert!(level.hypot(quarter) > 0.2, "{name}: at {at} there is another tone: {}", level.hypot(quarter));
        let hertz = 300.0 + 80.0 * (at + WINDOW / 2) as f64 / 48_000.0;
        let stray = -quarter.atan2(level) / (2.0 * std::f64::consts::PI) * 48_000.0 / hertz;
        strays = (strays.0.min(stray), strays.1.max(stray));
    }
    println!("{name}: {:.1} ms late, strays {:.2} samples", late / 48.0, strays.1 - strays.0);
    assert!(strays.1 - strays.0 < 4.0, "{name}: {strays:?} samples apart");
    assert!(late.abs() / 48.0 < 45.0, "{name}: {} ms late", late / 48.0);
}

#[test]
fn recordings_in_transport_streams_are_cut_exactly() {
    let (films, work) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let long = Film {
        name: "Long groups.ts",
        rate: "25",
        seconds: "21.2",
        frames: 530,
        encoding: &["-g", "250", "-c:a", "aac"],
    };
    make(films.path(), &long, "48000", &X264);
    // Its clock wraps after eight seconds.
    let open = Film {
        name: "Open groups.m2ts",
        rate: "30000/1001",
        seconds: "18.2",
        frames: 546,
        encoding: &[
            "-bf",
            "3",
            "-x264-params",
            "open-gop=1:keyint=75:bframes=3:b-adapt=0",
            "-c:a",
            "ac3",
            "-mpegts_m2ts_mode",
            "1",
            "-output_ts_offset",
            "95434",
        ],
    };
    make(films.path(), &open, "48000", &X264);
    let fields = Film {
        name: "Fields.ts",
        rate: "30000/1001",
        seconds: "13.1",
        frames: 393,
        encoding: &["-bf", "2", "-flags", "+ildct+ilme", "-top", "1", "-c:a", "mp2", "-output_ts_offset", "12345.6"],
    };
    make(films.path(), &fields, "48000", &MPEG2);
    let edge = library(films.path()).run();
    wait_until_ready(&edge);
    for (film, ticks) in [(&long, 400), (&open, 1001), (&fields, 1001)] {
        expect_exact(&edge, work.path(), film, ticks);
    }
}

/// A film of nine seconds, the rate of its sound, and how its pictures are encoded.
type Old = (Film, &'static str, &'static [&'static str]);

const fn film(name: &'static str, encoding: &'static [&'static str]) -> Film {
    Film { name, rate: "25", seconds: "9.2", frames: 230, encoding }
}

#[track_caller]
fn expect_all_exact(films_made: &[Old]) {
    let (films, work) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    for (film, sound_rate, more) in films_made {
        make(films.path(), film, sound_rate, more);
    }
    let edge = library(films.path()).run();
    wait_until_ready(&edge);
    for (film, ..) in films_made {
        expect_exact(&edge, work.path(), film, 400);
    }
}

#[test]
fn films_in_avi_and_program_streams_are_cut_exactly() {
    expect_all_exact(&[
        (
            film("Simple.avi", &["-vtag", "XVID", "-g", "60", "-bf", "2", "-c:a", "libmp3lame", "-q:a", "4"]),
            "44100",
            &["-c:v", "mpeg4", "-q:v", "2"],
        ),
        (
            film("Packed.avi", &["-g", "60", "-bf", "2", "-c:a", "libmp3lame", "-b:a", "128k"]),
            "44100",
            &["-c:v", "libxvid", "-q:v", "2"],
        ),
        (film("Wave.avi", &["-c:a", "pcm_s16le"]), "44100", &["-c:v", "mjpeg", "-q:v", "2"]),
        (film("Disc.vob", &["-bf", "2", "-c:a", "ac3"]), "48000", &MPEG2),
        (film("Old.mpg", &["-bf", "2", "-c:a", "mp2"]), "48000", &["-c:v", "mpeg1video", "-q:v", "2", "-g", "15"]),
    ]);
}

#[test]
fn films_in_flv_asf_and_ogg_are_cut_exactly() {
    expect_all_exact(&[
        (film("Flash.flv", &["-g", "100", "-bf", "2", "-c:a", "aac"]), "44100", &X264),
        (film("Sorenson.flv", &["-g", "50", "-c:a", "libmp3lame"]), "44100", &["-c:v", "flv1", "-q:v", "2"]),
        (film("Windows.wmv", &["-g", "60", "-c:a", "wmav2"]), "44100", &["-c:v", "wmv2", "-q:v", "2"]),
        (film("Theora.ogv", &["-g", "64", "-c:a", "libvorbis"]), "44100", &["-c:v", "libtheora", "-q:v", "10"]),
    ]);
}

/// Cuts a file out of a film.
#[track_caller]
fn cut(folder: &Path, from: &str, to: &str, range: std::ops::Range<usize>) {
    let bytes = std::fs::read(folder.join(from)).expect("a film");
    std::fs::write(folder.join(to), &bytes[range.start..range.end.min(bytes.len())]).expect("a file");
}

/// Every segment, in any order, is there, on the grid; how many frames there are.
#[track_caller]
fn expect_whole(edge: &Edge, name: &str, ticks: u32) -> u64 {
    let title = title(edge, name);
    let (_, segments, playlist) = rendition(edge, &title, "240p");
    let streams = edge.get(&format!("{title}/streams.json")).expect_status(200).json();
    let seconds = streams["duration_s"].as_f64().expect("a length");
    let frames = (seconds * streams["frame_rate"].as_f64().expect("a rate")).round() as u64;
    assert_eq!(segments as u64, frames.div_ceil(100), "{name}: {playlist}");
    let part = |segment: usize| (segment as u64 * 100, (frames - segment as u64 * 100).min(100));
    joined(edge, &title, "240p", part, ticks);
    frames
}

#[test]
fn broken_recordings_play_as_far_as_they_go_or_say_why_not() {
    let films = tempfile::tempdir().expect("a folder");
    let film = |name, seconds, encoding| Film { name, rate: "25", seconds, frames: 0, encoding };
    let plain: &[&str] = &["-g", "50", "-bf", "2", "-c:a", "aac"];
    make(films.path(), &film("First.ts", "10", plain), "48000", &X264);
    let later = film("Second.ts", "10", &["-g", "50", "-bf", "2", "-c:a", "aac", "-output_ts_offset", "5000"]);
    make(films.path(), &later, "48000", &X264);
    // The same clock goes on, in streams of other numbers and another size.
    let renumbered = film(
        "Renumbered.ts",
        "6",
        &[
            "-g",
            "50",
            "-bf",
            "2",
            "-c:a",
            "aac",
            "-output_ts_offset",
            "10",
            "-streamid",
            "0:600",
            "-streamid",
            "1:601",
            "-s",
            "160x90",
        ],
    );
    make(films.path(), &renumbered, "48000", &X264);
    let read = |name: &str| std::fs::read(films.path().join(name)).expect("a film");
    let (first, second) = (read("First.ts"), read("Second.ts"));
    let put = |name: &str, parts: &[&[u8]]| std::fs::write(films.path().join(name), parts.concat()).expect("a file");
    let cut_at = first.len() / 3 + 77;
    put("Cut short.ts", &[&first[cut_at..first.len() - 5000 - 33]]);
    // Some seconds were not received, and bytes in a packet are lost.
    let aligned = |at: usize| at / 188 * 188;
    put("Lost.ts", &[&first[..aligned(first.len() / 3)], &first[aligned(first.len() / 2) + 50..]]);
    put("Joined.ts", &[&second, &first]);
    put("Set.ts", &[&first, &second]);
    put("Renumbered on the way.ts", &[&first, &read("Renumbered.ts")]);
    put("Noise.ts", &[&[0x47; 40_000]]);
    // From two channels to six, as in advertisements, in the middle of a segment.
    let loud = |name, offset: &'static [&'static str]| film(name, "6", offset);
    make(films.path(), &loud("Two.ts", &["-g", "50", "-c:a", "ac3"]), "48000", &X264);
    make(
        films.path(),
        &loud("Six.ts", &["-g", "50", "-c:a", "ac3", "-ac", "6", "-output_ts_offset", "6"]),
        "48000",
        &X264,
    );
    put("Channels.ts", &[&read("Two.ts"), &read("Six.ts")]);
    let half = film("Whole.avi", "10", &["-vtag", "XVID", "-g", "50", "-c:a", "libmp3lame"]);
    make(films.path(), &half, "44100", &["-c:v", "mpeg4", "-q:v", "2"]);
    // Its index, which is at its end, is missing.
    cut(films.path(), "Whole.avi", "Without an index.avi", 0..read("Whole.avi").len() * 2 / 3);
    let edge = library(films.path()).run();
    wait_until_ready(&edge);
    let titles = edge.get("/titles.json").expect_status(200).json()["titles"].as_array().expect("titles").len();
    assert_eq!(titles, 14);
    let at = |name: &str| edge.get(&format!("{}/master.m3u8", title(&edge, name)));
    for name in ["Joined", "Set"] {
        let answer = at(name);
        assert!(answer.status == 404 && answer.text().contains("clock jumps"), "{name}: {}", answer.text());
    }
    assert_eq!(at("Noise").status, 404);
    let frames = expect_whole(&edge, "Lost", 400);
    assert_eq!(frames, 250, "what is lost is still there in time");
    let frames = expect_whole(&edge, "Renumbered on the way", 400);
    assert!(frames.abs_diff(400) <= 3, "all of it: {frames}");
    for name in ["Cut short", "Without an index"] {
        expect_whole(&edge, name, 400);
    }
    expect_sound_goes_on(&edge, &title(&edge, "Channels"));
}

/// The tone begins anew after six seconds, where the number of channels changes: there and before it is a tone all the time.
#[track_caller]
fn expect_sound_goes_on(edge: &Edge, title: &str) {
    let work = tempfile::tempdir().expect("a folder");
    let first = |frame: u64| (frame * 1920).div_ceil(1024);
    let part = |segment: usize| {
        let start = segment as u64 * 100;
        (first(start), first((start + 100).min(300)) - first(start))
    };
    let sound = joined(edge, title, "audio-1", part, 1024);
    let sound = samples(&written(work.path(), "sound.mp4", &sound), 2).swap_remove(0);
    for at in (24_000..270_000).step_by(2400) {
        let (level, quarter) = rising(&sound[at..at + 2400], at, 0.0);
        assert!(level.hypot(quarter) > 0.2, "at {at}: {level} {quarter}");
    }
    for at in (300_000..540_000).step_by(2400) {
        let loudest = sound[at..at + 2400].iter().fold(0.0_f64, |loudest, sample| loudest.max(sample.abs()));
        assert!(loudest > 0.05, "silence at {at}");
    }
}

#[test]
fn subtitles_that_are_pictures_are_listed_with_the_reason() {
    let (films, work) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let text = written(work.path(), "text.srt", b"1\n00:00:01,000 --> 00:00:03,500\nHello\n");
    let file = films.path().join("Film.mkv").display().to_string();
    let mut arguments = vec!["-nostdin", "-y", "-f", "lavfi", "-i", "testsrc=s=320x180:r=25:d=4", "-i", &text];
    arguments.extend(X264);
    arguments.extend(["-c:s", "srt", "-metadata:s:s:0", "language=fre", &file]);
    tool("ffmpeg", &arguments);
    // Nothing here makes such pictures: the track is said to be one.
    let mut bytes = std::fs::read(&file).expect("the film");
    let at = bytes.windows(11).position(|found| found == b"S_TEXT/UTF8").expect("a track of SubRip");
    bytes[at..at + 11].copy_from_slice(b"S_HDMV/PGS\0");
    std::fs::write(&file, bytes).expect("the film");
    let edge = library(films.path()).run();
    wait_until_ready(&edge);
    let title = title(&edge, "Film");
    let reason = "it cannot be shown as text: hdmv_pgs_subtitle are pictures";
    let streams = edge.get(&format!("{title}/streams.json")).expect_status(200).json();
    let left_out = serde_json::json!([{"stream": 1, "kind": "text", "language": "fre", "reason": reason}]);
    assert_eq!((&streams["left_out"], &streams["text"]), (&left_out, &serde_json::json!([])));
    let details = edge.get(&format!("{title}/title.json?fresh")).expect_status(200).json();
    assert_eq!(details["left_out"][0]["reason"], reason, "{details}");
}
