//! Where each object lies: the index in RAM, in shards, and the floor under keys that are still in the queue.
//!
//! A slot takes 80 bytes with its key. An object is found only here, so taking its slot away removes it at once, whatever the
//! disk still holds. A *floor* stays for a key from the moment something of it is accepted until it is written: nothing
//! older than the floor is published, so a removal reaches what waits in the queue, and versions never go back.
//!
//! Invariant: one slot for a key, the newest version that was published and not removed. Does no IO.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::mem::size_of;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};

use parking_lot::RwLock;

const SHARDS: usize = 64;
const VISITS_MAX: u8 = 3;

/// Where a record begins: which segment, which block of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) block: u32,
}

/// An object as it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) version: u64,
    pub(super) ban_number: u64,
    pub(super) body_bytes: u64,
    pub(super) record: Place,
    /// Of the head in force: the record's own, or that of a later record.
    pub(super) head: Place,
    /// In the record, which says where the body begins; the head in force may have another length.
    pub(super) record_head_bytes: u32,
    pub(super) head_bytes: u32,
}

#[derive(Debug)]
struct Slot {
    located: Located,
    visits: AtomicU8,
}

#[derive(Debug, Clone, Copy)]
struct Floor {
    version_min: u64,
    in_queue: u32,
}

#[derive(Debug, Default)]
struct Shard {
    slots: HashMap<u128, Slot, ahash::RandomState>,
    floors: HashMap<u128, Floor, ahash::RandomState>,
}

impl Shard {
    fn raise_floor(&mut self, key: u128, version_min: u64) {
        let floor = self.floors.entry(key).or_insert(Floor { version_min, in_queue: 0 });
        floor.version_min = floor.version_min.max(version_min);
        floor.in_queue += 1;
    }

    fn is_below_floor(&self, key: u128, version: u64) -> bool {
        self.floors.get(&key).is_some_and(|floor| version < floor.version_min)
    }
}

/// What accepting a version meant for the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    /// As new or newer is there, or it was removed.
    Outdated,
    /// The version that was there is gone.
    Superseding(Located),
    New,
}

#[derive(Debug)]
pub(super) struct Index {
    shards: Box<[RwLock<Shard>]>,
    objects: AtomicI64,
    bytes: AtomicI64,
}

impl Index {
    pub(super) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { shards, objects: AtomicI64::new(0), bytes: AtomicI64::new(0) }
    }

    fn shard(&self, key: u128) -> &RwLock<Shard> {
        // Keys are hashes: any of their bits do.
        &self.shards[(key >> 64) as usize % SHARDS]
    }

    fn count(&self, located: &Located, sign: i64) {
        self.objects.fetch_add(sign, Ordering::Relaxed);
        self.bytes.fetch_add(sign * (located.body_bytes + u64::from(located.head_bytes)) as i64, Ordering::Relaxed);
    }

    pub(super) fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed).max(0) as u64
    }

    /// Heads and bodies of what can be found.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed).max(0) as u64
    }

    /// Memory of the index itself.
    pub(super) fn memory_bytes(&self) -> u64 {
        let of = |shard: &RwLock<Shard>| {
            let shard = shard.read();
            // An eighth of a table stays empty; a byte for each place says what is there.
            let table = |capacity: usize, entry_bytes: usize| capacity * 8 / 7 * (entry_bytes + 1);
            table(shard.slots.capacity(), size_of::<(u128, Slot)>())
                + table(shard.floors.capacity(), size_of::<(u128, Floor)>())
        };
        self.shards.iter().map(|shard| of(shard) as u64).sum()
    }

    pub(super) fn get(&self, key: u128) -> Option<Located> {
        self.shard(key).read().slots.get(&key).map(|slot| slot.located)
    }

    /// As [`Self::get`], and remembers that it was asked for.
    pub(super) fn visit(&self, key: u128) -> Option<Located> {
        let shard = self.shard(key).read();
        let slot = shard.slots.get(&key)?;
        let visits = slot.visits.load(Ordering::Relaxed);
        if visits < VISITS_MAX {
            slot.visits.store(visits + 1, Ordering::Relaxed);
        }
        Some(slot.located)
    }

    /// A version enters the queue: older ones are gone from now on. [`Self::leave_queue`] ends it.
    pub(super) fn accept(&self, key: u128, version: u64) -> Accepted {
        let mut shard = self.shard(key).write();
        let newest = shard.slots.get(&key).map(|slot| slot.located.version);
        if shard.is_below_floor(key, version) || newest.is_some_and(|newest| newest >= version) {
            return Accepted::Outdated;
        }
        shard.raise_floor(key, version);
        let Some(slot) = shard.slots.remove(&key) else { return Accepted::New };
        self.count(&slot.located, -1);
        Accepted::Superseding(slot.located)
    }

    /// Another head for this version enters the queue: `false` if that version is neither there nor on its way.
    pub(super) fn accept_head(&self, key: u128, version: u64) -> bool {
        let mut shard = self.shard(key).write();
        let found = shard.slots.get(&key).is_some_and(|slot| slot.located.version == version);
        let coming = shard.floors.get(&key).is_some_and(|floor| floor.version_min == version);
        if found || coming {
            shard.raise_floor(key, version);
        }
        found || coming
    }

    /// Something in the queue about this key was written, or is given up.
    pub(super) fn leave_queue(&self, key: u128) {
        let mut shard = self.shard(key).write();
        if let MapEntry::Occupied(mut floor) = shard.floors.entry(key) {
            floor.get_mut().in_queue -= 1;
            if floor.get().in_queue == 0 {
                floor.remove();
            }
        }
    }

    /// Removes up to `version`. `Some` if the disk must be told, with the ban number it had if it was found: then the removal
    /// counts as being in the queue.
    pub(super) fn remove(&self, key: u128, version: u64, disk_may_have_more: bool) -> Option<Option<u64>> {
        let mut shard = self.shard(key).write();
        let removed = match shard.slots.entry(key) {
            MapEntry::Occupied(slot) if slot.get().located.version <= version => Some(slot.remove()),
            _ => None,
        };
        if let Some(slot) = &removed {
            self.count(&slot.located, -1);
        }
        let in_queue = shard.floors.contains_key(&key);
        if removed.is_none() && !in_queue && !disk_may_have_more {
            return None;
        }
        shard.raise_floor(key, version.saturating_add(1));
        Some(removed.map(|slot| slot.located.ban_number))
    }

    /// Makes an object that lies on the disk findable, unless it was removed or overtaken meanwhile.
    pub(super) fn publish(&self, key: u128, located: Located) -> bool {
        let mut shard = self.shard(key).write();
        let newest = shard.slots.get(&key).map(|slot| slot.located.version);
        if shard.is_below_floor(key, located.version) || newest.is_some_and(|newest| newest >= located.version) {
            return false;
        }
        self.count(&located, 1);
        if let Some(before) = shard.slots.insert(key, Slot { located, visits: AtomicU8::new(0) }) {
            self.count(&before.located, -1);
        }
        true
    }

    /// Another head for this version of the object.
    pub(super) fn replace_head(&self, key: u128, version: u64, ban_number: u64, head: Place, head_bytes: u32) -> bool {
        let mut shard = self.shard(key).write();
        let Some(slot) = shard.slots.get_mut(&key).filter(|slot| slot.located.version == version) else { return false };
        self.count(&slot.located, -1);
        slot.located = Located { ban_number, head, head_bytes, ..slot.located };
        self.count(&slot.located, 1);
        true
    }

    /// An object was written again elsewhere, with the head it then had in force.
    pub(super) fn moved(&self, key: u128, from: &Located, to: Place) {
        let mut shard = self.shard(key).write();
        if let Some(slot) = shard.slots.get_mut(&key).filter(|slot| slot.located.record == from.record) {
            // A head that came while it was copied stays where it is: it lies behind the copy.
            let head = if slot.located.head == from.head { to } else { slot.located.head };
            slot.located = Located { record: to, head, record_head_bytes: from.head_bytes, ..slot.located };
            let visits = slot.visits.get_mut();
            *visits /= 2;
        }
    }

    /// How often the object at `place` was asked for since it was written; `None` where it is no longer the one in force.
    pub(super) fn visits_at(&self, key: u128, place: Place) -> Option<(Located, u8)> {
        let shard = self.shard(key).read();
        let slot = shard.slots.get(&key).filter(|slot| slot.located.record == place)?;
        Some((slot.located, slot.visits.load(Ordering::Relaxed)))
    }

    /// Lets the object at `place` go.
    pub(super) fn evict(&self, key: u128, place: Place) -> bool {
        let mut shard = self.shard(key).write();
        let MapEntry::Occupied(slot) = shard.slots.entry(key) else { return false };
        if slot.get().located.record != place {
            return false;
        }
        let slot = slot.remove();
        self.count(&slot.located, -1);
        true
    }

    /// Lets everything in these segments go, at the cost of a look at every slot.
    pub(super) fn evict_segments(&self, gone: impl Fn(u32) -> bool) -> u64 {
        let mut evicted = 0;
        for shard in &self.shards {
            shard.write().slots.retain(|_, slot| {
                let keep = !gone(slot.located.record.segment) && !gone(slot.located.head.segment);
                if !keep {
                    self.count(&slot.located, -1);
                    evicted += 1;
                }
                keep
            });
        }
        evicted
    }

    /// The smallest ban number of what can be found, by a look at every slot.
    pub(super) fn oldest_ban_number(&self) -> Option<u64> {
        let of = |shard: &RwLock<Shard>| shard.read().slots.values().map(|slot| slot.located.ban_number).min();
        self.shards.iter().filter_map(of).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(version: u64, segment: u32) -> Located {
        let place = Place { segment, block: 1 };
        Located {
            version,
            ban_number: version,
            body_bytes: 10,
            record: place,
            head: place,
            record_head_bytes: 5,
            head_bytes: 5,
        }
    }

    #[test]
    fn a_slot_with_its_key_takes_64_to_80_bytes() {
        assert!(size_of::<(u128, Slot)>() <= 80, "{}", size_of::<(u128, Slot)>());
    }

    #[test]
    fn the_tables_take_at_most_192_bytes_for_an_object() {
        let index = Index::new();
        for objects in 1..=60_000_u64 {
            let key = u128::from(objects).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            assert!(index.publish(key, located(objects, 1)));
            // With few, each shard has a table of its least size.
            if objects > 10_000 && objects % 500 == 0 {
                assert!(index.memory_bytes() <= 192 * objects, "{} for {objects}", index.memory_bytes());
            }
        }
        let entry_bytes = size_of::<(u128, Slot)>() as u64;
        assert!(index.memory_bytes() >= 60_000 * entry_bytes * 8 / 7, "a table is never full");
    }

    #[test]
    fn a_removal_reaches_what_is_still_in_the_queue() {
        let index = Index::new();
        assert_eq!(index.accept(1, 5), Accepted::New);
        assert_eq!(index.remove(1, 5, false), Some(None));
        assert!(!index.publish(1, located(5, 1)));
        assert_eq!(index.accept(1, 5), Accepted::Outdated);
        assert_eq!(index.accept(1, 6), Accepted::New);
        index.leave_queue(1);
        index.leave_queue(1);
        assert!(index.publish(1, located(6, 1)));
        index.leave_queue(1);
        assert_eq!(index.remove(2, 9, false), None, "nothing is known of it");
        assert_eq!((index.objects(), index.bytes()), (1, 15));
    }

    #[test]
    fn an_older_version_never_replaces_a_newer_one() {
        let index = Index::new();
        assert!(index.publish(1, located(5, 1)));
        assert!(!index.publish(1, located(4, 2)));
        assert_eq!(index.accept(1, 4), Accepted::Outdated);
        assert_eq!(index.accept(1, 6), Accepted::Superseding(located(5, 1)));
        assert_eq!(index.get(1), None, "from now on the older one is not given");
    }

    #[test]
    fn what_was_moved_loses_half_its_visits_and_keeps_a_newer_head() {
        let index = Index::new();
        index.publish(1, located(5, 1));
        (0..9).for_each(|_| _ = index.visit(1));
        let (from, visits) = index.visits_at(1, Place { segment: 1, block: 1 }).expect("it is there");
        assert_eq!(visits, VISITS_MAX);
        let newer = Place { segment: 2, block: 9 };
        assert!(index.replace_head(1, 5, 7, newer, 50));
        index.moved(1, &from, Place { segment: 2, block: 1 });
        let (now, visits) = index.visits_at(1, Place { segment: 2, block: 1 }).expect("it was moved");
        assert_eq!((now.head, now.head_bytes, now.record_head_bytes, visits), (newer, 50, 5, 1));
        assert!(!index.evict(1, Place { segment: 1, block: 1 }));
        assert_eq!(index.evict_segments(|segment| segment == 2), 1);
        assert_eq!((index.objects(), index.bytes()), (0, 0));
    }
}
