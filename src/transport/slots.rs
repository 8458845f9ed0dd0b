//! How many connections are open, in all and per address. The table holds only addresses with an open connection, so it is
//! bounded by `connections_max`; nothing is remembered of those that left.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module. Shared by all listeners.
#[derive(Debug, Default)]
pub(super) struct Slots {
    open: AtomicUsize,
    by_address: Mutex<HashMap<Block, usize, ahash::RandomState>>,
}

/// What counts as one client: an IPv4 address, or an IPv6 /64 (the smallest network one subscriber has).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Block {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Block {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let mut network = [0; 8];
                network.copy_from_slice(&address.octets()[..8]);
                Self::V6(network)
            }
        }
    }
}

impl Slots {
    /// A place among all connections; None: `max` are open.
    pub(super) fn take(self: &Arc<Self>, max: usize) -> Option<Slot> {
        let taken = self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < max).then_some(n + 1));
        taken.ok().map(|_| Slot(Arc::clone(self)))
    }

    /// How many connections `address` has.
    pub(super) fn open_of(&self, address: IpAddr) -> usize {
        self.by_address.lock().get(&Block::of(address)).copied().unwrap_or(0)
    }

    /// A place among the connections of `address`; None: it has `max` open.
    pub(super) fn take_for(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<AddressSlot> {
        let block = Block::of(address);
        let mut table = self.by_address.lock();
        let open = table.get(&block).copied().unwrap_or(0);
        if open >= max {
            return None;
        }
        table.insert(block, open + 1);
        drop(table);
        Some(AddressSlot { slots: Arc::clone(self), block })
    }
}

/// Given back on drop.
#[derive(Debug)]
pub(super) struct Slot(Arc<Slots>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Given back on drop.
#[derive(Debug)]
pub(super) struct AddressSlot {
    slots: Arc<Slots>,
    block: Block,
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.slots.by_address.lock().entry(self.block) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_forgets_addresses_without_connections() {
        let slots = Arc::new(Slots::default());
        let first = slots.take_for("192.0.2.1".parse().unwrap(), 1);
        assert!(first.is_some());
        assert!(slots.take_for("::ffff:192.0.2.1".parse().unwrap(), 1).is_none(), "the same client, mapped");
        assert!(slots.take_for("192.0.2.2".parse().unwrap(), 1).is_some());
        drop(first);
        assert!(slots.by_address.lock().is_empty());
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        let slots = Arc::new(Slots::default());
        let _held = slots.take_for("2001:db8:0:1::1".parse().unwrap(), 1).unwrap();
        assert!(slots.take_for("2001:db8:0:1:ffff::2".parse().unwrap(), 1).is_none());
        assert!(slots.take_for("2001:db8:0:2::1".parse().unwrap(), 1).is_some());
    }

    #[test]
    fn the_total_is_given_back() {
        let slots = Arc::new(Slots::default());
        let held = slots.take(1);
        assert!(held.is_some() && slots.take(1).is_none());
        drop(held);
        assert!(slots.take(1).is_some());
    }
}
