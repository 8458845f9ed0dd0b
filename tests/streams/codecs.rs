//! HEVC and AV1 beside H.264: the same grid, heads that say what the playlist said; and titles whose bit rates are found out by trials, by the
//! real ffmpeg.

use super::{film, library, rendition, title, wait_until_ready};
use crate::support::{Edge, Request, patience, wait_for_long};
use reelgate::media::codec::Codec;
use reelgate::media::fragment::{Check, Piece, Splitter, coded, read};
use serde_json::{Value, json};

/// Frames of the test's films, and of their segments.
const FRAMES: u64 = 230;
const SEGMENT: u64 = 100;

/// What the multivariant playlist says of each rendition: its name and its codec.
fn variants(edge: &Edge, title: &str) -> Vec<(String, String)> {
    let master = edge.get(&format!("{title}/master.m3u8")).expect_status(200).text();
    let lines: Vec<&str> = master.lines().collect();
    let variants = lines.windows(2).filter_map(|pair| {
        let codecs = pair[0].strip_prefix("#EXT-X-STREAM-INF:")?.split_once("CODECS=\"")?.1;
        let codec = codecs.split([',', '"']).next()?;
        Some((pair[1].trim_end_matches("/index.m3u8").to_owned(), codec.to_owned()))
    });
    variants.collect()
}

/// All segments of a rendition, each checked against the grid.
#[track_caller]
fn expect_on_grid(edge: &Edge, title: &str, name: &str, codec: &str) {
    let (folder, segments, _) = rendition(edge, title, name);
    assert_eq!(segments as u64, FRAMES.div_ceil(SEGMENT));
    let init = edge.get(&format!("{folder}/init.mp4")).expect_status(200).body;
    let said = coded(&init).unwrap_or_else(|| panic!("{name}: a head"));
    // Its level may be lower than what was promised, but not its kind.
    assert_eq!(said.codecs()[..6], codec[..6], "{name}");
    for segment in (0..segments as u64).rev() {
        let frames = segment * SEGMENT..(segment * SEGMENT + SEGMENT).min(FRAMES);
        let answer = edge.get(&format!("{folder}/{segment}.m4s")).expect_status(200);
        assert!(answer.complete, "{name} {segment}");
        let mut splitter = Splitter::new(usize::MAX);
        let mut check = None;
        for piece in splitter.push(&[&init[..], &answer.body].concat()).expect("fragmented MP4") {
            let Piece::Fragment(fragment) = piece else { continue };
            let run = read(&fragment).expect("one run");
            if check.is_none() && said.codec == Codec::Hevc {
                // In the stream too (ITU-T H.265 table 7-1: VPS is 32), for a decoder that comes from another encoder's segment.
                assert_eq!(run.data.get(4).map(|byte| byte >> 1 & 63), Some(32), "{name} {segment}");
            }
            let check = check.get_or_insert_with(|| Check::new(&frames, run.samples[0].ticks));
            check.fragment(&fragment).unwrap_or_else(|wrong| panic!("{name} {segment}: {wrong}"));
        }
        let check = check.expect("a fragment");
        check.finish().unwrap_or_else(|wrong| panic!("{name} {segment}: {wrong}"));
    }
}

#[test]
fn hevc_and_av1_lie_on_the_grid_of_h264() {
    let films = tempfile::tempdir().expect("a folder");
    film(&films.path().join("Film.mp4"), "25", "9.2", &["-g", "60"]);
    let edge = library(films.path()).set("transcode.codecs", json!(["hevc", "av1"])).run();
    wait_until_ready(&edge);
    let title = title(&edge, "Film");
    let variants = variants(&edge, &title);
    let names: Vec<&str> = variants.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["240p", "240p-hevc", "240p-av1"]);
    for (name, codec) in &variants {
        expect_on_grid(&edge, &title, name, codec);
    }
}

/// A change of the admin API.
#[track_caller]
fn optimise(edge: &Edge, body: &Value) -> (u16, Value) {
    let request =
        Request::new("POST", "/api/v1/optimise").header("Content-Type", "application/json").body(body.to_string());
    let response = request.send(edge.admin());
    (response.status, response.json())
}

/// The title that is being optimised, once it is: trials take long on a slow machine.
#[track_caller]
pub fn optimised(edge: &Edge) -> Value {
    wait_for_long("it is optimised", patience() * 6, || {
        let now = edge.admin_get("/api/v1/optimise").expect_status(200).json()["titles"][0].clone();
        assert_ne!(now["state"], "failed", "{now}");
        (now["state"] == "done").then_some(now)
    })
}

#[test]
fn an_optimised_title_has_other_rates_also_after_a_restart_and_who_plays_goes_on() {
    let (films, kept) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    // Its own packets are none that browsers play: they are not offered, however long it takes to find out.
    film(&films.path().join("Film.mp4"), "25", "4", &["-g", "60", "-vf", "noise=alls=6:allf=t", "-pix_fmt", "yuv422p"]);
    let started = || {
        let edge = library(films.path()).set("origins.main.index", json!(kept.path().display().to_string())).run();
        wait_until_ready(&edge);
        let title = title(&edge, "Film");
        (edge, title)
    };
    let (edge, title) = started();
    let before = edge.get(&format!("{title}/master.m3u8")).expect_status(200).text();
    let (folder, ..) = rendition(&edge, &title, "240p");
    assert_eq!(optimise(&edge, &json!({"title": "Nothing"})).0, 404);
    assert_eq!(optimise(&edge, &json!({"name": "Film"})).0, 400);
    let (status, begun) = optimise(&edge, &json!({"title": "Film"}));
    assert_eq!((status, &begun["name"]), (200, &json!("Film")), "{begun}");
    let told = optimised(&edge);
    assert_eq!(told["done"], told["rungs"], "{told}");
    assert!(told["saved_percent"].as_f64().is_some_and(|saved| saved > 0.0), "{told}");
    edge.expect_metric("reelgate_transcode_optimised_titles", &[("origin", "main")], 1.0);
    // The edge may still have the playlist of before: ask past it.
    let after = edge.get(&format!("{title}/master.m3u8?fresh")).expect_status(200).text();
    assert_ne!(before, after);
    let streams = edge.get(&format!("{title}/streams.json")).expect_status(200).json();
    assert_eq!(streams["optimised"]["saved_percent"], told["saved_percent"], "{streams}");
    edge.get(&format!("{folder}/0.m4s")).expect_status(200);
    let fresh = edge.get(&format!("{title}/240p/index.m3u8?fresh")).expect_status(200).text();
    let version = fresh.lines().find_map(|line| line.strip_suffix("/0.m4s")).expect("a segment").to_owned();
    assert!(!folder.ends_with(&version), "another version");
    let made = edge.get(&format!("{title}/240p/{version}/0.m4s")).expect_status(200).body;
    drop(edge);
    let (edge, title) = started();
    assert_eq!(edge.get(&format!("{title}/master.m3u8")).expect_status(200).text(), after, "also after a restart");
    edge.expect_metric("reelgate_transcode_optimised_titles", &[("origin", "main")], 1.0);
    let again = edge.get(&format!("{title}/240p/{version}/0.m4s")).expect_status(200).body;
    assert!(made == again, "the same bytes");
}
