//! The coded forms of one body (RFC 9110 §8.4): made once, kept with the body they were made of, gone with it.
//!
//! So a form can never outlive, or be mixed up with, the version it belongs to: purges, revalidation and eviction know bodies
//! only. Who makes them is `coder`. Knows no HTTP but the names of codings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::RwLock;

use super::flow::{Content, Flow};
use crate::http::content_coding::Coding;

/// A whole form.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) content: Arc<Content>,
    hits: AtomicU32,
    /// Coded as well as it will ever be.
    best: AtomicBool,
}

impl Form {
    pub(super) fn new(content: Arc<Content>, best: bool) -> Arc<Self> {
        Arc::new(Self { content, hits: AtomicU32::new(0), best: AtomicBool::new(best) })
    }

    /// Counts a hit. True at every `popular_after`th, until the form is at its best.
    pub(super) fn hit(&self, popular_after: u32) -> bool {
        if popular_after == 0 || self.best.load(Ordering::Relaxed) {
            return false;
        }
        (self.hits.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(popular_after)
    }

    /// Nothing better was found.
    pub(super) fn is_best(&self) {
        self.best.store(true, Ordering::Relaxed);
    }
}

/// What there is of one coding.
#[derive(Debug, Clone, Default)]
pub(super) enum Slot {
    #[default]
    Empty,
    /// Being made; it can be followed.
    Running(Arc<Flow>),
    Whole(Arc<Form>),
    /// It was made, and was no smaller than the body.
    Useless,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Forms {
    slots: RwLock<[Slot; Coding::ALL.len()]>,
    bytes: AtomicU64,
}

impl Forms {
    pub(super) fn get(&self, coding: Coding) -> Slot {
        self.slots.read()[coding.index()].clone()
    }

    /// Takes an empty slot for `flow`. False: it was not empty.
    pub(super) fn begin(&self, coding: Coding, flow: &Arc<Flow>) -> bool {
        let mut slots = self.slots.write();
        let slot = &mut slots[coding.index()];
        let empty = matches!(slot, Slot::Empty);
        if empty {
            *slot = Slot::Running(Arc::clone(flow));
        }
        empty
    }

    pub(super) fn set(&self, coding: Coding, slot: Slot) {
        let mut slots = self.slots.write();
        slots[coding.index()] = slot;
        let whole = slots.iter().map(|slot| match slot {
            Slot::Whole(form) => form.content.bytes,
            _ => 0,
        });
        self.bytes.store(whole.sum(), Ordering::Release);
    }

    /// What is whole.
    pub(super) fn contents(&self) -> Vec<Arc<Content>> {
        let slots = self.slots.read();
        let whole = slots.iter().filter_map(|slot| match slot {
            Slot::Whole(form) => Some(Arc::clone(&form.content)),
            _ => None,
        });
        whole.collect()
    }

    /// Of all whole forms together.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }
}
