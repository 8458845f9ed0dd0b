//! Whether the process is starting, serving or draining, and how many responses are in flight. `app` moves it forward;
//! `/readyz` and the accept loops read it. It knows no HTTP.

use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use tokio::sync::Notify;

/// From the start of a process to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Starting = 0,
    Serving = 1,
    Draining = 2,
}

/// One per process.
#[derive(Debug)]
pub struct Lifecycle {
    phase: AtomicU8,
    in_flight: AtomicI64,
    idle: Notify,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { phase: AtomicU8::new(Phase::Starting as u8), in_flight: AtomicI64::new(0), idle: Notify::new() }
    }
}

impl Lifecycle {
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    /// Phases only go forward.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// Something that a drain waits for (a connection, a request): held until the guard is dropped.
    pub fn hold(self: &std::sync::Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(std::sync::Arc::clone(self))
    }

    pub fn in_flight(&self) -> i64 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Resolves once nothing is held.
    pub async fn drained(&self) {
        loop {
            let notified = self.idle.notified();
            if self.in_flight() <= 0 {
                return;
            }
            notified.await;
        }
    }
}

/// See [`Lifecycle::hold`].
#[derive(Debug)]
pub struct InFlight(std::sync::Arc<Lifecycle>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
