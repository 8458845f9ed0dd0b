//! The keys of the latest bodies of unknown length that turned out too large to keep. Older ones are forgotten, and found out again.

use std::collections::{HashSet, VecDeque};

const KEYS_MAX: usize = 4096;

/// The latest keys added, up to [`KEYS_MAX`].
#[derive(Debug, Default)]
pub(super) struct RecentKeys {
    order: VecDeque<u128>,
    keys: HashSet<u128, ahash::RandomState>,
}

impl RecentKeys {
    pub(super) fn contains(&self, key: u128) -> bool {
        self.keys.contains(&key)
    }

    pub(super) fn remove(&mut self, key: u128) {
        self.keys.remove(&key);
    }

    pub(super) fn add(&mut self, key: u128) {
        if self.keys.insert(key) {
            self.order.push_back(key);
        }
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}
