//! One disk, as everyone else sees it. Nothing here blocks but [`Log::open`] and dropping.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::device::{Files, Folder, Lock};
use super::format::{BLOCK_BYTES, SegmentHeader};
use super::index::Located;
use super::segment::{Segment, beginning_bytes, buffer_for_frame};
use super::state::Shared;
use super::types::Late;
use super::{
    BODY_CHUNK_BYTES, Beginning, Found, LogSettings, LogState, LogStats, OpenError, ReadError, Record, Refusal, Ticket,
    admit, writer,
};
use crate::observe::Metrics;

/// An object of 64 MiB, what is kept at most by default, fits with its head.
const SEGMENT_BYTES_MAX: u64 = 66 << 20;
const SEGMENTS_MIN: u64 = 16;
/// Each has a file open; on large disks segments are larger.
const SEGMENTS_MAX: u64 = 512;
const SIZE_BYTES_MIN: u64 = 1 << 20;
/// A queue filled up to this part of it waits for nobody.
const NEARLY_EMPTY: u64 = 4;

/// What may be read without another thread, where the system has it in memory: copying and verifying this takes some 50 µs.
const AT_ONCE_BYTES_MAX: u64 = 320 << 10;
/// A head is seldom larger.
const HEAD_BYTES: u64 = BLOCK_BYTES;

/// The segment of a number, as long as it is there.
type Segments<'a> = dyn Fn(u32) -> Option<Segment> + 'a;

/// A log of objects in one folder. Dropped without [`Log::close`], it ends as if the process had been killed.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held until the writer has ended.
    lock: Mutex<Lock>,
}

impl Log {
    /// Takes the folder (making it where it is not there) and begins to rebuild the index; what that has not reached yet is not
    /// found. Blocks for a few file operations for each segment.
    ///
    /// # Errors
    /// The folder is in use by another process or cannot be used, or the size is too small.
    pub fn open(settings: LogSettings, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        Self::open_late(settings, metrics, Late::default())
    }

    /// As [`Self::open`], in a process that has had other logs open before.
    pub(super) fn open_late(settings: LogSettings, metrics: Arc<Metrics>, late: Late) -> Result<Self, OpenError> {
        let folder = Box::new(Files::new(&settings.path));
        Self::open_on(settings, metrics, folder, late)
    }

    pub(super) fn open_on(
        settings: LogSettings,
        metrics: Arc<Metrics>,
        folder: Box<dyn Folder>,
        late: Late,
    ) -> Result<Self, OpenError> {
        if settings.size_bytes < SIZE_BYTES_MIN {
            return Err(OpenError::TooSmall { size_bytes_min: SIZE_BYTES_MIN });
        }
        let path = settings.path.clone();
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse(path.clone()),
            _ => OpenError::Io(path.clone(), error),
        };
        let mut lock = Lock::take(&settings.path).map_err(failed)?;
        if late.emptied {
            for (sequence, _) in folder.list().map_err(failed)? {
                folder.remove(sequence).map_err(failed)?;
            }
        }
        let epoch_known =
            folder.list().map_err(failed)?.iter().filter_map(|(sequence, _)| epoch(&*folder, *sequence)).max();
        let epoch = lock.next_epoch(epoch_known.unwrap_or(0).max(late.epoch_min)).map_err(failed)?;
        let segment_bytes = segment_bytes(settings.size_bytes);
        let shared = Arc::new(Shared::new(settings, segment_bytes, (epoch, late), folder, metrics));
        let for_writer = Arc::clone(&shared);
        let name = format!("disk-{}", shared.settings.name);
        let writer = std::thread::Builder::new().name(name).spawn(move || writer::run(for_writer)).map_err(failed)?;
        Ok(Self { shared, writer: Mutex::new(Some(writer)), lock: Mutex::new(lock) })
    }

    /// How often this log was opened, this time included: larger every time, durably. Versions that begin with it never repeat.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// The versions of other disks of this process begin with a larger one: the next opening is counted from there.
    ///
    /// # Errors
    /// It cannot be noted.
    pub(super) fn remember_epoch(&self, epoch: u64) -> io::Result<()> {
        self.lock.lock().next_epoch(epoch.saturating_sub(1)).map(|_| ())
    }

    /// The newest version of what is kept under `key`, from RAM. Counts as being asked for: such an object outlives others.
    pub fn find(&self, key: u128) -> Option<Found> {
        self.shared.sketch.add(key);
        self.shared.index.visit(key).map(|located| found(key, located))
    }

    /// As [`Self::find`], without leaving a trace.
    pub fn peek(&self, key: u128) -> Option<Found> {
        self.shared.index.get(key).map(|located| found(key, located))
    }

    /// Whether nothing of `key` is found, and the queue is nearly empty: something offered now is written soon.
    pub fn lacks_with_room(&self, key: u128) -> bool {
        self.shared.index.get(key).is_none()
            && self.shared.queue.filled().0 <= self.shared.settings.queue_bytes_max / NEARLY_EMPTY
    }

    /// Memory of the index, and of what estimates how often a key was asked for.
    pub fn index_bytes(&self) -> u64 {
        self.shared.index_bytes()
    }

    /// The key was asked for and [`Self::find`] was not called, because RAM had it: it is told for the sake of admission.
    pub fn asked_for(&self, key: u128) {
        self.shared.sketch.add(key);
    }

    /// The head in force.
    ///
    /// # Errors
    /// It was reclaimed, or is damaged: then it is not found any more.
    pub async fn read_head(&self, found: &Found) -> Result<Vec<u8>, ReadError> {
        let Found { key, version, .. } = *found;
        let read = self.reading(found, HEAD_BYTES, Vec::len, (), move |segments, located, _, ()| {
            let segment = segments(located.head.segment);
            segment.map(|segment| segment.read_head(key, version, located.head))
        });
        read.await.map(|(head, ())| head)
    }

    /// The head in force and the first chunk of the body, verified, at the cost of one wait. `buffer`: of
    /// [`Found::beginning_bytes`] at least.
    ///
    /// # Errors
    /// It was reclaimed, or is damaged: then it is not found any more.
    pub async fn read_beginning<B>(&self, found: &Found, buffer: B) -> Result<Beginning<B>, ReadError>
    where
        B: AsMut<[u8]> + Send + 'static,
    {
        let key = found.key;
        let wanted = found.beginning_bytes() as u64;
        let bytes = |(head, first): &(Range<usize>, Range<usize>)| head.len() + first.len();
        let read = self.reading(found, wanted, bytes, buffer, move |segments, located, segment, buffer: &mut B| {
            let buffer = buffer.as_mut();
            // Copied meanwhile with another head, it may be longer.
            if beginning_bytes(&located) > buffer.len() {
                return None;
            }
            if located.head.segment == located.record.segment {
                return Some(segment.read_beginning(segment, key, &located, buffer));
            }
            let with_head = segments(located.head.segment)?;
            Some(segment.read_beginning(&with_head, key, &located, buffer))
        });
        read.await.map(|((head, first), buffer)| Beginning { buffer, head, first })
    }

    /// The chunk of [`super::BODY_CHUNK_BYTES`] that `offset` lies in, verified: where in `buffer`, of [`Found::chunk_bytes`] at
    /// least, it is.
    ///
    /// # Errors
    /// It was reclaimed, or is damaged: then it is not found any more. There is no such chunk.
    pub async fn read_chunk<B>(&self, found: &Found, offset: u64, buffer: B) -> Result<(Range<usize>, B), ReadError>
    where
        B: AsMut<[u8]> + Send + 'static,
    {
        if offset >= found.body_bytes {
            return Err(ReadError::Gone);
        }
        let (key, wanted) = (found.key, found.chunk_bytes() as u64);
        let read = self.reading(found, wanted, Range::len, buffer, move |_, located, segment, buffer: &mut B| {
            Some(segment.read_chunk(key, &located, offset / BODY_CHUNK_BYTES, buffer.as_mut()))
        });
        read.await
    }

    /// The body from `offset` on, verified: at most `bytes_max` bytes, and at most to the end of the chunk of
    /// [`super::BODY_CHUNK_BYTES`] that `offset` lies in. Empty at the body's end and beyond.
    ///
    /// # Errors
    /// It was reclaimed, or is damaged: then it is not found any more.
    pub async fn read(&self, found: &Found, offset: u64, bytes_max: usize) -> Result<Bytes, ReadError> {
        if offset >= found.body_bytes || bytes_max == 0 {
            return Ok(Bytes::new());
        }
        let key = found.key;
        let buffer = buffer_for_frame(found.body_bytes, offset / BODY_CHUNK_BYTES);
        let wanted = found.body_bytes.min(BODY_CHUNK_BYTES);
        let read = self.reading(found, wanted, Bytes::len, buffer, move |_, located, segment, buffer| {
            Some(segment.read_body(buffer, key, &located, offset, bytes_max))
        });
        read.await.map(|(bytes, _)| bytes)
    }

    /// Whole chunks of the body from the one at `offset` on, verified, at most `chunks_max`; none at the body's end.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_chunks(&self, found: &Found, offset: u64, chunks_max: u64) -> Result<Vec<Bytes>, ReadError> {
        let (key, body_bytes, first) = (found.key, found.body_bytes, offset / BODY_CHUNK_BYTES);
        let end = body_bytes.div_ceil(BODY_CHUNK_BYTES).min(first + chunks_max);
        let buffers = (first..end).map(|index| buffer_for_frame(body_bytes, index)).collect::<Vec<_>>();
        let bytes = |chunks: &Vec<Bytes>| chunks.iter().map(Bytes::len).sum();
        let wanted = (end - first.min(end)).saturating_mul(BODY_CHUNK_BYTES).min(body_bytes);
        let read = self.reading(found, wanted, bytes, buffers, move |_, located, segment, buffers| {
            let chunks = (first..)
                .zip(buffers)
                .map(|(index, buffer)| segment.read_body(buffer, key, &located, index * BODY_CHUNK_BYTES, usize::MAX));
            Some(chunks.collect())
        });
        read.await.map(|(chunks, _)| chunks)
    }

    /// `wanted`: about how many bytes it reads. `read` may be called twice, with the same buffer: what the system has in memory is read
    /// at once, which costs less than handing it to another thread; else on a thread that may wait.
    async fn reading<B: Send + 'static, T: Send + 'static>(
        &self,
        found: &Found,
        wanted: u64,
        bytes: fn(&T) -> usize,
        mut buffer: B,
        read: impl Fn(&Segments<'_>, Located, &Segment, &mut B) -> Option<io::Result<T>> + Send + 'static,
    ) -> Result<(T, B), ReadError> {
        if wanted <= AT_ONCE_BYTES_MAX
            && let Some((segment, located)) = locate(&self.shared, found)
            && let Some(segment) = segment.at_once()
        {
            let segments = |sequence| self.shared.segment(sequence)?.at_once();
            // What cannot be had so is no word against the object.
            if let Some(Ok(value)) = read(&segments, located, &segment, &mut buffer) {
                return self.shared.was_read(found.key, &located, Ok(value), bytes).map(|value| (value, buffer));
            }
        }
        let reads = Arc::clone(&self.shared.reads);
        let permit = match Arc::clone(&reads).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.shared.counters.reads_bound_reached();
                reads.acquire_owned().await.map_err(|_| ReadError::Gone)?
            }
        };
        let (shared, found) = (Arc::clone(&self.shared), *found);
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let (segment, located) = locate(&shared, &found).ok_or(ReadError::Gone)?;
            let segments = |sequence| shared.segment(sequence).map(|segment| Segment::clone(&segment));
            let result = read(&segments, located, &segment, &mut buffer).ok_or(ReadError::Gone)?;
            shared.was_read(found.key, &located, result, bytes).map(|value| (value, buffer))
        });
        reading.await.unwrap_or(Err(ReadError::Gone))
    }

    /// Takes an object to be written, or refuses it at once. From then on its older versions are not found, also where it is
    /// refused (unless it is itself outdated).
    ///
    /// # Errors
    /// Why it will not be kept.
    pub fn offer(&self, record: Record) -> Result<Ticket, Refusal> {
        admit::offer(&self.shared, record).map_err(|(record, refusal)| admit::refused(&self.shared, &record, refusal))
    }

    /// As [`Self::offer`], but waits until `deadline` where the queue is full.
    ///
    /// # Errors
    /// Why it will not be kept.
    pub async fn offer_waiting(&self, mut record: Record, deadline: Instant) -> Result<Ticket, Refusal> {
        loop {
            let room = self.shared.queue.room.notified();
            tokio::pin!(room);
            // Listening before looking: room made in between is not missed.
            room.as_mut().enable();
            let refusal = match admit::offer(&self.shared, record) {
                Ok(ticket) => return Ok(ticket),
                Err((back, refusal)) => {
                    record = back;
                    refusal
                }
            };
            let waits = refusal == Refusal::QueueFull && tokio::time::timeout_at(deadline, room).await.is_ok();
            if !waits {
                return Err(admit::refused(&self.shared, &record, refusal));
            }
        }
    }

    /// A new head for this version, as after a 304.
    ///
    /// # Errors
    /// Why the head that is there stays.
    pub fn replace_head(&self, key: u128, version: u64, ban_number: u64, head: Vec<u8>) -> Result<Ticket, Refusal> {
        admit::replace_head(&self.shared, key, version, ban_number, head)
    }

    /// Nothing of `key` up to `version` is found from now on, what is in the queue included; also not after a restart once the
    /// ticket resolves (on a disk that fails: when it is back). Until then [`Self::oldest_ban_number`] still counts it.
    ///
    /// # Errors
    /// It is gone now, but could not be noted for after a restart: too many removals wait, or the log is closed.
    pub fn remove(&self, key: u128, version: u64) -> Result<Ticket, Refusal> {
        admit::remove(&self.shared, key, version)
    }

    /// The smallest ban number of anything that is there or could come back after a crash; `None`: nothing is there. Bans
    /// up to it may be forgotten. A look at every object: not for each request.
    pub fn oldest_ban_number(&self) -> Option<u64> {
        if self.shared.recovering() {
            return Some(0);
        }
        let _nothing_is_on_its_way = self.shared.hand_over.write();
        // The queue first: what is written meanwhile is then seen in both.
        let waiting = self.shared.queue.oldest_ban_number();
        [waiting, self.shared.index.oldest_ban_number()].into_iter().flatten().min()
    }

    /// Whether the index is still being rebuilt.
    pub fn recovering(&self) -> bool {
        self.shared.recovering()
    }

    pub fn state(&self) -> LogState {
        self.shared.state()
    }

    pub fn stats(&self) -> LogStats {
        self.shared.stats()
    }

    /// A larger body is always refused.
    pub fn body_bytes_max(&self) -> u64 {
        let segment = super::segment::OpenSegment::record_bytes_max(self.shared.segment_bytes);
        // Less what a head and the frames' headers may take.
        (segment - segment / 64).min(self.shared.settings.queue_bytes_max)
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        self.shared.settings.size_bytes
    }

    /// Writes what was accepted, syncs, and seals the log; nothing is accepted any more, reads go on. `true` if all of it is safe.
    pub async fn close(&self) -> bool {
        self.shared.queue.close();
        let mut ended = self.shared.ended.subscribe();
        let clean = ended.wait_for(Option::is_some).await.is_ok_and(|clean| *clean == Some(true));
        self.join();
        clean
    }

    fn join(&self) {
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!(disk = self.shared.settings.name, "the disk store's writer panicked");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.queue.abandon();
        self.join();
    }
}

fn segment_bytes(size_bytes: u64) -> u64 {
    let bytes = (size_bytes / SEGMENTS_MIN).min(SEGMENT_BYTES_MAX).max(size_bytes / SEGMENTS_MAX);
    bytes / BLOCK_BYTES * BLOCK_BYTES
}

fn epoch(folder: &dyn Folder, sequence: u32) -> Option<u64> {
    let mut block = vec![0; BLOCK_BYTES as usize];
    folder.open(sequence).ok()?.read_at(&mut block, 0).ok()?;
    SegmentHeader::decode(&block).map(|header| header.epoch)
}

fn found(key: u128, located: Located) -> Found {
    Found {
        key,
        version: located.version,
        ban_number: located.ban_number,
        body_bytes: located.body_bytes,
        head_bytes: located.head_bytes,
        located,
    }
}

/// Where the object lies now: it may have been written again since it was found.
fn locate(shared: &Shared, found: &Found) -> Option<(Arc<Segment>, Located)> {
    let is_there = |located: &Located| shared.segment(located.record.segment);
    if let Some(segment) = is_there(&found.located)
        && (found.located.head.segment == segment.sequence
            || shared.segments.read().contains_key(&found.located.head.segment))
    {
        return Some((segment, found.located));
    }
    let now = shared.index.get(found.key).filter(|now| now.version == found.version)?;
    is_there(&now).map(|segment| (segment, now))
}
