//! Waiting. Every wait has an end: `REELGATE_TEST_PATIENCE_S` seconds (default 20; raise it on a slow machine).

use parking_lot::{Condvar, Mutex};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The longest a test waits for something that must happen.
pub fn patience() -> Duration {
    let seconds = std::env::var("REELGATE_TEST_PATIENCE_S").ok().and_then(|s| s.parse().ok()).unwrap_or(20);
    Duration::from_secs(seconds)
}

/// Time that must pass because the test is about time (a slow drip, a gap between probes); never a way to wait for something.
#[expect(clippy::disallowed_methods, reason = "the one place where a test's thread may sleep")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Polls until `probe` holds; fails the test, naming `what`, when patience ends.
#[track_caller]
pub fn eventually(what: &str, mut probe: impl FnMut() -> bool) {
    wait_for(what, || probe().then_some(()));
}

/// Polls until `probe` gives something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    wait_for_long(what, patience(), &mut probe)
}

/// The same, of what takes longer.
#[track_caller]
pub fn wait_for_long<T>(what: &str, longest: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + longest;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "still not so after {longest:?}: {what}");
        pause(Duration::from_millis(20));
    }
}

/// A port that was free a moment ago, below the kernel's range for outgoing connections, so that only another picker can
/// take it; whoever starts a server on it tries again on a clash.
pub fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(10_000..32_000);
        let free = TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("::1", port)).is_ok();
        if free || (TcpListener::bind("[::1]:0").is_err() && TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return port;
        }
    }
}

/// Holds whoever waits at it until the test opens it.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    open: Mutex<bool>,
    opened: Condvar,
    arrived: AtomicUsize,
}

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn open(&self) {
        *self.0.open.lock() = true;
        self.0.opened.notify_all();
    }

    pub fn close(&self) {
        *self.0.open.lock() = false;
    }

    pub fn is_open(&self) -> bool {
        *self.0.open.lock()
    }

    /// How many have come to the gate so far.
    pub fn arrived(&self) -> usize {
        self.0.arrived.load(Ordering::SeqCst)
    }

    /// Waits until the gate is open; false: patience ended, or `cancelled` said so.
    pub fn wait(&self, cancelled: impl Fn() -> bool) -> bool {
        self.0.arrived.fetch_add(1, Ordering::SeqCst);
        let deadline = Instant::now() + 3 * patience();
        let mut open = self.0.open.lock();
        while !*open {
            if cancelled() || Instant::now() > deadline {
                return false;
            }
            self.0.opened.wait_for(&mut open, Duration::from_millis(50));
        }
        true
    }
}
