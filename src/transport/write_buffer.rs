//! Small writes, gathered before TLS: a response head and a small body, or the frames of several HTTP/2 responses, become one
//! record and one segment. Large writes are not copied; they leave together with what was gathered before them.
//!
//! Invariant: it holds at most [`BYTES_MAX`] bytes, allocated as they are needed.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// What one TLS record can hold (RFC 8446, section 5.1).
const BYTES_MAX: usize = 16 * 1024;
/// Slices of one large write that are passed on together.
const SLICES_MAX: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    bytes: Vec<u8>,
    /// How many of `bytes` have been written.
    written: usize,
}

impl WriteBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds bytes that `write` makes, all or none: none where it gives None, or more than fits.
    pub(super) fn gather<T>(&mut self, write: impl FnOnce(&mut Vec<u8>, usize) -> Option<T>) -> Option<T> {
        let had = self.bytes.len();
        let made = write(&mut self.bytes, BYTES_MAX - had).filter(|_| self.bytes.len() <= BYTES_MAX);
        if made.is_none() {
            self.bytes.truncate(had);
        }
        made
    }

    /// What the last write added, `count` bytes; nothing where it was written through.
    pub(super) fn gathered_last(&mut self, count: usize) -> &mut [u8] {
        let start = self.bytes.len().saturating_sub(count);
        if self.bytes.len() < count { &mut [] } else { &mut self.bytes[start..] }
    }

    /// Takes what fits, else writes through.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.bytes.len() + total <= BYTES_MAX {
            slices.iter().for_each(|slice| self.bytes.extend_from_slice(slice));
            return Poll::Ready(Ok(total));
        }
        loop {
            let gathered = self.bytes.len() - self.written;
            let mut all = [IoSlice::new(&[]); SLICES_MAX];
            all[0] = IoSlice::new(&self.bytes[self.written..]);
            let own = usize::from(gathered > 0);
            let count = slices.len().min(SLICES_MAX - own);
            all[own..own + count].copy_from_slice(&slices[..count]);
            let done = ready!(Pin::new(&mut *io).poll_write_vectored(cx, &all[..own + count]))?;
            match done.checked_sub(gathered) {
                Some(0) if done == 0 => return Poll::Ready(Ok(0)),
                Some(beyond) => {
                    self.clear();
                    if beyond > 0 {
                        return Poll::Ready(Ok(beyond));
                    }
                }
                None if done == 0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                None => self.written += done,
            }
        }
    }

    /// Writes what was gathered, and flushes.
    pub(super) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            match ready!(Pin::new(&mut *io).poll_write(cx, &self.bytes[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                done => self.written += done,
            }
        }
        self.clear();
        Pin::new(io).poll_flush(cx)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::task::Waker;

    /// Takes `step` bytes at a time, and is not ready every other time.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        step: usize,
        busy: bool,
        vectored: bool,
    }

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.busy = !self.busy;
            if self.busy {
                return Poll::Pending;
            }
            let some = buf.len().min(self.step);
            self.taken.extend_from_slice(&buf[..some]);
            Poll::Ready(Ok(some))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let count = if self.vectored { bufs.len() } else { 1 };
            let all: Vec<u8> =
                bufs.iter().filter(|buf| !buf.is_empty()).take(count).flat_map(|buf| buf.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn bytes_leave_in_order_and_once(
            writes in prop::collection::vec(prop::collection::vec(0usize..20_000, 1..12), 1..8),
            step in 1000usize..50_000,
            vectored: bool,
        ) {
            let cx = &mut Context::from_waker(Waker::noop());
            let (mut buffer, mut io) = (WriteBuffer::default(), Slow { step, vectored, ..Slow::default() });
            let mut sent = Vec::new();
            for lengths in writes {
                let parts: Vec<Vec<u8>> = lengths.into_iter().map(|n| (sent.len()..sent.len() + n).map(|i| i as u8).collect()).collect();
                let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
                if let Poll::Ready(done) = buffer.poll_write(&mut io, cx, &slices) {
                    sent.extend_from_slice(&parts.concat()[..done.unwrap()]);
                }
                prop_assert!(buffer.bytes.len() <= BYTES_MAX);
            }
            while buffer.poll_flush(&mut io, cx).is_pending() {}
            prop_assert_eq!(io.taken, sent);
        }
    }
}
