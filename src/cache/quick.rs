//! What is answered without Pingora's cache: a whole object in RAM that is fresh, and that no purge hides. Everything else is for
//! `Storage`, which finds the same by the same [`MemoryStore::find`] and counts by the same [`MemoryStore::count_visit`].

use super::bans::Verdict;
use super::hit::Reads;
use super::store::{Found, MemoryStore, Object};
use bytes::Bytes;
use pingora_cache::key::CacheHashKey;
use pingora_cache::{CacheKey, CacheMeta};
use std::time::SystemTime;

/// A whole object, held while it is looked at.
#[derive(Debug)]
pub struct QuickHit {
    object: Object,
    /// The last field: dropped when the object has been.
    _reads: Reads,
}

impl MemoryStore {
    /// See the module; for a request that begins now. It counts as no visit until [`Self::visit`].
    pub fn quick(&'static self, key: &CacheKey, now: SystemTime) -> Option<QuickHit> {
        match self.find(u128::from_be_bytes(key.combined_bin()), None, now)? {
            Found::Object(object, Verdict::Clear) if object.meta.is_fresh(now) => {
                Some(QuickHit { object, _reads: Reads::new(self) })
            }
            _ => None,
        }
    }

    /// It is given to somebody.
    pub fn visit(&self, hit: &QuickHit) {
        self.count_visit(&hit.object);
    }
}

impl QuickHit {
    pub fn meta(&self) -> &CacheMeta {
        &self.object.meta
    }

    /// The body, where it lies in one piece of at most `bytes_max`.
    pub fn body(&self, bytes_max: usize) -> Option<Bytes> {
        let content = &self.object.body.content;
        let body = content.read(0, u64::MAX).filter(|body| body.len() <= bytes_max)?;
        (body.len() as u64 == content.bytes).then_some(body)
    }
}
