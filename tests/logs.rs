//! What is written about a request: enough to find it, and no credential, anywhere.

use crate::support::{Edge, Origin, Reply, Request, eventually};
use serde_json::{Value, json};

const SECRET: &str = "hunter2-4f6a";

/// Everything an operator or a scraper could read.
fn written(edge: &Edge) -> String {
    let mut all = edge.stdout() + &edge.stderr();
    for path in ["/metrics", "/api/v1/stats", "/api/v1/config"] {
        all.push_str(&edge.admin_get(path).text());
    }
    all
}

fn lines(edge: &Edge) -> Vec<Value> {
    edge.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn a_request_is_one_json_line() {
    let origin = Origin::start().route("/a", Reply::cacheable("hello"));
    let edge = Edge::of(&origin).run();
    edge.send(&Request::get("/a?x=1").header("User-Agent", "test/1"));
    eventually("the line is written", || !lines(&edge).is_empty());
    let line = &lines(&edge)[0];
    let text = line.to_string();
    for part in ["GET", "/a", "200", "127.0.0.1", "main"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn no_credential_is_written() {
    let origin = Origin::start().handle("*", |_| {
        Reply::status(500).header("Set-Cookie", &format!("s={SECRET}")).header("WWW-Authenticate", "x")
    });
    let edge = Edge::of(&origin)
        .set("log.level", "trace")
        .set("origins.main.health.passive.failures", 0)
        .set("origins.main.breaker.enabled", false)
        .set("admin.token", SECRET)
        .set("sites.0.headers.request.set", json!({"X-Api-Key": SECRET, "Authorization": format!("Bearer {SECRET}")}))
        .run();
    let basic = "aHVudGVyMi00ZjZhOmh1bnRlcjItNGY2YQ==";
    let requests = [
        Request::get(&format!("/q?api_key={SECRET}")),
        Request::get(&format!("/q?X-Plex-Token={SECRET}&a=b")),
        Request::get(&format!("/q?ApiKey={SECRET}")),
        Request::get(&format!("/q?access_token={SECRET}")),
        Request::get(&format!("/q?a=b&x-emby-token={SECRET}")),
        Request::get(&format!("/q?a%70i_key={SECRET}")),
        Request::get(&format!("/q?url=http%3A%2F%2Fx%2F%3Fapi_key%3D{SECRET}")),
        Request::get("/h").header("Authorization", &format!("Bearer {SECRET}")),
        Request::get("/h").header("Authorization", &format!("Basic {basic}")),
        Request::get("/h").header("X-Emby-Token", SECRET),
        Request::get("/h").header("X-Plex-Token", SECRET),
        Request::get("/h").header("X-Emby-Authorization", &format!("MediaBrowser Client=\"x\", Token=\"{SECRET}\"")),
        Request::get("/h").header("Cookie", &format!("session={SECRET}")),
        Request::get("/h").header("Referer", &format!("http://localhost/p?api_key={SECRET}")),
    ];
    for request in &requests {
        edge.send(request).expect_status(500);
    }
    // Errors have a way of quoting what they met.
    crate::support::Connection::open(edge.http())
        .send(format!("GET /bad?api_key={SECRET} HTTP/1.1\r\nAuthorization : Bearer {SECRET}\r\n\r\n"))
        .read_to_end();
    eventually("every request is in the log", || lines(&edge).len() >= requests.len());
    let all = written(&edge);
    for secret in [SECRET, basic] {
        if let Some(line) = all.lines().find(|line| line.contains(secret)) {
            panic!("a credential was written: {line}");
        }
    }
    assert_eq!(origin.count("/h"), 7, "the origin still gets them");
    assert!(origin.last("/q").target.contains(SECRET), "the origin still gets them");
}

#[test]
fn a_password_of_an_origin_is_never_shown() {
    let origin = Origin::start().route("/a", Reply::ok("x"));
    let edge = Edge::of(&origin)
        .set("origins.main.timeouts.connect", "1s")
        .set("sites.0.headers.request.set", json!({"Authorization": format!("Basic {SECRET}")}))
        .run();
    origin.stop();
    edge.get("/a");
    assert!(!written(&edge).contains(SECRET));
}

#[test]
fn people_may_have_lines_for_people_and_a_sample() {
    let origin = Origin::start().route("/good", Reply::ok("x"));
    let edge = Edge::of(&origin).set("log.access", json!({"format": "human", "sample": 0.0})).run();
    for _ in 0..5 {
        edge.get("/good").expect_status(200);
    }
    edge.get("/missing").expect_status(404);
    eventually("the error is written", || edge.stdout().contains("/missing"));
    assert!(!edge.stdout().contains("/good"), "{}", edge.stdout());
    assert!(lines(&edge).is_empty(), "{}", edge.stdout());
}

#[test]
fn a_newline_in_a_request_is_not_a_newline_in_the_log() {
    let origin = Origin::start().handle("*", |_| Reply::ok("x"));
    let edge = Edge::of(&origin).run();
    edge.send(&Request::get("/a%0a%7b%22forged%22:1%7d").header("User-Agent", "x\"}"));
    eventually("the line is written", || !lines(&edge).is_empty());
    assert_eq!(edge.stdout().trim_end().lines().count(), 1, "{}", edge.stdout());
}
