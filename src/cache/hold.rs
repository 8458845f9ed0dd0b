//! For how long a slow reader holds what it reads, and where it goes on when that is let go.
//!
//! A body lies in RAM because it is an object of the cache, or a fill that becomes one. A reader that keeps up also keeps it there: to
//! evict it would free nothing. One that stalls does not: when room is needed, its bytes are let go like any other's, but for
//! the chunk it has in hand, and it goes on, in this order: from the disk, where the object lies there; by a request of its
//! own for the rest, where the origin can tell by [`Resume`] that it is the same version; else its response is aborted. What could only
//! be aborted is let go last, when there is no other room left.
//!
//! Parts: the clock; [`Resume`] and [`Rest`], the edge's side; [`Left`], bodies that have left their slot (purged, replaced, evicted) and
//! are still read. Invariants: a running fill is never let go; bytes are let go only where room is wanted and nobody has come for any
//! of them for `cache.hold_timeout`; a reader gets the bytes it was promised, in order, or an error.

use std::fmt;
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::fill::Readers;
use super::flow::Content;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds of this process.
pub(super) fn now_ms() -> u64 {
    u64::try_from(STARTED.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Whether `timeout` has passed since then.
pub(super) fn passed(then_ms: u64, timeout: Duration) -> bool {
    u128::from(now_ms().saturating_sub(then_ms)) >= timeout.as_millis()
}

/// What is left to read of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// The next byte.
    pub from: u64,
    /// One past the last byte that is wanted; None: to the end.
    pub end: Option<u64>,
    /// The length of the whole body, where it is known.
    pub complete: Option<u64>,
}

/// Asks the origin for the rest of a body, for one reader, past the cache.
pub trait Resume: fmt::Debug + Send + Sync {
    /// The bytes as they come, then `None` once all were given. A channel that ends without it was broken off.
    fn resume(&self, rest: Rest) -> mpsc::Receiver<Option<Bytes>>;
}

/// For the reader of the request that fills: travels in the extensions of the head it fills with.
#[derive(Clone)]
pub struct OwnersRest(pub Arc<dyn Resume>);

/// Large bodies that nobody finds any more and that somebody may still read.
#[derive(Debug, Default)]
pub(super) struct Left(Mutex<Vec<(Weak<Content>, Option<Readers>)>>);

impl Left {
    /// `readers`: of a body; those of a form can go on nowhere.
    pub(super) fn add(&self, content: &Arc<Content>, readers: Option<&Readers>) {
        if content.is_large() {
            let mut left = self.0.lock();
            left.retain(|(content, _)| content.strong_count() > 0);
            left.push((Arc::downgrade(content), readers.cloned()));
        }
    }

    /// Lets go of those whose readers stall, of those that can go on elsewhere only or of all: whether there were any.
    pub(super) fn let_go(&self, hold: Duration, only_who_go_on: bool) -> bool {
        let mut stalled = Vec::new();
        self.0.lock().retain(|(content, readers)| {
            let Some(content) = content.upgrade() else { return false };
            let can_go_on = || readers.as_ref().is_some_and(Readers::can_go_on);
            let stays = !content.is_stalled(hold) || (only_who_go_on && !can_go_on());
            if !stays {
                stalled.push(content);
            }
            stays
        });
        stalled.iter().for_each(|content| content.let_go());
        !stalled.is_empty()
    }
}
