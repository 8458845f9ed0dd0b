//! Bélády's MIN over the known future: what is asked for last, or never again, leaves first; a newcomer that would be the last
//! of all is not let in. With objects of one size nothing does better (Mattson et al. 1970; a cache that may refuse has the same
//! optimum reached by the same rule). With sizes it is a heuristic: a large object that is wanted soon may cost more hits
//! than it brings, so the best possible policy may do better than this line. The line that none can pass is [`super::Bound`].

use std::collections::BTreeSet;

use super::Policy;
use crate::replay::trace::NEVER;

#[derive(Debug)]
pub(in crate::replay) struct Belady<'a> {
    weights: &'a [u64],
    next_uses: &'a [u32],
    capacity: u64,
    bytes: u64,
    /// By next use.
    held: BTreeSet<(u32, u32)>,
    is_held: Vec<bool>,
}

impl<'a> Belady<'a> {
    pub(in crate::replay) fn new(weights: &'a [u64], next_uses: &'a [u32], capacity: u64) -> Self {
        let is_held = vec![false; weights.len()];
        Self { weights, next_uses, capacity, bytes: 0, held: BTreeSet::new(), is_held }
    }

    fn drop_object(&mut self, object: u32) {
        self.is_held[object as usize] = false;
        self.bytes -= self.weights[object as usize];
    }
}

impl Policy for Belady<'_> {
    fn visit(&mut self, at: usize, object: u32) -> bool {
        if !self.is_held[object as usize] {
            return false;
        }
        // What is held is held for this request: it is the next use under which it was entered.
        self.held.remove(&(at as u32, object));
        match self.next_uses[at] {
            NEVER => self.drop_object(object),
            next => _ = self.held.insert((next, object)),
        }
        true
    }

    fn insert(&mut self, at: usize, object: u32, weight: u64) {
        let next = self.next_uses[at];
        if next == NEVER {
            return;
        }
        let mut free = self.capacity - self.bytes;
        let mut victims = 0;
        // Only what is wanted later than the newcomer may go for it, and only if that is enough.
        for (_, victim) in self.held.iter().rev().take_while(|(use_after, _)| *use_after > next) {
            if free >= weight {
                break;
            }
            free += self.weights[*victim as usize];
            victims += 1;
        }
        if free < weight {
            return;
        }
        for _ in 0..victims {
            if let Some((_, victim)) = self.held.pop_last() {
                self.drop_object(victim);
            }
        }
        self.held.insert((next, object));
        self.is_held[object as usize] = true;
        self.bytes += weight;
    }
}
