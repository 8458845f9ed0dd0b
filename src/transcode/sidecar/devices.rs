//! What encodes: how much it takes at once, and whether it is worth asking. Pure.
//!
//! - *Slots* are learned: a device that says that it is full has one less than were running, and gets one back now and then.
//! - A *breaker* opens when runs for several titles fail in a row for the device's or the machine's sake: requests are refused at
//!   once, until after a pause one run is let through to try. What fails for a film's sake is not told here.
//!
//! Invariants: never no slot at all; one title opens nothing; a breaker that is open lets one run through after each pause.

use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Titles that failed one after another, before the device is to blame.
const TITLES_MAX: usize = 4;
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// After this long without being full, a device is tried with one more.
const RELIEF: Duration = Duration::from_secs(300);

/// One device; software is one too.
#[derive(Debug)]
pub struct Device {
    pub name: &'static str,
    slots_max: usize,
    slots: usize,
    /// When it was full the last time, or got a slot back.
    full: Option<Instant>,
    failed: HashSet<String>,
    breaker: Breaker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaker {
    Closed,
    Open {
        until: Instant,
        pause: Duration,
    },
    /// One run is on its way to see.
    Trying {
        pause: Duration,
    },
}

impl Device {
    pub fn new(name: &'static str, slots: usize) -> Self {
        Self { name, slots_max: slots, slots, full: None, failed: HashSet::new(), breaker: Breaker::Closed }
    }

    /// How many may run at once.
    pub fn slots(&mut self, now: Instant) -> usize {
        if let Some(full) = self.full.filter(|full| now.duration_since(*full) >= RELIEF) {
            self.slots = (self.slots + 1).min(self.slots_max);
            self.full = (self.slots < self.slots_max).then_some(full.max(now));
        }
        self.slots
    }

    /// Whether it may be asked for more. Where it was open long enough, who asks is let through to try.
    pub fn admits(&mut self, now: Instant) -> bool {
        match self.breaker {
            Breaker::Closed => true,
            Breaker::Open { until, pause } if now >= until => {
                self.breaker = Breaker::Trying { pause };
                true
            }
            Breaker::Open { .. } | Breaker::Trying { .. } => false,
        }
    }

    pub fn succeeded(&mut self) {
        self.failed.clear();
        self.breaker = Breaker::Closed;
    }

    /// It said that it is full, with so many running.
    pub fn was_full(&mut self, running: usize, now: Instant) {
        self.slots = running.saturating_sub(1).clamp(1, self.slots);
        self.full = Some(now);
    }

    /// A run failed for good, and not for its film's sake; true where that opened the breaker.
    pub fn failed(&mut self, title: &str, now: Instant) -> bool {
        if self.failed.len() < TITLES_MAX {
            self.failed.insert(title.to_owned());
        }
        let pause = match self.breaker {
            Breaker::Closed if self.failed.len() < TITLES_MAX => return false,
            Breaker::Closed => PAUSE_MIN,
            Breaker::Trying { pause } => (pause * 2).min(PAUSE_MAX),
            Breaker::Open { .. } => return false,
        };
        self.breaker = Breaker::Open { until: now + pause, pause };
        true
    }

    /// A run that was let through to try cannot tell: it was given up, or failed for its film's sake.
    pub fn gave_up(&mut self, now: Instant) {
        if let Breaker::Trying { pause } = self.breaker {
            self.breaker = Breaker::Open { until: now + pause, pause };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_gets_its_slots_back_one_by_one() {
        let mut device = Device::new("gpu", 8);
        let now = Instant::now();
        device.was_full(4, now);
        assert_eq!(device.slots(now), 3);
        device.was_full(1, now);
        assert_eq!(device.slots(now), 1, "never none");
        assert_eq!(device.slots(now + RELIEF), 2);
        assert_eq!(device.slots(now + RELIEF), 2, "and then a pause");
        let mut later = now + RELIEF;
        for _ in 0..10 {
            later += RELIEF;
            device.slots(later);
        }
        assert_eq!(device.slots(later), 8, "not more than it was given");
    }

    #[test]
    fn one_broken_film_opens_nothing_and_several_do_until_one_run_succeeds() {
        let mut device = Device::new("cpu", 2);
        let now = Instant::now();
        for _ in 0..100 {
            assert!(!device.failed("broken", now));
        }
        assert!(device.admits(now));
        assert!(!device.failed("b", now) && !device.failed("c", now));
        device.succeeded();
        assert!(!device.failed("b", now) && !device.failed("c", now) && !device.failed("d", now), "in a row");
        assert!(device.failed("e", now) && !device.admits(now));
        let later = now + PAUSE_MIN;
        assert!(device.admits(later) && !device.admits(later), "one goes to see");
        assert!(device.failed("f", later) && !device.admits(later + PAUSE_MIN), "and longer");
        let later = later + 2 * PAUSE_MIN;
        assert!(device.admits(later));
        device.gave_up(later);
        assert!(!device.admits(later), "nobody knows");
        let later = later + 2 * PAUSE_MIN;
        assert!(device.admits(later));
        device.succeeded();
        assert!(device.admits(later) && device.admits(later));
    }
}
