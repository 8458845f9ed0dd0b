//! More than RAM holds, several disks, disks of another size, and disks that are taken away.

use super::world::{World, body, get_all, path};
use super::{MIB, accepted, edge_with, recovered, stop};
use crate::support::{Edge, EdgeBuilder, Request};
use serde_json::json;

fn paths(count: usize, bytes: usize) -> Vec<String> {
    (0..count).map(|at| path(at, bytes)).collect()
}

/// A quarter of RAM waits for the disk at most, so fills come faster than a loaded disk may write: what is refused is fetched
/// again, until all is there.
fn fill(edge: &Edge, paths: &[String], clients: usize) {
    for _ in 0..10 {
        if get_all(edge, paths, clients) == paths.len() as u64 {
            return;
        }
    }
    panic!("{} of {} are on the disks; refused: {:?}", accepted(edge), paths.len(), refusals(edge));
}

fn refusals(edge: &Edge) -> Vec<(String, f64)> {
    edge.metrics().by("reelgate_disk_refused_total", "reason")
}

#[test]
fn what_ram_cannot_hold_is_served_from_the_disk_again_and_again() {
    let world = World::new();
    let edge = edge_with(&world, "8MiB", "1GiB");
    let running = edge.clone().run();
    let paths = paths(200, MIB);
    fill(&running, &paths, 4);
    let asked = world.asked();
    for _ in 0..2 {
        assert_eq!(get_all(&running, &paths, 4), 200);
    }
    assert_eq!(world.asked(), asked, "nothing was asked for again");
    let metrics = running.metrics();
    assert!(metrics.value("reelgate_cache_tier_hits_total", &[("tier", "disk")]) > 300.0);
    assert!(metrics.value("reelgate_cache_bytes", &[("tier", "memory")]) <= (8 * MIB) as f64);
    stop(&running);
    let running = edge.run();
    recovered(&running);
    assert_eq!(get_all(&running, &paths, 4), 200);
    assert_eq!(world.asked(), asked);
}

#[test]
fn a_scan_of_the_disk_drives_nothing_out_of_ram_and_what_returns_soon_comes_up() {
    let world = World::new();
    let edge = edge_with(&world, "32MiB", "1GiB").run();
    let paths = paths(400, 200_000);
    fill(&edge, &paths, 4);
    let told = |tier| edge.metrics().value("reelgate_cache_tier_hits_total", &[("tier", tier)]);
    let evictions = || edge.metrics().value("reelgate_cache_evictions_total", &[("tier", "memory")]);
    let (evicted, below) = (evictions(), told("disk"));
    // What RAM holds answers a part of it.
    assert_eq!(get_all(&edge, &paths, 1), 400);
    assert!(evictions() - evicted < 20.0 && told("disk") - below > 200.0, "{} evicted", evictions() - evicted);
    let above = told("memory");
    for _ in 0..3 {
        edge.get(&paths[0]).expect_hit();
    }
    assert!(told("memory") > above, "it came up at its second hit");
}

/// It was a miss, fetched again and refused again, as long as RAM was in use.
#[test]
fn what_ram_has_no_room_for_is_read_from_the_disk_as_it_is_asked_for() {
    let world = World::new();
    let edge = edge_with(&world, "128MiB", "1GiB");
    let running = edge.clone().run();
    let paths = paths(3, 12 * MIB + 77);
    fill(&running, &paths, 2);
    let asked = world.asked();
    stop(&running);
    let running = edge.set("cache.memory", "8MiB").run();
    recovered(&running);
    assert_eq!(get_all(&running, &paths, 8), 3);
    let whole = body(&paths[0], 1);
    for (range, bytes) in
        [("bytes=0-0", 0..1), ("bytes=262143-262144", 262_143..262_145), ("bytes=-5", 12 * MIB + 72..12 * MIB + 77)]
    {
        let answer = running.send(&Request::get(&paths[0]).header("Range", range)).expect_status(206).expect_hit();
        assert!(answer.body == whole[bytes], "{range}");
    }
    assert_eq!(world.asked(), asked, "nothing was asked for again");
    running.expect_metric_at_least("reelgate_cache_tier_hits_total", &[("tier", "disk")], 6.0);
    assert!(running.metrics().value("reelgate_cache_bytes", &[("tier", "memory")]) <= (8 * MIB) as f64);
}

fn with_disks(world: &World, disks: &[(&str, &str)]) -> EdgeBuilder {
    let disks: Vec<_> = disks.iter().map(|(path, size)| json!({"path": path, "size": size})).collect();
    edge_with(world, "64MiB", "1GiB").set("cache.disk", disks)
}

#[test]
fn several_disks_share_the_objects_and_one_that_is_taken_away_takes_only_its_own() {
    let world = World::new();
    let edge = with_disks(&world, &[("./a", "256MiB"), ("./b", "512MiB"), ("./c", "256MiB")]);
    let running = edge.clone().run();
    let paths = paths(120, 200_000);
    fill(&running, &paths, 4);
    stop(&running);
    let running = edge.clone().run();
    recovered(&running);
    assert_eq!(get_all(&running, &paths, 4), 120);
    let objects = |disk: &str| running.metrics().value("reelgate_disk_read_bytes_total", &[("disk", disk)]);
    let shares = [objects("0"), objects("1"), objects("2")];
    assert!(shares.iter().all(|bytes| *bytes > 12.0 * 200_000.0), "{shares:?}");
    assert!(shares[1] > shares[0] && shares[1] > shares[2], "by size: {shares:?}");
    stop(&running);
    let third = (shares[2] / 200_000.0).floor() as u64;
    let fewer =
        edge.clone().set("cache.disk", json!([{"path": "./a", "size": "256MiB"}, {"path": "./b", "size": "512MiB"}]));
    let running = fewer.run();
    recovered(&running);
    assert_eq!(get_all(&running, &paths, 4), 120 - third, "the others keep theirs");
    stop(&running);
    // Back again, it brings what it had.
    let running = edge.run();
    recovered(&running);
    assert_eq!(get_all(&running, &paths, 4), 120);
}

#[test]
fn without_the_disk_that_has_the_purges_nothing_is_trusted() {
    let world = World::new();
    let edge = with_disks(&world, &[("./a", "64MiB"), ("./b", "64MiB")]);
    let running = edge.clone().run();
    let paths = paths(20, 50_000);
    fill(&running, &paths, 4);
    stop(&running);
    let running = edge.clone().set("cache.disk", json!([{"path": "./b", "size": "64MiB"}])).run();
    recovered(&running);
    assert_eq!(get_all(&running, &paths, 4), 0, "another log of purges counted these");
    assert_eq!(get_all(&running, &paths, 4), 20);
    stop(&running);
}

#[test]
fn a_larger_disk_keeps_all_and_a_smaller_one_what_fits() {
    let world = World::new();
    let sized = |size: &str| with_disks(&world, &[("./cache", size)]);
    let paths = paths(100, 500_000);
    let edge = sized("128MiB");
    let folder = edge.folder().to_owned();
    let at_size = |size: &str| edge.clone().set("cache.disk.0.size", size);
    let running = edge.clone().run();
    fill(&running, &paths, 4);
    stop(&running);
    let running = at_size("1GiB").run();
    recovered(&running);
    assert_eq!(get_all(&running, &paths, 4), 100);
    stop(&running);
    let running = at_size("32MiB").run();
    recovered(&running);
    // The latest are there. Whatever is missing is filled again and takes the place of the oldest, so the latest are asked first.
    let latest_first: Vec<String> = paths.iter().rev().cloned().collect();
    let hits = get_all(&running, &latest_first, 2);
    assert!((20..100).contains(&hits), "{hits} of about 60 that fit");
    stop(&running);
    let files = std::fs::read_dir(folder.join("cache")).expect("the folder is there");
    let bytes: u64 = files.filter_map(|file| file.ok()?.metadata().ok()).map(|file| file.len()).sum();
    assert!(bytes <= 33 << 20, "{bytes}");
}

#[test]
fn what_was_asked_for_and_leaves_ram_is_offered_again_to_a_disk_that_lacks_it() {
    let world = World::new();
    let edge = edge_with(&world, "16MiB", "8MiB").run();
    let hot = paths(24, 400_000);
    for path in &hot {
        // In RAM, while the disk has it.
        assert_eq!(get_all(&edge, &[path.clone(), path.clone()], 1), 1);
    }
    // The first of them were reclaimed by then; what is asked for once drives them from RAM.
    let once: Vec<String> = (0..60).map(|at| path(format!("once-{at}"), 400_000)).collect();
    get_all(&edge, &once, 1);
    let metrics = edge.metrics();
    let offered =
        metrics.value("reelgate_disk_accepted_total", &[]) + metrics.value("reelgate_disk_refused_total", &[]);
    let filled = metrics.value("reelgate_cache_fills_total", &[("outcome", "complete")]);
    assert!(offered > filled, "{offered} offered, {filled} filled");
}
