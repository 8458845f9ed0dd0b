//! Runs: one process each, for one segment or several in a row.
//!
//! Invariants: a run that failed is tried once more, for what it has not given away whole, unless what was asked for is not there;
//! what fails for a film's sake says nothing of software; what fails on a device is made again by software, but for segments of which
//! somebody has a part already: those are cut off, and the next request finds software; one that was stopped for a more urgent one goes
//! back into the queue only with what somebody waits for by now.

use super::super::super::protocol::Job;
use super::super::arguments::Means;
use super::super::child::{Failure, Kill, KillOnDrop};
use super::super::devices::Devices;
use super::super::encoders::{Encoder, Family};
use super::super::failure::Class;
use super::super::output::Sink;
use super::super::schedule::{self, Priority, Slots};
use super::super::segment::{encoder_of, make};
use super::super::survey::Survey;
use super::super::viewers::Plan;
use super::beside::Beside;
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
    /// Consecutive, and at least one; none of what is made beside.
    pub segments: Vec<Arc<Segment>>,
    pub priority: Priority,
    /// Nobody has asked for what it begins with.
    pub ahead: bool,
    /// The encoder of a device that its film was to be made by.
    wants: Option<&'static Encoder>,
    /// That failed: software stands in.
    in_software: bool,
    /// Where it is going: what was asked for when it was planned.
    course: Option<(Job, Plan)>,
    /// It is no film's: who lined up does the work.
    pub beside: Option<Beside>,
    /// Since when it waits.
    pub since: Instant,
}

impl Run {
    pub fn new(next_id: &mut u64, segments: Vec<Arc<Segment>>, priority: Priority, since: Instant) -> Self {
        let id = *next_id;
        *next_id += 1;
        let wants = segments.first().and_then(|segment| encoder_of(&segment.job));
        let wants = wants.filter(|encoder| encoder.family != Family::Software);
        Self { id, segments, priority, ahead: false, wants, in_software: false, course: None, beside: None, since }
    }

    /// It is made ahead of what was asked for, as planned.
    pub fn ahead_of(self, after: Job, plan: Plan) -> Self {
        Self { ahead: true, course: Some((after, plan)), ..self }
    }

    pub fn has(&self, segment: &Arc<Segment>) -> bool {
        self.segments.iter().any(|there| Arc::ptr_eq(there, segment))
    }

    pub fn is_waited_for(&self) -> bool {
        self.beside.is_some() || self.segments.iter().any(|segment| segment.is_waited_for())
    }

    fn title(&self) -> &str {
        let beside = self.beside.as_ref().map_or("", Beside::title);
        self.segments.first().map_or(beside, |segment| &segment.job.title)
    }

    /// Of a device's sessions; software shares the processor in its own way.
    fn sessions(&self, device: usize) -> usize {
        if device == Devices::SOFTWARE { 1 } else { self.segments.len() }
    }

    fn unfinished(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.iter().filter(|segment| !segment.has_ended())
    }
}

#[derive(Debug)]
pub(super) struct Running {
    pub run: Run,
    /// Which of [`Devices`].
    pub device: usize,
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
        while let Some((next, device)) = state.startable(now) {
            let mut run = state.waiting.swap_remove(next);
            if let Some(kill) = run.beside.as_mut().map(Beside::begin) {
                self.counts.add(Count::Run);
                state.running.push(Running { run, device, started: now, kill, stopping: false });
                continue;
            }
            let kill = KillOnDrop::of_nice(run.priority.niceness());
            let segments = run.segments.clone();
            let id = run.id;
            let means = run.wants.filter(|_| device != Devices::SOFTWARE).map(|encoder| {
                // It may be the one that goes to see whether the device is well again.
                let device = state.devices.at(device);
                device.admits(now);
                Means { encoder, node: device.node.clone(), few_surfaces: false }
            });
            if run.wants.is_some() && means.is_none() {
                self.counts.add(Count::SoftwareFallback);
            }
            state.running.push(Running { run, device, started: now, kill: kill.share(), stopping: false });
            tokio::spawn(Arc::clone(self).work((id, device), segments, means, kill));
        }
        for device in 0..state.devices.count() {
            self.make_way(state, device, now);
        }
    }

    /// What somebody waits for takes the place of what nobody waits for.
    fn make_way(&self, state: &mut State, device: usize, now: Instant) {
        let slots = state.slots_on(device, now);
        let urgent = state.waiting.iter().filter(|run| !run.ahead && !slots.have_room_for(run.priority));
        let urgent = urgent.filter(|run| state.place_of(run, now) == device).count();
        let stopping = state.running.iter().filter(|running| running.device == device && running.stopping).count();
        for _ in stopping..urgent {
            let here = state.running.iter_mut().filter(|running| running.device == device);
            let ahead = here.filter(|running| running.may_be_stopped());
            let Some(least) = ahead.max_by_key(|running| (running.run.priority, running.run.id)) else { break };
            least.stop();
            self.counts.add(Count::Stop);
        }
    }

    async fn work(
        self: Arc<Self>,
        (id, device): (u64, usize),
        segments: Vec<Arc<Segment>>,
        mut means: Option<Means>,
        kill: KillOnDrop,
    ) {
        self.counts.add(Count::Run);
        let mut outcome = self.attempt(&segments, means.clone(), &kill).await;
        if let Err(failure) = &outcome
            && failure.may_pass()
            && !kill.share().was_used()
        {
            let left: Vec<_> = segments.iter().skip_while(|segment| segment.has_ended()).cloned().collect();
            self.make_room(device, &outcome).await;
            let again = match &mut means {
                None => true,
                // It may do with less; whatever else it is, software takes its place.
                Some(means) => {
                    means.few_surfaces = true;
                    let is_short_of_memory = matches!(failure, Failure::Device(Class::OutOfMemory, _));
                    is_short_of_memory && left.iter().all(|segment| segment.is_ungiven())
                }
            };
            if again && !left.is_empty() {
                tracing::warn!(job = id, reason = %failure, "a run failed, and is tried once more");
                self.counts.add(Count::Retry);
                outcome = self.attempt(&left, means, &kill).await;
            }
        }
        drop(kill);
        self.ended(id, outcome);
        // What was asked for is kept no longer than by those who asked.
        let segments: Vec<Weak<Segment>> = segments.into_iter().map(|segment| Arc::downgrade(&segment)).collect();
        tokio::time::sleep(AHEAD_KEPT).await;
        self.forget_unasked(segments.iter().filter_map(Weak::upgrade));
    }

    /// A device that is full takes less from now on, and needs a moment; one that has sessions for others too, half.
    async fn make_room(&self, device: usize, outcome: &Result<(), Failure>) {
        if matches!(outcome, Err(Failure::Device(class, _)) if class.is_busy()) {
            {
                let (mut state, now) = (self.state.lock(), Instant::now());
                let running = state.slots_on(device, now).taken;
                let half = state.devices.at(device).slots(now) / 2 + 1;
                let device = state.devices.at(device);
                device.was_full(if device.is_software() { running } else { half }, now);
            }
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }

    async fn attempt(&self, segments: &[Arc<Segment>], means: Option<Means>, kill: &KillOnDrop) -> Result<(), Failure> {
        let Some(first) = segments.first().map(|segment| segment.job.clone()) else { return Ok(()) };
        let sinks: Vec<_> = segments.iter().map(|segment| Sink::new(&segment.output)).collect();
        let (tools, killing) = (Arc::clone(&self.tools), kill.share());
        let mut made =
            tokio::task::spawn_blocking(move || make(tools.now()?.as_ref(), &first, means.as_ref(), &killing, &sinks));
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
    pub(super) fn ended(self: &Arc<Self>, id: u64, end: Result<(), Failure>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(at) = state.running.iter().position(|running| running.run.id == id) else { return };
        let running = state.running.swap_remove(at);
        let now = Instant::now();
        let falls_back = state.judge(&running, &end, now, &self.survey);
        let unfinished: Vec<_> = running.run.unfinished().cloned().collect();
        for segment in unfinished {
            let interrupted = running.stopping && end.is_err() && segment.is_waited_for();
            if interrupted || (falls_back && segment.is_ungiven()) {
                let (priority, since) = (running.run.priority, running.run.since);
                let ahead = running.run.ahead && !segment.is_waited_for();
                let again = Run::new(&mut state.next_id, vec![segment], priority, since);
                let in_software = running.run.in_software || falls_back;
                state.waiting.push(Run { ahead, in_software, ..again });
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
        match &end {
            _ if running.run.beside.is_none() => {}
            Ok(()) => self.counts.add(Count::Segment),
            Err(_) if running.stopping => {}
            Err(_) => self.counts.add(Count::Failure),
        }
        if let (Err(failure), false) = (&end, running.stopping || falls_back) {
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

impl State {
    /// The waiting run that may start now, and where.
    fn startable(&mut self, now: Instant) -> Option<(usize, usize)> {
        let places: Vec<usize> = self.waiting.iter().map(|run| self.place_of(run, now)).collect();
        (0..self.devices.count()).find_map(|device| {
            let slots = self.slots_on(device, now);
            let here: Vec<usize> = (0..places.len()).filter(|at| places[*at] == device).collect();
            let waiting = here.iter().map(|at| &self.waiting[*at]);
            let next = schedule::next(waiting.map(|run| (run.priority, now.duration_since(run.since))), slots)?;
            Some((here[next], device))
        })
    }

    /// Where a run would go now.
    pub(super) fn place_of(&self, run: &Run, now: Instant) -> usize {
        let Some(encoder) = run.wants.filter(|_| !run.in_software) else { return Devices::SOFTWARE };
        self.devices.best(encoder, run.title(), |device| self.taken_on(device), now)
    }

    fn taken_on(&self, device: usize) -> usize {
        let here = self.running.iter().filter(|running| running.device == device);
        here.map(|running| running.run.sessions(device)).sum()
    }

    /// A device's slots, and what is in them.
    fn slots_on(&mut self, device: usize, now: Instant) -> Slots {
        let by_others = self.running.iter().filter(|running| running.device == device);
        let by_others = by_others.filter(|running| !running.run.priority.is_interactive());
        let taken_by_others = by_others.map(|running| running.run.sessions(device)).sum();
        Slots { all: self.devices.at(device).slots(now), taken: self.taken_on(device), taken_by_others }
    }

    /// What the end of a run says of its device; whether software is to do it again.
    fn judge(&mut self, running: &Running, end: &Result<(), Failure>, now: Instant, survey: &Survey) -> bool {
        let (device, title) = (self.devices.at(running.device), running.run.title());
        let failure = match end {
            Ok(()) => {
                device.succeeded();
                return false;
            }
            Err(failure) if running.stopping => {
                tracing::debug!(job = running.run.id, reason = %failure, "a run was stopped");
                device.gave_up(now);
                return false;
            }
            Err(failure) => failure,
        };
        // Of a device nobody can tell whose fault it is until software has done the same; of a mismatch everybody can.
        let falls_back = !device.is_software() && failure.may_pass();
        if !falls_back && !failure.is_not_the_films() {
            device.gave_up(now);
            return false;
        }
        if falls_back {
            tracing::warn!(device = device.name, title, reason = %failure, "it failed there, and is made by software");
            device.avoid(title, now);
        }
        if device.failed(title, now) {
            tracing::error!(device = device.name, reason = %failure, "it fails for several titles: it is left alone for a while");
            survey.look_again();
        }
        falls_back
    }
}

/// It was killed for the time it took, whoever is to blame: a device that hangs, or a film that is too much for it.
fn took_too_long(failure: Failure) -> Failure {
    match failure {
        Failure::Killed => Failure::Machine("it took too long".to_owned()),
        other => other,
    }
}
