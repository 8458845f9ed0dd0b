//! A TCP or unix socket as Pingora's `IO`, without a write buffer: that is above TLS, where it saves records too.
//! (Pingora's own stream type cannot be told to have none.)

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
use std::task::{Context, Poll};
use std::time::SystemTime;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

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
        // A TLS record comes as one slice, and send(2) costs less than writev(2).
        if let [one] = bufs {
            return self.poll_write(cx, one);
        }
        delegate!(self, poll_write_vectored, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Socket {
    io: Raw,
    established: SystemTime,
    digest: Option<Arc<SocketDigest>>,
}

impl Socket {
    pub(super) fn new(raw: Raw) -> Self {
        Self { io: raw, established: SystemTime::now(), digest: None }
    }

    /// Fixes the addresses Pingora reports for this socket: the client's and the one it connected to.
    pub(super) fn set_addresses(&mut self, client: Option<SocketAddr>, local: Option<SocketAddr>) {
        let digest = SocketDigest::from_raw_fd(self.io.as_raw_fd());
        // Both cells are empty, so setting them cannot fail.
        let _ = digest.peer_addr.set(client.map(PingoraAddress::Inet));
        let _ = digest.local_addr.set(local.map(PingoraAddress::Inet));
        self.digest = Some(Arc::new(digest));
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
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
        self.io.as_raw_fd()
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
