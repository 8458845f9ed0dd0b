//! The RAM store: which versions of which objects are there; `room`: making some. `Storage` itself is in `storage.rs`.
//!
//! Locks: a shard of the map (reads on every hit), the eviction policy (only when something is added or leaves), a fill's
//! head. Order: shard → policy, shard → head; never the other way. A fill's bytes have a lock of their own that is never held
//! together with these.
//!
//! Invariants: a slot holds at most one whole object, the newest version that was finished; bytes of two versions never mix,
//! because a reader holds the version it began with; `cache_bytes` never exceeds `bytes_max`, running fills included.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use pingora_cache::CacheMeta;
use pingora_cache::key::{CacheHashKey, CompactCacheKey};
use prometheus::{IntCounter, IntGauge};

use super::bans::{Bans, Begun, Stamp, Verdict};
use super::budget::{Budget, Charge};
use super::coder::Coders;
use super::disk::{Disks, first_version};
use super::eviction::S3Fifo;
use super::fill::{Body, Fill};
use super::flow::Content;
use super::hold::Left;
use super::meta;
use super::recent_keys::RecentKeys;
use super::tier::Tier;
use crate::observe::Metrics;

const SHARDS: usize = 32;
/// The share of the bytes kept free of objects for bodies that turn out too large to keep: 1/16.
pub(super) const PASSING_SHARE: u64 = 16;
const TIER: &str = "memory";

/// The bounds of a [`MemoryStore`].
#[derive(Debug, Clone, Copy)]
pub struct StoreSettings {
    /// Bodies, heads and bookkeeping together, running fills included.
    pub bytes_max: u64,
    /// A larger body is passed on but not kept.
    pub object_bytes_max: u64,
    /// A reader that has come for nothing for so long does not keep what it reads in memory.
    pub hold_timeout: Duration,
}

/// The store in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreStats {
    pub bytes: u64,
    pub bytes_max: u64,
    pub objects: u64,
    pub fills_running: u64,
    pub evictions: u64,
}

/// How a fill ended; the label of `reelgate_cache_fills_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Stored.
    Complete,
    /// Whole, but purged meanwhile or overtaken by a newer version: not stored.
    Discarded,
    /// Another number of bytes than promised.
    Truncated,
    /// Dropped before it was whole: the origin failed, or the request was given up.
    Cancelled,
    /// Larger than an object may be, or than could be made free.
    TooLarge,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Discarded => "discarded",
            Self::Truncated => "truncated",
            Self::Cancelled => "cancelled",
            Self::TooLarge => "too_large",
        }
    }
}

/// A whole object.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) meta: Arc<CacheMeta>,
    pub(super) meta_charge: Arc<Charge>,
    pub(super) body: Arc<Body>,
    pub(super) stamp: Arc<Stamp>,
}

impl Object {
    pub(super) fn bytes(&self) -> u64 {
        self.body.content.bytes + self.body.forms.bytes() + self.meta_charge.bytes()
    }
}

/// All versions of one key.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) object: Option<Object>,
    /// Running fills, oldest first; hidden ones stay for their own writer.
    pub(super) fills: Vec<Arc<Fill>>,
}

pub(super) type Shard = RwLock<HashMap<u128, Slot, ahash::RandomState>>;

/// Objects in memory behind Pingora's `Storage`. One per process, leaked: `Storage` wants `&'static self`.
#[derive(Debug)]
pub struct MemoryStore {
    shards: Box<[Shard]>,
    policy: Mutex<S3Fifo<Arc<Body>>>,
    budget: Arc<Budget>,
    object_bytes_max: u64,
    hold_timeout: Duration,
    left: Left,
    next_version: AtomicU64,
    fills_running: AtomicU64,
    hits: IntCounter,
    too_large: Mutex<RecentKeys>,
    bans: Arc<Bans>,
    coders: Coders,
    tier: Option<Tier>,
    metrics: Arc<Metrics>,
    objects: IntGauge,
    evictions: IntCounter,
}

impl MemoryStore {
    /// Purges live as long as the process.
    pub fn new(settings: StoreSettings, metrics: Arc<Metrics>) -> Self {
        Self::with_bans(settings, Arc::new(Bans::new(Arc::clone(&metrics))), metrics)
    }

    /// With purges that are in force already ([`super::BanLog::bans`]).
    pub fn with_bans(settings: StoreSettings, bans: Arc<Bans>, metrics: Arc<Metrics>) -> Self {
        metrics.cache_capacity_bytes.with_label_values(&[TIER]).set(settings.bytes_max as i64);
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            policy: Mutex::new(S3Fifo::new(settings.bytes_max)),
            budget: Budget::new(settings.bytes_max, metrics.cache_bytes.with_label_values(&[TIER])),
            object_bytes_max: settings.object_bytes_max,
            hold_timeout: settings.hold_timeout,
            left: Left::default(),
            next_version: AtomicU64::new(1),
            fills_running: AtomicU64::new(0),
            hits: metrics.cache_tier_hits.with_label_values(&[TIER]),
            too_large: Mutex::default(),
            bans,
            coders: Coders::default(),
            tier: None,
            objects: metrics.cache_objects.with_label_values(&[TIER]),
            evictions: metrics.cache_evictions.with_label_values(&[TIER]),
            metrics,
        }
    }

    /// With disks below. Versions go on from those of earlier processes.
    #[must_use]
    pub fn above(mut self, disks: Arc<Disks>) -> Self {
        self.next_version = AtomicU64::new(first_version(disks.epoch()));
        let hits = self.metrics.cache_tier_hits.with_label_values(&["disk"]);
        self.tier = Some(Tier::new(disks, self.budget.bytes_max(), hits));
        self
    }

    /// Versions go on from an epoch: the keys of which there is something now, which is older by its number and not by its age.
    pub(super) fn goes_on_from(&self, epoch: u64) -> Vec<u128> {
        self.next_version.fetch_max(first_version(epoch), Ordering::AcqRel);
        self.shards.iter().flat_map(|shard| shard.read().keys().copied().collect::<Vec<_>>()).collect()
    }

    pub fn disks(&self) -> Option<&Arc<Disks>> {
        self.tier.as_ref().map(Tier::disks)
    }

    /// Gives the store the life of the process.
    pub fn leak(self) -> &'static Self {
        Box::leak(Box::new(self))
    }

    /// For a request that begins now.
    pub fn begun(&self) -> Begun {
        self.bans.begun(self.latest_version())
    }

    /// Whether something is found of `key` now that was not there when the request began, and is good for it.
    pub(super) fn has_since(&self, key: u128, begun: Begun) -> bool {
        let now = SystemTime::now();
        match self.find(key, Some(begun), now) {
            Some(Found::Object(object, Verdict::Clear)) => {
                object.body.version > begun.version && object.meta.is_fresh(now)
            }
            Some(Found::Fill(fill, Verdict::Clear)) => {
                fill.version > begun.version && fill.head.lock().meta.is_fresh(now)
            }
            _ => false,
        }
    }

    /// Purges: what is put in force here is seen by every lookup.
    pub fn bans(&self) -> &Bans {
        &self.bans
    }

    pub fn stats(&self) -> StoreStats {
        StoreStats {
            bytes: self.budget.used(),
            bytes_max: self.budget.bytes_max(),
            objects: self.policy.lock().len() as u64,
            fills_running: self.fills_running.load(Ordering::Relaxed),
            evictions: self.evictions.get(),
        }
    }

    /// Whether this key's body, of unknown length, turned out too large to keep: fetching it through the cache would make
    /// others wait in vain.
    pub fn is_too_large(&self, key: &CompactCacheKey) -> bool {
        self.was_too_large(u128::from_be_bytes(key.combined_bin()))
    }

    pub(super) fn hold_timeout(&self) -> Duration {
        self.hold_timeout
    }

    pub(super) fn object_bytes_max(&self) -> u64 {
        self.object_bytes_max
    }

    pub(super) fn tier(&self) -> Option<&Tier> {
        self.tier.as_ref()
    }

    pub(super) fn coders(&self) -> &Coders {
        &self.coders
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// For a pass over everything.
    pub(super) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    pub(super) fn shard(&self, key: u128) -> &Shard {
        &self.shards[key as usize % SHARDS]
    }

    pub(super) fn was_too_large(&self, key: u128) -> bool {
        self.too_large.lock().contains(key)
    }

    pub(super) fn remember_too_large(&self, key: u128) {
        self.too_large.lock().add(key);
    }

    pub(super) fn forget_too_large(&self, key: u128) {
        self.too_large.lock().remove(key);
    }

    /// What a lookup gets: the object while it is fresh, else the newest running fill, else the stale object; nothing that a
    /// purge has taken from this request.
    pub(super) fn find(&self, key: u128, begun: Option<Begun>, now: SystemTime) -> Option<Found> {
        let shard = self.shard(key).read();
        let slot = shard.get(&key)?;
        let object = slot.object.as_ref().map(|object| (object, self.bans.verdict_for(begun, &object.stamp)));
        let object = object.filter(|(_, verdict)| *verdict != Verdict::Gone);
        if let Some((object, Verdict::Clear)) = object
            && object.meta.is_fresh(now)
        {
            object.body.content.touch();
            return Some(Found::Object(object.clone(), Verdict::Clear));
        }
        let fills = slot.fills.iter().rev().filter(|fill| !fill.is_hidden());
        let mut fills = fills.map(|fill| (fill, self.bans.verdict_for(begun, &fill.head.lock().stamp)));
        match fills.find(|(_, verdict)| *verdict != Verdict::Gone) {
            Some((fill, verdict)) => Some(Found::Fill(Arc::clone(fill), verdict)),
            None => object.map(|(object, verdict)| {
                object.body.content.touch();
                Found::Object(object.clone(), verdict)
            }),
        }
    }

    pub(super) fn latest_version(&self) -> u64 {
        self.next_version.load(Ordering::Acquire) - 1
    }

    pub(super) fn count_hit(&self) {
        self.hits.inc();
    }

    pub(super) fn begin(&self, fill: impl FnOnce(u64) -> Arc<Fill>) -> Arc<Fill> {
        let fill = fill(self.next_version.fetch_add(1, Ordering::Relaxed));
        self.fills_running.fetch_add(1, Ordering::Relaxed);
        self.shard(fill.key).write().entry(fill.key).or_default().fills.push(Arc::clone(&fill));
        fill
    }

    /// For a fill of a version that was here before. False: it is here already, or a newer one.
    pub(super) fn begin_again(&self, fill: &Arc<Fill>) -> bool {
        let mut shard = self.shard(fill.key).write();
        let slot = shard.entry(fill.key).or_default();
        let object = slot.object.iter().map(|object| object.body.version);
        if object.chain(slot.fills.iter().map(|fill| fill.version)).any(|version| version >= fill.version) {
            return false;
        }
        slot.fills.push(Arc::clone(fill));
        self.fills_running.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// A whole body takes its place. None: its key was removed or a newer version was stored meanwhile.
    pub(super) fn commit(&self, fill: &Arc<Fill>, body: Arc<Body>) -> Option<Object> {
        let mut shard = self.shard(fill.key).write();
        let slot = shard.entry(fill.key).or_default();
        if fill.is_hidden() {
            self.left.add(&body.content, Some(&body.readers));
            body.forms.contents().iter().for_each(|form| self.left.add(form, None));
            return None;
        }
        // Older fills still running go to those who follow them, and are not stored: also not should this version be evicted
        // before they end.
        for older in slot.fills.iter().filter(|other| other.version < fill.version) {
            older.hidden.store(true, Ordering::Release);
        }
        let head = fill.head.lock();
        let object = Object {
            meta: Arc::new(meta::complete(&head.meta, body.content.bytes, head.expired_at)),
            meta_charge: Arc::clone(&head.meta_charge),
            body: Arc::clone(&body),
            stamp: Arc::clone(&head.stamp),
        };
        drop(head);
        let bytes = object.bytes();
        let replaced = slot.object.replace(object.clone());
        let mut policy = self.policy.lock();
        if let Some(replaced) = &replaced {
            policy.remove(replaced.body.version);
            self.leaves(replaced);
        }
        policy.insert(body.version, bytes, body);
        self.objects.set(policy.len() as i64);
        Some(object)
    }

    /// A fill has ended: no lookup finds it any more.
    pub(super) fn settle(&self, fill: &Arc<Fill>, outcome: Outcome) {
        self.metrics.cache_fills.with_label_values(&[outcome.label()]).inc();
        self.end_fill(fill);
    }

    pub(super) fn end_fill(&self, fill: &Arc<Fill>) {
        self.fills_running.fetch_sub(1, Ordering::Relaxed);
        let mut shard = self.shard(fill.key).write();
        if let Some(slot) = shard.get_mut(&fill.key) {
            slot.fills.retain(|other| other.version != fill.version);
            if slot.fills.is_empty() && slot.object.is_none() {
                shard.remove(&fill.key);
            }
        }
    }

    /// Counts a fill that never began.
    pub(super) fn refused(&self) {
        self.metrics.cache_fills.with_label_values(&[Outcome::TooLarge.label()]).inc();
    }

    /// The policy lets go of an object that has left its slot.
    pub(super) fn forget_version(&self, version: u64) {
        let mut policy = self.policy.lock();
        policy.remove(version);
        self.objects.set(policy.len() as i64);
    }

    /// An object's head was replaced by one of another size.
    pub(super) fn resized(&self, object: &Object) {
        self.policy.lock().resize(object.body.version, object.bytes());
    }

    /// A body has more or other coded forms than before. `form`: a new one.
    pub(super) fn forms_changed(&self, key: u128, version: u64, form: Option<&Arc<Content>>) {
        let shard = self.shard(key).write();
        let slot = shard.get(&key);
        if let Some(object) = slot.and_then(|slot| slot.object.as_ref()).filter(|object| object.body.version == version)
        {
            return self.resized(object);
        }
        // What a fill that is still to be stored was made into goes with it; else nobody finds the form any more.
        let mut fills = slot.into_iter().flat_map(|slot| &slot.fills);
        if !fills.any(|fill| fill.version == version && !fill.is_hidden())
            && let Some(form) = form
        {
            self.left.add(form, None);
        }
    }

    /// Removes the object if it is still this version.
    pub(super) fn forget_object(&self, key: u128, version: u64) {
        // Frees the bytes outside the lock.
        drop(self.take_object(key, version));
    }

    /// Takes the object out if it is still this version.
    pub(super) fn take_object(&self, key: u128, version: u64) -> Option<Object> {
        let mut shard = self.shard(key).write();
        let slot = shard.get_mut(&key)?;
        let object = slot.object.take_if(|object| object.body.version == version);
        if slot.fills.is_empty() && slot.object.is_none() {
            shard.remove(&key);
        }
        drop(shard);
        if let Some(object) = &object {
            self.leaves(object);
        }
        object
    }

    /// Whether this version is there, whole.
    pub(super) fn holds(&self, key: u128, version: u64) -> bool {
        let shard = self.shard(key).read();
        let object = shard.get(&key).and_then(|slot| slot.object.as_ref());
        object.is_some_and(|object| object.body.version == version)
    }
}

/// What a lookup found, and what purges say of it.
pub(super) enum Found {
    Object(Object, Verdict),
    Fill(Arc<Fill>, Verdict),
}

mod room;

pub use room::Room;

#[cfg(test)]
mod tests;
