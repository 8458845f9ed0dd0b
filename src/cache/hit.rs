//! Reading from the store: a whole object, a fill while it runs, or a coded form of either. All can be sought where the length
//! is known.
//!
//! Pingora gets whole runs of a chunk (up to 1 MiB by reference): its writers send a `Bytes` piecewise anyway, so smaller
//! slices would only cost more calls.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_cache::eviction::CacheEntryId;
use pingora_cache::storage::HandleHit;
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, HitHandler, Storage};
use pingora_error::{Error, ErrorType, Result};
use tokio::sync::watch;

use super::bans::{Bans, Stamp, Verdict};
use super::fill::{Body, Fill, Hold};
use super::flow::{Content, Flow, Peek};
use super::tier::DiskReader;

/// The error of a reader whose fill came to nothing: the body must be aborted, never ended.
pub const FILL_FAILED: ErrorType = ErrorType::Custom("cache fill failed");

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
}

/// A reader of one version of one object.
#[derive(Debug)]
pub struct StoreHit {
    pub(super) source: Source,
    stamp: Arc<Stamp>,
    follower: bool,
    owner: bool,
    pub(super) position: u64,
    /// One past the last byte asked for; `None`: to the end.
    end: Option<u64>,
}

/// Whether this hit reads a fill that another request was still running when it was looked up (RFC 9211 `collapsed`).
pub fn follows_fill(hit: &HitHandler) -> bool {
    hit.as_any().downcast_ref::<StoreHit>().is_some_and(|hit| hit.follower)
}

/// What purges of a prefix say of this hit for a request that asks for it under this URL (a content key before rewriting).
pub fn verdict_on_alias(bans: &Bans, hit: &HitHandler, url: &str) -> Verdict {
    let hit = hit.as_any().downcast_ref::<StoreHit>();
    hit.map_or(Verdict::Clear, |hit| bans.verdict_on_alias(&hit.stamp, url))
}

impl StoreHit {
    pub(super) fn of_object(body: Arc<Body>, stamp: Arc<Stamp>) -> Self {
        Self { source: Source::Object(body), stamp, follower: false, owner: false, position: 0, end: None }
    }

    pub(super) fn of_disk(reader: DiskReader, stamp: Arc<Stamp>) -> Self {
        Self { source: Source::Disk(reader), stamp, follower: false, owner: false, position: 0, end: None }
    }

    /// `owner`: the reader of the request that fills; it alone gets the rest of a body too large to keep.
    pub(super) fn of_fill(fill: Arc<Fill>, stamp: Arc<Stamp>, owner: bool) -> Self {
        let changed = fill.flow.subscribe();
        let follower = !owner && !fill.from_disk;
        let fill = Hold::new(fill, owner);
        Self { source: Source::Fill { fill, changed }, stamp, follower, owner, position: 0, end: None }
    }

    /// Another reader of the same bytes, from the first one on.
    pub(super) fn again(&self) -> Option<Self> {
        match &self.source {
            Source::Object(body) => Some(Self::of_object(Arc::clone(body), Arc::clone(&self.stamp))),
            Source::Fill { fill, .. } => Some(Self::of_fill(Arc::clone(fill), Arc::clone(&self.stamp), false)),
            Source::Flow { .. } | Source::Content(_) | Source::Disk(_) => None,
        }
    }

    /// From now on, the bytes of `flow`.
    pub(super) fn follow(&mut self, flow: Arc<Flow>) {
        let changed = flow.subscribe();
        self.source = Source::Flow { flow, changed };
    }

    fn body_bytes(&self) -> Option<u64> {
        match &self.source {
            Source::Object(body) => Some(body.content.bytes),
            Source::Fill { fill, .. } => fill.flow.promised_bytes,
            Source::Flow { flow, .. } => flow.promised_bytes,
            Source::Content(content) => Some(content.bytes),
            Source::Disk(reader) => Some(reader.body_bytes()),
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
                    let bytes = body.content.read(self.position, wanted);
                    return Ok(self.advance(bytes));
                }
                Source::Content(content) => {
                    let bytes = content.read(self.position, wanted);
                    return Ok(self.advance(bytes));
                }
                Source::Disk(reader) => {
                    let bytes = reader.read(self.position, wanted).await?;
                    return Ok(self.advance(bytes));
                }
                Source::Fill { fill, changed } => (&fill.flow, changed, self.owner),
                Source::Flow { flow, changed } => (&**flow, changed, false),
            };
            changed.borrow_and_update();
            match flow.peek(self.position, wanted, owner) {
                Peek::Bytes(bytes) => return Ok(self.advance(bytes)),
                Peek::End => return Ok(None),
                Peek::Complete(content) => self.source = Source::Content(content),
                Peek::Failed(failure) => return Error::e_explain(FILL_FAILED, failure.to_string()),
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
        Ok(())
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
            Source::Flow { .. } | Source::Content(_) => None,
        }
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}
