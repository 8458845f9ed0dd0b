//! Adaptive streams of a library's films: segments asked for in any order meet exactly, what the sidecar does wrong harms
//! nothing, and what is cached plays without it. With the real ffmpeg, on films of a few seconds made here.

use crate::support::{Edge, EdgeBuilder, Origin, Request, Response, eventually, wait_for};
use reelgate::media::fragment::{Check, Piece, Splitter};
use reelgate::media::hls;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub mod codecs;
mod containers;
mod tracks;

pub fn library(folder: &Path) -> EdgeBuilder {
    Edge::of(&Origin::start())
        .set("origins.main", json!({"kind": "library", "folders": [folder.display().to_string()]}))
}

/// Runs ffmpeg or ffprobe; what it wrote.
#[track_caller]
pub fn tool(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output =
        Command::new(program).args(["-v", "error"]).args(arguments).output().expect("tests/run installs ffmpeg");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A film whose frame n is as bright as n says, so that a frame lost, doubled or moved at a boundary is seen.
#[track_caller]
pub fn film(path: &Path, rate: &str, seconds: &str, encoding: &[&str]) {
    let picture = format!(
        "color=s=320x180:r={rate}:d={seconds},geq=lum='{BLACK}+mod(N*{STEP}\\,{SPAN})':cb=128:cr=128,format=yuv420p"
    );
    let sound = format!("sine=f=440:r=44100:d={seconds}");
    let file = path.display().to_string();
    let mut arguments = vec!["-nostdin", "-y", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound];
    arguments.extend(["-threads", "1", "-c:v", "libx264", "-preset", "ultrafast", "-crf", "10"]);
    arguments.extend(["-c:a", "aac"]);
    arguments.extend(encoding);
    arguments.push(&file);
    tool("ffmpeg", &arguments);
}

const BLACK: u64 = 20;
const STEP: u64 = 9;
const SPAN: u64 = 198;

#[track_caller]
pub fn wait_until_ready(edge: &Edge) {
    edge.expect_metric("reelgate_transcoder_up", &[], 1.0);
}

#[track_caller]
pub fn title(edge: &Edge, name: &str) -> String {
    wait_for("the title is listed", || {
        let list = edge.get("/titles.json").expect_status(200).json();
        let titles = list["titles"].as_array()?.clone();
        let found = titles.iter().find(|title| title["name"] == name)?;
        Some(format!("/t/{}", found["id"].as_str()?))
    })
}

/// Where the segments of a rendition lie, and how many there are.
#[track_caller]
pub fn rendition(edge: &Edge, title: &str, name: &str) -> (String, usize, String) {
    let playlist = edge.get(&format!("{title}/{name}/index.m3u8")).expect_status(200).text();
    let map = playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\"")).expect("an init");
    let folder = map.strip_suffix("/init.mp4\"").expect("in a folder of the version");
    let segments = playlist.lines().filter(|line| line.ends_with(".m4s")).count();
    (format!("{title}/{name}/{folder}"), segments, playlist)
}

#[track_caller]
fn expect_reason(response: &Response, status: u16, hidden: &Path) {
    assert_eq!(response.status, status, "{}", response.text());
    let text = response.text();
    let own = hidden.file_name().expect("a folder").to_string_lossy().into_owned();
    assert!(!text.contains(&own) && !text.contains("/proc") && !text.contains(".mp4"), "a path leaks: {text}");
    assert_eq!(response.header("cache-control"), Some("no-store"));
}

/// Asks for all segments out of order, checks each, and joins them in order.
#[track_caller]
fn joined(edge: &Edge, title: &str, name: &str, frames_of: impl Fn(usize) -> (u64, u64), ticks: u32) -> Vec<u8> {
    let (folder, segments, _) = rendition(edge, title, name);
    let mut parts = vec![Vec::new(); segments];
    let order: Vec<usize> = (0..segments).rev().step_by(2).chain((0..segments).rev().skip(1).step_by(2)).collect();
    for segment in order {
        let answer = edge.get(&format!("{folder}/{segment}.m4s")).expect_status(200);
        assert!(answer.complete, "segment {segment}");
        parts[segment] = answer.body;
    }
    let init = edge.get(&format!("{folder}/init.mp4")).expect_status(200).body;
    for (segment, bytes) in parts.iter().enumerate() {
        let (first, count) = frames_of(segment);
        let mut splitter = Splitter::new(usize::MAX);
        let mut check = Check::new(&(first..first + count), ticks);
        let pieces = splitter.push(&[&init[..], bytes].concat()).expect("fragmented MP4");
        for piece in pieces {
            if let Piece::Fragment(fragment) = piece {
                check.fragment(&fragment).unwrap_or_else(|wrong| panic!("{name} {segment}: {wrong}"));
            }
        }
        splitter.finish().expect("whole boxes");
        check.finish().unwrap_or_else(|wrong| panic!("{name} {segment}: {wrong}"));
    }
    [init, parts.concat()].concat()
}

/// Writes bytes for ffmpeg to read.
fn written(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a file");
    path.display().to_string()
}

/// Each frame is the one the source has there.
#[track_caller]
fn expect_every_frame(file: &str, frames: u64) {
    let shown = tool("ffmpeg", &["-i", file, "-vf", "scale=2:2:flags=area,format=yuv420p", "-f", "rawvideo", "-"]);
    // Four bytes of light and two of colour.
    let shown: Vec<u8> = shown.chunks_exact(6).map(|frame| frame[0]).collect();
    assert_eq!(shown.len() as u64, frames, "frames of {file}");
    for (frame, shown) in shown.iter().enumerate() {
        let expected = BLACK + frame as u64 * STEP % SPAN;
        // A frame off would be nine.
        assert!(u64::from(*shown).abs_diff(expected) <= 4, "frame {frame} is as bright as {shown}, not {expected}");
    }
}

#[test]
fn segments_made_in_any_order_meet_without_a_gap() {
    let (films, work) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let in_films = |name: &str| films.path().join(name);
    film(&in_films("Long groups.mp4"), "25", "9.2", &["-g", "250"]);
    let open = ["-bf", "3", "-x264-params", "open-gop=1:keyint=75:bframes=3:b-adapt=0", "-output_ts_offset", "0.023"];
    film(&in_films("Open groups.mkv"), "30000/1001", "9", &open);
    film(&in_films("Wild.mp4"), "30", "9", &["-vf", "select='not(eq(mod(n\\,4)\\,1))'", "-vsync", "vfr"]);
    film(&in_films("Silent.mkv"), "25", "5", &["-an", "-output_ts_offset", "100"]);
    let edge = library(films.path()).run();
    wait_until_ready(&edge);

    for (name, segment_frames, frames, ticks, sound) in [
        ("Long groups", 100, 230, 400, true),
        ("Open groups", 120, 270, 1001, true),
        ("Wild", 96, 215, 1001, true),
        ("Silent", 100, 125, 400, false),
    ] {
        let title = title(&edge, name);
        let master = edge.get(&format!("{title}/master.m3u8")).expect_status(200);
        assert_eq!(master.header("content-type"), Some("application/vnd.apple.mpegurl"));
        assert_eq!(master.header("cache-tag"), None, "for the edge alone");
        assert_eq!(master.text().contains("TYPE=AUDIO"), sound, "{}", master.text());
        let (_, segments, playlist) = rendition(&edge, &title, "240p");
        assert_eq!(segments as u64, u64::div_ceil(frames, segment_frames), "{name}: {playlist}");

        let part = |segment: usize| {
            let first = segment as u64 * segment_frames;
            (first, segment_frames.min(frames - first))
        };
        let video = joined(&edge, &title, "240p", part, ticks);
        let file = written(work.path(), "video.mp4", &video);
        if name == "Wild" {
            let counted =
                tool("ffprobe", &["-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", &file]);
            assert_eq!(String::from_utf8_lossy(&counted).trim(), frames.to_string());
        } else {
            expect_every_frame(&file, frames);
        }
        if sound {
            let rate = frames as f64 / hls::duration_s(&playlist).expect("a whole playlist");
            let first = |frame: u64| (frame as f64 / rate * 48_000.0 / 1024.0 - 1e-6).ceil() as u64;
            let part = |segment: usize| {
                let (start, count) = part(segment);
                (first(start), first(start + count) - first(start))
            };
            let audio = joined(&edge, &title, "audio-1", part, 1024);
            let file = written(work.path(), "audio.mp4", &audio);
            expect_a_pure_tone(&file);
        }
    }
}

/// The decoded tone is a 440 Hz sine over every boundary: a click or a gap would break the recurrence of a sine.
#[track_caller]
fn expect_a_pure_tone(file: &str) {
    let samples = tool("ffmpeg", &["-i", file, "-ac", "1", "-f", "f32le", "-"]);
    let samples: Vec<f64> =
        samples.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four")).into()).collect();
    let twice_cosine = 2.0 * (2.0 * std::f64::consts::PI * 440.0 / 48_000.0).cos();
    // The first and the last half second are the encoder's and the film's own ends.
    let inner = &samples[24_000..samples.len() - 48_000];
    let worst = inner.windows(3).map(|s| (s[2] - twice_cosine * s[1] + s[0]).abs()).fold(0.0, f64::max);
    let loudest = inner.iter().fold(0.0_f64, |loudest, sample| loudest.max(sample.abs()));
    assert!(loudest > 0.05, "silence");
    assert!(worst < loudest * 0.02, "a click: {worst} of {loudest}");
}

#[test]
fn segments_are_ordinary_cacheable_answers_and_always_the_same_bytes() {
    let films = tempfile::tempdir().expect("a folder");
    film(&films.path().join("Film.mp4"), "25", "5", &[]);
    let edge = library(films.path()).run();
    wait_until_ready(&edge);
    let title = title(&edge, "Film");
    let (folder, segments, _) = rendition(&edge, &title, "240p");
    assert_eq!(segments, 2);
    let path = format!("{folder}/0.m4s");
    let first = edge.get(&path).expect_status(200).expect_miss();
    assert_eq!(first.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(first.header("content-type"), Some("video/mp4"));
    let etag = first.header("etag").expect("a validator").to_owned();
    assert!(etag.starts_with('"'), "a strong one: {etag}");
    assert_eq!(edge.get(&path).expect_hit().body, first.body);
    let part = edge.send(&Request::get(&path).header("Range", "bytes=100-199").header("If-Range", &etag));
    assert_eq!((part.status, part.body.as_slice()), (206, &first.body[100..200]));

    // By its tag; then it is made anew.
    let id = title.trim_start_matches("/t/");
    let purge = Request::new("POST", "/api/v1/purge").header("Content-Type", "application/json");
    purge.body(json!({"tag": format!("title-{id}")}).to_string()).send(edge.admin()).expect_status(200);
    let again = edge.get(&path).expect_status(200).expect_miss();
    assert_eq!((again.header("etag"), again.body == first.body), (Some(etag.as_str()), true));

    for missing in ["2.m4s", "00.m4s", "x.m4s", "init.m4s"] {
        edge.get(&format!("{folder}/{missing}")).expect_status(404);
    }
    for missing in ["240p/0123456789abcdef/0.m4s", "360p/index.m3u8", "audio-7/index.m3u8"] {
        edge.get(&format!("{title}/{missing}")).expect_status(404);
    }
    let made = |kind| edge.metrics().value("reelgate_transcode_answers_total", &[("kind", kind), ("outcome", "made")]);
    assert_eq!((made("probe"), made("video")), (1.0, 2.0));
}

#[test]
fn hostile_files_are_listed_and_harmless() {
    let films = tempfile::tempdir().expect("a folder");
    let put = |name: &str, bytes: &[u8]| std::fs::write(films.path().join(name), bytes).expect("a file");
    film(&films.path().join("Good.mp4"), "25", "2", &["-movflags", "+faststart"]);
    let whole = std::fs::read(films.path().join("Good.mp4")).expect("a film");
    let secret = written(films.path(), "secret.txt", b"a secret");
    put("Playlist.mp4", format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n").as_bytes());
    put("Concat.mkv", format!("ffconcat version 1.0\nfile {secret}\n").as_bytes());
    // What looks like another container, or says so in its name, is read as that or not at all.
    put("List.ts", format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n").as_bytes());
    for (name, begins) in [
        ("Riff.avi", &b"RIFF\x10\0\0\0AVI LIST"[..]),
        ("Pack.mpg", b"\0\0\x01\xba\x44"),
        ("Page.ogv", b"OggS\0\x02"),
        ("Tag.flv", b"FLV\x01\x05\0\0\0\x09"),
        ("Header.wmv", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c"),
    ] {
        let list = format!("#EXTM3U\n#EXTINF:9,\n{secret}\n").repeat(2000);
        put(name, &[begins, list.as_bytes()].concat());
    }
    put("Text.mp4", b"only text");
    put("Empty.mp4", b"");
    put("Head.mp4", &whole[..200]);
    let edge = library(films.path()).run();
    wait_until_ready(&edge);
    for name in ["Playlist", "Concat", "List", "Riff", "Pack", "Page", "Tag", "Header", "Text", "Empty", "Head"] {
        let title = title(&edge, name);
        expect_reason(&edge.get(&format!("{title}/master.m3u8")), 404, films.path());
        edge.get(&format!("{title}/file")).expect_status(200);
    }
    // Its tables are there, its pictures are not: listed as it says, and a segment is an error or what could be decoded.
    put("Good.mp4", &whole[..whole.len() / 2]);
    let good = title(&edge, "Good");
    eventually("the cut film is known", || {
        let master = edge.get(&format!("{good}/master.m3u8"));
        master.status == 200 || master.status == 404
    });
    assert!(
        edge.get("/titles.json").status == 200 && edge.metrics().value("reelgate_transcoder_starts_total", &[]) < 2.0
    );
}

/// Processes that this one started.
pub fn children(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

pub fn kill(pid: &str) {
    assert!(Command::new("kill").args(["-9", pid]).status().is_ok_and(|status| status.success()), "kill -9 {pid}");
}

#[test]
fn what_is_cached_plays_on_while_the_sidecar_is_dead_and_it_comes_back() {
    let films = tempfile::tempdir().expect("a folder");
    film(&films.path().join("Film.mp4"), "25", "9", &[]);
    let edge = library(films.path()).run();
    wait_until_ready(&edge);
    let (folder, ..) = rendition(&edge, &title(&edge, "Film"), "240p");
    edge.get(&format!("{folder}/0.m4s")).expect_status(200);
    let sidecars = children(edge.pid());
    assert_eq!(sidecars.len(), 1, "one sidecar");
    kill(&sidecars[0]);
    let away =
        wait_for("an answer without it", || Some(edge.get(&format!("{folder}/1.m4s"))).filter(|r| r.status == 503));
    assert!(away.header("retry-after").is_some());
    expect_reason(&away, 503, films.path());
    edge.get(&format!("{folder}/0.m4s")).expect_status(200).expect_hit();
    eventually("it is back", || edge.get(&format!("{folder}/1.m4s")).status == 200);
    edge.expect_metric("reelgate_transcoder_starts_total", &[], 2.0);

    // The edge is killed without a chance to say so: the sidecar sees it.
    let sidecars = children(edge.pid());
    edge.signal("KILL");
    let state = |pid: &String| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    eventually("no sidecar is left", || {
        sidecars.iter().all(|pid| state(pid).is_empty() || state(pid).contains(") Z "))
    });
}

pub fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it can be run");
    path
}

#[test]
fn a_sidecar_that_hangs_lies_or_exits_is_replaced_and_harms_nobody() {
    let (films, scripts) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    std::fs::write(films.path().join("Film.mp4"), "a film").expect("a film");
    let server = |what: &str| {
        format!(
            "#!/usr/bin/env node\nrequire('net').createServer((s) => {{ s.on('error', () => {{}}); {what} }}).listen(process.argv[3]);\n"
        )
    };
    for (name, text) in [
        ("garbage", server("s.end('no HTTP at all\\r\\n\\r\\n');")),
        ("hang", server("s.resume();")),
        ("exit", "#!/bin/sh\nexit 1\n".to_owned()),
    ] {
        let program = script(scripts.path(), name, &text);
        let edge = library(films.path()).set("transcode.program", program.display().to_string()).run();
        let title = title(&edge, "Film");
        let master = || edge.get(&format!("{title}/master.m3u8"));
        if name != "hang" {
            // It does not answer at all: the first request would wait for its whole deadline.
            let away = master();
            expect_reason(&away, 503, films.path());
            assert!(away.header("retry-after").is_some());
        }
        edge.expect_metric_at_least("reelgate_transcoder_starts_total", &[], 2.0);
        assert_eq!(edge.metrics().value("reelgate_transcoder_up", &[]), 0.0, "{name}");
        edge.get(&format!("{title}/file")).expect_status(200);
    }
}

#[test]
fn what_a_broken_encoder_writes_is_never_published() {
    let (films, tools) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    film(&films.path().join("Film.mp4"), "25", "5", &[]);
    let path = std::env::var("PATH").expect("a PATH");
    let ffmpeg = |what: &str| {
        // It says what it is and has, and then does something else.
        let says = "[ \"$1\" = -version ] && exec echo broken\n[ \"$1\" = -encoders ] && exec echo ' V....D libx264 x'";
        script(tools.path(), "ffmpeg", &format!("#!/bin/sh\n{says}\n{what}\n"));
    };
    ffmpeg("exec cat /dev/zero");
    let path = format!("{}:{path}", tools.path().display());
    let edge = library(films.path()).environment("PATH", &path).run();
    wait_until_ready(&edge);
    let title = title(&edge, "Film");
    let ((folder, ..), (audio, ..)) = (rendition(&edge, &title, "240p"), rendition(&edge, &title, "audio-1"));
    // Another encoder would write a segment of other frames, nothing, a message, half a box …
    for what in
        ["exec cat /dev/zero", "exit 0", "echo 'no such device /a/path' >&2; exit 1", "printf '\\0\\0\\0\\030ftyp'"]
    {
        ffmpeg(what);
        expect_reason(&edge.get(&format!("{folder}/0.m4s")), 500, films.path());
        expect_reason(&edge.get(&format!("{folder}/init.mp4")), 500, films.path());
        edge.get(&format!("{audio}/0.m4s")).expect_status(500);
    }
}
