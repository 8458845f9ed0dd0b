//! RAM above, disks below: what goes down, and what comes up again.
//!
//! Down: an object is offered to its disk when its fill has ended, and where the disk lacks it then, again at its first hit and when
//! it leaves RAM; a full queue holds fills back a little, and a disk that is stuck holds nobody back. Up: a lookup that RAM cannot
//! answer asks the disk's index, and runs an ordinary fill from there. So followers, bounds, purges and truncation have one rule,
//! whichever tier the bytes come from. While RAM has room, all comes up; then what returns soon ([`returns`]), what this request may want
//! coded (the forms lie with the body in RAM), and what must be validated (the answer renews what RAM has). Else a request reads for
//! itself ([`DiskReader`]), chunk by chunk, into memory that is used again ([`buffers`]). Heads after a 304 and removals go down too.
//!
//! Invariants: an object keeps its version and its stamp on the way down and up; what cannot be read, or was purged, is a miss and
//! leaves the disk; the first bytes of a body are verified before anyone is told of a hit; what is removed while it goes down or
//! comes up is removed ([`offers`]); the memory of the disks' indexes is paid from the same budget as the objects.

mod buffers;
mod offers;
mod reader;
mod returns;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use pingora_cache::{CacheMeta, HitHandler};
use prometheus::IntCounter;
use tokio::time::Instant;

use super::bans::{Begun, Restored, Stamp, Verdict};
use super::budget::Charge;
use super::disk::{Disks, Found as OnDisk, Record, Refusal, Ticket};
use super::fill::{Body, Fill, Head};
use super::flow::Failure;
use super::hit::StoreHit;
use super::store::{MemoryStore, Object};
use super::{head, meta};
use crate::http::freshness::Storable;
use buffers::Buffers;
pub(super) use offers::Offering;
use offers::Offers;
pub(super) use reader::DiskReader;
use reader::FIRST_WAIT;
use returns::Returns;

/// How long the end of a fill waits for room in a disk's queue.
const QUEUE_WAIT: Duration = Duration::from_millis(500);
/// After waiting in vain: nobody waits for as long.
const QUEUE_WAIT_PAUSE: Duration = Duration::from_secs(10);

/// Read at once, once a hit has its beginning: 1 MiB.
const CHUNKS_READ: u64 = 4;

/// Between two attempts to open a disk that could not be opened.
const OPEN_PAUSE_MIN: Duration = Duration::from_secs(1);
const OPEN_PAUSE_MAX: Duration = Duration::from_secs(60);

/// The indexes' memory is paid in such steps, and looked at so often.
const INDEX_STEP_BYTES: u64 = 1 << 20;
const INDEX_PAUSE: Duration = Duration::from_secs(1);

/// The disks under a [`MemoryStore`].
#[derive(Debug)]
pub(super) struct Tier {
    disks: Arc<Disks>,
    /// Nobody waits for a queue before this, in milliseconds since `started`.
    waits_again_ms: AtomicU64,
    started: Instant,
    hits: IntCounter,
    offers: Offers,
    buffers: Buffers,
    returns: Returns,
}

impl Tier {
    /// `bytes_max`: of RAM.
    pub(super) fn new(disks: Arc<Disks>, bytes_max: u64, hits: IntCounter) -> Self {
        Self {
            disks,
            waits_again_ms: AtomicU64::new(0),
            started: Instant::now(),
            hits,
            offers: Offers::default(),
            buffers: Buffers::new(bytes_max),
            returns: Returns::new(bytes_max),
        }
    }

    pub(super) fn disks(&self) -> &Arc<Disks> {
        &self.disks
    }

    fn since_start_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits for room in the queue, unless that was in vain lately.
    async fn offer(&self, record: Record) {
        if self.since_start_ms() < self.waits_again_ms.load(Ordering::Relaxed) {
            let _ = self.disks.offer(record); // the disk counts why not
            return;
        }
        if matches!(self.disks.offer_waiting(record, Instant::now() + QUEUE_WAIT).await, Err(Refusal::QueueFull)) {
            let pause_ms = QUEUE_WAIT_PAUSE.as_millis() as u64;
            self.waits_again_ms.store(self.since_start_ms() + pause_ms, Ordering::Relaxed);
        }
    }
}

impl MemoryStore {
    fn record(&self, object: &Object) -> Option<Record> {
        Some(Record {
            key: object.body.key,
            version: object.body.version,
            ban_number: object.stamp.oldest(),
            head: head::to_bytes(&object.meta, &object.stamp.to_bytes(self.bans()))?,
            body: object.body.content.pieces()?,
        })
    }

    /// To be held from before an object can be removed from RAM until it was offered.
    pub(super) fn offering(&self, key: u128, version: u64) -> Option<Offering> {
        self.tier().map(|tier| tier.offers.begin(&tier.disks, key, version))
    }

    /// A fill has ended: its object goes down too.
    pub(super) async fn send_down(&self, object: &Object, _offering: Option<Offering>) {
        if let Some(tier) = self.tier()
            && let Some(record) = self.record(object)
        {
            tier.offer(record).await;
        }
    }

    /// An object in RAM is asked for again: a disk that wanted that, or had no room for it, takes it now.
    pub(super) fn asked_again(&self, object: &Object) {
        let Some(tier) = self.tier() else { return };
        let (key, version) = (object.body.key, object.body.version);
        tier.disks.asked_for(key);
        if tier.disks.peek(key).is_some() {
            return;
        }
        let _offering = tier.offers.begin(&tier.disks, key, version);
        if self.holds(key, version)
            && let Some(record) = self.record(object)
        {
            let _ = tier.disks.offer(record);
        }
    }

    /// Room is needed: the object leaves RAM. One that was asked for and that its disk lacks (it was refused, or reclaimed) is
    /// offered once more, where that waits for nobody; until it is written it takes its room, so the queue must be nearly empty.
    pub(super) fn evict(&self, victim: &Body) {
        let (key, version) = (victim.key, victim.version);
        let tier = self.tier().filter(|tier| victim.visits.ever() && tier.disks.lacks_with_room(key));
        let _offering = tier.map(|tier| tier.offers.begin(&tier.disks, key, version));
        if let Some(object) = self.take_object(key, version)
            && let Some(tier) = tier
            && self.bans().verdict(&object.stamp) != Verdict::Gone
            && let Some(record) = self.record(&object)
        {
            let _ = tier.disks.offer(record);
        }
    }

    /// The head of this version is another one now.
    pub(super) fn send_head_down(&self, key: u128, version: u64, meta: &CacheMeta, stamp: &Stamp) {
        let Some(tier) = self.tier() else { return };
        if let Some(head) = head::to_bytes(meta, &stamp.to_bytes(self.bans())) {
            let _ = tier.disks.replace_head(key, version, stamp.oldest(), head);
        }
    }

    /// The head after a 304 of an object that is here only. False: this version is not here, or was purged.
    pub(super) async fn update_below(&self, key: u128, version: u64, meta: &CacheMeta, stamp: Stamp) -> bool {
        let Some(tier) = self.tier() else { return false };
        let Some(found) = tier.disks.peek(key).filter(|found| found.version == version) else { return false };
        let Ok(before) = tier.disks.read_head(&found).await else { return false };
        let before =
            head::from_bytes(&Bytes::from(before)).and_then(|head| Stamp::from_bytes(self.bans(), &head.stamp).ok());
        let Some(before) = before.filter(|before| self.bans().verdict(before) != Verdict::Gone) else { return false };
        let stamp = stamp.revalidated(&before);
        // A version that is removed meanwhile is not found by its number.
        let written = head::to_bytes(meta, &stamp.to_bytes(self.bans()));
        written.is_some_and(|head| tier.disks.replace_head(key, version, stamp.oldest(), head).is_ok())
    }

    /// Whatever a disk holds of this key, or waits to be written or is being offered, is not found again; durably when the ticket
    /// resolves.
    pub(super) fn remove_below(&self, key: u128) -> Option<Ticket> {
        let tier = self.tier()?;
        tier.offers.remove(key);
        tier.disks.remove(key, self.latest_version()).ok()
    }

    pub(super) fn remove_below_up_to(&self, key: u128, version: u64) {
        if let Some(tier) = self.tier() {
            let _ = tier.disks.remove(key, version);
        }
    }

    /// Bans that neither RAM nor the disks need are forgotten from here on.
    pub(super) fn tell_bans_of_disks(&self) {
        let Some(tier) = self.tier() else { return };
        // What is not known yet, or is away, may hold anything.
        if tier.disks.failures().next().is_none() && !tier.disks.logs().any(|log| log.recovering()) {
            let oldest = tier.disks.logs().filter_map(|log| log.oldest_ban_number()).min();
            self.bans().disk_holds_from(oldest);
        }
    }

    /// Brings what a disk has of `key` into RAM, as a running fill; where it would drive out what is wanted more, or RAM has no room for
    /// it, it is read for this request alone.
    pub(super) async fn bring_up(&'static self, key: u128, begun: Option<Begun>, accepts_codings: bool) -> Below {
        self.find_below(key, begun, accepts_codings).await.unwrap_or(Below::Nothing)
    }

    async fn find_below(&'static self, key: u128, begun: Option<Begun>, accepts_codings: bool) -> Option<Below> {
        let tier = self.tier()?;
        let found = tier.disks.find(key)?;
        let buffer = reader::buffer(self, tier, found.beginning_bytes(), FIRST_WAIT).await?;
        // Whoever sees the hit has the beginning already.
        let beginning = tier.disks.read_beginning(&found, buffer).await.ok()?;
        // The head outlives the buffer.
        let head = Bytes::copy_from_slice(&beginning.buffer.as_ref()[beginning.head]);
        let head = head::from_bytes(&head);
        let stamp = head.as_ref().and_then(|head| Stamp::from_bytes(self.bans(), &head.stamp).ok());
        let (Some(mut head), Some(stamp)) = (head, stamp) else {
            let _ = tier.disks.remove(key, found.version);
            return None;
        };
        if self.bans().verdict(&stamp) == Verdict::Gone {
            let _ = tier.disks.remove(key, found.version);
        }
        let verdict = Some(self.bans().verdict_for(begun, &stamp)).filter(|verdict| *verdict != Verdict::Gone)?;
        let stamp = Arc::new(stamp);
        let head_bytes = meta::bytes(&head.meta) + stamp.bytes();
        let first = Bytes::from_owner(beginning.buffer).slice(beginning.first);
        let decided = head.meta.extensions().get::<Arc<Storable>>();
        let stays = verdict == Verdict::Clear
            && head.meta.is_fresh(SystemTime::now())
            && decided.is_some_and(|decided| !(decided.validate_always || decided.codable && accepts_codings));
        let bytes = head_bytes + found.body_bytes;
        // Noted for each.
        let comes_up = tier.returns.note(key, bytes) || !stays || self.has_room_to_spare_for(bytes);
        let room = || Some((self.reserve(head_bytes)?, self.reserve(found.body_bytes)?));
        let Some((meta_charge, charge)) = comes_up.then(room).flatten() else {
            let reader = DiskReader::new(self, found, first);
            // A removal, or a purge, may have come since it was found.
            tier.disks.peek(key).filter(|now| now.version == found.version)?;
            let verdict = Some(self.bans().verdict_for(begun, &stamp)).filter(|verdict| *verdict != Verdict::Gone)?;
            tier.hits.inc();
            head.meta.extensions_mut().insert(meta::Version(found.version));
            return Some(Below::Reader(head.meta, verdict, Box::new(StoreHit::of_disk(self, reader, stamp))));
        };
        let restored = self.bans().hold(Arc::clone(&stamp));
        let head = Head { meta: Arc::new(head.meta), meta_charge: Arc::new(meta_charge), stamp, expired_at: None };
        let fill = Fill::from_disk(key, found.version, found.body_bytes, head);
        if !self.begin_again(&fill) {
            return Some(Below::InRam); // it is here already
        }
        // A removal may have come since it was found: from now on one sees the fill, until now it was seen below.
        if tier.disks.peek(key).is_none_or(|now| now.version != found.version) {
            fill.fail(Failure::Cancelled);
            self.end_fill(&fill);
            return None;
        }
        tier.hits.inc();
        let mut up = Up { store: self, found, fill, charge, _restored: restored };
        // A copy: what stays would keep the buffer.
        if up.append([Bytes::copy_from_slice(&first)]) < found.body_bytes {
            tokio::spawn(up.rest());
        } else {
            up.end();
        }
        Some(Below::InRam)
    }

    /// Pays for the memory of the disks' indexes, for as long as it is polled: objects make room for it. Where they cannot, it is tried
    /// again; the indexes have a bound of their own.
    pub async fn keep_indexes_paid(&self) {
        let Some(tier) = self.tier() else { return };
        let Some(mut paid) = self.reserve(0) else { return };
        loop {
            let steps = tier.disks.index_bytes().div_ceil(INDEX_STEP_BYTES);
            let due = steps * INDEX_STEP_BYTES;
            if due > paid.bytes() {
                // The next step is paid before it is taken.
                if let Some(more) = self.reserve(due + INDEX_STEP_BYTES - paid.bytes()) {
                    paid.merge(more);
                }
            } else if paid.bytes() > due + 2 * INDEX_STEP_BYTES {
                drop(paid.split(paid.bytes() - due - INDEX_STEP_BYTES));
            }
            tokio::time::sleep(INDEX_PAUSE).await;
        }
    }

    /// Whether a reader of this version can go on from a disk: it is written there, and no purge takes it.
    pub(super) fn can_be_read_below(&self, key: u128, version: u64, stamp: &Stamp) -> bool {
        let found = self.tier().and_then(|tier| tier.disks.peek(key));
        found.is_some_and(|found| found.version == version) && self.bans().verdict(stamp) != Verdict::Gone
    }

    /// Opens the disks that could not be opened, as soon as they can be, for as long as it is polled.
    pub async fn keep_opening_disks(&'static self) {
        let Some(tier) = self.tier() else { return };
        let mut pause = OPEN_PAUSE_MIN;
        while tier.disks.failures().next().is_some() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(OPEN_PAUSE_MAX);
            let opening = || tier.disks.open_away(|epoch| self.goes_on_from(epoch));
            if let Err(error) = tokio::task::spawn_blocking(opening).await {
                tracing::error!(%error, "opening a disk of the store failed");
            }
        }
    }

    /// For a reader of this version whose bytes were let go. Counts as asked for: what is read should not be reclaimed.
    pub(super) fn reader_below(&'static self, key: u128, version: u64) -> Option<DiskReader> {
        let found = self.tier()?.disks.find(key).filter(|found| found.version == version)?;
        Some(DiskReader::resume(self, found))
    }

    /// The chunks from `position` on; none only at the end of the body.
    async fn read_up(&self, found: &OnDisk, position: u64, chunks_max: u64) -> Option<Vec<Bytes>> {
        if position >= found.body_bytes {
            return Some(Vec::new());
        }
        let read = self.tier()?.disks.read_chunks(found, position, chunks_max).await;
        read.ok().filter(|chunks| !chunks.is_empty())
    }
}

/// What is below RAM.
pub(super) enum Below {
    Nothing,
    /// It is on its way up, or there: a look-up finds it now.
    InRam,
    /// It stays below.
    Reader(CacheMeta, Verdict, HitHandler),
}

/// One object on its way up. Dropped before its end, it fails those who follow it.
struct Up {
    store: &'static MemoryStore,
    found: OnDisk,
    fill: Arc<Fill>,
    charge: Charge,
    _restored: Restored,
}

impl Up {
    /// How much is there now. The room is paid for.
    fn append(&mut self, chunks: impl IntoIterator<Item = Bytes>) -> u64 {
        let chunks = chunks.into_iter().filter(|chunk| !chunk.is_empty());
        chunks.for_each(|chunk| self.fill.flow.push(chunk, &mut self.charge));
        self.fill.flow.written()
    }

    async fn rest(mut self) {
        while self.fill.flow.written() < self.found.body_bytes {
            match self.store.read_up(&self.found, self.fill.flow.written(), CHUNKS_READ).await {
                Some(chunks) => self.append(chunks),
                None => return, // its end says so
            };
        }
        self.end();
    }

    fn end(mut self) {
        let body = self.fill.complete(&mut self.charge, self.store.readers(&self.fill));
        self.store.commit(&self.fill, body);
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Without effect on a fill that has ended.
        self.fill.fail(Failure::Cancelled);
        self.store.end_fill(&self.fill);
    }
}
