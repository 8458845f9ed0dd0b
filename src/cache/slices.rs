//! Objects kept in parts: a *head* that says what the object is, and *granules* of its bytes, each an ordinary entry of the store.
//!
//! Parts: `title`, one version of an object and the keys of its entries; `run`, the writers of a row of granules that one request
//! fetches; `hit`, the reader; here, [`Slices`]: heads, claims, and the [`Storage`] that shows a [`View`] to Pingora as one seekable
//! hit, so that ranges of all kinds, HEAD, conditions and 416 are answered by the code that answers them for whole objects.
//!
//! A granule is claimed by beginning its fill: whoever needs it later finds the fill and follows it, so no byte of one version is
//! asked for twice while it is kept or on its way. Whoever asks the origin is behind [`Fetch`]; this room asks nobody.
//!
//! Invariants: entries of two versions have different keys; heads and granules are variants of the object's key, so purges of it
//! reach them as they reach variants; a granule is whole or it is an error. A granule has no lifetime of its own: its head's
//! counts. Absences: no request, no freshness, no origin.

mod hit;
mod run;
mod title;

pub use run::Run;
pub use title::{Head, Title, head_key};

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora_cache::key::CacheHashKey;
use pingora_cache::trace::{Span, SpanHandle};
use pingora_cache::{CacheKey, CacheMeta, HitHandler, MissHandler, PurgeOutcome, PurgeTarget, PurgeType, Storage};
use pingora_error::{Error, ErrorType, Result};

use super::bans::{AskedFor, Begun};
use super::disk::Ticket;
use super::inspect::Held;
use super::meta;
use super::store::MemoryStore;
use crate::http::byte_range::ByteRange;
use crate::http::slicing;
use crate::observe::Metrics;

/// Claims of one object wait for each other; of different ones rarely.
const CLAIM_LOCKS: usize = 64;
/// The share of the store that may be on its way ahead of readers: 1/4. What a reader waits for is fetched all the same.
const READ_AHEAD_SHARE: u64 = 4;
/// Granules looked at to say whether an answer is there whole; a longer one is taken for whole when so many are.
const GRANULES_COUNTED_MAX: usize = 4096;
/// Granules removed, or looked at, before other tasks have their turn.
const GRANULES_AT_ONCE: u64 = 1024;
/// Of a larger object (256 GiB) only its beginning is told.
const GRANULES_TOLD_MAX: u64 = 4 << 20;

/// Who asks the origin for runs.
pub trait Fetch: Send + Sync {
    /// Begins to fetch. The run is written to until it is complete, or dropped.
    fn fetch(&self, run: Run);
}

/// Who reads, as far as purges care.
#[derive(Debug, Clone)]
pub struct Asker {
    /// A content key before rewriting.
    pub url: Arc<str>,
    /// Other URLs lead to the same object.
    pub has_aliases: bool,
    pub begun: Begun,
}

/// A sliced object as one request sees it; in the extensions of its `CacheKey`.
pub struct View {
    pub head: Head,
    pub asker: Asker,
    pub fetch: Arc<dyn Fetch>,
    pub read_ahead_bytes_max: u64,
}

/// See the module. One per process, leaked: `Storage` wants `&'static self`.
pub struct Slices {
    store: &'static MemoryStore,
    claims: Box<[tokio::sync::Mutex<()>]>,
    /// Claimed and not yet written.
    outstanding_bytes: AtomicU64,
    read_ahead_bytes_max: u64,
    metrics: Arc<Metrics>,
}

/// What a reader lacks, in granules.
struct Wanted {
    from: u64,
    /// Those before it that are there already are passed over; the first that is not begins the run.
    passing_to: u64,
    end: u64,
    bytes_max: u64,
}

/// What a claim came to.
struct Claimed {
    /// None: all that was looked at is there, or on its way.
    run: Option<Run>,
    /// The first granule that was not looked at.
    next: u64,
}

impl Slices {
    pub fn new(store: &'static MemoryStore, metrics: Arc<Metrics>) -> &'static Self {
        let claims = (0..CLAIM_LOCKS).map(|_| tokio::sync::Mutex::default()).collect();
        let read_ahead_bytes_max = store.stats().bytes_max / READ_AHEAD_SHARE;
        Box::leak(Box::new(Self { store, claims, outstanding_bytes: AtomicU64::new(0), read_ahead_bytes_max, metrics }))
    }

    /// The head kept of an object, with the hit that purges are compared with.
    pub async fn head(&'static self, key: &CacheKey) -> Option<(Head, HitHandler)> {
        let found = self.store.lookup(&title::head_key(key), &span()).await.ok()??;
        let (meta, hit) = found;
        Some((Head::of_stored(key, meta)?, hit))
    }

    /// Keeps a head. `meta`: of the whole object, status 200, with its length. None: it is no sliced object's, or there is no room
    /// for it.
    pub async fn keep_head(&'static self, key: &CacheKey, meta: &CacheMeta) -> Option<Head> {
        let head = Head::of_whole(key, meta)?;
        let mut writer = self.store.get_miss_handler(&title::head_key(key), &head.stored(), &span()).await.ok()?;
        writer.write_body(Bytes::new(), true).await.ok()?;
        writer.finish().await.ok()?;
        Some(head)
    }

    /// Forgets the head; its granules are found again should the origin still have that version.
    pub fn forget(&self, key: &CacheKey) -> Option<Ticket> {
        self.store.remove(&title::head_key(key).to_compact())
    }

    /// The origin has another version: this one is dropped, and who reads it gets no more than is there.
    pub fn changed(&'static self, title: &Arc<Title>) {
        if !title.end() {
            return;
        }
        self.metrics.slice_versions_dropped.inc();
        self.store.remove(&title.head_key().to_compact());
        let title = Arc::clone(title);
        tokio::spawn(async move {
            for index in 0..title.granules() {
                self.store.remove(&title.granule_key(index).to_compact());
                if index % GRANULES_AT_ONCE == GRANULES_AT_ONCE - 1 {
                    tokio::task::yield_now().await;
                }
            }
        });
    }

    /// Whether all granules of these ranges are kept, whole.
    pub fn has_all(&self, title: &Title, ranges: &[ByteRange]) -> bool {
        let granules = ranges.iter().flat_map(|range| slicing::granules(*range));
        let mut granules = granules.take(GRANULES_COUNTED_MAX);
        granules.all(|index| self.store.held(&title.granule_key(index).to_compact()) == Some(Held::Whole))
    }

    /// The writers for an answer with this part of an object; granules that are kept already are not written again.
    pub async fn claim_answer(&'static self, title: &Arc<Title>, asker: &Asker, part: ByteRange) -> Run {
        let _claim = self.claim_lock(title).lock().await;
        let first = part.first.div_ceil(slicing::GRANULE_BYTES);
        let end =
            if part.last + 1 == title.complete() { title.granules() } else { (part.last + 1) / slicing::GRANULE_BYTES };
        let mut writers = Vec::new();
        for index in first..end {
            writers.push(match self.is_held(title, index) {
                true => None,
                false => self.begin(title, asker, index).await.ok(),
            });
        }
        Run::new(self, title, part, first, writers)
    }

    /// The writers for the first row of granules that is neither kept nor on its way.
    ///
    /// # Errors
    /// The store has no room.
    async fn claim(&'static self, title: &Arc<Title>, asker: &Asker, wanted: Wanted) -> Result<Claimed> {
        let _claim = self.claim_lock(title).lock().await;
        let mut index = wanted.from;
        while index < wanted.passing_to && self.is_held(title, index) {
            index += 1;
        }
        let first = index;
        let mut writers = Vec::new();
        let end = wanted.end.min(first + wanted.bytes_max.div_ceil(slicing::GRANULE_BYTES));
        // Where all was passed over, what comes then is not asked for now.
        while (first < wanted.passing_to) && index < end && !self.is_held(title, index) {
            match self.begin(title, asker, index).await {
                Ok(writer) => writers.push(Some(writer)),
                Err(error) if writers.is_empty() => return Err(error),
                Err(_) => break,
            }
            index += 1;
        }
        let asked = slicing::bytes_of(first..index, title.complete()).filter(|_| !writers.is_empty());
        Ok(Claimed { run: asked.map(|asked| Run::new(self, title, asked, first, writers)), next: index })
    }

    /// Whether more may be asked for ahead of readers.
    fn may_read_ahead(&self, bytes: u64) -> bool {
        self.outstanding_bytes.load(Ordering::Relaxed) + bytes <= self.read_ahead_bytes_max
    }

    fn is_held(&self, title: &Title, index: u64) -> bool {
        self.store.held(&title.granule_key(index).to_compact()).is_some()
    }

    async fn begin(&'static self, title: &Title, asker: &Asker, index: u64) -> Result<MissHandler> {
        let asked_for =
            AskedFor { time: self.store.bans().now(), url: Arc::clone(&asker.url), has_aliases: asker.has_aliases };
        let meta = title.granule_meta(index, asked_for)?;
        self.store.get_miss_handler(&title.granule_key(index), &meta, &span()).await
    }

    fn claim_lock(&self, title: &Title) -> &tokio::sync::Mutex<()> {
        &self.claims[usize::from(title.head_key().primary_bin()[0]) % CLAIM_LOCKS]
    }
}

/// How many bytes of a sliced object are kept, by where they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartsKept {
    pub memory_bytes: u64,
    /// On a disk only.
    pub disk_bytes: u64,
}

impl MemoryStore {
    /// For people: each part of the object is looked at. `headers`: those its head is kept with; None: they are no head's.
    pub async fn parts_kept(&self, key: &CacheKey, headers: &HeaderMap) -> Option<PartsKept> {
        let title = Title::of_stored(key, headers)?;
        let mut kept = PartsKept::default();
        for index in 0..title.granules().min(GRANULES_TOLD_MAX) {
            if index % GRANULES_AT_ONCE == GRANULES_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            let bytes = slicing::bytes_of(index..index + 1, title.complete()).map_or(0, |bytes| bytes.length());
            match self.held_below(&title.granule_key(index).to_compact()) {
                Some((_, true)) => kept.disk_bytes += bytes,
                Some((Held::Whole, false)) => kept.memory_bytes += bytes,
                Some((Held::Filling { body_bytes }, false)) => kept.memory_bytes += body_bytes,
                None => {}
            }
        }
        Some(kept)
    }
}

fn span() -> SpanHandle {
    Span::inactive().handle()
}

/// Shows views; it keeps nothing, and there is nothing to purge: the entries are the store's.
#[async_trait]
impl Storage for Slices {
    async fn lookup(&'static self, key: &CacheKey, _trace: &SpanHandle) -> Result<Option<(CacheMeta, HitHandler)>> {
        Ok(key.extensions.get::<Arc<View>>().map(|view| {
            let hit: HitHandler = Box::new(hit::SlicedHit::new(self, Arc::clone(view)));
            (meta::copy(view.head.meta()), hit)
        }))
    }

    async fn get_miss_handler(&'static self, _: &CacheKey, _: &CacheMeta, _: &SpanHandle) -> Result<MissHandler> {
        Error::e_explain(ErrorType::InternalError, "a sliced object is filled by its runs only")
    }

    async fn purge(&'static self, _: PurgeTarget<'_>, _: PurgeType, _: &SpanHandle) -> Result<PurgeOutcome> {
        Ok(PurgeOutcome::NotFound)
    }

    async fn update_meta(&'static self, _: &CacheKey, _: &CacheMeta, _: &SpanHandle) -> Result<bool> {
        Ok(false)
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

#[cfg(test)]
mod tests;
