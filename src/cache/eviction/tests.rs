//! Sequences and properties of S3-FIFO.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Default)]
struct Object {
    key: u128,
    visits: Visits,
    in_use: AtomicBool,
    stalled: AtomicBool,
}

impl Object {
    fn in_use(&self) -> bool {
        self.in_use.load(Ordering::Relaxed)
    }
}

impl Resident for Arc<Object> {
    fn key(&self) -> u128 {
        self.key
    }
    fn visits(&self) -> &Visits {
        &self.visits
    }
    fn hold(&self) -> Hold {
        match (self.in_use(), self.stalled.load(Ordering::Relaxed)) {
            (false, _) => Hold::Free,
            (true, true) => Hold::Stalled,
            (true, false) => Hold::Reading,
        }
    }
}

fn object(key: u128) -> Arc<Object> {
    Arc::new(Object { key, ..Object::default() })
}

/// A cache of `bytes_max` over the policy, as the store drives it: make room first, then insert.
struct Cache {
    policy: S3Fifo<Arc<Object>>,
    bytes_max: u64,
    next_id: u64,
}

impl Cache {
    fn new(bytes_max: u64) -> Self {
        Self { policy: S3Fifo::new(bytes_max), bytes_max, next_id: 0 }
    }

    fn insert(&mut self, key: u128, bytes: u64) -> (Arc<Object>, Vec<u128>) {
        let mut evicted = Vec::new();
        while self.policy.bytes() + bytes > self.bytes_max {
            evicted.push(self.policy.evict().expect("something is free").key);
        }
        let object = object(key);
        self.policy.insert(self.next_id, bytes, Arc::clone(&object));
        self.next_id += 1;
        (object, evicted)
    }
}

#[test]
fn what_nobody_asked_for_again_leaves_in_order_of_arrival() {
    let mut cache = Cache::new(30);
    for key in 0..3 {
        cache.insert(key, 10);
    }
    assert_eq!(cache.insert(3, 10).1, [0]);
    assert_eq!(cache.insert(4, 20).1, [1, 2]);
}

#[test]
fn one_hit_wonders_do_not_flush_the_hot_set() {
    let mut cache = Cache::new(1000);
    let hot: Vec<_> = (0..50).map(|key| cache.insert(key, 10).0).collect();
    for object in &hot {
        object.visits.count();
        object.visits.count();
    }
    let mut lost = Vec::new();
    for key in 1000..3000 {
        lost.extend(cache.insert(key, 10).1);
    }
    assert!(lost.iter().all(|key| *key >= 1000), "a scan evicted hot objects: {lost:?}");
}

#[test]
fn a_ghost_returns_straight_to_main() {
    let mut cache = Cache::new(100);
    cache.insert(7, 10);
    for key in 100..110 {
        cache.insert(key, 10);
    }
    cache.insert(7, 10); // evicted above: a ghost
    let mut lost = Vec::new();
    for key in 200..230 {
        lost.extend(cache.insert(key, 10).1);
    }
    assert!(!lost.contains(&7), "a returned object was treated as a newcomer: {lost:?}");
}

#[test]
fn what_a_reader_would_be_aborted_for_leaves_last() {
    let mut cache = Cache::new(30);
    let (stalled, _) = cache.insert(0, 10);
    let (reading, _) = cache.insert(1, 10);
    let (free, _) = cache.insert(2, 10);
    stalled.in_use.store(true, Ordering::Relaxed);
    stalled.stalled.store(true, Ordering::Relaxed);
    reading.in_use.store(true, Ordering::Relaxed);
    free.visits.count();
    assert_eq!(cache.policy.evict().map(|o| o.key), Some(2));
    assert_eq!(cache.policy.evict().map(|o| o.key), Some(0));
    assert!(cache.policy.evict().is_none(), "one that is read at a good pace stays");
}

#[test]
fn an_object_in_use_stays_and_does_not_make_eviction_loop() {
    let mut cache = Cache::new(30);
    let (first, _) = cache.insert(0, 10);
    let (second, _) = cache.insert(1, 10);
    first.in_use.store(true, Ordering::Relaxed);
    assert_eq!(cache.policy.evict().map(|o| o.key), Some(1));
    drop(second);
    assert!(cache.policy.evict().is_none(), "only an object in use is left");
    first.in_use.store(false, Ordering::Relaxed);
    assert_eq!(cache.policy.evict().map(|o| o.key), Some(0));
    assert!(cache.policy.evict().is_none());
}

#[test]
fn removed_entries_leave_no_growing_trace() {
    let mut policy = S3Fifo::new(1000);
    for id in 0..10_000 {
        policy.insert(id, 1, object(1));
        policy.remove(id);
    }
    assert_eq!((policy.bytes(), policy.len()), (0, 0));
    assert!(policy.small.len() + policy.main.len() <= 2 * GHOSTS_MIN);
}

#[derive(Debug, Clone)]
enum Step {
    Insert { key: u128, bytes: u64 },
    Visit(usize),
    Use(usize, bool),
    Remove(usize),
    Resize(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..40_u128, 1..60_u64).prop_map(|(key, bytes)| Step::Insert { key, bytes }),
        4 => any::<usize>().prop_map(Step::Visit),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(at, on)| Step::Use(at, on)),
        1 => any::<usize>().prop_map(Step::Remove),
        1 => (any::<usize>(), 1..60_u64).prop_map(|(at, bytes)| Step::Resize(at, bytes)),
    ]
}

proptest! {
    /// The bound holds, the sums are the sums of what is there, and every entry is either there or was handed out.
    #[test]
    fn nothing_is_lost_from_the_accounting(steps in prop::collection::vec(step(), 1..300)) {
        const BYTES_MAX: u64 = 300;
        let mut policy: S3Fifo<Arc<Object>> = S3Fifo::new(BYTES_MAX);
        let mut model: Vec<(u64, u64, Arc<Object>)> = Vec::new();
        for (id, step) in steps.into_iter().enumerate() {
            let id = id as u64;
            match step {
                Step::Insert { key, bytes } => {
                    let mut room = true;
                    while room && policy.bytes() + bytes > BYTES_MAX {
                        match policy.evict() {
                            Some(gone) => {
                                prop_assert!(!gone.in_use());
                                let before = model.len();
                                model.retain(|(_, _, object)| !Arc::ptr_eq(object, &gone));
                                prop_assert_eq!(model.len(), before - 1);
                            }
                            None => {
                                prop_assert!(model.iter().all(|(_, _, object)| object.in_use()));
                                room = false;
                            }
                        }
                    }
                    if room {
                        let object = object(key);
                        policy.insert(id, bytes, Arc::clone(&object));
                        model.push((id, bytes, object));
                    }
                }
                Step::Visit(at) if !model.is_empty() => {
                    model[at % model.len()].2.visits.count();
                }
                Step::Use(at, on) if !model.is_empty() => {
                    model[at % model.len()].2.in_use.store(on, Ordering::Relaxed);
                }
                Step::Remove(at) if !model.is_empty() => {
                    let (id, _, object) = model.swap_remove(at % model.len());
                    prop_assert!(policy.remove(id).is_some_and(|gone| Arc::ptr_eq(&gone, &object)));
                    prop_assert!(policy.remove(id).is_none());
                }
                Step::Resize(at, bytes) if !model.is_empty() => {
                    let at = at % model.len();
                    // The store resizes only after it has made room, so the model does not grow past the bound either.
                    if policy.bytes() - model[at].1 + bytes <= BYTES_MAX {
                        model[at].1 = bytes;
                        policy.resize(model[at].0, bytes);
                    }
                }
                _ => {}
            }
            prop_assert!(policy.bytes() <= BYTES_MAX);
            prop_assert_eq!(policy.bytes(), model.iter().map(|(_, bytes, _)| bytes).sum::<u64>());
            prop_assert_eq!(policy.len(), model.len());
            let small: u64 = policy.entries.values().filter(|e| e.queue == Queue::Small).map(|e| e.bytes).sum();
            prop_assert_eq!(policy.small_bytes, small);
        }
    }
}
