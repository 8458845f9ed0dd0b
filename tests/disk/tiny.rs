//! `cache.memory` is a bound on the process also where objects are tiny: what they take beside their bytes (heads, keys, slots, places in
//! the policy, entries of a disk's index) is most of it, and is counted.

use super::world::{World, get_all, path};
use super::{MIB, edge_with};
use crate::support::{Edge, EdgeBuilder, Received, Reply};

const MEMORY: usize = 32;
/// More than the memory holds, of 20 to 500 bytes.
const OBJECTS: usize = 16_000;
/// Asked for first: connections, threads and what else grows with use and not with objects.
const WARM: usize = 500;
/// What is left of that after the first, in MiB.
const USE: u64 = 16;

/// As common origins answer; every third differs by a field of the request.
fn with_fields(request: &Received, reply: Reply) -> Reply {
    let reply = reply.header("Content-Type", "image/svg+xml").header("Server", "origin/1.0");
    let reply = reply.header("Last-Modified", "Tue, 03 Nov 2026 08:00:00 GMT").header("X-Request-Id", request.path());
    if request.path().len().is_multiple_of(3) { reply.header("Vary", "Accept-Encoding") } else { reply }
}

#[track_caller]
fn expect_bounded(edge: EdgeBuilder) -> Edge {
    let edge = edge.run();
    let paths: Vec<String> =
        (0..OBJECTS + WARM).map(|at| path("x".repeat(at % 7) + &at.to_string(), 20 + at % 481)).collect();
    get_all(&edge, &paths[..WARM], 16);
    let (warm, counted) = (edge.resident_bytes(), counted(&edge));
    get_all(&edge, &paths[WARM..], 16);
    let (resident, objects) =
        (edge.resident_bytes(), edge.metrics().value("reelgate_cache_objects", &[("tier", "memory")]));
    let (grown, more) =
        (resident.saturating_sub(warm) / MIB as u64, self::counted(&edge).saturating_sub(counted) / MIB as u64);
    let (resident, memory) = (resident / MIB as u64, MEMORY as u64);
    let bound = memory + memory * 15 / 100 + 64;
    eprintln!(
        "resident: {resident} MiB of {bound} MiB, grown {grown} MiB for {more} MiB that are counted, {objects} objects"
    );
    assert!(objects > 4000.0 && objects < OBJECTS as f64, "they fill the memory: {objects}");
    assert!(resident <= bound, "{resident} MiB of {bound} MiB");
    assert!(grown <= memory + memory * 15 / 100 + USE, "{grown} MiB more for {more} MiB that are counted");
    edge
}

fn counted(edge: &Edge) -> u64 {
    edge.metrics().value("reelgate_cache_bytes", &[("tier", "memory")]) as u64
}

#[test]
fn tiny_objects_stay_within_the_bound() {
    let world = World::with(with_fields);
    expect_bounded(
        Edge::of(&world.origin).set("cache.memory", format!("{MEMORY}MiB")).set("log.access.enabled", false),
    );
}

#[test]
fn tiny_objects_above_a_disk_stay_within_the_bound() {
    let world = World::with(with_fields);
    let edge = expect_bounded(edge_with(&world, &format!("{MEMORY}MiB"), "1GiB"));
    let disk = [("tier", "disk")];
    let (objects, index) =
        (edge.metrics().value("reelgate_cache_objects", &disk), edge.metrics().value("reelgate_disk_index_bytes", &[]));
    eprintln!("index: {index} bytes for {objects} objects");
    assert!(objects > 0.0, "some went down");
}
