//! One connection, from accept to its end: limits → PROXY header → TLS → protocol → the HTTP application.

use super::answer_date::AnswerDate;
use super::connection::{Connection, Protocol};
use super::connection_app::ConnectionApp;
use super::guard::Guarded;
use super::listener::canonical;
use super::proxy_protocol;
use super::slots::{AddressSlot, Slot};
use super::socket::{Accepting, Raw, Socket};
use super::workers::Place;
use super::{Shared, connection};
use crate::config::{Limits, Listen};
use crate::observe::InFlight;
use http::HeaderValue;
use pingora_core::apps::{HttpServerApp, ServerApp};
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::{ALPN, IO};
use prometheus::{IntCounter, IntGauge};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

static CONNECTION_IDS: AtomicU64 = AtomicU64::new(1);

/// Of the next connection, unique in this process.
pub(super) fn next_id() -> u64 {
    CONNECTION_IDS.fetch_add(1, Ordering::Relaxed)
}

/// What all connections of a listener share.
pub(super) struct Context {
    pub(super) settings: Arc<Listen>,
    pub(super) shared: Arc<Shared>,
    tls: Option<Acceptor>,
    alt_svc: Option<HeaderValue>,
    open: IntGauge,
    accepted: IntCounter,
    /// Whether an untrusted peer's PROXY header has been reported; others are only logged at `debug`.
    reported_untrusted: AtomicBool,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The places a connection takes, given back when it ends.
pub(super) struct Slots {
    _slot: Slot,
    address: Option<AddressSlot>,
    _held: InFlight,
    open: IntGauge,
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.open.dec();
    }
}

pub(super) struct Accepted {
    pub(super) raw: Accepting,
    pub(super) peer: Option<SocketAddr>,
    pub(super) slots: Slots,
    pub(super) place: Place,
}

impl Context {
    /// `alt_svc`: where else to find this listener's sites.
    pub(super) fn new(
        settings: Arc<Listen>,
        shared: Arc<Shared>,
        tls: Option<Acceptor>,
        alt_svc: Option<HeaderValue>,
    ) -> Self {
        let transport = if tls.is_some() { "tls" } else { "clear" };
        Self::counted_as(transport, settings, shared, tls, alt_svc)
    }

    /// Of connections that are not accepted from a stream socket.
    pub(super) fn of_quic(settings: Arc<Listen>, shared: Arc<Shared>) -> Self {
        Self::counted_as("quic", settings, shared, None, None)
    }

    fn counted_as(
        transport: &str,
        settings: Arc<Listen>,
        shared: Arc<Shared>,
        tls: Option<Acceptor>,
        alt_svc: Option<HeaderValue>,
    ) -> Self {
        let open = shared.metrics.connections.with_label_values(&[transport]);
        let accepted = shared.metrics.connections_accepted.with_label_values(&[transport]);
        Self { settings, shared, tls, alt_svc, open, accepted, reported_untrusted: AtomicBool::new(false) }
    }

    /// None: a limit is reached, and counted; the connection is to be dropped.
    pub(super) fn admit(&self, peer: Option<IpAddr>) -> Option<Slots> {
        self.accepted.inc();
        let limits = self.shared.limits.load();
        let Some(slot) = self.shared.slots.take(limits.connections_max) else {
            self.limit_reached("connections");
            return None;
        };
        // Behind a balancer the peer is everyone; its clients are counted once they are known.
        let address = match peer.filter(|_| !self.settings.proxy_protocol) {
            Some(peer) => Some(self.admit_address(peer, &limits)?),
            None => None,
        };
        self.open.inc();
        Some(Slots { _slot: slot, address, _held: self.shared.lifecycle.hold(), open: self.open.clone() })
    }

    fn admit_address(&self, address: IpAddr, limits: &Limits) -> Option<AddressSlot> {
        let slot = self.shared.slots.take_for(address, limits.connections_per_address_max);
        if slot.is_none() {
            self.limit_reached("connections_per_address");
        }
        slot
    }

    pub(super) fn limit_reached(&self, limit: &str) {
        self.shared.metrics.limits_reached.with_label_values(&[limit]).inc();
    }
}

/// See the module. Ends when the connection does. To be run on the worker of `accepted.place`.
pub(super) async fn serve<A>(
    context: Arc<Context>,
    accepted: Accepted,
    app: Arc<A>,
    shutdown: watch::Receiver<bool>,
    closing: CancellationToken,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let Accepted { raw, peer, mut slots, place: _place } = accepted;
    let raw = match raw.on_this_runtime() {
        Ok(raw) => raw,
        Err(error) => return tracing::error!(%error, "an accepted connection cannot be served"),
    };
    let limits = context.shared.limits.load_full();
    let deadline = tokio::time::Instant::now() + limits.handshake_timeout;
    let local = match &raw {
        Raw::Tcp(stream) => stream.local_addr().ok().map(canonical),
        Raw::Unix(_) => None,
    };
    let facts = Connection {
        id: next_id(),
        listener: Arc::clone(&context.settings),
        tls: context.tls.is_some(),
        protocol: Protocol::Http1,
        client: peer,
        peer,
        local,
        alt_svc: context.alt_svc.clone(),
        head: connection::HeaderWatch::default(),
        unbuffered: AtomicBool::new(false),
        answer_date: AnswerDate::default(),
        beside_lane: AtomicU8::new(0),
    };
    let identified =
        tokio::time::timeout_at(deadline, identify(&context, Socket::new(raw), facts, &limits, &mut slots));
    let (socket, facts) = match closing.run_until_cancelled(identified).await {
        Some(Ok(Some(identified))) => identified,
        Some(Err(_elapsed)) => return context.limit_reached("handshake_timeout"),
        Some(Ok(None)) | None => return,
    };

    let job = Job { app, limits, shutdown, closing: closing.clone(), context: Arc::clone(&context) };
    let Some(acceptor) = &context.tls else {
        return job.speak(socket, facts, None).await;
    };
    let id = facts.id;
    let handshake = tokio::time::timeout_at(deadline, acceptor.tls_handshake(socket));
    match closing.run_until_cancelled(handshake).await {
        Some(Ok(Ok(stream))) => {
            let negotiated = negotiated(&stream);
            job.speak(stream, facts, Some(negotiated)).await;
        }
        Some(Ok(Err(error))) => {
            context.shared.metrics.tls_handshake_failures.inc();
            tracing::debug!(connection = id, %error, "TLS handshake failed");
        }
        Some(Err(_elapsed)) => {
            context.shared.metrics.tls_handshake_failures.inc();
            context.limit_reached("handshake_timeout");
        }
        None => {}
    }
}

fn negotiated<S: IO>(stream: &S) -> Protocol {
    if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) { Protocol::Http2 } else { Protocol::Http1 }
}

/// Learns who the client is. None: the connection is to be dropped, and that is counted or logged.
async fn identify(
    context: &Context,
    mut socket: Socket,
    mut facts: Connection,
    limits: &Limits,
    slots: &mut Slots,
) -> Option<(Socket, Connection)> {
    if context.settings.proxy_protocol {
        // Who may open a unix socket is decided by the file's mode.
        if facts.peer.is_some_and(|peer| !context.shared.trusts(peer.ip())) {
            let (peer, listener) = (facts.peer, &context.settings.address);
            if context.reported_untrusted.swap(true, Ordering::Relaxed) {
                tracing::debug!(?peer, %listener, "PROXY header from an untrusted peer; connection closed");
            } else {
                tracing::warn!(?peer, %listener, "connection closed: this listener expects a PROXY header, and its peer is not in `trusted_proxies`");
            }
            return None;
        }
        match proxy_protocol::read(&mut socket).await {
            Ok(header) => {
                if let Some((client, local)) = header.addresses {
                    facts.client = Some(canonical(client));
                    facts.local = Some(canonical(local));
                }
            }
            Err(error) => {
                tracing::debug!(connection = facts.id, peer = ?facts.peer, %error, "connection closed");
                return None;
            }
        }
        if let Some(client) = facts.client {
            slots.address = Some(context.admit_address(client.ip(), limits)?);
        }
    }
    socket.set_addresses(facts.client, facts.local);
    Some((socket, facts))
}

/// What is left to do for a connection once its bytes are HTTP.
struct Job<A> {
    context: Arc<Context>,
    app: Arc<A>,
    limits: Arc<Limits>,
    shutdown: watch::Receiver<bool>,
    closing: CancellationToken,
}

impl<A: HttpServerApp + Send + Sync + 'static> Job<A> {
    /// `negotiated`: by TLS; None: told by the first bytes.
    async fn speak<S: IO + 'static>(self, stream: S, mut facts: Connection, negotiated: Option<Protocol>) {
        let shared = &self.context.shared;
        let allowed = self.context.settings.protocols;
        let mut stream =
            Guarded::new(stream, Arc::clone(&self.limits), Arc::clone(&shared.metrics), self.closing.clone());
        facts.protocol = match negotiated {
            Some(protocol) => protocol,
            None if allowed.http2 => match stream.begins_with_preface().await {
                Ok(true) => Protocol::Http2,
                Ok(false) => Protocol::Http1,
                Err(_) => return,
            },
            // HTTP/2's preface is no HTTP/1 request; Pingora answers it with 400.
            None => Protocol::Http1,
        };
        let spoken = match facts.protocol {
            Protocol::Http1 => allowed.http1,
            Protocol::Http2 => allowed.http2,
            Protocol::Http3 => false,
        };
        if !spoken {
            tracing::debug!(connection = facts.id, protocol = ?facts.protocol, "not spoken on this listener; closed");
            return;
        }
        let h2 = facts.protocol == Protocol::Http2;
        if let Some(lane) = shared.lane.clone().filter(|_| !h2) {
            stream = stream.with_lane(lane, self.shutdown.clone());
        }
        let h2c = h2 && !facts.tls;
        stream.attach(Arc::new(facts));

        // HTTP/2 gets a signal of its own: the process stops, or this connection has had its share of requests.
        let (leave, left) = watch::channel(false);
        let mut stop = self.shutdown.clone();
        let leave = Arc::new(leave);
        let lifecycle = Arc::clone(&shared.lifecycle);
        let app = Arc::new(ConnectionApp::new(self.app, &self.limits, h2c, lifecycle, Arc::clone(&leave)));
        if !h2 {
            app.process_new(Box::new(stream), &self.shutdown).await;
            return;
        }
        let work = app.process_new(Box::new(stream), &left);
        tokio::pin!(work);
        tokio::select! {
            _ = &mut work => return,
            _ = stop.wait_for(|stop| *stop) => {}
        }
        leave.send_replace(true);
        work.await;
    }
}
