//! One running fill of a key: its head, its bytes on their way, and the [`Body`] it leaves behind when it is whole.
//!
//! Invariants: a hidden fill is found by no lookup and never stored; its readers still get all of it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use pingora_cache::CacheMeta;

use super::bans::Stamp;
use super::budget::Charge;
use super::disk::BODY_CHUNK_BYTES;
use super::eviction::{self, Resident, Visits};
use super::flow::{Content, Failure, Flow};
use super::forms::Forms;
use super::hold::Resume;
use super::store::MemoryStore;

/// A whole body, immutable, and the coded forms made of it so far.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) key: u128,
    pub(super) version: u64,
    pub(super) content: Arc<Content>,
    pub(super) forms: Arc<Forms>,
    pub(super) visits: Visits,
    pub(super) readers: Readers,
}

/// What becomes of a body's readers that stall: asked when room is needed, because a disk may have taken the body since, or have
/// refused it, or have let go of it again.
#[derive(Clone)]
pub(super) struct Readers {
    pub(super) store: &'static MemoryStore,
    pub(super) key: u128,
    pub(super) version: u64,
    pub(super) stamp: Arc<Stamp>,
    /// The origin can be asked for the rest of this very version.
    pub(super) resumable: bool,
}

impl Readers {
    /// They can go on elsewhere now.
    pub(super) fn can_go_on(&self) -> bool {
        self.resumable || self.store.can_be_read_below(self.key, self.version, &self.stamp)
    }
}

/// Without the store, which holds it.
impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("resumable", &self.resumable).finish_non_exhaustive()
    }
}

impl Resident for Arc<Body> {
    fn key(&self) -> u128 {
        self.key
    }

    fn visits(&self) -> &Visits {
        &self.visits
    }

    /// The policy and the store's slot hold one reference each; every other is a reader's. Who followed the fill to its end
    /// holds the content.
    fn hold(&self) -> eviction::Hold {
        if Arc::strong_count(self) <= 2 && Arc::strong_count(&self.content) == 1 {
            eviction::Hold::Free
        } else if !self.content.is_stalled(self.readers.store.hold_timeout()) {
            eviction::Hold::Reading
        } else if self.readers.can_go_on() {
            eviction::Hold::Free
        } else {
            eviction::Hold::Stalled
        }
    }
}

/// The head of a fill, and what happened to its key meanwhile.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) meta: Arc<CacheMeta>,
    pub(super) meta_charge: Arc<Charge>,
    pub(super) stamp: Arc<Stamp>,
    /// Expired (soft-purged) while it ran: stored stale.
    pub(super) expired_at: Option<SystemTime>,
}

#[derive(Debug)]
pub(super) struct Fill {
    pub(super) key: u128,
    pub(super) version: u64,
    /// Locked after a shard of the store, never before.
    pub(super) head: Mutex<Head>,
    /// No lookup finds it any more, and it will not be stored: purged, overtaken, failed or passing.
    pub(super) hidden: AtomicBool,
    pub(super) flow: Flow,
    pub(super) forms: Arc<Forms>,
    /// Its bytes come from a disk: to follow it is a hit like any other.
    pub(super) from_disk: bool,
    /// Readers of the request that runs it: one, or none once it has its answer.
    owners: AtomicUsize,
    /// Where its owner's reader goes on should it stall, until that begins.
    pub(super) owners_rest: Mutex<Option<Arc<dyn Resume>>>,
}

/// A reader's hold on a fill.
#[derive(Debug)]
pub(super) struct Hold {
    fill: Arc<Fill>,
    owner: bool,
}

impl Hold {
    pub(super) fn new(fill: Arc<Fill>, owner: bool) -> Self {
        fill.owners.fetch_add(usize::from(owner), Ordering::AcqRel);
        Self { fill, owner }
    }
}

impl Deref for Hold {
    type Target = Arc<Fill>;

    fn deref(&self) -> &Arc<Fill> {
        &self.fill
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.fill.owners.fetch_sub(usize::from(self.owner), Ordering::AcqRel);
    }
}

impl Fill {
    pub(super) fn new(key: u128, version: u64, promised_bytes: Option<u64>, head: Head) -> Arc<Self> {
        Arc::new(Self {
            key,
            version,
            head: Mutex::new(head),
            hidden: AtomicBool::new(false),
            flow: Flow::new(promised_bytes),
            forms: Arc::default(),
            from_disk: false,
            owners: AtomicUsize::new(0),
            owners_rest: Mutex::default(),
        })
    }

    /// Of an object that a disk holds, on its way up.
    pub(super) fn from_disk(key: u128, version: u64, body_bytes: u64, head: Head) -> Arc<Self> {
        Arc::new(Self {
            key,
            version,
            head: Mutex::new(head),
            hidden: AtomicBool::new(false),
            flow: Flow::of_chunks(Some(body_bytes), BODY_CHUNK_BYTES as usize),
            forms: Arc::default(),
            from_disk: true,
            owners: AtomicUsize::new(0),
            owners_rest: Mutex::default(),
        })
    }

    /// Whether nobody but the request that runs it has it. To be asked under the lock of its shard, under which followers find it and
    /// hold it from then on: beside them there are the slot, its writer, and its owner's reader.
    pub(super) fn is_alone(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) <= 2 + self.owners.load(Ordering::Acquire)
    }

    pub(super) fn is_hidden(&self) -> bool {
        self.hidden.load(Ordering::Acquire)
    }

    /// The body is whole; see [`Flow::complete`].
    pub(super) fn complete(&self, charge: &mut Charge, readers: Readers) -> Arc<Body> {
        Arc::new(Body {
            key: self.key,
            version: self.version,
            content: self.flow.complete(charge),
            forms: Arc::clone(&self.forms),
            visits: Visits::default(),
            readers,
        })
    }

    /// Ends in failure, unless it has ended already; frees the bytes at once.
    pub(super) fn fail(&self, failure: Failure) {
        self.hidden.store(true, Ordering::Release);
        self.flow.fail(failure);
    }
}
