//! The origin as the enemy: no answer of its may break the framing towards clients, mix answers, or exhaust the edge.

use crate::support::{Connection, Edge, Origin, Reply, Request, Step};
use std::time::Duration;

fn raw(text: &str) -> Reply {
    Reply::raw(vec![Step::Send(text.into()), Step::Pause(Duration::from_millis(50)), Step::Close])
}

#[test]
fn answers_two_readers_could_frame_differently_are_502() {
    let cases = [
        ("/list", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello"),
        ("/twice", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
        ("/differ", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello"),
        ("/negative", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"),
        ("/gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("/unknown", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nhello"),
        ("/unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello"),
        ("/bodiless", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"),
        ("/zero", "HTTP/1.1 000 Zero\r\nContent-Length: 0\r\n\r\n"),
        ("/cr", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"),
        ("/nul", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"),
        ("/words", "hello\r\n\r\n"),
    ];
    let origin = cases.iter().fold(Origin::start(), |origin, (path, answer)| origin.route(path, raw(answer)));
    let origin = origin
        .route(
            "/endless",
            raw(&format!("{}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 103 Early\r\n\r\n".repeat(500))),
        )
        .route("/long", Reply::ok("x").header("X", &"y".repeat(500_000)))
        .route("/many", (0..300).fold(Reply::ok("x"), |reply, n| reply.header(&format!("X-{n}"), "y")))
        .route("/ok", Reply::ok("ok"));
    // So many failures would open the breaker, and then nothing more would be asked.
    let edge = Edge::of(&origin).set("origins.main.breaker.enabled", false).run();
    for path in cases.iter().map(|(path, _)| *path).chain(["/endless", "/long", "/many"]) {
        let answer = edge.get(path);
        assert_eq!(answer.status, 502, "{path}: {answer:?}");
        assert!(answer.complete && answer.header("set-cookie").is_none(), "{path}: {answer:?}");
        assert_eq!(edge.get("/ok").text(), "ok", "after {path}");
    }
}

#[test]
fn bytes_after_an_answer_are_nobodys_answer() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let over = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab{poison}");
    let not_modified = format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n{poison}");
    let hang = |text: &str| Reply::raw(vec![Step::Send(text.into()), Step::Hang]);
    let origin = Origin::start()
        .route("/over", hang(&over))
        .route("/304", hang(&not_modified))
        .handle("*", |r| Reply::ok(r.target.clone()));
    let edge = Edge::of(&origin).run();
    for n in 0..8 {
        edge.send(&Request::get(if n % 2 == 0 { "/over" } else { "/304" }));
        let next = format!("/next{n}");
        assert_eq!(edge.get(&next).text(), next);
    }
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let reply = || Reply::cacheable("hello").chunked();
    let origin = Origin::start().route("/a", reply()).route("/b", reply().header("Cache-Control", "no-store"));
    let edge = Edge::of(&origin).run();
    for path in ["/a", "/a", "/b"] {
        let mut connection = Connection::open(edge.http());
        connection.send(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"));
        let answer = connection.response("GET").expect("an answer");
        assert_eq!(answer.header("transfer-encoding"), None, "{path}: {answer:?}");
        assert_eq!(answer.text(), "hello", "{path}: {answer:?}");
    }
}

#[test]
fn odd_statuses_pass_and_mint_no_labels() {
    let origin =
        Origin::start().handle("*", |r| Reply::status(r.path().trim_start_matches('/').parse().expect("a status")));
    let edge = Edge::of(&origin).run();
    for status in [299, 450, 600, 700, 999] {
        assert_eq!(edge.get(&format!("/{status}")).status, status);
    }
    edge.expect_metric("reelgate_requests_total", &[("status", "other")], 5.0);
    edge.expect_metric("reelgate_origin_requests_total", &[("status", "other")], 5.0);
}

#[test]
fn absurd_ages_and_dates_keep_the_edge_running() {
    let caching = |name: &str, value: &str| Reply::ok("x").header(name, value);
    let origin = Origin::start()
        .route("/1", caching("Cache-Control", "max-age=99999999999999999999, stale-if-error=99999999999999999999"))
        .route("/2", caching("Cache-Control", "max-age=60").header("Age", "999999999999999999999"))
        .route("/3", caching("Expires", "Fri, 31 Dec 9999 23:59:59 GMT"))
        .route(
            "/4",
            caching("Expires", "Sun, 99 Foo 0000 99:99:99 GMT").header("Date", "Thu, 01 Jan 0000 00:00:00 GMT"),
        )
        .route("/5", caching("Cache-Control", "max-age=-1"))
        .route("/6", caching("Cache-Control", "max-age=1e9"));
    let edge = Edge::of(&origin).run();
    for (path, kept) in [("/1", true), ("/2", false), ("/3", true), ("/4", false), ("/5", false), ("/6", false)] {
        edge.get(path).expect_status(200);
        assert_eq!(edge.get(path).is_hit(), kept, "{path}");
    }
}
