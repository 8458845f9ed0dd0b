//! Who waits for whom: many clients of one cold object, clients that stop reading or leave, and slow origins.

use super::film::Film;
use super::{MIB, get_range};
use crate::support::{Edge, Gate, Player, Speech, eventually, runtime};
use http::Method;
use std::time::{Duration, Instant};

async fn open(speech: Speech, edge: &Edge) -> Player {
    Player::open(speech, edge.speaks(speech), None).await.unwrap_or_else(|e| panic!("{speech:?}: {e}"))
}

#[test]
fn two_hundred_on_one_cold_object_fetch_no_byte_twice() {
    let gate = Gate::new();
    let film = Film::new(12 * MIB).gated(&gate);
    let origin = film.origin();
    let edge = Edge::of(&origin).tls().run();
    let body = film.bytes(0..12 * MIB);
    runtime().block_on(async {
        let mut clients = Vec::new();
        for i in 0..200_u64 {
            let mut player = open(Speech::ALL[i as usize % Speech::ALL.len()], &edge).await;
            clients.push(tokio::spawn(async move {
                // Half want all of it, half a range each of their own.
                let start = if i % 2 == 0 { 0 } else { i * 50_000 };
                let end = if i % 2 == 0 { 12 * MIB } else { start + 900_000 };
                let field = super::range(start..end);
                let fields: &[(&str, &str)] = if i % 4 == 0 { &[] } else { &[("range", &field)] };
                let mut answer = player.ask(Method::GET, "/film.mkv", fields).await?;
                Ok::<_, String>((start, end, answer.rest().await?))
            }));
        }
        eventually("all have asked", || edge.metrics().value("reelgate_requests_in_flight", &[]) >= 200.0);
        gate.open();
        for client in clients {
            let (start, end, got) = client.await.expect("a client ends").expect("whole");
            assert!(got == body[start as usize..end as usize], "{start}..{end}: {} bytes", got.len());
        }
    });
    assert_eq!(film.sent_twice(), 0);
    assert_eq!(film.sent_bytes(), 12 * MIB);
    edge.expect_metric_at_least("reelgate_slice_joins_total", &[], 1.0);
    edge.expect_metric("reelgate_slice_runs_in_flight", &[], 0.0);
}

#[test]
fn a_client_that_stops_reading_holds_nobody_up() {
    let film = Film::new(24 * MIB);
    let origin = film.origin();
    let edge = Edge::of(&origin).tls().set("cache.memory", "64MiB").set("limits.stall_timeout", "60s").run();
    runtime().block_on(async {
        for speech in Speech::ALL {
            let path = format!("/{speech:?}.mkv");
            let mut staller = Player::open(speech, edge.speaks(speech), Some(4096)).await.expect("a connection");
            let mut stalled = staller.get(&path).await.expect("a head");
            let seen = stalled.read(1000).await.expect("first bytes");
            assert_eq!(seen, film.bytes(0..1000), "{speech:?}");
            let mut player = open(Speech::Http1, &edge).await;
            let whole = async { player.get(&path).await?.rest().await };
            let whole = tokio::time::timeout(Duration::from_secs(15), whole).await.expect("held up").expect("whole");
            assert!(whole == film.bytes(0..24 * MIB), "{speech:?}");
            // It goes on where it stopped.
            let rest = stalled.rest().await.expect("the rest");
            assert!(rest == film.bytes(1000..24 * MIB), "{speech:?}");
            drop(staller);
        }
    });
    assert!(edge.metrics().value("reelgate_cache_bytes", &[("tier", "memory")]) <= 64.0 * MIB as f64);
}

#[test]
fn a_client_that_stalls_or_leaves_is_not_read_ahead_for() {
    let film = Film::new(200 * MIB);
    let origin = film.origin();
    let edge = Edge::of(&origin).tls().set("limits.stall_timeout", "60s").run();
    runtime().block_on(async {
        for speech in Speech::ALL {
            film.forget_sent();
            let path = format!("/{speech:?}.mkv");
            let mut staller = Player::open(speech, edge.speaks(speech), Some(4096)).await.expect("a connection");
            let mut stalled = staller.ask(Method::GET, &path, &[("range", "bytes=0-")]).await.expect("a head");
            stalled.read(1000).await.expect("first bytes");
            edge.expect_metric("reelgate_slice_runs_in_flight", &[], 0.0);
            drop(stalled);
            drop(staller);
            edge.expect_metric("reelgate_requests_in_flight", &[], 0.0);
            edge.expect_metric("reelgate_slice_runs_in_flight", &[], 0.0);
            assert!(film.sent_bytes() <= 24 * MIB, "{speech:?}: {} bytes", film.sent_bytes());
        }
    });
}

#[test]
fn a_slow_flow_of_the_origin_is_no_ceiling() {
    let film = Film::new(64 * MIB).paced(2 * MIB);
    let origin = film.origin();
    let edge = Edge::of(&origin).run();
    let began = Instant::now();
    let part = get_range(&edge, "/film.mkv", 0..24 * MIB).expect_status(206);
    let took = began.elapsed();
    assert!(part.body == film.bytes(0..24 * MIB));
    // By one flow it would take twelve seconds.
    assert!(took < Duration::from_secs(9), "{took:?}");
    assert_eq!(film.sent_twice(), 0);
}

#[test]
fn the_first_bytes_of_a_granule_do_not_wait_for_its_last() {
    let film = Film::new(64 * MIB).paced(100_000);
    let origin = film.origin();
    let edge = Edge::of(&origin).tls().run();
    runtime().block_on(async {
        for (i, speech) in Speech::ALL.into_iter().enumerate() {
            let mut player = open(speech, &edge).await;
            let start = 10 * MIB * (i as u64 + 1) + 100;
            let began = Instant::now();
            let field = format!("bytes={start}-");
            let mut answer = player.ask(Method::GET, "/film.mkv", &[("range", &field)]).await.expect("a head");
            let seen = answer.read(3000).await.expect("first bytes");
            assert!(seen == film.bytes(start..start + 3000), "{speech:?}");
            assert!(began.elapsed() < Duration::from_millis(450), "{speech:?}: {:?}", began.elapsed());
        }
    });
}

#[test]
fn what_a_leaving_client_asked_for_is_kept() {
    let gate = Gate::new();
    let film = Film::new(64 * MIB).gated(&gate);
    let origin = film.origin();
    let edge = Edge::of(&origin).run();
    runtime().block_on(async {
        let mut player = open(Speech::Http1, &edge).await;
        let leaving = player.ask(Method::GET, "/film.mkv", &[("range", "bytes=1048576-2097151")]);
        drop(tokio::time::timeout(Duration::from_millis(300), leaving).await);
    });
    gate.open();
    eventually("the range is stored", || get_range(&edge, "/film.mkv", MIB..2 * MIB).is_hit());
    assert_eq!(film.sent_twice(), 0);
    assert_eq!(film.sent_bytes(), MIB);
}

#[test]
fn a_store_far_smaller_than_the_film_still_plays_to_many() {
    let film = Film::new(40 * MIB);
    let origin = film.origin();
    let edge = Edge::of(&origin).tls().set("cache.memory", "8MiB").run();
    runtime().block_on(async {
        let mut clients = Vec::new();
        for i in 0..16_u64 {
            let speech = Speech::ALL[i as usize % Speech::ALL.len()];
            let mut player = open(speech, &edge).await;
            clients.push(tokio::spawn(async move {
                let start = i * MIB + 17;
                let field = super::range(start..start + 5 * MIB);
                let mut answer = player.ask(Method::GET, "/film.mkv", &[("range", &field)]).await?;
                Ok::<_, String>((start, answer.rest().await?))
            }));
        }
        for client in clients {
            let (start, got) = client.await.expect("a client ends").expect("whole");
            assert!(got == film.bytes(start..start + 5 * MIB), "{start}");
        }
    });
    let held = edge.metrics().value("reelgate_cache_bytes", &[("tier", "memory")]);
    assert!(held <= 8.0 * MIB as f64, "{held}");
}
