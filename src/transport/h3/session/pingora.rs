//! What Pingora calls, in terms of [`super::Session`].

use super::{Session, internal};
use crate::transport::h3::send::{Stopped, Unsent};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, Version};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::body_buffer::FixedBuffer;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session as CustomSession;
use pingora_core::protocols::http::v1::client::http_req_header_to_wire;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use std::time::Duration;

/// A body is kept for another try at an origin up to here, as for the other protocols.
const RETRY_BYTES_MAX: usize = 64 << 10;

#[async_trait]
impl CustomSession for Session {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.read().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        // Nothing has to be read before the next request of the connection: the client is told to stop.
        Ok(())
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.push_head(head)?;
        // The body may be long in coming. QUIC sends when this task waits, so a head and a body that is there leave together.
        self.flush().await?;
        if end { self.end().await } else { Ok(()) }
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(head.clone()), end).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.push_body(data)?;
        self.flush().await?;
        if end { self.end().await } else { Ok(()) }
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.push_trailers(&trailers);
        self.end().await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut end = false;
        for task in tasks {
            end |= self.push_task(task)?;
        }
        self.flush().await?;
        if end {
            self.end().await?;
        }
        Ok(end)
    }

    fn proxy_tasks_enabled(&self) -> bool {
        self.proxy_tasks
    }

    fn set_proxy_tasks_enabled(&mut self, enabled: bool) {
        self.proxy_tasks = enabled;
    }

    fn send_proxy_task(&mut self, task: HttpTask) {
        match self.push_task(task) {
            Ok(end) => self.end_queued |= end,
            Err(error) => self.failed = Some(error),
        }
    }

    fn has_pending_proxy_tasks(&self) -> bool {
        self.sender.is_waiting() || self.end_queued || self.failed.is_some()
    }

    async fn write_proxy_tasks(&mut self) -> Result<bool> {
        self.flush().await?;
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if std::mem::take(&mut self.end_queued) {
            self.end().await?;
            return Ok(true);
        }
        Ok(false)
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read_timeout = timeout;
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.read_timeout
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write_timeout = timeout;
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.drain_timeout = timeout;
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.drain_timeout
    }

    /// Without the query, which may hold a token.
    fn request_summary(&self) -> String {
        format!("{} HTTP/3", self.request.method)
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_deref()
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        self.sender.abort();
    }

    fn is_body_done(&mut self) -> bool {
        self.receiver.is_done()
    }

    async fn finish(&mut self) -> Result<()> {
        self.end().await
    }

    fn is_body_empty(&mut self) -> bool {
        self.receiver.is_empty()
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if !no_body_expected && !self.receiver.is_done() {
            return self.read().await;
        }
        let sender = &self.sender;
        let stopped = self.stopped.get_or_insert_with(|| Box::pin(sender.stopped())).await;
        // It may be asked again.
        self.stopped = Some(Box::pin(std::future::ready(stopped)));
        match stopped {
            // It has its answer; what is left to do is not for it.
            Stopped::Delivered => std::future::pending().await,
            Stopped::Cancelled => Err(self.unsent(Unsent::Stopped)),
            Stopped::Lost => Err(self.unsent(Unsent::Lost)),
        }
    }

    fn body_bytes_sent(&self) -> usize {
        self.sent.saturating_sub(self.sender.unsent())
    }

    fn body_bytes_read(&self) -> usize {
        self.read
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.digest)
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        Some(&mut self.digest)
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.peer_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.digest.socket_digest.as_ref()?.local_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        let mut request = self.request.clone();
        request.set_version(Version::HTTP_11);
        http_req_header_to_wire(&request).map(bytes::BytesMut::freeze).unwrap_or_default()
    }

    fn enable_retry_buffering(&mut self) {
        self.retry.get_or_insert_with(|| FixedBuffer::new(RETRY_BYTES_MAX));
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.retry.as_ref().is_some_and(FixedBuffer::is_truncated)
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.retry.as_ref().filter(|retry| !retry.is_truncated())?.get_buffer()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Err(internal("custom messages in HTTP/3"))
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Err(internal("custom messages in HTTP/3"))
    }
}
