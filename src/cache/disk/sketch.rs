//! How often a key was asked for lately, in little memory: a count-min sketch that halves with time (Einziger, Friedman, Manes:
//! "TinyLFU: A Highly Efficient Cache Admission Policy", ACM Transactions on Storage 13(4), 2017).
//!
//! Four counters of a byte for each key, shared with others: an estimate is never too low before a halving, seldom too high.
//! Without locks: a count lost to a race does no harm.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

const ROWS: usize = 4;
/// Enough to tell once from often.
const COUNT_MAX: u8 = 15;
const WIDTH_MIN: usize = 1 << 14;
const WIDTH_MAX: usize = 1 << 22;

#[derive(Debug)]
pub(super) struct Sketch {
    counters: Box<[AtomicU8]>,
    width: usize,
    added: AtomicU64,
}

impl Sketch {
    /// For about as many keys as are kept.
    pub(super) fn new(keys: u64) -> Self {
        let width = usize::try_from(keys).unwrap_or(WIDTH_MAX).clamp(WIDTH_MIN, WIDTH_MAX).next_power_of_two();
        Self { counters: (0..ROWS * width).map(|_| AtomicU8::new(0)).collect(), width, added: AtomicU64::new(0) }
    }

    fn counters_of(&self, key: u128) -> impl Iterator<Item = &AtomicU8> {
        // Keys are hashes: each row takes 32 bits of its own, mixed so that a weak key does not fill one column.
        let mixed = move |row: usize| ((key >> (32 * row)) as u32).wrapping_mul(0x9E37_79B1).rotate_right(15) as usize;
        (0..ROWS).map(move |row| &self.counters[row * self.width + mixed(row) % self.width])
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.counters.len() as u64
    }

    pub(super) fn add(&self, key: u128) {
        let estimate = self.estimate(key);
        for counter in self.counters_of(key) {
            let count = counter.load(Ordering::Relaxed);
            // Only the smallest counters grow (conservative update): the others are another key's.
            if count == estimate && count < COUNT_MAX {
                counter.store(count + 1, Ordering::Relaxed);
            }
        }
        if self.added.fetch_add(1, Ordering::Relaxed) % (8 * self.width as u64) == 8 * self.width as u64 - 1 {
            self.counters
                .iter()
                .for_each(|counter| counter.store(counter.load(Ordering::Relaxed) / 2, Ordering::Relaxed));
        }
    }

    /// How often, up to 15.
    pub(super) fn estimate(&self, key: u128) -> u8 {
        self.counters_of(key).map(|counter| counter.load(Ordering::Relaxed)).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> u128 {
        u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
    }

    #[test]
    fn once_and_often_are_told_apart_among_many() {
        let sketch = Sketch::new(0);
        (0..10_000).for_each(|n| sketch.add(key(n)));
        (0..500).for_each(|n| sketch.add(key(n)));
        assert!((0..500).all(|n| sketch.estimate(key(n)) >= 2), "never too low");
        let wrong = (500..10_000).filter(|n| sketch.estimate(key(*n)) >= 2).count();
        assert!(wrong < 300, "seldom too high: {wrong}");
    }

    #[test]
    fn what_was_asked_for_long_ago_is_forgotten() {
        let sketch = Sketch::new(0);
        (0..3).for_each(|_| sketch.add(7));
        (0..9 * WIDTH_MIN as u64 * 2).for_each(|n| sketch.add(key(n % 100 + 1)));
        assert!(sketch.estimate(7) <= 1);
    }
}
