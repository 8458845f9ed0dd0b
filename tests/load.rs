//! Many requests at once over every protocol: all answered, all right. No test here is about time.

use crate::support::{
    Curl, Edge, Nginx, Origin, Player, Reply, Request, Speech, eventually, h2load, pattern, pause, runtime,
};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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
        // One at a time: how misses collapse is another test's affair.
        expect_all_good(&h2load(&["-n", "1", "-c", "1", "--h1", &format!("{clear}/{file}")]), 1);
        for base in [&clear, &secure] {
            let url = format!("{base}/{file}");
            expect_all_good(&h2load(&["-n", "2000", "-c", "20", "-m", "10", &url]), 2000);
            expect_all_good(&h2load(&["-n", "2000", "-c", "20", "--h1", &url]), 2000);
        }
    }
    // Neither port nor scheme is a part of the key.
    // Its log is written after the answer.
    eventually("two lines in nginx's log", || nginx.requests() == 2);
    edge.expect_metric("reelgate_requests_total", &[("status", "200")], 16_002.0);
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

/// What a client of the load below sees: the versions purged when it asked, and the version it got.
async fn client(address: SocketAddr, floor: Arc<AtomicUsize>, over: Arc<AtomicUsize>) -> Result<usize, String> {
    let mut answers = 0;
    let mut player = Player::open(Speech::Http1, address, None).await?;
    while over.load(Ordering::SeqCst) == 0 {
        let least = floor.load(Ordering::SeqCst);
        let mut answer = player.get("/a").await?;
        let text = String::from_utf8(answer.rest().await?).map_err(|e| e.to_string())?;
        let version: usize = text.trim().parse().map_err(|e| format!("{} {text:?}: {e}", answer.status))?;
        if version < least {
            return Err(format!("version {version} after {least} was acknowledged: {}", answer.header("cache-status")));
        }
        answers += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(answers)
}

/// The acceptance: no request begun after the acknowledgement gets what was purged, and one origin fetch per miss.
#[test]
fn under_load_nothing_purged_is_answered_and_each_miss_is_one_fetch() {
    const CLIENTS: usize = 500;
    const PURGES: usize = 60;
    let version = Arc::new(AtomicUsize::new(0));
    let current = Arc::clone(&version);
    let origin = Origin::start().handle("/a", move |_| {
        let version = current.load(Ordering::SeqCst);
        pause(Duration::from_millis(10)); // others arrive meanwhile
        Reply::cacheable(format!("{version:>2000}")).header("Cache-Tag", "a")
    });
    let edge = Edge::of(&origin).run();
    let (floor, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| runtime().spawn(client(edge.http(), Arc::clone(&floor), Arc::clone(&over)))).collect();
    let selectors = [
        json!({ "url": "http://localhost/a" }),
        json!({ "tag": "a" }),
        json!({ "prefix": "http://localhost/" }),
        json!({ "all": true }),
        json!({ "url": "http://localhost/a", "soft": true }),
    ];
    for purged in 1..=PURGES {
        version.store(purged, Ordering::SeqCst);
        let selector = &selectors[purged % selectors.len()];
        let request = Request::new("POST", "/api/v1/purge").header("Content-Type", "application/json");
        request.header("Connection", "close").body(selector.to_string()).send(edge.admin()).expect_status(200);
        floor.store(purged, Ordering::SeqCst);
        // Some purges come one upon the other, some when all is at rest.
        pause(Duration::from_millis([5, 30, 120][purged % 3]));
    }
    over.store(1, Ordering::SeqCst);
    let answers = runtime().block_on(async {
        let mut answers = 0;
        for client in clients {
            answers += client.await.expect("a client does not panic").unwrap_or_else(|error| panic!("{error}"));
        }
        answers
    });
    assert!(answers > CLIENTS * 2, "{answers} answers are no load");
    let fetches = origin.count("/a");
    assert!((2..=PURGES + 1).contains(&fetches), "{fetches} fetches for {PURGES} purges");
}
