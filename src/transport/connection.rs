//! The facts of one client connection, as the edge sees them. They travel in the session's digest (Pingora has a slot for what a
//! proxy told about a connection), so that they are found in every phase and on every protocol.

use super::answer_date::{self, AnswerDate};
use crate::config::Listen;
use http::HeaderValue;
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_http::ResponseHeader;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// The HTTP version a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
    Http3,
}

/// One client connection. Holds nothing of a request.
#[derive(Debug)]
pub struct Connection {
    /// Unique in this process, for logs.
    pub id: u64,
    /// The listener that accepted it.
    pub listener: Arc<Listen>,
    pub tls: bool,
    pub protocol: Protocol,
    /// Who the client is: the peer, or what a trusted peer's PROXY header says. None: a unix socket. IPv4-mapped IPv6 addresses
    /// are given as IPv4.
    pub client: Option<SocketAddr>,
    /// The other end of the socket. None: a unix socket.
    pub peer: Option<SocketAddr>,
    /// What the client connected to: the socket's own address, or what the PROXY header says. None: a unix socket.
    pub local: Option<SocketAddr>,
    /// `Alt-Svc` of its answers (RFC 7838): the listener speaks HTTP/3 too, and this connection does not.
    pub alt_svc: Option<HeaderValue>,
    pub(super) head: HeaderWatch,
    pub(super) unbuffered: AtomicBool,
    pub(super) answer_date: AnswerDate,
    /// So many requests pass by the lane.
    pub(super) beside_lane: AtomicU8,
}

/// Of a connection that asked for something large: it probably asks for more of the kind, and to look in vain costs.
const BESIDE_LANE: u8 = 15;

impl Connection {
    /// Whether the lane looks at the next request.
    pub(super) fn is_in_lane(&self) -> bool {
        let beside = self.beside_lane.load(Ordering::Relaxed);
        self.beside_lane.store(beside.saturating_sub(1), Ordering::Relaxed);
        beside == 0
    }

    /// What was asked for is too large for the lane: it lets some requests pass.
    pub fn leave_lane(&self) {
        self.beside_lane.store(BESIDE_LANE, Ordering::Relaxed);
    }

    /// The edge has the whole request head: the guard stops counting its time and bytes. To be called first thing in the first
    /// phase; on HTTP/2 it does nothing. The next head is watched again by itself.
    pub fn request_begun(&self) {
        self.unbuffered.store(false, Ordering::Relaxed);
        self.head.request_begun();
    }

    /// The answer to this request may pause between its bytes while nobody reads from the client (it follows a running fill):
    /// until the next request each write leaves at once. On HTTP/2, where every write does, it does nothing.
    pub fn answer_may_pause(&self) {
        self.unbuffered.store(self.protocol == Protocol::Http1, Ordering::Relaxed);
    }

    /// What the next answers of this HTTP/1 connection may say of it: `session` learns how many the lane has given meanwhile. To be
    /// called with [`Self::request_begun`].
    pub fn count_quick_answers(&self, session: &mut ServerSession) {
        if self.protocol == Protocol::Http1 && session.get_keepalive_reuses_remaining().is_some() {
            session.set_keepalive_reuses_remaining(Some(self.head.reuses_left()));
        }
    }

    /// Whether an answer's `Date` is one that [`Self::answer_dated`] keeps.
    pub fn keeps_date(date: &[u8]) -> bool {
        answer_date::is_usual(date)
    }

    /// When the answer about to be written was made, as its `Date` says; None: now. On HTTP/2 it does nothing.
    pub fn answer_dated(&self, date: Option<&[u8]>) {
        if self.protocol == Protocol::Http1 {
            self.answer_date.set(date);
        }
    }

    /// The port the client connected to.
    pub fn local_port(&self) -> Option<u16> {
        self.local.map(|address| address.port())
    }
}

/// Whether an HTTP/1 request head is awaited, and of which request: one bit, and a count above it. Beside it, how many more requests
/// may follow the one that is awaited; [`u32::MAX`]: any number.
#[derive(Debug, Default)]
pub struct HeaderWatch(AtomicU64, AtomicU32);

impl HeaderWatch {
    const IN_REQUEST: u64 = 1;

    fn request_begun(&self) {
        self.0.fetch_or(Self::IN_REQUEST, Ordering::AcqRel);
    }

    /// The next read starts a new head; does nothing where one is awaited already.
    pub(super) fn await_head(&self) {
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (state & Self::IN_REQUEST != 0).then_some(state + 1)
        });
    }

    /// How many requests may follow the awaited one; None: any number.
    pub(super) fn set_reuses_left(&self, reuses: Option<u32>) {
        self.1.store(reuses.unwrap_or(u32::MAX), Ordering::Release);
    }

    pub(super) fn reuses_left(&self) -> u32 {
        self.1.load(Ordering::Acquire)
    }

    /// The awaited request has been answered by the lane, and another is awaited.
    pub(super) fn answered_quickly(&self) {
        let left = self.reuses_left();
        self.1.store(if left == u32::MAX { left } else { left.saturating_sub(1) }, Ordering::Release);
    }

    /// The number of the head that is awaited; None while a request is being answered.
    pub(super) fn awaited(&self) -> Option<u64> {
        let state = self.0.load(Ordering::Acquire);
        (state & Self::IN_REQUEST == 0).then_some(state)
    }
}

/// The connection a session runs on; None for sessions that came by no [`super::Listener`] (subrequests).
pub fn connection(digest: &Digest) -> Option<&Arc<Connection>> {
    digest.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
}

/// The digest that [`connection`] reads.
pub(super) fn digest_of(connection: &Arc<Connection>) -> Arc<ProxyDigest> {
    let response = ResponseHeader::build(200, Some(0)).expect("200 is a status");
    Arc::new(ProxyDigest::new(Box::new(response), Some(Box::new(Arc::clone(connection)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_head_is_awaited_once() {
        let watch = HeaderWatch::default();
        assert_eq!(watch.awaited(), Some(0));
        watch.await_head();
        assert_eq!(watch.awaited(), Some(0), "the first head is not counted twice");
        watch.request_begun();
        watch.request_begun();
        assert_eq!(watch.awaited(), None);
        watch.await_head();
        assert_eq!(watch.awaited(), Some(2));
    }
}
