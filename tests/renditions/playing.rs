//! A real player goes to an added rung and back, seeks, and plays to the end.

use super::{adding, muxed, ready, separate};
use crate::browser::here;
use crate::support::{Nginx, Origin, Reply};
use serde_json::Value;
use std::process::Command;

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>Player</title>
<video id="video" muted width="640" height="360"></video>
<script src="/hls.js"></script><script src="/switch.js"></script>"#;

#[track_caller]
fn switches(nginx: &Nginx) {
    let edge = ready(adding(&nginx.url()).set("sites.0.cors", serde_json::json!({"origins": ["*"]})).run());
    let file = |path: &str| std::fs::read(here(path)).expect("tests/run installs the player");
    let script = |body: Vec<u8>| Reply::ok(body).header("Content-Type", "text/javascript");
    let page = Origin::start()
        .route("/", Reply::ok(PAGE).header("Content-Type", "text/html"))
        .route("/hls.js", script(file("node_modules/hls.js/dist/hls.min.js")))
        .route("/switch.js", script(file("switch.js")));
    let output = Command::new("node")
        .arg(here("play.mjs"))
        .arg(format!("{}/", page.url()))
        .arg(format!("http://{}/f/master.m3u8", edge.http()))
        .output()
        .expect("node runs (tests/run installs it)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).expect("the player says JSON");
    assert_eq!((&result["ended"], &result["levels"]), (&Value::Bool(true), &Value::from(2)), "{result}");
    for trouble in ["fatal", "stalls", "errors"] {
        assert_eq!(result[trouble], Value::Array(vec![]), "{result}");
    }
    let heights: Vec<u64> = result["heights"].as_array().expect("a list").iter().filter_map(Value::as_u64).collect();
    assert!(heights.windows(3).any(|seen| seen == [360, 240, 360]), "{result}");
}

#[test]
fn a_player_switches_in_and_out_of_a_rung_of_transport_streams() {
    switches(&muxed(Nginx::start(), &["scenecut=0"]));
}

#[test]
fn a_player_switches_in_and_out_of_a_rung_with_sound_in_the_same_fragments() {
    switches(&muxed(Nginx::start(), &["scenecut=0", "-hls_segment_type", "fmp4"]));
}

#[test]
fn a_player_switches_in_and_out_of_a_rung_of_fragmented_mp4() {
    switches(&separate(Nginx::start(), &["-x264-params", "scenecut=0"]));
}
