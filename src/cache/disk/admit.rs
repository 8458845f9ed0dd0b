//! What is let into the queue: the checks of an offer, cheapest first, and the counting of every refusal.

use std::time::Instant;

use super::index::Accepted;
use super::queue::{Ticket, Work};
use super::segment::{OpenSegment, object_record_bytes};
use super::state::Shared;
use super::{Admission, HEAD_BYTES_MAX, Record, Refusal};

/// Asked for at least so often: not a one-hit wonder.
const ASKED_MIN: u8 = 2;

/// Takes a record, or gives it back with the reason. Counts nothing: it may be tried again.
pub(super) fn offer(shared: &Shared, record: Record) -> Result<Ticket, (Record, Refusal)> {
    if let Err(refusal) = check(shared, &record) {
        return Err((record, refusal));
    }
    let (key, version) = (record.key, record.version);
    let hand_over = shared.hand_over.read();
    // While the index is rebuilt, an older version may be there that nobody has seen yet; its ban is not known either.
    let superseded = match shared.index.accept(key, version) {
        Accepted::Outdated => return Err((record, Refusal::Outdated)),
        Accepted::Superseding(older) => Some(older.ban_number),
        Accepted::New => shared.recovering().then_some(0),
    };
    let bytes = record.bytes();
    let pushed = shared.queue.push(Work::Object { record, superseded });
    drop(hand_over);
    match pushed {
        Ok(ticket) => {
            shared.budget.lock().spend(bytes);
            shared.counters.accepted();
            shared.counters.queue_bytes(shared.queue.filled().0);
            Ok(ticket)
        }
        Err((work, refusal)) => {
            if let Some(ban_number) = superseded {
                remove_known(shared, key, version, ban_number);
            }
            shared.index.leave_queue(key);
            match work {
                Work::Object { record, .. } => Err((record, refusal)),
                Work::Head { .. } | Work::Removal { .. } => unreachable!("an object was pushed"),
            }
        }
    }
}

fn check(shared: &Shared, record: &Record) -> Result<(), Refusal> {
    let bytes = record.bytes();
    let record_bytes = object_record_bytes(record.head.len(), record.body_bytes());
    let fits = record_bytes <= OpenSegment::record_bytes_max(shared.segment_bytes);
    if !fits || bytes > shared.settings.queue_bytes_max || record.head.len() > HEAD_BYTES_MAX as usize {
        return Err(Refusal::TooLarge);
    }
    if let Some(refusal) = shared.refusal() {
        return Err(refusal);
    }
    let asked_for = shared.sketch.estimate(record.key) >= ASKED_MIN;
    if shared.settings.admission == Admission::SecondHit && !asked_for {
        return Err(Refusal::SeenOnce);
    }
    shared.queue.check(bytes)?;
    let mut budget = shared.budget.lock();
    let now = Instant::now();
    // What is left of a scarce budget is for what was asked for before.
    if budget.allows(now) && (asked_for || !budget.is_scarce(now)) { Ok(()) } else { Err(Refusal::OverBudget) }
}

/// A record was refused for good: counts it, and lets go of the older version it was to replace.
pub(super) fn refused(shared: &Shared, record: &Record, refusal: Refusal) -> Refusal {
    let older = shared.index.get(record.key).filter(|found| found.version < record.version);
    if let Some(older) = older {
        remove_known(shared, record.key, older.version, older.ban_number);
    }
    shared.refuse(refusal)
}

/// A new head for a version that is there or on its way.
pub(super) fn replace_head(
    shared: &Shared,
    key: u128,
    version: u64,
    ban_number: u64,
    head: Vec<u8>,
) -> Result<Ticket, Refusal> {
    let fits = object_record_bytes(head.len(), 0) <= OpenSegment::record_bytes_max(shared.segment_bytes);
    if !fits || head.len() > HEAD_BYTES_MAX as usize {
        return Err(shared.refuse(Refusal::TooLarge));
    }
    if let Some(refusal) = shared.refusal() {
        return Err(shared.refuse(refusal));
    }
    if !shared.index.accept_head(key, version) {
        return Err(shared.refuse(Refusal::Outdated));
    }
    shared.budget.lock().spend(head.len() as u64);
    shared.queue.push(Work::Head { key, version, ban_number, head }).map_err(|(_, refusal)| {
        shared.index.leave_queue(key);
        shared.refuse(refusal)
    })
}

/// Nothing of the key up to `version` is found from now on; durable when the ticket resolves.
pub(super) fn remove(shared: &Shared, key: u128, version: u64) -> Result<Ticket, Refusal> {
    let _hand_over = shared.hand_over.read();
    match shared.index.remove(key, version, shared.recovering()) {
        None => Ok(Ticket::done()),
        // What is in the queue, or not yet recovered, has a ban number nobody knows here: none is pruned meanwhile.
        Some(ban_number) => push_removal(shared, key, version, ban_number.unwrap_or(0)),
    }
}

fn remove_known(shared: &Shared, key: u128, version: u64, ban_number: u64) {
    let _hand_over = shared.hand_over.read();
    if shared.index.remove(key, version, true).is_some() {
        // Refused, it is counted, and its ban is kept.
        drop(push_removal(shared, key, version, ban_number));
    }
}

fn push_removal(shared: &Shared, key: u128, version: u64, ban_number: u64) -> Result<Ticket, Refusal> {
    shared.queue.push(Work::Removal { key, version, ban_number }).map_err(|(_, refusal)| {
        shared.index.leave_queue(key);
        shared.refuse(refusal)
    })
}
