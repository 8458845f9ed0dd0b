//! One address of a server, and the list of them a pool chooses from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::upstreams::peer::HttpPeer;

use super::balance::Candidate;
use super::balance::ring::Ring;
use super::balance::round_robin::RoundRobin;
use super::health::{Down, Health};

/// Addresses taken from one name; more are left out.
pub(super) const ADDRESSES_PER_NAME_MAX: usize = 16;

/// A weight of one, in units that [`ADDRESSES_PER_NAME_MAX`] and everything below divide: a server's weight is shared
/// exactly by its usable addresses. (The least common multiple of 1 to 16.)
const SHARE: u64 = 720_720;

/// An address. It outlives changes of the list as long as its name resolves to it: health and counts are kept.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Unique within the pool, never used again.
    pub id: u32,
    /// Index into the pool's servers.
    pub server: usize,
    /// Everything Pingora needs to connect to it.
    pub peer: HttpPeer,
    pub in_flight: AtomicU32,
    pub health: Mutex<Health>,
}

impl Endpoint {
    pub fn new(id: u32, server: usize, peer: HttpPeer) -> Self {
        Self { id, server, peer, in_flight: AtomicU32::new(0), health: Mutex::default() }
    }

    pub fn address(&self) -> &SocketAddr {
        &self.peer._address
    }

    /// Why it may not be asked, and until when; None: it may.
    pub fn down(&self, now: Instant) -> Option<Down> {
        self.health.lock().down(now)
    }
}

/// The addresses of all servers of a pool, with what choosing among them needs. Replaced as a whole when names change.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub list: Vec<Arc<Endpoint>>,
    pub round_robin: Mutex<RoundRobin>,
    /// Empty unless the pool balances by hash.
    pub ring: Ring,
}

impl Endpoints {
    /// `weights` are the servers'. `hashed`: the pool balances by hash.
    pub fn new(list: Vec<Arc<Endpoint>>, weights: &[u32], hashed: bool) -> Self {
        let ring = if hashed {
            let names: Vec<_> = list.iter().map(|endpoint| endpoint.address().to_string()).collect();
            let everyone: Vec<_> = (0..list.len()).collect();
            let shares = shares(&list, &everyone, weights);
            Ring::new(names.iter().map(String::as_str).zip(shares))
        } else {
            Ring::default()
        };
        Self { round_robin: Mutex::new(RoundRobin::new(list.len())), ring, list }
    }

    /// The addresses in use at `now` that `wanted` agrees to, weighted.
    pub fn candidates(&self, now: Instant, weights: &[u32], wanted: impl Fn(&Endpoint) -> bool) -> Vec<Candidate> {
        let usable: Vec<usize> = (0..self.list.len())
            .filter(|&index| wanted(&self.list[index]) && self.list[index].down(now).is_none())
            .collect();
        shares(&self.list, &usable, weights)
            .zip(&usable)
            .map(|(weight, &index)| Candidate {
                index,
                weight,
                in_flight: self.list[index].in_flight.load(Ordering::Relaxed),
            })
            .collect()
    }
}

/// The weight of each chosen address: its server's, shared among that server's chosen addresses.
fn shares<'a>(list: &'a [Arc<Endpoint>], chosen: &'a [usize], weights: &'a [u32]) -> impl Iterator<Item = u64> + 'a {
    let mut addresses = vec![0_u64; weights.len()];
    for &index in chosen {
        addresses[list[index].server] += 1;
    }
    chosen.iter().map(move |&index| {
        let server = list[index].server;
        u64::from(weights[server]) * SHARE / addresses[server]
    })
}
