//! A look-up made before Pingora makes its own, for what is decided by what it finds: whether there is anything, whether it may be given,
//! and who fetches it if not.
//!
//! What is known of an object that lies on a disk only lies there too, so to ask is to read. What was read is kept here, in the
//! extensions of the request's `CacheKey`, until Pingora's look-up of the same key takes it: nothing is read twice. Where an answer of the
//! object's other variant is looked for, there are two.

use parking_lot::Mutex;
use pingora_cache::key::CacheHashKey;
use pingora_cache::trace::Span;
use pingora_cache::{CacheKey, CacheMeta, HitHandler, Storage};
use pingora_error::Result;

use super::hit::StoreHit;
use super::inspect::Held;
use super::store::MemoryStore;

/// What one request has looked up ahead of time.
#[derive(Default)]
pub struct Ahead(Mutex<[Option<Looked>; 2]>);

/// One object that was found. It is read from where it lies until it is dropped.
pub struct Looked {
    key: u128,
    pub meta: CacheMeta,
    pub hit: HitHandler,
}

impl Looked {
    /// How much of it is there.
    pub fn held(&self) -> Held {
        self.hit.as_any().downcast_ref::<StoreHit>().map_or(Held::Whole, StoreHit::held)
    }
}

impl Ahead {
    /// For Pingora's look-ups, in the order they were made. What is beyond the second is dropped.
    pub fn of(looked: impl IntoIterator<Item = Looked>) -> Self {
        let mut looked = looked.into_iter();
        Self(Mutex::new([looked.next(), looked.next()]))
    }

    /// Once.
    pub(super) fn take(&self, key: u128) -> Option<(CacheMeta, HitHandler)> {
        let mut looked = self.0.lock();
        let looked = looked.iter_mut().find(|looked| looked.as_ref().is_some_and(|looked| looked.key == key))?.take();
        looked.map(|looked| (looked.meta, looked.hit))
    }
}

impl MemoryStore {
    /// Whether a disk has something under this key that memory has not: whether it may be given is not known before it is read.
    pub fn lies_below(&self, key: &CacheKey) -> bool {
        let key = u128::from_be_bytes(key.combined_bin());
        !self.has_in_memory(key) && self.disks().is_some_and(|disks| disks.peek(key).is_some())
    }

    /// What a look-up of `key` finds, if anything. It counts as one; where there is nothing, it leaves no trace.
    ///
    /// # Errors
    /// As `lookup`.
    pub async fn look_ahead(&'static self, key: &CacheKey) -> Result<Option<Looked>> {
        let hash = u128::from_be_bytes(key.combined_bin());
        if !self.has_in_memory(hash) && !self.lies_below(key) {
            return Ok(None);
        }
        let found = self.lookup(key, &Span::inactive().handle()).await?;
        Ok(found.map(|(meta, hit)| Looked { key: hash, meta, hit }))
    }
}
