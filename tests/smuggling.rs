//! Request smuggling: what two readers could frame differently is refused, and no byte of a body ever becomes a request. The
//! origin counts: a smuggled `/admin` that arrives is the failure, whatever the client was told.

use crate::support::{Connection, Edge, Origin, Reply, Request};
use std::time::Duration;

const SMUGGLED: &str = "GET /admin HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn origin() -> Origin {
    Origin::start().handle("*", |r| Reply::ok(format!("{} {}", r.method, r.target)))
}

/// Sends the bytes, closes the sending half, and gives every status line that came back.
fn statuses(edge: &Edge, bytes: impl AsRef<[u8]>) -> (Vec<u16>, String) {
    let mut connection = Connection::open(edge.http());
    connection.send(bytes).finish_sending();
    let text = String::from_utf8_lossy(&connection.read_to_end()).into_owned();
    let lines = text.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok());
    (lines.collect(), text)
}

/// Each is refused with a 4xx (or closed without a word), and nothing of it arrives. All that is wrong is told at once.
#[track_caller]
fn expect_refused<'a>(cases: impl IntoIterator<Item = (&'a str, Vec<u8>)>) {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    let mut wrong = Vec::new();
    for (what, bytes) in cases {
        let before = origin.count("*");
        let (statuses, text) = statuses(&edge, bytes);
        let refused = statuses.iter().all(|s| (400..500).contains(s) || *s == 501 || *s == 505);
        if statuses.len() > 1 || !refused || origin.count("*") != before || !origin.garbage().is_empty() {
            let received = (origin.count("*") != before).then(|| origin.received().pop()).flatten();
            wrong.push(format!("{what}: {text:?}, at the origin: {received:?} {:?}", origin.garbage()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(edge.get("/after").text(), "GET /after");
}

#[test]
fn bodies_framed_in_two_ways_are_refused() {
    let length = SMUGGLED.len();
    let cases = [
        ("two lengths", "Content-Length: 0\r\nContent-Length: 43\r\n".to_owned(), SMUGGLED),
        ("a list of lengths", "Content-Length: 0, 43\r\n".to_owned(), SMUGGLED),
        ("a signed length", "Content-Length: +5\r\n".to_owned(), "hello"),
        ("a negative length", "Content-Length: -1\r\n".to_owned(), ""),
        ("a hexadecimal length", "Content-Length: 0x5\r\n".to_owned(), "hello"),
        ("an endless length", "Content-Length: 99999999999999999999\r\n".to_owned(), "hello"),
        ("an unknown coding", "Transfer-Encoding: xchunked\r\n".to_owned(), "0\r\n\r\n"),
        ("a coding after chunked", "Transfer-Encoding: chunked, identity\r\n".to_owned(), "0\r\n\r\n"),
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".to_owned(), "0\r\n\r\n"),
        ("a vertical tab before chunked", "Transfer-Encoding: \x0bchunked\r\n".to_owned(), "0\r\n\r\n"),
        ("identity with a length", format!("Transfer-Encoding: identity\r\nContent-Length: {length}\r\n"), SMUGGLED),
    ];
    expect_refused(cases.map(|(what, fields, body)| {
        (what, format!("POST /a HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{body}").into_bytes())
    }));
}

/// RFC 9112 section 6.1 lets a recipient refuse it, or take the chunks and close. In neither reading is there a second request.
#[test]
fn a_length_beside_chunks_carries_no_second_request() {
    for (length, body) in [(4, format!("0\r\n\r\n{SMUGGLED}")), (SMUGGLED.len() + 5, format!("0\r\n\r\n{SMUGGLED}"))] {
        let origin = origin();
        let edge = Edge::of(&origin).run();
        let bytes = format!(
            "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        );
        let (statuses, text) = statuses(&edge, bytes);
        assert!(statuses.len() <= 1, "{text}");
        assert_eq!(origin.count("/admin"), 0, "{text}");
        assert!(origin.garbage().is_empty(), "{:?}", origin.garbage());
        for received in origin.received() {
            assert!(received.header("content-length").is_none() || received.header("transfer-encoding").is_none());
        }
    }
}

#[test]
fn heads_two_readers_could_read_differently_are_refused() {
    let cases: &[(&str, &[u8])] = &[
        ("a space before the colon", b"GET /a HTTP/1.1\r\nHost: localhost\r\nX-A : b\r\n\r\n"),
        (
            "a space before the length's colon",
            b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length : 5\r\n\r\nhello",
        ),
        ("a NUL in a value", b"GET /a HTTP/1.1\r\nHost: localhost\r\nX-A: b\x00c\r\n\r\n"),
        ("a NUL in a name", b"GET /a HTTP/1.1\r\nHost: localhost\r\nX-\x00A: b\r\n\r\n"),
        ("a folded field", b"GET /a HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n c\r\n\r\n"),
        ("a folded coding", b"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
        ("a fold after the request line", b"GET /a HTTP/1.1\r\n X: y\r\nHost: localhost\r\n\r\n"),
        ("a bare CR in a value", b"GET /a HTTP/1.1\r\nHost: localhost\r\nX-A: b\rX-B: c\r\n\r\n"),
        ("a bare CR as a line's end", b"GET /a HTTP/1.1\rHost: localhost\r\r"),
        ("a field without a name", b"GET /a HTTP/1.1\r\nHost: localhost\r\n: b\r\n\r\n"),
        ("a field without a colon", b"GET /a HTTP/1.1\r\nHost: localhost\r\nbroken\r\n\r\n"),
        ("a space in a name", b"GET /a HTTP/1.1\r\nHost: localhost\r\nX A: b\r\n\r\n"),
        ("no host", b"GET /a HTTP/1.1\r\n\r\n"),
        ("two hosts", b"GET /a HTTP/1.1\r\nHost: one.test\r\nHost: two.test\r\n\r\n"),
        ("a host with a space", b"GET /a HTTP/1.1\r\nHost: one test\r\n\r\n"),
        ("a host with a path", b"GET /a HTTP/1.1\r\nHost: one.test/x\r\n\r\n"),
        ("a host with a user", b"GET /a HTTP/1.1\r\nHost: user@one.test\r\n\r\n"),
        ("an unknown version", b"GET /a HTTP/9.9\r\nHost: localhost\r\n\r\n"),
        ("a version in lower case", b"GET /a http/1.1\r\nHost: localhost\r\n\r\n"),
        ("a method with a colon", b"GE:T /a HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a preface of HTTP/2 cut short", b"PRI * HTTP/2.0\r\n\r\n"),
        ("a tunnel", b"CONNECT internal:80 HTTP/1.1\r\nHost: internal:80\r\n\r\n"),
    ];
    expect_refused(cases.iter().map(|(what, bytes)| (*what, bytes.to_vec())));
}

/// Pingora escapes it and reads the line again (RFC 9112 §3.2 would rather have it refused); what matters is that the origin
/// gets one request, of one reading.
#[test]
fn a_space_in_the_target_reaches_the_origin_escaped_or_not_at_all() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    let (statuses, text) = statuses(&edge, "GET /a HTTP/1.1 /admin HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(statuses.len() <= 1, "{text}");
    assert_eq!(origin.count("/admin") + origin.count("/a"), 0, "{text}");
}

#[test]
fn a_bad_chunk_ends_the_connection() {
    for chunks in [
        "xyz\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff1\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
    ] {
        let origin = origin();
        let edge = Edge::of(&origin).run();
        let head = "POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (statuses, text) = statuses(&edge, format!("{head}{chunks}{SMUGGLED}"));
        assert!(statuses.len() <= 1 && statuses.iter().all(|s| *s >= 400), "{chunks:?}: {text}");
        assert_eq!(origin.count("/admin"), 0, "{chunks:?}: {text}");
        assert!(origin.received().iter().all(|r| !r.complete), "{chunks:?}: taken for a whole body");
        assert!(origin.garbage().is_empty(), "{chunks:?}: {:?}", origin.garbage());
    }
}

/// Pingora takes a line without a size for the last chunk (RFC 9112 §7.1 wants a digit), so the origin may answer an empty
/// body before what follows is found to be no trailer; what matters is that nothing after it is read as a request.
#[test]
fn a_chunk_without_a_size_ends_the_connection() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    let head = "POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (statuses, text) = statuses(&edge, format!("{head}\r\nhello\r\n0\r\n\r\n{SMUGGLED}"));
    assert!(statuses.len() <= 1, "{text}");
    assert_eq!(origin.count("/admin"), 0, "{text}");
    assert!(origin.garbage().is_empty(), "{:?}", origin.garbage());
}

#[test]
fn a_body_refused_unread_is_no_request_of_the_next_client() {
    let origin = Origin::start()
        .route("/deny", Reply::status(403))
        .early("/deny")
        .handle("*", |r| Reply::ok(format!("{} {}", r.method, r.target)));
    let edge = Edge::of(&origin).run();
    for _ in 0..5 {
        edge.send(&Request::new("POST", "/deny").body(SMUGGLED));
        assert_eq!(edge.get("/next").text(), "GET /next");
    }
    assert_eq!(origin.count("/admin"), 0);
    assert!(origin.garbage().is_empty(), "{:?}", origin.garbage());
}

#[test]
fn a_get_with_a_body_is_one_request() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    let bytes = format!("GET /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len());
    let (statuses, text) = statuses(&edge, bytes);
    assert!(statuses.len() <= 1, "{text}");
    assert_eq!(edge.get("/next").text(), "GET /next");
    assert_eq!(origin.count("/admin"), 0);
    assert!(origin.garbage().is_empty(), "{:?}", origin.garbage());
}

#[test]
fn a_target_in_absolute_form_decides_the_host() {
    let origin = Origin::start().handle("*", |r| Reply::cacheable(format!("{:?} {}", r.header("host"), r.target)));
    let edge = Edge::of(&origin).set("sites.0.hosts", serde_json::json!(["one.test", "two.test"])).run();
    // RFC 9112 section 3.2.2: the target wins, or the mismatch is refused; the cache must not file it under the other host.
    let mut connection = Connection::open(edge.http());
    connection.send("GET http://one.test/x HTTP/1.1\r\nHost: two.test\r\nConnection: close\r\n\r\n");
    let answer = connection.response("GET").expect("an answer");
    assert!(answer.status == 400 || answer.text().contains("one.test"), "{answer:?}");
    let two = edge.send(&Request::get("/x").host("two.test"));
    assert!(two.text().contains("two.test") && !two.is_hit(), "{two:?}");
}

#[test]
fn pipelined_requests_are_answered_in_order_and_apart() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    let mut connection = Connection::open(edge.http());
    let three = ["/1", "/2", "/3"].map(|t| Request::get(t).to_bytes()).concat();
    connection.send(three);
    for target in ["/1", "/2", "/3"] {
        // An edge may also close after the first; what it answers must be the right one.
        match connection.response("GET") {
            Some(answer) => assert_eq!(answer.text(), format!("GET {target}")),
            None => break,
        }
    }
}

#[test]
fn a_refused_connection_is_closed() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    let mut connection = Connection::open(edge.http());
    connection.send("GET /a HTTP/1.1\r\nHost: localhost\r\nX-A : b\r\n\r\n");
    assert!(connection.closed_within(Duration::from_secs(5)), "a connection out of step must not be read on");
}

#[test]
fn every_refused_head_is_counted() {
    let origin = origin();
    let edge = Edge::of(&origin).set("limits.header_timeout", "1s").run();
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(200_000));
    for (status, bytes) in [
        ("400", "GET /a HTTP/1.1\r\nX-A : b\r\n\r\n".to_owned()),
        ("400", "GET /a HTTP/1.1\r\nHost: one test\r\n\r\n".into()),
        ("400", "\u{16}\u{3}\u{1}no TLS here\r\n\r\n".into()),
        ("400", "GET /a%00 HTTP/1.1\r\nHost: localhost\r\n\r\n".into()),
        ("408", "GET /a HTTP/1.1\r\nHost: loc".into()),
        ("431", many),
        ("405", "TRACE /a HTTP/1.1\r\nHost: localhost\r\n\r\n".into()),
        ("417", "GET /a HTTP/1.1\r\nHost: localhost\r\nExpect: more\r\n\r\n".into()),
    ] {
        let labels = [("site", "none"), ("cache", "none"), ("status", status)];
        let before = edge.metrics().value("reelgate_requests_total", &labels);
        let mut connection = Connection::open(edge.http());
        let answer = connection.send(&bytes).response("GET").map(|answer| answer.status.to_string());
        assert_eq!(answer.as_deref(), Some(status), "{}", &bytes[..bytes.len().min(60)]);
        edge.expect_metric("reelgate_requests_total", &labels, before + 1.0);
    }
}

#[test]
fn hop_by_hop_fields_are_not_passed_on() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    let request = Request::get("/a")
        .header("Connection", "X-Secret, keep-alive")
        .header("X-Secret", "1")
        .header("Keep-Alive", "timeout=5")
        .header("TE", "trailers, deflate")
        .header("Proxy-Authorization", "Basic eA==")
        .header("Proxy-Connection", "keep-alive");
    edge.send(&request).expect_status(200);
    let received = origin.last("/a");
    for name in ["x-secret", "keep-alive", "proxy-connection", "proxy-authorization"] {
        assert_eq!(received.header(name), None, "{name}: {}", received.head);
    }
}

#[test]
fn connection_cannot_take_our_own_fields_away() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    let request = Request::get("/a").header("Connection", "close, X-Forwarded-For, Host, Via, CDN-Loop");
    edge.send(&request);
    if origin.count("/a") > 0 {
        let received = origin.last("/a");
        for name in ["host", "x-forwarded-for", "cdn-loop"] {
            assert!(received.header(name).is_some(), "{name}: {}", received.head);
        }
    }
}
