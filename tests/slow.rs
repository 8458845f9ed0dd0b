//! Clients too slow for what they read: they stall no fill and no fast client, keep nothing in memory that others need, and get every
//! byte: from the disk, else from the origin under `If-Range`; where neither has that version, they are aborted, never cut short.

mod resumes;
mod sliced;

use crate::support::{
    Answer, Edge, EdgeBuilder, Gate, Origin, Player, Received, Reply, Speech, Step, eventually, patience, pattern,
    runtime,
};
use http::Method;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const MIB: usize = 1 << 20;
const MEMORY_MIB: usize = 64;
/// More than sockets and windows hold on the way, and less than a disk's queue takes.
const SLOW: usize = 15 * MIB;
/// Two fit into the memory, three do not.
const BARE: usize = 24 * MIB;
const OTHER: usize = 8 * MIB;

/// `/slow/…` is an object of [`SLOW`] bytes that answers ranges, in the version the counter is at, `/bare/…` one without any
/// validator, of [`BARE`] bytes; all else is [`OTHER`] bytes.
fn origin(version: &Arc<AtomicU64>) -> Origin {
    let version = Arc::clone(version);
    let body = pattern(SLOW);
    Origin::start().handle("*", move |request| {
        if request.path().starts_with("/slow/") {
            return ranged(request, &body, version.load(Ordering::SeqCst));
        }
        let bare = request.path().starts_with("/bare/");
        Reply::cacheable(pattern(if bare { BARE } else { OTHER }))
    })
}

fn ranged(request: &Received, body: &[u8], version: u64) -> Reply {
    let etag = format!("\"v{version}\"");
    let headers = |reply: Reply| {
        reply.header("Cache-Control", "max-age=3600").header("ETag", &etag).header("Accept-Ranges", "bytes")
    };
    let range = request.header("Range").filter(|_| request.header("If-Range").is_none_or(|known| known == etag));
    let Some(range) = range else { return headers(Reply::ok(body)) };
    let (first, last) = range.trim_start_matches("bytes=").split_once('-').expect("a range");
    let first: usize = first.parse().expect("first");
    let last = last.parse().unwrap_or(usize::MAX).min(body.len() - 1);
    let content_range = format!("bytes {first}-{last}/{}", body.len());
    headers(Reply::status_with(206, &body[first..=last])).header("Content-Range", &content_range)
}

/// Objects of this size are kept whole.
fn edge(origin: &Origin) -> EdgeBuilder {
    Edge::of(origin)
        .tls()
        .set("cache.memory", format!("{MEMORY_MIB}MiB"))
        .set("cache.hold_timeout", "200ms")
        .set("cache.slices.enabled", false)
}

async fn open(speech: Speech, edge: &Edge) -> Player {
    let narrow = (speech != Speech::Http3).then_some(4096);
    Player::open(speech, edge.speaks(speech), narrow).await.unwrap_or_else(|e| panic!("{speech:?}: {e}"))
}

/// Has begun to read, and stopped.
async fn stall(player: &mut Player, path: &str) -> Answer {
    stall_at(player, path, &[]).await
}

/// The same, of a request with these fields.
async fn stall_at(player: &mut Player, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut answer = player.ask(Method::GET, path, fields).await.expect("a head");
    assert_eq!(answer.status, if fields.is_empty() { 200 } else { 206 });
    assert!(answer.read(1000).await.expect("first bytes") == pattern(1000));
    answer
}

/// A fast client gets all of it, whatever slow ones do.
async fn expect_whole(edge: &Edge, path: &str, bytes: usize) {
    let mut player = Player::open(Speech::Http1, edge.speaks(Speech::Http1), None).await.expect("connected");
    let whole = tokio::time::timeout(patience(), async { player.get(path).await?.rest().await }).await;
    assert!(whole.expect("held up").expect("whole") == pattern(bytes), "{path}");
}

/// Others need the memory: all of them are kept at once, so what was there before is not.
fn press(edge: &Edge, name: &str) {
    let others: Vec<String> = (0..6).map(|at| format!("/other/{name}/{at}")).collect();
    eventually("others are kept in place of what slow clients hold", || {
        // Each several times in a row: what is asked for once comes up from no disk to stay.
        others.iter().for_each(|path| (0..3).for_each(|_| drop(edge.get(path))));
        // A disk gives them as hits too, and then nothing had to make room.
        let in_memory = || edge.metrics().value("reelgate_cache_tier_hits_total", &[("tier", "memory")]);
        let before = in_memory();
        others.iter().all(|path| edge.get(path).is_hit()) && in_memory() - before > others.len() as f64 - 0.5
    });
    let used = edge.metrics().value("reelgate_cache_bytes", &[("tier", "memory")]);
    assert!(used <= (MEMORY_MIB * MIB) as f64, "{used}");
    let (resident, bound) = (edge.resident_bytes() as usize / MIB, MEMORY_MIB * 115 / 100 + 64);
    assert!(resident <= bound, "{resident} MiB of {bound} MiB");
}

fn let_go(edge: &Edge, outcome: &str) -> f64 {
    edge.metrics().value("reelgate_cache_readers_let_go_total", &[("outcome", outcome)])
}

/// A slow client, whose request fills, and a slow follower of each protocol; the rest of what they get, once they read on.
fn rests(edge: &Edge, meanwhile: impl Fn(Speech)) -> Vec<Result<Vec<u8>, String>> {
    rests_of(edge, &Asked { prefix: "/slow/", suffix: "", fields: &[], bytes: SLOW }, meanwhile)
}

/// What slow clients ask for: between prefix and suffix is the name of what they speak.
struct Asked {
    prefix: &'static str,
    suffix: &'static str,
    fields: &'static [(&'static str, &'static str)],
    bytes: usize,
}

impl Asked {
    fn path(&self, speech: Speech) -> String {
        format!("{}{speech:?}{}", self.prefix, self.suffix)
    }
}

fn rests_of(edge: &Edge, asked: &Asked, meanwhile: impl Fn(Speech)) -> Vec<Result<Vec<u8>, String>> {
    let mut rests = Vec::new();
    for speech in Speech::ALL {
        let path = asked.path(speech);
        let mut players = runtime().block_on(async { [open(speech, edge).await, open(speech, edge).await] });
        let mut answers = Vec::new();
        runtime().block_on(async {
            for player in &mut players {
                answers.push(stall_at(player, &path, asked.fields).await);
            }
            expect_whole(edge, &path, asked.bytes).await;
        });
        meanwhile(speech);
        press(edge, &format!("{speech:?}"));
        runtime().block_on(async {
            for mut answer in answers {
                rests.push(answer.rest().await);
            }
        });
    }
    rests
}

fn assert_whole(rests: Vec<Result<Vec<u8>, String>>) {
    assert_whole_of(rests, SLOW);
}

fn assert_whole_of(rests: Vec<Result<Vec<u8>, String>>, bytes: usize) {
    let expected = pattern(bytes);
    for (at, rest) in rests.into_iter().enumerate() {
        let rest = rest.unwrap_or_else(|error| panic!("{:?}: {error}", Speech::ALL[at / 2]));
        assert!(rest == expected[1000..], "{:?}: {} bytes", Speech::ALL[at / 2], rest.len());
    }
}

#[test]
fn who_falls_behind_goes_on_from_the_disk() {
    let origin = origin(&Arc::default());
    let edge = edge(&origin).set("cache.disk", json!({"path": "./cache", "size": "1GiB"})).run();
    let rests = rests(&edge, |speech| {
        eventually("it is on the disk", || {
            edge.metrics().value("reelgate_disk_queue_bytes", &[]) < 1.0
                && edge.metrics().value("reelgate_disk_accepted_total", &[]) >= 1.0
        });
        assert_eq!(origin.count(&format!("/slow/{speech:?}")), 1);
    });
    let count = rests.len() as f64;
    assert_whole(rests);
    assert!((let_go(&edge, "disk") - count).abs() < 0.5, "{}", let_go(&edge, "disk"));
    for speech in Speech::ALL {
        assert_eq!(origin.count(&format!("/slow/{speech:?}")), 1, "the origin was not asked again");
    }
}

#[test]
fn without_a_disk_who_falls_behind_goes_on_from_the_origin() {
    let origin = origin(&Arc::default());
    let edge = edge(&origin).run();
    let rests = rests(&edge, |_| {});
    let count = rests.len() as f64;
    assert_whole(rests);
    assert!((let_go(&edge, "origin") - count).abs() < 0.5, "{}", let_go(&edge, "origin"));
    for request in origin.received().iter().filter(|request| request.header("Range").is_some()) {
        assert_eq!(request.header("If-Range").as_deref(), Some("\"v0\""));
        assert!(request.header("Range").is_some_and(|range| range.ends_with(&format!("-{}", SLOW - 1))));
    }
}

#[test]
fn who_falls_behind_a_version_that_is_no_more_is_aborted() {
    let version = Arc::default();
    let origin = origin(&version);
    let edge = edge(&origin).run();
    let rests = rests(&edge, |_| {
        version.fetch_add(1, Ordering::SeqCst);
    });
    let count = rests.len() as f64;
    assert!(rests.iter().all(Result::is_err), "{:?}", rests.iter().map(Result::is_err).collect::<Vec<_>>());
    assert!((let_go(&edge, "changed") - count).abs() < 0.5, "{}", let_go(&edge, "changed"));
}

#[test]
fn what_cannot_be_had_again_is_let_go_last_and_its_reader_aborted() {
    let origin = origin(&Arc::default());
    let edge = edge(&origin).run();
    for speech in Speech::ALL {
        let paths = [0, 1, 2].map(|at| format!("/bare/{at}/{speech:?}"));
        let mut players = runtime().block_on(async { [open(speech, &edge).await, open(speech, &edge).await] });
        let before = let_go(&edge, "aborted");
        let mut answers = runtime().block_on(async {
            let mut answers = Vec::new();
            for (player, path) in players.iter_mut().zip(&paths) {
                answers.push(stall(player, path).await);
                expect_whole(&edge, path, BARE).await;
            }
            answers
        });
        // Two are held, and a third fits only in place of one of them.
        eventually("the third is kept", || {
            drop(edge.get(&paths[2]));
            edge.get(&paths[2]).is_hit()
        });
        let rests = runtime().block_on(async {
            let mut rests = Vec::new();
            for answer in &mut answers {
                rests.push(answer.rest().await);
            }
            rests
        });
        let aborted = rests.iter().filter(|rest| rest.is_err()).count();
        assert!(aborted >= 1, "{speech:?}");
        assert!((let_go(&edge, "aborted") - before - aborted as f64).abs() < 0.5, "{speech:?}");
        assert!(rests.iter().flatten().all(|rest| *rest == pattern(BARE)[1000..]), "{speech:?}: whole or an error");
    }
}

/// Of unknown length, it turns out too large to keep while others follow it.
#[test]
fn who_follows_a_body_too_large_to_keep_goes_on_from_the_origin() {
    let (gate, body) = (Gate::new(), pattern(SLOW));
    let held = gate.clone();
    let origin = Origin::start().handle("*", move |request| {
        let whole = request.header("Range").is_none();
        let reply = ranged(request, &body, 0);
        let steps = [Step::Send(body[..MIB].to_vec()), Step::Wait(held.clone()), Step::Send(body[MIB..].to_vec())];
        if whole { reply.chunked().steps(steps.to_vec()) } else { reply }
    });
    let edge = edge(&origin).set("cache.object_max", "4MiB").run();
    for speech in Speech::ALL {
        gate.close();
        let path = format!("/slow/{speech:?}");
        runtime().block_on(async {
            // Its socket takes little at once, so that the origin has to be held back, and it still gets all of it.
            let mut owner = open(Speech::Http1, &edge).await;
            let mut owners = stall(&mut owner, &path).await;
            let owners = tokio::spawn(async move { owners.rest().await });
            let mut follower = open(speech, &edge).await;
            let mut followers = stall(&mut follower, &path).await;
            gate.open();
            assert!(followers.rest().await.expect("whole") == pattern(SLOW)[1000..], "{speech:?}");
            assert!(owners.await.expect("no panic").expect("whole") == pattern(SLOW)[1000..], "{speech:?}");
        });
        assert_eq!(origin.count(&path), 2, "{speech:?}");
    }
    assert!(let_go(&edge, "origin") >= Speech::ALL.len() as f64);
}
