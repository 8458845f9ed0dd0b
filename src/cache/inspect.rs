//! What is held of a key, without using it: for decisions before a lookup, and for people. Counts as no visit.

use std::sync::Arc;
use std::time::SystemTime;

use pingora_cache::CacheMeta;
use pingora_cache::key::{CacheHashKey, CompactCacheKey};

use super::bans::{Stamp, Verdict};
use super::head;
use super::store::{Found, MemoryStore};

/// How much the store holds of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Whole,
    Filling { body_bytes: u64 },
}

/// What the store holds of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The body alone.
    pub body_bytes: u64,
    /// Everything that is counted for it.
    pub bytes: u64,
    pub status: u16,
    pub fresh_until: SystemTime,
    /// When it was stored or last revalidated (or the origin's idea of that, where `Age` says so).
    pub stored_at: SystemTime,
    pub stale_while_revalidate_s: u32,
    pub stale_if_error_s: u32,
    /// Whole being filled; `body_bytes` is what is there now.
    pub filling: bool,
    /// `memory`, or `disk` where it is only there.
    pub tier: &'static str,
    /// What purges say of it. A version that is gone is told only where there is no other.
    pub verdict: Verdict,
    /// The stored response's header fields.
    pub headers: http::HeaderMap,
}

impl MemoryStore {
    /// Whether a request finds something of this key in memory.
    pub(super) fn has_in_memory(&self, key: u128) -> bool {
        self.find(key, None, SystemTime::now()).is_some()
    }

    /// How much is held of a key, fresh or not: complete, or filling and this far. Cheaper than [`Self::contains`]. Of what is on a disk
    /// only, purges of the key and of everything are known; whether others reach it is seen when it is looked up.
    pub fn held(&self, key: &CompactCacheKey) -> Option<Held> {
        let object = u128::from_be_bytes(key.primary_bin());
        let key = u128::from_be_bytes(key.combined_bin());
        match self.find(key, None, SystemTime::now()) {
            None => {
                let found = self.disks()?.peek(key)?;
                (!self.bans().takes_all_of(object, found.ban_number)).then_some(Held::Whole)
            }
            Some(Found::Object(..)) => Some(Held::Whole),
            Some(Found::Fill(fill, _)) if fill.from_disk => Some(Held::Whole),
            Some(Found::Fill(fill, _)) => Some(Held::Filling { body_bytes: fill.flow.written() }),
        }
    }

    /// As [`Self::held`], and whether it is on a disk only.
    pub(super) fn held_below(&self, key: &CompactCacheKey) -> Option<(Held, bool)> {
        let below = !self.has_in_memory(u128::from_be_bytes(key.combined_bin()));
        self.held(key).map(|held| (held, below))
    }

    /// What is held of a key now, also when a purge hides it; it counts as no visit.
    pub fn contains(&self, key: &CompactCacheKey) -> Option<ObjectInfo> {
        let key = u128::from_be_bytes(key.combined_bin());
        match self.find(key, None, SystemTime::now()).or_else(|| self.find_gone(key))? {
            Found::Object(object, verdict) => {
                Some(info(&object.meta, object.body.content.bytes, object.bytes(), false, verdict))
            }
            Found::Fill(fill, verdict) => {
                let (meta, meta_bytes) = {
                    let head = fill.head.lock();
                    (Arc::clone(&head.meta), head.meta_charge.bytes())
                };
                let written = fill.flow.written();
                Some(info(&meta, written, written + meta_bytes, true, verdict))
            }
        }
    }

    /// The object that a hard purge hides until it is swept.
    fn find_gone(&self, key: u128) -> Option<Found> {
        let shard = self.shard(key).read();
        let object = shard.get(&key)?.object.clone()?;
        Some(Found::Object(object, Verdict::Gone))
    }
}

impl MemoryStore {
    /// As [`Self::contains`], where it is on a disk only.
    pub async fn contains_below(&self, key: &CompactCacheKey) -> Option<ObjectInfo> {
        let disks = self.disks()?;
        let found = disks.peek(u128::from_be_bytes(key.combined_bin()))?;
        let head_bytes = u64::from(found.head_bytes);
        let head = head::from_bytes(&disks.read_head(&found).await.ok()?.into())?;
        let stamp = Stamp::from_bytes(self.bans(), &head.stamp).ok()?;
        let verdict = self.bans().verdict(&stamp);
        let info = info(&head.meta, found.body_bytes, found.body_bytes + head_bytes, false, verdict);
        Some(ObjectInfo { tier: "disk", ..info })
    }
}

fn info(meta: &CacheMeta, body_bytes: u64, bytes: u64, filling: bool, verdict: Verdict) -> ObjectInfo {
    let fresh_until = match verdict {
        Verdict::Stale(at) => meta.fresh_until().min(at),
        Verdict::Clear | Verdict::Gone => meta.fresh_until(),
    };
    ObjectInfo {
        body_bytes,
        bytes,
        status: meta.response_header().status.as_u16(),
        fresh_until,
        stored_at: meta.epoch(),
        stale_while_revalidate_s: meta.stale_while_revalidate_sec(),
        stale_if_error_s: meta.stale_if_error_sec(),
        filling,
        tier: "memory",
        verdict,
        headers: meta.headers().clone(),
    }
}
