//! An upper bound on every policy: PFOO-L of Berger, Beckmann, Harchol-Balter: "Practical bounds on optimal caching with variable
//! object sizes" (POMACS 2018).
//!
//! To hit, a cache must have held the object since its last request: so many bytes for so many requests. A cache has its
//! capacity times the length of the trace to give. Taking the cheapest such intervals until that is spent, with no regard to
//! whether they fit side by side, gives at least as many hits as any cache can have; weighed by the bytes they save, at least
//! as many bytes. So both figures are bounds, and perhaps no policy reaches either.

use crate::replay::trace::{NEVER, Trace};

/// The intervals of a trace, cheapest first.
#[derive(Debug)]
pub(in crate::replay) struct Bound<'a> {
    trace: &'a Trace,
    weights: &'a [u64],
    next_uses: &'a [u32],
    /// Requests by which an interval begins.
    order: Vec<u32>,
}

impl<'a> Bound<'a> {
    /// Of the objects that `fits` lets in.
    pub(in crate::replay) fn new(
        trace: &'a Trace,
        weights: &'a [u64],
        next_uses: &'a [u32],
        fits: impl Fn(u32) -> bool,
    ) -> Self {
        let begins = |at: &u32| next_uses[*at as usize] != NEVER && fits(trace.objects[*at as usize]);
        let order = (0..trace.requests() as u32).filter(begins).collect();
        Self { trace, weights, next_uses, order }
    }

    /// For each capacity the most hits there can be, and the most bytes served from the cache.
    pub(in crate::replay) fn most(&mut self, capacities: &[u64]) -> Vec<(u64, u64)> {
        let mut order = std::mem::take(&mut self.order);
        order.sort_unstable_by(|a, b| self.cost(*a).total_cmp(&self.cost(*b)));
        let hits: Vec<f64> = capacities.iter().map(|capacity| self.fill(&order, *capacity, |_| 1.0)).collect();
        // Bytes for nothing come last: a cost over zero is infinite.
        let price = |at: u32| self.cost(at) / self.saved_bytes(at);
        order.sort_unstable_by(|a, b| price(*a).total_cmp(&price(*b)));
        let bytes = capacities.iter().map(|capacity| self.fill(&order, *capacity, |at| self.saved_bytes(at)));
        let most = hits.into_iter().zip(bytes).map(|(hits, bytes)| (hits.ceil() as u64, bytes.ceil() as u64)).collect();
        self.order = order;
        most
    }

    /// Byte-requests that holding the object from this request to its next takes.
    fn cost(&self, at: u32) -> f64 {
        let weight = self.weights[self.trace.objects[at as usize] as usize];
        weight as f64 * f64::from(self.next_uses[at as usize] - at)
    }

    fn saved_bytes(&self, at: u32) -> f64 {
        self.trace.served_bytes(self.next_uses[at as usize] as usize) as f64
    }

    /// A fractional knapsack over intervals in order of their price.
    fn fill(&self, order: &[u32], capacity: u64, gain: impl Fn(u32) -> f64) -> f64 {
        let mut room = capacity as f64 * self.trace.requests() as f64;
        let mut sum = 0.0;
        for at in order {
            if self.weights[self.trace.objects[*at as usize] as usize] > capacity {
                continue;
            }
            let cost = self.cost(*at);
            if cost > room {
                return sum + gain(*at) * room / cost;
            }
            room -= cost;
            sum += gain(*at);
        }
        sum
    }
}
