//! Writing into the store: the writer of one fill.
//!
//! A body of promised length is paid for before its first byte, so it never fails for want of room half way. One of unknown
//! length pays as it grows; when it grows too large, or nothing more can be freed, it is given up for storing: followers
//! fail, and the rest is passed on to the writer's own client through a bounded queue. `write_body` does not wait for that
//! client (Pingora drives both from one task); the edge holds the origin back ([`super::held_back`]), and only where the queue is full all
//! the same is it given up.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_cache::eviction::CacheEntryId;
use pingora_cache::storage::streaming_write::U64WriteId;
use pingora_cache::storage::{HandleMiss, MissFinishType};
use pingora_error::{Error, Result};

use super::bans::FillTime;
use super::budget::Charge;
use super::fill::Fill;
use super::flow::{Failure, PASSING_BYTES_MAX, Room};
use super::hit::FILL_FAILED;
use super::store::{MemoryStore, Outcome};

pub(super) struct StoreMiss {
    store: &'static MemoryStore,
    fill: Arc<Fill>,
    tag: U64WriteId,
    /// Held, so that the bans this fill must be compared with are kept until it can no longer be stored.
    _time: Option<FillTime>,
    /// Paid for, but not yet part of a frozen chunk.
    charge: Charge,
    /// The fill's outcome is counted and the store has let go of it.
    settled: bool,
}

impl StoreMiss {
    pub(super) fn new(store: &'static MemoryStore, fill: Arc<Fill>, charge: Charge, time: Option<FillTime>) -> Self {
        let tag = U64WriteId::from(fill.version);
        Self { store, fill, tag, _time: time, charge, settled: false }
    }

    fn fail<T>(&mut self, failure: Failure, outcome: Outcome) -> Result<T> {
        self.fill.fail(failure);
        self.settle(outcome);
        Error::e_explain(FILL_FAILED, failure.to_string())
    }

    fn settle(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.settled, true) {
            self.store.settle(&self.fill, outcome);
        }
    }

    fn keep(&mut self, mut data: Bytes) -> Result<()> {
        let written = self.fill.flow.written() + data.len() as u64;
        if self.fill.flow.promised_bytes.is_some_and(|promised| written > promised) {
            return self.fail(Failure::WrongLength, Outcome::Truncated);
        }
        if self.fill.flow.promised_bytes.is_none() && written > self.store.object_bytes_max() {
            self.store.remember_too_large(self.fill.key);
            self.start_passing();
            return self.pass(data);
        }
        while !data.is_empty() {
            match self.fill.flow.room(data.len()) {
                Room::Ready(bytes) => self.fill.flow.append(&data.split_to(bytes), &mut self.charge),
                Room::Grow(bytes) => {
                    if self.fill.flow.promised_bytes.is_none() {
                        let Some(charge) = self.store.reserve(bytes as u64) else {
                            self.start_passing();
                            return self.pass(data);
                        };
                        self.charge.merge(charge);
                    }
                    self.fill.flow.grow(bytes);
                }
            }
        }
        Ok(())
    }

    fn start_passing(&mut self) {
        self.fill.hidden.store(true, std::sync::atomic::Ordering::Release);
        self.fill.flow.start_passing(&mut self.charge);
        self.settle(Outcome::TooLarge);
    }

    fn pass(&mut self, data: Bytes) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let behind = self.fill.flow.behind() + data.len() as u64;
        let charge = self.store.take_for_passing(data.len() as u64);
        match charge {
            Some(charge) if behind <= PASSING_BYTES_MAX => {
                self.fill.flow.pass(charge.pay_for(data));
                Ok(())
            }
            _ => self.fail(Failure::TooSlow, Outcome::TooLarge),
        }
    }
}

#[async_trait]
impl HandleMiss for StoreMiss {
    async fn write_body(&mut self, data: Bytes, eof: bool) -> Result<()> {
        if let Some(failure) = self.fill.flow.failure() {
            return Error::e_explain(FILL_FAILED, failure.to_string());
        }
        if self.fill.flow.is_passing() {
            return self.pass(data);
        }
        self.keep(data)?;
        // Pingora aborts the client's response when a write fails, but only logs a `finish` that fails.
        if eof && self.fill.flow.promised_bytes.is_some_and(|promised| promised != self.fill.flow.written()) {
            return self.fail(Failure::WrongLength, Outcome::Truncated);
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<MissFinishType> {
        if let Some(failure) = self.fill.flow.failure() {
            return Error::e_explain(FILL_FAILED, failure.to_string());
        }
        let written = self.fill.flow.written();
        if self.fill.flow.is_passing() {
            // An error here would make Pingora abort a client that still reads the queue.
            self.fill.flow.end_passing();
            return Ok(MissFinishType::Created(0));
        }
        if self.fill.flow.promised_bytes.is_some_and(|promised| promised != written) {
            return self.fail(Failure::WrongLength, Outcome::Truncated);
        }
        let body = self.fill.complete(&mut self.charge, self.store.readers(&self.fill));
        let offering = self.store.offering(self.fill.key, self.fill.version);
        let object = self.store.commit(&self.fill, body);
        self.settle(if object.is_some() { Outcome::Complete } else { Outcome::Discarded });
        if let Some(object) = object {
            self.store.send_down(&object, offering).await;
        }
        Ok(MissFinishType::Created(usize::try_from(written).unwrap_or(usize::MAX)))
    }

    fn streaming_write_tag(&self) -> Option<&[u8]> {
        Some(self.tag.as_bytes())
    }

    fn entry_id(&self) -> Option<CacheEntryId> {
        Some(CacheEntryId::new(self.fill.version))
    }
}

impl Drop for StoreMiss {
    fn drop(&mut self) {
        // Without effect on a fill that has ended.
        self.fill.fail(Failure::Cancelled);
        self.settle(Outcome::Cancelled);
    }
}
