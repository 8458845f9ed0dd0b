//! What a client may take: fields, requests, connections, time, memory.

use super::client::Talk;
use crate::support::{Edge, Origin, Player, Reply, Speech, Step, eventually, runtime};
use serde_json::json;

fn origin() -> Origin {
    Origin::start()
        .route("/big", Reply::cacheable("").length(32 << 20).steps(vec![Step::Pattern(32 << 20)]))
        .route("*", Reply::ok("x"))
}

#[test]
fn fields_beyond_the_limit_are_431_and_the_connection_goes_on() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().set("limits.header_count", 20).run();
    let (long, many) = ("a".repeat(30_000), "x".repeat(3));
    let many: Vec<(String, String)> = (0..30).map(|i| (format!("x-{i}"), many.clone())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let told = Talk::with(&edge)
        .get_with("/", &[("x-a", &long), ("x-b", &long), ("x-c", &long)])
        .get_with("/", &many)
        .get("/")
        .run();
    told.stream(0).expect(431);
    told.stream(1).expect(431);
    told.stream(2).expect(200);
    assert_eq!(origin.received().len(), 1);
    edge.expect_metric("reelgate_limits_reached_total", &[("limit", "header_bytes")], 2.0);
}

#[test]
fn a_head_that_does_not_come_is_408() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().set("limits.header_timeout", "1s").run();
    let told = Talk::with(&edge).raw("new", &[0x01, 0x20, 0x00], false).end().get("/").run();
    told.stream(0).expect(408);
    told.stream(1).expect(200);
}

#[test]
fn an_upload_that_stalls_is_408() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().set("limits.stall_timeout", "2s").run();
    let told = Talk::with(&edge).send("POST", "/", &[], json!({"size": 1000, "end": false})).end().get("/").run();
    assert_eq!(told.stream(0).status(), Some(408), "{told:?}");
    told.stream(1).expect(200);
}

#[test]
fn rapid_cancels_end_the_connection() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().set("limits.http3_resets", 20).run();
    let mut talk = Talk::with(&edge);
    for _ in 0..60 {
        talk = talk.send("GET", "/", &[], json!({})).step(json!({"do": "stop"})).step(json!({"do": "reset"}));
    }
    // Few are forgiven.
    let told = talk.closed().run();
    assert_eq!(told.closed(), Some(0x107), "{told:?}");
    edge.expect_metric("reelgate_limits_reached_total", &[("limit", "http3_resets")], 1.0);
    let mut talk = Talk::with(&edge);
    for _ in 0..10 {
        talk = talk.send("GET", "/big", &[], json!({})).step(json!({"do": "stop"})).end();
    }
    let told = talk.get("/").run();
    told.stream(10).expect(200);
}

#[test]
fn one_address_cannot_take_all_connections() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().set("limits.connections_per_address", 3).run();
    let busy: Vec<_> =
        (0..3).map(|_| Talk::with(&edge).get("/").step(json!({"do": "sleep_ms", "ms": 8000})).start()).collect();
    eventually("three are there", || edge.metrics().value("reelgate_connections", &[("transport", "quic")]) >= 3.0);
    let refused = Talk::with(&edge).get("/").start().told();
    assert!(refused.failed().is_some() || refused.closed().is_some(), "{refused:?}");
    edge.expect_metric_at_least("reelgate_limits_reached_total", &[("limit", "connections_per_address")], 1.0);
    for running in busy {
        running.told().stream(0).expect(200);
    }
}

#[test]
fn an_idle_connection_is_told_to_go_and_closed() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().set("limits.idle_timeout", "1s").run();
    let told = Talk::with(&edge).get("/").closed().run();
    assert_eq!(told.closed(), Some(0x100), "{told:?}");
    assert!(!told.goaways().is_empty());
}

#[test]
fn requests_per_connection_are_counted_and_none_is_lost() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().set("limits.requests_per_connection", 3).run();
    let told = Talk::with(&edge).get("/").get("/").get("/").closed().run();
    assert_eq!((told.streams().len(), told.closed()), (3, Some(0x100)));
    for stream in told.streams() {
        stream.expect(200);
    }
    assert_eq!(told.goaways().last(), Some(&12), "{told:?}");
}

#[test]
fn a_client_that_takes_no_more_is_cut_and_costs_little_meanwhile() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().set("cache.memory", "128MiB").set("limits.stall_timeout", "3s").run();
    Talk::with(&edge).get("/big").run().stream(0).expect(200);
    edge.get("/big").expect_hit();
    let before = edge.resident_bytes();
    let stalled: Vec<_> = (0..8)
        .map(|_| {
            let talk = Talk::with(&edge).connect("max_stream_data", 65_536).connect("max_data", 262_144);
            let talk = talk.step(json!({"do": "stall"}));
            let talk = (0..4).fold(talk, |talk, _| talk.send("GET", "/big", &[], json!({})));
            talk.ends().start()
        })
        .collect();
    eventually("all have begun", || edge.metrics().value("reelgate_requests_in_flight", &[]) >= 32.0);
    let held = edge.resident_bytes().saturating_sub(before);
    assert!(held < 32 << 20, "32 stalled answers of 32 MiB hold {held} bytes");
    for running in stalled {
        for stream in running.told().streams() {
            assert!(!stream.ended() && stream.length() <= 262_144, "{stream:?}");
        }
    }
    edge.expect_metric_at_least("reelgate_limits_reached_total", &[("limit", "stall_timeout")], 32.0);
    edge.expect_metric("reelgate_requests_in_flight", &[], 0.0);
}

#[test]
fn heads_that_do_not_come_whole_hold_up_only_their_own_connection_and_little_memory() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().set("limits.header_timeout", "3s").run();
    edge.get("/").expect_status(200);
    let before = edge.resident_bytes();
    // 60 of a hundred kilobytes that lack their last byte.
    let head = [&[0x01, 0x80, 0x01, 0x86, 0xa1][..], &[0; 100_000]].concat();
    let talk = (0..60).fold(Talk::with(&edge), |talk, _| talk.raw("new", &head, false));
    let running = talk.ends().start();
    eventually("they are on their way", || {
        edge.metrics().value("reelgate_connections", &[("transport", "quic")]) >= 1.0
    });
    let told = Talk::with(&edge).get("/").run();
    told.stream(0).expect(200);
    let held = edge.resident_bytes().saturating_sub(before);
    assert!(held < 24 << 20, "{held} bytes");
    for stream in running.told().streams() {
        stream.expect(408);
    }
}

#[test]
fn idle_connections_cost_little() {
    const CONNECTIONS: usize = 200;
    let origin = origin();
    let edge = Edge::of(&origin).tls().run();
    runtime().block_on(async {
        let mut players = Vec::new();
        let mut open = async || {
            let mut player = Player::open(Speech::Http3, edge.https(), None).await.expect("a connection");
            player.get("/").await.expect("an answer").rest().await.expect("whole");
            players.push(player);
        };
        open().await;
        let before = edge.resident_bytes();
        for _ in 0..CONNECTIONS {
            open().await;
        }
        let each = edge.resident_bytes().saturating_sub(before) / CONNECTIONS as u64;
        eprintln!("{each} bytes for an idle connection");
        assert!(each < 96 << 10, "{each} bytes for an idle connection");
    });
}
