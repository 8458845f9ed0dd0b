//! Consistent hash (ketama's idea): each address owns points on a ring; a key belongs to the first point at or after it whose
//! address is usable. When one of n addresses goes, only its keys (about 1/n) move.
//!
//! Why not the `pingora-ketama` crate: it knows only IP addresses (no unix socket), and its points cannot skip an address
//! that is down without building the ring anew.
//!
//! Points come from SHA-256 over the member's name, so every process with the same configuration agrees on them.

use sha2::{Digest, Sha256};

/// Points per member at an average weight: shares stay within a few percent of the weights.
const POINTS_PER_MEMBER: u64 = 160;
/// Points taken from one digest: 32 bytes, eight each.
const POINTS_PER_DIGEST: u64 = 4;

/// A ring over the members of one list. About 160 points per member, whatever the weights.
#[derive(Debug, Default)]
pub struct Ring {
    /// (point, index of its member), sorted.
    points: Vec<(u64, usize)>,
}

impl Ring {
    /// `members`: name (stable across restarts) and weight, in the order of the list.
    pub fn new<'a>(members: impl Iterator<Item = (&'a str, u64)>) -> Self {
        let members: Vec<_> = members.collect();
        let total: u128 = members.iter().map(|(_, weight)| u128::from(*weight)).sum();
        let mut points = Vec::new();
        for (index, (name, weight)) in members.iter().enumerate() {
            let share = u128::from(POINTS_PER_MEMBER) * members.len() as u128 * u128::from(*weight) / total.max(1);
            let digests = u64::try_from(share).unwrap_or(u64::MAX).div_ceil(POINTS_PER_DIGEST).max(1);
            for number in 0..digests {
                let digest = Sha256::new().chain_update(name.as_bytes()).chain_update(number.to_be_bytes()).finalize();
                for bytes in digest.chunks_exact(8) {
                    let point = bytes.iter().fold(0_u64, |point, byte| point << 8 | u64::from(*byte));
                    points.push((point, index));
                }
            }
        }
        points.sort_unstable();
        Self { points }
    }

    /// The member that owns `hash` among those `usable`.
    pub fn pick(&self, hash: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.points.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.points.split_at(start);
        after.iter().chain(before).map(|(_, index)| *index).find(|index| usable(*index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("10.0.0.{number}:8096")).collect()
    }

    fn ring(names: &[String], weights: &[u64]) -> Ring {
        Ring::new(names.iter().map(String::as_str).zip(weights.iter().copied()))
    }

    /// Keys as they come: spread by a hash.
    fn key(number: u64) -> u64 {
        number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }

    #[test]
    fn an_empty_ring_has_no_owner() {
        assert_eq!(Ring::default().pick(1, |_| true), None);
        assert_eq!(ring(&names(2), &[1, 1]).pick(1, |_| false), None);
    }

    #[test]
    fn shares_follow_the_weights() {
        let ring = ring(&names(3), &[1, 1, 2]);
        let mut counts = [0_u32; 3];
        for number in 0..20_000 {
            counts[ring.pick(key(number), |_| true).unwrap()] += 1;
        }
        assert!((4_000..6_000).contains(&counts[0]) && (4_000..6_000).contains(&counts[1]), "{counts:?}");
        assert!((8_500..11_500).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn weights_beyond_reason_do_not_grow_the_ring() {
        assert!(ring(&names(2), &[u64::MAX / 2, 1]).points.len() <= 2 * POINTS_PER_MEMBER as usize + 8);
    }

    proptest! {
        #[test]
        fn losing_one_member_moves_only_its_keys(count in 2_usize..10, lost in 0_usize..10) {
            let lost = lost % count;
            let ring = ring(&names(count), &vec![1; count]);
            let mut moved = 0_u32;
            for number in 0..5_000 {
                let before = ring.pick(key(number), |_| true).unwrap();
                let after = ring.pick(key(number), |index| index != lost).unwrap();
                prop_assert!(before == lost || before == after, "a key of a member that stayed moved");
                moved += u32::from(before != after);
            }
            let share = f64::from(moved) / 5_000.0 * count as f64;
            prop_assert!((0.6..1.5).contains(&share), "{share} of a fair share moved");
        }

        #[test]
        fn a_ring_built_without_a_member_agrees_with_one_that_skips_it(count in 2_usize..8, number: u64) {
            let all = names(count);
            let with = ring(&all, &vec![1; count]);
            let without = ring(&all[..count - 1], &vec![1; count - 1]);
            prop_assert_eq!(with.pick(number, |index| index != count - 1), without.pick(number, |_| true));
        }
    }
}
