//! The pages of a library, in headless Chromium through the edge: what `tests/browser/scenarios` does and sees is judged here. They need a
//! binary with the pages in it (`tests/run` builds them).

use crate::browser::{films, here};
use crate::support::{Edge, EdgeBuilder, Origin, Request};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// What shaka-player plays of a title.
const SHAKA_PLAYS: &[&str] = &["master.m3u8", "manifest.mpd"];

/// Two rungs, and one.
const LARGE: &str = "640x360";
const SMALL: &str = "320x180";

fn library(folder: &Path) -> EdgeBuilder {
    Edge::of(&Origin::start())
        .set("origins.main", json!({"kind": "library", "folders": [folder.display().to_string()]}))
}

/// Also waits for the sidecar.
#[track_caller]
fn streaming(folder: &Path) -> (Edge, String) {
    let edge = library(folder).run();
    edge.expect_metric("reelgate_transcoder_up", &[], 1.0);
    let page = edge.get("/").expect_status(200).text();
    assert!(
        page.contains("_page/"),
        "this binary has no pages: run npm ci && npm run build in src/page, and build again"
    );
    let titles = edge.get("/titles.json").expect_status(200).json();
    let id = titles["titles"][0]["id"].as_str().expect("an id").to_owned();
    (edge, id)
}

/// Has every segment of a title made, so that a slow machine makes no stalls: these tests are of the page, not of the encoder.
#[track_caller]
fn warm(edge: &Edge, id: &str) {
    let master = edge.get(&format!("/t/{id}/master.m3u8")).expect_status(200).text();
    let quoted = master.split("URI=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(uri, _)| uri);
    for playlist in quoted.chain(master.lines().filter(|line| !line.starts_with('#'))) {
        let (folder, _) = playlist.split_once('/').expect("a playlist in a folder");
        let list = edge.get(&format!("/t/{id}/{playlist}")).expect_status(200).text();
        for file in list.lines().filter(|line| !line.starts_with('#')) {
            edge.get(&format!("/t/{id}/{folder}/{file}")).expect_status(200);
        }
    }
}

#[track_caller]
fn run(scenario: &str, base: &str, rest: &[&str]) -> Value {
    let output = Command::new("node")
        .arg(here("page.mjs"))
        .args([scenario, base])
        .args(rest)
        .output()
        .expect("node runs (tests/run installs it)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scenario}: {said}");
    // A policy of the page that forbids what it does is heard of only there.
    assert!(!said.contains("Content Security Policy"), "{scenario}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{scenario}: {e}: {output:?}"))
}

/// Nothing waited, nothing was complained of, and what is held is one piece.
#[track_caller]
fn expect_smooth(seen: &Value) {
    assert_eq!((&seen["stalls"], &seen["words"]), (&json!([]), &json!([])), "{seen}");
    assert_eq!(seen["ranges"], 1, "one buffered range: {seen}");
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn the_page_runs_nothing_inline_and_its_files_are_kept_for_good() {
    let folder = films(&["A film"], 12, SMALL);
    let (edge, id) = streaming(folder.path());
    for (path, script) in [("/".to_owned(), "\"./_page/"), (format!("/watch/{id}"), "\"../_page/")] {
        let page = edge.get(&path).expect_status(200);
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(
            (page.header("x-content-type-options"), page.header("cache-control")),
            (Some("nosniff"), Some("no-cache"))
        );
        let text = page.text();
        assert!(!text.contains("<style") && !text.contains(" style="), "no inline style: {text}");
        assert!(text.split("<script").skip(1).all(|tag| tag.contains(" src=")), "no inline script: {text}");
        let etag = page.header("etag").expect("a validator");
        assert_eq!(edge.send(&Request::get(&path).header("If-None-Match", etag)).status, 304);
        let files: Vec<&str> =
            text.split(script).skip(1).filter_map(|rest| rest.split_once('"')).map(|(name, _)| name).collect();
        assert!(files.len() > 3, "{text}");
        for name in files {
            let file = edge.get(&format!("/_page/{name}")).expect_status(200);
            assert_eq!(file.header("cache-control"), Some("public, max-age=31536000, immutable"), "{name}");
            assert_eq!(file.header("x-content-type-options"), Some("nosniff"), "{name}");
            edge.get(&format!("/_page/{name}")).expect_hit();
        }
    }
    assert_eq!(edge.get("/sw.js").expect_status(200).header("cache-control"), Some("no-cache"));
    assert!(edge.get(&format!("/watch/{id}")).text().contains("<title>A film</title>"));
    let gone = edge.send(&Request::get("/watch/none").header("Accept", "text/html,*/*;q=0.8")).expect_status(404);
    assert!(gone.text().contains("<a href=\"../\">All titles</a>") && gone.header("cache-control") == Some("no-store"));
    assert_eq!((edge.get("/watch/none").status, edge.get("/_page/none.js").status), (404, 404));
}

#[test]
fn the_library_is_listed_and_searched_also_below_a_prefix() {
    let folder = films(&["Night train", "10 Rooms", "2 Cars <b>"], 12, SMALL);
    let edge = library(folder.path())
        .set("sites.0.paths", json!(["/house/"]))
        .set("sites.0.rewrites", json!([{"from": "^/house/", "to": "/"}]))
        .run();
    let seen = run("library", &format!("http://{}/house", edge.http()), &["rooms"]);
    assert_eq!(seen["all"], json!(["2 Cars <b>", "10 Rooms", "Night train"]), "{seen}");
    assert_eq!(seen["pictures"], json!(["2C", "10R", "NT"]), "drawn where there is no poster: {seen}");
    assert_eq!((&seen["found"], &seen["opened"]), (&json!(["10 Rooms"]), &json!("10 Rooms")), "{seen}");
    assert!(seen["address"].as_str().is_some_and(|address| address.ends_with("/house/?q=rooms")), "{seen}");
    assert!(seen["words"].as_str().is_some_and(|words| words.contains("No title")), "{seen}");
}

#[test]
fn a_title_plays_in_the_page_with_other_qualities_and_seeks() {
    let folder = films(&["A film"], 20, LARGE);
    let (edge, id) = streaming(folder.path());
    warm(&edge, &id);
    let seen = run("play", &format!("http://{}", edge.http()), &[&id]);
    expect_smooth(&seen);
    assert_eq!((&seen["ended"], &seen["seeks"], &seen["height"]), (&json!(true), &json!(2), &json!(360)), "{seen}");
    assert_eq!(seen["low"], 240, "{seen}");
    assert!((number(&seen["duration"]) - 20.0).abs() < 0.2, "{seen}");
    assert_eq!(seen["qualities"].as_array().map(Vec::len), Some(3), "auto and two rungs: {seen}");
    for fact in ["rung", "bandwidth", "buffer", "dropped", "cache", "protocol", "player"] {
        assert!(seen["facts"][fact].as_str().is_some_and(|value| !value.is_empty()), "{fact}: {seen}");
    }
}

#[test]
fn the_keys_do_what_the_help_says_and_a_title_goes_on_where_it_was_left() {
    let folder = films(&["A film"], 20, LARGE);
    let (edge, id) = streaming(folder.path());
    warm(&edge, &id);
    let seen = run("keys", &format!("http://{}", edge.http()), &[&id]);
    for fact in ["paused", "muted", "help", "helpGone"] {
        assert_eq!(seen[fact], true, "{fact}: {seen}");
    }
    assert!((number(&seen["arrow"]) - 5.0).abs() < 0.1 && (number(&seen["back"]) + 5.0).abs() < 0.1, "{seen}");
    assert!(number(&seen["resumed"]) >= number(&seen["left"]), "{seen}");
    assert_eq!(seen["begun"], json!(["A film"]), "{seen}");
}

#[test]
fn a_phone_gets_targets_for_fingers_within_its_screen() {
    let folder = films(&["A film with a name that is too long for one line of a phone", "Another"], 20, LARGE);
    let (edge, id) = streaming(folder.path());
    let seen = run("phone", &format!("http://{}", edge.http()), &[&id]);
    for view in ["library", "watch", "menu"] {
        assert_eq!(seen[view], json!({"wrong": [], "wide": 0}), "{view}: {seen}");
    }
    assert!((number(&seen["skipped"]) - 10.0).abs() < 0.5, "two taps on the right: {seen}");
}

#[test]
fn a_title_that_was_begun_plays_on_while_the_network_is_away() {
    let folder = films(&["A film"], 20, SMALL);
    let (edge, id) = streaming(folder.path());
    // Five of four seconds each, picture and sound; of one rung, so that it does not matter what a slow machine would choose.
    let seen = run("gap", &format!("http://{}", edge.http()), &[&id, "10"]);
    assert_eq!((&seen["away"], &seen["listed"]), (&json!(true), &json!(1)), "{seen}");
    for moment in ["middle", "again", "end"] {
        expect_smooth(&seen[moment]);
    }
    assert_eq!(seen["end"]["ended"], true, "{seen}");
}

#[test]
fn shaka_player_plays_a_title_through_the_edge() {
    let folder = films(&["A film"], 20, LARGE);
    let (edge, id) = streaming(folder.path());
    warm(&edge, &id);
    for source in SHAKA_PLAYS {
        let seen = run("shaka", &format!("http://{}", edge.http()), &[&format!("/t/{id}/{source}")]);
        expect_smooth(&seen);
        assert_eq!(
            (&seen["ended"], &seen["seeks"], &seen["errors"]),
            (&json!(true), &json!(2), &json!([])),
            "{source}: {seen}"
        );
        assert_eq!(seen["variants"], 2, "{source}: {seen}");
    }
}

/// A film that is a step lighter every ten seconds, and how light a share of it is, as a browser shows it.
#[track_caller]
fn staircase(folder: &Path) -> impl Fn(f64) -> f64 {
    let picture = "color=s=640x360:r=25:d=45,geq=lum='30+35*floor(T/10)':cb=128:cr=128,format=yuv420p";
    let path = folder.join("A film.mp4").display().to_string();
    let x264 = ["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-g", "50", "-crf", "10"];
    let colours = ["-colorspace", "bt709", "-color_trc", "bt709", "-color_primaries", "bt709"];
    crate::streams::tool(
        "ffmpeg",
        &[&["-nostdin", "-y", "-f", "lavfi", "-i", picture][..], &x264, &colours, &[&path]].concat(),
    );
    |second: f64| (30.0 + 35.0 * (second / 10.0).floor() - 16.0) * 255.0 / 219.0
}

#[test]
fn shaka_player_shows_the_thumbnails_of_a_title() {
    let folder = tempfile::tempdir().expect("a folder");
    let light = staircase(folder.path());
    let (edge, id) = streaming(folder.path());
    for source in SHAKA_PLAYS {
        let seen =
            run("thumbnails", &format!("http://{}", edge.http()), &[&format!("/t/{id}/{source}"), "5", "25", "42"]);
        assert_eq!(seen["tracks"][0]["mimeType"], "image/jpeg", "{source}: {seen}");
        let pictures = seen["pictures"].as_array().expect("pictures");
        for (picture, second) in pictures.iter().zip([0.0, 20.0, 40.0]) {
            let told = (&picture["width"], &picture["height"], &picture["whole"]);
            assert_eq!(told, (&json!(320), &json!(180), &json!([1600, 900])), "{source}: {seen}");
            assert!((number(&picture["light"]) - light(second)).abs() < 6.0, "{source} {second}: {seen}");
        }
        assert_eq!(pictures.len(), 3);
    }
}

#[test]
fn the_seek_bar_shows_pictures_of_the_sheets_and_cards_take_posters_of_their_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let light = staircase(folder.path());
    let (edge, id) = streaming(folder.path());
    let seen = run("hover", &format!("http://{}", edge.http()), &[&id]);
    let pictures = seen["pictures"].as_array().expect("pictures");
    for (picture, second) in pictures.iter().zip([20.0, 0.0, 40.0]) {
        assert_eq!((&picture["width"], &picture["height"]), (&json!(320), &json!(180)), "{seen}");
        assert!((number(&picture["light"]) - light(second)).abs() < 6.0, "{second}: {seen}");
    }
    let sheets = seen["sheets"].as_array().expect("sheets");
    assert_eq!(sheets.len(), 2, "the list and one sheet: {seen}");
    assert_eq!(sheets[1][1], "image/webp", "{seen}");
    assert!(seen["card"]["source"].as_str().is_some_and(|source| source.contains("poster.jpg?width=")), "{seen}");
    assert_eq!(seen["posters"][0][1], "image/avif", "{seen}");
}
