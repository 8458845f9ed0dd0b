//! Whose turn it is to hand bytes to QUIC, among the answers of one connection (RFC 9218, section 10).
//!
//! quinn sends what it holds in the order of priorities, but takes it from whoever comes first, as far as its window and the client's
//! credit reach: an answer that began earlier would fill both, and what is urgent would get its share by chance. So while a more urgent
//! answer is under way, the others hand over little at a time.
//!
//! Invariant: each may hand over a piece after [`WAIT_MAX`] at the latest, so an urgent answer that stalls holds up nobody for good.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What an answer hands over at once while a more urgent one is under way.
pub const PIECE_BYTES: usize = 64 << 10;
const WAIT_MAX: Duration = Duration::from_millis(20);
const STEP: Duration = Duration::from_millis(2);
/// An answer is under way for so long after it handed something over: its next bytes come any moment.
const PAUSE_MAX: Duration = Duration::from_millis(10);
/// And for so long while its client takes nothing.
const STALL_MAX: Duration = Duration::from_millis(500);

/// The answers of one connection.
#[derive(Debug)]
pub struct Turns {
    answers: Mutex<Vec<Arc<Answer>>>,
    since: Instant,
}

#[derive(Debug)]
struct Answer {
    priority: AtomicI32,
    /// Milliseconds since the connection began.
    under_way_until: AtomicU64,
}

/// One answer's place. Dropped, it holds up nobody.
#[derive(Debug)]
pub struct Turn {
    all: Arc<Turns>,
    own: Arc<Answer>,
    waiting_since: Option<Instant>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { answers: Mutex::default(), since: Instant::now() }
    }
}

impl Turns {
    /// `priority`: higher goes first; [`Turn::set_priority`] changes it.
    pub fn take(self: &Arc<Self>, priority: i32) -> Turn {
        let own = Arc::new(Answer { priority: AtomicI32::new(priority), under_way_until: AtomicU64::new(0) });
        self.answers.lock().push(Arc::clone(&own));
        Turn { all: Arc::clone(self), own, waiting_since: None }
    }

    fn after(&self, time: Duration) -> u64 {
        (self.since.elapsed() + time).as_millis() as u64
    }
}

impl Turn {
    pub fn set_priority(&self, priority: i32) {
        self.own.priority.store(priority, Ordering::Relaxed);
    }

    /// Waits for this answer's turn. True: a more urgent one is under way, so no more than [`PIECE_BYTES`] may be handed over. Cancel-safe:
    /// the time counts across calls.
    pub async fn come(&mut self) -> bool {
        let contended = loop {
            if !self.is_behind() {
                break false;
            }
            if self.waiting_since.get_or_insert_with(Instant::now).elapsed() >= WAIT_MAX {
                break true;
            }
            sleep(STEP).await;
        };
        self.waiting_since = None;
        self.own.under_way_until.store(self.all.after(STALL_MAX), Ordering::Relaxed);
        contended
    }

    /// Something was handed over.
    pub fn progressed(&self) {
        self.own.under_way_until.store(self.all.after(PAUSE_MAX), Ordering::Relaxed);
    }

    fn is_behind(&self) -> bool {
        let own = self.own.priority.load(Ordering::Relaxed);
        let now = self.all.after(Duration::ZERO);
        let ahead = |other: &Arc<Answer>| {
            other.priority.load(Ordering::Relaxed) > own && other.under_way_until.load(Ordering::Relaxed) > now
        };
        self.all.answers.lock().iter().any(ahead)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.all.answers.lock().retain(|answer| !Arc::ptr_eq(answer, &self.own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_less_urgent_answer_waits_and_is_not_starved() {
        let turns = Arc::new(Turns::default());
        let (mut urgent, mut other) = (turns.take(5), turns.take(1));
        assert!(!other.come().await, "nobody else is under way");
        other.progressed();
        assert!(!urgent.come().await, "what is less urgent is in nobody's way");
        assert!(other.come().now_or_never().is_none());
        assert!(other.come().await, "a piece all the same");
        let stalled = Instant::now();
        while other.come().await {
            assert!(stalled.elapsed() < 20 * STALL_MAX, "an urgent answer that stalls is not waited for");
        }
    }

    #[tokio::test]
    async fn an_answer_that_ended_or_became_less_urgent_is_not_waited_for() {
        let turns = Arc::new(Turns::default());
        let (mut urgent, mut other) = (turns.take(5), turns.take(1));
        let _ = urgent.come().await;
        urgent.set_priority(0);
        assert_eq!(other.come().now_or_never(), Some(false));
        urgent.set_priority(9);
        assert!(other.come().now_or_never().is_none());
        drop(urgent);
        assert_eq!(other.come().now_or_never(), Some(false));
    }
}
