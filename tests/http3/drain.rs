//! Leaving in good order, and changes while connections stay.

use super::client::Talk;
use crate::support::{Edge, Gate, Origin, Reply, Step, certificate, eventually};
use serde_json::json;

#[test]
fn a_stop_says_goaway_and_ends_with_the_last_answer() {
    let gate = Gate::new();
    let steps = vec![Step::Pattern(1000), Step::Wait(gate.clone()), Step::Pattern(1000)];
    let origin = Origin::start().route("/slow", Reply::ok("").length(2000).steps(steps)).route("*", Reply::ok("x"));
    let edge = Edge::of(&origin).tls().run();
    let running = Talk::with(&edge)
        .get("/")
        .send("GET", "/slow", &[], json!({}))
        .step(json!({"do": "bytes", "bytes": 1000}))
        .step(json!({"do": "goaway"}))
        .step(json!({"do": "end"}))
        .closed()
        .start();
    eventually("the slow one is at the origin", || origin.count("/slow") == 1);
    crate::support::pause(std::time::Duration::from_millis(300));
    edge.sigterm();
    crate::support::pause(std::time::Duration::from_millis(500));
    assert!(edge.exited().is_none(), "it waits for the answer");
    gate.open();
    let told = running.told();
    assert_eq!(told.stream(1).expect(200).length(), 2000);
    assert_eq!((told.goaways().last(), told.closed()), (Some(&8), Some(0x100)), "{told:?}");
    assert!(edge.expect_exit().success());
}

#[test]
fn requests_after_the_last_goaway_are_rejected_as_never_begun() {
    let gate = Gate::new();
    let origin = Origin::start()
        .route("/slow", Reply::ok("").length(1000).steps(vec![Step::Wait(gate.clone()), Step::Pattern(1000)]))
        .route("*", Reply::ok("x"));
    let edge = Edge::of(&origin).tls().run();
    let running = Talk::with(&edge)
        .send("GET", "/slow", &[], json!({}))
        .step(json!({"do": "goaway"}))
        .step(json!({"do": "sleep_ms", "ms": 1000}))
        .send("GET", "/late", &[], json!({}))
        .end()
        .step(json!({"do": "ends"}))
        .start();
    eventually("the slow one is at the origin", || origin.count("/slow") == 1);
    edge.sigterm();
    crate::support::pause(std::time::Duration::from_millis(2000));
    gate.open();
    let told = running.told();
    told.stream(0).expect(200);
    assert_eq!((told.stream(1).status(), told.stream(1).reset()), (None, Some(0x10b)), "{told:?}");
    assert_eq!(origin.count("/late"), 0);
}

#[test]
fn a_reload_keeps_connections_and_their_next_requests_see_it() {
    let origin = Origin::start().route("*", Reply::ok("x"));
    let edge = Edge::of(&origin).tls().run();
    let running = Talk::with(&edge).get("/before").step(json!({"do": "sleep_ms", "ms": 2500})).get("/after").start();
    eventually("the first is answered", || origin.count("/before") == 1);
    edge.configure("sites.0.headers.response.set", json!({"X-Generation": "2"}));
    edge.reload();
    edge.expect_metric_at_least("reelgate_config_reloads_total", &[("outcome", "succeeded")], 1.0);
    let told = running.told();
    assert_eq!(told.failed(), None);
    assert_eq!(told.stream(0).expect(200).field("x-generation"), None);
    assert_eq!(told.stream(1).expect(200).field("x-generation"), Some("2"));
}

#[test]
fn certificates_change_without_a_restart_and_connections_stay() {
    let origin = Origin::start().route("*", Reply::ok("x"));
    let builder = Edge::of(&origin);
    let (cert, key) = certificate(builder.folder(), "old.test");
    let (new_cert, new_key) = certificate(builder.folder(), "new.test");
    let edge = builder
        .listen(json!({"tls": {"cert": cert.display().to_string(), "key": key.display().to_string()}, "http3": true}))
        .run();
    let ask = |name: &str, ca: &std::path::Path| {
        let talk = Talk::with(&edge).connect("name", name).connect("cafile", ca.display().to_string());
        let told = talk.get("/").start().told();
        told.failed().is_none() && told.stream(0).status() == Some(200)
    };
    let old = std::fs::read(&cert).expect("a certificate");
    let kept = edge.folder().join("kept.pem");
    std::fs::write(&kept, old).expect("written");
    assert!(ask("old.test", &kept));
    let running = Talk::with(&edge).get("/").step(json!({"do": "sleep_ms", "ms": 9000})).get("/").start();
    std::fs::copy(&new_key, &key).expect("the key is replaced");
    std::fs::copy(&new_cert, &cert).expect("the certificate is replaced");
    eventually("the new certificate is served", || ask("new.test", &new_cert));
    assert!(!ask("old.test", &kept), "the old one is gone");
    let told = running.told();
    told.stream(1).expect(200);
}
