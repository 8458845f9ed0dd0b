//! A film's own packets as a rung: which films are fit for it, and that not a byte of them changes.

use super::world::{HEIGHT, Sidecar, WIDTH, expect_on_grid, numbered, numbers, tool};
use crate::support::{Edge, Origin, wait_for};
use reelgate::transcode::Error;
use serde_json::json;

const X264: [&str; 4] = ["-c:v", "libx264", "-preset", "ultrafast"];

fn film(sidecar: &Sidecar, name: &str, rate: &str, more: &[&str]) {
    sidecar.film(name, &[&["-f", "lavfi", "-i", &numbered(rate, "13")], &X264[..], more].concat());
}

/// Size and checksum of each packet.
#[track_caller]
fn packets(file: &str) -> Vec<String> {
    let list = tool("ffmpeg", &["-i", file, "-map", "0:v", "-c", "copy", "-f", "framemd5", "-"]);
    let list = String::from_utf8_lossy(&list).into_owned();
    let sums = list.lines().filter(|line| !line.starts_with('#'));
    sums.map(|line| line.rsplit(',').take(2).map(str::trim).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn packets_on_the_grid_are_used_as_they_are() {
    let sidecar = Sidecar::start();
    let closed = ["-g", "50", "-keyint_min", "50", "-sc_threshold", "0", "-bf", "3"];
    film(&sidecar, "plain.mp4", "25", &closed);
    film(&sidecar, "late.mkv", "25", &[&closed[..], &["-output_ts_offset", "7.77"]].concat());
    film(&sidecar, "ntsc.mkv", "30000/1001", &["-g", "60", "-keyint_min", "60", "-sc_threshold", "0", "-bf", "2"]);
    film(&sidecar, "baseline.mp4", "25", &["-profile:v", "baseline", "-g", "100", "-keyint_min", "100"]);
    // Further keyframes between those at the segments.
    film(&sidecar, "cuts.mp4", "25", &["-g", "100", "-force_key_frames", "expr:eq(mod(n,100),0)+eq(n,37)+eq(n,201)"]);
    for name in ["plain.mp4", "late.mkv", "ntsc.mkv", "baseline.mp4", "cuts.mp4"] {
        let copied = sidecar.copied(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let known = sidecar.known(name);
        let joined = expect_on_grid(&sidecar, name, &known, "source", &[3, 0, 2, 1]);
        let file = sidecar.written(&joined);
        let numbers = numbers(&file);
        assert!(numbers.iter().copied().eq(0..known.grid.frames), "{name}: {numbers:?}");
        assert_eq!(packets(&file), packets(&sidecar.path(name).display().to_string()), "{name}: its own packets");
        // The rates said hold for what is sent.
        let seconds = known.grid.time_of(known.grid.frames).as_f64();
        let rate = joined.len() as f64 * 8.0 / seconds;
        assert!((rate / f64::from(copied.bits_per_s) - 1.0).abs() < 0.05, "{name}: {rate} {copied:?}");
        let largest = (0..3).map(|n| sidecar.segment(name, &known, "source", n).expect("a segment").len()).max();
        let segment_s = known.grid.time_of(known.grid.segment_frames()).as_f64();
        assert!(
            largest.expect("some") as f64 * 8.0 / segment_s <= f64::from(copied.peak_bits_per_s),
            "{name}: {copied:?}"
        );
    }
}

#[test]
fn what_does_not_fit_is_not_offered_and_says_why() {
    let sidecar = Sidecar::start();
    film(&sidecar, "long.mp4", "25", &["-g", "250"]);
    film(&sidecar, "five seconds.mp4", "25", &["-g", "125", "-keyint_min", "125", "-sc_threshold", "0"]);
    film(
        &sidecar,
        "open.mp4",
        "25",
        &["-x264-params", "open-gop=1:keyint=50:min-keyint=50:bframes=3:b-adapt=0:scenecut=0"],
    );
    film(&sidecar, "wild.mp4", "25", &["-vf", "select='not(eq(mod(n\\,7)\\,3))'", "-vsync", "vfr", "-g", "1"]);
    film(&sidecar, "deep.mkv", "25", &["-pix_fmt", "yuv420p10le", "-g", "50"]);
    film(&sidecar, "fields.mp4", "25", &["-flags", "+ildct+ilme", "-x264-params", "tff=1", "-g", "50"]);
    film(&sidecar, "anamorphic.mp4", "25", &["-vf", "setsar=4/3", "-g", "50"]);
    // Cut in the middle of a group: an edit list hides what comes before.
    film(&sidecar, "whole.mp4", "25", &["-g", "100", "-keyint_min", "100", "-sc_threshold", "0"]);
    let whole = sidecar.path("whole.mp4").display().to_string();
    sidecar.film("cut.mp4", &["-ss", "1", "-i", &whole, "-c", "copy"]);
    // Two encoders, one after the other.
    for (name, more) in [("one.h264", "main"), ("other.h264", "high")] {
        film(
            &sidecar,
            name,
            "25",
            &["-profile:v", more, "-coder", "1", "-g", "100", "-keyint_min", "100", "-f", "h264"],
        );
    }
    let both = [std::fs::read(sidecar.path("one.h264")), std::fs::read(sidecar.path("other.h264"))];
    let both: Vec<u8> = both.into_iter().flat_map(|bytes| bytes.expect("a stream")).collect();
    std::fs::write(sidecar.path("both.h264"), both).expect("a stream");
    let both = sidecar.path("both.h264").display().to_string();
    sidecar.film("two heads.mkv", &["-r", "25", "-i", &both, "-c", "copy"]);
    let unplain = "not as browsers show them";
    for (name, why) in [
        ("long.mp4", "keyframes do not fall"),
        ("five seconds.mp4", "keyframes do not fall"),
        ("open.mp4", "keyframes do not fall"),
        ("wild.mp4", ""),
        ("deep.mkv", unplain),
        ("fields.mp4", unplain),
        ("anamorphic.mp4", unplain),
        ("cut.mp4", ""),
        ("two heads.mkv", ""),
    ] {
        let Err(Error::Unfit(reason)) = sidecar.copied(name) else { panic!("{name} fits") };
        assert!(reason.contains(why), "{name}: {reason}");
        // Its encoded rungs are there all the same.
        sidecar.segment(name, &sidecar.known(name), "240p", 0).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn a_fit_film_is_offered_in_its_playlist_with_its_own_rates() {
    let sidecar = Sidecar::start();
    let closed = ["-g", "50", "-keyint_min", "50", "-sc_threshold", "0", "-profile:v", "main", "-bf", "2"];
    film(&sidecar, "Fit.mp4", "25", &closed);
    let edge = Edge::of(&Origin::start())
        .set("origins.main", json!({"kind": "library", "folders": [sidecar.films.path().display().to_string()]}))
        .run();
    edge.expect_metric("reelgate_transcoder_up", &[], 1.0);
    let title = wait_for("the title is listed", || {
        let titles = edge.get("/titles.json").expect_status(200).json();
        let id = titles["titles"].as_array()?.first()?["id"].as_str()?.to_owned();
        Some(format!("/t/{id}"))
    });
    let copied = sidecar.copied("Fit.mp4").expect("fit");
    // It may take longer than a playlist waits; the next one that is not cached has it.
    let master = wait_for("the film's own packets are offered", || {
        let master = edge.get(&format!("{title}/master.m3u8?{}", fastrand::u32(..))).expect_status(200).text();
        master.contains("source/index.m3u8").then_some(master)
    });
    let line = master.lines().find(|line| line.contains("avc1.4D40")).expect("its codec");
    assert!(line.contains(&format!("BANDWIDTH={},", copied.peak_bits_per_s)), "{line} {copied:?}");
    assert!(line.contains(&format!("RESOLUTION={WIDTH}x{HEIGHT},FRAME-RATE=25.000")), "{line}");
    let playlist = edge.get(&format!("{title}/source/index.m3u8")).expect_status(200).text();
    let encoded = edge.get(&format!("{title}/240p/index.m3u8")).expect_status(200).text();
    assert_eq!(playlist, encoded, "all rungs have the same times");
    let names = playlist.lines().filter(|line| line.ends_with(".m4s"));
    let map = playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\"")).expect("a head");
    let get = |name: &str| edge.get(&format!("{title}/source/{name}")).expect_status(200).body;
    let joined = [get(map.trim_end_matches('"')), names.flat_map(get).collect()].concat();
    let file = sidecar.written(&joined);
    assert_eq!(packets(&file), packets(&sidecar.path("Fit.mp4").display().to_string()));
}
