//! Runs: one process each, for one segment or several in a row.
//!
//! Invariants: a run that failed is tried once more, for what it has not given away whole, unless what was asked for is not there;
//! what fails for a film's sake says nothing of the device; one that was stopped for a more urgent one goes back into the queue only
//! with what somebody waits for by now.

use super::super::super::protocol::Job;
use super::super::child::{Failure, Kill, KillOnDrop};
use super::super::output::Sink;
use super::super::schedule::{self, Priority, Slots};
use super::super::segment::make;
use super::super::viewers::Plan;
use super::status::Count;
use super::{AHEAD_KEPT, Jobs, Segment, State};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// From the start of a run to its end, and so much more for each further segment; its bytes have bounds of their own.
const TIME_MAX: Duration = Duration::from_secs(60);
const TIME_MORE: Duration = Duration::from_secs(15);
/// Before a device that was full is asked again.
const FULL_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Run {
    pub id: u64,
    /// Consecutive, and at least one.
    pub segments: Vec<Arc<Segment>>,
    pub priority: Priority,
    /// Nobody has asked for what it begins with.
    pub ahead: bool,
    /// Where it is going: what was asked for when it was planned.
    course: Option<(Job, Plan)>,
    /// Since when it waits.
    pub since: Instant,
}

impl Run {
    pub fn new(next_id: &mut u64, segments: Vec<Arc<Segment>>, priority: Priority, since: Instant) -> Self {
        let id = *next_id;
        *next_id += 1;
        Self { id, segments, priority, ahead: false, course: None, since }
    }

    pub fn ahead_of(self, after: Job, plan: Plan) -> Self {
        Self { ahead: true, course: Some((after, plan)), ..self }
    }

    pub fn has(&self, segment: &Arc<Segment>) -> bool {
        self.segments.iter().any(|there| Arc::ptr_eq(there, segment))
    }

    pub fn is_waited_for(&self) -> bool {
        self.segments.iter().any(|segment| segment.is_waited_for())
    }

    fn unfinished(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.iter().filter(|segment| !segment.has_ended())
    }
}

#[derive(Debug)]
pub(super) struct Running {
    pub run: Run,
    pub started: Instant,
    kill: Arc<Kill>,
    stopping: bool,
}

impl Running {
    /// Nobody waits for it, or not so urgently.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.kill.now();
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    fn may_be_stopped(&self) -> bool {
        (self.run.ahead || self.run.segments.len() > 1) && !self.stopping && !self.run.is_waited_for()
    }
}

impl Jobs {
    /// Starts what may start.
    pub(super) fn dispatch(self: &Arc<Self>, state: &mut State) {
        let now = Instant::now();
        loop {
            let waiting = state.waiting.iter().map(|run| (run.priority, now.duration_since(run.since)));
            let slots = state.device.slots(now);
            let Some(next) = schedule::next(waiting, slots_of(&state.running, slots)) else { break };
            let run = state.waiting.swap_remove(next);
            let kill = KillOnDrop::of_nice(run.priority.niceness());
            let segments = run.segments.clone();
            let id = run.id;
            state.running.push(Running { run, started: now, kill: kill.share(), stopping: false });
            tokio::spawn(Arc::clone(self).work(id, segments, kill));
        }
        // What somebody waits for takes the place of what nobody waits for.
        let slots = slots_of(&state.running, state.device.slots(now));
        let urgent = state.waiting.iter().filter(|run| !run.ahead && !slots.have_room_for(run.priority)).count();
        let stopping = state.running.iter().filter(|running| running.stopping).count();
        for _ in stopping..urgent {
            let ahead = state.running.iter_mut().filter(|running| running.may_be_stopped());
            let Some(least) = ahead.max_by_key(|running| (running.run.priority, running.run.id)) else { break };
            least.stop();
            self.counts.add(Count::Stop);
        }
    }

    async fn work(self: Arc<Self>, id: u64, segments: Vec<Arc<Segment>>, kill: KillOnDrop) {
        self.counts.add(Count::Run);
        let mut outcome = self.attempt(&segments, &kill).await;
        if let Err(failure) = &outcome
            && failure.may_pass()
            && !kill.share().was_used()
        {
            let left: Vec<_> = segments.iter().skip_while(|segment| segment.has_ended()).cloned().collect();
            self.make_room(&outcome).await;
            if !left.is_empty() {
                tracing::warn!(job = id, reason = %failure, "a run failed, and is tried once more");
                self.counts.add(Count::Retry);
                outcome = self.attempt(&left, &kill).await;
            }
        }
        drop(kill);
        self.ended(id, outcome);
        // What was asked for is kept no longer than by those who asked.
        let segments: Vec<Weak<Segment>> = segments.into_iter().map(|segment| Arc::downgrade(&segment)).collect();
        tokio::time::sleep(AHEAD_KEPT).await;
        self.forget_unasked(segments.iter().filter_map(Weak::upgrade));
    }

    /// A device that is full takes less from now on, and needs a moment.
    async fn make_room(&self, outcome: &Result<(), Failure>) {
        if matches!(outcome, Err(Failure::Device(class, _)) if class.is_busy()) {
            {
                let mut state = self.state.lock();
                let running = state.running.len();
                state.device.was_full(running, Instant::now());
            }
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }

    async fn attempt(&self, segments: &[Arc<Segment>], kill: &KillOnDrop) -> Result<(), Failure> {
        let Some(first) = segments.first().map(|segment| segment.job.clone()) else { return Ok(()) };
        let sinks: Vec<_> = segments.iter().map(|segment| Sink::new(&segment.output)).collect();
        let (tools, killing) = (Arc::clone(&self.tools), kill.share());
        let mut made = tokio::task::spawn_blocking(move || make(tools.now()?.as_ref(), &first, &killing, &sinks));
        let time_max = TIME_MAX + TIME_MORE * u32::try_from(segments.len() - 1).unwrap_or(u32::MAX);
        let made = match timeout(time_max, &mut made).await {
            Ok(made) => made,
            Err(_) => {
                kill.share().now();
                made.await.map(|made| made.map_err(took_too_long))
            }
        };
        made.unwrap_or_else(|_| Err(Failure::Failed("the job panicked".to_owned())))
    }

    /// A run is over: its segments are whole, or have failed, or wait again.
    fn ended(self: &Arc<Self>, id: u64, end: Result<(), Failure>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(at) = state.running.iter().position(|running| running.run.id == id) else { return };
        let running = state.running.swap_remove(at);
        let now = Instant::now();
        let title = running.run.segments.first().map(|segment| segment.job.title.clone()).unwrap_or_default();
        match &end {
            Ok(()) => state.device.succeeded(),
            Err(failure) if running.stopping || !failure.is_not_the_films() => state.device.gave_up(now),
            Err(failure) => {
                if state.device.failed(&title, now) {
                    tracing::error!(
                        device = state.device.name,
                        reason = %failure,
                        "it fails for several titles: nothing is made for a while"
                    );
                }
            }
        }
        let unfinished: Vec<_> = running.run.unfinished().cloned().collect();
        for segment in unfinished {
            if running.stopping && end.is_err() && segment.is_waited_for() {
                let again = Run::new(&mut state.next_id, vec![segment], running.run.priority, running.run.since);
                state.waiting.push(again);
                continue;
            }
            Sink::new(&segment.output).end(end.clone());
        }
        for segment in running.run.segments.iter().filter(|segment| segment.has_ended()) {
            let whole = matches!(segment.output.borrow().end, Some(Ok(())));
            match whole {
                true => self.counts.add(if running.run.ahead { Count::SegmentAhead } else { Count::Segment }),
                false => state.forget(segment),
            }
            if !whole && !running.stopping {
                self.counts.add(Count::Failure);
            }
        }
        if let (Err(failure), false) = (&end, running.stopping) {
            let wanted = running.run.segments.first().map(|segment| &segment.job.wanted);
            tracing::warn!(job = id, ?wanted, reason = %failure, "a segment could not be made");
        }
        state.remember(&running, end.is_ok());
        if let (Ok(()), Some((after, plan))) = (&end, &running.run.course) {
            self.make_ahead(state, after, *plan, now);
        }
        self.dispatch(state);
    }
}

/// It was killed for the time it took, whoever is to blame: a device that hangs, or a film that is too much for it.
fn took_too_long(failure: Failure) -> Failure {
    match failure {
        Failure::Killed => Failure::Machine("it took too long".to_owned()),
        other => other,
    }
}

/// Of so many slots, what is in them.
fn slots_of(running: &[Running], all: usize) -> Slots {
    let by_others = running.iter().filter(|running| !running.run.priority.is_interactive());
    Slots { all, taken: running.len(), taken_by_others: by_others.count() }
}
