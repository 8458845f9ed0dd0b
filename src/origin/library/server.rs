//! Connections: a unix socket, HTTP/1.1 with keep-alive, a bounded number at a time. Its only client is the edge.

use super::{State, respond};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections at a time; further ones wait in the socket's queue.
const CONNECTIONS_MAX: usize = 1024;
/// An idle connection is closed after this, and one that is slow to say what it wants. Longer than an edge keeps idle connections,
/// so that it is the edge that lets go.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Header fields of a request: what the edge lets through, and what it adds.
const HEADERS_MAX: usize = 256;
/// After a failed accept, often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket file that is ours to remove.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// Device and inode: another's socket at the same path is not ours to remove.
    identity: (u64, u64),
}

impl Socket {
    /// Makes room for it only where nobody listens on it.
    pub fn bind(path: PathBuf) -> io::Result<(UnixListener, Self)> {
        remove_stale(&path)?;
        let listener = UnixListener::bind(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on unix socket {}: {error}", path.display()))
        })?;
        let identity = identity(&fs::symlink_metadata(&path)?);
        Ok((listener, Self { path, identity }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, if it is still this socket's.
    pub fn remove(&self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity) {
            // Gone already is as good.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Makes room for a socket: removes one that nobody listens on.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} exists and is no socket: remove it or choose another folder", path.display()),
        ));
    }
    match BlockingUnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("{} is in use: is another reelgate running with it?", path.display()),
        )),
    }
}

/// Until `stop`; [`CONNECTIONS_MAX`] at a time, further ones wait to be accepted.
pub async fn serve(listener: UnixListener, state: Arc<State>, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    stop.run_until_cancelled(async {
        while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(origin = state.name, %error, "library: cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (state, stop) = (Arc::clone(&state), stop.clone());
            tokio::spawn(async move {
                connection(stream, state, stop).await;
                drop(permit);
            });
        }
    })
    .await;
}

async fn connection(stream: UnixStream, state: Arc<State>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(respond::respond(&state, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "library: connection ended");
    }
}
