//! The retry budget: retries are a share of requests, so that an origin in trouble is not asked twice as much as before.
//! Pure: `now` in, a decision out.

use std::time::Instant;

/// Length of the window in seconds, one bucket each.
const WINDOW_S: usize = 10;

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    requests: u64,
    retries: u64,
}

/// Requests and retries over the last ten seconds. A retry is granted while retries are below `ratio` of the requests in the
/// window, or below `per_second_min` in the current second. Seconds are counted from the budget's start, so any one second
/// of the clock may see up to twice the minimum.
#[derive(Debug)]
pub struct Budget {
    ratio: f64,
    per_second_min: u64,
    start: Instant,
    /// The second `buckets` was last moved to.
    second: u64,
    buckets: [Bucket; WINDOW_S],
}

impl Budget {
    pub fn new(ratio: f64, per_second_min: u32, now: Instant) -> Self {
        let buckets = [Bucket::default(); WINDOW_S];
        Self { ratio, per_second_min: u64::from(per_second_min), start: now, second: 0, buckets }
    }

    /// A request of a client begins (not a retry).
    pub fn request_begun(&mut self, now: Instant) {
        self.bucket(now).requests += 1;
    }

    /// Whether a retry may be sent now; a granted one is counted.
    pub fn may_retry(&mut self, now: Instant) -> bool {
        let this_second = self.bucket(now).retries;
        let (requests, retries) =
            self.buckets.iter().fold((0, 0), |(requests, retries), b| (requests + b.requests, retries + b.retries));
        // The granted retry itself counts: retries never exceed the share, not even by one.
        let granted = this_second < self.per_second_min || (retries + 1) as f64 <= self.ratio * requests as f64;
        if granted {
            self.bucket(now).retries += 1;
        }
        granted
    }

    fn bucket(&mut self, now: Instant) -> &mut Bucket {
        let second = now.saturating_duration_since(self.start).as_secs().max(self.second);
        let stale = (second - self.second).min(WINDOW_S as u64);
        for step in 0..stale {
            self.buckets[((second - step) % WINDOW_S as u64) as usize] = Bucket::default();
        }
        self.second = second;
        &mut self.buckets[(second % WINDOW_S as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_share_of_the_requests_and_no_more() {
        let now = Instant::now();
        let mut budget = Budget::new(0.2, 0, now);
        (0..50).for_each(|_| budget.request_begun(now));
        assert_eq!((0..50).filter(|_| budget.may_retry(now)).count(), 10);
        assert!(!budget.may_retry(now + Duration::from_secs(5)));
    }

    #[test]
    fn a_quiet_origin_still_gets_the_minimum_each_second() {
        let start = Instant::now();
        let mut budget = Budget::new(0.0, 3, start);
        for second in 0..30 {
            let now = start + Duration::from_secs(second);
            assert_eq!((0..10).filter(|_| budget.may_retry(now)).count(), 3);
        }
    }

    #[test]
    fn old_requests_are_forgotten() {
        let start = Instant::now();
        let mut budget = Budget::new(1.0, 0, start);
        budget.request_begun(start);
        assert!(!budget.may_retry(start + Duration::from_secs(WINDOW_S as u64)));
    }

    #[test]
    fn a_clock_that_goes_back_breaks_nothing() {
        let start = Instant::now();
        let mut budget = Budget::new(1.0, 0, start);
        budget.request_begun(start + Duration::from_secs(8));
        assert!(budget.may_retry(start));
    }

    proptest! {
        #[test]
        fn never_exceeded_over_any_window(
            ratio in 0.0_f64..1.0,
            minimum in 0_u32..5,
            steps in prop::collection::vec((0_u64..2500, any::<bool>()), 1..300),
        ) {
            let start = Instant::now();
            let mut budget = Budget::new(ratio, minimum, start);
            let mut now = start;
            let (mut requests, mut retries): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
            for (wait_ms, is_request) in steps {
                now += Duration::from_millis(wait_ms);
                let second = now.duration_since(start).as_secs();
                if is_request {
                    budget.request_begun(now);
                    requests.push(second);
                } else if budget.may_retry(now) {
                    retries.push(second);
                    let in_window = |seconds: &[u64]| seconds.iter().filter(|s| **s + 10 > second).count() as f64;
                    let this_second = retries.iter().filter(|s| **s == second).count();
                    prop_assert!(this_second <= minimum as usize || in_window(&retries) <= ratio * in_window(&requests));
                }
            }
        }
    }
}
