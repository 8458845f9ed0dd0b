//! How much of what costs us more than the client it may do: many at once, few for long. Requests it breaks off or spoils (a seek
//! drops what was asked ahead): a reset costs us a look-up or an origin's connection, and the client a packet (CVE-2023-44487).
//! Frames of its control stream.

use std::time::Instant;

/// How long a spent budget takes to be whole again.
const REFILL_S: f64 = 8.0;

/// See the module. One per connection and kind.
#[derive(Debug)]
pub struct Budget {
    max: f64,
    left: f64,
    at: Instant,
}

impl Budget {
    pub fn new(max: u32, now: Instant) -> Self {
        Self { max: f64::from(max), left: f64::from(max), at: now }
    }

    /// False: it is spent.
    pub fn spend(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.max / REFILL_S).min(self.max) - 1.0;
        self.at = now;
        self.left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_is_paid_back_with_time() {
        let start = Instant::now();
        let mut budget = Budget::new(8, start);
        assert!((0..8).all(|_| budget.spend(start)));
        assert!(!budget.spend(start));
        assert!(budget.spend(start + Duration::from_secs(3)));
    }
}
