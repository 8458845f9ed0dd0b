//! Where the sidecar listens: on a unix socket, whose folder keeps others out, or on TCP, where TLS does: nobody is heard who shows no
//! certificate of the authority that was given.
//!
//! Invariants: a bounded number of connections, and of handshakes, each for a bounded time; who waits in a handshake takes no place
//! from those who are in; told to drain, connections end with the answer that is under way.

use super::super::client::connect::set_up;
use super::super::tls::Renewed;
use super::server::{Server, connection};
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

const CONNECTIONS_MAX: usize = 1024;
const HANDSHAKES_MAX: usize = 256;
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// An edge may hold an answer up as long as its client does; one that is gone is noticed.
const UNTAKEN_TIME_MAX: Duration = Duration::from_secs(120);
/// After a failed accept, often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where edges come in.
#[derive(Debug)]
pub enum Listening {
    Unix(UnixListener),
    Tls(TcpListener, Arc<Renewed<ServerConfig>>),
}

/// Connections, and how they are told to end.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    open: TaskTracker,
    draining: watch::Sender<bool>,
}

impl Connections {
    /// Ends with the last answer that is under way. Nothing may listen any more.
    pub async fn drain(&self) {
        self.draining.send_replace(true);
        self.open.close();
        self.open.wait().await;
    }
}

impl Listening {
    /// Makes room for the socket only where nobody listens on it.
    pub fn unix(path: &Path) -> Result<Self, String> {
        if UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            std::fs::remove_file(path).map_err(|error| format!("cannot remove the stale socket: {error}"))?;
        }
        let bound = UnixListener::bind(path);
        bound.map(Self::Unix).map_err(|error| format!("cannot listen on {}: {error}", path.display()))
    }

    /// The certificates must be good by now.
    pub async fn tls(address: SocketAddr, config: Renewed<ServerConfig>) -> Result<Self, String> {
        config.now()?;
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|error| format!("cannot listen on {address}: {error}"))?;
        Ok(Self::Tls(listener, Arc::new(config)))
    }

    /// Serves until it is dropped; what is open by then goes on.
    pub async fn serve(self, server: Arc<Server>, connections: Connections) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        loop {
            let accepted = match &self {
                Self::Unix(listener) => accept_unix(listener, &room, &server, &connections).await,
                Self::Tls(listener, config) => {
                    accept_tls(listener, config, (&room, &handshakes), &server, &connections).await
                }
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept_unix(
    listener: &UnixListener,
    room: &Arc<Semaphore>,
    server: &Arc<Server>,
    connections: &Connections,
) -> io::Result<()> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    let (server, draining) = (Arc::clone(server), connections.draining.subscribe());
    connections.open.spawn(async move {
        connection(stream, server, draining).await;
        drop(permit);
    });
    Ok(())
}

async fn accept_tls(
    listener: &TcpListener,
    config: &Arc<Renewed<ServerConfig>>,
    (room, handshakes): (&Arc<Semaphore>, &Arc<Semaphore>),
    server: &Arc<Server>,
    connections: &Connections,
) -> io::Result<()> {
    let (stream, _) = listener.accept().await?;
    let Ok(handshake) = Arc::clone(handshakes).try_acquire_owned() else {
        tracing::debug!("a connection is closed: too many handshakes");
        return Ok(());
    };
    let (config, room, server) = (Arc::clone(config), Arc::clone(room), Arc::clone(server));
    let draining = connections.draining.subscribe();
    connections.open.spawn(async move {
        if let Err(error) = greet(stream, &config, handshake, &room, (server, draining)).await {
            tracing::debug!(%error, "a connection ended before it was heard");
        }
    });
    Ok(())
}

async fn greet(
    stream: TcpStream,
    config: &Renewed<ServerConfig>,
    handshake: OwnedSemaphorePermit,
    room: &Semaphore,
    (server, draining): (Arc<Server>, watch::Receiver<bool>),
) -> io::Result<()> {
    set_up(&stream, UNTAKEN_TIME_MAX);
    let acceptor = TlsAcceptor::from(config.now().map_err(io::Error::other)?);
    let stream = timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    drop(handshake);
    let Ok(_permit) = room.try_acquire() else {
        return Err(io::Error::other("too many connections"));
    };
    connection(stream, server, draining).await;
    Ok(())
}
