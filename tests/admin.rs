//! The operators' listener: what it says, to whom, and that it starts only where it may.

use crate::support::{Curl, Edge, Origin, Reply, Request, Samples, reelgate};
use serde_json::Value;
use std::process::Command;

fn origin() -> Origin {
    Origin::start().route("/a", Reply::cacheable("hello"))
}

#[test]
fn it_says_that_it_lives_and_is_ready() {
    let edge = Edge::of(&origin()).run();
    edge.admin_get("/livez").expect_status(200);
    let ready = edge.admin_get("/readyz").expect_status(200).json();
    assert_eq!(ready["ready"], true);
    assert!(ready["checks"].is_object(), "{ready}");
}

#[test]
fn metrics_are_in_prometheus_form() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    edge.get("/a").expect_miss();
    edge.get("/a").expect_hit();
    edge.expect_metric("reelgate_requests_total", &[("status", "200")], 2.0);
    let answer = edge.admin_get("/metrics").expect_status(200);
    assert!(answer.header("content-type").is_some_and(|t| t.starts_with("text/plain; version=0.0.4")), "{answer:?}");
    let samples = Samples::parse(&answer.text());
    for name in [
        "reelgate_requests_total",
        "reelgate_origin_requests_total",
        "reelgate_cache_bytes",
        "reelgate_config_reload_success",
        "reelgate_build_info",
        "reelgate_request_duration_seconds_count",
    ] {
        assert!(samples.has(name), "{name} is missing");
    }
    assert_eq!(samples.value("reelgate_requests_total", &[("cache", "hit")]), 1.0);
    assert_eq!(samples.value("reelgate_request_duration_seconds_count", &[]), 2.0);
}

#[test]
fn the_api_answers_in_json() {
    let origin = origin();
    let edge = Edge::of(&origin).set("sites.0.name", "films").run();
    edge.get("/a").expect_status(200);
    let stats = edge.admin_get("/api/v1/stats").expect_status(200).json();
    assert!(stats.is_object(), "{stats}");
    let config = edge.admin_get("/api/v1/config").expect_status(200);
    assert!(config.text().contains("films"), "{}", config.text());
    let explained = edge.admin_get("/api/v1/explain?url=http%3A%2F%2Flocalhost%2Fa").expect_status(200);
    assert!(explained.text().contains("films"), "{}", explained.text());
    assert_eq!(edge.admin_get("/api/v1/none").status, 404);
}

#[test]
fn the_api_describes_itself() {
    let edge = Edge::of(&origin()).run();
    let description = edge.admin_get("/api/v1/openapi.json").expect_status(200).json();
    assert!(description["openapi"].as_str().is_some_and(|v| v.starts_with("3.")), "{description}");
    let paths = description["paths"].as_object().expect("paths");
    for path in
        ["/api/v1/stats", "/api/v1/config", "/api/v1/explain", "/api/v1/events", "/metrics", "/livez", "/readyz"]
    {
        assert!(paths.contains_key(path), "{path} is not described");
    }
    // What is described is there.
    for (path, operations) in paths {
        if operations.get("get").is_some() && !path.contains('{') && !path.ends_with("/events") {
            assert_ne!(edge.admin_get(path).status, 404, "{path}");
        }
    }
}

#[test]
fn events_are_streamed() {
    let edge = Edge::of(&origin()).run();
    // The stream has no end: curl cuts it after some seconds and shows what came.
    let curl = Curl::http(edge.admin(), "/api/v1/events").arg("-N").arg("--max-time").arg("6");
    let answer = curl.try_send().expect("an answer");
    assert!(answer.header("content-type").is_some_and(|t| t.starts_with("text/event-stream")), "{answer:?}");
    let text = answer.text();
    let data: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("data:")).collect();
    assert!(data.len() >= 2, "{text}");
    assert!(serde_json::from_str::<Value>(data[0].trim()).is_ok_and(|v| v.is_object()), "{text}");
}

#[test]
fn a_token_is_asked_for_where_there_is_one() {
    let edge = Edge::of(&origin()).set("admin.token", "correct-horse-battery").run();
    let status = |path: &str, authorization: Option<&str>| {
        let request = Request::get(path).header("Connection", "close");
        let request = authorization.iter().fold(request, |r, a| r.header("Authorization", a));
        request.send(edge.admin()).status
    };
    for path in ["/metrics", "/api/v1/stats", "/api/v1/config"] {
        assert_eq!(status(path, None), 401, "{path}");
        assert_eq!(status(path, Some("Bearer wrong")), 401, "{path}");
        assert_eq!(status(path, Some("Bearer correct-horse-battery")), 200, "{path}");
    }
    assert_eq!((status("/livez", None), status("/readyz", None)), (200, 200), "probes have no token");
    let purge = |address: std::net::SocketAddr, token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelgate"));
        command.args(["purge", "--all", "--admin", &format!("http://{address}")]).env("REELGATE_TOKEN", token);
        let output = command.output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = purge(edge.admin(), "guess");
    assert!(code == Some(1) && said.contains("has another token") && !said.contains("guess"), "{said}");
    let (code, said) = purge(edge.http(), "guess");
    assert!(code == Some(1) && said.contains("as no admin listener does"), "{said}");
    assert_eq!(purge(edge.admin(), "correct-horse-battery").0, Some(0));
}

#[test]
fn beyond_loopback_it_wants_a_token() {
    let file = Edge::of(&origin()).set("admin.address", "0.0.0.0:PORT").write();
    for command in ["serve", "check"] {
        let output = reelgate(&[command, "-c", file.name()]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase() + &String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("token"), "{command}: {said}");
    }
}

/// A page of another origin must not drive the admin API through a browser on the operator's machine (DNS rebinding).
#[test]
fn a_foreign_host_gets_nothing_without_a_token() {
    let edge = Edge::of(&origin()).run();
    let answer = Request::get("/api/v1/config").host("evil.test").header("Connection", "close").send(edge.admin());
    assert!(answer.status >= 400, "{answer:?}");
}

#[test]
fn the_sites_do_not_serve_the_admin_api() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    for path in ["/metrics", "/api/v1/config", "/livez"] {
        assert_eq!(edge.get(path).status, 404, "{path} comes from the origin");
    }
}
