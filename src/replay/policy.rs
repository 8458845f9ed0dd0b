//! What decides which objects are held. Every policy is asked in the same way, and weighs objects in bytes.

mod belady;
mod bound;
mod lru;
mod s3fifo;

pub(super) use belady::Belady;
pub(super) use bound::Bound;
pub(super) use lru::Lru;
pub(super) use s3fifo::S3Fifo;

use crate::cache::EvictionSimulation;

/// The policies that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum PolicyName {
    /// Least recently used.
    Lru,
    /// S3-FIFO as published (Yang et al., SOSP '23), queues weighed in bytes.
    S3fifo,
    /// The code of this edge's own RAM store.
    Reelgate,
    /// Bélády's MIN: what is asked for last leaves first. The best there is where all objects are of one size, else a good guess.
    Belady,
    /// PFOO-L (Berger, Beckmann, Harchol-Balter, 2018): no policy is better, and none may be as good.
    Bound,
}

impl PolicyName {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 5] = [Self::Lru, Self::S3fifo, Self::Reelgate, Self::Belady, Self::Bound];

    /// As `--policy` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lru => "lru",
            Self::S3fifo => "s3fifo",
            Self::Reelgate => "reelgate",
            Self::Belady => "belady",
            Self::Bound => "bound",
        }
    }
}

/// A cache that is shown requests in order.
pub(super) trait Policy {
    /// Request number `at` asks for `object`: whether it is held.
    fn visit(&mut self, at: usize, object: u32) -> bool;

    /// Request number `at` missed `object`, which is not held and now arrives. `weight` is between one and the capacity.
    fn insert(&mut self, at: usize, object: u32, weight: u64);
}

impl Policy for EvictionSimulation {
    fn visit(&mut self, _: usize, object: u32) -> bool {
        EvictionSimulation::visit(self, object.into())
    }

    fn insert(&mut self, _: usize, object: u32, weight: u64) {
        EvictionSimulation::insert(self, object.into(), weight);
    }
}
