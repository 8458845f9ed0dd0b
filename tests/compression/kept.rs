//! A coded form is made once for a body, lies beside it and ends with it: by purge, by a new version, by the memory's bound.

use super::codec::{CODINGS, decode};
use super::{BROWSER, accepting, coding_of, decoded, runs, text, warm, words};
use crate::support::{Edge, Origin, Player, Reply, Request, Speech, eventually, runtime};
use http::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[track_caller]
fn purge(edge: &Edge, purge: &Value) {
    let request = Request::new("POST", "/api/v1/purge")
        .header("Connection", "close")
        .header("Content-Type", "application/json")
        .body(purge.to_string());
    request.send(edge.admin()).expect_status(200);
}

fn kept_bytes(edge: &Edge) -> f64 {
    edge.metrics().value("reelgate_cache_bytes", &[("tier", "memory")])
}

#[test]
fn a_body_is_coded_once_however_often_it_is_hit() {
    let body = words(1, 30_000);
    let origin = Origin::start().route("/a", text(body.clone()));
    let edge = Edge::of(&origin).tls().run();
    for coding in CODINGS {
        let whole = warm(&edge, "/a", coding, &[]);
        assert_eq!((coding_of(&whole), whole.header("etag")), (coding, Some("W/\"v1\"")));
        assert_eq!(whole.header("accept-ranges"), None, "{coding}");
        assert!(whole.body.len() * 2 < body.len(), "{coding}: {} bytes", whole.body.len());
    }
    let before = runs(&edge, "stored", None) + runs(&edge, "passing", None);
    runtime().block_on(async {
        for speech in Speech::ALL {
            let mut player = Player::open(speech, edge.speaks(speech), None).await.expect("a connection");
            for i in 0..50 {
                let coding = CODINGS[i % 3];
                let asked = player.ask(Method::GET, "/a", &[("accept-encoding", coding)]).await;
                let mut answer = asked.expect("an answer");
                let bytes = answer.rest().await.expect("a whole body");
                assert_eq!(answer.header("content-length"), bytes.len().to_string(), "{speech:?} {coding}");
                assert_eq!(decode(coding, &bytes).as_deref(), Ok(body.as_bytes()), "{speech:?} {coding}");
            }
        }
    });
    assert_eq!(runs(&edge, "stored", None) + runs(&edge, "passing", None), before, "a hit was coded anew");
    for coding in CODINGS {
        assert_eq!(runs(&edge, "stored", Some(coding)), 1.0, "{coding}");
    }
    assert_eq!(origin.count("/a"), 1);
}

#[test]
fn twenty_who_come_first_at_once_cost_one_run_of_each_coding() {
    let body = words(2, 60_000);
    let origin = Origin::start().route("/a", text(body.clone()));
    let edge = Edge::of(&origin).run();
    let (address, expected) = (edge.http(), Arc::new(body));
    let clients: Vec<_> = (0..20)
        .map(|i| {
            let body = Arc::clone(&expected);
            runtime().spawn(async move {
                let coding = CODINGS[i % 3];
                let speech = if i % 2 == 0 { Speech::Http1 } else { Speech::Http2 };
                for _ in 0..3 {
                    let mut player = Player::open(speech, address, None).await?;
                    let mut answer = player.ask(Method::GET, "/a", &[("accept-encoding", coding)]).await?;
                    let bytes = answer.rest().await?;
                    let plain = decode(answer.header("content-encoding"), &bytes)?;
                    if plain != body.as_bytes() {
                        return Err(format!("{coding}: {} other bytes", plain.len()));
                    }
                }
                Ok(())
            })
        })
        .collect();
    for client in clients {
        runtime().block_on(client).expect("no panic").expect("right bytes");
    }
    for coding in CODINGS {
        warm(&edge, "/a", coding, &[]);
        assert_eq!(runs(&edge, "stored", Some(coding)), 1.0, "{coding}");
    }
    assert_eq!(edge.metrics().value("reelgate_compression_failures_total", &[]), 0.0);
}

#[test]
fn what_proves_popular_is_coded_better_in_the_background() {
    let body = words(3, 60_000);
    let origin = Origin::start().route("/a", text(body.clone()));
    let edge = Edge::of(&origin).set("compression.popular_after", 5).run();
    for coding in CODINGS {
        let first = warm(&edge, "/a", coding, &[]).body.len();
        eventually(&format!("a popular run of {coding}"), || {
            assert_eq!(decoded(&edge.send(&accepting("/a", coding))), body, "{coding}");
            runs(&edge, "popular", Some(coding)) >= 1.0
        });
        eventually(&format!("{coding} that is no larger"), || {
            let answer = edge.send(&accepting("/a", coding));
            assert_eq!((decoded(&answer), answer.header("etag")), (body.clone(), Some("W/\"v1\"")), "{coding}");
            // deflate's best is often no better than its usual.
            answer.body.len() < first || coding == "gzip" && answer.body.len() == first
        });
        for _ in 0..30 {
            edge.send(&accepting("/a", coding)).expect_hit();
        }
        assert_eq!(runs(&edge, "popular", Some(coding)), 1.0, "{coding}: once is enough");
    }
}

#[test]
fn nothing_is_popular_where_that_is_switched_off() {
    let origin = Origin::start().route("/a", text(words(3, 20_000)));
    let edge = Edge::of(&origin).set("compression.popular_after", 0).run();
    for _ in 0..60 {
        edge.send(&accepting("/a", BROWSER)).expect_status(200);
    }
    assert_eq!(runs(&edge, "popular", None), 0.0);
}

#[test]
fn a_purge_takes_the_coded_forms_too() {
    let version = Arc::new(AtomicUsize::new(1));
    let served = Arc::clone(&version);
    let origin = Origin::start().handle("/a", move |_| text(words(served.load(Ordering::SeqCst), 50_000)));
    let edge = Edge::of(&origin).run();
    for round in 1..=4 {
        for coding in CODINGS {
            assert_eq!(decoded(&warm(&edge, "/a", coding, &[])), words(round, 50_000), "{coding}");
        }
        let full = kept_bytes(&edge);
        version.store(round + 1, Ordering::SeqCst);
        let selector = if round % 2 == 0 { json!({"all": true}) } else { json!({"prefix": "http://localhost/"}) };
        purge(&edge, &selector);
        eventually("the purged bytes are gone", || kept_bytes(&edge) < full / 10.0);
        // The first after the purge, and the next while its forms are being made anew.
        for coding in ["br", "br", "zstd", "gzip", ""] {
            let answer = edge.send(&accepting("/a", coding));
            assert_eq!(decoded(&answer), words(round + 1, 50_000), "{coding}: an old body after a purge");
        }
    }
}

/// A purge comes while the old body is being coded: the coded bytes of the old must not be attached to the new.
#[test]
fn no_request_after_a_purge_gets_old_coded_bytes() {
    let version = Arc::new(AtomicUsize::new(1));
    let served = Arc::clone(&version);
    let origin = Origin::start().handle("/a", move |_| text(words(served.load(Ordering::SeqCst), 200_000)));
    let edge = Edge::of(&origin).set("compression.popular_after", 3).run();
    for round in 1..=12 {
        for coding in CODINGS.iter().cycle().skip(round % 3).take(2 + round % 4) {
            assert_eq!(decoded(&edge.send(&accepting("/a", coding))), words(round, 200_000), "{coding}");
        }
        version.store(round + 1, Ordering::SeqCst);
        purge(&edge, &json!({"url": "http://localhost/a"}));
    }
}

#[test]
fn a_new_version_never_shows_the_old_ones_coded_bytes() {
    let version = Arc::new(AtomicUsize::new(1));
    let served = Arc::clone(&version);
    let origin = Origin::start().handle("/a", move |request| {
        let now = served.load(Ordering::SeqCst);
        let tag = format!("\"v{now}\"");
        let reply = if request.header("if-none-match").is_some_and(|tags| tags.contains(&tag)) {
            Reply::status(304)
        } else {
            Reply::ok(words(now, 20_000)).header("Content-Type", "text/vtt")
        };
        reply.header("Cache-Control", "max-age=600").header("ETag", &tag)
    });
    let edge = Edge::of(&origin).run();
    for round in 1..=3 {
        for coding in CODINGS {
            warm(&edge, "/a", coding, &[]);
        }
        version.store(round + 1, Ordering::SeqCst);
        // Stale from now on, and asked for again with its validator.
        purge(&edge, &json!({"all": true, "soft": true}));
        let mut newest = round;
        eventually("the new version", || {
            for coding in CODINGS {
                let answer = edge.send(&accepting("/a", coding)).expect_status(200);
                let of = answer
                    .header("etag")
                    .and_then(|tag| tag.trim_start_matches("W/").trim_matches('"')[1..].parse().ok());
                let of: usize = of.expect("a tag of ours");
                assert!(of >= newest, "{coding}: version {of} after {newest}");
                assert_eq!(decoded(&answer), words(of, 20_000), "{coding}: the bytes of another version than {of}");
                newest = of;
            }
            newest == round + 1
        });
    }
}

#[test]
fn a_validated_body_keeps_its_coded_forms() {
    let body = words(5, 20_000);
    let content = body.clone();
    let origin = Origin::start().handle("/a", move |request| match request.header("if-none-match") {
        Some(tags) if tags.contains("\"v1\"") => {
            Reply::status(304).header("Cache-Control", "max-age=600").header("ETag", "\"v1\"").header("X-Seen", "again")
        }
        _ => text(content.clone()),
    });
    let edge = Edge::of(&origin).run();
    for coding in CODINGS {
        warm(&edge, "/a", coding, &[]);
    }
    purge(&edge, &json!({"all": true, "soft": true}));
    eventually("it was asked for again", || {
        assert_eq!(decoded(&edge.send(&accepting("/a", "br"))), body);
        origin.received().iter().any(|r| r.header("if-none-match").is_some())
    });
    let asked = origin.received().into_iter().find_map(|r| r.header("if-none-match")).expect("a validator");
    assert!(!asked.contains("W/"), "the origin's own tag is sent, not the coded one: {asked}");
    eventually("the 304 is merged", || edge.send(&accepting("/a", "br")).header("x-seen") == Some("again"));
    for coding in CODINGS {
        let answer = edge.send(&accepting("/a", coding)).expect_hit();
        assert_eq!((coding_of(&answer), decoded(&answer)), (coding, body.clone()));
        assert!(answer.header("content-length").is_some(), "{coding}: the stored form");
        assert_eq!(runs(&edge, "stored", Some(coding)), 1.0, "{coding}: not made anew");
    }
}

#[test]
fn coded_forms_count_in_the_cache_and_never_exceed_its_memory() {
    let bodies: Arc<Vec<String>> = Arc::new((0..8).map(|seed| words(seed, 500_000)).collect());
    let from = Arc::clone(&bodies);
    let origin = Origin::start().handle("*", move |request| {
        let n: usize = request.target.trim_start_matches('/').parse().expect("a number");
        text(from[n % 8].clone())
    });
    let edge = Edge::of(&origin).set("cache.memory", "16MiB").set("compression.levels", json!({"br": 1})).run();
    edge.send(&accepting("/0", "identity")).expect_status(200);
    edge.send(&accepting("/0", "identity")).expect_hit();
    let plain = kept_bytes(&edge);
    let mut coded = 0;
    for coding in CODINGS {
        coded += warm(&edge, "/0", coding, &[]).body.len();
    }
    let all = kept_bytes(&edge);
    let more = all - plain;
    assert!(more >= 0.9 * coded as f64 && more <= 1.1 * coded as f64 + 32_768.0, "{coded} bytes coded, {more} counted");
    for n in 0..40usize {
        for coding in ["gzip", "zstd"] {
            let answer = edge.send(&accepting(&format!("/{n}"), coding)).expect_status(200);
            assert_eq!(decoded(&answer), bodies[n % 8], "{coding} {n}");
            let kept = kept_bytes(&edge);
            assert!(kept <= f64::from(16 << 20), "{kept} bytes kept");
        }
    }
    assert!(edge.metrics().value("reelgate_cache_evictions_total", &[("tier", "memory")]) > 0.0);
    assert_eq!(decoded(&edge.send(&accepting("/39", "br"))), bodies[39 % 8]);
}

#[test]
fn the_metrics_tell_what_compression_did() {
    let body = words(6, 10_000);
    let origin = Origin::start()
        .route("/a", text(body.clone()))
        .route("/p", Reply::ok(body.clone()).header("Content-Type", "text/css"));
    let edge = Edge::of(&origin).run();
    let small = warm(&edge, "/a", "zstd", &[]).body.len();
    let labels = [("coding", "zstd"), ("kind", "stored")];
    edge.expect_metric("reelgate_compression_runs_total", &labels, 1.0);
    edge.expect_metric("reelgate_compression_input_bytes_total", &labels, body.len() as f64);
    edge.expect_metric("reelgate_compression_output_bytes_total", &labels, small as f64);
    assert_eq!(decoded(&edge.send(&accepting("/p", "gzip"))), body);
    edge.expect_metric_at_least("reelgate_compression_runs_total", &[("coding", "gzip"), ("kind", "passing")], 1.0);
}
