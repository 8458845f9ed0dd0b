//! The choice among usable addresses. Pure: knows indices and weights, no addresses, no health, no clock.
//!
//! - [`round_robin`]: smooth and weighted, as nginx does it;
//! - [`least`]: fewest requests in flight for its weight;
//! - [`ring`]: consistent hash, so that a key stays with its server when others come and go.
//!
//! Invariant: each chooses among exactly the candidates it is given, and chooses none only when there are none.

pub mod least;
pub mod ring;
pub mod round_robin;

/// An address that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its place in the pool's list.
    pub index: usize,
    /// Its share, relative to the other candidates; ≥ 1.
    pub weight: u64,
    /// Requests in flight to it now.
    pub in_flight: u32,
}
