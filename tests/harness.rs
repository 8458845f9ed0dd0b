//! The harness itself: an origin that lies about what it sent, or a client that misses a short body, would prove nothing.

use crate::support::{Connection, Gate, Nginx, Origin, Reply, Request, Samples, Step, eventually, letters, pattern};
use std::net::SocketAddr;
use std::time::Duration;

fn address(origin: &Origin) -> SocketAddr {
    origin.url().trim_start_matches("http://").parse().expect("host and port")
}

#[test]
fn the_origin_answers_and_remembers() {
    let origin = Origin::start().route("/a", Reply::ok("hello").header("X-Test", "1"));
    let mut connection = Connection::open(address(&origin));
    let first = connection.exchange(&Request::get("/a?q=1").header("X-Sent", "yes"));
    assert_eq!((first.status, first.text().as_str(), first.header("x-test")), (200, "hello", Some("1")));
    let second = connection.exchange(&Request::new("POST", "/none").body("12345"));
    assert_eq!(second.status, 404);
    assert_eq!((origin.count("/a"), origin.count("*"), origin.connections()), (1, 2, 1));
    assert_eq!(origin.last("/a").header("x-sent").as_deref(), Some("yes"));
    assert_eq!(origin.last("/none").body, b"12345");
}

#[test]
fn a_short_body_is_seen_as_short() {
    let origin = Origin::start()
        .route("/length", Reply::ok(letters(0, 1000)).die_after(400))
        .route("/chunked", Reply::ok(letters(0, 1000)).chunked().die_after(400))
        .route("/reset", Reply::status(200).length(10).steps(vec![Step::Send(b"12345".to_vec()), Step::Reset]));
    for path in ["/length", "/chunked", "/reset"] {
        let answer = Request::get(path).send(address(&origin));
        assert!(!answer.complete && answer.body.len() <= 400, "{path}: {answer:?}");
    }
}

#[test]
fn every_framing_is_read() {
    let body = letters(3, 5000);
    let origin = Origin::start()
        .route("/length", Reply::ok(body.clone()))
        .route("/chunked", Reply::ok(body.clone()).chunked().drip(700, Duration::from_millis(1)))
        .route("/close", Reply::ok(body.clone()).until_close())
        .route("/large", Reply::large(3_000_000));
    for path in ["/length", "/chunked", "/close"] {
        let answer = Request::get(path).send(address(&origin));
        assert!(answer.complete && answer.text() == body, "{path}");
    }
    assert_eq!(Request::get("/large").send(address(&origin)).body, pattern(3_000_000));
    assert!(Request::new("HEAD", "/length").send(address(&origin)).body.is_empty());
}

#[test]
fn a_gate_holds_an_answer() {
    let gate = Gate::new();
    let origin = Origin::start().route("/", Reply::ok("late").gated(&gate));
    let mut connection = Connection::open(address(&origin));
    connection.send(Request::get("/").to_bytes());
    eventually("the request is at the gate", || gate.arrived() == 1);
    gate.open();
    assert_eq!(connection.response("GET").map(|r| r.text()).as_deref(), Some("late"));
}

#[test]
fn what_is_no_request_is_kept_as_garbage() {
    let origin = Origin::start();
    let answer = Connection::open(address(&origin)).send("smuggled\r\n\r\n").read_to_end();
    assert!(answer.is_empty());
    eventually("the garbage is kept", || origin.garbage().len() == 1);
}

#[test]
fn metrics_are_summed_by_label() {
    let samples = Samples::parse("# HELP a b\na_total{x=\"1\",y=\"q\\\"}\"} 2\na_total{x=\"1\",y=\"z\"} 3\nb 0.5\n");
    assert_eq!(samples.value("a_total", &[("x", "1")]), 5.0);
    assert_eq!(samples.value("a_total", &[("y", "q\"}")]), 2.0);
    assert_eq!((samples.value("b", &[]), samples.has("c")), (0.5, false));
}

#[test]
fn nginx_serves_files() {
    let nginx = Nginx::start().file("a/film.mp4", pattern(5000));
    let address = nginx.url().trim_start_matches("http://").parse().expect("host and port");
    let answer = Request::get("/a/film.mp4").header("Range", "bytes=10-19").send(address);
    assert_eq!((answer.status, answer.body), (206, pattern(5000)[10..20].to_vec()));
    // Its log is written after the answer.
    eventually("a line in nginx's log", || nginx.requests() == 1);
}
