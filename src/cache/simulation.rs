//! The store's eviction without the store: keys and sizes, no bodies. For `reelgate replay`, which asks what another size
//! would have done.
//!
//! It drives [`S3Fifo`] as `MemoryStore` does (room is made first, then the newcomer enters; a hit is a visit), so what it
//! says of the policy is true of the code that serves. It has no fills, readers, lifetimes or purges.

use std::collections::HashMap;
use std::sync::Arc;

use super::eviction::{Hold, Resident, S3Fifo, Visits};
use super::store::PASSING_SHARE;

#[derive(Debug)]
struct Simulated {
    key: u64,
    visits: Visits,
}

impl Resident for Arc<Simulated> {
    fn key(&self) -> u128 {
        self.key.into()
    }

    fn visits(&self) -> &Visits {
        &self.visits
    }

    fn hold(&self) -> Hold {
        Hold::Free
    }
}

/// Which objects the RAM store would hold, of those it was shown.
#[derive(Debug)]
pub struct EvictionSimulation {
    policy: S3Fifo<Arc<Simulated>>,
    resident: HashMap<u64, Arc<Simulated>, ahash::RandomState>,
    bytes_max: u64,
    next_id: u64,
}

impl EvictionSimulation {
    /// For `bytes_max` bytes of objects; the `cache.memory` that has that room is larger, see [`room_for_objects`].
    pub fn new(bytes_max: u64) -> Self {
        let memory_bytes = bytes_max.saturating_add(bytes_max / (PASSING_SHARE - 1));
        Self { policy: S3Fifo::new(memory_bytes), resident: HashMap::default(), bytes_max, next_id: 0 }
    }

    /// Whether an object is held; it counts as a hit where it is.
    pub fn visit(&mut self, key: u64) -> bool {
        let held = self.resident.get(&key);
        held.map(|object| object.visits.count()).is_some()
    }

    /// Stores an object that is not held; `bytes` (at least one) is all it takes. One that could never fit is left out.
    pub fn insert(&mut self, key: u64, bytes: u64) {
        let bytes = bytes.max(1);
        if bytes > self.bytes_max || self.resident.contains_key(&key) {
            return;
        }
        while self.policy.bytes() + bytes > self.bytes_max {
            let Some(gone) = self.policy.evict() else { return };
            self.resident.remove(&gone.key);
        }
        let object = Arc::new(Simulated { key, visits: Visits::default() });
        self.policy.insert(self.next_id, bytes, Arc::clone(&object));
        self.next_id += 1;
        self.resident.insert(key, object);
    }

    /// The bytes held.
    pub fn bytes(&self) -> u64 {
        self.policy.bytes()
    }
}

/// How much of `cache.memory` objects (bodies, heads and bookkeeping) may take; the rest is for bodies on their way.
pub fn room_for_objects(memory_bytes: u64) -> u64 {
    memory_bytes - memory_bytes / PASSING_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_evicts_as_the_policy_does_and_stays_within_its_bound() {
        let mut cache = EvictionSimulation::new(30);
        for key in 0..3 {
            assert!(!cache.visit(key));
            cache.insert(key, 10);
        }
        assert!(cache.visit(0) && cache.visit(0), "asked for twice while it waited: to the main queue");
        cache.insert(3, 10);
        assert_eq!((cache.visit(0), cache.visit(1), cache.bytes()), (true, false, 30));
    }

    #[test]
    fn what_cannot_fit_evicts_nothing() {
        let mut cache = EvictionSimulation::new(30);
        cache.insert(1, 30);
        cache.insert(2, 31);
        assert_eq!((cache.visit(1), cache.visit(2)), (true, false));
    }

    #[test]
    fn an_empty_object_still_takes_a_place() {
        let mut cache = EvictionSimulation::new(2);
        for key in 0..3 {
            cache.insert(key, 0);
        }
        assert_eq!(cache.bytes(), 2);
    }
}
