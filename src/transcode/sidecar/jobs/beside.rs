//! Work of another kind than a film's segments, in the same slots: it lines up among the runs, is told of with them, and does its work
//! itself when its turn has come.
//!
//! Invariants: the queue's bound is one for both; a place that is dropped is given up, waiting or not; it is never stopped for something
//! more urgent, for somebody always waits for it.

use super::super::super::protocol::JobStatus;
use super::super::child::{Failure, Kill, KillOnDrop};
use super::super::devices::Devices;
use super::super::schedule::Priority;
use super::runs::Run;
use super::status::{Count, round};
use super::{Busy, Jobs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub title: String,
    pub rendition: String,
    pub segment: u64,
    /// The head of segments alone: who asks for it wants one of them next.
    pub only_head: bool,
}

/// How far it is, and who waits.
#[derive(Debug, Default)]
pub struct Progress {
    pub waiters: AtomicU64,
    /// Frames there are to make; 0: nobody knows yet.
    pub frames: AtomicU64,
    pub made: AtomicU64,
    /// Of all frames.
    pub milliseconds: AtomicU64,
}

/// In the queue, or in a slot.
#[derive(Debug)]
pub(super) struct Beside {
    about: About,
    progress: Arc<Progress>,
    kill: Arc<Kill>,
    turn: Option<oneshot::Sender<()>>,
}

/// A place in the queue, and then a slot.
#[derive(Debug)]
pub struct Place {
    jobs: Arc<Jobs>,
    id: u64,
    turn: oneshot::Receiver<()>,
    kill: KillOnDrop,
    ended: bool,
}

impl Jobs {
    /// Lines up among what is asked for.
    pub fn line_up(self: &Arc<Self>, about: About, progress: Arc<Progress>) -> Result<Place, Busy> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let state = &mut *state;
        if self.is_full(state, now) || !state.devices.at(Devices::SOFTWARE).admits(now) {
            self.counts.add(Count::Refusal);
            return Err(Busy);
        }
        let priority = match about.only_head {
            true => Priority::First,
            false => {
                let rendition = (about.title.clone(), about.rendition.clone());
                state.viewers_beside.asked(&rendition, about.segment, now).priority
            }
        };
        let (sender, turn) = oneshot::channel();
        let kill = KillOnDrop::of_nice(priority.niceness());
        let mut run = Run::new(&mut state.next_id, Vec::new(), priority, now);
        let id = run.id;
        run.beside = Some(Beside { about, progress, kill: kill.share(), turn: Some(sender) });
        state.waiting.push(run);
        self.dispatch(state);
        Ok(Place { jobs: Arc::clone(self), id, turn, kill, ended: false })
    }

    fn gave_up(self: &Arc<Self>, id: u64) {
        let mut state = self.state.lock();
        if let Some(at) = state.waiting.iter().position(|run| run.id == id) {
            state.waiting.swap_remove(at);
            // It may have been the one let through to try.
            state.devices.at(Devices::SOFTWARE).gave_up(Instant::now());
            self.dispatch(&mut state);
            return;
        }
        if let Some(running) = state.running.iter_mut().find(|running| running.run.id == id) {
            running.stop();
        }
        drop(state);
        self.ended(id, Err(Failure::Killed));
    }
}

impl Beside {
    /// Its turn has come.
    pub fn begin(&mut self) -> Arc<Kill> {
        if let Some(turn) = self.turn.take() {
            // Who is gone says so by dropping its place.
            let _ = turn.send(());
        }
        Arc::clone(&self.kill)
    }

    pub fn title(&self) -> &str {
        &self.about.title
    }

    pub fn status(&self, run: &Run, state: &str, runs_since: Duration, device: &str) -> JobStatus {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed) as f64;
        let (frames, took_s) = (of(&self.progress.frames), runs_since.as_secs_f64());
        let share = match state {
            "done" => 1.0,
            _ if frames > 0.0 => (of(&self.progress.made) / frames).min(1.0),
            _ => 0.0,
        };
        let each_s = |of_all: f64| if took_s > 0.0 { round(share * of_all / took_s) } else { 0.0 };
        JobStatus {
            id: run.id,
            title: self.about.title.clone(),
            rendition: self.about.rendition.clone(),
            segments: [self.about.segment; 2],
            state: state.to_owned(),
            priority: run.priority.as_str().to_owned(),
            waiters: self.progress.waiters.load(Ordering::Relaxed),
            percent: round(share * 100.0),
            fps: each_s(frames),
            speed: each_s(of(&self.progress.milliseconds) / 1000.0),
            device: device.to_owned(),
        }
    }
}

impl Place {
    /// Until there is a slot. An error: there will be none.
    pub async fn turn(&mut self) -> Result<(), Failure> {
        (&mut self.turn).await.map_err(|_| Failure::Killed)
    }

    pub fn kill(&self) -> Arc<Kill> {
        self.kill.share()
    }

    pub fn end(mut self, how: Result<(), Failure>) {
        self.ended = true;
        self.jobs.ended(self.id, how);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.ended {
            self.jobs.gave_up(self.id);
        }
    }
}
