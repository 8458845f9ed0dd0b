//! Which object leaves when room is needed: S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache
//! eviction", SOSP '23), weighed in bytes.
//!
//! Three queues: *small* (a tenth of the bytes), where every newcomer waits; *main*, for what was asked for more than once
//! while it waited; *ghosts*, the keys (no bytes) of what left *small* unasked: such a key goes to *main* at once when it
//! returns. So a scan of objects wanted once passes through *small* and never touches the hot set. A hit touches no queue and
//! takes no lock: it counts in [`Visits`].
//!
//! Pure: no clock, no locks, no IO. Invariants: the bytes are the sum of the entries' bytes; an entry is in exactly one queue;
//! an entry that is being read is not evicted (its memory would not come free) and counts as asked for, unless its readers stall; the
//! ghosts are bounded by the entries.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU8, Ordering};

/// Asked for more often than this while in *small*: to *main* (the paper's Algorithm 1).
const PROMOTION_VISITS: u8 = 1;
const VISITS_MAX: u8 = 3;
const GHOSTS_MIN: usize = 128;

/// How often an entry was asked for lately, up to three, and whether it ever was. Counted without a lock: a visit lost to a race does
/// no harm.
#[derive(Debug, Default)]
pub(super) struct Visits(AtomicU8);

const EVER: u8 = 0x80;

impl Visits {
    /// True: the first, as far as is known.
    pub(super) fn count(&self) -> bool {
        let visits = self.get();
        if visits < VISITS_MAX {
            self.set(visits + 1);
        }
        visits == 0
    }

    /// Whether it was asked for since it was stored.
    pub(super) fn ever(&self) -> bool {
        self.0.load(Ordering::Relaxed) & EVER != 0
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed) & !EVER
    }

    fn set(&self, visits: u8) {
        // Set only for what was asked for, or is being read.
        self.0.store(visits | EVER, Ordering::Relaxed);
    }
}

/// What the policy asks of an entry.
pub(super) trait Resident {
    fn key(&self) -> u128;
    fn visits(&self) -> &Visits;
    fn hold(&self) -> Hold;
}

/// Whether anybody reads an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nobody, or somebody who can do without it.
    Free,
    /// Somebody who stalls, and would have to be aborted: only when there is nothing else.
    Stalled,
    /// Evicting it now would free nothing.
    Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    Small,
    Main,
}

#[derive(Debug)]
struct Entry<T> {
    resident: T,
    bytes: u64,
    queue: Queue,
}

/// The queues, by entry id. Ids are never reused, so an id left behind in a queue by [`S3Fifo::remove`] is skipped.
#[derive(Debug)]
pub(super) struct S3Fifo<T> {
    entries: HashMap<u64, Entry<T>, ahash::RandomState>,
    small: VecDeque<u64>,
    main: VecDeque<u64>,
    ghosts: Ghosts,
    bytes: u64,
    small_bytes: u64,
    small_bytes_target: u64,
}

impl<T: Resident> S3Fifo<T> {
    /// For a cache of `bytes_max` bytes in all. The bound itself is the caller's: [`S3Fifo::evict`] until there is room.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            entries: HashMap::default(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: Ghosts::default(),
            bytes: 0,
            small_bytes: 0,
            small_bytes_target: bytes_max / 10,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds an entry under an id that was never used before.
    pub(super) fn insert(&mut self, id: u64, bytes: u64, resident: T) {
        let queue = if self.ghosts.take(resident.key()) { Queue::Main } else { Queue::Small };
        self.bytes += bytes;
        if queue == Queue::Small {
            self.small_bytes += bytes;
        }
        match queue {
            Queue::Small => self.small.push_back(id),
            Queue::Main => self.main.push_back(id),
        }
        self.entries.insert(id, Entry { resident, bytes, queue });
        self.drop_leftovers();
    }

    /// Takes an entry out for a reason other than room (purged, replaced): it leaves no ghost.
    pub(super) fn remove(&mut self, id: u64) -> Option<T> {
        let entry = self.entries.remove(&id)?;
        self.forget_bytes(entry.queue, entry.bytes);
        Some(entry.resident)
    }

    /// An entry's size changed.
    pub(super) fn resize(&mut self, id: u64, bytes: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            let (queue, before) = (entry.queue, std::mem::replace(&mut entry.bytes, bytes));
            self.forget_bytes(queue, before);
            self.bytes += bytes;
            if queue == Queue::Small {
                self.small_bytes += bytes;
            }
        }
    }

    /// Takes out the entry to lose next; `None` when there is none that is not being read.
    pub(super) fn evict(&mut self) -> Option<T> {
        // An entry is looked at once in *small* and at most four times in *main* (three visits to use up) before it leaves;
        // the rest is for rounds past entries in use.
        let looks_max = 8 * self.entries.len();
        let mut looks = 0;
        let mut in_use_in_a_row = 0;
        let mut last_resort = None;
        while looks < looks_max {
            let main_is_in_use = in_use_in_a_row > self.main.len();
            let from_small = self.small_bytes > 0
                && (self.small_bytes > self.small_bytes_target || self.small_bytes == self.bytes || main_is_in_use);
            // The chosen queue has bytes, so it has an entry (every entry weighs something), perhaps behind leftovers.
            let id = if from_small { self.small.pop_front() } else { self.main.pop_front() }?;
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            looks += 1;
            in_use_in_a_row += 1;
            let hold = entry.resident.hold();
            let in_use = hold != Hold::Free;
            if hold == Hold::Stalled {
                last_resort.get_or_insert(id);
            }
            let visits = entry.resident.visits().get();
            if entry.queue == Queue::Small && (in_use || visits > PROMOTION_VISITS) {
                entry.resident.visits().set(0);
                entry.queue = Queue::Main;
                self.small_bytes -= entry.bytes;
                self.main.push_back(id);
            } else if in_use {
                self.main.push_back(id);
                continue;
            } else if visits > 0 && entry.queue == Queue::Main {
                entry.resident.visits().set(visits - 1);
                self.main.push_back(id);
            } else {
                if entry.queue == Queue::Small {
                    self.ghosts.add(entry.resident.key(), self.entries.len().max(GHOSTS_MIN));
                }
                return self.remove(id);
            }
            in_use_in_a_row = 0;
        }
        self.remove(last_resort?)
    }

    fn forget_bytes(&mut self, queue: Queue, bytes: u64) {
        self.bytes -= bytes;
        if queue == Queue::Small {
            self.small_bytes -= bytes;
        }
    }

    /// Ids of removed entries wait in the queues until they are more than the living; then they go at once, so the cost is
    /// constant per removal and the queues stay bounded.
    fn drop_leftovers(&mut self) {
        if self.small.len() + self.main.len() > 2 * self.entries.len() + GHOSTS_MIN {
            let entries = &self.entries;
            self.small.retain(|id| entries.contains_key(id));
            self.main.retain(|id| entries.contains_key(id));
        }
    }
}

/// Keys that left *small* unasked, oldest first.
#[derive(Debug, Default)]
struct Ghosts {
    order: VecDeque<u128>,
    keys: HashSet<u128, ahash::RandomState>,
}

impl Ghosts {
    fn add(&mut self, key: u128, entries_max: usize) {
        if self.keys.insert(key) {
            self.order.push_back(key);
        }
        while self.order.len() > entries_max {
            if let Some(oldest) = self.order.pop_front() {
                self.keys.remove(&oldest);
            }
        }
    }

    /// Whether the key was a ghost; it is none afterwards. (Its place in the order is left to age out; should the key become a
    /// ghost again meanwhile, it is forgotten somewhat early.)
    fn take(&mut self, key: u128) -> bool {
        self.keys.remove(&key)
    }
}

#[cfg(test)]
mod tests;
