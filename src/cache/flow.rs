//! Bytes on their way: one writer appends, and any number of readers take them from byte zero.
//!
//! Parts: [`Flow`], shared by its writer and its readers; [`Content`], what it leaves behind when it is whole.
//!
//! The writer copies what the network brought into chunks of [`CHUNK_BYTES`] of exactly known size (the network's own pieces
//! are slices of larger buffers, whose size nobody can account for). A full chunk is frozen and handed out by reference; from
//! the chunk being filled readers get copies of at most [`COPY_BYTES_MAX`]. So nothing is joined at the end: the chunks *are*
//! the content, and one of up to a chunk is a single `Bytes`. What comes up from a disk lies in chunks of the disk's already, and
//! is taken as it is.
//!
//! Phases: filling → complete | failed, or, when the content turns out too large to keep, passing → passed | failed. While
//! passing, the bytes go only to the *owner* (the reader of the request that fills), as a queue freed from its front.
//!
//! Invariants: a reader sees `End` only after the writer said the content is whole and the promised length agreed; every other
//! end is an error. A flow of promised length is never passing. Bytes of a running fill are never let go, those of a content only as
//! a whole. Knows neither keys, the store nor HTTP.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::RwLock;
use tokio::sync::watch;

use super::budget::Charge;
use super::hold;

/// The size of a body's chunks, but for the last. (Small in unit tests, so that they cross many borders.)
pub(super) const CHUNK_BYTES: usize = if cfg!(test) { 64 } else { 1 << 20 };
/// The most a reader copies from an unfinished chunk at once.
const COPY_BYTES_MAX: u64 = 64 << 10;
/// Enough to join the pieces of a passing body that come between two reads; the last piece may lie across.
const PASSING_COPY_BYTES_MAX: usize = 1 << 20;
/// How far an owner may fall behind a passing body, beyond what it had not read when that began.
pub(super) const PASSING_BYTES_MAX: u64 = if cfg!(test) { 1 << 20 } else { 8 << 20 };
/// The longest pause of the origin per piece, when the queue is full; none up to half full.
const PASSING_PAUSE_MAX: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 1000 });
/// The first allocation for a body of unknown length; it doubles up to a chunk.
const FIRST_BYTES: usize = if cfg!(test) { 16 } else { 4 << 10 };

/// Whole bytes, immutable, until they are let go.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) bytes: u64,
    chunk_bytes: usize,
    /// None left: let go.
    chunks: RwLock<Box<[Bytes]>>,
    /// When somebody last came for some of it, on the clock of [`hold`].
    read_ms: AtomicU64,
}

impl Content {
    fn new(bytes: u64, chunk_bytes: usize, chunks: Box<[Bytes]>) -> Self {
        Self { bytes, chunk_bytes, chunks: RwLock::new(chunks), read_ms: AtomicU64::new(hold::now_ms()) }
    }

    /// All of it, in order. None: it was let go.
    pub(super) fn pieces(&self) -> Option<Vec<Bytes>> {
        let chunks = self.chunks.read();
        (self.bytes == 0 || !chunks.is_empty()).then(|| chunks.to_vec())
    }

    /// The longest run at `position` that lies in one chunk, at most `bytes_max` long; empty at the end. None: it was let go.
    pub(super) fn read(&self, position: u64, bytes_max: u64) -> Option<Bytes> {
        if position >= self.bytes {
            return Some(Bytes::new());
        }
        self.touch();
        read_chunk(&self.chunks.read(), self.chunk_bytes, position, bytes_max)
    }

    /// In several chunks: who reads it holds more than what it has in hand.
    pub(super) fn is_large(&self) -> bool {
        self.bytes > self.chunk_bytes as u64
    }

    /// Somebody reads it, or is about to.
    pub(super) fn touch(&self) {
        if self.is_large() {
            self.read_ms.store(hold::now_ms(), Ordering::Relaxed);
        }
    }

    /// Nobody has come for any of it for `hold`. Never so of one chunk: to let go of it would free nothing.
    pub(super) fn is_stalled(&self, hold: Duration) -> bool {
        self.is_large() && hold::passed(self.read_ms.load(Ordering::Relaxed), hold)
    }

    /// Frees the bytes, but for the chunks that readers have in hand. Who reads on has to find them elsewhere.
    pub(super) fn let_go(&self) {
        drop(std::mem::take(&mut *self.chunks.write()));
    }
}

fn read_chunk(chunks: &[Bytes], chunk_bytes: usize, position: u64, bytes_max: u64) -> Option<Bytes> {
    let chunk = chunks.get((position / chunk_bytes as u64) as usize)?;
    let start = (position % chunk_bytes as u64) as usize;
    let end = chunk.len().min(start.saturating_add(usize::try_from(bytes_max).unwrap_or(usize::MAX)));
    (start < end).then(|| chunk.slice(start..end))
}

/// Why a fill came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The writer went away: the origin failed, or the request was given up.
    Cancelled,
    /// Another number of bytes than the head promised.
    WrongLength,
    /// Too large to keep, and this reader is not the one it still goes to.
    TooLarge,
    /// The owner fell too far behind a body too large to keep.
    TooSlow,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "the fill ended before its body was whole",
            Self::WrongLength => "the body is not of the length its head promised",
            Self::TooLarge => "the body is too large to keep; it goes only to the request that fetches it",
            Self::TooSlow => "the client fell too far behind a body too large to keep",
        })
    }
}

#[derive(Debug)]
enum Phase {
    Filling,
    Complete(Arc<Content>),
    Passing,
    Passed,
    Failed(Failure),
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// While filling: chunks from byte zero. While passing: what the owner has not read yet, from `front` on.
    chunks: VecDeque<Bytes>,
    front: u64,
    /// What the owner had not read when passing began.
    behind_at_passing: u64,
    /// The chunk being filled; its capacity is fixed by [`Fill::room`].
    tail: Vec<u8>,
    written: u64,
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) promised_bytes: Option<u64>,
    /// Of every chunk but the last.
    chunk_bytes: usize,
    state: RwLock<State>,
    changed: watch::Sender<()>,
    owner_position: AtomicU64,
}

/// What a reader finds at its position.
#[derive(Debug)]
pub(super) enum Peek {
    Bytes(Bytes),
    /// A copy of more than a few bytes, which nobody has paid for yet.
    Joined(Bytes),
    End,
    Complete(Arc<Content>),
    Failed(Failure),
    Wait,
}

/// What the writer's next bytes need.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// This many bytes fit into memory that is there.
    Ready(usize),
    /// The chunk being filled must grow by this many bytes of capacity first.
    Grow(usize),
}

impl Flow {
    pub(super) fn new(promised_bytes: Option<u64>) -> Self {
        Self::of_chunks(promised_bytes, CHUNK_BYTES)
    }

    /// Its writer brings whole chunks of this size, with [`Self::push`].
    pub(super) fn of_chunks(promised_bytes: Option<u64>, chunk_bytes: usize) -> Self {
        Self {
            promised_bytes,
            chunk_bytes,
            state: RwLock::new(State {
                phase: Phase::Filling,
                chunks: VecDeque::new(),
                front: 0,
                behind_at_passing: 0,
                tail: Vec::new(),
                written: 0,
            }),
            changed: watch::Sender::new(()),
            owner_position: AtomicU64::new(0),
        }
    }

    /// Wakes when anything changed since it was last looked at.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The owner has read everything below `position`.
    pub(super) fn owner_reached(&self, position: u64) {
        self.owner_position.store(position, Ordering::Release);
    }

    pub(super) fn peek(&self, position: u64, bytes_max: u64, owner: bool) -> Peek {
        let state = self.state.read();
        match &state.phase {
            Phase::Complete(content) => Peek::Complete(Arc::clone(content)),
            Phase::Failed(failure) => Peek::Failed(*failure),
            Phase::Passing | Phase::Passed if !owner => Peek::Failed(Failure::TooLarge),
            Phase::Filling => state.kept(self.chunk_bytes, position, bytes_max).map_or(Peek::Wait, Peek::Bytes),
            Phase::Passing => state.queued(position, bytes_max).unwrap_or(Peek::Wait),
            Phase::Passed => state.queued(position, bytes_max).unwrap_or(Peek::End),
        }
    }

    pub(super) fn written(&self) -> u64 {
        self.state.read().written
    }

    pub(super) fn is_passing(&self) -> bool {
        matches!(self.state.read().phase, Phase::Passing)
    }

    /// How the flow failed, if it did.
    pub(super) fn failure(&self) -> Option<Failure> {
        match self.state.read().phase {
            Phase::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// What must happen before up to `wanted` more bytes can be written. Only the writer calls this, so it stays true.
    pub(super) fn room(&self, wanted: usize) -> Room {
        let state = self.state.read();
        let (filled, capacity) = (state.tail.len(), state.tail.capacity());
        if filled < capacity {
            return Room::Ready(wanted.min(capacity - filled));
        }
        let target = match self.promised_bytes {
            Some(promised) => (promised - (state.written - filled as u64)).min(CHUNK_BYTES as u64) as usize,
            None => (2 * capacity).max(FIRST_BYTES).max((filled + wanted).next_power_of_two()).min(CHUNK_BYTES),
        };
        Room::Grow(target.saturating_sub(capacity))
    }

    /// Gives the chunk being filled `bytes` more capacity, which the caller has paid for.
    pub(super) fn grow(&self, bytes: usize) {
        let mut state = self.state.write();
        let capacity = state.tail.capacity() + bytes;
        let filled = state.tail.len();
        state.tail.reserve_exact(capacity - filled);
    }

    /// Appends bytes that [`Fill::room`] said are `Ready`; a chunk that is full is frozen, paid for out of `charge`.
    pub(super) fn append(&self, data: &[u8], charge: &mut Charge) {
        let mut state = self.state.write();
        state.tail.extend_from_slice(data);
        state.written += data.len() as u64;
        if state.tail.len() == CHUNK_BYTES {
            state.freeze_tail(charge);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// The next chunk as it is, paid for out of `charge`.
    pub(super) fn push(&self, chunk: Bytes, charge: &mut Charge) {
        let mut state = self.state.write();
        let bytes = chunk.len() as u64;
        state.written += bytes;
        state.chunks.push_back(charge.split(bytes).pay_for(chunk));
        drop(state);
        self.changed.send_replace(());
    }

    /// The bytes are whole. `charge` is what is paid beyond the frozen chunks; what the last one does not need goes back.
    pub(super) fn complete(&self, charge: &mut Charge) -> Arc<Content> {
        let mut state = self.state.write();
        if state.tail.len() < state.tail.capacity() {
            // A new piece: an allocator that shrinks one in place keeps up to half of it that nobody pays for.
            state.tail = state.tail.as_slice().to_vec();
        }
        if !state.tail.is_empty() {
            state.freeze_tail(charge);
        }
        drop(charge.split(u64::MAX));
        let chunks = std::mem::take(&mut state.chunks).into_iter().collect();
        let content = Arc::new(Content::new(state.written, self.chunk_bytes, chunks));
        state.phase = Phase::Complete(Arc::clone(&content));
        drop(state);
        self.changed.send_replace(());
        content
    }

    /// From now on only the owner gets the bytes; every other reader fails.
    pub(super) fn start_passing(&self, charge: &mut Charge) {
        let mut state = self.state.write();
        if !state.tail.is_empty() {
            state.freeze_tail(charge);
        }
        state.phase = Phase::Passing;
        state.trim(self.owner_position.load(Ordering::Acquire));
        state.behind_at_passing = state.written - state.front;
        drop(state);
        self.changed.send_replace(());
    }

    /// How many bytes more the owner of a passing body has to read than when that began; what it has read is forgotten.
    pub(super) fn behind(&self) -> u64 {
        let mut state = self.state.write();
        state.trim(self.owner_position.load(Ordering::Acquire));
        (state.written - state.front).saturating_sub(state.behind_at_passing)
    }

    /// For how long the origin of a passing body should be held back before its next piece, so that the owner can follow. None: it is
    /// not passing.
    pub(super) fn pause(&self) -> Option<Duration> {
        if !self.is_passing() {
            return None;
        }
        let over = self.behind().saturating_sub(PASSING_BYTES_MAX / 2).min(PASSING_BYTES_MAX / 2);
        Some(PASSING_PAUSE_MAX.mul_f64(over as f64 / (PASSING_BYTES_MAX / 2) as f64))
    }

    /// Appends to a passing body.
    pub(super) fn pass(&self, data: Bytes) {
        let mut state = self.state.write();
        state.written += data.len() as u64;
        state.chunks.push_back(data);
        drop(state);
        self.changed.send_replace(());
    }

    /// A passing body is whole.
    pub(super) fn end_passing(&self) {
        self.state.write().phase = Phase::Passed;
        self.changed.send_replace(());
    }

    /// Ends in failure, unless it has ended already; frees the bytes at once.
    pub(super) fn fail(&self, failure: Failure) {
        let mut state = self.state.write();
        if matches!(state.phase, Phase::Filling | Phase::Passing) {
            state.phase = Phase::Failed(failure);
            state.chunks = VecDeque::new();
            state.tail = Vec::new();
        }
        drop(state);
        self.changed.send_replace(());
    }
}

impl State {
    fn trim(&mut self, read: u64) {
        while let Some(first) = self.chunks.front()
            && self.front + first.len() as u64 <= read
        {
            self.front += first.len() as u64;
            self.chunks.pop_front();
        }
    }

    fn freeze_tail(&mut self, charge: &mut Charge) {
        let tail = std::mem::take(&mut self.tail);
        let paid = charge.split(tail.capacity() as u64);
        self.chunks.push_back(paid.pay_for(tail));
    }

    /// While filling all chunks but the one being filled are of one size, from byte zero.
    fn kept(&self, chunk_bytes: usize, position: u64, bytes_max: u64) -> Option<Bytes> {
        let frozen = (self.chunks.len() * chunk_bytes) as u64;
        if position < frozen {
            let chunk = self.chunks.get((position / chunk_bytes as u64) as usize)?;
            return read_chunk(std::slice::from_ref(chunk), chunk_bytes, position % chunk_bytes as u64, bytes_max);
        }
        let rest = self.tail.get((position - frozen) as usize..)?;
        let bytes = rest.len().min(bytes_max.min(COPY_BYTES_MAX) as usize);
        (bytes > 0).then(|| Bytes::copy_from_slice(&rest[..bytes]))
    }

    /// While passing the pieces are of any size; those read are gone, so the wanted one is near the front. Several are handed
    /// out as one copy: Pingora takes up to four pieces from the origin for each read, so a reader of single pieces would
    /// fall behind the fastest of clients.
    fn queued(&self, position: u64, bytes_max: u64) -> Option<Peek> {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let mut run = BytesMut::new();
        let mut start = self.front;
        for (at, piece) in self.chunks.iter().enumerate() {
            let end = start + piece.len() as u64;
            if position < end && run.len() < bytes_max.min(PASSING_COPY_BYTES_MAX) {
                let from = position.saturating_sub(start) as usize;
                let bytes = (piece.len() - from).min(bytes_max - run.len());
                if run.is_empty() && (at + 1 == self.chunks.len() || bytes >= PASSING_COPY_BYTES_MAX) {
                    return Some(Peek::Bytes(piece.slice(from..from + bytes)));
                }
                run.extend_from_slice(&piece[from..from + bytes]);
            }
            start = end;
        }
        (!run.is_empty()).then(|| Peek::Joined(run.freeze()))
    }
}
