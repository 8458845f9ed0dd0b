//! A TCP or unix socket as Pingora's `IO`, with a small write buffer: a response head and a small body leave in one segment.
//! (Pingora's own stream type cannot be given its buffers from outside its crate.)

use async_trait::async_trait;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType,
};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Enough for a response head and a small body; larger writes go straight through.
const WRITE_BUFFER_BYTES: usize = 4096;

/// What was accepted, on no runtime: it is served on another one than it was accepted on.
#[derive(Debug)]
pub(super) enum Accepting {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Accepting {
    pub(super) fn on_this_runtime(self) -> io::Result<Raw> {
        Ok(match self {
            Self::Tcp(stream) => Raw::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Raw::Unix(UnixStream::from_std(stream)?),
        })
    }
}

/// A connected socket.
#[derive(Debug)]
pub(super) enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsRawFd for Raw {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// Delegates one poll function to whichever stream it is.
macro_rules! delegate {
    ($self:ident, $call:ident $(, $argument:expr)*) => {
        match $self.get_mut() {
            Raw::Tcp(stream) => Pin::new(stream).$call($($argument),*),
            Raw::Unix(stream) => Pin::new(stream).$call($($argument),*),
        }
    };
}

impl AsyncRead for Raw {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Raw {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_shutdown, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write_vectored, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Socket {
    io: BufWriter<Raw>,
    established: SystemTime,
    digest: Option<Arc<SocketDigest>>,
}

impl Socket {
    pub(super) fn new(raw: Raw) -> Self {
        Self { io: BufWriter::with_capacity(WRITE_BUFFER_BYTES, raw), established: SystemTime::now(), digest: None }
    }

    /// Fixes the addresses Pingora reports for this socket: the client's and the one it connected to.
    pub(super) fn set_addresses(&mut self, client: Option<SocketAddr>, local: Option<SocketAddr>) {
        let digest = SocketDigest::from_raw_fd(self.io.get_ref().as_raw_fd());
        // Both cells are empty, so setting them cannot fail.
        let _ = digest.peer_addr.set(client.map(PingoraAddress::Inet));
        let _ = digest.local_addr.set(local.map(PingoraAddress::Inet));
        self.digest = Some(Arc::new(digest));
    }
}

impl Drop for Socket {
    /// What was written but not flushed leaves if the kernel takes it at once; nobody waits for it.
    fn drop(&mut self) {
        let _ = Pin::new(&mut self.io).poll_flush(&mut Context::from_waker(Waker::noop()));
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Whoever reads has nothing more to write for now: an origin that pauses must not hold back the head of its answer.
        // Not yet flushed is no reason not to read.
        if !self.io.buffer().is_empty()
            && let Poll::Ready(Err(error)) = Pin::new(&mut self.io).poll_flush(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(self.io.get_mut()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[async_trait]
impl Shutdown for Socket {
    async fn shutdown(&mut self) {
        // The peer may be gone already; there is nothing to do about it.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Socket {
    fn id(&self) -> UniqueIDType {
        self.io.get_ref().as_raw_fd()
    }
}

impl Ssl for Socket {}
impl Peek for Socket {}

impl GetTimingDigest for Socket {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest { established_ts: self.established, ..TimingDigest::default() })]
    }
}

impl GetProxyDigest for Socket {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Socket {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.digest.clone()
    }
}
