//! `kill -9` at random moments, under load: no wrong byte, and nothing that was purged comes back.
//!
//! `REELGATE_TEST_KILLS` sets the number of kills (20 by default), `REELGATE_TEST_SEED` the random numbers.

use super::world::{World, claimed, expect_bytes, path};
use super::{edge_with, kill, recovered};
use crate::support::{Connection, Edge, Request, pause};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const CLIENTS: usize = 6;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

struct Load {
    world: World,
    paths: Vec<String>,
    /// The oldest version that may be given to a request that begins now: that of the last purge which was acknowledged.
    floors: Mutex<HashMap<String, u64>>,
    answers: AtomicU64,
    hits: AtomicU64,
    purges: AtomicU64,
}

impl Load {
    fn floor(&self, path: &str) -> u64 {
        self.floors.lock().get(path).copied().unwrap_or(1)
    }

    /// Asks once; whatever came is right, whole or not. False: nobody is there any more.
    fn ask(&self, connection: &mut Connection, path: &str) -> bool {
        let floor = self.floor(path);
        let Some(answer) = connection.send(Request::get(path).to_bytes()).response("GET") else { return false };
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let version = claimed(&answer);
        assert!((floor..=self.world.version(path)).contains(&version), "{path}: v{version}, purged up to v{floor}");
        expect_bytes(path, version, 0, &answer.body, answer.complete);
        self.answers.fetch_add(u64::from(answer.complete), Ordering::Relaxed);
        self.hits.fetch_add(u64::from(answer.complete && answer.is_hit()), Ordering::Relaxed);
        answer.complete
    }

    fn read(&self, edge: &Edge, ended: &AtomicBool) {
        while !ended.load(Ordering::Acquire) {
            let Some(mut connection) = Connection::try_open(edge.http()) else { continue };
            while !ended.load(Ordering::Acquire)
                && self.ask(&mut connection, &self.paths[fastrand::usize(..self.paths.len())])
            {}
        }
    }

    /// Purges, and says so from when it was acknowledged.
    fn purge(&self, edge: &Edge, ended: &AtomicBool) {
        while !ended.load(Ordering::Acquire) {
            let path = &self.paths[fastrand::usize(..self.paths.len())];
            let version = self.world.change(path);
            let url = format!("http://localhost{path}");
            let tag = path.split('/').nth(2).expect("a name");
            let what = match fastrand::u8(..4) {
                0 => json!({ "url": url, "soft": true }),
                1 => json!({ "tag": tag }),
                2 => json!({ "prefix": url }),
                _ => json!({ "url": url }),
            };
            let request = Request::new("POST", "/api/v1/purge").header("Connection", "close");
            let request = request.header("Content-Type", "application/json").body(what.to_string());
            let Some(mut connection) = Connection::try_open(edge.admin()) else { continue };
            let answer = connection.send(request.to_bytes()).response("POST");
            if answer.is_some_and(|answer| answer.status == 200) {
                self.floors.lock().insert(path.clone(), version);
                self.purges.fetch_add(1, Ordering::Relaxed);
            }
            pause(Duration::from_millis(fastrand::u64(1..40)));
        }
    }
}

/// Twenty starts of a debug build and a second of load for each: some 30 s.
#[test]
fn killed_under_load_it_serves_no_wrong_byte_and_no_purged_one() {
    let kills = from_environment("REELGATE_TEST_KILLS", 20);
    let seed = from_environment("REELGATE_TEST_SEED", fastrand::u64(..));
    eprintln!("REELGATE_TEST_SEED={seed}");
    let sizes = [700, 40_000, 262_144, 900_000];
    let load = Load {
        world: World::new(),
        paths: (0..48).map(|at| path(at, sizes[at % sizes.len()])).collect(),
        floors: Mutex::default(),
        answers: AtomicU64::new(0),
        hits: AtomicU64::new(0),
        purges: AtomicU64::new(0),
    };
    // Less RAM than the objects take, and a disk that has to reclaim.
    let edge = edge_with(&load.world, "8MiB", "32MiB");
    let mut from_disk = 0.0;
    for round in 0..kills {
        let running = edge.clone().run();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS as u64 {
                let (load, running, ended) = (&load, &running, &ended);
                scope.spawn(move || {
                    fastrand::seed(seed ^ (round * 16 + client));
                    match client {
                        0 => load.purge(running, ended),
                        _ => load.read(running, ended),
                    }
                });
            }
            let mut random = fastrand::Rng::with_seed(seed ^ (round << 32));
            pause(Duration::from_millis(random.u64(50..900)));
            from_disk += running.metrics().value("reelgate_cache_tier_hits_total", &[("tier", "disk")]);
            kill(&running);
            ended.store(true, Ordering::Release);
        });
    }
    let running = edge.run();
    recovered(&running);
    let mut connection = Connection::open(running.http());
    assert!(load.paths.iter().all(|path| load.ask(&mut connection, path)), "it serves all of them");
    let counted = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (answers, hits, purges) = (counted(&load.answers), counted(&load.hits), counted(&load.purges));
    eprintln!("{kills} kills: {answers} answers, {hits} hits, {from_disk} objects from the disk, {purges} purges");
    assert!(from_disk >= kills as f64 && purges >= kills, "{from_disk} objects came from the disk, {purges} purges");
}
