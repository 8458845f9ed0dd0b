//! A request over HTTP/2 that has a body, as Pingora sees it: once its answer has ended, its body has too.
//!
//! An origin may answer before it has read the body. Pingora would go on with the body, and hold the stream and the origin's
//! connection until the client has sent all or the origin's write times out. Here what the client still sends behind the answer's
//! end is dropped, so much and so long: some (curl 7.88) lose the end of an answer that RST_STREAM follows at once. Then Pingora
//! lets go of the stream, and `h2` says `RST_STREAM` with `NO_ERROR` (RFC 9113, section 8.1).
//!
//! Everything else is Pingora's own session. Absences: no read timeout (`uploads`), no messages beside the request.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::protocols::http::v2::server::HttpSession;
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use std::time::Duration;
use tokio::time::timeout;

/// How long a body is dropped after the answer's end, and how much of it. Then the client is told to stop.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES_MAX: usize = 4 << 20;

/// See the module. Sessions of other kinds and those without a body stay as they are.
pub(super) fn wrapped(session: ServerSession) -> ServerSession {
    match session {
        ServerSession::H2(inner) if !inner.is_body_done() => {
            ServerSession::new_custom(Box::new(UploadSession { inner, is_answered: false, has_lingered: false }))
        }
        other => other,
    }
}

struct UploadSession {
    inner: HttpSession,
    /// The answer has ended.
    is_answered: bool,
    has_lingered: bool,
}

impl UploadSession {
    /// Ends with the body, with the stream or after [`LINGER`].
    async fn linger(&mut self) {
        if std::mem::replace(&mut self.has_lingered, true) || self.inner.is_body_done() {
            return;
        }
        let most = self.inner.body_bytes_read().saturating_add(LINGER_BYTES_MAX);
        let dropped = async {
            while self.inner.body_bytes_read() < most {
                if !matches!(self.inner.read_body_bytes().await, Ok(Some(_))) {
                    return;
                }
            }
            // Its window is closed now.
            std::future::pending().await
        };
        // Either way it has its answer.
        let _ = timeout(LINGER, dropped).await;
    }
}

#[async_trait]
impl Session for UploadSession {
    fn req_header(&self) -> &RequestHeader {
        self.inner.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner.req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.inner.read_body_bytes().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        // Nothing has to be read before the next request of the connection.
        Ok(())
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.inner.write_response_header(head, end)?;
        self.is_answered |= end;
        Ok(())
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(head.clone()), end).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.inner.write_body(data, end).await?;
        self.is_answered |= end;
        Ok(())
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner.write_trailers(trailers)?;
        self.is_answered = true;
        Ok(())
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let end = self.inner.response_duplex_vec(tasks).await?;
        self.is_answered |= end;
        Ok(end)
    }

    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.get_total_drain_timeout()
    }

    /// Without the query, which may hold a token.
    fn request_summary(&self) -> String {
        format!("{} HTTP/2", self.inner.req_header().method)
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner.response_written()
    }

    async fn shutdown(&mut self, _code: u32, _context: &str) {
        self.inner.shutdown();
    }

    fn is_body_done(&mut self) -> bool {
        self.is_answered || self.inner.is_body_done()
    }

    async fn finish(&mut self) -> Result<()> {
        self.inner.finish()?;
        self.is_answered = true;
        self.linger().await;
        Ok(())
    }

    fn is_body_empty(&mut self) -> bool {
        self.inner.is_body_empty()
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if self.is_answered && !no_body_expected {
            return Ok(None);
        }
        self.inner.read_body_or_idle(no_body_expected).await
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner.pseudo_raw_h1_request_header()
    }

    fn enable_retry_buffering(&mut self) {
        self.inner.enable_retry_buffering();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.inner.retry_buffer_truncated()
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.inner.get_retry_buffer()
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
        Err(no_messages())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Err(no_messages())
    }
}

fn no_messages() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "custom messages in HTTP/2")
}
