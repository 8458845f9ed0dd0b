//! What breaks HTTP/3 is refused with the error RFC 9114 names; what nobody knows is passed over.

use super::client::Talk;
use crate::support::{Edge, Origin, Reply};
use serde_json::json;

const MESSAGE_ERROR: u64 = 0x10e;

fn edge() -> (Origin, Edge) {
    let origin = Origin::start().route("*", Reply::ok("x"));
    let edge = Edge::of(&origin).tls().set("limits.http3_resets", 1000).run();
    (origin, edge)
}

#[test]
fn malformed_requests_are_stream_errors_and_reach_no_origin() {
    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")];
    let with = |field: (&'static str, &'static str)| [&GET[..], &[field]].concat();
    let without = |name: &str| GET.into_iter().filter(|field| field.0 != name).collect::<Vec<_>>();
    let instead = |field: (&'static str, &'static str)| {
        GET.into_iter().map(|given| if given.0 == field.0 { field } else { given }).collect::<Vec<_>>()
    };
    let cases = [
        with((":path", "/other")),
        with((":method", "GET")),
        with((":authority", "other")),
        with((":status", "200")),
        with((":protocol", "websocket")),
        with((":made-up", "1")),
        [&[("x-a", "1")], &GET[..]].concat(),
        without(":method"),
        without(":scheme"),
        without(":path"),
        without(":authority"),
        instead((":path", "")),
        instead((":path", "no-slash")),
        instead((":path", "/a#fragment")),
        instead((":path", "/a b")),
        instead((":method", "G T")),
        instead((":authority", "user@localhost")),
        instead((":authority", "")),
        with(("X-Upper", "1")),
        with(("bad name", "1")),
        with(("x-a", "a\r\nx-b: c")),
        with(("x-a", "nul\0")),
        with(("connection", "close")),
        with(("keep-alive", "1")),
        with(("proxy-connection", "close")),
        with(("transfer-encoding", "chunked")),
        with(("upgrade", "websocket")),
        with(("te", "gzip")),
        with(("host", "other")),
        with(("content-length", "1x")),
        [&GET[..], &[("content-length", "0"), ("content-length", "0")]].concat(),
        [&GET[..], &[("host", "localhost"), ("host", "localhost")]].concat(),
        with(("content-length", "5")),
    ];
    let (origin, edge) = edge();
    let mut talk = Talk::with(&edge);
    for fields in &cases {
        talk = talk.send_fields(fields).end();
    }
    let told = talk.get("/after").run();
    for (number, fields) in cases.iter().enumerate() {
        let stream = told.stream(number);
        assert_eq!((stream.status(), stream.reset()), (None, Some(MESSAGE_ERROR)), "{fields:?}: {stream:?}");
    }
    told.stream(cases.len()).expect(200);
    assert_eq!(told.closed(), None);
    assert_eq!(origin.received().len(), 1, "only the last");
    edge.expect_metric("reelgate_requests_total", &[("protocol", "h3"), ("status", "400")], cases.len() as f64);
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_is_malformed() {
    let (origin, edge) = edge();
    let post = |talk: Talk, length: &str, size: u64| {
        talk.send("POST", "/", &[("content-length", length)], json!({"size": size})).end()
    };
    let told = post(post(Talk::with(&edge), "100", 99), "100", 101).get("/after").run();
    for number in [0, 1] {
        assert_eq!(
            (told.stream(number).ended(), told.stream(number).reset()),
            (false, Some(MESSAGE_ERROR)),
            "{told:?}"
        );
    }
    told.stream(2).expect(200);
    assert_eq!(origin.received().iter().filter(|request| request.complete).count(), 1, "only the last is whole");
}

#[test]
fn methods_of_tunnels_are_answered_405() {
    let (_origin, edge) = edge();
    let told = Talk::with(&edge)
        .send_fields(&[(":method", "CONNECT"), (":authority", "localhost:443")])
        .end()
        .send("TRACE", "/", &[], json!({}))
        .end()
        .run();
    told.stream(0).expect(405);
    told.stream(1).expect(405);
}

/// Frames, on the stream they came on, and what ends: the connection with this error, or the stream.
#[test]
fn frames_out_of_place_end_the_connection() {
    let (_origin, edge) = edge();
    for (name, stream, bytes, end, code) in [
        ("DATA first", "new", &[0x00, 0x01, 0x61][..], true, 0x105),
        ("SETTINGS on a request", "new", &[0x04, 0x00], true, 0x105),
        ("GOAWAY on a request", "new", &[0x07, 0x01, 0x00], true, 0x105),
        ("PUSH_PROMISE", "new", &[0x05, 0x00], true, 0x105),
        ("a frame of HTTP/2", "new", &[0x06, 0x00], true, 0x105),
        ("half a frame", "new", &[0x01, 0x05, 0x00], true, 0x106),
        ("a head without end", "new", &[0x01, 0x80, 0x10, 0x00, 0x00], false, 0x107),
        ("a head nobody can read", "new", &[0x01, 0x03, 0x00, 0x00, 0x80], true, 0x200),
        ("a second SETTINGS", "control", &[0x04, 0x00], false, 0x105),
        ("HEADERS on control", "control", &[0x01, 0x00], false, 0x105),
        ("CANCEL_PUSH of nothing", "control", &[0x03, 0x01, 0x00], false, 0x108),
        ("PRIORITY_UPDATE of nothing", "control", &[0x80, 0x0f, 0x07, 0x00, 0x01, 0x01], false, 0x108),
        ("control ends", "control", &[], true, 0x104),
        ("a second control", "uni", &[0x00, 0x04, 0x00], false, 0x103),
        ("a push", "uni", &[0x01, 0x00], false, 0x103),
        ("a second encoder", "uni", &[0x02], false, 0x103),
        ("an insert", "encoder", &[0xc0, 0x00], false, 0x201),
        ("an acknowledgement", "decoder", &[0x80], false, 0x202),
        ("encoder ends", "encoder", &[], true, 0x104),
    ] {
        let told = Talk::with(&edge).get("/").raw(stream, bytes, end).closed().run();
        assert_eq!(told.closed(), Some(code), "{name}: {told:?}");
    }
    edge.expect_metric("reelgate_requests_in_flight", &[], 0.0);
    edge.expect_metric("reelgate_connections", &[("transport", "quic")], 0.0);
}

#[test]
fn a_stream_that_ends_before_its_head_is_incomplete() {
    let (_origin, edge) = edge();
    let told = Talk::with(&edge).raw("new", &[], true).end().raw("new", &[0x21, 0x01, 0x00], true).end().get("/").run();
    assert_eq!((told.stream(0).reset(), told.stream(1).reset()), (Some(0x10d), Some(0x10d)), "{told:?}");
    told.stream(2).expect(200);
}

#[test]
fn what_nobody_knows_is_passed_over() {
    let (_origin, edge) = edge();
    // Reserved frames on control and before a head, a stream of a reserved type, a reserved setting is in ours.
    let head = [0x40, 0x5f, 0x03, 0x61, 0x62, 0x63];
    // :method GET, :scheme https, :authority localhost, :path /.
    let section = [&[0x00, 0x00, 0xd1, 0xd7, 0x50, 0x09][..], b"localhost", &[0xc1]].concat();
    let request =
        [&head[..], &[0x01, section.len() as u8], &section, &[0x21, 0x00], &[0x21, 0x02, 0x00, 0x00]].concat();
    let told = Talk::with(&edge)
        .raw("control", &head, false)
        .raw("uni", &[0x21, 0x01, 0x02], false)
        .raw("new", &request, true)
        .end()
        .get("/")
        .run();
    told.stream(0).expect(200);
    told.stream(1).expect(200);
    assert_eq!(told.closed(), None);
}

#[test]
fn floods_of_frames_that_say_nothing_end_the_connection() {
    let (_origin, edge) = edge();
    let update = [&[0x80, 0x0f, 0x07, 0x00, 0x04, 0x00][..], b"u=1"].concat();
    for (name, stream, frame, count) in [
        ("empty DATA", "new", &[0x00, 0x00][..], 10_100),
        ("reserved types", "new", &[0x21, 0x00], 10_100),
        ("reserved types", "control", &[0x21, 0x00], 10_100),
        ("PRIORITY_UPDATE", "control", &update, 3000),
    ] {
        // After a head, on a request's stream.
        let head = [&[0x01, 0x0f, 0x00, 0x00, 0xd4, 0xd7, 0x50, 0x09][..], b"localhost", &[0xc1]].concat();
        let head = if stream == "new" { [&[0x01, (head.len() - 2) as u8], &head[2..]].concat() } else { Vec::new() };
        let told = Talk::with(&edge).get("/").raw(stream, &[head, frame.repeat(count)].concat(), false).closed().run();
        assert_eq!(told.closed(), Some(0x107), "{name}: {told:?}");
    }
}
