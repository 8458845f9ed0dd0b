//! `cache.memory` is a bound on the process: resident memory stays within it, 15 % and 64 MiB, also with a disk below and under
//! load: hits in RAM, what comes up from the disk, fills that go down, and a film that is read in parts, all at once.

use super::world::{World, get_all, path};
use super::{MIB, edge_with};
use crate::support::{Connection, Edge, Received, Reply, Request};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const MEMORY: usize = 64;
/// Three times what the memory holds.
const FILM_BYTES: u64 = 3 * (MEMORY * MIB) as u64;
const VIEWERS: u64 = 6;
const SEEKS: u64 = 12;

/// Every eight bytes say where they are.
fn film(first: u64, last: u64) -> Vec<u8> {
    let words = first / 8..=last / 8;
    let bytes: Vec<u8> = words.flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let skip = (first % 8) as usize;
    bytes[skip..=skip + (last - first) as usize].to_vec()
}

/// `/film`, which answers ranges and is kept in parts.
fn with_film(request: &Received, reply: Reply) -> Reply {
    if request.path() != "/film" {
        return reply;
    }
    let range = request.header("Range").expect("nobody asks for all of it");
    let (first, last) = range.trim_start_matches("bytes=").split_once('-').expect("a range");
    let (first, last) = (first.parse().expect("first"), last.parse::<u64>().expect("last").min(FILM_BYTES - 1));
    let reply = Reply::status_with(206, film(first, last)).header("Cache-Control", "max-age=3600");
    reply.header("ETag", "\"film\"").header("Content-Range", &format!("bytes {first}-{last}/{FILM_BYTES}"))
}

/// Seeks in the film, and reads some MiB from there: nothing fits granules, and some of it others have read.
fn watch(edge: &Edge, viewer: u64) {
    let mut random = fastrand::Rng::with_seed(viewer);
    let mut connection = Connection::open(edge.http());
    for _ in 0..SEEKS {
        let first = random.u64(..FILM_BYTES - 1);
        let last = (first + random.u64(1..6 * MIB as u64)).min(FILM_BYTES - 1);
        let range = format!("bytes={first}-{last}");
        let response = connection.exchange(&Request::get("/film").header("Range", &range)).expect_status(206);
        assert!(response.complete && response.body == film(first, last), "{range}");
    }
}

#[test]
fn resident_memory_stays_within_the_bound_under_load() {
    let world = World::with(with_film);
    let edge = edge_with(&world, &format!("{MEMORY}MiB"), "2GiB").run();
    let sizes = [2_000, 60_000, 400_000, 2 << 20];
    let paths: Vec<String> = (0..400).map(|at| path(at, sizes[at % sizes.len()])).collect();
    let (ended, highest) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Acquire) {
                highest.fetch_max(edge.resident_bytes(), Ordering::Relaxed);
                crate::support::pause(Duration::from_millis(10));
            }
        });
        let watching: Vec<_> = (0..VIEWERS)
            .map(|viewer| {
                let edge = &edge;
                scope.spawn(move || watch(edge, viewer))
            })
            .collect();
        for clients in [64, 64, 32] {
            get_all(&edge, &paths, clients);
        }
        for viewer in watching {
            viewer.join().expect("right bytes");
        }
        ended.store(true, Ordering::Release);
    });
    let (highest, cache) = (highest.into_inner() / MIB as u64, MEMORY as u64);
    let bound = cache + cache * 15 / 100 + 64;
    eprintln!("resident: {highest} MiB of {bound} MiB");
    assert!(highest <= bound, "{highest} MiB of {bound} MiB");
    let metrics = edge.metrics();
    assert!(metrics.value("reelgate_slice_origin_bytes_total", &[]) > (MEMORY * MIB) as f64, "it was read in parts");
    assert!(metrics.value("reelgate_cache_tier_hits_total", &[("tier", "disk")]) > 0.0);
    let index = metrics.value("reelgate_disk_index_bytes", &[]);
    assert!(index > 0.0 && metrics.value("reelgate_cache_bytes", &[("tier", "memory")]) > index, "it is paid for");
    assert!(metrics.value("reelgate_cache_bytes", &[("tier", "memory")]) <= (MEMORY * MIB) as f64);
}
