//! What waits to be written: bounded in bytes and in number, and honest about every refusal.
//!
//! An object enters whole or not at all; what entered is written or its [`Ticket`] says why not. Removals have a bound of
//! their own, because they must not be refused for want of room for bodies.
//!
//! Invariant: `bytes` counts what is in the queue and what the writer took from it and has not yet written.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot};

use super::{Lost, Record, Refusal};

const ENTRIES_MAX: usize = 16_384;
/// 48 bytes each: 12 MiB at most.
const REMOVALS_MAX: usize = 262_144;
/// Taken by the writer at once.
const BATCH_BYTES: u64 = 8 << 20;
const BATCH_ITEMS: usize = 1024;

/// Resolves when what was accepted is in the file, or is given up.
#[derive(Debug)]
pub struct Ticket(Option<oneshot::Receiver<Result<(), Lost>>>);

impl Ticket {
    /// Of something that needed no write.
    pub(super) fn done() -> Self {
        Self(None)
    }

    /// Waits until it was written (not synced: a killed process loses nothing more, a power loss may).
    ///
    /// # Errors
    /// It will not be on the disk, for the reason given.
    pub async fn written(self) -> Result<(), Lost> {
        match self.0 {
            None => Ok(()),
            Some(answer) => answer.await.unwrap_or(Err(Lost::Closed)),
        }
    }
}

#[derive(Debug)]
pub(super) enum Work {
    /// `superseded`: the ban number of an older version on the disk, which would come back if this one never gets there.
    Object {
        record: Record,
        superseded: Option<u64>,
    },
    Head {
        key: u128,
        version: u64,
        ban_number: u64,
        head: Vec<u8>,
    },
    Removal {
        key: u128,
        version: u64,
        ban_number: u64,
    },
}

impl Work {
    pub(super) fn key(&self) -> u128 {
        match self {
            Self::Object { record, .. } => record.key,
            Self::Head { key, .. } | Self::Removal { key, .. } => *key,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Object { record, .. } => record.bytes(),
            Self::Head { head, .. } => head.len() as u64,
            Self::Removal { .. } => 0,
        }
    }

    fn ban_number(&self) -> u64 {
        match self {
            Self::Object { record, superseded } => superseded.unwrap_or(u64::MAX).min(record.ban_number),
            Self::Head { ban_number, .. } | Self::Removal { ban_number, .. } => *ban_number,
        }
    }
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) work: Work,
    done: Option<oneshot::Sender<Result<(), Lost>>>,
}

impl Item {
    /// Without anyone who waits for it.
    pub(super) fn untold(work: Work) -> Self {
        Self { work, done: None }
    }

    pub(super) fn tell(self, result: Result<(), Lost>) {
        if let Some(done) = self.done {
            // Nobody may be waiting.
            let _ = done.send(result);
        }
    }
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    /// Objects and heads, those in the writer's hands included.
    bytes: u64,
    entries: usize,
    removals: usize,
    /// Of what the writer took last; it holds it until it asks for more.
    in_hand_ban_number: Option<u64>,
    /// Of objects whose removal found no room: their bans must outlive this process.
    forgotten_ban_number: Option<u64>,
    closing: bool,
    abandoned: bool,
}

/// What the writer is to do.
#[derive(Debug)]
pub(super) enum Next {
    Batch(Vec<Item>),
    /// Nothing came in time.
    Idle,
    /// Nothing more will come: everything was taken.
    Close,
    /// Stop at once.
    Abandon,
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    pub(super) room: Notify,
    bytes_max: u64,
}

impl Queue {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { state: Mutex::default(), work: Condvar::new(), room: Notify::new(), bytes_max }
    }

    /// Whether `bytes` more find room now.
    pub(super) fn check(&self, bytes: u64) -> Result<(), Refusal> {
        check(&self.state.lock(), bytes, self.bytes_max)
    }

    /// Adds something for which [`Self::check`] is asked again under the lock; removals have a bound of their own.
    pub(super) fn push(&self, work: Work) -> Result<Ticket, (Work, Refusal)> {
        let mut state = self.state.lock();
        let removal = matches!(work, Work::Removal { .. });
        let room = match (removal, state.closing || state.abandoned) {
            (_, true) => Err(Refusal::Closed),
            (true, false) if state.removals >= REMOVALS_MAX => Err(Refusal::QueueFull),
            (true, false) => Ok(()),
            (false, false) => check(&state, work.bytes(), self.bytes_max),
        };
        if let Err(refusal) = room {
            if removal {
                let oldest = state.forgotten_ban_number.unwrap_or(u64::MAX).min(work.ban_number());
                state.forgotten_ban_number = Some(oldest);
            }
            return Err((work, refusal));
        }
        state.add(&work);
        let (done, answer) = oneshot::channel();
        state.items.push_back(Item { work, done: Some(done) });
        drop(state);
        self.work.notify_one();
        Ok(Ticket(Some(answer)))
    }

    /// Waits for work, at most `timeout`.
    pub(super) fn next(&self, timeout: Duration) -> Next {
        let until = Instant::now() + timeout;
        let mut state = self.state.lock();
        state.in_hand_ban_number = None;
        loop {
            if state.abandoned {
                return Next::Abandon;
            }
            if !state.items.is_empty() {
                return Next::Batch(state.take_batch());
            }
            if state.closing {
                return Next::Close;
            }
            if self.work.wait_until(&mut state, until).timed_out() && state.items.is_empty() && !state.closing {
                return if state.abandoned { Next::Abandon } else { Next::Idle };
            }
        }
    }

    /// Waits for `timeout`, or until the log is closed or abandoned: whether it was.
    pub(super) fn pause(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut state = self.state.lock();
        while !state.closing && !state.abandoned {
            if self.work.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.closing || state.abandoned
    }

    /// The writer is done with these, and tells those who wait.
    pub(super) fn finish(&self, items: Vec<Item>, result: Result<(), Lost>) {
        let mut state = self.state.lock();
        items.iter().for_each(|item| state.subtract(&item.work));
        drop(state);
        items.into_iter().for_each(|item| item.tell(result));
        self.room.notify_waiters();
    }

    /// Work that could not be done goes back to the front, in its order.
    pub(super) fn put_back(&self, items: Vec<Item>) {
        let mut state = self.state.lock();
        for item in items.into_iter().rev() {
            state.items.push_front(item);
        }
    }

    /// Work of the writer's own, in front of all else.
    pub(super) fn add_own(&self, work: Work) {
        let mut state = self.state.lock();
        state.add(&work);
        state.items.push_front(Item::untold(work));
    }

    /// Takes out everything but removals.
    pub(super) fn take_bodies(&self) -> Vec<Item> {
        let mut state = self.state.lock();
        let (removals, bodies) =
            std::mem::take(&mut state.items).into_iter().partition(|item| matches!(item.work, Work::Removal { .. }));
        state.items = removals;
        bodies.into_iter().collect()
    }

    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.work.notify_all();
        self.room.notify_waiters();
    }

    pub(super) fn abandon(&self) {
        self.state.lock().abandoned = true;
        self.work.notify_all();
        self.room.notify_waiters();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.state.lock().abandoned
    }

    /// Nothing will be written any more.
    pub(super) fn drain(&self) -> Vec<Item> {
        let mut state = self.state.lock();
        state.abandoned = true;
        let items = std::mem::take(&mut state.items).into();
        drop(state);
        self.room.notify_waiters();
        items
    }

    /// `(bytes, entries)`, removals not counted.
    pub(super) fn filled(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.bytes, state.entries as u64)
    }

    /// The smallest ban number of what is not yet on the disk, objects as well as removals.
    pub(super) fn oldest_ban_number(&self) -> Option<u64> {
        let state = self.state.lock();
        let waiting = state.items.iter().map(|item| item.work.ban_number()).min();
        [waiting, state.in_hand_ban_number, state.forgotten_ban_number].into_iter().flatten().min()
    }
}

fn check(state: &State, bytes: u64, bytes_max: u64) -> Result<(), Refusal> {
    if state.closing || state.abandoned {
        Err(Refusal::Closed)
    } else if state.entries >= ENTRIES_MAX || state.bytes + bytes > bytes_max {
        Err(Refusal::QueueFull)
    } else {
        Ok(())
    }
}

impl State {
    fn add(&mut self, work: &Work) {
        if matches!(work, Work::Removal { .. }) {
            self.removals += 1;
        } else {
            self.entries += 1;
            self.bytes += work.bytes();
        }
    }

    fn subtract(&mut self, work: &Work) {
        if matches!(work, Work::Removal { .. }) {
            self.removals -= 1;
        } else {
            self.entries -= 1;
            self.bytes -= work.bytes();
        }
    }

    fn take_batch(&mut self) -> Vec<Item> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_ITEMS
            && bytes < BATCH_BYTES
            && let Some(item) = self.items.pop_front()
        {
            bytes += item.work.bytes();
            batch.push(item);
        }
        self.in_hand_ban_number = batch.iter().map(|item| item.work.ban_number()).min();
        batch
    }
}
