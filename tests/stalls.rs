//! Who waits for whom: first bytes that must not wait for the last, clients that stop reading or leave while others want the same
//! object, and many on one cold object. On HTTP/1.1 and HTTP/2, in clear and over TLS, and on HTTP/3.

use crate::support::{
    Answer, Edge, Gate, Origin, Player, Reply, Request, Speech, Step, eventually, letters, patience, pattern, pause,
    runtime,
};
use http::Method;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Answers `/a` with `first`, then, once the gate is open, with the rest of `body`.
fn paused(gate: &Gate, body: &[u8], first: usize, cacheable: bool) -> Origin {
    let steps = vec![Step::Send(body[..first].to_vec()), Step::Wait(gate.clone()), Step::Send(body[first..].to_vec())];
    let reply = if cacheable { Reply::cacheable("") } else { Reply::ok("") };
    Origin::start().route("/a", reply.length(body.len() as u64).steps(steps))
}

async fn open(speech: Speech, edge: &Edge) -> Player {
    Player::open(speech, edge.speaks(speech), None).await.unwrap_or_else(|e| panic!("{speech:?}: {e}"))
}

/// The head and `first` come although the origin pauses after them.
async fn expect_first(speech: Speech, who: &str, player: &mut Player, first: &[u8]) -> Answer {
    let began = Instant::now();
    let mut answer = player.get("/a").await.unwrap_or_else(|e| panic!("{speech:?}, {who}: the head: {e}"));
    assert_eq!(answer.status, 200);
    let seen = answer.read(first.len()).await.unwrap_or_else(|e| panic!("{speech:?}, {who}: the first bytes: {e}"));
    assert_eq!(seen, first, "{speech:?}, {who}");
    assert!(began.elapsed() < Duration::from_secs(5), "{speech:?}, {who}: {:?}", began.elapsed());
    answer
}

#[test]
fn the_first_bytes_come_before_the_last_exist() {
    for cacheable in [false, true] {
        for speech in Speech::ALL {
            let (gate, body) = (Gate::new(), letters(0, 3000).into_bytes());
            let origin = paused(&gate, &body, 7, cacheable);
            let edge = Edge::of(&origin).tls().run();
            runtime().block_on(async {
                let mut player = open(speech, &edge).await;
                let mut answer = expect_first(speech, "the first client", &mut player, &body[..7]).await;
                // A follower of the running fill reads nothing from its client meanwhile.
                let mut second = open(speech, &edge).await;
                let mut follower = match cacheable {
                    true => Some(expect_first(speech, "a follower", &mut second, &body[..7]).await),
                    false => None,
                };
                gate.open();
                for answer in follower.iter_mut().chain([&mut answer]) {
                    assert_eq!(answer.rest().await.expect("whole"), &body[7..], "{speech:?}");
                }
            });
            assert_eq!(origin.count("/a"), 1);
        }
    }
}

#[test]
fn pieces_of_a_fill_reach_a_follower_as_they_come() {
    let gates = [Gate::new(), Gate::new(), Gate::new()];
    let body = letters(1, 300).into_bytes();
    let steps: Vec<Step> = gates
        .iter()
        .zip(body.chunks(100))
        .flat_map(|(gate, piece)| [Step::Wait(gate.clone()), Step::Send(piece.to_vec())])
        .collect();
    for chunked in [false, true] {
        gates.iter().for_each(Gate::close);
        let reply = Reply::cacheable("").steps(steps.clone());
        let origin = Origin::start().route("/a", if chunked { reply.chunked() } else { reply.length(300) });
        let edge = Edge::of(&origin).tls().run();
        runtime().block_on(async {
            let mut players = Vec::new();
            for speech in Speech::ALL {
                players.push((speech, open(speech, &edge).await));
            }
            let mut answers = Vec::new();
            for (speech, player) in &mut players {
                answers.push((*speech, player.get("/a").await.expect("a head before any byte of the body")));
            }
            for (gate, piece) in gates.iter().zip(body.chunks(100)) {
                gate.open();
                for (speech, answer) in &mut answers {
                    let seen = answer.read(100).await;
                    assert_eq!(seen.as_deref(), Ok(piece), "{speech:?}, chunked: {chunked}");
                }
            }
        });
        assert_eq!(origin.count("/a"), 1);
    }
}

const LARGE: usize = 4 << 20;

#[test]
fn two_hundred_on_one_cold_object_are_one_request_and_stream() {
    let (gate, body) = (Gate::new(), pattern(LARGE));
    let origin = paused(&gate, &body, 1 << 20, true);
    let edge = Edge::of(&origin).tls().run();
    let begun = Arc::new(AtomicUsize::new(0));
    runtime().block_on(async {
        let mut clients = Vec::new();
        for i in 0..200 {
            let mut player = open(Speech::ALL[i % Speech::ALL.len()], &edge).await;
            let begun = Arc::clone(&begun);
            clients.push(tokio::spawn(async move {
                let mut answer = player.get("/a").await?;
                let mut all = answer.read(100_000).await?;
                begun.fetch_add(1, Ordering::SeqCst);
                all.extend(answer.rest().await?);
                Ok::<_, String>(all)
            }));
        }
        // Each has its first bytes before the origin has sent its last.
        let all_begun = async {
            while begun.load(Ordering::SeqCst) < 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let streamed = tokio::time::timeout(patience(), all_begun).await;
        assert!(streamed.is_ok(), "only {begun:?} of 200 had their first bytes while the fill ran");
        gate.open();
        for client in clients {
            assert!(client.await.expect("a client ends").expect("whole") == body, "another body");
        }
    });
    assert_eq!(origin.count("/a"), 1);
}

/// The first client of a cold object stops reading; a second one wants it all.
async fn second_gets(first: Speech, edge: &Edge, path: &str, body: &[u8]) -> Result<(), String> {
    let mut staller = Player::open(first, edge.speaks(first), Some(4096)).await?;
    let mut stalled = staller.get(path).await?;
    stalled.read(1000).await?;
    let mut player = open(Speech::Http1, edge).await;
    let whole = tokio::time::timeout(Duration::from_secs(8), async { player.get(path).await?.rest().await }).await;
    let whole = whole.map_err(|_| "held up by the first client".to_owned())??;
    (whole == body).then_some(()).ok_or_else(|| format!("{} bytes", whole.len()))?;
    // The first one goes on where it stopped.
    let rest = stalled.rest().await?;
    (rest == body[1000..]).then_some(()).ok_or_else(|| "the first client's rest differs".to_owned())
}

#[test]
fn a_first_client_that_stops_reading_holds_nobody_up() {
    let body = pattern(16 << 20);
    let origin =
        Origin::start().handle("*", |_| Reply::cacheable("").length(16 << 20).steps(vec![Step::Pattern(16 << 20)]));
    let edge = Edge::of(&origin).tls().set("cache.memory", "256MiB").run();
    runtime().block_on(async {
        for speech in Speech::ALL {
            let path = format!("/{speech:?}");
            let got = second_gets(speech, &edge, &path, &body).await;
            assert_eq!(got, Ok(()), "{speech:?}");
            assert_eq!(origin.count(&path), 1, "{speech:?}");
        }
    });
}

#[test]
fn a_client_that_leaves_mid_fill_leaves_the_fill_running() {
    for speech in Speech::ALL {
        let (gate, body) = (Gate::new(), pattern(1 << 20));
        let origin = paused(&gate, &body, 200_000, true);
        let edge = Edge::of(&origin).tls().run();
        runtime().block_on(async {
            let mut player = open(speech, &edge).await;
            let mut answer = player.get("/a").await.expect("a head");
            answer.read(1000).await.expect("first bytes");
            drop(answer);
            drop(player);
        });
        gate.open();
        eventually("the object is whole without its first client", || edge.get("/a").is_hit());
        let hit = edge.get("/a").expect_hit();
        assert!(hit.complete && hit.body == body, "{speech:?}");
        assert_eq!(origin.count("/a"), 1, "{speech:?}");
        edge.expect_metric("reelgate_requests_in_flight", &[], 0.0);
    }
}

/// Of 300,000 bytes 200,000 come at once and the rest in small pieces for two seconds: `cache.background_fill` decides.
#[test]
fn a_fill_whose_client_left_goes_on_as_configured_and_always_with_a_follower() {
    let body = pattern(300_000);
    let rest = body[200_000..]
        .chunks(1000)
        .flat_map(|piece| [Step::Pause(Duration::from_millis(20)), Step::Send(piece.to_vec())]);
    let steps: Vec<Step> = [Step::Send(body[..200_000].to_vec())].into_iter().chain(rest).collect();
    let reply = Reply::cacheable("").length(body.len() as u64).steps(steps);
    for (policy, followed, goes_on) in [("never", false, false), ("never", true, true), ("half", false, true)] {
        for speech in Speech::ALL {
            let origin = Origin::start().route("/a", reply.clone());
            let edge = Edge::of(&origin).tls().set("cache.background_fill", policy).run();
            runtime().block_on(async {
                let mut first = open(speech, &edge).await;
                let mut answer = first.get("/a").await.expect("a head");
                answer.read(160_000).await.expect("more than half");
                let mut second = open(speech, &edge).await;
                let mut follower = None;
                if followed {
                    follower = Some(second.get("/a").await.expect("a head"));
                }
                drop((answer, first));
                if let Some(follower) = &mut follower {
                    let all = follower.rest().await.expect("whole");
                    assert!(all == body, "{policy}, {speech:?}: {} bytes", all.len());
                }
            });
            let outcome = if goes_on { "complete" } else { "cancelled" };
            edge.expect_metric("reelgate_cache_fills_total", &[("outcome", outcome)], 1.0);
            edge.expect_metric("reelgate_requests_in_flight", &[], 0.0);
            let next = edge.get("/a");
            assert!(next.is_hit() == goes_on && next.body == body, "{policy}, {speech:?}: {next:?}");
            assert_eq!(origin.count("/a"), if goes_on { 1 } else { 2 }, "{policy}, {speech:?}");
        }
    }
}

const KEPT: usize = 4 << 20;

/// What lies on a disk only, and may not be given: stale, softly purged, purged by its URL, its tag or all. Whoever meets it fetches it anew.
#[test]
fn a_first_client_of_what_only_a_disk_has_and_may_not_be_given_holds_nobody_up() {
    let body = pattern(KEPT);
    let ages = Arc::new(AtomicBool::new(true));
    let aged = Arc::clone(&ages);
    let origin = Origin::start().handle("*", move |request| {
        let seconds = if request.path().starts_with("/stale/") && aged.load(Ordering::SeqCst) { 1 } else { 3600 };
        let reply = Reply::ok("").length(KEPT as u64).steps(vec![Step::Pattern(KEPT as u64)]);
        reply.header("Cache-Control", &format!("max-age={seconds}")).header("Cache-Tag", &request.path()[1..4])
    });
    let builder = Edge::of(&origin).tls().set("cache.disk", json!({"path": "./cache", "size": "1GiB"}));
    let filling = builder.clone().run();
    let ways = ["stale", "soft", "url", "tag", "all"];
    let paths = |way: &str| Speech::ALL.map(|speech| (speech, format!("/{way}/{speech:?}")));
    ways.iter().flat_map(|way| paths(way)).for_each(|(_, path)| assert_eq!(filling.get(&path).status, 200));
    let filled = Instant::now();
    eventually("all of it is on the disk", || {
        let metrics = filling.metrics();
        metrics.value("reelgate_cache_objects", &[("tier", "disk")]) >= (ways.len() * Speech::ALL.len()) as f64
            && metrics.value("reelgate_disk_queue_bytes", &[]) < 1.0
    });
    filling.sigterm();
    filling.expect_exit();
    // In a new process RAM is empty.
    ages.store(false, Ordering::SeqCst);
    let edge = builder.run();
    eventually("the disk's index is rebuilt", || {
        edge.metrics().value("reelgate_disk_state", &[("state", "recovering")]) < 0.5
    });
    edge.get("/tag/Http1").expect_hit();
    // Older than a second.
    pause(Duration::from_secs(3).saturating_sub(filled.elapsed()));
    let purge = |what: serde_json::Value| {
        let request = Request::new("POST", "/api/v1/purge").header("Content-Type", "application/json");
        request.header("Connection", "close").body(what.to_string()).send(edge.admin()).expect_status(200);
    };
    for way in ways {
        match way {
            "tag" => purge(json!({"tag": "tag"})),
            "all" => purge(json!({"all": true})),
            _ => {}
        }
        for (speech, path) in paths(way) {
            if matches!(way, "soft" | "url") {
                purge(json!({"url": format!("http://localhost{path}"), "soft": way == "soft"}));
            }
            let got = runtime().block_on(second_gets(speech, &edge, &path, &body));
            assert_eq!(got, Ok(()), "{way}, {speech:?}");
            assert_eq!(origin.count(&path), 2, "{way}, {speech:?}: kept once, fetched anew once");
        }
    }
}

/// A client that wants what is kept validated, and one that wants a variant that is not kept, fetch too.
#[test]
fn a_client_that_has_something_validated_or_wants_another_variant_holds_no_fill_up() {
    let body = pattern(KEPT);
    let origin = Origin::start().handle("*", |_| {
        let reply = Reply::ok("").length(KEPT as u64).steps(vec![Step::Pattern(KEPT as u64)]);
        reply.header("Cache-Control", "max-age=3600").header("Vary", "X-Kind")
    });
    let edge = Edge::of(&origin).tls().run();
    let mut fills = 0.0;
    for speech in Speech::ALL {
        for (field, value) in [("cache-control", "no-cache"), ("x-kind", "other")] {
            let path = format!("/{field}/{speech:?}");
            edge.get(&path);
            edge.get(&path).expect_hit();
            runtime().block_on(async {
                let mut staller = Player::open(speech, edge.speaks(speech), Some(4096)).await.expect("connected");
                let mut stalled = staller.ask(Method::GET, &path, &[(field, value)]).await.expect("a head");
                stalled.read(1000).await.expect("first bytes");
                fills += 2.0;
                eventually(&format!("{field}, {speech:?}: it is filled though its client reads nothing"), || {
                    edge.metrics().value("reelgate_cache_fills_total", &[("outcome", "complete")]) >= fills
                });
                assert!(stalled.rest().await.expect("whole") == body[1000..], "{field}, {speech:?}");
            });
            assert_eq!(origin.count(&path), 2, "{field}, {speech:?}");
        }
    }
}
