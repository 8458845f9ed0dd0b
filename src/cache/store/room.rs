//! Making room: who pays, what leaves, and what slow readers still hold of it ([`super::super::hold`]).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::budget::Charge;
use super::super::fill::{Fill, Readers};
use super::super::flow::Content;
use super::super::simulation::room_for_objects;
use super::{MemoryStore, Object};
use crate::http::slicing;

/// Room for bytes on their way to one reader; dropped, it is free again.
#[derive(Debug)]
pub struct Room {
    _charge: Charge,
}

/// How often who waits for room looks for readers that stall.
pub(super) const STALLED_PAUSE_MIN: Duration = Duration::from_millis(20);
pub(super) const STALLED_PAUSE_MAX: Duration = Duration::from_secs(1);

impl MemoryStore {
    /// Pays for `bytes` of objects, evicting what is needed; `None` when that much cannot be made free.
    pub(in crate::cache) fn reserve(&self, bytes: u64) -> Option<Charge> {
        let limit = room_for_objects(self.budget.bytes_max());
        loop {
            if let Some(charge) = self.budget.try_take(bytes, limit) {
                return Some(charge);
            }
            if self.left.let_go(self.hold_timeout, true) {
                continue;
            }
            let victim = {
                let mut policy = self.policy.lock();
                let fixed = self.budget.used().saturating_sub(policy.bytes());
                // Not even with everything evicted: leave it be.
                let victim = if fixed.saturating_add(bytes) > limit { None } else { policy.evict() };
                self.objects.set(policy.len() as i64);
                victim
            };
            let Some(victim) = victim else {
                // What somebody would be aborted for goes last.
                if self.left.let_go(self.hold_timeout, false) {
                    continue;
                }
                return None;
            };
            self.evictions.inc();
            self.evict(&victim);
        }
    }

    /// Whether so many bytes of an object fit without another one leaving, and more: what readers of a disk hold for a moment must not
    /// drive out what came up into the room that they left.
    pub(in crate::cache) fn has_room_to_spare_for(&self, bytes: u64) -> bool {
        let (bytes_max, room) = (self.budget.bytes_max(), room_for_objects(self.budget.bytes_max()));
        self.budget.used().saturating_add(bytes).saturating_add(bytes_max - room) <= room
    }

    /// Pays for a piece that is read from a disk for one client, from half of what is kept free of objects.
    pub(in crate::cache) fn take_for_reading(&self, bytes: u64) -> Option<Charge> {
        let (bytes_max, room) = (self.budget.bytes_max(), room_for_objects(self.budget.bytes_max()));
        self.budget.try_take(bytes, room + (bytes_max - room) / 2)
    }

    /// Pays for bytes on their way to one client. Evicts nothing: a slow client is no reason to lose an object.
    pub(in crate::cache) fn take_for_passing(&self, bytes: u64) -> Option<Charge> {
        self.budget.try_take(bytes, self.budget.bytes_max())
    }

    /// Room for what is on its way from the origin to one reader, past the cache: of what is kept free, else objects make it. None: there
    /// was none for so long.
    pub async fn room_to_pass(&self, bytes: u64, wait: Duration) -> Option<Room> {
        let free = || self.take_for_reading(bytes);
        let charge = || free().or_else(|| self.reserve(bytes)).or_else(|| self.take_for_passing(bytes));
        self.room_within(wait, charge).await.map(|charge| Room { _charge: charge })
    }

    /// Tries until there is room, at most for `wait`: whenever some came free or a reader has ended, and now and then, because readers
    /// stall without a word.
    pub(in crate::cache) async fn room_within<T>(
        &self,
        wait: Duration,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + wait;
        let waiting = self.budget.wait();
        loop {
            let mut notice = pin!(waiting.notice());
            notice.as_mut().enable();
            let room = attempt();
            if room.is_some() || Instant::now() >= deadline {
                return room;
            }
            let again = Instant::now() + self.hold_timeout.clamp(STALLED_PAUSE_MIN, STALLED_PAUSE_MAX);
            // Without a notice it is time to look for who stalls.
            let _ = tokio::time::timeout_at(again.min(deadline), notice).await;
        }
    }

    /// A reader has ended: what it kept in RAM can be let go.
    pub(in crate::cache) fn reader_ended(&self) {
        self.budget.room_came();
    }

    /// An object has left its slot: what is still read of it counts until it is let go.
    pub(in crate::cache) fn leaves(&self, object: &Object) {
        self.left.add(&object.body.content, Some(&object.body.readers));
        object.body.forms.contents().iter().for_each(|form| self.left.add(form, None));
    }

    /// A form has another in its place.
    pub(in crate::cache) fn left_behind(&self, form: &Arc<Content>) {
        self.left.add(form, None);
    }

    /// Of the body that this fill leaves.
    pub(in crate::cache) fn readers(&'static self, fill: &Fill) -> Readers {
        let head = fill.head.lock();
        let resumable = slicing::resumable(head.meta.headers()).is_some();
        Readers { store: self, key: fill.key, version: fill.version, stamp: Arc::clone(&head.stamp), resumable }
    }
}
