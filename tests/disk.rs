//! The hybrid store through the whole edge: what was kept comes back after a restart, after `kill -9` and from damaged disks,
//! or not at all; never wrong, and never after it was purged.
//!
//! Every body says its URL, its version and the place of each part ([`World`]), and every answer is compared with it byte for
//! byte. `restart`: after a clean stop; `purged`: what must not come back; `larger`: more than RAM holds, several disks, other
//! sizes; `burst`: many fills at once; `killed`: `kill -9` under load; `faults`: disks that fail, files that are damaged; `model`:
//! random operations against a model; `memory`: the bound under load; `tiny`: the bound
//! where objects are tiny; `told`: what operators see.

mod burst;
mod faults;
mod killed;
mod larger;
mod memory;
mod model;
mod purged;
mod restart;
mod tiny;
mod told;
mod world;

use crate::support::{Edge, EdgeBuilder, Request, Response, eventually};
use serde_json::{Value, json};
use world::World;

const MIB: usize = 1 << 20;

fn edge(world: &World) -> EdgeBuilder {
    edge_with(world, "64MiB", "1GiB")
}

fn edge_with(world: &World, memory: &str, disk: &str) -> EdgeBuilder {
    Edge::of(&world.origin)
        .set("cache.memory", memory)
        .set("cache.disk", json!({"path": "./cache", "size": disk}))
        .set("log.access.enabled", false)
}

/// SIGTERM, and the process ends well.
#[track_caller]
fn stop(edge: &Edge) {
    edge.sigterm();
    assert_eq!(edge.expect_exit().code(), Some(0));
}

/// SIGKILL.
fn kill(edge: &Edge) {
    edge.signal("KILL");
    edge.expect_exit();
}

#[track_caller]
fn purge(edge: &Edge, purge: &Value) -> Response {
    let request = Request::new("POST", "/api/v1/purge").header("Connection", "close");
    let request = request.header("Content-Type", "application/json").body(purge.to_string());
    request.send(edge.admin()).expect_status(200)
}

/// Everything accepted is in the files: `kill -9` loses nothing of it.
#[track_caller]
fn written(edge: &Edge, objects: usize) {
    eventually("all that was accepted is written", || {
        let metrics = edge.metrics();
        metrics.value("reelgate_disk_accepted_total", &[]) >= objects as f64
            && metrics.value("reelgate_cache_objects", &[("tier", "disk")]) >= objects as f64
            && metrics.value("reelgate_disk_queue_bytes", &[]) < 1.0
    });
}

/// The index is whole.
#[track_caller]
fn recovered(edge: &Edge) {
    eventually("the disks' indexes are rebuilt", || {
        edge.metrics().value("reelgate_disk_state", &[("state", "recovering")]) < 0.5
    });
}

/// What a disk took and did not lose, over all disks.
fn accepted(edge: &Edge) -> u64 {
    let metrics = edge.metrics();
    (metrics.value("reelgate_disk_accepted_total", &[]) - metrics.value("reelgate_disk_lost_total", &[])) as u64
}
