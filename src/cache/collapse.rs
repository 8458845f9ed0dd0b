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
//! Invariant: no reader waits longer than `collapse_timeout` before it asks the origin itself.

use std::time::Duration;

use pingora_cache::CacheOptionOverrides;
use pingora_cache::lock::{CacheKeyLockImpl, CacheLock};

/// How often a reader joins another writer after one has failed, before it asks the origin itself.
pub const LOCK_RETRIES_MAX: usize = 2;

/// The process's lock; call it once, it lives as long as the process. Its takeover time is fixed then, whatever a later
/// configuration says; how long a reader waits follows the request's configuration ([`overrides`]).
pub fn lock(collapse_timeout: Duration) -> &'static CacheKeyLockImpl {
    Box::leak(CacheLock::new_boxed(collapse_timeout / 2))
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
    use pingora_cache::CacheKey;
    use pingora_cache::lock::{LockStatus, Locked};

    use super::*;

    #[tokio::test]
    async fn a_stuck_writer_is_replaced_within_the_wait() {
        let lock = lock(Duration::from_millis(40));
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
