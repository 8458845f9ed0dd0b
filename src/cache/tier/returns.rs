//! Which objects of a disk are asked for again so soon that RAM would have had them.
//!
//! Where RAM is full, an object that comes up drives others out. It does so only if it was asked for before, and since then fewer bytes
//! were read from below than half of RAM holds: so what is wanted often comes up at its second hit, and a scan, or a library far larger
//! than RAM, passes by. Without locks: a note lost to a race, or to another key in the same place, makes an object come up later.

use std::sync::atomic::{AtomicU64, Ordering};

/// One place for so many bytes of RAM, within bounds: 8 bytes each.
const BYTES_PER_PLACE: u64 = 4 << 10;
const PLACES_MIN: u64 = 1 << 10;
const PLACES_MAX: u64 = 1 << 16;
/// The clock counts so many bytes as one.
const TICK_BYTES: u64 = 256;
const TICK_BITS: u32 = 40;

#[derive(Debug)]
pub(super) struct Returns {
    /// 24 bits of a key, and when it was asked for.
    places: Box<[AtomicU64]>,
    /// Bytes that hits below have read.
    read_bytes: AtomicU64,
    distance_bytes_max: u64,
}

impl Returns {
    /// For a RAM of so many bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        let places = (bytes_max / BYTES_PER_PLACE).clamp(PLACES_MIN, PLACES_MAX).next_power_of_two();
        Self {
            places: (0..places).map(|_| AtomicU64::new(0)).collect(),
            read_bytes: AtomicU64::new(TICK_BYTES),
            distance_bytes_max: bytes_max / 2,
        }
    }

    /// The object was asked for: whether that was so lately, too. `bytes`: what it takes in RAM.
    pub(super) fn note(&self, key: u128, bytes: u64) -> bool {
        // Keys are hashes: any of their bits do.
        let place = &self.places[key as usize & (self.places.len() - 1)];
        let tag = (key >> 104) as u64;
        let now = (self.read_bytes.fetch_add(bytes, Ordering::Relaxed) / TICK_BYTES) & ((1 << TICK_BITS) - 1);
        let before = place.swap(tag << TICK_BITS | now, Ordering::Relaxed);
        let distance = now.wrapping_sub(before) & ((1 << TICK_BITS) - 1);
        before != 0 && before >> TICK_BITS == tag && distance <= self.distance_bytes_max / TICK_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> u128 {
        u128::from(n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
    }

    #[test]
    fn what_returns_soon_is_told_from_what_returns_late() {
        let returns = Returns::new(1 << 20);
        assert!(!returns.note(key(0), 1000), "never before");
        assert!(returns.note(key(0), 1000));
        (1..500).for_each(|n| assert!(!returns.note(key(n), 1000), "{n}"));
        assert!(returns.note(key(0), 1000), "half of RAM has not passed");
        (500..1100).for_each(|n| _ = returns.note(key(n), 1000));
        assert!(!returns.note(key(0), 1000), "RAM would have lost it");
    }

    #[test]
    fn a_scan_of_more_than_ram_never_returns() {
        let returns = Returns::new(1 << 20);
        let early = (0..3 * 1000).filter(|n| returns.note(key(n % 1000), 2000));
        assert_eq!(early.count(), 0);
    }
}
