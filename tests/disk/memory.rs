//! `cache.memory` is a bound on the process: resident memory stays within it, 15 % and 64 MiB, also with a disk below and under
//! load.

use super::world::{World, get_all, path};
use super::{MIB, edge_with};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const MEMORY: usize = 64;

#[test]
fn resident_memory_stays_within_the_bound_under_load() {
    let world = World::new();
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
        for clients in [64, 64, 32] {
            get_all(&edge, &paths, clients);
        }
        ended.store(true, Ordering::Release);
    });
    let (highest, cache) = (highest.into_inner() / MIB as u64, MEMORY as u64);
    let bound = cache + cache * 15 / 100 + 64;
    eprintln!("resident: {highest} MiB of {bound} MiB");
    assert!(highest <= bound, "{highest} MiB of {bound} MiB");
    let metrics = edge.metrics();
    let index = metrics.value("reelgate_disk_index_bytes", &[]);
    assert!(index > 0.0 && metrics.value("reelgate_cache_bytes", &[("tier", "memory")]) > index, "it is paid for");
    assert!(metrics.value("reelgate_cache_bytes", &[("tier", "memory")]) <= (MEMORY * MIB) as f64);
}
