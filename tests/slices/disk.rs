//! Heads and granules on a disk: they are entries like any other, so they come back like any other.

use super::film::Film;
use super::{MIB, get_range};
use crate::support::{Edge, EdgeBuilder, Origin, eventually};
use serde_json::json;

fn edge(origin: &Origin) -> EdgeBuilder {
    let disk = json!({"path": "./cache", "size": "1GiB"});
    Edge::of(origin).set("cache.disk", disk).set("cache.memory", "16MiB")
}

#[test]
fn a_film_larger_than_memory_is_played_again_from_the_disk_and_after_a_restart() {
    let film = Film::new(48 * MIB);
    let origin = film.origin();
    let edge = edge(&origin);
    let running = edge.clone().run();
    let whole = running.get("/film.mkv").expect_status(200);
    assert!(whole.complete && whole.body == film.bytes(0..48 * MIB));
    let sent = film.sent_bytes();
    assert_eq!(sent, 48 * MIB);
    // What a busy disk refused stays in memory, and is offered again.
    let parts = (48 * MIB / (64 << 10)) as f64;
    eventually("the disk has it all", || {
        let hit = running.get("/film.mkv").is_hit();
        hit && running.metrics().value("reelgate_cache_objects", &[("tier", "disk")]) > parts
    });
    assert_eq!(film.sent_bytes(), sent, "what memory has no room for comes from the disk");
    running.sigterm();
    running.expect_exit();
    let running = edge.clone().run();
    eventually("the disk is read again", || get_range(&running, "/film.mkv", 0..10).is_hit());
    let part = get_range(&running, "/film.mkv", 20 * MIB + 5..30 * MIB).expect_status(206).expect_hit();
    assert!(part.body == film.bytes(20 * MIB + 5..30 * MIB));
    assert!(running.get("/film.mkv").expect_hit().body == film.bytes(0..48 * MIB));
    assert_eq!(film.sent_bytes(), sent);
}
