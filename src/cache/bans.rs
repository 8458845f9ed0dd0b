//! Purges as facts with a time: what was purged, and before which fills.
//!
//! Parts: [`Bans`], the table behind a lock and its clock; `table`, the bans in force, pure; [`AskedFor`], what the edge says of a
//! fill; `Stamp`, what the store keeps of it.
//!
//! Time is counted in bans: number 1 is the first. An object's time is the number in force when its *fill began to be asked for*
//! at the origin ([`Bans::now`]), not when it arrived, and a ban reaches every object with a smaller one. So a ban costs the same
//! however much it reaches, covers variants and what is just being filled, and needs no clock. A revalidated object (304) has two
//! times: its bytes are as old as ever for a hard ban; for a soft one it is as new as the revalidation.
//!
//! A verdict is remembered with the object until the next ban, so hits look into the table once per object and ban. Sweeping
//! (`sweep`) lets go of what was purged, and of the bans that reach nothing any more: those no newer than a whole pass over the
//! store and than every fill still running when it began ([`FillTime`] counts them).
//!
//! Invariants: once [`Bans::add`] has returned, no request that begins finds what it purged (hard), or finds it fresh (soft),
//! whoever is filling; a table at its bounds purges more, never less. Absences: it holds no object, and nothing lives longer than the
//! process. A durable log goes between a purge and [`Bans::add`]: append the [`Ban`], which is plain data, then add it, then
//! acknowledge; after a restart, add what the log holds.

mod stamp;
mod table;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use parking_lot::RwLock;
use pingora_cache::CacheKey;
use pingora_cache::key::CacheHashKey;
use tokio::sync::Notify;

use crate::observe::Metrics;
pub(super) use stamp::Stamp;
pub use table::Verdict;
use table::{Bounds, Reach, Table};

/// About 8 MiB of bans, prefixes' text included.
const BOUNDS: Bounds = Bounds { bans_max: 64 << 10, prefix_bytes_max: 2 << 20 };
/// Times of fills remembered before those of ended fills are dropped.
const TIMES_KEPT: usize = 1024;

/// One purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    pub selector: Selector,
    /// What it reaches is stale, and may be used where stale answers may; else it is gone.
    pub soft: bool,
    pub at: SystemTime,
}

/// What a purge reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    All,
    /// All variants of a content key ([`crate::http::key::content_key`]).
    Key(String),
    /// What was asked for under a URL that begins so; written as the content keys of the URLs before rewriting.
    Prefixes(Vec<String>),
    Tag(String),
}

/// The number of the latest ban when a fill began to be asked for; as long as one of a number lives, the bans after it are kept.
#[derive(Debug, Clone)]
pub struct FillTime(Arc<u64>);

/// The number of the latest ban when a request began, in the extensions of its `CacheKey`. To such a request even a purged
/// object is good that was asked for after it began: so a burst of purges does not make those who wait for a fill ask the
/// origin each for itself.
#[derive(Debug, Clone, Copy)]
pub struct Begun(u64);

/// What the edge says of a fill, in the extensions of its `CacheMeta`.
#[derive(Debug, Clone)]
pub struct AskedFor {
    /// Taken before the request went to the origin.
    pub time: FillTime,
    /// The URL as clients ask for it: a content key before rewriting.
    pub url: Arc<str>,
    /// The same object answers other URLs too (the site rewrites paths).
    pub has_aliases: bool,
}

/// The bans in force.
#[derive(Debug)]
pub struct Bans {
    /// The number of the latest ban; changes only under the lock.
    latest: AtomicU64,
    state: RwLock<State>,
    hasher: ahash::RandomState,
    added: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    table: Table,
    now: Arc<u64>,
    /// The times before `now`, oldest first; dead where no fill of that time runs.
    before: VecDeque<Weak<u64>>,
}

impl Bans {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self::with_bounds(BOUNDS, metrics)
    }

    fn with_bounds(bounds: Bounds, metrics: Arc<Metrics>) -> Self {
        let state = State { table: Table::new(bounds), now: Arc::new(0), before: VecDeque::new() };
        Self {
            latest: AtomicU64::new(0),
            state: RwLock::new(state),
            hasher: ahash::RandomState::new(),
            added: Notify::new(),
            metrics,
        }
    }

    /// The time of a fill that is asked for from now on.
    pub fn now(&self) -> FillTime {
        FillTime(Arc::clone(&self.state.read().now))
    }

    /// For a request that begins now.
    pub fn begun(&self) -> Begun {
        Begun(self.latest.load(Ordering::Acquire))
    }

    /// Puts a ban in force. When it returns, every lookup sees it.
    pub fn add(&self, ban: &Ban) {
        let mut state = self.state.write();
        let number = *state.now + 1;
        let widened = match &ban.selector {
            Selector::All => state.table.add(Reach::All, number, ban.soft, ban.at),
            Selector::Key(key) => state.table.add(Reach::Key(key_hash(key)), number, ban.soft, ban.at),
            Selector::Tag(tag) => state.table.add(Reach::Tag(self.tag_hash(tag.as_bytes())), number, ban.soft, ban.at),
            Selector::Prefixes(prefixes) => {
                let mut widened = false;
                for prefix in prefixes {
                    widened |= state.table.add(Reach::Prefix(prefix.as_bytes().into()), number, ban.soft, ban.at);
                }
                widened
            }
        };
        let past = std::mem::replace(&mut state.now, Arc::new(number));
        state.before.push_back(Arc::downgrade(&past));
        drop(past);
        if state.before.len() > TIMES_KEPT {
            state.before.retain(|time| time.strong_count() > 0);
        }
        self.latest.store(number, Ordering::Release);
        self.metrics.bans.set(state.table.len() as i64);
        drop(state);
        if widened {
            self.metrics.limits_reached.with_label_values(&["bans"]).inc();
        }
        self.added.notify_one();
    }

    /// Whether any ban is of a prefix.
    pub fn has_prefixes(&self) -> bool {
        self.state.read().table.has_prefixes()
    }

    /// What the bans say of an object or a running fill to this request.
    pub(super) fn verdict_for(&self, begun: Option<Begun>, stamp: &Stamp) -> Verdict {
        match (self.verdict(stamp), begun) {
            (Verdict::Gone | Verdict::Stale(_), Some(Begun(begun))) if stamp.is_from(begun) => Verdict::Clear,
            (verdict, _) => verdict,
        }
    }

    /// What the bans say of an object or a running fill to a request that begins now.
    pub(super) fn verdict(&self, stamp: &Stamp) -> Verdict {
        if stamp.cleared_through() >= self.latest.load(Ordering::Acquire) {
            return Verdict::Clear;
        }
        let state = self.state.read();
        let verdict = state.table.verdict(&stamp.subject());
        if verdict == Verdict::Clear {
            stamp.clear_through(*state.now);
        }
        verdict
    }

    /// What bans of prefixes say of an object that is asked for under another URL than it was filled for. Not remembered.
    pub(super) fn verdict_on_alias(&self, stamp: &Stamp, url: &str) -> Verdict {
        let state = self.state.read();
        state.table.verdict_on_url(&stamp.subject_of_alias(url.as_bytes()))
    }

    /// Resolves when a ban was added since it last did.
    pub(super) async fn added(&self) {
        self.added.notified().await;
    }

    /// The number up to which bans may be pruned once every object that is in the store now was looked at: that of the latest
    /// ban, or of the oldest fill that runs.
    pub(super) fn sweep_begins(&self) -> u64 {
        let mut state = self.state.write();
        loop {
            match state.before.front().map(Weak::upgrade) {
                None => return *state.now,
                Some(Some(oldest)) => return *oldest,
                Some(None) => drop(state.before.pop_front()),
            }
        }
    }

    /// Forgets the bans up to `through`; those of prefixes only up to `prefixes_through`. False: some are left.
    pub(super) fn prune(&self, through: u64, prefixes_through: u64) -> bool {
        let mut state = self.state.write();
        state.table.prune(through, prefixes_through);
        self.metrics.bans.set(state.table.len() as i64);
        state.table.len() == 0
    }

    fn tag_hash(&self, tag: &[u8]) -> u64 {
        self.hasher.hash_one(tag)
    }
}

/// As Pingora hashes it: the primary part of a cache key.
fn key_hash(key: &str) -> u128 {
    u128::from_be_bytes(CacheKey::new(key, "").primary_bin())
}

#[cfg(test)]
mod tests;
