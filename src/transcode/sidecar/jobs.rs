//! Jobs: what is wanted, who waits for it, what is made before it is wanted.
//!
//! - this file: segments, who waits for them, how long they are kept.
//! - `beside`: work of another kind, in the same slots.
//! - `idle`: what is made when there is nothing else to do.
//! - `runs`: what runs when, on which slot; failures and a second attempt.
//! - `status`: what there is to tell.
//!
//! Invariants: identical jobs are one; so many run at once and so many wait, never more; what nobody waits for is ended, or makes
//! room for what somebody waits for; what a job made is kept a moment after its last reader left, for a player that asks for the
//! head and then for the segment; what was made ahead is bounded in bytes and in time. A failed job is forgotten at once: the
//! next request tries anew.

mod beside;
mod idle;
mod runs;
mod status;

use super::super::protocol::{Job, JobStatus, Source, Wanted};
use super::child::Failure;
use super::devices::Devices;
use super::nodes::Node;
use super::output::{Output, Sink};
use super::schedule::Priority;
use super::segment::{bytes_expected, encoder_of};
use super::survey::{Finding, Survey};
use super::tools::Toolbox;
use super::viewers::{Plan, Seen, Viewers, plan};
use parking_lot::Mutex;
use runs::{Run, Running};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;

pub use beside::{About, Progress};
use status::{Count, Counts};

/// How long a job goes on, and a finished one is kept, with nobody waiting.
const LINGER: Duration = Duration::from_secs(3);
/// Of finished jobs kept for their linger, when another one begins.
const FINISHED_BYTES_MAX: u64 = 32 << 20;
/// Segments of a batch on a device: each takes a session of the few there are.
const DEVICE_BATCH_MAX: u64 = 2;
/// How long what was made ahead waits to be asked for.
const AHEAD_KEPT: Duration = Duration::from_secs(120);

/// How much runs, waits and is kept.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Runs at once.
    pub slots: usize,
    /// Wanted runs that may wait for a slot.
    pub queue: usize,
    /// Of segments made before they are asked for; 0: none are.
    pub ahead_bytes_max: u64,
}

/// All runs, and who waits for them; see the module.
#[derive(Debug)]
pub struct Jobs {
    tools: Arc<Toolbox>,
    survey: Arc<Survey>,
    settings: Settings,
    state: Mutex<State>,
    counts: Counts,
}

#[derive(Debug)]
struct State {
    segments: HashMap<Job, Entry>,
    waiting: Vec<Run>,
    running: Vec<Running>,
    viewers: Viewers<Rendition>,
    /// Of what is made beside, by title and rendition.
    viewers_beside: Viewers<(String, String)>,
    devices: Devices,
    /// As they were found last.
    encoders: Vec<Finding>,
    /// Runs that ended a moment ago, the latest last.
    ended: VecDeque<(Instant, JobStatus)>,
    next_id: u64,
    /// Nothing new is begun any more.
    draining: bool,
}

/// Of a version of a film.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Rendition {
    source: Source,
    name: String,
}

impl Rendition {
    fn of(job: &Job) -> Self {
        Self { source: job.source.clone(), name: job.wanted.rendition() }
    }
}

#[derive(Debug)]
struct Entry {
    segment: Arc<Segment>,
    /// Somebody asked for it. Else it was only made ahead.
    asked: bool,
    /// A task sees to it when the last one who waits leaves.
    watched: bool,
}

#[derive(Debug)]
struct Segment {
    job: Job,
    output: watch::Sender<Output>,
    waiters: watch::Sender<usize>,
}

impl Segment {
    fn new(job: Job) -> Arc<Self> {
        Arc::new(Self { job, output: watch::Sender::default(), waiters: watch::Sender::default() })
    }

    fn is_waited_for(&self) -> bool {
        *self.waiters.borrow() > 0
    }

    /// Nobody has any of its bytes.
    fn is_ungiven(&self) -> bool {
        self.output.borrow().fragments.is_empty()
    }

    fn has_ended(&self) -> bool {
        self.output.borrow().end.is_some()
    }
}

/// Somebody who waits for a job; the job may end when the last one is dropped.
#[derive(Debug)]
pub struct Waiter {
    segment: Arc<Segment>,
    pub output: watch::Receiver<Output>,
}

impl Waiter {
    fn of(segment: &Arc<Segment>) -> Self {
        segment.waiters.send_modify(|waiters| *waiters += 1);
        Self { segment: Arc::clone(segment), output: segment.output.subscribe() }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.segment.waiters.send_modify(|waiters| *waiters -= 1);
    }
}

/// All slots are taken and the queue is full, or what encodes fails for everybody.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

impl Jobs {
    pub fn new(tools: Arc<Toolbox>, survey: Arc<Survey>, nodes: Vec<Node>, settings: Settings) -> Self {
        let state = State {
            segments: HashMap::new(),
            waiting: Vec::new(),
            running: Vec::new(),
            viewers: Viewers::new(),
            viewers_beside: Viewers::new(),
            devices: Devices::new(settings.slots, nodes),
            encoders: Vec::new(),
            ended: VecDeque::new(),
            next_id: 1,
            draining: false,
        };
        Self { tools, survey, settings, state: Mutex::new(state), counts: Counts::default() }
    }

    /// Joins the job that is there, or begins it. `watched`: by somebody who is likely to want what follows.
    pub fn join(self: &Arc<Self>, job: Job, watched: bool) -> Result<Waiter, Busy> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let state = &mut *state;
        // What only waits to be made ahead counts from now on.
        let is_new = match state.segments.get(&job) {
            None => true,
            Some(entry) => state.waiting.iter().any(|run| run.ahead && run.has(&entry.segment)),
        };
        if is_new && (self.is_full(state, now) || !state.admits(&job, now)) {
            self.counts.add(Count::Refusal);
            return Err(Busy);
        }
        let seen = match watched {
            true => state.viewers.asked(&Rendition::of(&job), job.wanted.segment(), now),
            false => Seen { priority: Priority::Sequential, streak: 0, viewers: 0 },
        };
        if !state.segments.contains_key(&job) {
            state.forget_finished();
            let segment = Segment::new(job.clone());
            let run = Run::new(&mut state.next_id, vec![Arc::clone(&segment)], seen.priority, now);
            state.waiting.push(run);
            state.segments.insert(job.clone(), Entry { segment, asked: false, watched: false });
        } else {
            state.raise(&job, seen.priority);
        }
        let entry = state.segments.get_mut(&job).expect("it is there, or was just put there");
        if !entry.asked && entry.segment.has_ended() {
            self.counts.add(Count::AheadUsed);
        }
        entry.asked = true;
        let waiter = Waiter::of(&entry.segment);
        if !std::mem::replace(&mut entry.watched, true) {
            tokio::spawn(Arc::clone(self).watch(Arc::clone(&entry.segment)));
        }
        if let Some(plan) = pixels(&job).and_then(|pixels| plan(seen, pixels)) {
            self.make_ahead(state, &job, plan, now);
        }
        self.dispatch(state);
        Ok(waiter)
    }

    /// What runs goes on where somebody waits for it; what waits is refused, and nothing new is taken.
    pub fn drain(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.draining = true;
        // What was to be made beside hears it by this.
        for run in std::mem::take(&mut state.waiting) {
            for segment in run.segments {
                Sink::new(&segment.output).end(Err(Failure::Killed));
                state.forget(&segment);
            }
        }
        for running in state.running.iter_mut().filter(|running| !running.run.is_waited_for()) {
            running.stop();
        }
    }

    /// Whether all slots and the queue are taken by what somebody wants, or nothing is taken at all.
    fn is_full(&self, state: &mut State, now: Instant) -> bool {
        if state.draining {
            return true;
        }
        let wanted_runs = state.waiting.iter().filter(|run| !run.ahead).count()
            + state.running.iter().filter(|running| !running.run.ahead).count();
        wanted_runs >= state.devices.slots(now) + self.settings.queue
    }

    /// Begins what is likely to be wanted after a segment, where there is room for it.
    fn make_ahead(&self, state: &mut State, after: &Job, plan: Plan, now: Instant) {
        let at = |segment| {
            let wanted = Wanted::Video { rung: after.wanted.rendition(), segment };
            Job { wanted, ..after.clone() }
        };
        let rendition = Rendition::of(after);
        let is_there =
            |segment| state.segments.contains_key(&at(segment)) || state.viewers.have_asked(&rendition, segment);
        let segments = after.film.grid.segments();
        if state.draining {
            return;
        }
        let Some(mut range): Option<Range<u64>> = plan.next_batch(after.wanted.segment(), segments, is_there) else {
            return;
        };
        let Some(each) = bytes_expected(&after.film, &after.wanted.rendition()) else { return };
        let room = self.settings.ahead_bytes_max.saturating_sub(state.ahead_bytes(each));
        range.end = range.end.min(range.start + room / each.max(1));
        if state.is_for_a_device(after, Instant::now()) {
            range.end = range.end.min(range.start + DEVICE_BATCH_MAX);
        }
        // One waiting batch is enough: what runs is behind already.
        if range.is_empty() || state.waiting.iter().filter(|run| run.ahead).count() >= self.settings.slots {
            return;
        }
        let made = range.map(|segment| Segment::new(at(segment))).collect::<Vec<_>>();
        for segment in &made {
            let entry = Entry { segment: Arc::clone(segment), asked: false, watched: false };
            state.segments.insert(segment.job.clone(), entry);
        }
        let run = Run::new(&mut state.next_id, made, plan.priority, now).ahead_of(after.clone(), plan);
        state.waiting.push(run);
    }

    /// Until nobody waits for a while; then the segment is let go.
    async fn watch(self: Arc<Self>, segment: Arc<Segment>) {
        let mut waiters = segment.waiters.subscribe();
        loop {
            // The sender lives as long as `segment`.
            let _ = waiters.wait_for(|waiters| *waiters == 0).await;
            if timeout(LINGER, waiters.wait_for(|waiters| *waiters > 0)).await.is_ok() {
                continue;
            }
            // Joining takes the same lock: nobody is added in between.
            let mut state = self.state.lock();
            if !segment.is_waited_for() {
                self.let_go(&mut state, &segment);
                return;
            }
        }
    }

    fn let_go(self: &Arc<Self>, state: &mut State, segment: &Arc<Segment>) {
        let Some(entry) = state.segments.get_mut(&segment.job).filter(|entry| Arc::ptr_eq(&entry.segment, segment))
        else {
            return;
        };
        entry.watched = false;
        let waiting = state.waiting.iter().position(|run| !run.ahead && run.has(segment));
        if let Some(run) = waiting.map(|at| state.waiting.swap_remove(at)) {
            run.segments.iter().for_each(|segment| state.forget(segment));
            // It may have been the one let through to try.
            state.devices.at(Devices::SOFTWARE).gave_up(Instant::now());
        } else if segment.has_ended() {
            state.forget(segment);
        } else if let Some(running) = state.running.iter_mut().find(|running| running.run.has(segment))
            && !running.run.ahead
            && !running.run.is_waited_for()
        {
            running.stop();
        }
        self.dispatch(state);
    }

    /// What encodes, and where, was looked at anew.
    pub fn surveyed(self: &Arc<Self>, found: &[Finding]) {
        let mut state = self.state.lock();
        for finding in found {
            state.devices.found(&finding.device, finding.encoder.name, finding.works);
        }
        state.encoders = found.to_vec();
        self.dispatch(&mut state);
    }

    /// What was made ahead and nobody has asked for since.
    fn forget_unasked(&self, segments: impl Iterator<Item = Arc<Segment>>) {
        let mut state = self.state.lock();
        for segment in segments {
            if state.segments.get(&segment.job).is_some_and(|entry| !entry.watched) {
                state.forget(&segment);
            }
        }
    }
}

impl State {
    /// Whether what it would be encoded by takes more.
    fn admits(&mut self, job: &Job, now: Instant) -> bool {
        self.is_for_a_device(job, now) || self.devices.at(Devices::SOFTWARE).admits(now)
    }

    fn is_for_a_device(&self, job: &Job, now: Instant) -> bool {
        let device = |encoder| self.devices.best(encoder, &job.title, |_| 0, now);
        encoder_of(job).is_some_and(|encoder| device(encoder) != Devices::SOFTWARE)
    }

    fn forget(&mut self, segment: &Arc<Segment>) {
        if self.segments.get(&segment.job).is_some_and(|entry| Arc::ptr_eq(&entry.segment, segment)) {
            self.segments.remove(&segment.job);
        }
    }

    /// Finished segments that nobody reads any more, where they are many bytes.
    fn forget_finished(&mut self) {
        let done = |entry: &Entry| entry.asked && !entry.segment.is_waited_for() && entry.segment.has_ended();
        let done_bytes = self.segments.values().filter(|entry| done(entry));
        if done_bytes.map(|entry| entry.segment.output.borrow().bytes()).sum::<u64>() >= FINISHED_BYTES_MAX {
            self.segments.retain(|_, entry| !done(entry));
        }
    }

    /// Somebody asks for a segment that may still be waiting: it becomes as urgent as they are.
    fn raise(&mut self, job: &Job, priority: Priority) {
        let Some(segment) = self.segments.get(job).map(|entry| Arc::clone(&entry.segment)) else { return };
        let Some(at) = self.waiting.iter().position(|run| run.has(&segment)) else { return };
        let run = &mut self.waiting[at];
        if run.segments.first().is_some_and(|first| Arc::ptr_eq(first, &segment)) {
            run.priority = run.priority.min(priority);
            run.ahead = false;
            return;
        }
        // Asked for out of turn: made alone, and what was to follow is left until it is wanted.
        let cut = run.segments.iter().position(|there| Arc::ptr_eq(there, &segment)).unwrap_or(0);
        let later = run.segments.split_off(cut);
        later.iter().skip(1).for_each(|segment| self.forget(segment));
        let since = self.waiting[at].since;
        let alone = Run::new(&mut self.next_id, vec![segment], priority, since);
        self.waiting.push(alone);
    }

    /// What is kept, or will be, of what nobody has asked for yet.
    fn ahead_bytes(&self, each: u64) -> u64 {
        let unasked = self.segments.values().filter(|entry| !entry.asked);
        let bytes = unasked.map(|entry| {
            let output = entry.segment.output.borrow();
            if output.end.is_some() { output.bytes() } else { output.bytes().max(each) }
        });
        bytes.sum()
    }
}

/// Of a segment of video; nothing else is made ahead.
fn pixels(job: &Job) -> Option<u64> {
    if !matches!(job.wanted, Wanted::Video { .. }) {
        return None;
    }
    let rung = job.film.rung(&job.wanted.rendition())?;
    Some(u64::from(rung.width) * u64::from(rung.height))
}
