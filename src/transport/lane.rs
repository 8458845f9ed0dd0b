//! The lane: requests that are answered from memory at once, before Pingora's HTTP/1 sees them. For a hit of a kilobyte its sessions,
//! boxed futures and maps of fields cost several times what answering does.
//!
//! [`super::guard`] offers each request head that it read whole, and nothing beside it, to a [`Lane`]. What the lane does not take
//! goes to Pingora with the bytes read so far, as if there were no lane.
//!
//! Invariants: a lane never waits, and either answers whole or has done nothing. It is not asked about the last request that a
//! connection may bring, nor while the process stops, nor while something is still to be written: those answers are not as others.

use super::connection::Connection;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Who answers some requests at once.
pub trait Lane: fmt::Debug + Send + Sync {
    /// `head`: what was read, beginning with a request. The answer is added to `out`, `room` bytes at most, and the connection kept.
    /// None: it is not for the lane; then nothing may have been done, and what was added to `out` is dropped.
    fn answer(
        &self,
        connection: &Arc<Connection>,
        head: &[u8],
        out: &mut Vec<u8>,
        room: usize,
    ) -> Option<Box<dyn Answered>>;
}

/// An answer on its way to the socket. Dropped without a word where the connection's task is.
pub trait Answered: fmt::Debug + Send + Sync {
    /// The socket has all of it, or failed.
    fn end(self: Box<Self>, outcome: Result<(), &io::Error>);
}
