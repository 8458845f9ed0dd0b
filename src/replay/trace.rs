//! A trace in memory: objects numbered as they first appear, requests in order.
//!
//! Where it would grow past its bound it is sampled by object, as SHARDS does (Waldspurger, Park, Garthwaite, Ahmad: "Efficient
//! MRC construction with SHARDS", FAST '15): only objects whose hash lies under a threshold stay, with all their requests, and
//! the threshold is halved as often as needed. A cache of a sample is smaller by the same rate (miniature simulation,
//! Waldspurger, Saemundsson, Ahmad, Park, USENIX ATC '17).
//!
//! Invariants: what is held never costs more than [`Limits::memory_bytes`] by the estimates below, which include what the
//! simulations will need; whether an object is sampled depends on its name alone.

use std::collections::HashMap;

use super::reference::{Extent, Reference};

/// A request's place in the vectors, its next use, its place in the bound's order, and what vectors keep spare.
const REQUEST_BYTES: u64 = 32;
/// An object's name, size and number, hash table included.
const OBJECT_BYTES: u64 = 64;
/// What the greediest policy (the store's) needs for an object, once for each thread.
const POLICY_OBJECT_BYTES: u64 = 192;
/// A sample of fewer objects says nothing: rather than halve it, the rest of the trace is left out.
const SAMPLE_OBJECTS_MIN: usize = 1024;

const SIZE_UNKNOWN: u64 = u64::MAX;
const FILLS: u64 = 1 << 63;

/// What a trace may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the trace and the simulations together, about.
    pub memory_bytes: u64,
    /// Simulations that run at once.
    pub threads: usize,
    /// The share of the objects that is looked at from the start, above 0, at most 1.
    pub sample: f64,
}

/// A trace while it is read.
#[derive(Debug)]
pub struct TraceBuilder {
    limits: Limits,
    numbers: HashMap<u64, u32, ahash::RandomState>,
    keys: Vec<u64>,
    sizes: Vec<u64>,
    objects: Vec<u32>,
    served: Vec<u64>,
    /// Objects whose key is above it are not sampled.
    threshold: u64,
    left_out: u64,
}

/// A trace to be replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// The object of each request; an index into `sizes`.
    pub(super) objects: Vec<u32>,
    /// The bytes each client got, and [`FILLS`].
    served: Vec<u64>,
    /// The objects' sizes in bytes.
    pub(super) sizes: Vec<u64>,
    /// The share of the objects it holds; 1 for all.
    pub sample: f64,
    /// Parts of objects whose size no line says: left out.
    pub size_unknown: u64,
    /// Requests beyond what memory holds: left out.
    pub left_out: u64,
}

/// One request of a [`Trace`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) object: u32,
    pub(super) served_bytes: u64,
    /// A miss brings the whole object.
    pub(super) fills: bool,
}

impl TraceBuilder {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            numbers: HashMap::default(),
            keys: Vec::new(),
            sizes: Vec::new(),
            objects: Vec::new(),
            served: Vec::new(),
            threshold: if limits.sample < 1.0 { (limits.sample * u64::MAX as f64) as u64 } else { u64::MAX },
            left_out: 0,
        }
    }

    /// Requests held so far.
    pub fn requests(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn add(&mut self, reference: Reference) {
        if reference.key > self.threshold {
            return;
        }
        while self.cost_bytes(1) > self.limits.memory_bytes || self.objects.len() >= u32::MAX as usize - 1 {
            if self.keys.len() < SAMPLE_OBJECTS_MIN {
                self.left_out += 1;
                return;
            }
            self.halve();
        }
        if reference.key > self.threshold {
            return;
        }
        let number = *self.numbers.entry(reference.key).or_insert_with(|| {
            self.keys.push(reference.key);
            self.sizes.push(SIZE_UNKNOWN);
            // Far below 2³²: each object has a request, and those are bounded above.
            (self.keys.len() - 1) as u32
        });
        let bytes = reference.bytes.min(i64::MAX as u64);
        let size = &mut self.sizes[number as usize];
        if reference.extent == Extent::Whole {
            *size = if *size == SIZE_UNKNOWN { bytes } else { bytes.max(*size) };
        }
        self.objects.push(number);
        self.served.push(bytes | if reference.extent == Extent::Part { 0 } else { FILLS });
    }

    /// What it costs with `more` requests of new objects.
    fn cost_bytes(&self, more: u64) -> u64 {
        let object_bytes = OBJECT_BYTES + POLICY_OBJECT_BYTES * self.limits.threads as u64;
        (self.objects.len() as u64 + more) * REQUEST_BYTES + (self.keys.len() as u64 + more) * object_bytes
    }

    /// Forgets the objects in the upper half of the sample.
    fn halve(&mut self) {
        const GONE: u32 = u32::MAX;
        self.threshold /= 2;
        let mut renumbered = Vec::with_capacity(self.keys.len());
        let mut kept = 0_u32;
        for key in &self.keys {
            renumbered.push(if *key > self.threshold { GONE } else { kept });
            kept += u32::from(*key <= self.threshold);
        }
        let stays = |object: &u32| renumbered[*object as usize] != GONE;
        let mut at = self.objects.iter();
        self.served.retain(|_| at.next().is_some_and(stays));
        self.objects.retain(stays);
        for object in &mut self.objects {
            *object = renumbered[*object as usize];
        }
        let mut at = self.keys.iter();
        self.sizes.retain(|_| at.next().is_some_and(|key| *key <= self.threshold));
        self.keys.retain(|key| *key <= self.threshold);
        self.numbers.retain(|key, number| {
            *number = renumbered[*number as usize];
            *key <= self.threshold
        });
    }

    pub fn finish(mut self) -> Trace {
        let before = self.objects.len();
        let is_known = |object: &u32| self.sizes[*object as usize] != SIZE_UNKNOWN;
        let mut at = self.objects.iter();
        self.served.retain(|_| at.next().is_some_and(is_known));
        self.objects.retain(is_known);
        let size_unknown = (before - self.objects.len()) as u64;
        // An object without a size has no request any more, so it weighs nothing.
        self.sizes.iter_mut().filter(|size| **size == SIZE_UNKNOWN).for_each(|size| *size = 0);
        let sample = if self.threshold == u64::MAX { 1.0 } else { self.threshold as f64 / u64::MAX as f64 };
        let Self { objects, served, sizes, left_out, .. } = self;
        Trace { objects, served, sizes, sample, size_unknown, left_out }
    }
}

impl Trace {
    /// Requests replayed: those of the sample.
    pub fn requests(&self) -> usize {
        self.objects.len()
    }

    /// Distinct objects of the sample.
    pub fn distinct_objects(&self) -> usize {
        let mut is_seen = vec![false; self.sizes.len()];
        self.objects.iter().for_each(|object| is_seen[*object as usize] = true);
        is_seen.into_iter().filter(|seen| *seen).count()
    }

    /// The bytes of all objects, once each; of the whole trace, estimated where it is a sample.
    pub fn footprint_bytes(&self) -> u64 {
        self.scaled(self.sizes.iter().fold(0, |sum, size| sum.saturating_add(*size)))
    }

    /// A sum over the sample as it would be over the whole trace.
    pub(super) fn scaled(&self, sampled: u64) -> u64 {
        if self.sample < 1.0 { (sampled as f64 / self.sample).round() as u64 } else { sampled }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Request> + '_ {
        self.objects.iter().zip(&self.served).map(|(object, served)| Request {
            object: *object,
            served_bytes: served & !FILLS,
            fills: served & FILLS != 0,
        })
    }

    pub(super) fn served_bytes(&self, at: usize) -> u64 {
        self.served[at] & !FILLS
    }

    /// For each request the number of the next one of the same object; [`NEVER`] for the last.
    pub(super) fn next_uses(&self) -> Vec<u32> {
        let mut next = vec![NEVER; self.objects.len()];
        let mut soonest = vec![NEVER; self.sizes.len()];
        for (at, object) in self.objects.iter().enumerate().rev() {
            // Fits: `add` bounds the requests.
            next[at] = std::mem::replace(&mut soonest[*object as usize], at as u32);
        }
        next
    }
}

/// No request any more.
pub(super) const NEVER: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::reference::mix;

    fn limits(memory_bytes: u64) -> Limits {
        Limits { memory_bytes, threads: 1, sample: 1.0 }
    }

    fn add(builder: &mut TraceBuilder, key: u64, bytes: u64, extent: Extent) {
        builder.add(Reference { key, bytes, extent });
    }

    #[test]
    fn a_part_counts_where_any_line_says_the_size() {
        let mut builder = TraceBuilder::new(limits(1 << 20));
        add(&mut builder, 1, 3, Extent::Part);
        add(&mut builder, 2, 3, Extent::Part);
        add(&mut builder, 3, 0, Extent::Cut);
        add(&mut builder, 1, 10, Extent::Whole);
        add(&mut builder, 1, 8, Extent::Whole);
        let trace = builder.finish();
        assert_eq!((trace.requests(), trace.size_unknown, trace.distinct_objects()), (3, 2, 1));
        assert_eq!(trace.footprint_bytes(), 10);
        let fills: Vec<_> = trace.iter().map(|request| (request.served_bytes, request.fills)).collect();
        assert_eq!(fills, [(3, false), (10, true), (8, true)]);
        assert_eq!(trace.next_uses(), [1, 2, NEVER]);
    }

    #[test]
    fn too_many_objects_are_sampled_and_the_sums_still_hold() {
        let mut builder = TraceBuilder::new(limits(4 << 20));
        for round in 0..3 {
            for key in 0..100_000 {
                add(&mut builder, mix(key), 100, Extent::Whole);
            }
            assert!(builder.cost_bytes(0) <= 4 << 20, "round {round}");
        }
        let trace = builder.finish();
        assert!(trace.sample <= 0.126 && trace.sample > 0.01, "{}", trace.sample);
        assert_eq!(trace.requests(), 3 * trace.distinct_objects(), "an object stays with all its requests, or none");
        let footprint = trace.footprint_bytes() as f64 / 1e7;
        assert!((0.9..1.1).contains(&footprint), "{footprint}");
    }

    #[test]
    fn many_requests_of_few_objects_are_cut_not_sampled_to_nothing() {
        let mut builder = TraceBuilder::new(limits(1 << 20));
        for request in 0..100_000 {
            add(&mut builder, mix(request % 3), 1, Extent::Whole);
        }
        let trace = builder.finish();
        assert_eq!((trace.sample, trace.requests() as u64 + trace.left_out), (1.0, 100_000));
        assert!(trace.left_out > 0);
    }

    #[test]
    fn a_wanted_sample_is_taken_from_the_start() {
        let mut builder = TraceBuilder::new(Limits { sample: 0.1, ..limits(1 << 30) });
        for key in 0..10_000 {
            add(&mut builder, mix(key), 1, Extent::Whole);
        }
        let kept = builder.finish().requests();
        assert!((900..1100).contains(&kept), "{kept}");
    }
}
