//! The one thread that writes: it takes batches from the queue, appends them, publishes them, and makes room.
//!
//! Reclaiming is FIFO with reinsertion: of the oldest segment, what was asked for since it was written is written again at the
//! front (its visits halved), up to half of what is reclaimed; the rest is let go. So a scan passes through and the hot set stays, and
//! the log always advances.
//!
//! Invariants: the files never exceed the size, because there is room for one more segment before one is begun; an object is
//! published after its bytes are in the file, never before; a segment is removed only after what was kept of it is synced;
//! after a failure the queue is emptied at once and refused at its entrance until a write succeeds again.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::format::{Kind, REMOVALS_PER_RECORD_MAX, SegmentHeader};
use super::index::{Located, Place};
use super::queue::{Item, Next, Work};
use super::segment::{OpenSegment, Segment, Subject, object_record_bytes};
use super::state::{Shared, explain};
use super::{LogState, Lost, recover};

/// Synced at the latest when this much was written.
pub(super) const UNSYNCED_BYTES_MAX: u64 = 64 << 20;
/// Published at the latest when this much was appended.
const UNCOMMITTED_BYTES_MAX: u64 = 4 << 20;
/// So many segments' worth may be written again before as much was let go: hot objects that were written together lie together.
const KEPT_SEGMENTS_MAX: u64 = 4;
const IDLE: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// After so many failures in a row another segment is tried: it may be the place.
const FAILURES_PER_SEGMENT: u32 = 3;

#[derive(Debug)]
struct Writer {
    shared: Arc<Shared>,
    open: Option<OpenSegment>,
    unpublished: Vec<Publication>,
    /// Of the batch in hand: how many items were appended, and how many of them are in the file.
    appended: usize,
    committed: usize,
    unsynced_bytes: u64,
    synced: Instant,
    /// How much may be written again: half of each segment reclaimed.
    keep_bytes: u64,
    /// Bytes and entries that must stay free in the open segment.
    reserved: (u64, usize),
}

#[derive(Debug)]
enum Publication {
    Object { key: u128, located: Located },
    Head { key: u128, version: u64, ban_number: u64, head: Place, head_bytes: u32 },
}

/// The thread's whole life.
pub(super) fn run(shared: Arc<Shared>) {
    let open = recover::recover(&shared);
    shared.recovered();
    shared.set_state(LogState::Ok);
    let unpublished = Vec::new();
    let synced = Instant::now();
    let keep_bytes = KEPT_SEGMENTS_MAX * shared.segment_bytes;
    let reserved = (0, 0);
    let mut writer = Writer {
        shared,
        open,
        unpublished,
        appended: 0,
        committed: 0,
        unsynced_bytes: 0,
        synced,
        keep_bytes,
        reserved,
    };
    let clean = writer.run();
    let shared = &writer.shared;
    for item in shared.queue.drain() {
        shared.index.leave_queue(item.work.key());
        shared.counters.lost(u64::from(matches!(item.work, Work::Object { .. })));
        item.tell(Err(Lost::Closed));
    }
    shared.set_state(LogState::Closed);
    shared.report();
    shared.ended.send_replace(Some(clean));
}

impl Writer {
    fn run(&mut self) -> bool {
        loop {
            let patience = if self.unsynced_bytes > 0 { self.shared.settings.sync_interval.min(IDLE) } else { IDLE };
            match self.shared.queue.next(patience) {
                Next::Batch(items) => {
                    if !self.batch(items) {
                        return false;
                    }
                }
                Next::Idle => {}
                Next::Close => return self.close(),
                Next::Abandon => return false,
            }
            let due = self.synced.elapsed() >= self.shared.settings.sync_interval;
            if self.unsynced_bytes > 0
                && due
                && let Err(error) = self.sync()
                && !self.failed(&error, Vec::new())
            {
                return false;
            }
            self.shared.report();
        }
    }

    /// Whether writing goes on.
    fn batch(&mut self, mut items: Vec<Item>) -> bool {
        let written = self.write(&items);
        let rest = items.split_off(self.committed);
        self.finish(items, Ok(()));
        written.err().is_none_or(|error| self.failed(&error, rest))
    }

    fn finish(&self, items: Vec<Item>, result: Result<(), Lost>) {
        for item in &items {
            self.shared.index.leave_queue(item.work.key());
        }
        self.shared.queue.finish(items, result);
    }

    /// Writes all of it. The first `committed` items are in the file and published, whatever happens.
    fn write(&mut self, items: &[Item]) -> io::Result<()> {
        (self.appended, self.committed) = (0, 0);
        while let Some(item) = items.get(self.appended) {
            self.appended += match &item.work {
                Work::Removal { .. } => self.append_removals(&items[self.appended..])?,
                Work::Object { .. } | Work::Head { .. } => {
                    self.append(&item.work)?;
                    1
                }
            };
            if self.open.as_ref().is_some_and(|open| open.uncommitted_bytes() >= UNCOMMITTED_BYTES_MAX) {
                self.commit("new")?;
            }
        }
        self.commit("new")
    }

    fn append(&mut self, work: &Work) -> io::Result<()> {
        match work {
            Work::Object { record, .. } => {
                // Written even if it was overtaken meanwhile: its ticket says so, and what overtook it may yet be lost.
                let (key, version, ban_number) = (record.key, record.version, record.ban_number);
                let body_bytes = record.body_bytes();
                let open = self.room_for(object_record_bytes(record.head.len(), body_bytes), 1)?;
                let subject = Subject { key, version, ban_number };
                let place = open.append_object(subject, &record.head, &record.body)?;
                let head_bytes = record.head.len() as u32;
                let located = Located {
                    version,
                    ban_number,
                    body_bytes,
                    record: place,
                    head: place,
                    record_head_bytes: head_bytes,
                    head_bytes,
                };
                self.unpublished.push(Publication::Object { key, located });
            }
            Work::Head { key, version, ban_number, head } => {
                let (key, version, ban_number) = (*key, *version, *ban_number);
                let is_there = |shared: &Shared| shared.index.get(key).is_some_and(|found| found.version == version);
                if !is_there(&self.shared) {
                    // It may lie in this batch.
                    self.commit("new")?;
                }
                if is_there(&self.shared) {
                    let open = self.room_for(object_record_bytes(head.len(), 0), 1)?;
                    let place = open.append_head(Subject { key, version, ban_number }, head)?;
                    let head_bytes = head.len() as u32;
                    self.unpublished.push(Publication::Head { key, version, ban_number, head: place, head_bytes });
                }
            }
            Work::Removal { .. } => {}
        }
        Ok(())
    }

    /// The removals that `items` begins with, as many as one record takes.
    fn append_removals(&mut self, items: &[Item]) -> io::Result<usize> {
        let removals = items.iter().map_while(|item| match item.work {
            Work::Removal { key, version, .. } => Some((key, version)),
            Work::Object { .. } | Work::Head { .. } => None,
        });
        let removals: Vec<_> = removals.take(REMOVALS_PER_RECORD_MAX).collect();
        self.room_for(object_record_bytes(0, 0), removals.len())?.append_removals(&removals)?;
        Ok(removals.len())
    }

    /// Everything appended is in the file, and can be found.
    fn commit(&mut self, kind: &str) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let bytes = open.uncommitted_bytes();
        open.commit()?;
        self.committed = self.appended;
        self.unsynced_bytes += bytes;
        self.shared.counters.written(kind, bytes);
        let index = &self.shared.index;
        for publication in self.unpublished.drain(..) {
            match publication {
                Publication::Object { key, located } => drop(index.publish(key, located)),
                Publication::Head { key, version, ban_number, head, head_bytes } => {
                    index.replace_head(key, version, ban_number, head, head_bytes);
                }
            }
        }
        if self.unsynced_bytes >= UNSYNCED_BYTES_MAX { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(open) = &self.open {
            open.sync().inspect_err(|_| self.shared.counters.error("sync"))?;
        }
        self.unsynced_bytes = 0;
        self.synced = Instant::now();
        Ok(())
    }

    /// The open segment with room for a record: this one, or another.
    fn room_for(&mut self, record_bytes: u64, entries: usize) -> io::Result<&mut OpenSegment> {
        let segment_bytes = self.shared.segment_bytes;
        let fits = |open: &OpenSegment| open.segment.bytes == segment_bytes && open.fits(record_bytes, entries);
        // What is kept of the oldest may fill a new segment; at the last attempt it must leave room.
        for attempt in 0..=KEPT_SEGMENTS_MAX {
            if self.open.as_ref().is_some_and(fits) {
                break;
            }
            self.reserved = if attempt < KEPT_SEGMENTS_MAX { (0, 0) } else { (record_bytes, entries) };
            self.rotate()?;
        }
        let open = self.open.as_mut().filter(|open| fits(open));
        open.ok_or_else(|| io::Error::other("a record is larger than a segment"))
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.commit("new")?;
        if let Some(open) = &mut self.open {
            open.seal().inspect_err(|_| self.shared.counters.error("write"))?;
            self.unsynced_bytes = 0;
            self.open = None;
        }
        self.begin()
    }

    fn begin(&mut self) -> io::Result<()> {
        // Only where the last attempt failed, or the size changed, is anything left to do here.
        self.make_room()?;
        let shared = &self.shared;
        let last = shared.segments.read().last_key_value().map(|(sequence, _)| *sequence);
        let sequence = last.map_or(1, |last| last + 1);
        let header = SegmentHeader { sequence, bytes: shared.segment_bytes, epoch: shared.epoch };
        let opened = shared.folder.create(sequence).and_then(|device| OpenSegment::create(device, header));
        let open = opened.inspect_err(|_| {
            shared.counters.error("create");
            if shared.folder.remove(sequence).is_err() {
                shared.counters.error("remove");
            }
        })?;
        shared.segments.write().insert(sequence, Arc::clone(&open.segment));
        self.open = Some(open);
        self.make_room()
    }

    /// Room for one more segment within the size, and for its objects in the index.
    fn make_room(&mut self) -> io::Result<()> {
        let is_full = |shared: &Shared| {
            shared.file_bytes() + shared.segment_bytes > shared.settings.size_bytes || shared.index_is_full()
        };
        while is_full(&self.shared) {
            let oldest = self.shared.segments.read().first_key_value().map(|(_, segment)| Arc::clone(segment));
            let in_use = |segment: &Arc<Segment>| {
                self.open.as_ref().is_some_and(|open| open.segment.sequence == segment.sequence)
            };
            let Some(oldest) = oldest.filter(|segment| !in_use(segment)) else { break };
            self.reclaim(&oldest)?;
        }
        Ok(())
    }

    fn reclaim(&mut self, oldest: &Arc<Segment>) -> io::Result<()> {
        let sequence = oldest.sequence;
        self.keep_bytes = (self.keep_bytes + oldest.bytes / 2).min(KEPT_SEGMENTS_MAX * self.shared.segment_bytes);
        let mut evicted = 0;
        let entries = recover::entries(oldest);
        let told = entries.is_some();
        for entry in entries.unwrap_or_default() {
            let place = Place { segment: sequence, block: entry.block };
            if entry.kind != Kind::Object {
                continue;
            }
            let Some((object, visits)) = self.shared.index.visits_at(entry.key, place) else { continue };
            let bytes = object_record_bytes(object.head_bytes as usize, object.body_bytes);
            let (with_reserved, entries) = (bytes + self.reserved.0, 1 + self.reserved.1);
            let has_room = |open: &OpenSegment| open.fits(with_reserved, entries);
            let fits = bytes <= self.keep_bytes && self.open.as_ref().is_some_and(has_room);
            if visits > 0 && fits && self.keep(entry.key, &object, oldest)? {
                self.keep_bytes -= bytes;
            } else if self.shared.index.evict(entry.key, place) {
                evicted += 1;
            }
        }
        if self.unsynced_bytes > 0 {
            self.sync()?;
        }
        self.shared.segments.write().remove(&sequence);
        if !told {
            evicted += self.shared.index.evict_segments(|segment| segment == sequence);
        }
        self.shared.counters.evicted(evicted);
        self.shared.folder.remove(sequence).inspect_err(|_| self.shared.counters.error("remove"))
    }

    /// Writes an object again; `false` if it cannot be read any more.
    fn keep(&mut self, key: u128, object: &Located, from: &Segment) -> io::Result<bool> {
        let head = self.shared.segment(object.head.segment);
        let head = head.and_then(|segment| segment.read_head(key, object.version, object.head).ok());
        let readable = |index| from.read_frame(key, object, index).is_ok();
        let frames = object.body_bytes.div_ceil(super::BODY_CHUNK_BYTES);
        // Read through before anything of it is written: a copy half written could only be thrown away.
        let Some(head) = head.filter(|_| (0..frames).all(readable)) else {
            self.shared.counters.error("read");
            return Ok(false);
        };
        let Some(open) = &mut self.open else { return Ok(false) };
        let to = open.append_copy(key, object, &head, from)?;
        self.shared.budget.lock().spend(open.uncommitted_bytes());
        self.commit("reinserted")?;
        self.shared.index.moved(key, object, to);
        Ok(true)
    }

    /// A write failed: says so, lets go of what waits, and tries until it works again. `false` if the log was closed first.
    fn failed(&mut self, error: &io::Error, mut rest: Vec<Item>) -> bool {
        let (mut reason, mut read_only) = explain(error);
        let (mut backoff, mut failures) = (BACKOFF_MIN, 0);
        loop {
            self.shared.counters.error("write");
            self.unpublished.clear();
            if let Some(open) = &mut self.open {
                open.rewind();
            }
            failures += 1;
            if failures % FAILURES_PER_SEGMENT == 0 {
                // It stays unsealed, can be read, and is not trusted after a restart.
                self.open = None;
            }
            self.shared.set_state(LogState::Degraded { reason, read_only });
            self.give_up(std::mem::take(&mut rest));
            self.shared.report();
            if self.shared.queue.pause(backoff) {
                return false;
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
            let Err(error) = self.probe() else { break };
            (reason, read_only) = explain(&error);
        }
        self.shared.set_state(LogState::Ok);
        true
    }

    /// Bodies and heads are lost; removals wait, and so do those of what a lost object was to replace.
    fn give_up(&self, items: Vec<Item>) {
        let waiting = self.shared.queue.take_bodies();
        let (removals, bodies): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| matches!(item.work, Work::Removal { .. }));
        self.shared.queue.put_back(removals);
        for item in bodies.into_iter().chain(waiting) {
            if let Work::Object { record, superseded } = &item.work {
                self.shared.counters.lost(1);
                if let Some(ban_number) = *superseded
                    && self.shared.index.remove(record.key, record.version, true).is_some()
                {
                    self.shared.queue.add_own(Work::Removal { key: record.key, version: record.version, ban_number });
                }
            }
            self.finish(vec![item], Err(Lost::WriteFailed));
        }
    }

    /// A small record that says nothing.
    fn probe(&mut self) -> io::Result<()> {
        match &mut self.open {
            Some(open) => open.reopen()?,
            None => self.begin()?,
        }
        self.room_for(object_record_bytes(0, 0), 0)?.append_removals(&[])?;
        self.commit("new")?;
        self.sync()
    }

    /// Everything was taken from the queue: seals the open segment. Whether all of it is safe on the disk.
    fn close(&mut self) -> bool {
        let healthy = self.shared.state() == LogState::Ok;
        let Some(open) = &mut self.open else { return healthy };
        match open.seal() {
            Ok(()) => healthy,
            Err(error) => {
                self.shared.counters.error("write");
                tracing::error!(disk = self.shared.settings.name, %error, "the disk store could not be closed cleanly");
                false
            }
        }
    }
}
