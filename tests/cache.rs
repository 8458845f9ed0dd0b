//! The first cache: explicit freshness in RAM, collapsed, `Cache-Status` on every answer; a fill is whole or it is nothing.

use crate::support::{Connection, Curl, Edge, Gate, Nginx, Origin, Reply, Request, Step, eventually, letters, pattern};
use serde_json::json;

#[test]
fn a_miss_is_stored_and_then_hit() {
    let origin = Origin::start().route("/a", Reply::cacheable("hello").header("ETag", "\"1\""));
    let edge = Edge::of(&origin).run();
    let first = edge.get("/a").expect_status(200).expect_miss();
    assert!(first.cache_status().contains("fwd=uri-miss") && first.cache_status().contains("stored"), "{first:?}");
    let second = edge.get("/a").expect_status(200).expect_hit();
    assert_eq!((first.text(), second.text()), ("hello".into(), "hello".into()));
    assert_eq!(second.fields("age"), 1, "{second:?}");
    assert!(second.header("age").and_then(|a| a.parse::<u64>().ok()).is_some_and(|a| a < 30), "{second:?}");
    assert_eq!(second.header("etag"), Some("\"1\""));
    assert_eq!(second.fields("content-length"), 1);
    assert_eq!(origin.count("/a"), 1);
    edge.expect_metric("reelgate_requests_total", &[("cache", "hit"), ("status", "200")], 1.0);
    edge.expect_metric("reelgate_origin_requests_total", &[("origin", "main"), ("status", "200")], 1.0);
    edge.expect_metric_at_least("reelgate_cache_bytes", &[("tier", "memory")], 5.0);
}

#[test]
fn head_is_answered_from_the_cache() {
    let origin = Origin::start().route("/a", Reply::cacheable("hello"));
    let edge = Edge::of(&origin).run();
    edge.get("/a").expect_miss();
    let mut connection = Connection::open(edge.http());
    let head = connection.exchange(&Request::new("HEAD", "/a")).expect_status(200).expect_hit();
    assert_eq!((head.header("content-length"), head.body.len()), (Some("5"), 0));
    // A body after a HEAD would be read as the next answer.
    assert_eq!(connection.exchange(&Request::get("/a")).expect_hit().text(), "hello");
    assert_eq!(origin.count("/a"), 1);
}

#[test]
fn a_head_first_does_not_store_an_empty_body() {
    let origin = Origin::start().route("/a", Reply::cacheable("hello"));
    let edge = Edge::of(&origin).run();
    assert_eq!(edge.send(&Request::new("HEAD", "/a")).expect_status(200).body.len(), 0);
    assert_eq!(edge.get("/a").expect_status(200).text(), "hello");
}

#[test]
fn the_query_is_part_of_the_key() {
    let origin = Origin::start().handle("/a", |request| Reply::cacheable(request.target.clone()));
    let edge = Edge::of(&origin).run();
    for target in ["/a", "/a?x=1", "/a?x=2", "/a?"] {
        assert_eq!(edge.get(target).expect_status(200).text(), target);
    }
    edge.get("/a?x=2").expect_hit();
}

#[test]
fn the_host_is_part_of_the_key_of_a_site_without_hosts() {
    let origin = Origin::start().handle("/a", |r| Reply::cacheable(r.header("host").unwrap_or_default()));
    let edge = Edge::of(&origin).run();
    for host in ["one.test", "two.test"] {
        assert_eq!(edge.send(&Request::get("/a").host(host)).expect_miss().text(), host);
    }
    edge.send(&Request::get("/a").host("one.test")).expect_hit();
    // The port is never a part of the key.
    edge.send(&Request::get("/a").host("one.test:8080")).expect_hit();
}

#[test]
fn a_hit_is_shared_between_protocols() {
    let origin = Origin::start().route("/a", Reply::cacheable(pattern(300_000)));
    let edge = Edge::of(&origin).tls().run();
    edge.send(&Request::get("/a").host("film.test")).expect_miss();
    let secure = format!("https://film.test:{}/a", edge.https().port());
    let clear = format!("http://film.test:{}/a", edge.http().port());
    let to_loopback = |curl: Curl| curl.arg("--connect-to").arg("film.test::127.0.0.1:").arg("--output").arg("-");
    for curl in [Curl::new(&secure).http1(), Curl::new(&secure).http2(), Curl::new(&clear).http2()] {
        let answer = to_loopback(curl).send().expect_status(200).expect_hit();
        assert!(answer.body == pattern(300_000), "{:?}", answer.headers);
    }
    assert_eq!(origin.count("/a"), 1);
}

#[test]
fn fifty_misses_are_one_request_to_the_origin() {
    let gate = Gate::new();
    let body = pattern(400_000);
    let origin = Origin::start().route("/a", Reply::cacheable(body.clone()).gated(&gate));
    let edge = Edge::of(&origin).run();
    let address = edge.http();
    let clients: Vec<_> = (0..50).map(|_| std::thread::spawn(move || Request::get("/a").send(address))).collect();
    eventually("the fill is at the origin", || gate.arrived() >= 1);
    eventually("all clients are in flight", || edge.metrics().value("reelgate_requests_in_flight", &[]) >= 50.0);
    gate.open();
    for client in clients {
        let answer = client.join().expect("a client ends").expect_status(200);
        assert!(answer.complete && answer.body == body, "{:?}", answer.headers);
    }
    assert_eq!(origin.count("/a"), 1);
    edge.expect_metric_at_least("reelgate_cache_collapsed_total", &[], 49.0);
}

#[test]
fn a_follower_reads_while_the_fill_runs() {
    let gate = Gate::new();
    let (early, late) = (letters(1, 50_000), letters(2, 50_000));
    let steps = vec![Step::Send(early.clone().into()), Step::Wait(gate.clone()), Step::Send(late.clone().into())];
    let origin = Origin::start().route("/a", Reply::cacheable("").length(100_000).steps(steps));
    let edge = Edge::of(&origin).run();
    let mut clients: Vec<_> = (0..3).map(|_| Connection::open(edge.http())).collect();
    for client in &mut clients {
        client.send(Request::get("/a").to_bytes());
        assert_eq!(client.head().map(|h| h.status), Some(200));
        assert_eq!(client.read(50_000), early.as_bytes(), "the first half comes before the second exists");
    }
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read(50_000), late.as_bytes());
    }
    assert_eq!(origin.count("/a"), 1);
}

#[test]
fn a_truncated_fill_is_never_stored() {
    for (name, reply) in [
        ("with a length", Reply::cacheable(letters(0, 90_000)).die_after(40_000)),
        ("chunked", Reply::cacheable(letters(0, 90_000)).chunked().die_after(40_000)),
        ("reset", Reply::cacheable("").length(90_000).steps(vec![Step::Send(letters(0, 40_000).into()), Step::Reset])),
    ] {
        let origin = Origin::start().route("/a", reply);
        let edge = Edge::of(&origin).tls().run();
        let first = edge.get("/a");
        assert!(
            !first.complete || first.status == 502,
            "{name}: a short body must not look whole: {:?}",
            first.headers
        );
        let over_http2 = Curl::https(edge.https(), "/a").http2().try_send();
        assert!(over_http2.is_none_or(|r| !r.complete || r.status >= 500), "{name}: over HTTP/2");
        origin.set_route("/a", Reply::cacheable("whole"));
        let next = edge.get("/a").expect_status(200);
        assert!(!next.is_hit() && next.text() == "whole", "{name}: {next:?}");
        edge.get("/a").expect_hit();
    }
}

#[test]
fn a_client_that_leaves_mid_fill_leaves_no_half_object() {
    let gate = Gate::new();
    let body = letters(0, 200_000);
    let steps = vec![
        Step::Send(body.as_bytes()[..100_000].into()),
        Step::Wait(gate.clone()),
        Step::Send(body.as_bytes()[100_000..].into()),
    ];
    let origin = Origin::start().route("/a", Reply::cacheable("").length(200_000).steps(steps));
    let edge = Edge::of(&origin).run();
    let mut leaver = Connection::open(edge.http());
    leaver.send(Request::get("/a").to_bytes());
    leaver.head().expect("an answer has begun");
    leaver.read(10_000);
    leaver.abort();
    eventually("the origin is mid-body", || gate.arrived() >= 1);
    gate.open();
    for _ in 0..3 {
        let answer = edge.get("/a").expect_status(200);
        assert!(answer.complete && answer.text() == body, "{:?}", answer.headers);
    }
}

#[test]
fn what_may_not_be_stored_is_not() {
    let origin = Origin::start()
        .route("/no-store", Reply::ok("x").header("Cache-Control", "no-store, max-age=60"))
        .route("/private", Reply::ok("x").header("Cache-Control", "private, max-age=60"))
        .route("/silent", Reply::ok("x"))
        .route("/cookie", Reply::cacheable("x").header("Set-Cookie", "session=abc"))
        .route("/error", Reply::status(500).header("Cache-Control", "no-cache"))
        .route("/vary-all", Reply::cacheable("x").header("Vary", "*"));
    let edge = Edge::of(&origin).run();
    for path in ["/no-store", "/private", "/silent", "/cookie", "/error", "/vary-all"] {
        for _ in 0..2 {
            let answer = edge.get(path);
            assert!(!answer.is_hit(), "{path}: {answer:?}");
            assert!(answer.cache_status().starts_with("reelgate"), "{path}: {answer:?}");
            assert!(!answer.cache_status().contains("stored"), "{path}: {answer:?}");
        }
        assert_eq!(origin.count(path), 2, "{path}");
    }
    assert_eq!(edge.get("/cookie").header("set-cookie"), Some("session=abc"));
}

#[test]
fn answers_to_credentials_are_not_shared() {
    let origin = Origin::start().handle("/a", |r| {
        Reply::ok(r.header("authorization").unwrap_or_default()).header("Cache-Control", "max-age=60")
    });
    let edge = Edge::of(&origin).run();
    for user in ["Bearer one", "Bearer two"] {
        assert_eq!(edge.send(&Request::get("/a").header("Authorization", user)).text(), user);
    }
    assert_eq!(edge.get("/a").text(), "");
}

#[test]
fn vary_keeps_variants_apart() {
    let origin = Origin::start().handle("/a", |r| {
        Reply::cacheable(r.header("accept-language").unwrap_or_default()).header("Vary", "Accept-Language")
    });
    let edge = Edge::of(&origin).run();
    for (language, status) in [("de", "fwd=uri-miss"), ("fr", "fwd=vary-miss"), ("de", "; hit"), ("fr", "; hit")] {
        let answer = edge.send(&Request::get("/a").header("Accept-Language", language));
        assert_eq!(answer.text(), language);
        assert!(answer.cache_status().contains(status), "{language}: {}", answer.cache_status());
    }
}

#[test]
fn a_site_may_store_without_the_cookie() {
    let origin = Origin::start().route("/a", Reply::cacheable("x").header("Set-Cookie", "session=abc"));
    let edge = Edge::of(&origin).set("sites.0.cache.set_cookie", "strip").run();
    edge.get("/a").expect_miss();
    assert_eq!(edge.get("/a").expect_hit().header("set-cookie"), None);
}

#[test]
fn a_site_may_switch_its_cache_off() {
    let origin = Origin::start().route("/a", Reply::cacheable("x"));
    let edge = Edge::of(&origin).set("sites.0.cache.enabled", false).run();
    for _ in 0..2 {
        assert!(!edge.get("/a").expect_status(200).is_hit());
    }
    assert_eq!(origin.count("/a"), 2);
}

#[test]
fn cookies_pass_to_the_origin_and_are_no_part_of_the_key() {
    let origin = Origin::start().route("/a", Reply::cacheable("x"));
    let edge = Edge::of(&origin).run();
    edge.send(&Request::get("/a").header("Cookie", "session=one")).expect_miss();
    assert_eq!(origin.last("/a").header("cookie").as_deref(), Some("session=one"));
    edge.send(&Request::get("/a").header("Cookie", "session=two")).expect_hit();
}

#[test]
fn an_object_above_the_limit_passes_unstored() {
    let origin = Origin::start().route("/a", Reply::large(3_000_000).header("Cache-Control", "max-age=60"));
    let edge = Edge::of(&origin).set("cache.object_max", "1MiB").run();
    for _ in 0..2 {
        let answer = edge.get("/a").expect_status(200);
        assert!(answer.complete && answer.body == pattern(3_000_000) && !answer.is_hit(), "{:?}", answer.headers);
    }
}

#[test]
fn the_memory_bound_holds() {
    let origin = Origin::start().handle("*", |_| Reply::large(1 << 20).header("Cache-Control", "max-age=600"));
    let edge = Edge::of(&origin).set("cache.memory", "16MiB").run();
    for i in 0..40 {
        assert!(edge.get(&format!("/{i}")).expect_status(200).complete);
        let kept = edge.metrics().value("reelgate_cache_bytes", &[("tier", "memory")]);
        assert!(kept <= f64::from(16 << 20), "{kept} bytes kept");
    }
    assert!(edge.metrics().value("reelgate_cache_evictions_total", &[("tier", "memory")]) > 0.0);
}

#[test]
fn ranges_are_cut_from_a_hit() {
    let body = pattern(100_000);
    let origin = Origin::start()
        .route("/a", Reply::cacheable(body.clone()).header("ETag", "\"v1\"").header("Content-Type", "video/mp4"));
    let edge = Edge::of(&origin).run();
    edge.get("/a").expect_miss();
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=99990-", 99_990, 100_000),
        ("bytes=-5", 99_995, 100_000),
    ] {
        let part = edge.send(&Request::get("/a").header("Range", range)).expect_status(206);
        assert_eq!(part.body, &body[from..to], "{range}");
        assert_eq!(part.header("content-range"), Some(format!("bytes {from}-{}/100000", to - 1).as_str()), "{range}");
    }
    let beyond = edge.send(&Request::get("/a").header("Range", "bytes=100000-")).expect_status(416);
    assert_eq!(beyond.header("content-range"), Some("bytes */100000"));
    let nothing = edge.send(&Request::get("/a").header("Range", "bytes=-0")).expect_status(416);
    assert_eq!((nothing.header("content-range"), nothing.body.len()), (Some("bytes */100000"), 0));
    let whole = edge.send(&Request::get("/a").header("Range", "bytes=0-9").header("If-Range", "\"other\""));
    assert_eq!((whole.status, whole.body.len()), (200, 100_000), "If-Range that does not match: the whole");
    let nonsense = edge.send(&Request::get("/a").header("Range", "chapters=1-2"));
    assert_eq!(nonsense.status, 200, "an unknown unit is ignored");
    assert_eq!(origin.count("/a"), 1);
}

#[test]
fn several_ranges_are_one_multipart_answer() {
    let body = letters(0, 1000);
    let origin = Origin::start().route("/a", Reply::cacheable(body.clone()).header("Content-Type", "video/mp4"));
    let edge = Edge::of(&origin).run();
    edge.get("/a").expect_miss();
    let answer = edge.send(&Request::get("/a").header("Range", "bytes=0-9,500-509")).expect_status(206);
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("multipart/byteranges"), "{answer:?}");
    let text = answer.text();
    for (from, to) in [(0, 10), (500, 510)] {
        assert!(text.contains(&format!("bytes {from}-{}/1000", to - 1)) && text.contains(&body[from..to]), "{text}");
    }
}

#[test]
fn a_range_on_a_miss_is_answered_right() {
    let body = pattern(100_000);
    let nginx = Nginx::start().file("film.mp4", &body);
    let edge = Edge::of_url(&nginx.url()).run();
    for range in [100..200usize, 50_000..60_000] {
        let field = format!("bytes={}-{}", range.start, range.end - 1);
        let part = edge.send(&Request::get("/film.mp4").header("Range", &field)).expect_status(206);
        assert_eq!(part.body, &body[range]);
    }
    assert_eq!(edge.get("/film.mp4").expect_status(200).body, body);
}

/// A browser asks for a film by `bytes=0-`: as good as a request without a range.
#[test]
fn a_range_of_everything_fills_the_cache() {
    let body = pattern(100_000);
    let nginx = Nginx::start().file("film.mp4", &body);
    let edge = Edge::of_url(&nginx.url()).run();
    let whole = edge.send(&Request::get("/film.mp4").header("Range", "bytes=0-")).expect_status(206);
    assert_eq!(whole.header("content-range"), Some("bytes 0-99999/100000"));
    assert_eq!(whole.body, body);
    let part = edge.send(&Request::get("/film.mp4").header("Range", "bytes=90000-")).expect_status(206).expect_hit();
    assert_eq!(part.body, &body[90_000..]);
    assert_eq!(nginx.requests(), 1);
}

#[test]
fn a_seek_beyond_a_running_fill_does_not_wait_for_it() {
    let (gate, body) = (Gate::new(), pattern(3 << 20));
    let (rest, tail) = (gate.clone(), body[body.len() - 100..].to_vec());
    let origin = Origin::start().handle("/a", move |request| {
        let reply = Reply::cacheable(body.clone()).header("ETag", "\"v1\"");
        if request.header("range").is_some() {
            let total = body.len();
            let range = format!("bytes {}-{}/{total}", total - 100, total - 1);
            return Reply::bytes(
                format!("HTTP/1.1 206 Partial Content\r\nContent-Range: {range}\r\nContent-Length: 100\r\n\r\n")
                    .into_bytes()
                    .into_iter()
                    .chain(tail.clone())
                    .collect::<Vec<u8>>(),
            );
        }
        let first = Step::Send(body[..100_000].to_vec());
        reply.length(body.len() as u64).steps(vec![
            first,
            Step::Wait(rest.clone()),
            Step::Send(body[100_000..].to_vec()),
        ])
    });
    let edge = Edge::of(&origin).set("cache.slices.enabled", false).run();
    let mut viewer = Connection::open(edge.http());
    viewer.send("GET /a HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-\r\n\r\n");
    assert_eq!(viewer.head().map(|head| head.status), Some(206));
    let far = edge.send(&Request::get("/a").header("Range", "bytes=3145628-"));
    assert_eq!((far.status, far.body.len()), (206, 100), "the fill still waits");
    gate.open();
    eventually("the fill ends and is a hit", || edge.get("/a").is_hit() && origin.count("/a") == 2);
}

#[test]
fn a_client_that_has_it_gets_304() {
    let modified = "Wed, 01 Jan 2025 00:00:00 GMT";
    let origin = Origin::start()
        .route("/a", Reply::cacheable("hello").header("ETag", "\"v1\"").header("Last-Modified", modified));
    let edge = Edge::of(&origin).run();
    edge.get("/a").expect_miss();
    for (name, value, status) in [
        ("If-None-Match", "\"v1\"", 304),
        ("If-None-Match", "\"x\", W/\"v1\"", 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"v2\"", 200),
        ("If-Modified-Since", modified, 304),
        ("If-Modified-Since", "Tue, 31 Dec 2024 00:00:00 GMT", 200),
    ] {
        let answer = edge.send(&Request::get("/a").header(name, value)).expect_status(status).expect_hit();
        assert_eq!(answer.header("etag"), Some("\"v1\""), "{name}: {value}");
        assert_eq!(answer.body.is_empty(), status == 304, "{name}: {value}");
    }
    assert_eq!(origin.count("/a"), 1);
}

#[test]
fn what_went_stale_is_asked_for_again() {
    let origin = Origin::start().handle("/a", |r| match r.header("if-none-match").as_deref() {
        Some("\"v1\"") => Reply::status(304).header("Cache-Control", "max-age=60").header("ETag", "\"v1\""),
        _ => Reply::ok("hello").header("Cache-Control", "max-age=1").header("ETag", "\"v1\""),
    });
    let edge = Edge::of(&origin).run();
    edge.get("/a").expect_miss();
    eventually("a revalidation", || {
        let answer = edge.get("/a").expect_status(200);
        assert_eq!(answer.text(), "hello");
        origin.received().iter().any(|r| r.header("if-none-match").as_deref() == Some("\"v1\""))
    });
    assert_eq!(edge.get("/a").expect_hit().text(), "hello");
}

/// Pingora leaves `Date` out when it merges a 304 into what it has stored; by the old one the answer was stale for good.
#[test]
fn a_validated_answer_is_fresh_again() {
    let long_ago = httpdate::fmt_http_date(std::time::SystemTime::now() - std::time::Duration::from_secs(100));
    let origin = Origin::start().handle("/a", move |r| match r.header("if-none-match").as_deref() {
        Some("\"v1\"") => Reply::status(304).header("Cache-Control", "max-age=60").header("ETag", "\"v1\""),
        _ => {
            Reply::ok("hello").header("Cache-Control", "max-age=101").header("Date", &long_ago).header("ETag", "\"v1\"")
        }
    });
    let edge = Edge::of(&origin).run();
    edge.get("/a").expect_miss();
    eventually("a revalidation", || {
        edge.get("/a").expect_status(200);
        origin.received().iter().any(|r| r.header("if-none-match").is_some())
    });
    let asked = origin.count("/a");
    assert_eq!(edge.get("/a").expect_hit().text(), "hello");
    assert_eq!(origin.count("/a"), asked);
}

#[test]
fn a_post_is_passed_and_never_stored() {
    let origin = Origin::start().handle("/a", |r| Reply::cacheable(r.body.clone()));
    let edge = Edge::of(&origin).run();
    for body in ["one", "two"] {
        assert_eq!(edge.send(&Request::new("POST", "/a").body(body)).expect_status(200).text(), body);
    }
    assert_eq!(origin.count("/a"), 2);
}

#[test]
fn two_sites_do_not_share_objects() {
    let (one, two) =
        (Origin::start().route("/x", Reply::cacheable("one")), Origin::start().route("/x", Reply::cacheable("two")));
    let edge = Edge::of(&one)
        .origin("second", &two.url())
        .set("sites", json!([{"origin": "main", "hosts": ["one.test"]}, {"origin": "second", "hosts": ["two.test"]}]))
        .run();
    for _ in 0..2 {
        assert_eq!(edge.send(&Request::get("/x").host("one.test")).text(), "one");
        assert_eq!(edge.send(&Request::get("/x").host("two.test")).text(), "two");
    }
}
