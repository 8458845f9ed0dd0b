//! What there is to tell of jobs: progress, and counts. How far a run is, is told from the fragments that came out of it.

use super::super::super::protocol::{EVENTS, JobStatus, Status, Wanted};
use super::runs::{Run, Running};
use super::{Jobs, Segment, State};
use crate::media::fraction::Fraction;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Media seconds of a fragment, but the last of a segment.
const FRAGMENT_S: f64 = 0.5;
/// How long a run that ended is still told of, and how many.
const ENDED_KEPT: Duration = Duration::from_secs(10);
const ENDED_MAX: usize = 32;

/// What is counted, since the start; in the order of [`EVENTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    Run,
    Segment,
    SegmentAhead,
    AheadUsed,
    Retry,
    Failure,
    Stop,
    Refusal,
    SoftwareFallback,
}

/// One for each of [`EVENTS`], in their order.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; EVENTS.len()]);

impl Counts {
    pub(super) fn add(&self, what: Count) {
        self.0[what as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Jobs {
    pub fn status(&self) -> Status {
        let now = Instant::now();
        let state = self.state.lock();
        let ended = state.ended.iter().filter(|(at, _)| now.duration_since(*at) < ENDED_KEPT);
        let mut jobs: Vec<_> = ended.map(|(_, job)| job.clone()).collect();
        jobs.extend(state.running.iter().map(|running| state.status_of(running, "running", now)));
        jobs.extend(state.waiting.iter().map(|run| {
            let device = state.devices.name_of(state.place_of(run, now));
            run.status("waiting", Duration::ZERO, device)
        }));
        jobs.sort_by_key(|job| job.id);
        let counts = EVENTS.iter().zip(&self.counts.0);
        let counts = counts.map(|(name, count)| ((*name).to_owned(), count.load(Ordering::Relaxed)));
        let encoders = state.encoders.iter().map(|found| found.status(state.devices.slots_of(&found.device)));
        Status { counts: counts.collect(), ahead_bytes: state.ahead_bytes(0), jobs, encoders: encoders.collect() }
    }
}

impl State {
    pub(super) fn remember(&mut self, running: &Running, good: bool) {
        let now = Instant::now();
        let how = match good {
            true => "done",
            false if running.is_stopping() => "stopped",
            false => "failed",
        };
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((now, self.status_of(running, how, now)));
    }

    fn status_of(&self, running: &Running, how: &str, now: Instant) -> JobStatus {
        running.run.status(how, now.duration_since(running.started), self.devices.name_of(running.device))
    }
}

impl Run {
    fn status(&self, state: &str, runs_since: Duration, device: &str) -> JobStatus {
        if let Some(beside) = &self.beside {
            return beside.status(self, state, runs_since, device);
        }
        let (Some(first), Some(last)) = (self.segments.first(), self.segments.last()) else {
            unreachable!("a run has a segment");
        };
        let (made_s, all_s) = self.segments.iter().fold((0.0, 0.0), |(made_s, all_s), segment| {
            let (made, all) = segment.seconds();
            (made_s + made, all_s + all)
        });
        let took_s = runs_since.as_secs_f64();
        let speed = if took_s > 0.0 { made_s / took_s } else { 0.0 };
        let job = &first.job;
        let is_video = matches!(job.wanted, Wanted::Init { .. } | Wanted::Video { .. });
        JobStatus {
            id: self.id,
            title: job.title.clone(),
            rendition: job.wanted.rendition(),
            segments: [job.wanted.segment(), last.job.wanted.segment()],
            state: state.to_owned(),
            priority: self.priority.as_str().to_owned(),
            waiters: self.segments.iter().map(|segment| *segment.waiters.borrow() as u64).sum(),
            percent: round(made_s / all_s * 100.0),
            fps: if is_video { round(speed * job.film.grid.frame_rate.as_f64()) } else { 0.0 },
            speed: round(speed),
            device: device.to_owned(),
        }
    }
}

impl Segment {
    /// Of media: made, and in all.
    fn seconds(&self) -> (f64, f64) {
        let grid = &self.job.film.grid;
        let frames = grid.frames_of(self.job.wanted.segment()).map_or(1, |frames| frames.end - frames.start);
        let all_s = Fraction::as_f64(grid.time_of(frames));
        let output = self.output.borrow();
        let made_s = if output.end == Some(Ok(())) { all_s } else { output.fragments.len() as f64 * FRAGMENT_S };
        (made_s.min(all_s), all_s)
    }
}

/// For people: one place is enough.
pub(super) fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
