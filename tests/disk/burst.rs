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

/// After the burst: what was accepted and not lost. Everything else was refused, with a reason: by RAM, where all of it was in
/// use, or by the disk.
fn expect_accounts(edge: &Edge, count: usize) -> u64 {
    edge.expect_metric("reelgate_cache_fills_total", &[], count as f64);
    let (metrics, accepted) = (edge.metrics(), accepted(edge));
    let fills = metrics.value("reelgate_cache_fills_total", &[("outcome", "complete")]);
    let refused = metrics.by("reelgate_disk_refused_total", "reason");
    let lost = metrics.value("reelgate_disk_lost_total", &[]);
    eprintln!("{count} asked for, {fills} filled: {accepted} accepted, {lost} lost, refused: {refused:?}");
    let refused: f64 = refused.iter().map(|(_, n)| n).sum();
    // Refused once and offered again, when it had to leave RAM while it was read, one is counted twice.
    assert!(accepted as f64 + lost + refused >= fills, "accepted, lost and refused are all there is");
    assert!(accepted as f64 <= fills);
    accepted
}

/// 400 MiB through a debug build, twice: some 20 s.
#[test]
fn after_a_clean_stop_all_that_was_accepted_is_a_hit() {
    let world = World::new();
    let edge = edge_with(&world, "256MiB", "8GiB");
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

/// Killed at once, with a queue as full as it is: what the edge said was written is there, all of it. Of what was only accepted, the
/// queue's worth may be gone, at most `cache.memory` / 4 and 64 MiB.
#[test]
fn after_kill_9_all_that_was_written_is_a_hit() {
    let world = World::new();
    let edge = edge_with(&world, "256MiB", "8GiB");
    let running = edge.clone().run();
    let paths = burst();
    assert_eq!(get_all(&running, &paths, CLIENTS), 0);
    let accepted = expect_accounts(&running, paths.len());
    let metrics = running.metrics();
    let written = metrics.value("reelgate_cache_objects", &[("tier", "disk")]) as u64;
    let queued = metrics.value("reelgate_disk_queue_bytes", &[]) / MIB as f64;
    kill(&running);
    let running = edge.run();
    recovered(&running);
    let hits = get_all(&running, &paths, CLIENTS);
    let share = hits as f64 / accepted as f64 * 100.0;
    eprintln!("{written} written and {queued:.0} MiB waiting when killed; {hits} hits: {share:.1} % of all accepted");
    assert!(written > 0 && (written..=accepted).contains(&hits), "{hits} of {written} written, {accepted} accepted");
}
