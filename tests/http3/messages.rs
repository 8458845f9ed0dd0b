//! Requests and answers as they should be, whole and broken off.

use super::client::Talk;
use crate::support::{Edge, Gate, Origin, Player, Reply, Speech, Step, eventually, pattern, runtime};
use serde_json::json;
use sha2::{Digest, Sha256};

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn hits_ranges_heads_and_conditions_are_answered_from_what_other_protocols_stored() {
    let body = pattern(3_000_000);
    let reply = Reply::cacheable(body.clone()).header("ETag", "\"v1\"").header("Accept-Ranges", "bytes");
    let origin = Origin::start().route("/a", reply);
    let edge = Edge::of(&origin).tls().run();
    edge.get("/a").expect_miss();
    let told = Talk::with(&edge)
        .get("/a")
        .get_with("/a", &[("range", "bytes=1000000-1000009")])
        .get_with("/a", &[("range", "bytes=0-4,10-14")])
        .get_with("/a", &[("range", "bytes=3000000-")])
        .get_with("/a", &[("if-none-match", "\"v1\"")])
        .run();
    let whole = told.stream(0);
    assert_eq!((whole.expect(200).length(), whole.sha256()), (3_000_000, &sum(&body)[..]));
    assert!(whole.field("cache-status").is_some_and(|status| status.contains("hit")), "{whole:?}");
    assert_eq!(whole.field("alt-svc"), None, "it is there already");
    let range = told.stream(1);
    assert_eq!(range.expect(206).field("content-range"), Some("bytes 1000000-1000009/3000000"));
    assert_eq!(range.sha256(), sum(&body[1_000_000..1_000_010]));
    let parts = told.stream(2);
    assert!(parts.expect(206).field("content-type").is_some_and(|kind| kind.starts_with("multipart/byteranges")));
    told.stream(3).expect(416);
    assert_eq!(told.stream(4).expect(304).length(), 0);
    // aioquic takes the length of what HEAD asks about for a body's.
    runtime().block_on(async {
        let mut player = Player::open(Speech::Http3, edge.https(), None).await.expect("a connection");
        let mut head = player.ask(http::Method::HEAD, "/a", &[]).await.expect("a head");
        assert_eq!((head.status.as_u16(), head.header("content-length")), (200, "3000000"));
        assert_eq!(head.rest().await, Ok(Vec::new()));
    });
    assert_eq!(origin.count("/a"), 1);
}

#[test]
fn misses_of_every_framing_come_whole() {
    let body = pattern(2_000_000);
    let origin = Origin::start()
        .route("/length", Reply::cacheable(body.clone()))
        .route("/chunked", Reply::ok(body.clone()).chunked())
        .route("/none", Reply::status_with(204, ""));
    let edge = Edge::of(&origin).tls().run();
    let told = Talk::with(&edge).get("/length").get("/chunked").get("/none").get("/length").run();
    for number in [0, 1, 3] {
        assert_eq!(told.stream(number).expect(200).sha256(), sum(&body), "{number}");
        assert_eq!(told.stream(number).field("transfer-encoding"), None);
    }
    assert_eq!(told.stream(2).expect(204).length(), 0);
}

#[test]
fn uploads_of_any_size_arrive_with_and_without_a_length() {
    let origin = Origin::start().handle("*", |request| {
        Reply::ok(format!("{} {}", request.body_bytes, sum(&request.body[..request.body.len().min(1 << 20)])))
    });
    let edge = Edge::of(&origin).tls().run();
    let told = Talk::with(&edge)
        .send("POST", "/a", &[], json!({"size": 9_000_000}))
        .end()
        .send("PUT", "/b", &[("content-length", "3000000")], json!({"size": 3_000_000}))
        .end()
        .send("POST", "/c", &[("content-length", "0")], json!({}))
        .end()
        .send("POST", "/d", &[("te", "trailers")], json!({"body": "x", "trailers": [["x-sum", "1"]]}))
        .end()
        .send("POST", "/e", &[], json!({}))
        .end()
        .run();
    for (number, size) in [(0, 9_000_000), (1, 3_000_000), (2, 0), (4, 0)] {
        // The scripted origin keeps the first MiB.
        let expected = pattern(size.min(1 << 20));
        assert_eq!(told.stream(number).expect(200).body(), format!("{size} {}", sum(&expected)), "{number}");
    }
    assert_eq!(told.stream(3).expect(200).body(), format!("1 {}", sum(b"x")), "with trailers");
    assert_eq!(origin.last("/e").header("transfer-encoding"), None, "no body, so none is announced");
    edge.expect_metric_at_least("reelgate_requests_total", &[("protocol", "h3")], 5.0);
}

#[test]
fn an_origin_sees_an_ordinary_request() {
    let origin = Origin::start().route("/a", Reply::ok("x"));
    let edge = Edge::of(&origin).tls().run();
    Talk::with(&edge)
        .get_with("/a", &[("cookie", "a=1"), ("cookie", "b=2"), ("x-mine", "1")])
        .run()
        .stream(0)
        .expect(200);
    let request = origin.last("/a");
    assert_eq!(request.header("host").as_deref(), Some("localhost"));
    assert_eq!(request.header("cookie").as_deref(), Some("a=1; b=2"), "in one field (RFC 9114, section 4.2.1)");
    assert_eq!(
        (request.header("x-mine"), request.header("x-forwarded-proto")),
        (Some("1".into()), Some("https".into()))
    );
    assert_eq!(request.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!((request.header("transfer-encoding"), request.header("content-length")), (None, None));
    eventually("the log says what was spoken", || edge.stdout().contains("\"protocol\":\"HTTP/3\""));
    assert!(edge.stdout().contains("\"client\":\"127.0.0.1\""), "{}", edge.stdout());
    edge.expect_metric_at_least("reelgate_connections_accepted_total", &[("transport", "quic")], 1.0);
}

#[test]
fn alt_svc_is_said_where_http3_can_be_had_and_nowhere_else() {
    let origin = Origin::start().route("/a", Reply::cacheable("x").header("Alt-Svc", "h3=\":1\""));
    let edge = Edge::of(&origin)
        .listen(json!({"tls": "self-signed", "http3": true, "alt_svc_port": 443}))
        .listen(json!({"tls": "self-signed"}))
        .run();
    let of = |index: usize| {
        let curl = crate::support::Curl::https(edge.listener(index), "/a").http2();
        curl.send().header("alt-svc").map(str::to_owned)
    };
    for _ in 0..2 {
        assert_eq!(of(1).as_deref(), Some("h3=\":443\"; ma=86400"), "miss and hit");
    }
    assert_eq!(of(2), None, "an origin's alternative is not ours");
    assert_eq!(edge.get("/a").header("alt-svc"), None);
    assert!(
        crate::support::Curl::https(edge.listener(1), "/%00").http2().send().header("alt-svc").is_some(),
        "errors too"
    );
}

#[test]
fn an_origin_that_dies_mid_body_is_a_reset_never_an_end() {
    let dying = |cacheable: bool| {
        let reply = if cacheable { Reply::cacheable("") } else { Reply::ok("") };
        (
            reply.clone().length(1 << 20).steps(vec![Step::Pattern(300_000), Step::Reset]),
            reply.chunked().steps(vec![Step::Pattern(300_000), Step::Reset]),
        )
    };
    let ((a, b), (c, d)) = (dying(true), dying(false));
    let origin = Origin::start().route("/0", a).route("/1", b).route("/2", c).route("/3", d);
    let edge = Edge::of(&origin).tls().set("origins.main.retry.attempts", 0).run();
    let told = Talk::with(&edge).get("/0").get("/1").get("/2").get("/3").run();
    let mut cut = 0;
    for (number, stream) in told.streams().iter().enumerate() {
        // A TCP reset takes with it what the edge had not read yet, on a slow machine the head too: an error, and no end either.
        if stream.status() != Some(502) {
            assert_eq!((stream.ended(), stream.reset()), (false, Some(0x102)), "{number}: {stream:?}");
            cut += 1;
        }
    }
    assert!(cut > 0, "{:?}", told.streams());
    assert_eq!(told.closed(), None, "the connection goes on");
}

#[test]
fn a_client_that_cancels_leaves_the_fill_running_and_the_connection_open() {
    let (gate, body) = (Gate::new(), pattern(1 << 20));
    let steps =
        vec![Step::Send(body[..200_000].to_vec()), Step::Wait(gate.clone()), Step::Send(body[200_000..].to_vec())];
    let origin =
        Origin::start().route("/a", Reply::cacheable("").length(1 << 20).steps(steps)).route("/b", Reply::ok("b"));
    let edge = Edge::of(&origin).tls().run();
    let told = Talk::with(&edge)
        .send("GET", "/a", &[], json!({}))
        .step(json!({"do": "bytes", "bytes": 1000}))
        .step(json!({"do": "stop"}))
        .end()
        .get("/b")
        .run();
    assert_eq!(told.stream(0).reset(), Some(0x10c), "what was asked for");
    told.stream(1).expect(200);
    gate.open();
    eventually("the object is whole without its first client", || edge.get("/a").is_hit());
    assert!(edge.get("/a").body == body);
    assert_eq!(origin.count("/a"), 1);
}

#[test]
fn an_upload_that_is_broken_off_is_no_whole_request_for_the_origin() {
    let origin = Origin::start().route("/a", Reply::ok("got it"));
    let edge = Edge::of(&origin).tls().run();
    let told = Talk::with(&edge)
        .send("POST", "/a", &[], json!({"size": 100_000, "end": false}))
        .step(json!({"do": "sleep_ms", "ms": 300}))
        .step(json!({"do": "reset"}))
        .end()
        .run();
    assert_eq!(told.stream(0).reset(), Some(0x10c), "{told:?}");
    edge.expect_metric("reelgate_requests_in_flight", &[], 0.0);
    assert!(origin.received().iter().all(|request| !request.complete), "it was never whole");
}

#[test]
fn twenty_misses_at_once_are_one_fetch() {
    let gate = Gate::new();
    let reply = Reply::cacheable("").length(100_000).steps(vec![Step::Wait(gate.clone()), Step::Pattern(100_000)]);
    let origin = Origin::start().route("/a", reply);
    let edge = Edge::of(&origin).tls().run();
    let talk = (0..20).fold(Talk::with(&edge), |talk, _| talk.send("GET", "/a", &[], json!({})));
    let running = talk.ends().start();
    eventually("one is at the origin", || origin.count("/a") == 1);
    gate.open();
    let told = running.told();
    assert_eq!(told.streams().len(), 20);
    for stream in told.streams() {
        assert_eq!(stream.expect(200).sha256(), sum(&pattern(100_000)));
    }
    assert_eq!(origin.count("/a"), 1);
}
