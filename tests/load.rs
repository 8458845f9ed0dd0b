//! Many requests at once over every protocol: all answered, all right. No test here is about time.

use crate::support::{Curl, Edge, Nginx, Origin, Reply, eventually, h2load, pattern};

/// h2load's words for a run without a fault, with this many answers of the class 2xx.
#[track_caller]
fn expect_all_good(report: &str, requests: usize) {
    assert!(report.contains(&format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout")), "{report}");
    assert!(report.contains(&format!("status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx")), "{report}");
}

#[test]
fn hits_over_every_protocol_are_all_good() {
    let nginx = Nginx::start().file("a.mp4", pattern(1000)).file("b.mp4", pattern(300_000));
    let edge = Edge::of_url(&nginx.url()).tls().run();
    let (clear, secure) = (format!("http://{}", edge.http()), format!("https://{}", edge.https()));
    for file in ["a.mp4", "b.mp4"] {
        for base in [&clear, &secure] {
            let url = format!("{base}/{file}");
            expect_all_good(&h2load(&["-n", "2000", "-c", "20", "-m", "10", &url]), 2000);
            expect_all_good(&h2load(&["-n", "2000", "-c", "20", "--h1", &url]), 2000);
        }
    }
    // Neither port nor scheme is a part of the key.
    // Its log is written after the answer.
    eventually("two lines in nginx's log", || nginx.requests() == 2);
    edge.expect_metric("reelgate_requests_total", &[("status", "200")], 16_000.0);
    assert!(Curl::https(edge.https(), "/b.mp4").http2().send().body == pattern(300_000));
}

#[test]
fn misses_at_once_are_all_good() {
    let origin = Origin::start().handle("*", |r| Reply::ok(format!("{:>200}", r.target)));
    let edge = Edge::of(&origin).tls().run();
    let secure = format!("https://{}/miss", edge.https());
    expect_all_good(&h2load(&["-n", "2000", "-c", "10", "-m", "10", &secure]), 2000);
    assert_eq!(origin.count("/miss"), 2000, "what may not be stored is asked for each time");
}
