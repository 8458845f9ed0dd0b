//! Many fills at once, as when a film is released: what a disk accepted is there afterwards, and what it refused is counted.
//!
//! `REELGATE_TEST_BURST=1000x4MiB` (objects × MiB each) makes it as large as a real one; by default 400 × 1 MiB.

use super::world::{World, get_all, path};
use super::{MIB, accepted, edge_with, kill, recovered, stop};
use crate::support::Edge;

const CLIENTS: usize = 64;

fn burst() -> Vec<String> {
    let asked = std::env::var("REELGATE_TEST_BURST").unwrap_or_else(|_| "400x1MiB".to_owned());
    let size = asked.strip_suffix("MiB").and_then(|size| size.split_once('x'));
    let size = size.and_then(|(count, mib)| Some((count.parse().ok()?, mib.parse::<usize>().ok()?)));
    let (count, mib): (usize, usize) =
        size.unwrap_or_else(|| panic!("REELGATE_TEST_BURST is not like 1000x4MiB: {asked}"));
    (0..count).map(|at| path(at, mib * MIB)).collect()
}

/// After the burst: what was accepted and not lost. Everything else was refused, with a reason.
fn expect_accounts(edge: &Edge, count: usize) -> u64 {
    let accepted = accepted(edge);
    let refused: f64 = edge.metrics().by("reelgate_disk_refused_total", "reason").iter().map(|(_, n)| n).sum();
    let lost = edge.metrics().value("reelgate_disk_lost_total", &[]);
    assert_eq!(accepted as f64 + lost + refused, count as f64, "accepted, lost and refused are all there is");
    eprintln!("{count} fills: {accepted} accepted, {refused} refused, {lost} lost");
    accepted
}

/// 400 MiB through a debug build, twice: some 20 s.
#[test]
fn after_a_clean_stop_all_that_was_accepted_is_a_hit() {
    let world = World::new();
    let edge = edge_with(&world, "64MiB", "8GiB");
    let running = edge.clone().run();
    let paths = burst();
    assert_eq!(get_all(&running, &paths, CLIENTS), 0);
    let accepted = expect_accounts(&running, paths.len());
    assert!(accepted > 0);
    stop(&running);
    let running = edge.run();
    recovered(&running);
    let hits = get_all(&running, &paths, CLIENTS);
    eprintln!("{hits} hits after a clean stop");
    assert!(hits as f64 >= accepted as f64 * 0.999 && hits <= accepted, "{hits} of {accepted}");
}

#[test]
fn after_kill_9_nearly_all_that_was_accepted_is_a_hit() {
    let world = World::new();
    let edge = edge_with(&world, "64MiB", "8GiB");
    let running = edge.clone().run();
    let paths = burst();
    assert_eq!(get_all(&running, &paths, CLIENTS), 0);
    let accepted = expect_accounts(&running, paths.len());
    kill(&running);
    let running = edge.run();
    recovered(&running);
    let hits = get_all(&running, &paths, CLIENTS);
    eprintln!("{hits} hits after kill -9");
    assert!(hits as f64 >= accepted as f64 * 0.95 && hits <= accepted, "{hits} of {accepted}");
}
