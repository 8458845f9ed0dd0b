//! Connections to one sidecar: over a unix socket, a new one each time, or over TCP with TLS on both sides, used again while idle.
//!
//! Invariants: connecting and the handshake have limits; a bounded number of idle connections, for a bounded time; one is used again
//! only after its answer was read to the end; one that is dropped is closed.

use super::super::tls::Renewed;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// A request that the other host does not acknowledge: it is gone.
const UNACKNOWLEDGED_TIME_MAX: Duration = Duration::from_secs(10);
const KEEPALIVE_TIME: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// For a connection that failed to end.
const REASON_TIME_MAX: Duration = Duration::from_millis(100);
const IDLE_MAX: usize = 8;
/// Shorter than the sidecar waits for a request.
const IDLE_TIME_MAX: Duration = Duration::from_secs(20);
/// A head has a handful of fields.
const HEADERS_MAX: usize = 32;
const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Of a request's body handed over at once: where a connection copies what it is given, it copies no more than this.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// A request's body: what may be large is never joined, and a copy of it holds the same bytes.
#[derive(Debug, Clone, Default)]
pub struct Sent(VecDeque<Bytes>);

impl FromIterator<Bytes> for Sent {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        Self(pieces.into_iter().filter(|piece| !piece.is_empty()).collect())
    }
}

impl From<Vec<u8>> for Sent {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from_iter([bytes.into()])
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(mut piece) = self.0.pop_front() else { return Poll::Ready(None) };
        if piece.len() > PIECE_BYTES_MAX {
            self.0.push_front(piece.split_off(PIECE_BYTES_MAX));
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

/// The way to a sidecar.
#[derive(Debug)]
pub enum Way {
    Unix(PathBuf),
    Tls { host: String, port: u16, config: Arc<Renewed<ClientConfig>>, idle: Arc<Idle> },
}

/// Connections that wait for their next request, the latest used last.
#[derive(Debug, Default)]
pub struct Idle(Mutex<Vec<(Instant, Connection)>>);

/// With nothing under way on it, unless it is held with an answer.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Sent>,
    /// Ended with what holds this.
    task: AbortOnDropHandle<hyper::Result<()>>,
    /// The certificate it showed, DER.
    pub certificate: Option<Vec<u8>>,
}

/// What keeps an answer's body coming; dropped, its connection is closed.
#[derive(Debug)]
pub struct Held {
    pub connection: Connection,
    idle: Option<Arc<Idle>>,
}

impl Held {
    /// The body was read to its end.
    pub fn give_back(self) {
        let Some(idle) = self.idle.filter(|_| !self.connection.sender.is_closed()) else { return };
        let mut idle = idle.0.lock();
        if idle.len() >= IDLE_MAX {
            idle.remove(0);
        }
        idle.push((Instant::now(), self.connection));
    }
}

impl Idle {
    fn take(&self) -> Option<Connection> {
        let mut idle = self.0.lock();
        idle.retain(|(since, connection)| since.elapsed() < IDLE_TIME_MAX && !connection.sender.is_closed());
        // One whose last answer is not quite over yet is left for later.
        let at = idle.iter().rposition(|(_, connection)| connection.sender.is_ready())?;
        Some(idle.remove(at).1)
    }

    fn clear(&self) {
        self.0.lock().clear();
    }
}

impl Way {
    /// Sends a request, over an idle connection where there is one: all requests may be sent twice. Errors are for people.
    pub async fn send(&self, request: impl Fn() -> Request<Sent>) -> Result<(Response<Incoming>, Held), String> {
        let idle = match self {
            Self::Unix(_) => None,
            Self::Tls { idle, .. } => Some(idle),
        };
        if let Some(mut connection) = idle.and_then(|idle| idle.take())
            && let Ok(response) = connection.sender.send_request(request()).await
        {
            return Ok((response, Held { connection, idle: idle.cloned() }));
        }
        let mut connection = self.connect().await?;
        let response = match connection.sender.send_request(request()).await {
            Ok(response) => response,
            // What went wrong, the connection knows: a certificate that is refused, for instance.
            Err(error) => {
                return Err(match timeout(REASON_TIME_MAX, connection.task).await {
                    Ok(Ok(Err(behind))) => reason(&behind),
                    _ => reason(&error),
                });
            }
        };
        Ok((response, Held { connection, idle: idle.cloned() }))
    }

    /// It does not answer: what is idle is of no more use.
    pub fn close_idle(&self) {
        if let Self::Tls { idle, .. } = self {
            idle.clear();
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
                open(stream, None).await
            }
            Self::Tls { host, port, config, .. } => {
                let config = config.now()?;
                let name = ServerName::try_from(host.clone()).map_err(|_| "its name is no name".to_owned())?;
                let connecting = timeout(CONNECT_TIME_MAX, TcpStream::connect((host.as_str(), *port)));
                let stream = connecting.await.map_err(|_| "no connection in time".to_owned())?;
                let stream = stream.map_err(|error| error.to_string())?;
                set_up(&stream, UNACKNOWLEDGED_TIME_MAX);
                let connecting = TlsConnector::from(config).connect(name, stream);
                let stream = timeout(HANDSHAKE_TIME_MAX, connecting).await;
                let stream = stream.map_err(|_| "no TLS handshake in time".to_owned())?;
                let stream = stream.map_err(|error| reason(&error))?;
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let certificate = shown.map(|certificate| certificate.to_vec());
                open(stream, certificate).await
            }
        }
    }
}

/// What is lost is noticed, sent bytes that nobody acknowledges or takes within a time among them; where the system refuses that, other
/// limits remain.
pub fn set_up(stream: &TcpStream, unacknowledged_max: Duration) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_user_timeout(Some(unacknowledged_max));
}

async fn open<S>(stream: S, certificate: Option<Vec<u8>>) -> Result<Connection, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.max_headers(HEADERS_MAX).max_buf_size(BUFFER_BYTES_MAX);
    let (sender, connection) = http.handshake(TokioIo::new(stream)).await.map_err(|error| reason(&error))?;
    let task = AbortOnDropHandle::new(tokio::spawn(connection));
    Ok(Connection { sender, task, certificate })
}

/// An error and what is behind it: a refused certificate is only seen there.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut behind = error.source();
    while let Some(error) = behind {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        behind = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::tls;
    use super::*;
    use crate::config::TlsFiles;
    use http_body_util::{BodyExt, StreamBody};
    use hyper::server::conn::http1 as server;
    use hyper::service::service_fn;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    fn files(folder: &Path) -> TlsFiles {
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate().unwrap()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let at = |name: &str| folder.join(name);
        std::fs::write(at("ca"), authority.pem()).unwrap();
        std::fs::write(at("cert"), certificate.pem()).unwrap();
        std::fs::write(at("key"), key.serialize_pem()).unwrap();
        TlsFiles { ca: at("ca"), cert: at("cert"), key: at("key") }
    }

    /// Answers with two pieces, the second never for `/half`; counts who came, and who is there.
    async fn serve(files: TlsFiles) -> (u16, Arc<AtomicUsize>, watch::Receiver<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, came, there) = (listener.local_addr().unwrap().port(), Arc::default(), watch::Sender::new(0));
        let (counted, seen): (Arc<AtomicUsize>, _) = (Arc::clone(&came), there.subscribe());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls::server(&files).unwrap()));
                let there = there.clone();
                tokio::spawn(async move {
                    there.send_modify(|there| *there += 1);
                    let stream = acceptor.accept(stream).await.unwrap();
                    let respond = |request: Request<Incoming>| async move {
                        let more = request.uri().path() == "/half";
                        let pieces = futures_util::stream::unfold(0, move |n| async move {
                            match n {
                                1 if more => std::future::pending().await,
                                0 | 1 => Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"piece"))), n + 1)),
                                _ => None,
                            }
                        });
                        Ok::<_, Infallible>(Response::new(StreamBody::new(Box::pin(pieces))))
                    };
                    let _ = server::Builder::new().serve_connection(TokioIo::new(stream), service_fn(respond)).await;
                    there.send_modify(|there| *there -= 1);
                });
            }
        });
        (port, came, seen)
    }

    #[tokio::test]
    async fn a_connection_is_used_again_once_its_answer_was_read_and_closed_where_it_was_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let (port, came, mut there) = serve(files.clone()).await;
        let config = Arc::new(Renewed::new(files, tls::client));
        let way = Way::Tls { host: "127.0.0.1".to_owned(), port, config, idle: Arc::default() };
        let ask = async |path: &str| {
            way.send(|| Request::get(path).header("host", "x").body(Sent::default()).unwrap()).await.unwrap()
        };
        for _ in 0..3 {
            let (response, held) = ask("/").await;
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 10);
            held.give_back();
            // The connection's task sees the end a moment after we do.
            tokio::task::yield_now().await;
        }
        assert_eq!(came.load(Ordering::Relaxed), 1, "one handshake");
        let (mut response, held) = ask("/half").await;
        assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "piece");
        assert_eq!((came.load(Ordering::Relaxed), *there.borrow()), (1, 1));
        drop((response, held));
        timeout(Duration::from_secs(10), there.wait_for(|there| *there == 0)).await.expect("it is closed").unwrap();
        let (_response, _held) = ask("/").await;
        assert_eq!(came.load(Ordering::Relaxed), 2);
        way.close_idle();
    }
}
