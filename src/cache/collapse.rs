//! Request collapsing: one fetch for many askers, by Pingora's `CacheLock`.
//!
//! The lock is held from the miss until the writer's response head is in the store; from then on the waiting readers follow
//! the fill itself. What a waiting reader sees:
//! - the head arrived: it looks up again and follows the fill at byte zero;
//! - the writer failed or died: one of the waiting is the next writer, the others wait on; after
//!   [`LOCK_RETRIES_MAX`] such rounds a reader fetches by itself, uncached;
//! - the answer cannot be stored: all fetch by themselves at once;
//! - no head within half of `collapse_timeout`: the lock is taken over by one of the waiting, so one stuck connection does not
//!   hold everyone;
//! - `collapse_timeout` in all: the reader fetches by itself, uncached.
//!
//! Pingora looks up first and takes the lock then. What was filled in between would be fetched once more, so [`lock`] looks again
//! before it makes a request the writer, and sends it back to look up where there is something new.
//!
//! Invariant: no reader waits longer than `collapse_timeout` before it asks the origin itself.

use std::time::Duration;

use pingora_cache::key::CacheHashKey;
use pingora_cache::lock::{CacheKeyLock, CacheKeyLockImpl, CacheLock, LockStatus, Locked, WritePermit};
use pingora_cache::{CacheKey, CacheOptionOverrides};

use super::bans::Begun;
use super::store::MemoryStore;

/// How often a reader joins another writer after one has failed, before it asks the origin itself.
pub const LOCK_RETRIES_MAX: usize = 6;

/// The process's lock; call it once, it lives as long as the process. Its takeover time is fixed then, whatever a later
/// configuration says; how long a reader waits follows the request's configuration ([`overrides`]).
pub fn lock(collapse_timeout: Duration, store: &'static MemoryStore) -> &'static CacheKeyLockImpl {
    Box::leak(Box::new(LookAgain { lock: CacheLock::new(collapse_timeout / 2), store }))
}

#[derive(Debug)]
struct LookAgain {
    lock: CacheLock,
    store: &'static MemoryStore,
}

impl CacheKeyLock for LookAgain {
    fn lock(&self, key: &CacheKey, stale_writer: bool) -> Locked {
        let locked = self.lock.lock(key, stale_writer);
        let begun = key.extensions.get::<Begun>().copied();
        let hash = u128::from_be_bytes(key.combined_bin());
        let (permit, begun) = match (locked, begun) {
            (Locked::Write(permit), Some(begun)) => (permit, begun),
            (locked, _) => return locked,
        };
        if !self.store.has_since(hash, begun) {
            return Locked::Write(permit);
        }
        // A reader of our own lock, which is done: it looks up at once.
        let reader = self.lock.lock(key, stale_writer);
        self.lock.release(key, permit, LockStatus::Done);
        reader
    }

    fn release(&self, key: &CacheKey, permit: WritePermit, reason: LockStatus) {
        self.lock.release(key, permit, reason);
    }
}

/// Per request, for `session.cache.enable`.
pub fn overrides(collapse_timeout: Duration) -> CacheOptionOverrides {
    let mut overrides = CacheOptionOverrides::default();
    overrides.wait_timeout = Some(collapse_timeout);
    overrides.max_lock_retries = Some(LOCK_RETRIES_MAX);
    overrides
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::cache::StoreSettings;
    use crate::observe::Metrics;

    fn empty_store() -> &'static MemoryStore {
        MemoryStore::new(
            StoreSettings { bytes_max: 1 << 20, object_bytes_max: 1 << 19, hold_timeout: Duration::from_secs(5) },
            Arc::new(Metrics::new()),
        )
        .leak()
    }

    #[tokio::test]
    async fn a_stuck_writer_is_replaced_within_the_wait() {
        let lock = lock(Duration::from_millis(40), empty_store());
        let key = CacheKey::new("stuck", "");
        let Locked::Write(stuck) = lock.lock(&key, false) else { panic!("first is the writer") };
        let Locked::Read(reader) = lock.lock(&key, false) else { panic!("second waits") };
        tokio::time::timeout(Duration::from_secs(5), reader.wait()).await.expect("the wait ends by itself");
        assert_eq!(reader.lock_status(), LockStatus::AgeTimeout);
        let Locked::Write(next) = lock.lock(&key, false) else { panic!("the reader takes over") };
        lock.release(&key, next, LockStatus::Done);
        lock.release(&key, stuck, LockStatus::Done);
    }

    #[test]
    fn a_reader_waits_no_longer_than_configured() {
        let overrides = overrides(Duration::from_secs(3));
        assert_eq!(overrides.wait_timeout, Some(Duration::from_secs(3)));
        assert_eq!(overrides.max_lock_retries, Some(LOCK_RETRIES_MAX));
    }
}
