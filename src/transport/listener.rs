//! One entry of `listen`: bound, accepting, closed at once when the process stops. What happens to a connection is in `serve`.

use super::bind::{self, BindError, BindProblem, UnixFile};
use super::certificates::Certificates;
use super::h3::QuicListener;
use super::serve::{self, Accepted, Context};
use super::socket::Accepting;
use super::{Shared, tls};
use crate::config::{Listen, ListenAddress};
use http::HeaderValue;
use pingora_core::apps::HttpServerApp;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often certificate files are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
/// First and longest pause when the process or the machine has no descriptor or memory left for another connection.
const BACK_OFF: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// A bound socket. Dropping it closes the socket.
#[derive(Debug)]
pub struct Listener {
    socket: ListenSocket,
    certificates: Option<Arc<Certificates>>,
    context: Context,
    quic: Option<QuicListener>,
}

#[derive(Debug)]
enum ListenSocket {
    Tcp(TcpListener),
    Unix { socket: UnixListener, _file: UnixFile },
}

impl Listener {
    /// Binds one entry. `[::]` takes IPv4 clients as well. To be called within a tokio runtime.
    pub fn bind(settings: &Listen, shared: Arc<Shared>) -> Result<Self, BindError> {
        Self::open(settings, shared, false)
    }

    /// Binds all entries and returns all that failed. Where `[::]` and `0.0.0.0` name the same port, each serves its own family.
    pub fn bind_all(settings: &[Listen], shared: &Arc<Shared>) -> Result<Vec<Self>, Vec<BindError>> {
        let has_v4 = |port: u16| {
            settings.iter().any(|other| match other.address {
                ListenAddress::Tcp(address) => address.is_ipv4() && address.port() == port && port != 0,
                ListenAddress::Unix(_) => false,
            })
        };
        let mut bound = Vec::new();
        let mut failed = Vec::new();
        for entry in settings {
            let only_v6 = matches!(entry.address, ListenAddress::Tcp(address) if has_v4(address.port()));
            match Self::open(entry, Arc::clone(shared), only_v6) {
                Ok(listener) => bound.push(listener),
                Err(error) => failed.push(error),
            }
        }
        if failed.is_empty() { Ok(bound) } else { Err(failed) }
    }

    fn open(settings: &Listen, shared: Arc<Shared>, only_v6: bool) -> Result<Self, BindError> {
        let failed = |problem| BindError { address: settings.address.clone(), problem };
        let certificates = if settings.tls.is_empty() {
            None
        } else {
            let loaded = Certificates::load(&settings.tls, &shared.names).map_err(BindProblem::Certificate);
            Some(Arc::new(loaded.map_err(failed)?))
        };
        let acceptor = certificates.as_ref().map(|certificates| {
            let acceptor = tls::acceptor(Arc::clone(certificates), settings.protocols);
            acceptor.map_err(|error| failed(BindProblem::Tls(error.to_string())))
        });
        let socket = match &settings.address {
            ListenAddress::Tcp(address) => bind::tcp(*address, only_v6).map(ListenSocket::Tcp),
            ListenAddress::Unix(path) => {
                bind::unix(path).map(|(socket, file)| ListenSocket::Unix { socket, _file: file })
            }
        };
        let socket = socket.map_err(failed)?;
        let settings = Arc::new(settings.clone());
        let mut alt_svc = None;
        let mut quic = None;
        if settings.http3
            && let (Some(certificates), ListenSocket::Tcp(tcp)) = (&certificates, &socket)
        {
            let local = tcp.local_addr().map_err(|error| failed(error.into()))?;
            let context = Context::of_quic(Arc::clone(&settings), Arc::clone(&shared));
            quic = Some(QuicListener::bind(local, only_v6, context, Arc::clone(certificates)).map_err(failed)?);
            alt_svc = Some(alternative(settings.alt_svc_port.unwrap_or(local.port())));
        }
        let context = Context::new(settings, shared, acceptor.transpose()?, alt_svc);
        Ok(Self { socket, certificates, context, quic })
    }

    /// Where it listens, with the port the system chose for port 0. None: a unix socket.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            ListenSocket::Tcp(socket) => socket.local_addr().ok(),
            ListenSocket::Unix { .. } => None,
        }
    }

    pub fn settings(&self) -> &Arc<Listen> {
        &self.context.settings
    }

    /// None: in clear. For reloads on demand and other transports on the same address.
    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        self.certificates.clone()
    }

    /// Accepts until `shutdown` turns true (or its sender is gone), then closes the socket and returns at once. Connections go on
    /// by themselves: idle ones close, busy ones end after their response. [`crate::observe::Lifecycle::drained`] tells when the
    /// last is gone.
    pub async fn run<A>(self, app: Arc<A>, mut shutdown: watch::Receiver<bool>)
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let Self { socket, certificates, context, quic } = self;
        let closing = CancellationToken::new();
        if let Some(certificates) = certificates {
            let metrics = Arc::clone(&context.shared.metrics);
            tokio::spawn(certificates.watch(CERTIFICATE_INTERVAL, metrics, closing.clone()));
        }
        if let Some(quic) = quic {
            quic.run(&app, &shutdown, &closing);
        }
        let context = Arc::new(context);
        let for_connections = shutdown.clone();
        let mut back_off = BACK_OFF;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => break,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((raw, peer)) => {
                    back_off = BACK_OFF;
                    if let Some(slots) = context.admit(peer.map(|peer| peer.ip())) {
                        let place = context.shared.workers.take();
                        let runtime = place.runtime.clone();
                        let accepted = Accepted { raw, peer, slots, place };
                        let (context, app) = (Arc::clone(&context), Arc::clone(&app));
                        let (stop, closing) = (for_connections.clone(), closing.clone());
                        runtime.spawn(serve::serve(context, accepted, app, stop, closing));
                    }
                }
                Err(error) if is_exhausted(&error) => {
                    context.shared.metrics.limits_reached.with_label_values(&["file_descriptors"]).inc();
                    tracing::error!(listener = %context.settings.address, %error, "cannot accept; waiting for connections to end");
                    tokio::select! {
                        _ = shutdown.wait_for(|stop| *stop) => break,
                        () = tokio::time::sleep(back_off) => {}
                    }
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
                // The client left between its handshake and our accept.
                Err(error) => tracing::debug!(listener = %context.settings.address, %error, "accept failed"),
            }
        }
        drop(socket);
        closing.cancel();
    }
}

impl ListenSocket {
    async fn accept(&self) -> io::Result<(Accepting, Option<SocketAddr>)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                Ok((Accepting::Tcp(stream.into_std()?), Some(canonical(peer))))
            }
            Self::Unix { socket, .. } => Ok((Accepting::Unix(socket.accept().await?.0.into_std()?), None)),
        }
    }
}

/// How long clients remember where HTTP/3 is.
const ALTERNATIVE_MAX_AGE_S: u32 = 86_400;

/// RFC 7838: the same host, on UDP.
fn alternative(port: u16) -> HeaderValue {
    let text = format!("h3=\":{port}\"; ma={ALTERNATIVE_MAX_AGE_S}");
    HeaderValue::from_str(&text).expect("digits make a valid field")
}

/// An IPv4 client of a dual-stack socket, as IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::from((v4, address.port())),
        IpAddr::V6(_) => address,
    }
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: trying again at once would only spin.
fn is_exhausted(error: &io::Error) -> bool {
    const CODES: [i32; 4] = [24, 23, 105, 12];
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}
