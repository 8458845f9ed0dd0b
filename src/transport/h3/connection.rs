//! One QUIC connection, from its handshake to its end: the control streams, requests as they come, silence, and leaving in good
//! order (RFC 9114, section 5.2). It stays on the worker it was placed on, with all its requests.

use super::budget::Budget;
use super::code::Code;
use super::control::{self, Control};
use super::endpoint::QuicListener;
use super::request::{Outcome, Request};
use super::turns::Turns;
use crate::config::Limits;
use crate::transport::answer_date::AnswerDate;
use crate::transport::connection::{Connection, HeaderWatch, Protocol, digest_of};
use crate::transport::listener::canonical;
use crate::transport::serve::{Slots, next_id};
use crate::transport::workers::Place;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::raw_connect::ProxyDigest;
use quinn::VarInt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

/// Between "no more requests" and saying which was the last: those on their way arrive meanwhile.
const GOAWAY_GRACE: Duration = Duration::from_millis(50);
/// Streams of no known type a client may open before it is a nuisance; each is refused.
const OTHER_STREAMS_MAX: u32 = 64;
/// The highest id a GOAWAY can name: none is refused yet.
const LAST_STREAM: u64 = (1 << 62) - 4;

/// A handshake that is not done; counted while it lives.
#[derive(Debug)]
pub(super) struct Handshake(Arc<AtomicUsize>);

impl Handshake {
    pub fn begin(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(running))
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

pub(super) struct Accepted {
    pub incoming: quinn::Incoming,
    pub handshake: Handshake,
    pub slots: Slots,
    pub place: Place,
}

/// Heads of one connection that are read at once: their bytes are ours before they can be judged. Others wait in QUIC's window.
const HEADS_AT_ONCE: usize = 16;

/// What the requests of a connection share.
pub(super) struct Shared {
    pub listener: Arc<QuicListener>,
    pub quic: quinn::Connection,
    pub limits: Arc<Limits>,
    pub control: Arc<Control>,
    pub turns: Arc<Turns>,
    pub facts: Arc<Connection>,
    pub proxy_digest: Arc<ProxyDigest>,
    pub heads: Semaphore,
    /// Never turns true: a drain is our own affair.
    pub shutdown: watch::Receiver<bool>,
}

/// See the module. To be run on the worker of `accepted.place`.
pub(super) async fn serve<A>(listener: Arc<QuicListener>, accepted: Accepted, app: Arc<A>, closing: CancellationToken)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let Accepted { incoming, handshake, slots: _slots, place: _place } = accepted;
    let shared = &listener.context.shared;
    let limits = shared.limits.load_full();
    let established = async { incoming.accept_with(listener.server_config(&limits))?.await };
    let established = tokio::time::timeout(limits.handshake_timeout, established);
    let quic = match closing.run_until_cancelled(established).await {
        Some(Ok(Ok(quic))) => quic,
        Some(Ok(Err(error))) => {
            shared.metrics.tls_handshake_failures.inc();
            return tracing::debug!(%error, "QUIC handshake failed");
        }
        Some(Err(_elapsed)) => {
            shared.metrics.tls_handshake_failures.inc();
            return listener.context.limit_reached("handshake_timeout");
        }
        None => return,
    };
    drop(handshake);

    // The address is the one the handshake proved. A client that moves keeps it: what comes from another one is answered there
    // only once QUIC has tried it, but would be asked about here before that.
    let client = canonical(quic.remote_address());
    let local = SocketAddr::new(quic.local_ip().unwrap_or(listener.local.ip()), listener.local.port());
    let facts = Arc::new(Connection {
        id: next_id(),
        listener: Arc::clone(&listener.context.settings),
        tls: true,
        protocol: Protocol::Http3,
        client: Some(client),
        peer: Some(client),
        local: Some(canonical(local)),
        alt_svc: None,
        head: HeaderWatch::default(),
        unbuffered: AtomicBool::new(false),
        answer_date: AnswerDate::default(),
        beside_lane: AtomicU8::new(0),
    });
    let (_never, shutdown) = watch::channel(false);
    let proxy_digest = digest_of(&facts);
    let control = Arc::new(Control::new(limits.http3_streams_max));
    let shared = Arc::new(Shared {
        listener,
        quic,
        limits,
        control,
        turns: Arc::default(),
        facts,
        proxy_digest,
        heads: Semaphore::new(HEADS_AT_ONCE),
        shutdown,
    });
    let mut driver = Driver::new(Arc::clone(&shared), app);
    let code = driver.run(&closing).await;
    driver.requests.detach_all();
    shared.quic.close(code.into(), b"");
    // Let what was said last leave before this connection counts as gone.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
}

/// How far a connection is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// The client knows; the last request is not settled.
    Announced(Instant),
    /// Requests from this stream on are refused; that has reached the client by this time.
    From(u64, Instant),
}

struct Driver<A> {
    shared: Arc<Shared>,
    app: Arc<A>,
    requests: JoinSet<Outcome>,
    others: JoinSet<()>,
    ours: Option<quinn::SendStream>,
    leaving: Leaving,
    /// The first stream that has not come.
    next: u64,
    begun: u32,
    other_streams: u32,
    budget: Budget,
    /// When the last request ended.
    idle_since: Instant,
}

impl<A: HttpServerApp + Send + Sync + 'static> Driver<A> {
    fn new(shared: Arc<Shared>, app: Arc<A>) -> Self {
        let budget = Budget::new(shared.limits.http3_resets_max, Instant::now());
        Self {
            shared,
            app,
            requests: JoinSet::new(),
            others: JoinSet::new(),
            ours: None,
            leaving: Leaving::No,
            next: 0,
            begun: 0,
            other_streams: 0,
            budget,
            idle_since: Instant::now(),
        }
    }

    /// Until there is nothing more to do; why is said to the client.
    async fn run(&mut self, closing: &CancellationToken) -> Code {
        let quic = self.shared.quic.clone();
        let Ok(mut ours) = quic.open_uni().await else { return Code::NO_ERROR };
        // The control stream goes first.
        let _ = ours.set_priority(i32::MAX);
        if ours.write_chunk(control::opening(self.shared.limits.header_bytes_max)).await.is_err() {
            return Code::NO_ERROR;
        }
        self.ours = Some(ours);
        loop {
            if let Leaving::From(_, known) = self.leaving
                && self.requests.is_empty()
                && known <= Instant::now()
            {
                return Code::NO_ERROR;
            }
            let due = self.due();
            let stays = self.leaving == Leaving::No;
            let done = tokio::select! {
                stream = quic.accept_bi() => match stream {
                    Ok((send, receive)) => self.begin(send, receive),
                    Err(_) => Err(Code::NO_ERROR),
                },
                Some(outcome) = self.requests.join_next() => self.ended(outcome),
                stream = quic.accept_uni() => match stream {
                    Ok(stream) => self.other(stream),
                    Err(_) => Err(Code::NO_ERROR),
                },
                Some(_) = self.others.join_next() => Ok(()),
                () = closing.cancelled(), if stays => self.leave(),
                () = sleep_until(due.into()) => self.is_due(),
            };
            if let Err(code) = done {
                return code;
            }
        }
    }

    fn begin(&mut self, mut send: quinn::SendStream, mut receive: quinn::RecvStream) -> Result<(), Code> {
        let id = VarInt::from(send.id()).into_inner();
        if let Leaving::From(first, _) = self.leaving
            && id >= first
        {
            // The client may have ended them already.
            let _ = send.reset(Code::REQUEST_REJECTED.into());
            let _ = receive.stop(Code::REQUEST_REJECTED.into());
            return Ok(());
        }
        self.next = self.next.max(id + 4);
        self.shared.control.note_request(id);
        let request = Request { shared: Arc::clone(&self.shared), id };
        self.requests.spawn(request.serve(send, receive, Arc::clone(&self.app)));
        self.begun = self.begun.saturating_add(1);
        if self.begun == self.shared.limits.requests_per_connection_max && self.leaving == Leaving::No {
            return self.leave();
        }
        Ok(())
    }

    fn ended(&mut self, outcome: Result<Outcome, tokio::task::JoinError>) -> Result<(), Code> {
        self.idle_since = Instant::now();
        match outcome {
            Ok(Outcome::Answered) => Ok(()),
            // A panic is no fault of the client's, but worth no patience either.
            Ok(Outcome::BrokenOff) | Err(_) if self.budget.spend(self.idle_since) => Ok(()),
            Ok(Outcome::BrokenOff) | Err(_) => {
                self.shared.listener.context.limit_reached("http3_resets");
                Err(Code::EXCESSIVE_LOAD)
            }
        }
    }

    fn other(&mut self, stream: quinn::RecvStream) -> Result<(), Code> {
        self.other_streams += 1;
        if self.other_streams > OTHER_STREAMS_MAX {
            return Err(Code::EXCESSIVE_LOAD);
        }
        self.others.spawn(control::receive(stream, Arc::clone(&self.shared.control), self.shared.quic.clone()));
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Code> {
        self.leaving = Leaving::Announced(Instant::now() + self.grace());
        self.say(control::goaway(LAST_STREAM))
    }

    fn grace(&self) -> Duration {
        GOAWAY_GRACE.max(self.shared.quic.rtt() * 2)
    }

    fn due(&self) -> Instant {
        match self.leaving {
            Leaving::Announced(until) => until,
            Leaving::From(_, known) if self.requests.is_empty() => known,
            // Looked at again when a request ends.
            _ if !self.requests.is_empty() => Instant::now() + self.shared.limits.idle_timeout,
            _ => self.idle_since + self.shared.limits.idle_timeout,
        }
    }

    fn is_due(&mut self) -> Result<(), Code> {
        match self.leaving {
            Leaving::Announced(_) => {
                // The end of a connection overtakes what was said last on its streams.
                self.leaving = Leaving::From(self.next, Instant::now() + self.grace());
                self.say(control::goaway(self.next))
            }
            Leaving::No if self.requests.is_empty() => self.leave(),
            _ => Ok(()),
        }
    }

    /// On our control stream. What a client does not take at once it does not get: these are a few bytes.
    fn say(&mut self, frame: bytes::Bytes) -> Result<(), Code> {
        let Some(ours) = &mut self.ours else { return Ok(()) };
        let mut write = std::pin::pin!(ours.write_chunk(frame));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match write.as_mut().poll(&mut context) {
            std::task::Poll::Ready(Ok(())) => Ok(()),
            _ => Err(Code::CLOSED_CRITICAL_STREAM),
        }
    }
}
