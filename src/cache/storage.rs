//! `Storage` for [`MemoryStore`]: what Pingora's cache state machine calls.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use async_trait::async_trait;
use pingora_cache::eviction::CacheEntryId;
use pingora_cache::key::{CacheHashKey, CompactCacheKey};
use pingora_cache::storage::streaming_write::U64WriteId;
use pingora_cache::trace::SpanHandle;
use pingora_cache::{
    CacheEntryKey, CacheKey, CacheMeta, HitHandler, MissHandler, PurgeOutcome, PurgeTarget, PurgeType, Storage,
};
use pingora_error::{Error, ErrorType, Result};

use super::ahead::Ahead;
use super::bans::{AskedFor, Begun, Restored, Stamp, Verdict};
use super::coder::AcceptsCodings;
use super::disk::Ticket;
use super::fill::{Fill, Head};
use super::hit::StoreHit;
use super::hold::OwnersRest;
use super::meta::{self, Version};
use super::miss::StoreMiss;
use super::store::{Found, MemoryStore, Object, Slot};
use super::tier::Below;

/// A fill was refused before it began. Pingora then relays the answer uncached, at its client's pace.
pub const FILL_REFUSED: ErrorType = ErrorType::Custom("cache fill refused");

#[async_trait]
impl Storage for MemoryStore {
    async fn lookup(&'static self, key: &CacheKey, _trace: &SpanHandle) -> Result<Option<(CacheMeta, HitHandler)>> {
        let begun = key.extensions.get::<Begun>().copied();
        let accepts_codings = key.extensions.get::<AcceptsCodings>().is_some();
        let ahead = key.extensions.get::<Arc<Ahead>>();
        let key = hash(key);
        if let Some(found) = ahead.and_then(|ahead| ahead.take(key)) {
            return Ok(Some(found));
        }
        let mut found = self.find(key, begun, SystemTime::now());
        if found.is_none() {
            match self.bring_up(key, begun, accepts_codings).await {
                Below::Nothing => {}
                Below::InRam => found = self.find(key, begun, SystemTime::now()),
                Below::Reader(meta, verdict, hit) => {
                    return Ok(Some((judged(meta, verdict), hit)));
                }
            }
        }
        Ok(found.map(|found| match found {
            Found::Object(object, verdict) => {
                self.count_visit(&object);
                let meta = judged(meta::copy_of_version(&object.meta, object.body.version), verdict);
                (meta, Box::new(StoreHit::of_object(self, object.body, object.stamp)) as HitHandler)
            }
            Found::Fill(fill, verdict) => {
                let (meta, hit) = self.hit_of_fill(fill, false);
                (judged(meta, verdict), hit)
            }
        }))
    }

    /// The reader of the request that runs this very fill, also when the key was purged meanwhile; else none.
    async fn lookup_streaming_write(
        &'static self,
        key: &CacheKey,
        streaming_write_tag: Option<&[u8]>,
        _trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let Some(tag) = streaming_write_tag.and_then(|tag| U64WriteId::try_from(tag).ok()) else {
            return Ok(None);
        };
        let (key, version) = (hash(key), u64::from(tag));
        let fill = {
            let shard = self.shard(key).read();
            shard.get(&key).and_then(|slot| slot.fills.iter().find(|fill| fill.version == version).cloned())
        };
        Ok(fill.map(|fill| self.hit_of_fill(fill, true)))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<MissHandler> {
        let stamp = Stamp::new(self.bans(), key, meta);
        let asked_for = meta.extensions().get::<AskedFor>().map(|asked_for| asked_for.time.clone());
        let time = asked_for.or_else(|| meta.extensions().get::<Restored>().map(Restored::time));
        let key = hash(key);
        let promised_bytes = meta::promised_bytes(meta);
        let refusal = match promised_bytes {
            Some(promised) if promised > self.object_bytes_max() => Some("larger than an object may be"),
            None if self.was_too_large(key) => Some("of unknown length, and was too large before"),
            _ => None,
        };
        let head_bytes = meta::bytes(meta) + stamp.bytes();
        let room = || Some((self.reserve(head_bytes)?, self.reserve(promised_bytes.unwrap_or(0))?));
        let room = if refusal.is_none() { room() } else { None };
        let Some((meta_charge, charge)) = room else {
            self.refused();
            let refusal = refusal.unwrap_or("more than can be made free");
            return Error::e_explain(FILL_REFUSED, format!("the body is {refusal}"));
        };
        if promised_bytes.is_some() {
            self.forget_too_large(key);
        }
        let head = Head {
            meta: Arc::new(kept(meta)),
            meta_charge: Arc::new(meta_charge),
            stamp: Arc::new(stamp),
            expired_at: None,
        };
        let fill = self.begin(|version| Fill::new(key, version, promised_bytes, head));
        *fill.owners_rest.lock() = meta.extensions().get::<OwnersRest>().map(|rest| Arc::clone(&rest.0));
        Ok(Box::new(StoreMiss::new(self, fill, charge, time)))
    }

    /// Removes the object and reaches its running fills: they serve those who follow them already, and are not stored.
    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _purge_type: PurgeType,
        _trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        Ok(self.purge_now(target))
    }

    /// Marks the object stale as of now, and its running fills: they will be stored stale.
    async fn expire(&'static self, target: PurgeTarget<'_>, _trace: &SpanHandle) -> Result<PurgeOutcome> {
        let key = u128::from_be_bytes(target.key().combined_bin());
        let now = SystemTime::now();
        let mut shard = self.shard(key).write();
        let Some(slot) = shard.get_mut(&key) else { return Ok(PurgeOutcome::NotFound) };
        let mut expired = false;
        for fill in matching_fills(slot, target) {
            let mut head = fill.head.lock();
            let mut meta = meta::copy(&head.meta);
            meta.expire_at(now);
            head.meta = Arc::new(meta);
            head.expired_at = Some(now);
            expired = true;
        }
        if let Some(object) = slot.object.as_mut().filter(|object| matches(target, object.body.version)) {
            let mut meta = meta::copy(&object.meta);
            meta.expire_at(now);
            object.meta = Arc::new(meta);
            expired = true;
        }
        Ok(if expired { PurgeOutcome::Expired } else { PurgeOutcome::NotFound })
    }

    /// The head after a 304. It is taken only for the version it was made for ([`Version`] in its extensions): a version that
    /// was replaced, purged or evicted meanwhile is left as it is, with `false`.
    async fn update_meta(&'static self, key: &CacheKey, meta: &CacheMeta, _trace: &SpanHandle) -> Result<bool> {
        let stamp = Stamp::new(self.bans(), key, meta);
        let key = hash(key);
        let Some(Version(version)) = meta.extensions().get::<Version>().copied() else { return Ok(false) };
        let meta = Arc::new(kept(meta));
        match self.update_here(key, version, &meta, stamp) {
            Ok(updated) => Ok(updated),
            // It was read from there, because RAM has no room for it.
            Err(stamp) => Ok(self.update_below(key, version, &meta, stamp).await),
        }
    }

    fn support_streaming_partial_write(&self) -> bool {
        true
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

impl MemoryStore {
    /// Somebody is given the object.
    pub(super) fn count_visit(&self, object: &Object) {
        self.count_hit();
        if object.body.visits.count() {
            self.asked_again(object);
        }
    }

    /// Removes what is kept under `key` (every variant, where it is the key without one: variants of what is gone are never
    /// found again) and hides its running fills. It is in force at once; where a disk may hold the object, it survives the process
    /// once the ticket resolves.
    pub fn remove(&self, key: &CompactCacheKey) -> Option<Ticket> {
        self.purge_everywhere(key).1
    }

    fn purge_everywhere(&self, target: &CompactCacheKey) -> (Option<u64>, Option<Ticket>) {
        let key = u128::from_be_bytes(target.combined_bin());
        // First below, so that nothing comes up behind the look at what is here …
        drop(self.remove_below(key));
        let purged = self.purge_here(key, PurgeTarget::Active(target));
        // … and again for what went down before it. In the disk's queue this is behind the first.
        (purged, self.remove_below(key))
    }

    /// Whether it took the head of this version; the stamp back where RAM has nothing of the key, or no room for another head.
    fn update_here(&self, key: u128, version: u64, meta: &Arc<CacheMeta>, stamp: Stamp) -> Result<bool, Stamp> {
        let Some(charge) = self.reserve(meta::bytes(meta) + stamp.bytes()) else { return Err(stamp) };
        let (meta, meta_charge) = (Arc::clone(meta), Arc::new(charge));
        let mut shard = self.shard(key).write();
        let Some(slot) = shard.get_mut(&key) else { return Err(stamp) };
        if let Some(object) = slot.object.as_mut().filter(|object| object.body.version == version) {
            let stamp = Arc::new(stamp.revalidated(&object.stamp));
            *object = Object { meta, meta_charge, body: Arc::clone(&object.body), stamp };
            self.resized(object);
            let object = object.clone();
            drop(shard);
            self.send_head_down(key, version, &object.meta, &object.stamp);
            return Ok(true);
        }
        let Some(fill) = slot.fills.iter().find(|fill| fill.version == version && !fill.is_hidden()) else {
            return Ok(false);
        };
        let from_disk = fill.from_disk;
        let mut head = fill.head.lock();
        let stamp = Arc::new(stamp.revalidated(&head.stamp));
        *head = Head { meta: Arc::clone(&meta), meta_charge, stamp: Arc::clone(&stamp), expired_at: None };
        drop(head);
        drop(shard);
        if from_disk {
            // It lies there already, with the head it had; every other fill goes down with its latest.
            self.send_head_down(key, version, &meta, &stamp);
        }
        Ok(true)
    }

    fn hit_of_fill(&'static self, fill: Arc<Fill>, owner: bool) -> (CacheMeta, HitHandler) {
        let (meta, stamp) = {
            let head = fill.head.lock();
            (Arc::clone(&head.meta), Arc::clone(&head.stamp))
        };
        (meta::copy_of_version(&meta, fill.version), Box::new(StoreHit::of_fill(self, fill, stamp, owner)))
    }

    /// Gives up a running fill that nobody follows: from then on no look-up finds it. `unless_half`: not where half of it is there.
    /// False: it is to go on.
    pub fn abandon(&self, key: &CompactCacheKey, version: u64, unless_half: bool) -> bool {
        let key = u128::from_be_bytes(key.combined_bin());
        let shard = self.shard(key).write();
        let fill = shard.get(&key).and_then(|slot| slot.fills.iter().find(|fill| fill.version == version));
        let much = |fill: &Fill| fill.flow.promised_bytes.is_some_and(|promised| fill.flow.written() * 2 >= promised);
        let Some(fill) = fill.filter(|fill| fill.is_alone() && !(unless_half && much(fill))) else { return false };
        fill.hidden.store(true, Ordering::Release);
        true
    }

    fn purge_now(&self, target: PurgeTarget<'_>) -> PurgeOutcome {
        let purged = match target {
            PurgeTarget::Active(key) => self.purge_everywhere(key).0,
            PurgeTarget::Exact(_) => self.purge_here(u128::from_be_bytes(target.key().combined_bin()), target),
        };
        purged.map_or(PurgeOutcome::NotFound, |version| PurgeOutcome::Purged(Some(CacheEntryId::new(version))))
    }

    /// In RAM: the latest version that was purged.
    fn purge_here(&self, key: u128, target: PurgeTarget<'_>) -> Option<u64> {
        self.forget_too_large(key);
        let mut shard = self.shard(key).write();
        let slot = shard.get_mut(&key)?;
        let mut purged = None;
        for fill in matching_fills(slot, target) {
            fill.hidden.store(true, Ordering::Release);
            purged = Some(fill.version);
        }
        let object = slot.object.take_if(|object| matches(target, object.body.version));
        if let Some(object) = &object {
            purged = Some(object.body.version);
            self.forget_version(object.body.version);
            self.leaves(object);
        }
        if slot.fills.is_empty() && slot.object.is_none() {
            shard.remove(&key);
        }
        purged
    }
}

fn hash(key: &CacheKey) -> u128 {
    u128::from_be_bytes(key.combined_bin())
}

/// The head as it is kept: what the edge said of the fill is in its stamp.
fn kept(meta: &CacheMeta) -> CacheMeta {
    let mut kept = meta::compact(meta);
    kept.extensions_mut().remove::<AskedFor>();
    kept.extensions_mut().remove::<Restored>();
    kept.extensions_mut().remove::<OwnersRest>();
    kept
}

/// A head as it is answered: stale from when it was softly purged.
fn judged(mut meta: CacheMeta, verdict: Verdict) -> CacheMeta {
    if let Verdict::Stale(at) = verdict {
        meta.expire_at(at);
    }
    meta
}

fn matches(target: PurgeTarget<'_>, version: u64) -> bool {
    match target {
        PurgeTarget::Exact(CacheEntryKey::Identified { id, .. }) => id.get() == version,
        PurgeTarget::Exact(CacheEntryKey::KeyOnly(_)) | PurgeTarget::Active(_) => true,
    }
}

fn matching_fills<'a>(slot: &'a Slot, target: PurgeTarget<'a>) -> impl Iterator<Item = &'a Arc<Fill>> {
    slot.fills.iter().filter(move |fill| !fill.is_hidden() && matches(target, fill.version))
}
