//! After a clean stop: what was kept is a hit, in every way it can be asked for.

use super::world::{World, body, get, path, version_of};
use super::{edge, kill, recovered, stop, written};
use crate::support::{Edge, Origin, Reply, Request};
use serde_json::json;

#[test]
fn what_was_kept_is_a_hit_with_its_bytes_and_headers() {
    let world = World::with(|_, reply| {
        reply.header("Age", "100").header("X-Twice", "one").header("X-Twice", "two").header("Content-Type", "video/mp4")
    });
    let sizes = [0, 1, 4096, 262_143, 262_144, 262_145, 3 << 20];
    let edge = edge(&world);
    let running = edge.clone().run();
    for bytes in sizes {
        get(&running, &path("a", bytes)).1.expect_miss();
    }
    stop(&running);
    let running = edge.run();
    recovered(&running);
    let asked = world.asked();
    for bytes in sizes {
        let (version, answer) = get(&running, &path("a", bytes));
        let answer = answer.expect_hit();
        assert_eq!(version, 1);
        assert_eq!((answer.fields("x-twice"), answer.header("content-type")), (2, Some("video/mp4")), "{bytes}");
        let age: u64 = answer.header("age").and_then(|age| age.parse().ok()).expect("an age");
        assert!((100..1000).contains(&age), "{age}");
    }
    assert_eq!(world.asked(), asked, "nothing was asked for again");
    running.expect_metric_at_least("reelgate_cache_tier_hits_total", &[("tier", "disk")], sizes.len() as f64);
}

#[test]
fn ranges_heads_and_validators_work_on_what_came_up() {
    let world = World::new();
    let edge = edge(&world);
    let path = path("film", 2 << 20);
    let running = edge.clone().run();
    get(&running, &path);
    stop(&running);
    let whole = body(&path, 1);
    let ranges = [("bytes=0-0", 0..1), ("bytes=262143-262144", 262_143..262_145), ("bytes=-5", (2 << 20) - 5..2 << 20)];
    for (asked, range) in ranges {
        // Each from the disk: nothing has come up yet.
        let running = edge.clone().run();
        recovered(&running);
        let answer = running.send(&Request::get(&path).header("Range", asked)).expect_status(206).expect_hit();
        assert!(answer.body == whole[range.clone()], "{asked}");
        let field = format!("bytes {}-{}/{}", range.start, range.end - 1, whole.len());
        assert_eq!(answer.header("content-range"), Some(field.as_str()));
        stop(&running);
    }
    let running = edge.clone().run();
    recovered(&running);
    let head = running.send(&Request::new("HEAD", &path)).expect_status(200).expect_hit();
    assert_eq!(head.header("content-length"), Some("2097152"));
    stop(&running);
    let running = edge.run();
    recovered(&running);
    let answer = running.send(&Request::get(&path).header("If-None-Match", "\"v1\"")).expect_status(304);
    assert!(answer.is_hit(), "{answer:?}");
    let answer = running.send(&Request::get(&path).header("If-None-Match", "\"v0\""));
    assert_eq!(version_of(&path, &answer.expect_hit()), 1);
    assert_eq!(world.asked(), 1);
}

#[test]
fn variants_come_back_each_as_it_was() {
    let origin = Origin::start().handle("*", |request| {
        let language = request.header("Accept-Language").unwrap_or_default();
        Reply::cacheable(format!("hello in {language}")).header("Vary", "Accept-Language")
    });
    let edge = Edge::of(&origin).set("cache.disk", json!({"path": "./cache", "size": "64MiB"}));
    let running = edge.clone().run();
    let languages = ["de", "en", "fr", ""];
    let ask = |running: &Edge, language| running.send(&Request::get("/").header("Accept-Language", language));
    for language in languages {
        ask(&running, language).expect_miss();
    }
    stop(&running);
    let running = edge.run();
    recovered(&running);
    for language in languages.iter().rev() {
        assert_eq!(ask(&running, language).expect_hit().text(), format!("hello in {language}"));
    }
    ask(&running, "it").expect_miss();
    assert_eq!(origin.count("*"), 5);
}

#[test]
fn coded_forms_are_made_again_from_what_came_up() {
    let text = "body { color: rebeccapurple }\n".repeat(2000);
    let reply = Reply::cacheable(text.clone()).header("Content-Type", "text/css").header("ETag", "\"a\"");
    let origin = Origin::start().route("*", reply);
    let edge = Edge::of(&origin).set("cache.disk", json!({"path": "./cache", "size": "64MiB"}));
    let running = edge.clone().run();
    let coded = Request::get("/style.css").header("Accept-Encoding", "br");
    running.send(&coded).expect_status(200);
    stop(&running);
    let running = edge.run();
    recovered(&running);
    for _ in 0..2 {
        let answer = running.send(&coded).expect_status(200).expect_hit();
        assert_eq!((answer.header("content-encoding"), answer.header("etag")), (Some("br"), Some("W/\"a\"")));
        let mut plain = Vec::new();
        brotli::BrotliDecompress(&mut &answer.body[..], &mut plain).expect("brotli");
        assert_eq!(String::from_utf8(plain).expect("text"), text);
    }
    assert_eq!(running.get("/style.css").expect_hit().text(), text);
    assert_eq!(origin.count("*"), 1);
}

#[test]
fn a_head_that_a_304_renewed_is_the_one_that_comes_back() {
    let world = World::with(|request, reply| match request.header("If-None-Match") {
        Some(_) => reply.header("X-Validated", "yes"),
        None => reply.header("X-Validated", "no"),
    });
    for clean in [true, false] {
        let edge = edge(&world);
        let running = edge.clone().run();
        let (path, path_after) = (path(format!("head-{clean}"), 500_000), path(format!("after-{clean}"), 1000));
        assert_eq!(get(&running, &path).1.header("x-validated"), Some("no"));
        written(&running, 1);
        super::purge(&running, &json!({"url": format!("http://localhost{path}"), "soft": true}));
        let (_, answer) = get(&running, &path);
        assert_eq!(answer.header("x-validated"), Some("yes"), "{answer:?}");
        if clean {
            stop(&running);
        } else {
            // What comes after it in the queue is written: so is it.
            get(&running, &path_after);
            written(&running, 2);
            kill(&running);
        }
        let asked = world.asked();
        let running = edge.run();
        recovered(&running);
        let (_, answer) = get(&running, &path);
        assert_eq!(answer.expect_hit().header("x-validated"), Some("yes"));
        assert_eq!(world.asked(), asked, "it is fresh");
    }
}

#[test]
fn the_next_version_takes_the_place_of_the_last() {
    let world = World::new();
    let edge = edge(&world);
    let path = path("a", 300_000);
    for version in 1..6 {
        let running = edge.clone().run();
        recovered(&running);
        if version > 1 {
            let (found, answer) = get(&running, &path);
            assert_eq!((found, answer.is_hit()), (version - 1, true));
            world.change(&path);
            super::purge(&running, &json!({"url": format!("http://localhost{path}")}));
        }
        assert_eq!(get(&running, &path).0, version);
        stop(&running);
    }
}
