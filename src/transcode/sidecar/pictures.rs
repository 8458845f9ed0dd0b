//! Pictures: posters, thumbnails and sheets of tiles. A queue of their own beside the segments': they have places of their own, so a
//! page of posters keeps no film from playing, and they give way on the processor ([`NICE`]), so that a film that is being
//! played keeps no page from being shown.
//!
//! - `arguments`: the command lines; pure.
//! - `encoders`: what pictures can be encoded as, by trying.
//! - `making`: runs, and what is made of what comes out of them.
//!
//! What takes time is starting ffmpeg and opening a film, not the picture: so several frames of one film that wait are one run, with
//! an input and an output for each. Their bytes are those of pictures made alone.
//!
//! Invariants: identical jobs are one; the queue is bounded; a sheet, which takes seconds, never takes the last place; what nobody
//! waits for any more is not begun, and ended where it runs.

mod arguments;
mod encoders;
mod making;
#[cfg(test)]
mod tests;

pub use encoders::{PictureEncoder, encoders};

use super::super::protocol::{PICTURE_EVENTS, PictureJob, PictureOf};
use super::child::{Failure, KillOnDrop};
use super::tools::Toolbox;
use bytes::Bytes;
use making::produce;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Runs at once: one that takes long, and one for the rest.
const PLACES: usize = 2;
/// Pictures that wait or are being made, and sheets of these: a page has some dozens, a player wants one sheet at a time.
const PICTURES_MAX: usize = 256;
const SHEETS_MAX: usize = 16;
/// Frames of one film in one run.
const FRAMES_MAX: usize = 8;
/// Of a run: a sheet of the largest film there is, on a slow disk.
const TIME_MAX: Duration = Duration::from_secs(90);
/// How much these runs give way to those that make segments (nice, `setpriority(2)`): with both on one core, they get about a quarter, so
/// neither starves.
const NICE: i32 = 6;

pub type Made = Result<Bytes, Failure>;

#[derive(Debug)]
pub struct Pictures {
    tools: Arc<Toolbox>,
    places: usize,
    state: Mutex<State>,
    /// In the order of [`PICTURE_EVENTS`].
    counts: [AtomicU64; PICTURE_EVENTS.len()],
}

/// What is counted, in the order of [`PICTURE_EVENTS`].
#[derive(Debug, Clone, Copy)]
enum Count {
    Picture,
    Run,
    Failure,
    Refusal,
}

#[derive(Debug, Default)]
struct State {
    /// Waiting and running.
    known: HashMap<PictureJob, Arc<Entry>>,
    waiting: VecDeque<Arc<Entry>>,
    running: usize,
    sheets_running: usize,
}

#[derive(Debug)]
struct Entry {
    job: PictureJob,
    /// None until it is made. Who waits for it has a receiver.
    made: watch::Sender<Option<Made>>,
}

impl Entry {
    fn is_waited_for(&self) -> bool {
        self.made.receiver_count() > 0
    }

    fn is_sheet(&self) -> bool {
        matches!(self.job.of, PictureOf::Sheet { .. })
    }

    /// Whether one run can make both.
    fn goes_with(&self, other: &Self) -> bool {
        match (&self.job.of, &other.job.of) {
            (PictureOf::Frame { film: one, .. }, PictureOf::Frame { film: another, .. }) => {
                self.job.source == other.job.source && one == another && self.job.build == other.job.build
            }
            _ => false,
        }
    }
}

/// Too many are waiting.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

impl Pictures {
    /// `jobs`: segments made at once; a machine for many has places for many pictures.
    pub fn new(tools: Arc<Toolbox>, jobs: usize) -> Arc<Self> {
        let places = PLACES.max(jobs);
        Arc::new(Self { tools, places, state: Mutex::default(), counts: Default::default() })
    }

    /// Makes a picture, or waits for who makes it.
    pub async fn make(self: &Arc<Self>, job: PictureJob) -> Result<Made, Busy> {
        let mut made = self.join(job)?;
        let made = made.wait_for(Option::is_some).await;
        let gone = || Err(Failure::Machine("the picture's run is gone".to_owned()));
        Ok(made.ok().and_then(|made| made.clone()).unwrap_or_else(gone))
    }

    /// By name, since the start.
    pub fn counts(&self) -> impl Iterator<Item = (String, u64)> {
        PICTURE_EVENTS.iter().zip(&self.counts).map(|(name, count)| ((*name).to_owned(), count.load(Ordering::Relaxed)))
    }

    fn count(&self, what: Count) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn join(self: &Arc<Self>, job: PictureJob) -> Result<watch::Receiver<Option<Made>>, Busy> {
        let mut state = self.state.lock();
        if let Some(entry) = state.known.get(&job) {
            return Ok(entry.made.subscribe());
        }
        state.forget_unwanted();
        let (entry, receiver) = {
            let (made, receiver) = watch::channel(None);
            (Arc::new(Entry { job: job.clone(), made }), receiver)
        };
        let sheets = state.known.values().filter(|entry| entry.is_sheet()).count();
        if state.known.len() >= PICTURES_MAX || (entry.is_sheet() && sheets >= SHEETS_MAX) {
            self.count(Count::Refusal);
            return Err(Busy);
        }
        state.known.insert(job, Arc::clone(&entry));
        state.waiting.push_back(entry);
        self.dispatch(&mut state);
        Ok(receiver)
    }

    /// Begins what there is a place for.
    fn dispatch(self: &Arc<Self>, state: &mut State) {
        while state.running < self.places {
            let Some(batch) = state.next(self.places) else { return };
            state.running += 1;
            state.sheets_running += usize::from(batch.iter().any(|entry| entry.is_sheet()));
            self.count(Count::Run);
            tokio::spawn(Arc::clone(self).run(batch));
        }
    }

    async fn run(self: Arc<Self>, batch: Vec<Arc<Entry>>) {
        let kill = KillOnDrop::of_nice(NICE);
        let (tools, killing) = (Arc::clone(&self.tools), kill.share());
        let jobs: Vec<PictureJob> = batch.iter().map(|entry| entry.job.clone()).collect();
        let mut work = tokio::task::spawn_blocking(move || produce(&tools, &jobs, &killing));
        let worked = timeout(TIME_MAX, async {
            loop {
                tokio::select! {
                    made = &mut work => {
                        return made.unwrap_or_else(|_| vec![Err(Failure::Machine("making it panicked".to_owned()))]);
                    }
                    () = self.abandoned(&batch) => kill.share().now(),
                }
            }
        });
        let worked = worked.await.unwrap_or_else(|_| vec![Err(Failure::Machine("it took too long".to_owned()))]);
        drop(kill);
        let mut state = self.state.lock();
        state.running -= 1;
        state.sheets_running -= usize::from(batch.iter().any(|entry| entry.is_sheet()));
        for (at, entry) in batch.iter().enumerate() {
            // One answer for all is the reason why none was made.
            let made = worked.get(at).or(worked.first()).cloned();
            let made = made.unwrap_or_else(|| Err(Failure::Machine("nothing was made".to_owned())));
            match &made {
                Ok(_) => self.count(Count::Picture),
                // Nobody waits for it.
                Err(Failure::Killed) => {}
                Err(_) => self.count(Count::Failure),
            }
            state.forget(entry);
            entry.made.send_replace(Some(made));
        }
        self.dispatch(&mut state);
    }

    /// Until nobody waits for any of them; from then on nobody can join them. Pending for good after that.
    async fn abandoned(&self, batch: &[Arc<Entry>]) {
        loop {
            for entry in batch {
                entry.made.closed().await;
            }
            let mut state = self.state.lock();
            if batch.iter().all(|entry| !entry.is_waited_for()) {
                if batch.iter().any(|entry| state.forget(entry)) {
                    return;
                }
                break;
            }
        }
        std::future::pending().await
    }
}

impl State {
    /// Whether it was there.
    fn forget(&mut self, entry: &Arc<Entry>) -> bool {
        let is_there = self.known.get(&entry.job).is_some_and(|known| Arc::ptr_eq(known, entry));
        if is_there {
            self.known.remove(&entry.job);
        }
        is_there
    }

    /// What waits, and nobody waits for it any more.
    fn forget_unwanted(&mut self) {
        let (wanted, unwanted): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(|entry| entry.is_waited_for());
        self.waiting = wanted.into();
        unwanted.iter().for_each(|entry| _ = self.forget(entry));
    }

    /// What is begun next: the first that waits, and what goes with it.
    fn next(&mut self, places: usize) -> Option<Vec<Arc<Entry>>> {
        self.forget_unwanted();
        let room_for_sheets = self.sheets_running + 1 < places;
        let first = self.waiting.iter().position(|entry| room_for_sheets || !entry.is_sheet())?;
        let mut batch = vec![self.waiting.remove(first)?];
        let mut at = first;
        while batch.len() < FRAMES_MAX && at < self.waiting.len() {
            match self.waiting.get(at).is_some_and(|entry| entry.goes_with(&batch[0])) {
                true => batch.extend(self.waiting.remove(at)),
                false => at += 1,
            }
        }
        Some(batch)
    }
}
