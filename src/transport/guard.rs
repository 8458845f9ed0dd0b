//! A stream between TLS (or the socket) and HTTP that bounds what Pingora does not.
//!
//! - HTTP/1, while a request head is awaited (until [`super::Connection::request_begun`]): its whole time and its bytes. Pingora
//!   limits the time of each read only, and takes 1 MiB. On either limit the guard answers 408 or 431 itself, closes in an
//!   orderly way and then reports the end of the stream. Without a byte of it, the connection is idle: closed in silence after
//!   `idle_timeout`, or at once when the process stops.
//! - HTTP/2: the connection's first frames, then silence in both directions; frames that only cost CPU time (`control_frames`);
//!   request bodies that stop coming (`uploads`).
//! - Both: small writes are gathered (`write_buffer`). HTTP/2 flushes after every frame of data: there a flush waits for the
//!   connection's next turn, so that responses which are ready together leave together.
//! - Both: a write that makes no progress for `stall_timeout`.
//!
//! It also sends each write of an answer that may pause on its way at once ([`Connection::answer_may_pause`]), through TLS and the
//! socket's buffer. Where the client's socket is full just then, the rest of it leaves with the next write.
//!
//! Reads of a head stop at `header_bytes_max`. If HTTP asks for more, the head was not whole by then, so the limit is exact;
//! body bytes read along with a head are never counted against it. Bytes of a next request read along with a body are HTTP's
//! affair: Pingora then does not keep the connection, and the guard never sees them again.
//!
//! What is a whole head and nothing else is offered to the lane (`lane`) first; HTTP never sees a request that was answered there.
//!
//! Invariants: it changes no byte (but resets a stream of HTTP/2 whose body has stopped) and knows no header field (but for
//! `answer_date`), and passes all digests through.

mod facts;
mod quick;
mod refusal;
mod stall;

use super::connection::{Connection, Protocol, digest_of};
use super::control_frames::ControlFrames;
use super::uploads::{self, Patience};
use super::write_buffer::WriteBuffer;
use crate::config::Limits;
use crate::observe::Metrics;
use pingora_core::protocols::IO;
use pingora_core::protocols::raw_connect::ProxyDigest;
use quick::QuickLane;
use refusal::Refusal;
use stall::Stall;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// RFC 9113, section 3.4.
pub(super) const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// See the module. One per connection.
#[derive(Debug)]
pub(super) struct Guarded<S: IO> {
    inner: S,
    out: WriteBuffer,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    lane: Option<QuickLane>,
    /// Set once the protocol is known; until then bytes count as an HTTP/1 head.
    connection: Option<(Arc<Connection>, Arc<ProxyDigest>)>,
    /// Bytes read to tell the protocol, or said for the client, to be read next.
    replay: Vec<u8>,
    head: Head,
    control_frames: ControlFrames,
    end: End,
    write_stall: Stall,
}

/// The head that is awaited (HTTP/1), or the connection's first bytes (HTTP/2).
#[derive(Debug)]
struct Head {
    number: u64,
    bytes: usize,
    /// The head that was answered without having been one.
    unparsed: Option<u64>,
    timer: Pin<Box<Sleep>>,
    /// HTTP/1: when what is awaited (the head, or the rest of it) is too late; set when it is first waited for.
    due: Option<Instant>,
    /// HTTP/2: when a byte last went either way.
    active: Instant,
}

#[derive(Debug)]
enum End {
    Open,
    Refusing(Refusal),
    Closed,
}

impl<S: IO> Guarded<S> {
    /// `closing` is cancelled when the process stops.
    pub(super) fn new(inner: S, limits: Arc<Limits>, metrics: Arc<Metrics>, closing: CancellationToken) -> Self {
        let timer = Box::pin(sleep(limits.idle_timeout));
        Self {
            inner,
            out: WriteBuffer::default(),
            limits,
            metrics,
            closing: Box::pin(closing.cancelled_owned()),
            lane: None,
            connection: None,
            replay: Vec::new(),
            head: Head { number: 0, bytes: 0, unparsed: None, timer, due: None, active: Instant::now() },
            control_frames: ControlFrames::default(),
            end: End::Open,
            write_stall: Stall::default(),
        }
    }

    /// Reads up to the first byte that differs from HTTP/2's preface; what was read is read again later. Under the limits of an
    /// HTTP/1 head. An error: the connection ended first.
    pub(super) async fn begins_with_preface(&mut self) -> io::Result<bool> {
        while H2_PREFACE.starts_with(&self.replay) {
            if self.replay.len() == H2_PREFACE.len() {
                return Ok(true);
            }
            let mut chunk = [0; H2_PREFACE.len()];
            let wanted = H2_PREFACE.len() - self.replay.len();
            let read = std::future::poll_fn(|cx| {
                let mut buf = ReadBuf::new(&mut chunk[..wanted]);
                ready!(self.poll_head(cx, &mut buf, 0))?;
                Poll::Ready(io::Result::Ok(buf.filled().len()))
            })
            .await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.replay.extend_from_slice(&chunk[..read]);
        }
        Ok(false)
    }

    /// From here on `connection` decides which rules hold, and the digests tell of it.
    pub(super) fn attach(&mut self, connection: Arc<Connection>) {
        if connection.protocol == Protocol::Http2 {
            self.head.active = Instant::now();
            self.head.timer.as_mut().reset(self.head.active + self.limits.header_timeout);
        }
        let digest = digest_of(&connection);
        self.connection = Some((connection, digest));
    }

    /// HTTP/1 while head `number` is awaited.
    fn poll_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, number: u64) -> Poll<io::Result<()>> {
        if let Some(end) = self.poll_end(cx) {
            return end.map(Ok);
        }
        if self.head.number != number {
            self.head.number = number;
            self.head.bytes = 0;
            self.head.due = None;
        }
        let left = self.limits.header_bytes_max.saturating_sub(self.head.bytes);
        if left == 0 {
            return self.refuse(cx, Refusal::headers_too_large(), "header_bytes");
        }
        match poll_read_at_most(&mut self.inner, cx, buf, left) {
            Poll::Ready(Ok(read)) => {
                if self.head.bytes == 0 {
                    self.head.due = None;
                }
                self.head.bytes += read;
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {}
        }
        if self.head.bytes == 0 {
            if self.closing.as_mut().poll(cx).is_ready() || self.head.is_late(cx, self.limits.idle_timeout) {
                return self.close(cx);
            }
        } else if self.head.is_late(cx, self.limits.header_timeout) {
            return self.refuse(cx, Refusal::timed_out(), "header_timeout");
        }
        Poll::Pending
    }

    /// HTTP/2: `header_timeout` for the preface and the frame header after it, then silence only.
    fn poll_frames(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(end) = self.poll_end(cx) {
            return end.map(Ok);
        }
        let had = buf.filled().len();
        if Pin::new(&mut self.inner).poll_read(cx, buf)?.is_ready() {
            self.head.active = Instant::now();
            self.head.bytes = self.head.bytes.saturating_add(buf.filled().len() - had);
            if !self.control_frames.read(&buf.filled()[had..], self.head.active) {
                self.metrics.limits_reached.with_label_values(&["control_frames"]).inc();
                let reason = "more HTTP/2 control frames than a client needs";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason)));
            }
            return Poll::Ready(Ok(()));
        }
        let started = self.head.bytes > H2_PREFACE.len();
        if !started && self.closing.as_mut().poll(cx).is_ready() {
            return self.close(cx);
        }
        let silence_max = if started { self.silence_max() } else { self.limits.header_timeout };
        let patience = Patience { stall: self.limits.stall_timeout, longest: self.silence_max() };
        loop {
            let upload_due = self.upload_due(patience);
            if upload_due.is_some_and(|due| due < self.head.timer.deadline()) {
                self.head.timer.as_mut().reset(upload_due.expect("it was just seen"));
            }
            // The timer is not moved with each byte, only looked at when it fires.
            ready!(self.head.timer.as_mut().poll(cx));
            let now = Instant::now();
            let due = self.head.active + silence_max;
            if due <= now {
                return self.close(cx);
            }
            if upload_due.is_some_and(|due| due <= now) {
                self.metrics.limits_reached.with_label_values(&["stall_timeout"]).inc();
                // Within a frame these would be its bytes.
                let between = self.control_frames.half_read_since().is_none();
                let stream = between.then(|| self.control_frames.uploads.take_due(patience, now)).flatten();
                let Some(stream) = stream else { return self.close(cx) };
                self.replay.extend(uploads::reset(stream));
                self.read_again(buf);
                return Poll::Ready(Ok(()));
            }
            self.head.timer.as_mut().reset(upload_due.map_or(due, |upload_due| upload_due.min(due)));
        }
    }

    /// When a request's body has paused too long: then HTTP is told that the client has reset that stream. Within a frame nothing
    /// can be told, so a frame without its rest ends the connection.
    fn upload_due(&self, patience: Patience) -> Option<Instant> {
        match self.control_frames.half_read_since() {
            Some(since) => Some(since + patience.stall),
            None => self.control_frames.uploads.due(patience),
        }
    }

    fn read_again(&mut self, buf: &mut ReadBuf<'_>) {
        let again = self.replay.len().min(buf.remaining());
        buf.put_slice(&self.replay[..again]);
        self.replay.drain(..again);
    }

    /// A stream may wait for a slow origin or an event; nobody waits longer than the longest of these.
    fn silence_max(&self) -> Duration {
        self.limits.upgrade_idle_timeout.max(self.limits.idle_timeout).max(self.limits.stall_timeout)
    }

    /// Some: no more is read from the client.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Option<Poll<()>> {
        match &mut self.end {
            End::Open => None,
            End::Closed => Some(Poll::Ready(())),
            End::Refusing(refusal) => {
                let done = refusal.poll(&mut self.inner, cx);
                if done.is_ready() {
                    self.end = End::Closed;
                }
                Some(done)
            }
        }
    }

    fn refuse(&mut self, cx: &mut Context<'_>, refusal: Refusal, limit: &str) -> Poll<io::Result<()>> {
        self.metrics.limits_reached.with_label_values(&[limit]).inc();
        self.count_refused(refusal.status());
        tracing::debug!(connection = self.connection.as_ref().map(|(c, _)| c.id), limit, "request refused");
        self.end = End::Refusing(refusal);
        self.poll_end(cx).expect("it was just set").map(Ok)
    }

    /// A request that never reached the edge's phases, and so is in no access log: it has no target to speak of.
    fn count_refused(&self, status: &str) {
        self.metrics.requests.with_label_values(&["none", "h1", "other", "none", status]).inc();
    }

    /// HTTP/1: an answer while a head is still awaited is Pingora's own 400 to bytes that are no request.
    fn note_unparsed(&mut self) {
        let Some((connection, _)) = &self.connection else { return };
        let awaited = connection.head.awaited().filter(|_| connection.protocol == Protocol::Http1);
        if awaited.is_some_and(|number| self.head.unparsed != Some(number)) {
            self.head.unparsed = awaited;
            tracing::debug!(connection = connection.id, "what a client sent is no request; answered with 400");
            self.count_refused("400");
        }
    }

    /// The end of an idle connection; the client is told where the socket takes it at once.
    fn close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.end = End::Closed;
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.note_unparsed();
        let written = self.out.poll_write(&mut self.inner, cx, bufs);
        if let (Poll::Ready(Ok(count @ 1..)), Some((connection, _))) = (&written, &self.connection)
            && connection.answer_date.is_awaited()
        {
            connection.answer_date.mend(self.out.gathered_last(*count));
        }
        if let Poll::Ready(Ok(count @ 1..)) = &written {
            self.control_frames.sent(*count);
            self.send_if_unbuffered(cx);
        }
        self.watch(cx, written)
    }

    /// After a write was taken.
    fn send_if_unbuffered(&mut self, cx: &mut Context<'_>) {
        if self.connection.as_ref().is_some_and(|(c, _)| c.unbuffered.load(Ordering::Relaxed)) {
            // An error meets the next write too.
            let _ = self.out.poll_flush(&mut self.inner, cx);
        }
    }

    fn is_http2(&self) -> bool {
        self.connection.as_ref().is_some_and(|(connection, _)| connection.protocol == Protocol::Http2)
    }

    fn poll_flush_now(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.out.poll_flush(&mut self.inner, cx);
        self.watch(cx, flushed)
    }

    /// Turns a write that stays pending for too long into an error.
    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_stall.armed = false;
            if self.is_http2() {
                self.head.active = Instant::now();
            }
            return written;
        }
        ready!(self.write_stall.poll(cx, self.limits.stall_timeout));
        self.metrics.limits_reached.with_label_values(&["stall_timeout"]).inc();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no more of the response")))
    }
}

impl Head {
    /// Whether `limit` has passed since this was first waited for. The timer is set back only where it would fire too late; where
    /// it fires too early it is set on. So a connection that is busy moves no timer at all.
    fn is_late(&mut self, cx: &mut Context<'_>, limit: Duration) -> bool {
        let due = *self.due.get_or_insert_with(|| Instant::now() + limit);
        if self.timer.deadline() > due {
            self.timer.as_mut().reset(due);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.timer.deadline() >= due {
                return true;
            }
            self.timer.as_mut().reset(due);
        }
        false
    }
}

fn poll_read_at_most<S: AsyncRead + Unpin>(
    io: &mut S,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
    max: usize,
) -> Poll<io::Result<usize>> {
    if buf.remaining() <= max {
        // Without the sub-buffer below, which has to be zeroed first.
        let had = buf.filled().len();
        ready!(Pin::new(io).poll_read(cx, buf))?;
        return Poll::Ready(Ok(buf.filled().len() - had));
    }
    let wanted = max;
    let mut part = ReadBuf::new(buf.initialize_unfilled_to(wanted));
    ready!(Pin::new(io).poll_read(cx, &mut part))?;
    let read = part.filled().len();
    buf.advance(read);
    Poll::Ready(Ok(read))
}

impl<S: IO> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_answered(cx))?;
        // Whoever reads has nothing more to write for now: an origin that pauses must not hold back the head of its answer.
        // Not yet flushed is no reason not to read.
        if !this.out.is_empty()
            && let Poll::Ready(Err(error)) = this.poll_flush_now(cx)
        {
            return Poll::Ready(Err(error));
        }
        let awaited = this.connection.as_ref().filter(|(connection, _)| connection.protocol == Protocol::Http1);
        if let Some(number) = awaited.and_then(|(connection, _)| connection.head.awaited()) {
            return this.poll_request(cx, buf, number);
        }
        if !this.replay.is_empty() {
            this.read_again(buf);
            return Poll::Ready(Ok(()));
        }
        let Some((connection, _)) = &this.connection else { return this.poll_head(cx, buf, 0) };
        match connection.protocol {
            Protocol::Http2 => this.poll_frames(cx, buf),
            Protocol::Http1 | Protocol::Http3 => Pin::new(&mut this.inner).poll_read(cx, buf),
        }
    }
}

impl<S: IO> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, &[IoSlice::new(buf)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_http2() && !this.out.is_empty() {
            // The next turn begins with a read, which flushes.
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        this.poll_flush_now(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_flush_now(cx))?;
        let closed = Pin::new(&mut this.inner).poll_shutdown(cx);
        this.watch(cx, closed)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

impl<S: IO> Drop for Guarded<S> {
    /// What was written but not flushed leaves if the socket takes it at once; nobody waits for it.
    fn drop(&mut self) {
        if !self.out.is_empty() {
            let _ = self.out.poll_flush(&mut self.inner, &mut Context::from_waker(Waker::noop()));
        }
    }
}
