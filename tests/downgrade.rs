//! HTTP/2 in, HTTP/1.1 out: nothing a frame can say, and a line cannot, reaches the origin as another request.
//! Frames are written by hand, header blocks without compression (RFC 7541 §6.2.2): no library would send these.

use crate::support::{Connection, Edge, Origin, Reply, Request, eventually};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "longer strings need a longer length");
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// One request on a connection of its own.
fn send(edge: &Edge, fields: &[(&str, &str)], body: Option<&str>, trailers: &[(&str, &str)]) {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    let end = if body.is_none() { END_STREAM } else { 0 };
    bytes.extend(frame(HEADERS, END_HEADERS | end, 1, &block(fields)));
    if let Some(body) = body {
        let end = if trailers.is_empty() { END_STREAM } else { 0 };
        bytes.extend(frame(DATA, end, 1, body.as_bytes()));
        if !trailers.is_empty() {
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers)));
        }
    }
    let mut connection = Connection::open(edge.http());
    connection.send(bytes);
    // Until the answer, the stream's reset or the connection's end: a client that left would have its request dropped.
    loop {
        let head = connection.read(9);
        let [high, middle, low, kind, ..] = head[..] else { return };
        connection.read(u32::from_be_bytes([0, high, middle, low]) as usize);
        if matches!(kind, HEADERS | RST_STREAM | GOAWAY) {
            return;
        }
    }
}

#[test]
fn no_field_or_body_of_http2_becomes_a_second_request() {
    let origin = Origin::start().handle("*", |r| Reply::ok(r.target.clone()));
    let edge = Edge::of(&origin).run();
    let get = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/a")];
    let with = |name: &str, value: &'static str| get.map(|(n, v)| if n == name { (n, value) } else { (n, v) }).to_vec();
    let plus = |name: &'static str, value: &'static str| [&get[..], &[(name, value)]].concat();
    let split = "/a HTTP/1.1\r\nHost: localhost\r\n\r\nGET /smuggled";
    for fields in [
        with(":path", split),
        with(":path", "/a /smuggled"),
        with(":path", "smuggled"),
        with(":path", "http://localhost/smuggled"),
        with(":path", ""),
        with(":method", "GET /smuggled HTTP/1.1\r\n\r\nGET"),
        with(":scheme", "http://localhost/smuggled?"),
        with(":authority", "localhost\r\nX: y"),
        with(":authority", "localhost/smuggled"),
        with(":authority", "user@localhost"),
        plus("host", "other.test"),
        plus("transfer-encoding", "chunked"),
        plus("connection", "keep-alive"),
        plus("upgrade", "websocket"),
        plus("te", "gzip"),
        plus("X-Upper", "a"),
        plus("x:y", "a"),
        plus("x", "a\r\nTransfer-Encoding: chunked"),
        plus("x", "a\nb"),
        plus("x", "a\0b"),
        plus("x\r\ny", "a"),
        plus(":path", "/smuggled"),
        plus(":protocol", "websocket"),
        get[..3].to_vec(),
    ] {
        send(&edge, &fields, None, &[]);
        assert_eq!(origin.count("*"), 0, "{fields:?}: {:?}", origin.received());
    }
    let post = |length: &'static str| [&with(":method", "POST")[..], &[("content-length", length)]].concat();
    for length in ["0", "1", "500", "44, 44", "+44", "-1", "0x2c", ""] {
        send(&edge, &post(length), Some(SMUGGLED), &[]);
    }
    send(&edge, &plus("transfer-encoding", "chunked"), Some(&format!("0\r\n\r\n{SMUGGLED}")), &[]);
    send(&edge, &get, Some(SMUGGLED), &[]);
    let trailers = [("content-length", "0"), ("transfer-encoding", "chunked"), ("host", "other.test"), (":path", "/x")];
    for trailer in trailers {
        send(&edge, &with(":method", "POST"), Some(SMUGGLED), &[trailer]);
    }
    edge.get("/after").expect_status(200);
    assert!(origin.count("/a") > 0, "none of them came through, so nothing is proved");
    assert!(origin.garbage().is_empty(), "{:?}", origin.garbage());
    for received in origin.received() {
        assert!(matches!(received.target.as_str(), "/a" | "/after"), "{}", received.head);
        let framings = [received.header("content-length"), received.header("transfer-encoding")];
        assert!(framings.iter().flatten().count() <= 1, "{}", received.head);
    }
}

#[test]
fn a_get_with_frames_of_a_body_is_not_kept() {
    let origin = Origin::start().handle("*", |r| Reply::cacheable(r.body.clone()));
    let edge = Edge::of(&origin).run();
    let get = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/a")];
    send(&edge, &get, Some("poison"), &[]);
    eventually("it has reached the origin", || origin.count("/a") == 1);
    assert_eq!(edge.send(&Request::get("/a")).expect_miss().text(), "");
}
