//! Purges as facts with a time: what was purged, and before which fills.
//!
//! Parts: [`Bans`], the table behind a lock and its clock; `table`, the bans in force, pure; [`AskedFor`], what the edge says of a
//! fill; [`Stamp`], what the store keeps of it, in memory and as bytes; [`BanLog`], which makes bans outlive the process; `identity`,
//! whose numbers and hashes these are.
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
//! whoever is filling; a table at its bounds purges more, never less. Absences: it holds no object. Where there is a disk, the log
//! comes first: append, sync, add, acknowledge; after a restart the bans are as the log has them, with their numbers, and no number
//! is ever given twice.

mod bytes;
mod identity;
mod log;
mod stamp;
mod table;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::http::redact;
use crate::observe::Metrics;
pub(super) use bytes::Reader;
use identity::Identity;
pub use log::{BanLog, NotLogged};
pub use stamp::{Restored, Stamp, StampError};
pub use table::Verdict;
use table::{Bounds, PREFIX_BYTES_MAX, Reach, Record, Subject, Table};

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
    /// What was asked for under a URL that begins so, up to the beginning's first secret (`http::redact`); written as the content
    /// keys of the URLs before rewriting.
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
pub struct Begun {
    ban: u64,
    /// The latest version of anything in the store then.
    pub(super) version: u64,
}

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
    identity: Identity,
    /// The largest number that was known before this process, whose own begin at `first`.
    known: u64,
    first: u64,
    added: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    table: Table,
    now: Arc<u64>,
    /// The times before `now`, oldest first; dead where no fill of that time runs.
    before: VecDeque<Weak<u64>>,
    /// The times of objects that are being brought back from the disk.
    held: Vec<Weak<u64>>,
    /// See [`Bans::disk_holds_from`].
    disk_from: Option<u64>,
}

/// One pass over the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    /// Bans up to this number are judged for everything that the pass finds.
    pub(super) judged_through: u64,
    /// Up to this number they may be forgotten afterwards.
    pub(super) prune_through: u64,
    /// It is the disk's objects for which more must be kept.
    for_disk: bool,
}

impl Bans {
    /// Bans that live as long as the process.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self::with_bounds(BOUNDS, metrics)
    }

    fn with_bounds(bounds: Bounds, metrics: Arc<Metrics>) -> Self {
        let state = State {
            table: Table::new(bounds),
            now: Arc::new(0),
            before: VecDeque::new(),
            held: Vec::new(),
            disk_from: None,
        };
        Self {
            latest: AtomicU64::new(0),
            state: RwLock::new(state),
            identity: Identity::random(),
            known: 0,
            first: 0,
            added: Notify::new(),
            metrics,
        }
    }

    /// Bans that a log holds. Numbers up to `known` are the log's, those of this process come after `first`. Nothing is
    /// forgotten until the disk says what it holds.
    fn restored(identity: Identity, known: u64, first: u64, records: Vec<Record>, metrics: Arc<Metrics>) -> Self {
        let mut bans = Self { identity, known, first, ..Self::new(metrics) };
        bans.latest = AtomicU64::new(first);
        let state = bans.state.get_mut();
        state.now = Arc::new(first);
        state.disk_from = Some(0);
        for record in records {
            state.table.add(record.reach, record.number, record.soft, record.at);
        }
        bans.metrics.bans.set(state.table.len() as i64);
        bans
    }

    /// The time of a fill that is asked for from now on.
    pub fn now(&self) -> FillTime {
        FillTime(Arc::clone(&self.state.read().now))
    }

    /// For a request that begins now.
    pub(super) fn begun(&self, version: u64) -> Begun {
        Begun { ban: self.latest.load(Ordering::Acquire), version }
    }

    /// Puts a ban in force. When it returns, every lookup sees it. Nothing of it outlives the process: where there is a log, it is
    /// the log that adds ([`BanLog::add`]).
    pub fn add(&self, ban: &Ban) {
        self.put(&mut self.state.write(), ban);
        self.added.notify_one();
    }

    /// Adds bans that the log holds, under the numbers that follow.
    fn add_all(&self, bans: &[Ban]) {
        let mut state = self.state.write();
        bans.iter().for_each(|ban| self.put(&mut state, ban));
        drop(state);
        self.added.notify_one();
    }

    /// The number of the latest ban.
    fn number(&self) -> u64 {
        self.latest.load(Ordering::Acquire)
    }

    fn put(&self, state: &mut State, ban: &Ban) {
        let number = *state.now + 1;
        let mut widened = false;
        for Record { number, soft, at, reach } in self.records_of(number, ban) {
            widened |= state.table.add(reach, number, soft, at);
        }
        let past = std::mem::replace(&mut state.now, Arc::new(number));
        state.before.push_back(Arc::downgrade(&past));
        drop(past);
        if state.before.len() > TIMES_KEPT {
            state.before.retain(|time| time.strong_count() > 0);
        }
        self.latest.store(number, Ordering::Release);
        self.metrics.bans.set(state.table.len() as i64);
        if widened {
            self.metrics.limits_reached.with_label_values(&["bans"]).inc();
        }
    }

    /// A ban as the table and the log have it.
    fn records_of(&self, number: u64, ban: &Ban) -> Vec<Record> {
        let reaches = match &ban.selector {
            Selector::All => vec![Reach::All],
            Selector::Key(key) => vec![Reach::Key(key_hash(key))],
            Selector::Tag(tag) => vec![Reach::Tag(self.identity.tag_hash(tag.as_bytes()))],
            Selector::Prefixes(prefixes) => {
                // No secret is written to the log either; without it the ban reaches more.
                let beginning = |prefix: &String| {
                    let clear = redact::clear_beginning(prefix).as_bytes();
                    clear[..clear.len().min(PREFIX_BYTES_MAX)].into()
                };
                prefixes.iter().map(|prefix| Reach::Prefix(beginning(prefix))).collect()
            }
        };
        reaches.into_iter().map(|reach| Record { number, soft: ban.soft, at: ban.at, reach }).collect()
    }

    /// Whether these bans, or those of a process before with the same log, have come to this number.
    fn has_counted(&self, number: u64) -> bool {
        number <= self.known || (self.first..=self.number()).contains(&number)
    }

    /// The latest number, and what is in force.
    fn records(&self) -> (u64, Vec<Record>) {
        let state = self.state.read();
        (*state.now, state.table.records())
    }

    /// Whether any ban is of a prefix.
    pub fn has_prefixes(&self) -> bool {
        self.state.read().table.has_prefixes()
    }

    /// What the bans say of an object or a running fill to this request.
    pub(super) fn verdict_for(&self, begun: Option<Begun>, stamp: &Stamp) -> Verdict {
        match (self.verdict(stamp), begun) {
            (Verdict::Gone | Verdict::Stale(_), Some(begun)) if stamp.is_from(begun.ban) => Verdict::Clear,
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

    /// Whether a hard ban of this key, or of everything, is younger than this number ([`Stamp::oldest`]): then it is gone, whatever its
    /// URL and its tags are.
    pub(super) fn takes_all_of(&self, key: u128, number: u64) -> bool {
        if number >= self.latest.load(Ordering::Acquire) {
            return false;
        }
        let of_key = Subject {
            key,
            url: &[],
            url_is_cut: false,
            tags: &[],
            more_tags: false,
            hard_from: number,
            soft_from: number,
        };
        self.state.read().table.verdict(&of_key) == Verdict::Gone
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

    /// What the disk still holds: nothing that was asked for before the ban of this number ([`Stamp::oldest`] of all that lies
    /// or will lie there), so that earlier bans need not be kept for it. None: it holds nothing at all. Bans come back from a
    /// log with all of them kept, until this is called. What was purged and removed counts as held until its removal would
    /// survive a crash.
    pub fn disk_holds_from(&self, number: Option<u64>) {
        let mut state = self.state.write();
        let fewer = state.disk_from.is_some_and(|before| number.is_none_or(|number| number > before));
        state.disk_from = number;
        let sweep = fewer && state.table.len() > 0;
        drop(state);
        if sweep {
            self.added.notify_one();
        }
    }

    /// Brings an object back from the disk into memory: as long as this lives, the bans that may reach it are kept. Called while
    /// the disk still holds it.
    pub fn hold(&self, stamp: Arc<Stamp>) -> Restored {
        let time = Arc::new(stamp.oldest());
        let mut state = self.state.write();
        if state.held.len() >= TIMES_KEPT {
            state.held.retain(|time| time.strong_count() > 0);
        }
        state.held.push(Arc::downgrade(&time));
        drop(state);
        Restored { stamp, time: FillTime(time) }
    }

    /// A pass over every object that is in the store now begins. Bans may be pruned up to that of the oldest fill that runs and
    /// of the oldest object on the disk, which may come into the store meanwhile.
    pub(super) fn sweep_begins(&self) -> Pass {
        let mut state = self.state.write();
        let judged_through = loop {
            match state.before.front().map(Weak::upgrade) {
                None => break *state.now,
                Some(Some(oldest)) => break *oldest,
                Some(None) => drop(state.before.pop_front()),
            }
        };
        state.held.retain(|time| time.strong_count() > 0);
        let held = state.held.iter().filter_map(Weak::upgrade).map(|time| *time).min();
        let in_memory = held.unwrap_or(u64::MAX).min(judged_through);
        let prune_through = state.disk_from.unwrap_or(u64::MAX).min(in_memory);
        Pass { judged_through, prune_through, for_disk: prune_through < in_memory }
    }

    /// Forgets the bans that the pass has made superfluous; those of prefixes only up to `prefixes_through`. False: some are left,
    /// and another pass may free them; bans that are kept for the disk wait for its word.
    pub(super) fn prune(&self, pass: Pass, prefixes_through: u64) -> bool {
        let mut state = self.state.write();
        state.table.prune(pass.prune_through, prefixes_through);
        self.metrics.bans.set(state.table.len() as i64);
        state.table.len() == 0 || pass.for_disk
    }
}

fn key_hash(content_key: &str) -> u128 {
    u128::from_be_bytes(super::key::hash(content_key.as_bytes()))
}

#[cfg(test)]
mod tests;
