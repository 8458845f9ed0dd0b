//! Least requests: the address with the fewest requests in flight for its weight. Ties go round, so that an idle pool is
//! still spread.

use super::Candidate;

/// Chooses the candidate with the smallest `(in_flight + 1) / weight`; among equals, the first at or after `turn` (any number
/// that grows from request to request).
pub fn pick(candidates: &[Candidate], turn: usize) -> Option<usize> {
    let count = candidates.len();
    (0..count)
        .map(|step| candidates[(turn.wrapping_add(step)) % count])
        .reduce(|best, next| {
            // a/b < c/d as a·d < c·b: no division, no rounding.
            let next_load = u128::from(next.in_flight) + 1;
            let best_load = u128::from(best.in_flight) + 1;
            if next_load * u128::from(best.weight) < best_load * u128::from(next.weight) { next } else { best }
        })
        .map(|best| best.index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(index: usize, weight: u64, in_flight: u32) -> Candidate {
        Candidate { index, weight, in_flight }
    }

    #[test]
    fn the_least_loaded_wins() {
        assert_eq!(pick(&[candidate(0, 1, 3), candidate(1, 1, 1), candidate(2, 1, 2)], 0), Some(1));
    }

    #[test]
    fn a_weight_carries_its_share() {
        assert_eq!(pick(&[candidate(0, 1, 1), candidate(1, 4, 3)], 0), Some(1));
        assert_eq!(pick(&[candidate(0, 1, 0), candidate(1, 4, 5)], 0), Some(0));
    }

    #[test]
    fn equals_take_turns() {
        let idle = [candidate(0, 1, 0), candidate(1, 1, 0), candidate(2, 1, 0)];
        assert_eq!((0..4).map(|turn| pick(&idle, turn).unwrap()).collect::<Vec<_>>(), [0, 1, 2, 0]);
        assert_eq!(pick(&[], 7), None);
    }

    proptest! {
        #[test]
        fn no_other_candidate_is_less_loaded(
            loads in prop::collection::vec((1_u64..1000, 0_u32..1000), 1..10),
            turn: usize,
        ) {
            let candidates: Vec<_> =
                loads.iter().enumerate().map(|(index, &(weight, in_flight))| candidate(index, weight, in_flight)).collect();
            let chosen = candidates[pick(&candidates, turn).unwrap()];
            for other in &candidates {
                let chosen_load = (u128::from(chosen.in_flight) + 1) * u128::from(other.weight);
                let other_load = (u128::from(other.in_flight) + 1) * u128::from(chosen.weight);
                prop_assert!(chosen_load <= other_load);
            }
        }
    }
}
