//! Versions that end, purges, lifetimes, and origins that fail.

use super::film::{Film, content};
use super::{MIB, get_range};
use crate::support::{Edge, Player, Request, Speech, eventually, runtime};
use http::Method;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

fn purge(edge: &Edge, what: &Value) {
    let request = Request::new("POST", "/api/v1/purge").header("Connection", "close");
    let request = request.header("Content-Type", "application/json").body(what.to_string());
    request.send(edge.admin()).expect_status(200);
}

#[test]
fn a_change_mid_play_aborts_and_the_next_request_gets_the_new_version() {
    for speech in Speech::ALL {
        let film = Film::new(32 * MIB);
        let origin = film.origin();
        let edge = Edge::of(&origin).tls().run();
        runtime().block_on(async {
            let mut player = Player::open(speech, edge.speaks(speech), Some(65_536)).await.expect("a connection");
            let mut answer = player.get("/film.mkv").await.expect("a head");
            let mut got = answer.read(MIB as usize).await.expect("first bytes");
            film.version.store(2, Ordering::SeqCst);
            let end = loop {
                match answer.read(100_000).await {
                    Ok(bytes) => got.extend(bytes),
                    Err(error) => break error,
                }
                assert!(got.len() < 32 << 20, "{speech:?}: the whole came");
            };
            let old = content(1, 0..got.len() as u64);
            assert!(got == old, "{speech:?}: bytes of two versions ({end})");
        });
        let part = get_range(&edge, "/film.mkv", 0..2 * MIB).expect_status(206);
        assert_eq!(part.header("etag"), Some("\"v2\""));
        assert!(part.body == content(2, 0..2 * MIB), "{speech:?}");
        edge.expect_metric("reelgate_slice_versions_dropped_total", &[], 1.0);
        let whole = edge.get("/film.mkv").expect_status(200);
        assert!(whole.complete && whole.body == content(2, 0..32 * MIB));
    }
}

#[test]
fn dropped_granules_leave_the_store() {
    let film = Film::new(32 * MIB).cache_control("max-age=0, must-revalidate");
    let origin = film.origin();
    let edge = Edge::of(&origin).run();
    get_range(&edge, "/film.mkv", 0..16 * MIB).expect_status(206);
    edge.expect_metric_at_least("reelgate_cache_bytes", &[("tier", "memory")], 16.0 * MIB as f64);
    film.version.store(2, Ordering::SeqCst);
    let part = get_range(&edge, "/film.mkv", 0..1000).expect_status(206);
    assert!(part.body == content(2, 0..1000));
    eventually("the old granules are gone", || {
        edge.metrics().value("reelgate_cache_bytes", &[("tier", "memory")]) < 2.0 * MIB as f64
    });
}

#[test]
fn a_304_keeps_the_granules() {
    let film = Film::new(32 * MIB).cache_control("max-age=0, must-revalidate");
    let origin = film.origin();
    let edge = Edge::of(&origin).run();
    get_range(&edge, "/film.mkv", 0..4 * MIB).expect_status(206);
    let sent = film.sent_bytes();
    let asked = origin.count("*");
    let again = get_range(&edge, "/film.mkv", MIB..3 * MIB).expect_status(206);
    assert!(again.body == film.bytes(MIB..3 * MIB));
    assert!(again.cache_status().contains("fwd=stale; fwd-status=304"), "{}", again.cache_status());
    assert_eq!((film.sent_bytes(), origin.count("*")), (sent, asked + 1), "only asked whether it is the same");
    let head = edge.send(&Request::new("HEAD", "/film.mkv")).expect_status(200);
    assert_eq!(head.header("content-length"), Some((32 * MIB).to_string().as_str()));
}

#[test]
fn purges_of_all_kinds_reach_head_and_granules() {
    for selector in ["url", "prefix", "tag", "all"] {
        let film = Film::new(32 * MIB).field("Cache-Tag", "films, other");
        let origin = film.origin();
        let edge = Edge::of(&origin).run();
        let base = "http://localhost";
        get_range(&edge, "/a/film.mkv", 0..2 * MIB).expect_status(206);
        get_range(&edge, "/a/film.mkv", 0..2 * MIB).expect_status(206).expect_hit();
        let sent = film.sent_bytes();
        let what = match selector {
            "url" => json!({"url": format!("{base}/a/film.mkv")}),
            "prefix" => json!({"prefix": format!("{base}/a/")}),
            "tag" => json!({"tag": "films"}),
            _ => json!({"all": true}),
        };
        purge(&edge, &what);
        let part = get_range(&edge, "/a/film.mkv", 0..2 * MIB).expect_status(206).expect_miss();
        assert!(part.body == film.bytes(0..2 * MIB));
        assert!(part.header("cache-tag").is_none());
        assert_eq!(film.sent_bytes(), 2 * sent, "{selector}: every byte again");
        // Softly: it is asked whether it is the same, and it is.
        let mut soft = what.clone();
        soft["soft"] = json!(true);
        purge(&edge, &soft);
        let part = get_range(&edge, "/a/film.mkv", 0..2 * MIB).expect_status(206);
        assert!(part.cache_status().contains("fwd-status=304"), "{selector}: {}", part.cache_status());
        assert_eq!(film.sent_bytes(), 2 * sent, "{selector}");
    }
}

#[test]
fn a_purge_mid_play_does_not_end_the_play() {
    let film = Film::new(24 * MIB);
    let origin = film.origin();
    let edge = Edge::of(&origin).tls().run();
    runtime().block_on(async {
        for speech in Speech::ALL {
            let path = format!("/{speech:?}.mkv");
            let mut player = Player::open(speech, edge.speaks(speech), Some(65_536)).await.expect("a connection");
            let mut answer = player.get(&path).await.expect("a head");
            let mut got = answer.read(MIB as usize).await.expect("first bytes");
            purge(&edge, &json!({"all": true}));
            got.extend(answer.rest().await.expect("the rest"));
            assert!(got == film.bytes(0..24 * MIB), "{speech:?}");
        }
    });
}

#[test]
fn an_origin_that_breaks_off_is_asked_for_the_rest() {
    use crate::support::{Origin, Reply, Step};
    use std::sync::atomic::AtomicUsize;
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let total = 16 * MIB;
    let origin = Origin::start().handle("*", move |request| {
        let field = request.header("range").expect("a range");
        let (first, last) = field.trim_start_matches("bytes=").split_once('-').expect("a range");
        let (first, last): (u64, u64) = (first.parse().expect("a number"), last.parse().expect("a number"));
        let last = last.min(total - 1);
        let reply = Reply::status(206).header("ETag", "\"v1\"").header("Cache-Control", "max-age=60");
        let reply = reply.header("Content-Range", &format!("bytes {first}-{last}/{total}")).length(last + 1 - first);
        let body = content(1, first..last + 1);
        // Every second answer breaks off in the middle of a granule.
        match count.fetch_add(1, Ordering::SeqCst) % 2 {
            0 if body.len() > 100_000 => reply.steps(vec![Step::Send(body[..100_000].to_vec()), Step::Close]),
            _ => reply.steps(vec![Step::Send(body)]),
        }
    });
    let edge = Edge::of(&origin).run();
    let whole = edge.get("/film.mkv").expect_status(200);
    assert!(whole.complete && whole.body == content(1, 0..total));
    assert!(asked.load(Ordering::SeqCst) > 1);
}

#[test]
fn an_origin_that_dies_mid_play_aborts_and_never_ends_the_answer() {
    for speech in Speech::ALL {
        let film = Film::new(64 * MIB);
        let origin = film.origin();
        let edge = Edge::of(&origin).tls().run();
        runtime().block_on(async {
            let mut player = Player::open(speech, edge.speaks(speech), Some(65_536)).await.expect("a connection");
            let mut answer = player.get("/film.mkv").await.expect("a head");
            answer.read(MIB as usize).await.expect("first bytes");
            film.status.store(503, Ordering::SeqCst);
            assert!(answer.rest().await.is_err(), "{speech:?}");
        });
        // What was kept is still given.
        film.status.store(0, Ordering::SeqCst);
        assert!(get_range(&edge, "/film.mkv", 0..MIB).expect_status(206).expect_hit().body == film.bytes(0..MIB));
    }
}

#[test]
fn stale_parts_stand_in_for_an_origin_that_is_gone() {
    for status in [503, 0] {
        let film = Film::new(32 * MIB).cache_control("max-age=0, stale-if-error=60").field("Connection", "close");
        let origin = film.origin();
        let edge = Edge::of(&origin).run();
        get_range(&edge, "/film.mkv", 0..MIB).expect_status(206);
        match status {
            0 => origin.stop(),
            _ => film.status.store(status, Ordering::SeqCst),
        }
        let part = get_range(&edge, "/film.mkv", 0..MIB).expect_status(206);
        assert!(part.body == film.bytes(0..MIB));
        assert!(part.cache_status().contains("stale-if-error"), "{}", part.cache_status());
        let other = get_range(&edge, "/other.mkv", 0..MIB);
        assert_eq!(other.status, if status == 0 { 502 } else { 503 });
    }
}

#[test]
fn stale_while_revalidate_answers_at_once_and_asks_behind() {
    let film = Film::new(32 * MIB).cache_control("max-age=0, stale-while-revalidate=60");
    let origin = film.origin();
    let edge = Edge::of(&origin).run();
    get_range(&edge, "/film.mkv", 0..MIB).expect_status(206);
    let asked = origin.count("*");
    let part = get_range(&edge, "/film.mkv", 0..MIB).expect_status(206).expect_hit();
    assert!(part.cache_status().contains("stale-while-revalidate"), "{}", part.cache_status());
    eventually("it was asked behind the client's back", || origin.count("*") == asked + 1);
    assert!(origin.last("/film.mkv").header("if-none-match").is_some());
}

#[test]
fn requests_that_may_fill_nothing_fill_nothing() {
    let film = Film::new(32 * MIB);
    let origin = film.origin();
    let edge = Edge::of(&origin).run();
    let ask = |range: &str, control: &str| {
        edge.send(&Request::get("/film.mkv").header("Range", range).header("Cache-Control", control))
    };
    assert_eq!(ask("bytes=0-99", "only-if-cached").status, 504);
    get_range(&edge, "/film.mkv", 0..100).expect_status(206);
    ask("bytes=0-99", "only-if-cached").expect_status(206).expect_hit();
    assert_eq!(ask("bytes=9000000-9000009", "only-if-cached").status, 504);
    let passed = ask("bytes=9000000-9000009", "no-store").expect_status(206).expect_miss();
    assert!(passed.body == film.bytes(9_000_000..9_000_010));
    assert_eq!(ask("bytes=9000000-9000009", "only-if-cached").status, 504);
    let matching = Request::get("/film.mkv").header("Range", "bytes=0-9").header("If-Match", "\"v1\"");
    edge.send(&matching).expect_status(206).expect_hit();
    // HEAD and GET of what nothing is known of.
    assert!(edge.send(&Request::new("HEAD", "/unknown.mkv")).expect_status(200).body.is_empty());
}

#[test]
fn an_unsafe_request_forgets_the_head() {
    let film = Film::new(32 * MIB);
    let origin = film.origin();
    let edge = Edge::of(&origin).run();
    get_range(&edge, "/film.mkv", 0..100).expect_status(206);
    get_range(&edge, "/film.mkv", 0..100).expect_hit();
    let asked = origin.count("*");
    edge.send(&Request::new("DELETE", "/film.mkv"));
    get_range(&edge, "/film.mkv", 0..100).expect_status(206).expect_miss();
    assert_eq!(origin.count("*"), asked + 2);
}

#[test]
fn a_client_over_http2_is_answered_by_parts() {
    let film = Film::new(32 * MIB);
    let origin = film.origin();
    let edge = Edge::of(&origin).tls().run();
    runtime().block_on(async {
        for speech in Speech::ALL {
            let mut player = Player::open(speech, edge.speaks(speech), None).await.expect("a connection");
            let fields = [("range", "bytes=1000000-2999999")];
            let mut answer = player.ask(Method::GET, "/film.mkv", &fields).await.expect("a head");
            assert_eq!(answer.status, 206);
            assert!(answer.rest().await.expect("whole") == film.bytes(1_000_000..3_000_000), "{speech:?}");
        }
    });
    assert_eq!(film.sent_twice(), 0);
}
