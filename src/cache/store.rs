//! The RAM store: which versions of which objects are there, and making room. `Storage` itself is in `storage.rs`.
//!
//! Locks: a shard of the map (reads on every hit), the eviction policy (only when something is added or leaves), a fill's
//! head. Order: shard → policy, shard → head; never the other way. A fill's bytes have a lock of their own that is never held
//! together with these.
//!
//! Invariants: a slot holds at most one whole object, the newest version that was finished; bytes of two versions never mix,
//! because a reader holds the version it began with; `cache_bytes` never exceeds `bytes_max`, running fills included.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};
use pingora_cache::CacheMeta;
use pingora_cache::key::{CacheHashKey, CompactCacheKey};
use prometheus::{IntCounter, IntGauge};

use super::bans::{Bans, Begun, Stamp, Verdict};
use super::budget::{Budget, Charge};
use super::coder::Coders;
use super::eviction::S3Fifo;
use super::fill::{Body, Fill};
use super::meta;
use crate::observe::Metrics;

const SHARDS: usize = 32;
/// The share of the bytes kept free of objects for bodies that turn out too large to keep: 1/16.
const PASSING_SHARE: u64 = 16;
/// How many keys of bodies of unknown length that turned out too large are remembered.
const TOO_LARGE_KEYS_MAX: usize = 4096;
const TIER: &str = "memory";

/// The bounds of a [`MemoryStore`].
#[derive(Debug, Clone, Copy)]
pub struct StoreSettings {
    /// Bodies, heads and bookkeeping together, running fills included.
    pub bytes_max: u64,
    /// A larger body is passed on but not kept.
    pub object_bytes_max: u64,
}

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
    /// Still being filled; `body_bytes` is what is there now.
    pub filling: bool,
    /// What purges say of it. A version that is gone is told only where there is no other.
    pub verdict: Verdict,
    /// The stored response's header fields.
    pub headers: http::HeaderMap,
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
    fn bytes(&self) -> u64 {
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
    next_version: AtomicU64,
    fills_running: AtomicU64,
    too_large: Mutex<RecentKeys>,
    bans: Bans,
    coders: Coders,
    metrics: Arc<Metrics>,
    objects: IntGauge,
    evictions: IntCounter,
}

impl MemoryStore {
    pub fn new(settings: StoreSettings, metrics: Arc<Metrics>) -> Self {
        metrics.cache_capacity_bytes.with_label_values(&[TIER]).set(settings.bytes_max as i64);
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            policy: Mutex::new(S3Fifo::new(settings.bytes_max)),
            budget: Budget::new(settings.bytes_max, metrics.cache_bytes.with_label_values(&[TIER])),
            object_bytes_max: settings.object_bytes_max,
            next_version: AtomicU64::new(1),
            fills_running: AtomicU64::new(0),
            too_large: Mutex::default(),
            bans: Bans::new(Arc::clone(&metrics)),
            coders: Coders::default(),
            objects: metrics.cache_objects.with_label_values(&[TIER]),
            evictions: metrics.cache_evictions.with_label_values(&[TIER]),
            metrics,
        }
    }

    /// Gives the store the life of the process.
    pub fn leak(self) -> &'static Self {
        Box::leak(Box::new(self))
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

    /// How much is held of a key: complete, or filling and this far. Cheaper than [`Self::contains`].
    pub fn held(&self, key: &CompactCacheKey) -> Option<Held> {
        match self.find(u128::from_be_bytes(key.combined_bin()), None, SystemTime::now())? {
            Found::Object(..) => Some(Held::Whole),
            Found::Fill(fill, _) => Some(Held::Filling { body_bytes: fill.flow.written() }),
        }
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

    /// Whether this key's body, of unknown length, turned out too large to keep: fetching it through the cache would make
    /// others wait in vain.
    pub fn is_too_large(&self, key: &CompactCacheKey) -> bool {
        self.was_too_large(u128::from_be_bytes(key.combined_bin()))
    }

    pub(super) fn object_bytes_max(&self) -> u64 {
        self.object_bytes_max
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
        self.too_large.lock().keys.contains(&key)
    }

    pub(super) fn remember_too_large(&self, key: u128) {
        self.too_large.lock().add(key);
    }

    pub(super) fn forget_too_large(&self, key: u128) {
        self.too_large.lock().keys.remove(&key);
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
            return Some(Found::Object(object.clone(), Verdict::Clear));
        }
        let fills = slot.fills.iter().rev().filter(|fill| !fill.is_hidden());
        let mut fills = fills.map(|fill| (fill, self.bans.verdict_for(begun, &fill.head.lock().stamp)));
        match fills.find(|(_, verdict)| *verdict != Verdict::Gone) {
            Some((fill, verdict)) => Some(Found::Fill(Arc::clone(fill), verdict)),
            None => object.map(|(object, verdict)| Found::Object(object.clone(), verdict)),
        }
    }

    /// The object that a hard purge hides until it is swept.
    fn find_gone(&self, key: u128) -> Option<Found> {
        let shard = self.shard(key).read();
        let object = shard.get(&key)?.object.clone()?;
        Some(Found::Object(object, Verdict::Gone))
    }

    /// Pays for `bytes` of objects, evicting what is needed; `None` when that much cannot be made free.
    pub(super) fn reserve(&self, bytes: u64) -> Option<Charge> {
        let limit = self.budget.bytes_max() - self.budget.bytes_max() / PASSING_SHARE;
        loop {
            if let Some(charge) = self.budget.try_take(bytes, limit) {
                return Some(charge);
            }
            let victim = {
                let mut policy = self.policy.lock();
                let fixed = self.budget.used().saturating_sub(policy.bytes());
                if fixed.saturating_add(bytes) > limit {
                    return None; // not even with everything evicted: leave it be
                }
                let victim = policy.evict()?;
                self.objects.set(policy.len() as i64);
                victim
            };
            self.evictions.inc();
            self.forget_object(victim.key, victim.version);
        }
    }

    /// Pays for bytes on their way to one client. Evicts nothing: a slow client is no reason to lose an object.
    pub(super) fn take_for_passing(&self, bytes: u64) -> Option<Charge> {
        self.budget.try_take(bytes, self.budget.bytes_max())
    }

    pub(super) fn begin(&self, fill: impl FnOnce(u64) -> Arc<Fill>) -> Arc<Fill> {
        let fill = fill(self.next_version.fetch_add(1, Ordering::Relaxed));
        self.fills_running.fetch_add(1, Ordering::Relaxed);
        self.shard(fill.key).write().entry(fill.key).or_default().fills.push(Arc::clone(&fill));
        fill
    }

    /// A whole body takes its place, unless its key was removed or a newer version was stored meanwhile.
    pub(super) fn commit(&self, fill: &Arc<Fill>, body: Arc<Body>) -> Outcome {
        let mut shard = self.shard(fill.key).write();
        let slot = shard.entry(fill.key).or_default();
        if fill.is_hidden() {
            return Outcome::Discarded;
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
        let replaced = slot.object.replace(object);
        let mut policy = self.policy.lock();
        if let Some(replaced) = &replaced {
            policy.remove(replaced.body.version);
        }
        policy.insert(body.version, bytes, body);
        self.objects.set(policy.len() as i64);
        Outcome::Complete
    }

    /// A fill has ended: no lookup finds it any more.
    pub(super) fn settle(&self, fill: &Arc<Fill>, outcome: Outcome) {
        self.metrics.cache_fills.with_label_values(&[outcome.label()]).inc();
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

    /// A body has more or other coded forms than before.
    pub(super) fn forms_changed(&self, key: u128, version: u64) {
        let shard = self.shard(key).write();
        let object = shard.get(&key).and_then(|slot| slot.object.as_ref());
        if let Some(object) = object.filter(|object| object.body.version == version) {
            self.resized(object);
        }
    }

    /// Removes the object if it is still this version.
    pub(super) fn forget_object(&self, key: u128, version: u64) {
        let mut shard = self.shard(key).write();
        let Some(slot) = shard.get_mut(&key) else { return };
        let object = slot.object.take_if(|object| object.body.version == version);
        if slot.fills.is_empty() && slot.object.is_none() {
            shard.remove(&key);
        }
        drop(shard);
        drop(object); // frees the bytes outside the lock
    }
}

/// What a lookup found, and what purges say of it.
pub(super) enum Found {
    Object(Object, Verdict),
    Fill(Arc<Fill>, Verdict),
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
        verdict,
        headers: meta.headers().clone(),
    }
}

/// The latest keys added, up to [`TOO_LARGE_KEYS_MAX`].
#[derive(Debug, Default)]
struct RecentKeys {
    order: VecDeque<u128>,
    keys: HashSet<u128, ahash::RandomState>,
}

impl RecentKeys {
    fn add(&mut self, key: u128) {
        if self.keys.insert(key) {
            self.order.push_back(key);
        }
        if self.order.len() > TOO_LARGE_KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
