//! What is asked for most: objects and tags. Kept apart from the metrics, because names from requests are no labels.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi: "Efficient computation of frequent and top-k elements in data streams", ICDT '05):
//! a fixed number of counters; what has none takes the smallest one's place and its count, which is then the most its own may be
//! too high by. So what is asked for more often than any counter could hide is always among them. Spread over shards by key, each
//! locked for a look-up and an addition where the key is known.
//!
//! Invariants: bounded memory; a name is redacted and cut before it is kept; counts are since the start.

use crate::http::redact::redact_target;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashMap;

const SHARDS: usize = 8;
/// Counters in each shard.
const COUNTERS: usize = 64;
const NAME_CHARACTERS_MAX: usize = 300;
/// Shown of each kind.
const SHOWN: usize = 20;

/// The counters of a process.
#[derive(Debug, Default)]
pub struct Top {
    objects: [Mutex<SpaceSaving>; SHARDS],
    tags: [Mutex<SpaceSaving>; SHARDS],
}

/// The most asked for, first the most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopStats {
    /// By URL, without the scheme.
    pub objects: Vec<Counted>,
    pub tags: Vec<Counted>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counted {
    pub name: String,
    pub requests: u64,
    /// `requests` may be too high by so many.
    pub requests_excess_max: u64,
    /// Sent to clients since it is counted.
    pub bytes: u64,
}

impl Top {
    /// A request for the object with this key; `name` is made only where it is new.
    pub fn count_object(&self, key: u128, bytes: u64, name: impl FnOnce() -> String) {
        count(&self.objects, key, bytes, name);
    }

    /// A request for an object with this tag.
    pub fn count_tag(&self, tag: &[u8], bytes: u64) {
        // Fixed seeds: one tag, one key.
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        count(&self.tags, u128::from(hasher.hash_one(tag)), bytes, || String::from_utf8_lossy(tag).into_owned());
    }

    pub fn stats(&self) -> TopStats {
        TopStats { objects: most(&self.objects), tags: most(&self.tags) }
    }
}

fn count(shards: &[Mutex<SpaceSaving>; SHARDS], key: u128, bytes: u64, name: impl FnOnce() -> String) {
    shards[key as usize % SHARDS].lock().count(key, bytes, || {
        let name = name();
        let name = redact_target(&name);
        // In bytes there are as many at least.
        let cut = (name.len() > NAME_CHARACTERS_MAX).then(|| name.char_indices().nth(NAME_CHARACTERS_MAX)).flatten();
        match cut {
            Some((end, _)) => name[..end].to_owned(),
            None => name.into_owned(),
        }
    });
}

fn most(shards: &[Mutex<SpaceSaving>; SHARDS]) -> Vec<Counted> {
    let mut all: Vec<Counted> = shards.iter().flat_map(|shard| shard.lock().counters.clone()).collect();
    all.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.name.cmp(&b.name)));
    all.truncate(SHOWN);
    all
}

#[derive(Debug, Default)]
struct SpaceSaving {
    places: HashMap<u128, usize, ahash::RandomState>,
    keys: Vec<u128>,
    counters: Vec<Counted>,
    /// No counter is below this. Counts only grow, so it does too.
    least: u64,
    /// The counters before this one are above it.
    seen: usize,
}

impl SpaceSaving {
    fn count(&mut self, key: u128, bytes: u64, name: impl FnOnce() -> String) {
        if let Some(counter) = self.places.get(&key).and_then(|place| self.counters.get_mut(*place)) {
            counter.requests += 1;
            counter.bytes += bytes;
            return;
        }
        let new = |excess| Counted { name: name(), requests: excess + 1, requests_excess_max: excess, bytes };
        if self.counters.len() < COUNTERS {
            self.places.insert(key, self.counters.len());
            self.keys.push(key);
            self.counters.push(new(0));
            return;
        }
        let (place, excess) = self.smallest();
        self.places.remove(&std::mem::replace(&mut self.keys[place], key));
        self.places.insert(key, place);
        self.counters[place] = new(excess);
    }

    /// The place of a counter with the smallest count, and that. Goes on where it stopped: a look at each counter finds all of one
    /// count.
    fn smallest(&mut self) -> (usize, u64) {
        if let Some(found) = (self.seen..self.counters.len()).find(|place| self.counters[*place].requests == self.least)
        {
            self.seen = found;
            return (found, self.least);
        }
        self.least = self.counters.iter().map(|counter| counter.requests).min().unwrap_or_default();
        self.seen = self.counters.iter().position(|counter| counter.requests == self.least).unwrap_or_default();
        (self.seen, self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_hold_no_token_and_are_cut() {
        let top = Top::default();
        top.count_object(1, 10, || "h/a?api_key=secret".to_owned());
        top.count_object(2, 10, || "x".repeat(10_000));
        top.count_object(1, 5, || unreachable!("it is known"));
        let stats = top.stats();
        assert_eq!((stats.objects[0].requests, stats.objects[0].bytes), (2, 15));
        assert!(!stats.objects[0].name.contains("secret"), "{stats:?}");
        assert_eq!(stats.objects[1].name.len(), NAME_CHARACTERS_MAX);
    }

    #[test]
    fn what_is_asked_for_often_stays_among_many_asked_for_once() {
        let top = Top::default();
        for n in 0..200_000_u128 {
            let (key, name) = if n % 50 == 0 { (7, "hot".to_owned()) } else { (1000 + n, n.to_string()) };
            top.count_object(key, 1, || name);
            top.count_tag(if n % 3 == 0 { b"series" } else { b"films" }, 1);
        }
        let stats = top.stats();
        assert_eq!((stats.objects[0].name.as_str(), stats.objects.len()), ("hot", SHOWN));
        assert!(stats.objects[0].requests - stats.objects[0].requests_excess_max <= 4000);
        let tags: Vec<_> = stats.tags.iter().map(|tag| (tag.name.as_str(), tag.requests)).collect();
        assert_eq!(tags, [("films", 133_333), ("series", 66_667)]);
    }

    proptest! {
        /// The paper's guarantees: no count is too low, none is too high by more than it says, and the smallest is at most the mean.
        #[test]
        fn counts_are_bounded_on_both_sides(asked in prop::collection::vec(0..200_u128, 1..2000)) {
            let mut counters = SpaceSaving::default();
            let mut exact = HashMap::<u128, u64>::new();
            for key in &asked {
                counters.count(*key, 1, || key.to_string());
                *exact.entry(*key).or_default() += 1;
            }
            for counter in &counters.counters {
                let true_count = exact[&counter.name.parse().expect("a number")];
                prop_assert!(counter.requests >= true_count && counter.requests - counter.requests_excess_max <= true_count);
            }
            let sum: u64 = counters.counters.iter().map(|counter| counter.requests).sum();
            prop_assert_eq!(sum, asked.len() as u64);
            prop_assert!(counters.counters.len() <= COUNTERS);
        }
    }
}
