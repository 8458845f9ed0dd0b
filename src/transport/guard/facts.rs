//! What Pingora asks of a stream beside its bytes: passed through from the stream below, with our own facts of the connection.

use super::Guarded;
use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::{SslDigest, TlsRef};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, IO, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use std::io;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

#[async_trait]
impl<S: IO> Peek for Guarded<S> {
    /// Pingora asks for HTTP/2's preface where [`Self::begins_with_preface`] found it; nothing else can be peeked.
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        let Some(seen) = self.replay.get(..buf.len()) else { return Ok(false) };
        buf.copy_from_slice(seen);
        Ok(true)
    }
}

#[async_trait]
impl<S: IO> Shutdown for Guarded<S> {
    async fn shutdown(&mut self) {
        // The peer may be gone already; there is nothing to do about it.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl<S: IO> UniqueID for Guarded<S> {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl<S: IO> Ssl for Guarded<S> {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl<S: IO> GetTimingDigest for Guarded<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl<S: IO> GetProxyDigest for Guarded<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.connection.as_ref().map(|(_, digest)| Arc::clone(digest))
    }
}

impl<S: IO> GetSocketDigest for Guarded<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}
