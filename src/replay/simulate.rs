//! Every policy at every size over one trace, on as many threads as wanted.
//!
//! A hit is a request of what is held. A miss of a whole object fetches it whole and keeps it where it may be kept; a miss of a
//! part fetches that part and keeps nothing, as the edge does with ranges.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::policy::{Belady, Bound, Lru, Policy, PolicyName, S3Fifo};
use super::trace::Trace;
use crate::cache::EvictionSimulation;

/// How often progress is told, in requests.
const TOLD_REQUESTS: u64 = 1 << 16;

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Room for objects, in bytes; each at most 2⁶³ − 1.
    pub sizes: Vec<u64>,
    pub policies: Vec<PolicyName>,
    /// A larger object is passed on, not kept. None: only what is larger than the cache is.
    pub object_bytes_max: Option<u64>,
    /// What an object takes beyond its body.
    pub overhead_bytes: u64,
    /// Simulations that run at once.
    pub threads: usize,
}

/// What one policy does in one size. All figures are of the whole trace, estimated where it is a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub policy: PolicyName,
    pub size_bytes: u64,
    pub requests: u64,
    pub hits: u64,
    /// Sent to clients.
    pub requested_bytes: u64,
    /// Of these, from the cache.
    pub hit_bytes: u64,
    /// Fetched from the origin. For [`PolicyName::Bound`] the least there can be.
    pub origin_bytes: u64,
}

impl Outcome {
    /// Share of the requests, 0 to 1.
    pub fn hit_ratio(&self) -> f64 {
        ratio(self.hits, self.requests)
    }

    /// Share of the bytes sent to clients, 0 to 1.
    pub fn byte_hit_ratio(&self) -> f64 {
        ratio(self.hit_bytes, self.requested_bytes)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// They saturate: a log may claim any size.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    hits: u64,
    requested_bytes: u64,
    hit_bytes: u64,
    origin_bytes: u64,
}

struct Run<'a> {
    trace: &'a Trace,
    settings: &'a Settings,
    /// At least one for each object: what takes no place could be held without end.
    weights: Vec<u64>,
    next_uses: Vec<u32>,
    progress: &'a (dyn Fn(u64) + Sync),
}

/// Replays `trace`; outcomes by size, then policy, in the order of `settings`. `progress` is told how many more requests were
/// replayed, in all `requests × sizes × policies`.
pub fn simulate(trace: &Trace, settings: &Settings, progress: &(dyn Fn(u64) + Sync)) -> Vec<Outcome> {
    let weights = trace.sizes.iter().map(|size| size.saturating_add(settings.overhead_bytes).max(1)).collect();
    let run = Run { trace, settings, weights, next_uses: trace.next_uses(), progress };
    let pairs: Vec<(u64, PolicyName)> =
        settings.sizes.iter().flat_map(|size| settings.policies.iter().map(|policy| (*size, *policy))).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((size, policy)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
            // The bound sorts once for all sizes.
            if *policy != PolicyName::Bound {
                done.push(run.one(*policy, *size));
            } else if Some(size) == settings.sizes.first() {
                done.extend(run.bound());
            }
        }
        done
    };
    let mut outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..settings.threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut outcomes = work();
        for worker in workers {
            match worker.join() {
                Ok(more) => outcomes.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        outcomes
    });
    let place = |outcome: &Outcome| pairs.iter().position(|pair| *pair == (outcome.size_bytes, outcome.policy));
    outcomes.sort_by_key(place);
    outcomes
}

impl Run<'_> {
    fn one(&self, policy: PolicyName, size: u64) -> Outcome {
        let capacity = self.capacity(size);
        let weights = &self.weights;
        let sums = match policy {
            PolicyName::Lru => self.replay(Lru::new(weights, capacity), capacity),
            PolicyName::S3fifo => self.replay(S3Fifo::new(weights, capacity), capacity),
            PolicyName::Reelgate => self.replay(EvictionSimulation::new(capacity), capacity),
            PolicyName::Belady => self.replay(Belady::new(weights, &self.next_uses, capacity), capacity),
            PolicyName::Bound => unreachable!("the bound is not replayed"),
        };
        self.outcome(policy, size, sums)
    }

    fn replay(&self, mut policy: impl Policy, capacity: u64) -> Sums {
        let mut sums = Sums::default();
        let mut untold = 0;
        for (at, request) in self.trace.iter().enumerate() {
            let object = request.object;
            sums.requested_bytes = sums.requested_bytes.saturating_add(request.served_bytes);
            if policy.visit(at, object) {
                sums.hits += 1;
                sums.hit_bytes = sums.hit_bytes.saturating_add(request.served_bytes);
            } else if request.fills && self.is_kept(object, capacity) {
                policy.insert(at, object, self.weights[object as usize]);
                sums.origin_bytes = sums.origin_bytes.saturating_add(self.trace.sizes[object as usize]);
            } else {
                sums.origin_bytes = sums.origin_bytes.saturating_add(request.served_bytes);
            }
            untold += 1;
            if untold == TOLD_REQUESTS {
                (self.progress)(std::mem::take(&mut untold));
            }
        }
        (self.progress)(untold);
        sums
    }

    fn bound(&self) -> Vec<Outcome> {
        let requested_bytes = self.trace.iter().fold(0, |sum: u64, request| sum.saturating_add(request.served_bytes));
        let fits = |object| self.is_kept(object, u64::MAX);
        let capacities: Vec<u64> = self.settings.sizes.iter().map(|size| self.capacity(*size)).collect();
        let most = Bound::new(self.trace, &self.weights, &self.next_uses, fits).most(&capacities);
        (self.progress)((self.trace.requests() * capacities.len()) as u64);
        let outcome = |(size, (hits, hit_bytes)): (&u64, (u64, u64))| {
            let hit_bytes = hit_bytes.min(requested_bytes); // rounded up
            let sums = Sums { hits, requested_bytes, hit_bytes, origin_bytes: requested_bytes - hit_bytes };
            self.outcome(PolicyName::Bound, *size, sums)
        };
        self.settings.sizes.iter().zip(most).map(outcome).collect()
    }

    /// A sample's cache is smaller by the same rate.
    fn capacity(&self, size: u64) -> u64 {
        if self.trace.sample < 1.0 { (size as f64 * self.trace.sample) as u64 } else { size }
    }

    fn is_kept(&self, object: u32, capacity: u64) -> bool {
        let size = self.trace.sizes[object as usize];
        self.weights[object as usize] <= capacity && self.settings.object_bytes_max.is_none_or(|max| size <= max)
    }

    fn outcome(&self, policy: PolicyName, size_bytes: u64, sums: Sums) -> Outcome {
        let scaled = |sum| self.trace.scaled(sum);
        Outcome {
            policy,
            size_bytes,
            requests: scaled(self.trace.requests() as u64),
            hits: scaled(sums.hits),
            requested_bytes: scaled(sums.requested_bytes),
            hit_bytes: scaled(sums.hit_bytes),
            origin_bytes: scaled(sums.origin_bytes),
        }
    }
}
