//! How much may be written: token buckets, so that an SSD lasts. Pure: time is given.
//!
//! A bucket is asked before a write of any size and may go into debt for it, so a large object is not starved by a small bucket;
//! what follows waits until the debt is paid. Invariant: over any time, what was let through is at most rate × time + the
//! bucket's capacity + one object.

use std::time::{Duration, Instant};

/// The day's bucket holds an hour's share: a quiet night is not spent in one evening's burst.
const DAY: Duration = Duration::from_secs(86_400);
const DAY_BURST: Duration = Duration::from_secs(3600);

#[derive(Debug)]
struct Bucket {
    bytes_per_second: f64,
    capacity: f64,
    tokens: f64,
}

impl Bucket {
    fn new(bytes_per_second: f64, burst: Duration) -> Self {
        let capacity = bytes_per_second * burst.as_secs_f64();
        Self { bytes_per_second, capacity, tokens: capacity }
    }
}

#[derive(Debug)]
pub(super) struct WriteBudget {
    buckets: Vec<Bucket>,
    filled: Instant,
}

impl WriteBudget {
    pub(super) fn new(per_second: Option<u64>, per_day: Option<u64>, now: Instant) -> Self {
        let per_second = per_second.map(|bytes| Bucket::new(bytes as f64, Duration::from_secs(1)));
        let per_day = per_day.map(|bytes| Bucket::new(bytes as f64 / DAY.as_secs_f64(), DAY_BURST));
        Self { buckets: per_second.into_iter().chain(per_day).collect(), filled: now }
    }

    fn fill(&mut self, now: Instant) {
        let elapsed_s = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        for bucket in &mut self.buckets {
            bucket.tokens = (bucket.tokens + elapsed_s * bucket.bytes_per_second).min(bucket.capacity);
        }
    }

    /// Whether something may be written now.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.buckets.iter().all(|bucket| bucket.tokens > 0.0)
    }

    /// Less than half is left: time to be choosy.
    pub(super) fn is_scarce(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.buckets.iter().any(|bucket| bucket.tokens < bucket.capacity / 2.0)
    }

    /// Counts what will be written, whether it was asked for here or not.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.buckets.iter_mut().for_each(|bucket| bucket.tokens -= bytes as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_budget_everything_may_be_written() {
        let now = Instant::now();
        let mut budget = WriteBudget::new(None, None, now);
        budget.spend(u64::MAX);
        assert!(budget.allows(now) && !budget.is_scarce(now));
    }

    #[test]
    fn over_a_minute_the_rate_holds() {
        let start = Instant::now();
        let mut budget = WriteBudget::new(Some(1000), None, start);
        let mut written = 0;
        for ms in 0..60_000 {
            if budget.allows(start + Duration::from_millis(ms)) {
                budget.spend(300);
                written += 300;
            }
        }
        assert!((59_000..=61_300).contains(&written), "{written}");
    }

    #[test]
    fn an_object_larger_than_the_bucket_is_let_through_and_paid_for_afterwards() {
        let start = Instant::now();
        let mut budget = WriteBudget::new(Some(100), None, start);
        assert!(budget.allows(start));
        budget.spend(1000);
        assert!(!budget.allows(start + Duration::from_secs(9)));
        assert!(budget.allows(start + Duration::from_secs(10)));
    }

    #[test]
    fn a_day_gives_its_share_and_an_hour_more_at_most() {
        let start = Instant::now();
        let mut budget = WriteBudget::new(None, Some(86_400_000), start);
        let mut written = 0_u64;
        for s in 0..86_400 {
            while budget.allows(start + Duration::from_secs(s)) {
                budget.spend(10_000);
                written += 10_000;
            }
        }
        assert!((86_000_000..=90_100_000).contains(&written), "{written}");
    }
}
