//! What is made when there is nothing else to do: segments of popular titles, for a cache above.
//!
//! Invariants: it begins only where nothing runs and nothing waits, and gives way to whatever is asked for; it shares the bounds of
//! what is made ahead, in bytes and in time.

use super::super::super::protocol::{Job, Wanted};
use super::super::output::Output;
use super::super::schedule::Priority;
use super::super::segment::bytes_expected;
use super::runs::Run;
use super::{Busy, DEVICE_BATCH_MAX, Entry, Jobs, Segment};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// Of one run, whatever is asked for: somebody may want one of them meanwhile, and gets it with the last.
const SEGMENTS_MAX: u64 = 8;
/// A segment of audio or text, roughly; more than most are.
const SMALL_BYTES: u64 = 256 << 10;

impl Jobs {
    /// Whether one such segment fits into what is kept.
    pub fn may_keep(&self, job: &Job) -> bool {
        bytes_each(job) <= self.settings.ahead_bytes_max
    }

    /// Begins to make segments that nobody waits for; what is there already is not made again.
    pub fn make_when_idle(self: &Arc<Self>, job: &Job, segments: u64) -> Result<Vec<watch::Receiver<Output>>, Busy> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.draining || !state.waiting.is_empty() || !state.running.is_empty() || !state.admits(job, now) {
            return Err(Busy);
        }
        let first = job.wanted.segment();
        let is_video = matches!(job.wanted, Wanted::Video { .. });
        let most = if state.is_for_a_device(job, now) { DEVICE_BATCH_MAX } else { SEGMENTS_MAX };
        let segments = if is_video { segments.clamp(1, most) } else { 1 };
        let last = first.saturating_add(segments - 1).min(job.film.grid.segments().saturating_sub(1)).max(first);
        let each = bytes_each(job).max(1);
        let room = self.settings.ahead_bytes_max.saturating_sub(state.ahead_bytes(each)) / each;
        let mut new = Vec::new();
        let mut all = Vec::new();
        for number in first..=last {
            let wanted = match &job.wanted {
                Wanted::Video { rung, .. } => Wanted::Video { rung: rung.clone(), segment: number },
                other => other.clone(),
            };
            let job = Job { wanted, ..job.clone() };
            match state.segments.get(&job) {
                Some(entry) => all.push(entry.segment.output.subscribe()),
                // A run's segments are consecutive.
                None if new.len() as u64 >= room || all.len() > new.len() => break,
                None => {
                    let segment = Segment::new(job.clone());
                    all.push(segment.output.subscribe());
                    new.push(Arc::clone(&segment));
                    state.segments.insert(job, Entry { segment, asked: false, watched: false });
                }
            }
        }
        if all.is_empty() {
            return Err(Busy);
        }
        if !new.is_empty() {
            let mut run = Run::new(&mut state.next_id, new, Priority::Background, now);
            run.ahead = true;
            state.waiting.push(run);
            self.dispatch(state);
        }
        Ok(all)
    }
}

fn bytes_each(job: &Job) -> u64 {
    match &job.wanted {
        Wanted::Video { rung, .. } => bytes_expected(&job.film, rung)
            // A film's own packets.
            .unwrap_or_else(|| job.source.stamp.bytes / job.film.grid.segments().max(1) * 2),
        _ => SMALL_BYTES,
    }
}
