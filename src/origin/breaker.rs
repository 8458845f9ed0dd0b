//! The circuit breaker of an origin: closed → open when too large a share of requests fails → half-open after a pause, when
//! exactly one request may try → closed again, or open for another pause. Pure: `now` in, a decision out.
//!
//! Invariant: while half-open at most one [`Permit::Trial`] is out, and each permit comes back by exactly one of
//! [`Breaker::succeeded`], [`Breaker::failed`] and [`Breaker::abandoned`].

use std::time::{Duration, Instant};

use crate::config;

/// The window is cut in so many buckets; the oldest is dropped as a whole.
const BUCKETS: u32 = 10;

/// Leave to send one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    Ordinary,
    /// The one request that tells whether a half-open breaker closes.
    Trial,
}

/// As circuit breakers are: requests pass, none do, or one may try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { trial_out: bool },
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    good: u64,
    bad: u64,
}

/// An origin's breaker, over all of its servers.
#[derive(Debug)]
pub struct Breaker {
    settings: config::Breaker,
    state: State,
    start: Instant,
    /// Number of the bucket last written, counted from `start`.
    last: u64,
    buckets: [Bucket; BUCKETS as usize],
}

impl Breaker {
    pub fn new(settings: config::Breaker, now: Instant) -> Self {
        let buckets = [Bucket::default(); BUCKETS as usize];
        Self { settings, state: State::Closed, start: now, last: 0, buckets }
    }

    /// Asks leave to send a request. Err: how long until it is worth asking again.
    pub fn admit(&mut self, now: Instant) -> Result<Permit, Duration> {
        self.would_admit(now)?;
        match self.state(now) {
            State::Closed => Ok(Permit::Ordinary),
            State::Open { .. } | State::HalfOpen { .. } => {
                self.state = State::HalfOpen { trial_out: true };
                Ok(Permit::Trial)
            }
        }
    }

    /// What [`Self::admit`] would answer, without taking the trial.
    pub fn would_admit(&self, now: Instant) -> Result<(), Duration> {
        match self.state(now) {
            State::Open { until } => Err(until.saturating_duration_since(now)),
            // Nobody knows how long the trial takes; a client may as well ask again in a second.
            State::HalfOpen { trial_out: true } => Err(Duration::from_secs(1)),
            State::Closed | State::HalfOpen { trial_out: false } => Ok(()),
        }
    }

    /// The origin answered.
    pub fn succeeded(&mut self, permit: Permit, now: Instant) {
        match permit {
            Permit::Trial => self.close(now),
            Permit::Ordinary => self.bucket(now).good += 1,
        }
    }

    /// The origin failed. True when this opened the breaker.
    pub fn failed(&mut self, permit: Permit, now: Instant) -> bool {
        if permit == Permit::Trial {
            self.state = State::Open { until: now + self.settings.open };
            return true;
        }
        self.bucket(now).bad += 1;
        // What was sent before the breaker opened says nothing about the pause after it.
        if !self.settings.enabled || self.state != State::Closed || !self.tripped() {
            return false;
        }
        self.state = State::Open { until: now + self.settings.open };
        true
    }

    /// The request ended without telling anything about the origin (the client left).
    pub fn abandoned(&mut self, permit: Permit) {
        if permit == Permit::Trial {
            self.state = State::HalfOpen { trial_out: false };
        }
    }

    /// Where it stands now. An open breaker whose pause is over is half-open.
    pub fn state(&self, now: Instant) -> State {
        match self.state {
            State::Open { until } if now >= until => State::HalfOpen { trial_out: false },
            state => state,
        }
    }

    fn tripped(&self) -> bool {
        let (good, bad) = self.buckets.iter().fold((0, 0), |(good, bad), b| (good + b.good, bad + b.bad));
        let total = good + bad;
        total >= u64::from(self.settings.requests_min.max(1))
            && bad as f64 >= self.settings.failure_ratio * total as f64
    }

    fn close(&mut self, now: Instant) {
        self.state = State::Closed;
        // The failures that opened it must not open it again at once.
        self.buckets = [Bucket::default(); BUCKETS as usize];
        self.bucket(now).good += 1;
    }

    fn bucket(&mut self, now: Instant) -> &mut Bucket {
        let width_ns = (self.settings.window / BUCKETS).as_nanos().max(1);
        let elapsed_ns = now.saturating_duration_since(self.start).as_nanos();
        let number = u64::try_from(elapsed_ns / width_ns).unwrap_or(u64::MAX).max(self.last);
        for step in 0..(number - self.last).min(u64::from(BUCKETS)) {
            self.buckets[((number - step) % u64::from(BUCKETS)) as usize] = Bucket::default();
        }
        self.last = number;
        &mut self.buckets[(number % u64::from(BUCKETS)) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings() -> config::Breaker {
        config::Breaker {
            enabled: true,
            failure_ratio: 0.5,
            requests_min: 4,
            window: Duration::from_secs(10),
            open: Duration::from_secs(5),
        }
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(settings(), now);
        (0..4).for_each(|_| {
            breaker.failed(Permit::Ordinary, now);
        });
        assert_eq!(breaker.state(now), State::Open { until: now + Duration::from_secs(5) });
        breaker
    }

    #[test]
    fn stays_closed_below_the_share_and_below_the_minimum() {
        let now = Instant::now();
        let mut breaker = Breaker::new(settings(), now);
        (0..3).for_each(|_| assert!(!breaker.failed(Permit::Ordinary, now)));
        (0..10).for_each(|_| breaker.succeeded(Permit::Ordinary, now));
        (0..6).for_each(|_| assert!(!breaker.failed(Permit::Ordinary, now)));
        assert!(breaker.failed(Permit::Ordinary, now), "10 of 20");
    }

    #[test]
    fn old_failures_leave_the_window() {
        let now = Instant::now();
        let mut breaker = Breaker::new(settings(), now);
        (0..3).for_each(|_| assert!(!breaker.failed(Permit::Ordinary, now)));
        assert!(!breaker.failed(Permit::Ordinary, now + Duration::from_secs(11)));
    }

    #[test]
    fn half_open_lets_exactly_one_try() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.admit(now + Duration::from_secs(2)), Err(Duration::from_secs(3)));
        let later = now + Duration::from_secs(5);
        assert_eq!(breaker.admit(later), Ok(Permit::Trial));
        assert!(breaker.admit(later).is_err());
        breaker.abandoned(Permit::Trial);
        assert_eq!(breaker.admit(later), Ok(Permit::Trial), "a trial that told nothing is given to the next");
        assert!(breaker.failed(Permit::Trial, later));
        assert!(breaker.admit(later + Duration::from_secs(4)).is_err());
        assert_eq!(breaker.admit(later + Duration::from_secs(5)), Ok(Permit::Trial));
        breaker.succeeded(Permit::Trial, later + Duration::from_secs(5));
        assert_eq!(breaker.admit(later + Duration::from_secs(5)), Ok(Permit::Ordinary));
    }

    #[test]
    fn late_answers_do_not_move_an_open_breaker() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.succeeded(Permit::Ordinary, now + Duration::from_secs(1));
        assert!(!breaker.failed(Permit::Ordinary, now + Duration::from_secs(1)));
        assert_eq!(breaker.state(now), State::Open { until: now + Duration::from_secs(5) });
    }

    #[test]
    fn switched_off_it_never_opens() {
        let now = Instant::now();
        let mut breaker = Breaker::new(config::Breaker { enabled: false, ..settings() }, now);
        assert!((0..100).all(|_| !breaker.failed(Permit::Ordinary, now)));
    }

    proptest! {
        #[test]
        fn never_two_trials_and_never_a_request_while_open(steps in prop::collection::vec((0_u64..3000, 0_u8..4), 1..200)) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(settings(), now);
            let mut out: Vec<Permit> = Vec::new();
            for (wait_ms, action) in steps {
                now += Duration::from_millis(wait_ms);
                let before = breaker.state(now);
                if action == 0 || out.is_empty() {
                    if let Ok(permit) = breaker.admit(now) {
                        let refuses = matches!(before, State::Open { .. } | State::HalfOpen { trial_out: true });
                        prop_assert!(!refuses, "admitted while open or on trial");
                        out.push(permit);
                    }
                } else {
                    let permit = out.swap_remove(0);
                    match action {
                        1 => breaker.succeeded(permit, now),
                        2 => { breaker.failed(permit, now); }
                        _ => breaker.abandoned(permit),
                    }
                }
                let trials = out.iter().filter(|permit| **permit == Permit::Trial).count();
                prop_assert!(trials <= 1);
                prop_assert_eq!(trials == 1, breaker.state(now) == State::HalfOpen { trial_out: true });
            }
        }
    }
}
