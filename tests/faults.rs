//! Origins and clients that fail: the right status, the right metrics, no panic, and never a short body taken for a whole one.

use crate::support::{
    Connection, Curl, Edge, EdgeBuilder, Gate, Origin, Reply, Request, Response, Step, eventually, free_port, letters,
    pattern,
};
use serde_json::json;
use std::time::Duration;

/// Short timeouts, no retries, no breaker: each fault is seen as itself.
fn strict(origin: &Origin) -> EdgeBuilder {
    strict_url(&origin.url())
}

fn strict_url(url: &str) -> EdgeBuilder {
    Edge::of_url(url)
        .set("origins.main.timeouts", json!({"connect": "1s", "first_byte": "1s", "read": "1s", "write": "1s"}))
        .set("origins.main.retry.attempts", 0)
        .set("origins.main.breaker.enabled", false)
        .set("origins.main.health.passive.failures", 0)
}

/// Errors are ours: typed, small, not cached, without a word from the origin.
#[track_caller]
fn expect_problem(edge: &Edge, path: &str, status: u16) -> Response {
    let request = Request::get(path).header("Accept", "application/problem+json");
    let answer = edge.send(&request).expect_status(status);
    assert!(answer.header("content-type").is_some_and(|t| t.starts_with("application/problem+json")), "{answer:?}");
    assert_eq!(answer.json()["status"], status);
    assert!(answer.body.len() < 2000 && !answer.is_hit(), "{answer:?}");
    answer
}

/// Short and seen as short, or, where nothing had been sent yet, an error of our own.
#[track_caller]
fn expect_abort(answer: &Response, body: &str) {
    let short = answer.status == 200 && !answer.complete && body.starts_with(&answer.text());
    assert!(short || matches!(answer.status, 502 | 504), "{answer:?}");
}

#[test]
fn an_origin_that_refuses_is_502() {
    let edge = strict_url(&format!("http://127.0.0.1:{}", free_port())).run();
    expect_problem(&edge, "/a", 502);
    edge.expect_metric_at_least("reelgate_origin_errors_total", &[("origin", "main")], 1.0);
    edge.expect_metric_at_least("reelgate_requests_total", &[("status", "502")], 1.0);
}

#[test]
fn an_origin_that_resets_is_502() {
    let origin = Origin::start().route("/a", Reply::raw(vec![Step::Reset])).route("/b", Reply::raw(vec![Step::Close]));
    let edge = strict(&origin).run();
    expect_problem(&edge, "/a", 502);
    expect_problem(&edge, "/b", 502);
}

#[test]
fn an_origin_that_hangs_before_its_headers_is_504() {
    let origin = Origin::start().route("/a", Reply::hang());
    let edge = strict(&origin).run();
    expect_problem(&edge, "/a", 504);
    edge.expect_metric_at_least("reelgate_origin_errors_total", &[("origin", "main")], 1.0);
}

#[test]
fn an_origin_that_hangs_in_its_headers_is_504() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Len".to_vec();
    let origin = Origin::start().route("/a", Reply::raw(vec![Step::Send(half), Step::Hang]));
    expect_problem(&strict(&origin).run(), "/a", 504);
}

#[test]
fn an_origin_that_drips_its_headers_is_504() {
    let mut steps = vec![Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec())];
    for i in 0..40 {
        steps.push(Step::Pause(Duration::from_millis(300)));
        steps.push(Step::Send(format!("X-{i}: y\r\n").into_bytes()));
    }
    steps.push(Step::Hang);
    let origin = Origin::start().route("/a", Reply::raw(steps));
    expect_problem(&strict(&origin).run(), "/a", 504);
}

#[test]
fn an_origin_that_hangs_in_its_body_ends_in_an_abort() {
    let body = letters(0, 1000);
    let length = Reply::cacheable("").length(5000).steps(vec![Step::Send(body.clone().into()), Step::Hang]);
    let chunked = Reply::cacheable("").chunked().steps(vec![Step::Send(body.clone().into()), Step::Hang]);
    let origin = Origin::start().route("/length", length).route("/chunked", chunked);
    let edge = strict(&origin).tls().run();
    for path in ["/length", "/chunked"] {
        let answer = edge.get(path);
        expect_abort(&answer, &body);
        let http2 = Curl::https(edge.https(), path).http2().try_send();
        assert!(http2.is_none_or(|r| !r.complete), "{path} over HTTP/2");
        origin.set_route(path, Reply::cacheable("whole"));
        assert_eq!(edge.get(path).text(), "whole", "{path}");
    }
}

#[test]
fn an_origin_that_dies_mid_body_ends_in_an_abort() {
    let body = letters(0, 30_000);
    let origin = Origin::start()
        .route("/length", Reply::ok(body.clone()).die_after(20_000))
        .route("/chunked", Reply::ok(body.clone()).chunked().die_after(20_000));
    let edge = strict(&origin).tls().run();
    for path in ["/length", "/chunked"] {
        let answer = edge.get(path);
        expect_abort(&answer, &body);
        let http2 = Curl::https(edge.https(), path).http2().try_send();
        assert!(http2.is_none_or(|r| !r.complete), "{path} over HTTP/2");
    }
}

#[test]
fn garbage_is_502() {
    let replies: &[&[u8]] = &[
        b"\x00\x01\x02\x03\xff\xfe garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX-Nul: a\x00b\r\nContent-Length: 5\r\n\r\nhello",
    ];
    for (i, reply) in replies.iter().enumerate() {
        let origin = Origin::start().route("/a", Reply::bytes(*reply)).route("/ok", Reply::ok("fine"));
        let edge = strict(&origin).run();
        let answer = edge.get("/a");
        assert_eq!(answer.status, 502, "reply {i}: {answer:?}");
        assert_eq!(edge.get("/ok").text(), "fine", "after reply {i}");
    }
}

#[test]
fn a_bad_chunk_from_the_origin_ends_in_an_abort() {
    for chunk in
        ["xyz\r\nhello\r\n0\r\n\r\n", "5\r\nhelloWORLD\r\n0\r\n\r\n", "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n"]
    {
        let reply =
            format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
        let origin = Origin::start().route("/a", Reply::bytes(reply));
        let edge = strict(&origin).run();
        let answer = edge.get("/a");
        expect_abort(&answer, "hello");
        origin.set_route("/a", Reply::cacheable("whole"));
        assert_eq!(edge.get("/a").text(), "whole", "{chunk:?} must not be stored");
    }
}

#[test]
fn an_origin_with_endless_headers_is_refused() {
    let many: String = (0..5000).map(|i| format!("X-Header-{i}: value\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "a".repeat(4 << 20));
    for headers in [many, long] {
        let origin = Origin::start()
            .route("/a", Reply::bytes(format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 2\r\n\r\nok")));
        let answer = strict(&origin).run().get("/a");
        assert_eq!(answer.status, 502, "{:?}", answer.body.len());
    }
}

#[test]
fn a_length_too_long_is_an_abort_and_not_stored() {
    let origin = Origin::start()
        .route("/a", Reply::cacheable("hello").length(10).steps(vec![Step::Send(b"hello".to_vec()), Step::Close]));
    let edge = strict(&origin).run();
    expect_abort(&edge.get("/a"), "hello");
    origin.set_route("/a", Reply::cacheable("whole"));
    assert_eq!(edge.get("/a").text(), "whole");
}

#[test]
fn bytes_beyond_the_length_never_reach_the_next_client() {
    let surplus = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";
    let steps = vec![Step::Send(b"hello".to_vec()), Step::Send(surplus.into())];
    let origin = Origin::start().route("/a", Reply::ok("").length(5).steps(steps)).route("/b", Reply::ok("mine"));
    let edge = strict(&origin).run();
    for _ in 0..3 {
        assert_eq!(edge.get("/a").expect_status(200).text(), "hello");
        let next = edge.get("/b");
        assert!(next.text() == "mine" || next.status == 502, "another answer's bytes: {next:?}");
    }
}

#[test]
fn a_slow_drip_is_passed_on_as_it_comes() {
    let body = letters(0, 60);
    let origin = Origin::start().route("/a", Reply::ok(body.clone()).drip(10, Duration::from_millis(300)));
    let edge = strict(&origin).run();
    let mut client = Connection::open(edge.http());
    client.send(Request::get("/a").to_bytes());
    client.head().expect("the head comes at once");
    assert_eq!(client.read(10), &body.as_bytes()[..10], "the first piece comes before the last exists");
    assert_eq!(client.read(50), &body.as_bytes()[10..]);
}

#[test]
fn an_idempotent_request_is_tried_again() {
    let alive = Origin::start().route("/a", Reply::ok("alive"));
    let edge = Edge::of(&alive)
        .set("origins.main.servers", json!([format!("http://127.0.0.1:{}", free_port()), alive.url()]))
        .set("origins.main.timeouts.connect", "1s")
        .run();
    for _ in 0..6 {
        assert_eq!(edge.get("/a").expect_status(200).text(), "alive");
    }
}

#[test]
fn a_post_that_may_have_arrived_is_not_sent_again() {
    let origin = Origin::start().route("/a", Reply::raw(vec![Step::Close]));
    let edge = Edge::of(&origin).run();
    edge.send(&Request::new("POST", "/a").body("x")).expect_status(502);
    assert_eq!(origin.count("/a"), 1);
}

#[test]
fn a_breaker_that_opened_is_503() {
    let origin = Origin::start().route("/a", Reply::raw(vec![Step::Close]));
    let edge = strict(&origin)
        .set(
            "origins.main.breaker",
            json!({"enabled": true, "failure_ratio": 0.5, "requests": 5, "window": "10s", "open": "60s"}),
        )
        .run();
    eventually("the breaker is open", || edge.get("/a").status == 503);
    let asked = origin.count("/a");
    expect_problem(&edge, "/a", 503);
    assert_eq!(origin.count("/a"), asked, "an open breaker asks nothing");
    edge.expect_metric("reelgate_origin_breaker_open", &[("origin", "main")], 1.0);
}

#[test]
fn no_healthy_server_is_503() {
    let origin = Origin::start().route("/health", Reply::status(500)).route("/a", Reply::ok("x"));
    let edge = strict(&origin)
        .set(
            "origins.main.health.active",
            json!({"path": "/health", "interval": "200ms", "unhealthy_threshold": 2, "healthy_threshold": 1}),
        )
        .run();
    eventually("the server is out", || edge.get("/a").status == 503);
    edge.expect_metric("reelgate_origin_server_up", &[("origin", "main")], 0.0);
    origin.set_route("/health", Reply::ok("well"));
    eventually("the server is back", || edge.get("/a").status == 200);
}

#[test]
fn request_headers_beyond_the_limits_are_431() {
    let origin = Origin::start().handle("*", |_| Reply::ok("x"));
    let edge = strict(&origin).set("limits.header_size", "8KiB").set("limits.header_count", 50).run();
    let long = Request::get("/a").header("X-Long", &"a".repeat(20_000));
    assert_eq!(edge.send(&long).status, 431);
    let many = (0..80).fold(Request::get("/a"), |r, i| r.header(&format!("X-{i}"), "y"));
    assert_eq!(edge.send(&many).status, 431);
    assert_eq!(edge.get(&format!("/{}", "a".repeat(20_000))).status / 100, 4, "an endless target");
    assert_eq!(origin.count("*"), 0);
    edge.expect_metric_at_least("reelgate_limits_reached_total", &[], 2.0);
    assert_eq!(edge.get("/a").status, 200);
}

#[test]
fn a_client_slow_with_its_headers_is_408() {
    let origin = Origin::start();
    let edge = strict(&origin).set("limits.header_timeout", "1s").run();
    let mut client = Connection::open(edge.http());
    client.send("GET /a HTTP/1.1\r\nHost: loc");
    let answer = client.response("GET");
    assert!(answer.as_ref().is_some_and(|a| a.status == 408), "{answer:?}");
    assert_eq!(origin.count("*"), 0);
}

#[test]
fn a_client_that_drips_its_headers_meets_a_total_deadline() {
    let origin = Origin::start().route("/a", Reply::ok("x"));
    let edge = strict(&origin).set("limits.header_timeout", "1s").run();
    let mut client = Connection::open(edge.http());
    client.send("GET /a HTTP/1.1\r\nHost: localhost\r\n");
    for i in 0..12 {
        client.send(format!("X-{i}: y\r\n"));
        crate::support::pause(Duration::from_millis(250));
    }
    client.send("\r\n");
    let answer = client.response("GET");
    assert!(answer.as_ref().is_none_or(|a| a.status == 408), "{answer:?}");
    assert_eq!(origin.count("/a"), 0);
}

#[test]
fn a_client_that_stalls_in_its_body_is_408() {
    let origin = Origin::start().handle("/a", |_| Reply::ok("x"));
    let edge = strict(&origin).set("origins.main.timeouts.first_byte", "30s").set("limits.stall_timeout", "1s").run();
    let mut client = Connection::open(edge.http());
    client.send("POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf");
    let answer = client.response("POST");
    assert!(answer.as_ref().is_some_and(|a| a.status == 408), "{answer:?}");
}

/// A handful of uploads that stop would have taken an origin out of use for everyone.
#[test]
fn an_upload_that_stops_is_not_held_against_the_origin() {
    let origin = Origin::start().handle("/a", |_| Reply::ok("x")).route("/b", Reply::ok("b"));
    let edge = strict(&origin)
        .set("limits.stall_timeout", "30s")
        .set("origins.main.breaker", json!({"enabled": true, "requests": 1, "failure_ratio": 0.1, "open": "30s"}))
        .run();
    let mut client = Connection::open(edge.http());
    client.send("POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf");
    let answer = client.response("POST");
    assert!(answer.as_ref().is_some_and(|a| a.status == 408), "{answer:?}");
    edge.get("/b").expect_status(200);
}

#[test]
fn a_client_that_reads_slowly_gets_every_byte_and_holds_nobody_up() {
    let body = pattern(4_000_000);
    let origin = Origin::start().route("/a", Reply::cacheable(body.clone()));
    let edge = strict(&origin).run();
    let mut slow = Connection::open_narrow(edge.http());
    slow.send(Request::get("/a").to_bytes());
    slow.head().expect("an answer has begun");
    assert_eq!(slow.read(1000), &body[..1000]);
    for _ in 0..3 {
        let fast = edge.get("/a").expect_status(200);
        assert!(fast.complete && fast.body == body, "a slow reader must not hold a fast one up");
    }
    assert_eq!(slow.read(body.len() - 1000), &body[1000..]);
}

#[test]
fn clients_that_leave_leave_nothing_behind() {
    let gate = Gate::new();
    let origin = Origin::start().route("/a", Reply::ok("x").gated(&gate)).route("/ok", Reply::ok("fine"));
    let edge = strict(&origin).set("origins.main.timeouts.first_byte", "60s").run();
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = Connection::open(edge.http());
            client.send(Request::get("/a").to_bytes());
            client
        })
        .collect();
    eventually("all are in flight", || edge.metrics().value("reelgate_requests_in_flight", &[]) >= 20.0);
    clients.into_iter().for_each(Connection::abort);
    gate.open();
    edge.expect_metric("reelgate_requests_in_flight", &[], 0.0);
    assert_eq!(edge.get("/ok").text(), "fine");
}

#[test]
fn a_loop_is_508() {
    let port = free_port();
    let edge =
        strict_url(&format!("http://127.0.0.1:{port}")).set("listen.0.address", format!("127.0.0.1:{port}")).run();
    assert_eq!(edge.get("/a").status, 508);
}

/// CVE-2019-9512, CVE-2019-9515: frames that are answered, or thrown away, for CPU time alone.
#[test]
fn floods_of_control_frames_end_their_connection_and_no_other() {
    use std::io::{Read, Write};
    let origin = Origin::start().route("/a", Reply::cacheable("good"));
    let edge = Edge::of(&origin).run();
    let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    for (name, frame) in [("PING", &ping[..]), ("SETTINGS", &empty_settings[..])] {
        let mut client = std::net::TcpStream::connect(edge.http()).expect("connects");
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        client.set_write_timeout(Some(Duration::from_secs(20))).expect("set");
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("sent");
        client.write_all(&empty_settings).expect("sent");
        let mut reader = client.try_clone().expect("cloned");
        let drain = std::thread::spawn(move || {
            let mut answers = [0; 65536];
            loop {
                match reader.read(&mut answers) {
                    Ok(1..) => {}
                    Ok(0) => return true,
                    Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
                }
            }
        });
        // What is on its way when the connection ends was taken by the system.
        let _ = (0..1000).any(|_| client.write_all(&frame.repeat(100)).is_err());
        assert!(drain.join().expect("no panic"), "100,000 {name} frames did not end the connection");
        assert_eq!(edge.get("/a").expect_status(200).text(), "good");
    }
    edge.expect_metric("reelgate_limits_reached_total", &[("limit", "control_frames")], 2.0);
}
