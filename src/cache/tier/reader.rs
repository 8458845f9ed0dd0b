//! Reading an object from its disk for one request, without keeping it in RAM.
//!
//! Invariants: at most one chunk is held, and verified, and it is paid for from the same budget as objects; what can no longer be read is an error,
//! never a shorter body. Nobody can follow it: whoever else asks meanwhile reads for itself.

use std::time::Duration;

use bytes::Bytes;
use pingora_error::{Error, Result};

use super::super::budget::Charge;
use super::super::disk::{BODY_CHUNK_BYTES, Found as OnDisk};
use super::super::hit::FILL_FAILED;
use super::super::store::MemoryStore;
use super::Tier;
use super::buffers::Buffer;

/// A reader waits so long for room for the beginning, and for each chunk that follows.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(500);
const NEXT_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(in crate::cache) struct DiskReader {
    store: &'static MemoryStore,
    found: OnDisk,
    /// Where the chunk begins, and the chunk.
    held: Option<(u64, Bytes)>,
}

impl DiskReader {
    /// `first`: the body's first chunk.
    pub(super) fn new(store: &'static MemoryStore, found: OnDisk, first: Bytes) -> Self {
        Self { store, found, held: Some((0, first)) }
    }

    /// From anywhere on.
    pub(super) fn resume(store: &'static MemoryStore, found: OnDisk) -> Self {
        Self { store, found, held: None }
    }

    pub(in crate::cache) fn body_bytes(&self) -> u64 {
        self.found.body_bytes
    }

    pub(in crate::cache) fn key(&self) -> u128 {
        self.found.key
    }

    pub(in crate::cache) fn version(&self) -> u64 {
        self.found.version
    }

    /// Some bytes from `position` on, at most `bytes_max`; none at the end. Cancel-safe.
    ///
    /// # Errors
    /// The object is no longer there, or damaged, or no room was made for a chunk of it in ten seconds.
    pub(in crate::cache) async fn read(&mut self, position: u64, bytes_max: u64) -> Result<Bytes> {
        if position >= self.found.body_bytes {
            return Ok(Bytes::new());
        }
        let start = position / BODY_CHUNK_BYTES * BODY_CHUNK_BYTES;
        let held = self.held.take_if(|(held, _)| *held == start);
        let chunk = match held {
            Some((_, chunk)) => chunk,
            None => {
                self.held = None;
                self.fetch(start).await?
            }
        };
        let from = (position - start) as usize;
        let end = chunk.len().min(from.saturating_add(usize::try_from(bytes_max).unwrap_or(usize::MAX)));
        if end < chunk.len() {
            self.held = Some((start, chunk.clone()));
        }
        Ok(chunk.slice(from..end))
    }

    async fn fetch(&self, start: u64) -> Result<Bytes> {
        let Some(tier) = self.store.tier() else {
            return Error::e_explain(FILL_FAILED, "there is no disk");
        };
        let Some(buffer) = buffer(self.store, tier, self.found.chunk_bytes(), NEXT_WAIT).await else {
            return Error::e_explain(FILL_FAILED, "all of the cache's memory is in use");
        };
        match tier.disks.read_chunk(&self.found, start, buffer).await {
            Ok((chunk, buffer)) => Ok(Bytes::from_owner(buffer).slice(chunk)),
            Err(_) => Error::e_explain(FILL_FAILED, "the object is no longer on its disk"),
        }
    }
}

/// Paid for, and of at least `bytes`. What lies idle is taken before room is made.
pub(super) async fn buffer(
    store: &'static MemoryStore,
    tier: &'static Tier,
    bytes: usize,
    wait: Duration,
) -> Option<Buffer> {
    let price = tier.buffers.price(bytes);
    let made = |charge| tier.buffers.make(bytes, charge);
    if let Some(buffer) = tier.buffers.take(bytes).or_else(|| store.take_for_reading(price).map(made)) {
        return Some(buffer);
    }
    if let Some(charge) = pay(store, price) {
        return Some(made(charge));
    }
    store.room_within(wait, || tier.buffers.take(bytes).or_else(|| pay(store, price).map(made))).await
}

/// Objects make room; where they cannot, there is some left for what only passes.
fn pay(store: &MemoryStore, bytes: u64) -> Option<Charge> {
    store.reserve(bytes).or_else(|| store.take_for_passing(bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::cache::StoreSettings;
    use crate::cache::disk::{Disks, LogSettings};
    use crate::config::{Disk, DiskAdmission};
    use crate::observe::Metrics;

    fn store(folder: &std::path::Path) -> &'static MemoryStore {
        let disk = Disk {
            path: folder.to_owned(),
            size_bytes: 4 << 20,
            write_bytes_per_day_max: None,
            write_bytes_per_second_max: None,
            admit: DiskAdmission::All,
        };
        let metrics = Arc::new(Metrics::new());
        let disks = Arc::new(Disks::open(vec![LogSettings::new(&disk, 0)], &metrics));
        // Who waits looks by itself only once a second.
        let hold_timeout = Duration::from_secs(60);
        let settings = StoreSettings { bytes_max: 16 << 20, object_bytes_max: 1 << 20, hold_timeout };
        MemoryStore::new(settings, metrics).above(disks).leak()
    }

    #[tokio::test]
    async fn who_waits_for_memory_is_told_when_a_buffer_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(folder.path());
        let tier = store.tier().expect("it has one");
        let used = buffer(store, tier, 200_000, Duration::ZERO).await.expect("there is room");
        let stats = store.stats();
        let rest = store.take_for_passing(stats.bytes_max - stats.bytes).expect("there is so much");
        let slice = Bytes::from_owner(used).slice(1..2);
        let waiting = tokio::spawn(buffer(store, tier, 200_000, Duration::from_secs(30)));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "all of the memory is in use");
        let began = Instant::now();
        drop(slice);
        assert!(waiting.await.expect("no panic").is_some());
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        drop(rest);
    }
}
