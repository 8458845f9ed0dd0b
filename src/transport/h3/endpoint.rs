//! The UDP sockets of a listener: bound beside the TCP one, with its certificates; who may come in is decided here, before
//! anything is spent on a handshake.
//!
//! Each worker has an endpoint, with a socket of its own on the listener's address ([`super::sockets`]): it reads packets and hands them
//! to their connections, which are spread over the workers whichever endpoint they came to, and send by themselves.

use super::congestion;
use super::connection::{self, Accepted, Handshake};
use super::sockets::{Group, Ids, Socket};
use crate::config::{Certificate, Limits, Listen};
use crate::transport::bind::{self, BindProblem};
use crate::transport::certificates::Certificates;
use crate::transport::listener::canonical;
use crate::transport::serve::Context;
use crate::transport::tls;
use parking_lot::Mutex;
use pingora_core::apps::HttpServerApp;
use quinn::{AckFrequencyConfig, EndpointConfig, IdleTimeout, Runtime, ServerConfig, TransportConfig, VarInt};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Receive windows, as HTTP/2's: an upload of 100 Mbit/s at 80 ms, and four of them.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// What one connection may hold of its answers until the client has acknowledged it.
const SEND_WINDOW_BYTES: u64 = 4 << 20;
/// Packets a client may leave unacknowledged, where it can be told so (draft-ietf-quic-ack-frequency): one of ours for every second
/// packet costs us more than the packets do. The first flight (ten packets) is still acknowledged twice.
const UNACKNOWLEDGED_MAX: u32 = 4;
/// Control, two of QPACK, and a few nobody knows.
const OTHER_STREAMS_AT_ONCE: u32 = 16;
/// How often we ask whether a silent client with an open connection is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Packets of clients we have not decided about: connections, bytes of each, bytes in all.
const INCOMING_MAX: usize = 1024;
const INCOMING_BYTES_MAX: u64 = 64 << 10;
const INCOMING_BYTES_MAX_ALL: u64 = 8 << 20;
/// How long the answer to a Retry counts.
const RETRY_LIFETIME: Duration = Duration::from_secs(15);

/// See the module. It lives as long as its last connection.
pub(in crate::transport) struct QuicListener {
    sockets: Vec<UdpSocket>,
    group: Arc<Group>,
    /// All of them read until the last connection is gone: its client may move, and come out at any socket.
    endpoints: Mutex<Vec<quinn::Endpoint>>,
    pub(super) local: SocketAddr,
    pub(super) context: Context,
    server: ServerConfig,
    reset_key: [u8; 32],
    /// The configuration of connections accepted under these limits.
    current: Mutex<Option<(Arc<Limits>, Arc<ServerConfig>)>>,
    handshakes: Arc<AtomicUsize>,
}

impl std::fmt::Debug for QuicListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicListener").field("local", &self.local).finish_non_exhaustive()
    }
}

impl QuicListener {
    /// On the address of the TCP socket, its port known.
    pub fn bind(
        local: SocketAddr,
        only_v6: bool,
        context: Context,
        certificates: Arc<Certificates>,
    ) -> Result<Self, BindProblem> {
        let crypto = tls::quic(certificates).map_err(|error| BindProblem::Tls(error.to_string()))?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server
            .migration(true)
            .retry_token_lifetime(RETRY_LIFETIME)
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES_MAX)
            .incoming_buffer_size_total(INCOMING_BYTES_MAX_ALL);
        let group = Group::new(context.shared.workers.threads());
        Ok(Self {
            sockets: bind::udp(local, only_v6, group.sockets())?,
            group,
            endpoints: Mutex::default(),
            local,
            server,
            reset_key: reset_key(&context.settings),
            context,
            current: Mutex::default(),
            handshakes: Arc::default(),
        })
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.sockets[0].as_raw_fd()
    }

    /// Limits may be swapped at any time; a connection keeps those it was accepted under.
    pub(super) fn server_config(&self, limits: &Arc<Limits>) -> Arc<ServerConfig> {
        let mut current = self.current.lock();
        if let Some((known, config)) = &*current
            && Arc::ptr_eq(known, limits)
        {
            return Arc::clone(config);
        }
        let mut config = self.server.clone();
        config.transport_config(Arc::new(transport(limits)));
        let config = Arc::new(config);
        *current = Some((Arc::clone(limits), Arc::clone(&config)));
        config
    }

    /// Accepts on the workers until `shutdown` turns true, then no more; connections go on by themselves. Returns at once.
    pub fn run<A>(self, app: &Arc<A>, shutdown: &watch::Receiver<bool>, closing: &CancellationToken)
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let listener = Arc::new(self);
        for number in 0..listener.group.sockets() {
            let (listener, app) = (Arc::clone(&listener), Arc::clone(app));
            let (shutdown, closing) = (shutdown.clone(), closing.clone());
            let place = listener.context.shared.workers.take();
            place.runtime.clone().spawn(async move {
                let _place = place;
                listener.accept(number, app, shutdown, closing).await;
            });
        }
    }

    /// To be called on the worker that is to read.
    fn open(&self, number: usize) -> io::Result<quinn::Endpoint> {
        let runtime = quinn::TokioRuntime;
        let inner = runtime.wrap_udp_socket(self.sockets[number].try_clone()?)?;
        let socket = Arc::new(Socket::new(inner, Arc::clone(&self.group), number));
        let server = ServerConfig::clone(&self.server_config(&self.context.shared.limits.load_full()));
        let config = self.endpoint_config(number);
        quinn::Endpoint::new_with_abstract_socket(config, Some(server), socket, Arc::new(runtime))
    }

    async fn accept<A>(
        self: Arc<Self>,
        number: usize,
        app: Arc<A>,
        mut shutdown: watch::Receiver<bool>,
        closing: CancellationToken,
    ) where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let endpoint = match self.open(number) {
            Ok(endpoint) => endpoint,
            Err(error) => return tracing::error!(listener = %self.local, %error, "HTTP/3 cannot be served"),
        };
        self.endpoints.lock().push(endpoint.clone());
        let listener = self;
        loop {
            let incoming = tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => break,
                incoming = endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { break };
            if listener.must_prove(&incoming) {
                listener.context.limit_reached("http3_handshakes");
                // An answer to a Retry has been proven, so this one may be sent it.
                let _ = incoming.retry();
                continue;
            }
            let peer = canonical(incoming.remote_address());
            let Some(slots) = listener.context.admit(Some(peer.ip())) else {
                incoming.refuse();
                continue;
            };
            let place = listener.context.shared.workers.take();
            let runtime = place.runtime.clone();
            let accepted = Accepted { incoming, handshake: Handshake::begin(&listener.handshakes), slots, place };
            let (listener, app, closing) = (Arc::clone(&listener), Arc::clone(&app), closing.clone());
            runtime.spawn(connection::serve(listener, accepted, app, closing));
        }
        // Whoever comes now is told so at once.
        endpoint.set_server_config(None);
    }

    /// Whether a client has to show first that it is where it says (RFC 9000, section 8.1): under load, and where addresses that
    /// nobody has proven could use up those of somebody else.
    fn must_prove(&self, incoming: &quinn::Incoming) -> bool {
        if incoming.remote_address_validated() {
            return false;
        }
        let limits = self.context.shared.limits.load();
        let address = canonical(incoming.remote_address()).ip();
        self.handshakes.load(Ordering::Acquire) >= limits.http3_handshakes_max
            || self.context.shared.slots.open_of(address) >= limits.connections_per_address_max / 2
    }

    fn endpoint_config(&self, socket: usize) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &self.reset_key)));
        let sockets = self.group.sockets();
        config.cid_generator(move || Box::new(Ids { random: SystemRandom::new(), socket, sockets }));
        config
    }
}

fn transport(limits: &Limits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(VarInt::from_u32(UNACKNOWLEDGED_MAX));
    // A client that says nothing at all for so long is gone; requests have deadlines of their own.
    let silence = IdleTimeout::try_from(limits.stall_timeout).unwrap_or(VarInt::MAX.into());
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.http3_streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(OTHER_STREAMS_AT_ONCE))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .congestion_controller_factory(congestion::controller())
        .ack_frequency_config(Some(acknowledgements))
        .max_idle_timeout(Some(silence))
        .keep_alive_interval(Some(KEEP_ALIVE.min(limits.stall_timeout / 2)))
        .datagram_receive_buffer_size(None);
    transport
}

/// What stateless resets (RFC 9000, section 10.3) are made with. From a certificate's key, so that connections of a process that
/// died are ended by the next one; where there is none, a new one each time.
fn reset_key(settings: &Listen) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix("reelgate stateless reset");
    let files = settings.tls.iter().filter_map(|certificate| match certificate {
        Certificate::Files { key, .. } => std::fs::read(key).ok(),
        Certificate::SelfSigned => None,
    });
    match files.into_iter().next() {
        Some(key) => hash.update(key),
        None => {
            let mut random = [0; 32];
            if SystemRandom::new().fill(&mut random).is_err() {
                fastrand::fill(&mut random);
            }
            hash.update(random);
        }
    }
    hash.finalize().into()
}
