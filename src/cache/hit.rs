//! Reading from the store: a whole object, a fill while it runs, or a coded form of either. All can be sought where the length
//! is known.
//!
//! What is read may be let go of meanwhile ([`super::hold`]), or be lost: then the reader goes on where the same bytes still are.
//!
//! Pingora gets whole runs of a chunk (up to 1 MiB by reference): its writers send a `Bytes` piecewise anyway, so smaller
//! slices would only cost more calls.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_cache::eviction::CacheEntryId;
use pingora_cache::storage::HandleHit;
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, HitHandler, Storage};
use pingora_error::{Error, ErrorType, Result};
use tokio::sync::{mpsc, watch};

use super::bans::{Bans, Stamp, Verdict};
use super::disk::BODY_CHUNK_BYTES;
use super::fill::{Body, Fill, Hold};
use super::flow::{CHUNK_BYTES, Content, Failure, Flow, Peek};
use super::hold::{Rest, Resume};
use super::inspect::Held;
use super::store::MemoryStore;
use super::tier::DiskReader;

/// The error of a reader whose fill came to nothing: the body must be aborted, never ended.
pub const FILL_FAILED: ErrorType = ErrorType::Custom("cache fill failed");

/// What a reader may hold of a passing body where there is no room left to pay for it.
const UNPAID_BYTES_MAX: usize = 64 << 10;

/// Why a reader is aborted that stalled.
const LET_GO: &str = "the client fell behind, and what it had not read yet is no longer there";

#[derive(Debug)]
pub(super) enum Source {
    Object(Arc<Body>),
    Fill {
        fill: Hold,
        changed: watch::Receiver<()>,
    },
    /// A coded form, while it is made.
    Flow {
        flow: Arc<Flow>,
        changed: watch::Receiver<()>,
    },
    /// What a fill or a form has become, or a form that is whole.
    Content(Arc<Content>),
    /// An object that RAM has no room for.
    Disk(DiskReader),
    /// The rest of a body that is no longer here, on its way from the origin for this reader alone.
    Origin {
        bytes: mpsc::Receiver<Option<Bytes>>,
        body_bytes: Option<u64>,
    },
}

/// A reader of one version of one object.
#[derive(Debug)]
pub struct StoreHit {
    pub(super) source: Source,
    store: &'static MemoryStore,
    /// Key and version of the body; None where what is read is a coded form of it.
    of: Option<(u128, u64)>,
    resume: Option<Arc<dyn Resume>>,
    stamp: Arc<Stamp>,
    follower: bool,
    owner: bool,
    pub(super) position: u64,
    /// One past the last byte asked for; `None`: to the end.
    end: Option<u64>,
    /// The last field: dropped when the source has been.
    _reads: Reads,
}

/// Its end is told to who waits for room.
#[derive(Debug)]
pub(super) struct Reads(&'static MemoryStore);

impl Reads {
    pub(super) fn new(store: &'static MemoryStore) -> Self {
        Self(store)
    }
}

impl Drop for Reads {
    fn drop(&mut self) {
        self.0.reader_ended();
    }
}

/// Whether this hit reads a fill that another request was still running when it was looked up (RFC 9211 `collapsed`).
pub fn follows_fill(hit: &HitHandler) -> bool {
    hit.as_any().downcast_ref::<StoreHit>().is_some_and(|hit| hit.follower)
}

/// Whether this hit's bytes may be let go before it has them all.
pub fn may_be_let_go(hit: &HitHandler) -> bool {
    let Some(hit) = hit.as_any().downcast_ref::<StoreHit>() else { return false };
    let chunk_bytes = match &hit.source {
        Source::Fill { fill, .. } if fill.from_disk => BODY_CHUNK_BYTES,
        Source::Disk(_) => BODY_CHUNK_BYTES,
        Source::Object(body) => return body.content.is_large(),
        _ => CHUNK_BYTES as u64,
    };
    hit.body_bytes().is_none_or(|bytes| bytes > chunk_bytes)
}

/// For how long the origin should be held back before its next piece, of a body that turned out too large to keep, so that its client can
/// follow. None: it is no such body.
pub fn held_back(reader: &HitHandler) -> Option<Duration> {
    match &reader.as_any().downcast_ref::<StoreHit>()?.source {
        Source::Fill { fill, .. } => fill.flow.pause(),
        _ => None,
    }
}

/// Where this hit goes on when what it reads is let go.
pub fn resume_by(hit: &mut HitHandler, resume: Arc<dyn Resume>) {
    if let Some(hit) = hit.as_any_mut().downcast_mut::<StoreHit>() {
        hit.resume = Some(resume);
    }
}

/// What purges of a prefix say of this hit for a request that asks for it under this URL (a content key before rewriting).
pub fn verdict_on_alias(bans: &Bans, hit: &HitHandler, url: &str) -> Verdict {
    let hit = hit.as_any().downcast_ref::<StoreHit>();
    hit.map_or(Verdict::Clear, |hit| bans.verdict_on_alias(&hit.stamp, url))
}

impl StoreHit {
    fn new(store: &'static MemoryStore, of: (u128, u64), source: Source, stamp: Arc<Stamp>) -> Self {
        let (follower, owner, position, end) = (false, false, 0, None);
        let _reads = Reads(store);
        Self { source, store, of: Some(of), resume: None, stamp, follower, owner, position, end, _reads }
    }

    pub(super) fn of_object(store: &'static MemoryStore, body: Arc<Body>, stamp: Arc<Stamp>) -> Self {
        Self::new(store, (body.key, body.version), Source::Object(body), stamp)
    }

    pub(super) fn of_disk(store: &'static MemoryStore, reader: DiskReader, stamp: Arc<Stamp>) -> Self {
        Self::new(store, (reader.key(), reader.version()), Source::Disk(reader), stamp)
    }

    /// `owner`: the reader of the request that fills; it alone gets the rest of a body too large to keep.
    pub(super) fn of_fill(store: &'static MemoryStore, fill: Arc<Fill>, stamp: Arc<Stamp>, owner: bool) -> Self {
        let changed = fill.flow.subscribe();
        let (of, follower) = ((fill.key, fill.version), !owner && !fill.from_disk);
        let resume = if owner { fill.owners_rest.lock().take() } else { None };
        let fill = Hold::new(fill, owner);
        Self { follower, owner, resume, ..Self::new(store, of, Source::Fill { fill, changed }, stamp) }
    }

    /// How much of what it reads is there.
    pub(super) fn held(&self) -> Held {
        match &self.source {
            Source::Fill { fill, .. } if !fill.from_disk => Held::Filling { body_bytes: fill.flow.written() },
            _ => Held::Whole,
        }
    }

    /// Another reader of the same bytes, from the first one on.
    pub(super) fn again(&self) -> Option<Self> {
        match &self.source {
            Source::Object(body) => Some(Self::of_object(self.store, Arc::clone(body), Arc::clone(&self.stamp))),
            Source::Fill { fill, .. } => {
                Some(Self::of_fill(self.store, Arc::clone(fill), Arc::clone(&self.stamp), false))
            }
            Source::Flow { .. } | Source::Content(_) | Source::Disk(_) | Source::Origin { .. } => None,
        }
    }

    /// From now on, the bytes of `flow`, a coded form.
    pub(super) fn follow(&mut self, flow: Arc<Flow>) {
        let changed = flow.subscribe();
        self.source = Source::Flow { flow, changed };
        (self.of, self.resume) = (None, None);
    }

    /// From now on, a coded form that is whole.
    pub(super) fn give(&mut self, form: Arc<Content>) {
        self.source = Source::Content(form);
        (self.of, self.resume) = (None, None);
    }

    /// What was read is no longer there. `below`: it may be on a disk.
    fn go_on(&mut self, body_bytes: Option<u64>, below: bool, why: &'static str) -> Result<()> {
        let outcomes = &self.store.metrics().cache_readers_let_go;
        if let (true, Some((key, version))) = (below, self.of)
            && let Some(reader) = self.store.reader_below(key, version)
        {
            outcomes.with_label_values(&["disk"]).inc();
            self.source = Source::Disk(reader);
        } else if let Some(resume) = &self.resume {
            // Whether that went well is counted where it is asked.
            let rest = Rest { from: self.position, end: self.end.or(body_bytes), complete: body_bytes };
            self.source = Source::Origin { bytes: resume.resume(rest), body_bytes };
        } else {
            outcomes.with_label_values(&["aborted"]).inc();
            return Error::e_explain(FILL_FAILED, why);
        }
        self.owner = false;
        Ok(())
    }

    fn body_bytes(&self) -> Option<u64> {
        match &self.source {
            Source::Object(body) => Some(body.content.bytes),
            Source::Fill { fill, .. } => fill.flow.promised_bytes,
            Source::Flow { flow, .. } => flow.promised_bytes,
            Source::Content(content) => Some(content.bytes),
            Source::Disk(reader) => Some(reader.body_bytes()),
            Source::Origin { body_bytes, .. } => *body_bytes,
        }
    }

    /// None at the end.
    fn advance(&mut self, bytes: Bytes) -> Option<Bytes> {
        if bytes.is_empty() {
            return None;
        }
        self.position += bytes.len() as u64;
        if let Source::Fill { fill, .. } = &self.source
            && self.owner
        {
            fill.flow.owner_reached(self.position);
        }
        Some(bytes)
    }
}

#[async_trait]
impl HandleHit for StoreHit {
    /// Cancel-safe: a dropped call has read nothing.
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        loop {
            let wanted = self.end.map_or(u64::MAX, |end| end.saturating_sub(self.position));
            if wanted == 0 {
                return Ok(None);
            }
            let (flow, changed, owner) = match &mut self.source {
                Source::Object(body) => {
                    let Some(bytes) = body.content.read(self.position, wanted) else {
                        let body_bytes = body.content.bytes;
                        self.go_on(Some(body_bytes), true, LET_GO)?;
                        continue;
                    };
                    return Ok(self.advance(bytes));
                }
                Source::Content(content) => {
                    let Some(bytes) = content.read(self.position, wanted) else {
                        let body_bytes = content.bytes;
                        self.go_on(Some(body_bytes), true, LET_GO)?;
                        continue;
                    };
                    return Ok(self.advance(bytes));
                }
                Source::Disk(reader) => match reader.read(self.position, wanted).await {
                    Ok(bytes) => return Ok(self.advance(bytes)),
                    Err(error) if self.resume.is_none() => return Err(error),
                    Err(_) => {
                        let body_bytes = reader.body_bytes();
                        self.go_on(Some(body_bytes), false, LET_GO)?;
                        continue;
                    }
                },
                Source::Origin { bytes, body_bytes } => {
                    if body_bytes.is_some_and(|body_bytes| self.position >= body_bytes) {
                        return Ok(None);
                    }
                    return match bytes.recv().await {
                        Some(Some(bytes)) if bytes.len() as u64 <= wanted => Ok(self.advance(bytes)),
                        // Of a body of unknown length; else all that was wanted has come before.
                        Some(None) if wanted == u64::MAX && body_bytes.is_none() => {
                            *body_bytes = Some(self.position);
                            Ok(None)
                        }
                        _ => Error::e_explain(FILL_FAILED, "the rest did not come from the origin"),
                    };
                }
                Source::Fill { fill, changed } => (&fill.flow, changed, self.owner),
                Source::Flow { flow, changed } => (&**flow, changed, false),
            };
            changed.borrow_and_update();
            match flow.peek(self.position, wanted, owner) {
                Peek::Bytes(bytes) => return Ok(self.advance(bytes)),
                Peek::Joined(bytes) => {
                    let paid = match self.store.take_for_passing(bytes.len() as u64) {
                        Some(charge) => charge.pay_for(bytes),
                        None => Bytes::copy_from_slice(&bytes[..bytes.len().min(UNPAID_BYTES_MAX)]),
                    };
                    return Ok(self.advance(paid));
                }
                Peek::End => return Ok(None),
                Peek::Complete(content) => self.source = Source::Content(content),
                // The origin has it all the same: it is too large to keep, or its disk lost it.
                Peek::Failed(failure) => {
                    let is_lost = match &self.source {
                        Source::Fill { fill, .. } => fill.from_disk || failure == Failure::TooLarge,
                        _ => false,
                    };
                    if !is_lost || self.resume.is_none() {
                        return Error::e_explain(FILL_FAILED, failure.to_string());
                    }
                    let body_bytes = self.body_bytes();
                    self.go_on(body_bytes, false, LET_GO)?;
                }
                // The sender lives in the flow, which this reader holds.
                Peek::Wait => drop(changed.changed().await),
            }
        }
    }

    async fn finish(
        self: Box<Self>,
        _storage: &'static (dyn Storage + Sync),
        _key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        self.body_bytes().is_some()
    }

    /// The range `start..end`; an `end` beyond the body means its end. May be called again, in any order.
    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let (start, end) = (start as u64, end.map(|end| end as u64));
        let Some(body_bytes) = self.body_bytes() else {
            return Error::e_explain(ErrorType::InternalError, "a fill of unknown length cannot be sought");
        };
        if start >= body_bytes || end.is_some_and(|end| end < start) {
            return Error::e_explain(
                ErrorType::InternalError,
                format!("the range {start}..{end:?} is not in a body of {body_bytes} bytes"),
            );
        }
        self.position = start;
        self.end = Some(end.map_or(body_bytes, |end| end.min(body_bytes)));
        match self.source {
            // It was asked for other bytes.
            Source::Origin { .. } => self.go_on(Some(body_bytes), true, LET_GO),
            _ => Ok(()),
        }
    }

    fn should_count_access(&self) -> bool {
        !self.follower && !self.owner
    }

    fn get_eviction_weight(&self) -> usize {
        self.body_bytes().map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    fn entry_id(&self) -> Option<CacheEntryId> {
        match &self.source {
            Source::Object(body) => Some(CacheEntryId::new(body.version)),
            Source::Fill { fill, .. } => Some(CacheEntryId::new(fill.version)),
            Source::Disk(reader) => Some(CacheEntryId::new(reader.version())),
            Source::Flow { .. } | Source::Content(_) | Source::Origin { .. } => None,
        }
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}
