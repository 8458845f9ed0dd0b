//! A real player: hls.js in headless Chromium plays the sample ladder through the edge, seeks, and ends without a stall. The
//! page lies on another port than the film, as players do, so CORS is part of it.

use crate::support::{Edge, Nginx, Origin, Reply};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>Player</title>
<video id="video" muted width="640" height="360"></video>
<script src="/hls.js"></script><script src="/player.js"></script>"#;

/// A file of tests/browser.
pub fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(path)
}

/// Twelve seconds, made once for all tests of a build.
fn sample() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sample");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/sample");
    let made = Command::new(script).arg(&folder).arg("12").output().expect("deploy/sample runs");
    assert!(made.status.success(), "deploy/sample: {}", String::from_utf8_lossy(&made.stderr));
    folder
}

/// A folder of films of these names, the same picture and tone in each; long groups of pictures, 30000/1001 a second. The film is made once
/// for all tests of a build.
pub fn films(names: &[&str], seconds: u32, size: &str) -> tempfile::TempDir {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("film-{size}-{seconds}.mp4"));
    if !made.exists() {
        // Under a name of its own until it is whole: other tests may be making it too.
        let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
        let film = work.path().join("film.mp4");
        let done = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i"])
            .arg(format!("testsrc2=s={size}:r=30000/1001:d={seconds}"))
            .args(["-f", "lavfi", "-i", &format!("sine=f=440:r=44100:d={seconds}")])
            .args(["-threads", "1", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "250", "-c:a", "aac"])
            .arg(&film)
            .status();
        assert!(done.is_ok_and(|status| status.success()), "ffmpeg (tests/run installs it)");
        std::fs::rename(&film, &made).expect("the film gets its name");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in names {
        std::fs::copy(&made, folder.path().join(format!("{name}.mp4"))).expect("a film");
    }
    folder
}

#[track_caller]
fn play(source: &str) {
    let result = played(source);
    assert_eq!((&result["fatal"], &result["stalls"]), (&json!([]), &json!([])), "{result}");
    assert!(result["frames"].as_u64().is_some_and(|n| n > 100), "{result}");
}

/// Plays a source to its end, with two seeks; what the player says of it.
#[track_caller]
pub fn played(source: &str) -> Value {
    let library = here("node_modules/hls.js/dist/hls.min.js");
    let library = std::fs::read(library).expect("hls.js is installed (tests/run does it: npm ci in tests/browser)");
    let script = std::fs::read(here("player.js")).expect("player.js is part of the tests");
    let page = Origin::start()
        .route("/", Reply::ok(PAGE).header("Content-Type", "text/html"))
        .route("/hls.js", Reply::ok(library).header("Content-Type", "text/javascript"))
        .route("/player.js", Reply::ok(script).header("Content-Type", "text/javascript"));
    let output = Command::new("node")
        .arg(here("play.mjs"))
        .args([page.url(), source.to_owned()])
        .output()
        .expect("node runs (tests/run installs it)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "play.mjs: {said}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!(result["ended"], true, "{result}\n{said}");
    assert_eq!(result["seeks"], 2, "{result}");
    result
}

#[test]
fn a_ladder_of_nginx_plays_through_the_edge() {
    let sample = sample();
    let nginx = Nginx::with(&format!(
        "location /films/ {{ alias '{}/'; add_header Cache-Control 'public, max-age=60'; }}",
        sample.display()
    ));
    let edge = Edge::of_url(&nginx.url()).set("sites.0.cors", json!({"origins": ["*"]})).run();
    let source = format!("http://{}/films/Sample%20ladder/master.m3u8", edge.http());
    play(&source);
    play(&source);
    assert!(
        edge.metrics().value("reelgate_requests_total", &[("cache", "hit")]) > 0.0,
        "the second time from the cache"
    );
}

#[test]
fn a_ladder_of_a_library_plays_through_the_edge() {
    let folders = json!([sample().display().to_string()]);
    let edge = Edge::of(&Origin::start())
        .set("origins.main", json!({"kind": "library", "folders": folders}))
        .set("sites.0.cors", json!({"origins": ["*"]}))
        .run();
    let titles = edge.get("/titles.json").expect_status(200).json();
    let titles = titles["titles"].as_array().expect("titles").clone();
    let ladder = titles.iter().find(|t| t["name"].as_str().is_some_and(|n| n.contains("ladder"))).expect("the ladder");
    let id = ladder["id"].as_str().expect("an id");
    play(&format!("http://{}/t/{id}/master.m3u8", edge.http()));
}

#[test]
fn a_film_made_into_streams_on_demand_plays_through_the_edge() {
    let films = films(&["Film"], 12, "640x360");
    let edge = Edge::of(&Origin::start())
        .set("origins.main", json!({"kind": "library", "folders": [films.path().display().to_string()]}))
        .set("sites.0.cors", json!({"origins": ["*"]}))
        .run();
    edge.expect_metric("reelgate_transcoder_up", &[], 1.0);
    let titles = edge.get("/titles.json").expect_status(200).json();
    let id = titles["titles"][0]["id"].as_str().expect("an id").to_owned();
    play(&format!("http://{}/t/{id}/master.m3u8", edge.http()));
}
