//! The bytes of the store: one counter with a hard bound, and charges that give their bytes back when dropped.
//!
//! A [`Charge`] travels with what it pays for: it lies inside the `Bytes` of every chunk, so a chunk that an evicted object
//! leaves behind in a slow client's socket is still counted, and nothing can be counted twice or forgotten.
//!
//! Invariants: `used ≤ bytes_max` at every moment; `used` is the sum of all living charges. Not counted: the copies of a chunk
//! still being filled, at most 64 KiB (512 KiB of a body too large to keep), on their way to a follower's socket. Knows no
//! objects and no HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicU64,
    bytes_max: u64,
    gauge: IntGauge,
    /// Who waits for room; told one by one, because one that got some tells the next.
    waiting: AtomicUsize,
    room: Notify,
}

/// One that waits for room.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Budget);

impl Waiting<'_> {
    /// Resolves when there may be room that was not there when this was called.
    pub(super) fn notice(&self) -> Notified<'_> {
        self.0.room.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        // What was left to one that gave up, or is left by one that got some, may do for the next.
        self.0.room_came();
    }
}

impl Budget {
    pub(super) fn new(bytes_max: u64, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), bytes_max, gauge, waiting: AtomicUsize::new(0), room: Notify::new() })
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Takes `bytes` if the sum stays at or below `limit` (and always at or below the bound).
    pub(super) fn try_take(self: &Arc<Self>, bytes: u64, limit: u64) -> Option<Charge> {
        let limit = limit.min(self.bytes_max);
        self.used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= limit)
            })
            .ok()?;
        self.gauge.add(bytes as i64);
        Some(Charge { bytes, budget: Arc::clone(self) })
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        self.gauge.sub(bytes as i64);
        self.room_came();
    }

    /// From before it is tried whether there is room: what comes free from then on is told.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// There is room, or something that can be let go.
    pub(super) fn room_came(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.room.notify_one();
        }
    }
}

/// Bytes taken from a [`Budget`]; given back on drop.
#[derive(Debug)]
pub(super) struct Charge {
    bytes: u64,
    budget: Arc<Budget>,
}

impl Charge {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Moves `bytes` of this charge (at most all) into a new one.
    pub(super) fn split(&mut self, bytes: u64) -> Charge {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Charge { bytes, budget: Arc::clone(&self.budget) }
    }

    /// What this charge pays for is free to be used by who waits for room.
    pub(super) fn may_do_for_another(&self) {
        self.budget.room_came();
    }

    pub(super) fn merge(&mut self, mut other: Charge) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// `data`, whose memory this charge pays for until its last slice is dropped.
    pub(super) fn pay_for<D: AsRef<[u8]> + Send + 'static>(self, data: D) -> Bytes {
        Bytes::from_owner(Paid { data, _charge: self })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.bytes);
        }
    }
}

struct Paid<D> {
    data: D,
    _charge: Charge,
}

impl<D: AsRef<[u8]>> AsRef<[u8]> for Paid<D> {
    fn as_ref(&self) -> &[u8] {
        self.data.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(bytes_max: u64) -> Arc<Budget> {
        Budget::new(bytes_max, IntGauge::new("g", "g").expect("valid name"))
    }

    #[test]
    fn a_charge_beyond_the_limit_is_refused_and_takes_nothing() {
        let budget = budget(100);
        let held = budget.try_take(90, 100).expect("fits");
        assert!(budget.try_take(11, 1000).is_none());
        assert!(budget.try_take(1, 90).is_none());
        assert_eq!(budget.used(), 90);
        drop(held);
        assert_eq!((budget.used(), budget.gauge.get()), (0, 0));
    }

    #[test]
    fn split_and_merged_charges_give_back_exactly_what_was_taken() {
        let budget = budget(100);
        let mut charge = budget.try_take(60, 100).expect("fits");
        let part = charge.split(20);
        assert_eq!((charge.bytes(), part.bytes(), budget.used()), (40, 20, 60));
        charge.merge(part);
        assert_eq!((charge.bytes(), budget.used()), (60, 60));
        let too_much = charge.split(100);
        assert_eq!((charge.bytes(), too_much.bytes()), (0, 60));
        drop(charge);
        drop(too_much);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn bytes_are_paid_for_until_their_last_slice_is_gone() {
        let budget = budget(100);
        let bytes = budget.try_take(5, 100).expect("fits").pay_for(b"hello".to_vec());
        let slice = bytes.slice(1..3);
        drop(bytes);
        assert_eq!((budget.used(), &slice[..]), (5, &b"el"[..]));
        drop(slice);
        assert_eq!(budget.used(), 0);
    }
}
