//! Smooth weighted round robin (nginx's algorithm): shares are exact over a period and spread within it, so that a weight of 5
//! against 1 never sends five requests in a row and then rests.

use super::Candidate;

/// The running balance of each address. Bounded by the number of addresses it was made for.
#[derive(Debug)]
pub struct RoundRobin {
    current: Vec<i128>,
}

impl RoundRobin {
    pub fn new(addresses: usize) -> Self {
        Self { current: vec![0; addresses] }
    }

    /// Chooses a candidate and charges it for the turn. Candidates beyond the number given to [`Self::new`] are passed over.
    pub fn pick(&mut self, candidates: &[Candidate]) -> Option<usize> {
        let mut total = 0_i128;
        let mut best: Option<usize> = None;
        for candidate in candidates {
            let Some(current) = self.current.get_mut(candidate.index) else { continue };
            let weight = i128::from(candidate.weight);
            *current += weight;
            total += weight;
            let current = *current;
            if best.is_none_or(|best| current > self.current[best]) {
                best = Some(candidate.index);
            }
        }
        let best = best?;
        self.current[best] -= total;
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidates(weights: &[u64]) -> Vec<Candidate> {
        weights.iter().enumerate().map(|(index, &weight)| Candidate { index, weight, in_flight: 0 }).collect()
    }

    #[test]
    fn spreads_a_heavy_server_over_the_period() {
        let mut balance = RoundRobin::new(3);
        let picks: Vec<_> = (0..7).map(|_| balance.pick(&candidates(&[5, 1, 1])).unwrap()).collect();
        assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn nothing_to_choose_from_is_none() {
        assert_eq!(RoundRobin::new(2).pick(&[]), None);
    }

    #[test]
    fn a_candidate_left_out_gets_no_turn_and_the_others_go_on() {
        let mut balance = RoundRobin::new(3);
        let all = candidates(&[1, 1, 1]);
        let picks: Vec<_> = (0..4).map(|_| balance.pick(&all[1..]).unwrap()).collect();
        assert_eq!(picks, [1, 2, 1, 2]);
    }

    proptest! {
        #[test]
        fn shares_are_exact_over_every_period(weights in prop::collection::vec(1_u64..20, 1..8), periods in 1_usize..4) {
            let candidates = candidates(&weights);
            let total: u64 = weights.iter().sum();
            let mut balance = RoundRobin::new(weights.len());
            let mut counts = vec![0_u64; weights.len()];
            for _ in 0..total as usize * periods {
                counts[balance.pick(&candidates).unwrap()] += 1;
            }
            let expected: Vec<_> = weights.iter().map(|weight| weight * periods as u64).collect();
            prop_assert_eq!(counts, expected);
            prop_assert!(balance.current.iter().all(|&current| current == 0), "a period ends where it began");
        }
    }
}
