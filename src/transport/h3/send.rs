//! What goes out on a request's stream. Frames are queued as they are, cached bytes among them uncopied, and leave as the client
//! takes them; whoever waits for that may give up waiting and come back: nothing is lost or sent twice.
//!
//! Invariant: a stream that is dropped before [`Sender::finish`] is reset. QUIC's own end of a dropped stream would make a
//! truncated body look whole.

use super::code::Code;
use super::turns::{PIECE_BYTES, Turn};
use super::wire;
use bytes::Bytes;
use quinn::{SendStream, WriteError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Why nothing more can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// The client took nothing for so long.
    Stalled,
    /// The client wants no more of it.
    Stopped,
    /// The connection is gone, or the stream was reset by us.
    Lost,
}

/// See the module.
#[derive(Debug)]
pub struct Sender {
    stream: SendStream,
    queue: VecDeque<Bytes>,
    /// Bytes that were pushed and have not been sent; after a reset they never will be.
    queued: usize,
    /// When the client first took nothing of what waits now.
    stalled: Option<Instant>,
    ended: bool,
    reset: Code,
    /// As the client wants it now, and as the stream has it.
    priority: Arc<AtomicI32>,
    applied: i32,
    turn: Turn,
}

impl Sender {
    pub fn new(stream: SendStream, priority: Arc<AtomicI32>, turn: Turn) -> Self {
        Self {
            stream,
            queue: VecDeque::new(),
            queued: 0,
            stalled: None,
            ended: false,
            reset: Code::INTERNAL_ERROR,
            priority,
            applied: 0,
            turn,
        }
    }

    pub fn push_section(&mut self, section: &Bytes) {
        let frame = wire::frame(wire::HEADERS, section);
        self.push(frame);
    }

    pub fn push_data(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.push(wire::data_head(data.len()));
            self.push(data);
        }
    }

    fn push(&mut self, bytes: Bytes) {
        self.queued += bytes.len();
        self.queue.push_back(bytes);
    }

    /// Bytes that were pushed and have not been sent.
    pub fn unsent(&self) -> usize {
        self.queued
    }

    pub fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Hands all that waits to QUIC, which holds no more of it than its window. Cancel-safe; `stall_timeout` counts across calls.
    pub async fn flush(&mut self, stall_timeout: Option<Duration>) -> Result<(), Unsent> {
        let wanted = self.priority.load(Ordering::Relaxed);
        if wanted != self.applied {
            self.applied = wanted;
            // A stream that has ended needs none.
            let _ = self.stream.set_priority(wanted);
            self.turn.set_priority(wanted);
        }
        while !self.queue.is_empty() {
            let pieces = if self.turn.come().await { self.cut_a_piece() } else { self.queue.len() };
            let write = self.stream.write_chunks(&mut self.queue.make_contiguous()[..pieces]);
            let written = match stall_timeout {
                None => write.await,
                Some(limit) => {
                    let due = *self.stalled.get_or_insert_with(Instant::now) + limit;
                    timeout_at(due, write).await.map_err(|_| Unsent::Stalled)?
                }
            };
            let written = written.map_err(|error| match error {
                WriteError::Stopped(_) => Unsent::Stopped,
                _ => Unsent::Lost,
            })?;
            self.stalled = None;
            self.turn.progressed();
            self.queue.drain(..written.chunks);
            self.queued -= written.bytes;
        }
        Ok(())
    }

    /// Makes the first of the queue no longer than a piece; how many that are.
    fn cut_a_piece(&mut self) -> usize {
        if let Some(first) = self.queue.front_mut().filter(|first| first.len() > PIECE_BYTES) {
            let piece = first.split_to(PIECE_BYTES);
            self.queue.push_front(piece);
        }
        1
    }

    /// The clean end, once everything has been flushed.
    pub fn finish(&mut self) {
        debug_assert!(self.queue.is_empty());
        if !std::mem::replace(&mut self.ended, true) {
            // The client may have stopped it just now.
            let _ = self.stream.finish();
        }
    }

    /// Why the stream is reset, should it be dropped before its end.
    pub fn reset_with(&mut self, code: Code) {
        self.reset = code;
    }

    /// The unclean end.
    pub fn abort(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.queue.clear();
            let _ = self.stream.reset(self.reset.into());
        }
    }

    /// Resolves when the client wants no more, has everything, or is gone.
    pub fn stopped(&self) -> impl Future<Output = Stopped> + Send + Sync + use<> {
        let stopped = self.stream.stopped();
        async move {
            match stopped.await {
                Ok(None) => Stopped::Delivered,
                Ok(Some(_)) => Stopped::Cancelled,
                Err(_) => Stopped::Lost,
            }
        }
    }
}

/// How a client's side of an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    Delivered,
    Cancelled,
    Lost,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.abort();
    }
}
