//! A real player: hls.js in headless Chromium plays the sample ladder through the edge, seeks, and ends without a stall. The
//! page lies on another port than the film, as players do, so CORS is part of it.

use crate::streams::{library, rendition, title, wait_until_ready};
use crate::support::{Edge, Nginx, Origin, Reply, wait_for};
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
fn play(source: &str) -> Value {
    let result = played(source);
    assert_eq!((&result["fatal"], &result["stalls"]), (&json!([]), &json!([])), "{result}");
    assert!(result["frames"].as_u64().is_some_and(|n| n > 100), "{result}");
    result
}

/// Plays a source to its end, with two seeks; what the player says of it.
#[track_caller]
pub fn played(source: &str) -> Value {
    let (result, said) = played_by("player.js", source);
    assert_eq!(result["ended"], true, "{result}\n{said}");
    assert_eq!(result["seeks"], 2, "{result}");
    result
}

/// What `player` (a script of tests/browser) made of a source, and what was said meanwhile.
#[track_caller]
fn played_by(player: &str, source: &str) -> (Value, String) {
    let library = here("node_modules/hls.js/dist/hls.min.js");
    let library = std::fs::read(library).expect("hls.js is installed (tests/run does it: npm ci in tests/browser)");
    let script = std::fs::read(here(player)).expect("the player is part of the tests");
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
    let result = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    (result, said.into_owned())
}

/// Plays a film offered in these codecs too; which ones were played.
fn played_in(codecs: &[&str]) -> Vec<String> {
    let films = films(&["Film"], 12, "320x180");
    let edge = Edge::of(&Origin::start())
        .set("origins.main", json!({"kind": "library", "folders": [films.path().display().to_string()]}))
        .set("transcode.codecs", json!(codecs))
        .set("sites.0.cors", json!({"origins": ["*"]}))
        .run();
    edge.expect_metric("reelgate_transcoder_up", &[], 1.0);
    let titles = edge.get("/titles.json").expect_status(200).json();
    let id = titles["titles"][0]["id"].as_str().expect("an id").to_owned();
    let master = edge.get(&format!("/t/{id}/master.m3u8")).expect_status(200).text();
    // Made before: a slow machine makes no stalls then.
    for playlist in master.lines().filter(|line| !line.starts_with('#')) {
        let (folder, _) = playlist.split_once('/').expect("a playlist in a folder");
        let list = edge.get(&format!("/t/{id}/{playlist}")).expect_status(200).text();
        for file in list.lines().filter(|line| !line.starts_with('#')) {
            edge.get(&format!("/t/{id}/{folder}/{file}")).expect_status(200);
        }
    }
    let result = play(&format!("http://{}/t/{id}/master.m3u8", edge.http()));
    let errors = result["errors"].as_array().expect("a list");
    assert!(!errors.iter().any(|error| error.as_str().is_some_and(|error| error.contains("mediaError"))), "{result}");
    let codecs = result["codecs"].as_array().expect("a list").iter().filter_map(Value::as_str);
    codecs.map(|codec| codec.split('.').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_browser_that_decodes_av1_plays_it_beside_hevc_and_h264() {
    let played = played_in(&["hevc", "av1"]);
    assert!(!played.is_empty() && played.iter().all(|codec| codec == "av01"), "{played:?}");
}

#[test]
fn a_browser_without_hevc_plays_h264_where_both_are_offered() {
    let played = played_in(&["hevc"]);
    assert!(!played.is_empty() && played.iter().all(|codec| codec == "avc1" || codec == "hvc1"), "{played:?}");
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

#[test]
fn a_player_goes_from_a_films_own_packets_to_encoded_ones_and_back_without_a_stall() {
    let films = tempfile::tempdir().expect("a folder");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=24", "-f", "lavfi"])
        .args(["-i", "sine=f=440:r=48000:d=24", "-threads", "1", "-c:v", "libx264", "-preset", "veryfast", "-bf", "2"])
        // Keyframes on the grid.
        .args(["-g", "50", "-keyint_min", "50", "-sc_threshold", "0", "-c:a", "aac"])
        .arg(films.path().join("Film.mp4"))
        .status();
    assert!(made.is_ok_and(|status| status.success()), "ffmpeg (tests/run installs it)");
    let edge = library(films.path()).set("sites.0.cors", json!({"origins": ["*"]})).run();
    wait_until_ready(&edge);
    let title = title(&edge, "Film");
    // Each time another object of the cache.
    let mut time = 0;
    let (path, master) = wait_for("its own packets are offered", || {
        time += 1;
        let path = format!("{title}/master.m3u8?{time}");
        let master = edge.get(&path).expect_status(200).text();
        master.contains("source/index.m3u8").then_some((path, master))
    });
    // So that a slow machine makes no stalls.
    for name in ["240p", "source", "audio-1"] {
        assert!(master.contains(&format!("{name}/index.m3u8")), "{master}");
        let (folder, segments, _) = rendition(&edge, &title, name);
        (0..segments).for_each(|segment| drop(edge.get(&format!("{folder}/{segment}.m4s")).expect_status(200)));
    }
    let (result, said) = played_by("levels.js", &format!("http://{}{path}", edge.http()));
    assert_eq!((&result["ended"], &result["corrupted"]), (&json!(true), &json!(0)), "{result}");
    assert_eq!((&result["errors"], &result["stalls"]), (&json!([]), &json!([])), "{result}\n{said}");
    assert_eq!(result["ranges"], json!({"audio": 1, "video": 1}), "{result}");
    let shown: Vec<&str> = result["shown"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let changes = shown.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes >= 3 && shown.contains(&"source") && shown.contains(&"240p"), "{result}");
}
