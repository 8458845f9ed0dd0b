//! Reading a sliced object: granule after granule, asking for what is missing and a little ahead.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_cache::storage::HandleHit;
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, HitHandler, Storage};
use pingora_error::{Error, ErrorType, Result};

use super::super::bans::Verdict;
use super::super::hit::{FILL_FAILED, follows_fill, verdict_on_alias};
use super::{Run, Slices, View, Wanted, span};
use crate::http::slicing::{GRANULE_BYTES, ReadAhead};

/// Runs that may fail one after the other without a byte between them.
const FAILURES_MAX: u32 = 2;
/// How often a granule may be gone again before it was read, in a store far too small.
const LOSSES_MAX: u32 = 16;
/// How long a reader waits for room in the store.
const ROOM_WAIT: Duration = Duration::from_millis(50);
const ROOM_WAITS_MAX: u32 = 200;

/// A reader of one version of one object.
pub(super) struct SlicedHit {
    slices: &'static Slices,
    view: Arc<View>,
    position: u64,
    /// One past the last byte wanted.
    end: u64,
    /// The granule at `position`.
    reading: Option<HitHandler>,
    ahead: ReadAhead,
    /// Everything before it, from `position` on, is kept or on its way. A multiple of a granule.
    asked_to: u64,
    /// Granules this reader asked for itself.
    own: Vec<Range<u64>>,
    failures: u32,
    losses: u32,
    waits: u32,
}

impl SlicedHit {
    pub(super) fn new(slices: &'static Slices, view: Arc<View>) -> Self {
        let end = view.head.title().complete();
        let ahead = ReadAhead::new(0, 0, view.read_ahead_bytes_max);
        Self {
            slices,
            view,
            position: 0,
            end,
            reading: None,
            ahead,
            asked_to: 0,
            own: Vec::new(),
            failures: 0,
            losses: 0,
            waits: 0,
        }
    }

    /// Where the reader stops of its own accord; else it may leave anywhere.
    fn is_bounded(&self) -> bool {
        self.end < self.view.head.title().complete()
    }

    /// The granule at `position`, where it is kept or on its way.
    async fn open(&mut self) -> Result<Option<HitHandler>> {
        let title = self.view.head.title();
        let index = self.position / GRANULE_BYTES;
        let mut key = title.granule_key(index);
        key.extensions.insert(self.view.asker.begun);
        let Some((_, mut hit)) = self.slices.store.lookup(&key, &span()).await? else { return Ok(None) };
        let asker = &self.view.asker;
        if asker.has_aliases
            && verdict_on_alias(self.slices.store.bans(), &hit, &asker.url) == Verdict::Gone
            && !self.own.iter().any(|own| own.contains(&index))
        {
            self.slices.store.remove(&key.to_compact());
            return Ok(None);
        }
        let start = index * GRANULE_BYTES;
        let end = (self.end - start).min(GRANULE_BYTES);
        hit.seek((self.position - start) as usize, Some(end as usize))?;
        if follows_fill(&hit) && !self.own.iter().any(|own| own.contains(&index)) {
            self.slices.metrics.slice_joins.inc();
        }
        self.own.retain(|own| own.end > index);
        Ok(Some(hit))
    }

    /// Asks for the granule at `position`, which is missing, and for what else is missing right behind it.
    async fn demand(&mut self) -> Result<()> {
        let title = self.view.head.title();
        if title.has_ended() {
            return Error::e_explain(FILL_FAILED, "the origin has another version of the object by now");
        }
        let from = self.position / GRANULE_BYTES;
        let at = from * GRANULE_BYTES;
        let bytes_max = self.ahead.next_run(at, at, self.end, self.is_bounded()).unwrap_or(GRANULE_BYTES);
        let wanted = Wanted { from, passing_to: from + 1, end: self.end.div_ceil(GRANULE_BYTES), bytes_max };
        match self.slices.claim(title, &self.view.asker, wanted).await {
            Ok(claimed) => {
                self.asked_to = self.asked_to.max(claimed.next * GRANULE_BYTES);
                match claimed.run {
                    Some(run) => self.fetch(run),
                    None => self.lost(from).await?,
                }
            }
            Err(error) if self.waits >= ROOM_WAITS_MAX => return Err(error),
            Err(_) => {
                self.waits += 1;
                tokio::time::sleep(ROOM_WAIT).await;
            }
        }
        Ok(())
    }

    /// What was there a moment ago is not: it came after we looked, or had to make room, or there is no room to bring it up from
    /// a disk, or it cannot be read there. What stays so is fetched anew.
    async fn lost(&mut self, index: u64) -> Result<()> {
        self.losses += 1;
        if self.losses > LOSSES_MAX {
            return Error::e_explain(FILL_FAILED, "the store is too small to read from");
        }
        if self.losses > 1 {
            tokio::time::sleep(ROOM_WAIT).await;
        }
        if self.losses.is_multiple_of(LOSSES_MAX / 4) {
            self.slices.store.remove(&self.view.head.title().granule_key(index).to_compact());
        }
        Ok(())
    }

    /// Asks for what is missing ahead, as far as this reader's pace and the store allow.
    async fn look_ahead(&mut self) {
        let title = Arc::clone(self.view.head.title());
        self.asked_to = self.asked_to.max(self.position / GRANULE_BYTES * GRANULE_BYTES + GRANULE_BYTES);
        while let Some(bytes) = self.ahead.next_run(self.position, self.asked_to, self.end, self.is_bounded()) {
            if title.has_ended() || !self.slices.may_read_ahead(bytes) {
                return;
            }
            let from = self.asked_to / GRANULE_BYTES;
            let end = (self.asked_to + bytes).min(self.end).div_ceil(GRANULE_BYTES);
            let wanted = Wanted { from, passing_to: end, end, bytes_max: bytes };
            let Ok(claimed) = self.slices.claim(&title, &self.view.asker, wanted).await else { return };
            self.asked_to = claimed.next * GRANULE_BYTES;
            if let Some(run) = claimed.run {
                self.fetch(run);
            }
        }
    }

    fn fetch(&mut self, run: Run) {
        let asked = run.asked();
        self.own.push(asked.first / GRANULE_BYTES..asked.last / GRANULE_BYTES + 1);
        self.view.fetch.fetch(run);
    }

    fn advance(&mut self, bytes: Bytes) -> Bytes {
        self.position += bytes.len() as u64;
        (self.failures, self.losses, self.waits) = (0, 0, 0);
        bytes
    }
}

/// The next bytes of a granule, and whether they had to be waited for.
async fn read(hit: &mut HitHandler) -> (Result<Option<Bytes>>, bool) {
    let mut read = hit.read_body();
    tokio::select! {
        biased;
        read = &mut read => (read, false),
        () = std::future::ready(()) => (read.await, true),
    }
}

#[async_trait]
impl HandleHit for SlicedHit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        while self.position < self.end {
            let Some(reading) = &mut self.reading else {
                match self.open().await? {
                    Some(hit) => {
                        self.reading = Some(hit);
                        self.look_ahead().await;
                    }
                    None => self.demand().await?,
                }
                continue;
            };
            let (read, waited) = read(reading).await;
            if waited {
                self.ahead.waited(self.position);
            }
            match read {
                Ok(Some(bytes)) => return Ok(Some(self.advance(bytes))),
                Ok(None) if self.position.is_multiple_of(GRANULE_BYTES) => self.reading = None,
                Ok(None) => return Error::e_explain(FILL_FAILED, "a granule is shorter than it should be"),
                Err(error) => {
                    self.reading = None;
                    self.failures += 1;
                    if self.failures > FAILURES_MAX || self.view.head.title().has_ended() {
                        return Err(error);
                    }
                }
            }
        }
        Ok(None)
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
        true
    }

    /// The range `start..end`; an `end` beyond the object means its end. May be called again, in any order.
    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let complete = self.view.head.title().complete();
        let (start, end) = (start as u64, end.map_or(complete, |end| (end as u64).min(complete)));
        if start >= complete || end < start {
            return Error::e_explain(
                ErrorType::InternalError,
                format!("the range {start}..{end} is not in an object of {complete} bytes"),
            );
        }
        (self.position, self.end, self.reading) = (start, end, None);
        self.asked_to = start / GRANULE_BYTES * GRANULE_BYTES;
        let bounded_bytes = if self.is_bounded() { end - self.asked_to } else { 0 };
        self.ahead = ReadAhead::new(start, bounded_bytes, self.view.read_ahead_bytes_max);
        Ok(())
    }

    fn should_count_access(&self) -> bool {
        false
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}
