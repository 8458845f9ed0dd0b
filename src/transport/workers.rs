//! The threads that serve connections. Each has a runtime of its own, so a connection and all its requests stay on one thread:
//! nothing is stolen, waking a task crosses no thread, and the requests of one HTTP/2 connection that are ready together are
//! answered before the connection writes, in one go. (Tokio's multi-threaded runtime runs a task that was just woken first, which
//! there means a write and a TLS record for each response.)
//!
//! A new connection goes to the worker with the fewest. Invariant: work that may block does not belong here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// See the module. The threads end when this is dropped, and their connections with them.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

/// A connection's place on a worker, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) runtime: Handle,
    connections: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts `threads` threads, at least one.
    pub fn start(threads: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let start = |_| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let worker = Worker { runtime: runtime.handle().clone(), connections: Arc::default() };
            let stopped = stop.clone().cancelled_owned();
            std::thread::Builder::new().name("reelgate-worker".to_owned()).spawn(move || {
                runtime.block_on(stopped);
                // Not waiting for name look-ups that may still run on its blocking threads.
                runtime.shutdown_background();
            })?;
            Ok(worker)
        };
        let workers = (0..threads.max(1)).map(start).collect::<io::Result<_>>()?;
        Ok(Self { workers, _stop: stop.drop_guard() })
    }

    pub(super) fn threads(&self) -> usize {
        self.workers.len()
    }

    pub(super) fn take(&self) -> Place {
        let least = self.workers.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed));
        let worker = least.expect("there is at least one");
        worker.connections.fetch_add(1, Ordering::Relaxed);
        Place { runtime: worker.runtime.clone(), connections: Arc::clone(&worker.connections) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_spread_evenly() {
        let workers = Workers::start(2).unwrap();
        let (first, second) = (workers.take(), workers.take());
        assert!(!Arc::ptr_eq(&first.connections, &second.connections));
        let freed = Arc::clone(&second.connections);
        drop(second);
        assert!(Arc::ptr_eq(&workers.take().connections, &freed), "the worker with the fewest is next");
    }
}
