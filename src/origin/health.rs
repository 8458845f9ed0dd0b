//! The health of one address: what active checks found, and what real requests met. Pure: `now` in, a standing out.
//!
//! An address is used while both agree. Active checks need several results in a row to change their mind, both ways. Real
//! requests eject it for a while after several failures in a row; each ejection in a row doubles the pause, up to
//! 32 times, so that an address that never works (IPv6 without a route) costs ever fewer requests.

use std::time::{Duration, Instant};

/// The pause doubles at most so many times.
const DOUBLINGS_MAX: u32 = 5;

/// Why an address is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// Active checks failed.
    Checks,
    /// Real requests failed.
    Ejected { until: Instant },
}

/// Whether an address may be asked: by active checks, and by what became of requests.
#[derive(Debug, Default)]
pub struct Health {
    checks: Checks,
    failures_in_a_row: u32,
    ejections_in_a_row: u32,
    ejected_until: Option<Instant>,
}

/// The state of the active checks. An address begins well: a check that has not run yet says nothing.
#[derive(Debug, Default)]
struct Checks {
    down: bool,
    /// Results in a row that contradict `down`.
    against: u32,
}

impl Health {
    /// None: it is used.
    pub fn down(&self, now: Instant) -> Option<Down> {
        if self.checks.down {
            return Some(Down::Checks);
        }
        self.ejected_until.filter(|until| now < *until).map(|until| Down::Ejected { until })
    }

    /// A real request succeeded.
    pub fn succeeded(&mut self) {
        self.failures_in_a_row = 0;
        self.ejections_in_a_row = 0;
    }

    /// A real request failed; `failures_max` in a row make it due for ejection (0: never). True when due.
    pub fn failed(&mut self, failures_max: u32, now: Instant) -> bool {
        // Requests that were under way when it was ejected must not lengthen the pause.
        if self.ejected_until.is_some_and(|until| now < until) {
            return false;
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        failures_max > 0 && self.failures_in_a_row >= failures_max
    }

    /// Takes it out for `pause`, doubled for each ejection before without a success between.
    pub fn eject(&mut self, pause: Duration, now: Instant) {
        let doublings = self.ejections_in_a_row.min(DOUBLINGS_MAX);
        self.ejected_until = Some(now + pause.saturating_mul(1 << doublings));
        self.ejections_in_a_row = self.ejections_in_a_row.saturating_add(1);
        self.failures_in_a_row = 0;
    }

    /// An active check ended. True when it changed the standing.
    pub fn checked(&mut self, passed: bool, healthy_threshold: u32, unhealthy_threshold: u32) -> bool {
        if passed != self.checks.down {
            self.checks.against = 0;
            return false;
        }
        self.checks.against += 1;
        let threshold = if passed { healthy_threshold } else { unhealthy_threshold };
        if self.checks.against < threshold {
            return false;
        }
        self.checks = Checks { down: !passed, against: 0 };
        if passed {
            // It was seen to work: what requests met before is history.
            self.ejected_until = None;
            self.succeeded();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAUSE: Duration = Duration::from_secs(10);

    #[test]
    fn failures_in_a_row_eject_and_time_brings_back() {
        let now = Instant::now();
        let mut health = Health::default();
        assert!(!health.failed(3, now) && !health.failed(3, now));
        health.succeeded();
        assert!(!health.failed(3, now) && !health.failed(3, now), "a success between starts over");
        assert!(health.failed(3, now));
        health.eject(PAUSE, now);
        assert_eq!(health.down(now), Some(Down::Ejected { until: now + PAUSE }));
        assert!(!health.failed(1, now), "late failures do not count");
        assert_eq!(health.down(now + PAUSE), None);
    }

    #[test]
    fn each_ejection_in_a_row_doubles_the_pause_up_to_a_bound() {
        let mut now = Instant::now();
        let mut health = Health::default();
        for expected in [10, 20, 40, 80, 160, 320, 320] {
            health.eject(PAUSE, now);
            assert_eq!(health.down(now), Some(Down::Ejected { until: now + Duration::from_secs(expected) }));
            now += Duration::from_secs(expected);
        }
        health.succeeded();
        health.eject(PAUSE, now);
        assert_eq!(health.down(now), Some(Down::Ejected { until: now + PAUSE }));
    }

    #[test]
    fn checks_need_their_thresholds_both_ways() {
        let now = Instant::now();
        let mut health = Health::default();
        assert!(!health.checked(false, 2, 3) && !health.checked(false, 2, 3));
        assert!(!health.checked(true, 2, 3), "a pass between starts over");
        assert!(!health.checked(false, 2, 3) && !health.checked(false, 2, 3));
        assert!(health.checked(false, 2, 3));
        assert_eq!(health.down(now), Some(Down::Checks));
        assert!(!health.checked(true, 2, 3));
        assert!(health.checked(true, 2, 3));
        assert_eq!(health.down(now), None);
    }

    #[test]
    fn zero_failures_means_never() {
        assert!((0..1000).all(|_| !Health::default().failed(0, Instant::now())));
    }

    proptest! {
        #[test]
        fn it_is_down_exactly_while_checks_or_an_ejection_say_so(
            steps in prop::collection::vec((0_u64..8, 0_u8..4), 1..100),
        ) {
            let mut now = Instant::now();
            let mut health = Health::default();
            let mut streak = 0_i32; // passes > 0, failures < 0
            let mut checks_down = false;
            let mut until: Option<Instant> = None;
            for (wait_s, action) in steps {
                now += Duration::from_secs(wait_s);
                match action {
                    0 => health.succeeded(),
                    1 => if health.failed(2, now) {
                        health.eject(PAUSE, now);
                        let Some(Down::Ejected { until: ends }) = health.down(now).filter(|_| !checks_down) else {
                            until = health.ejected_until;
                            continue;
                        };
                        prop_assert!(ends >= now + PAUSE);
                        until = Some(ends);
                    },
                    check => {
                        let passed = check == 2;
                        streak = if passed { streak.max(0) + 1 } else { streak.min(0) - 1 };
                        health.checked(passed, 2, 2);
                        if streak >= 2 && checks_down { checks_down = false; until = None; }
                        if streak <= -2 { checks_down = true; }
                    }
                }
                let expected = checks_down || until.is_some_and(|until| now < until);
                prop_assert_eq!(health.down(now).is_some(), expected);
            }
        }
    }
}
