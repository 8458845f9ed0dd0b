//! The lane, as one connection has it: which reads are offered to it ([`crate::transport::Lane`]), and when the next one is read.
//!
//! Invariants: what is offered begins a head and was read at once; the next head is not read before the socket has the answer.

use super::Guarded;
use crate::transport::lane::{Answered, Lane};
use pingora_core::protocols::IO;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;
use tokio::sync::watch;

/// See the module.
#[derive(Debug)]
pub(super) struct QuickLane {
    lane: Arc<dyn Lane>,
    /// True: the process stops, and answers say that the connection ends.
    shutdown: watch::Receiver<bool>,
    /// Its answer is in `out`.
    answered: Option<Box<dyn Answered>>,
}

impl<S: IO> Guarded<S> {
    /// Offers requests to `lane` until `shutdown` turns true.
    pub(in crate::transport) fn with_lane(mut self, lane: Arc<dyn Lane>, shutdown: watch::Receiver<bool>) -> Self {
        self.lane = Some(QuickLane { lane, shutdown, answered: None });
        self
    }

    /// HTTP/1 while head `number` is awaited: what the lane does not answer.
    pub(super) fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        number: u64,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_answered(cx))?;
            let start = buf.filled().len();
            let again = self.replay.len().min(buf.remaining());
            buf.put_slice(&self.replay[..again]);
            self.replay.drain(..again);
            let begins = self.head.number != number || self.head.bytes == again;
            match self.poll_head(cx, buf, number) {
                Poll::Ready(Ok(())) => {}
                Poll::Pending if again > 0 => {}
                other => return other,
            }
            if !begins || !self.is_answered(&buf.filled()[start..]) {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(start);
        }
    }

    /// Whether the lane has answered what was read.
    fn is_answered(&mut self, head: &[u8]) -> bool {
        let (Some(quick), Some((connection, _))) = (&mut self.lane, &self.connection) else { return false };
        if connection.head.reuses_left() == 0 || !self.out.is_empty() || *quick.shutdown.borrow() {
            return false;
        }
        if !connection.is_in_lane() {
            return false;
        }
        quick.answered = self.out.gather(|out, room| quick.lane.answer(connection, head, out, room));
        if quick.answered.is_none() {
            return false;
        }
        tracing::trace!(connection = connection.id, "answered at once");
        connection.head.answered_quickly();
        (self.head.bytes, self.head.due) = (0, None);
        true
    }

    /// Ready once the lane's latest answer is with the socket.
    pub(super) fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lane.as_ref().is_none_or(|quick| quick.answered.is_none()) {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(self.poll_flush_now(cx));
        if let Some(answered) = self.lane.as_mut().and_then(|quick| quick.answered.take()) {
            answered.end(flushed.as_ref().copied());
        }
        Poll::Ready(flushed)
    }
}
