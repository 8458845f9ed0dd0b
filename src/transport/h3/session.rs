//! One request as Pingora sees it. Pingora knows three kinds of sessions and one that others make: this is such a one.
//!
//! What Pingora relies on: dropped before its end, the stream is reset ([`super::send`]); a failed task's error comes back as it
//! was; once the body is read, `read_body_or_idle` waits for the client to leave; proxy tasks may be abandoned half-way, so that a
//! slow client never holds up a fill; and a body that is shorter than its head promised never ends well.

use super::code::{Broken, Code};
use super::fields;
use super::receive::{Ended, Receiver};
use super::send::{Sender, Stopped, Unsent};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, Method, StatusCode, Version};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::body_buffer::FixedBuffer;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session as CustomSession;
use pingora_core::protocols::http::date::get_cached_date;
use pingora_core::protocols::http::v1::client::http_req_header_to_wire;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use prometheus::IntCounter;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// A body is kept for another try at an origin up to here, as for the other protocols.
const RETRY_BYTES_MAX: usize = 64 << 10;

type StoppedFuture = Pin<Box<dyn Future<Output = Stopped> + Send + Sync>>;

/// See the module.
pub(super) struct Session {
    request: RequestHeader,
    receiver: Receiver,
    sender: Sender,
    connection: quinn::Connection,
    digest: Digest,
    /// Set when the client gave up.
    cancelled: Arc<AtomicBool>,
    stalls: IntCounter,
    written: Option<Box<ResponseHeader>>,
    /// What the answer's Content-Length still promises.
    owed: Option<u64>,
    sent: usize,
    read: usize,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    drain_timeout: Option<Duration>,
    retry: Option<FixedBuffer>,
    proxy_tasks: bool,
    /// A proxy task ended the answer; it is not flushed yet.
    end_queued: bool,
    failed: Option<Box<Error>>,
    stopped: Option<StoppedFuture>,
}

/// What a session is made of.
pub(super) struct Parts {
    pub request: http::request::Parts,
    pub receiver: Receiver,
    pub sender: Sender,
    pub connection: quinn::Connection,
    pub digest: Digest,
    pub cancelled: Arc<AtomicBool>,
    pub stalls: IntCounter,
}

impl Session {
    pub fn new(parts: Parts) -> Self {
        Self {
            request: RequestHeader::from(parts.request),
            receiver: parts.receiver,
            sender: parts.sender,
            connection: parts.connection,
            digest: parts.digest,
            cancelled: parts.cancelled,
            stalls: parts.stalls,
            written: None,
            owed: None,
            sent: 0,
            read: 0,
            read_timeout: None,
            write_timeout: None,
            drain_timeout: None,
            retry: None,
            proxy_tasks: false,
            end_queued: false,
            failed: None,
            stopped: None,
        }
    }

    /// An answer without a body, whatever its head says (RFC 9110, section 6.4.1).
    fn is_bodiless(&self) -> bool {
        let status = self.written.as_ref().map(|head| head.status);
        self.request.method == Method::HEAD || matches!(status, Some(StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED))
    }

    fn push_head(&mut self, mut head: Box<ResponseHeader>) -> Result<()> {
        if head.status.is_informational() || self.written.is_some() || self.sender.is_ended() {
            return Ok(());
        }
        if !head.headers.contains_key(DATE) {
            head.insert_header(DATE, get_cached_date())?;
        }
        self.sender.push_section(&fields::response(&head));
        let length = head.headers.get(CONTENT_LENGTH).and_then(fields::number);
        self.written = Some(head);
        self.owed = length.filter(|_| !self.is_bodiless());
        Ok(())
    }

    fn push_body(&mut self, data: Bytes) -> Result<()> {
        if data.is_empty() || self.sender.is_ended() || self.is_bodiless() {
            return Ok(());
        }
        if self.written.is_none() {
            return Err(internal("a body without a head"));
        }
        if let Some(owed) = &mut self.owed {
            *owed = owed.checked_sub(data.len() as u64).ok_or_else(|| internal("more body than its head promised"))?;
        }
        self.sent += data.len();
        self.sender.push_data(data);
        Ok(())
    }

    fn push_trailers(&mut self, trailers: &HeaderMap) {
        if !self.sender.is_ended() && self.written.is_some() {
            self.sender.push_section(&fields::trailer_section(trailers));
        }
    }

    /// True: the task was the last.
    fn push_task(&mut self, task: HttpTask) -> Result<bool> {
        let end = task.is_end();
        match task {
            HttpTask::Header(head, _) => self.push_head(head)?,
            HttpTask::Body(data, _) => self.push_body(data.unwrap_or_default())?,
            HttpTask::Trailer(Some(trailers)) => self.push_trailers(&trailers),
            HttpTask::Trailer(None) | HttpTask::Done => {}
            HttpTask::UpgradedBody(..) => return Err(internal("an upgrade in HTTP/3")),
            HttpTask::Failed(error) => return Err(error),
        }
        Ok(end)
    }

    async fn flush(&mut self) -> Result<()> {
        let flushed = self.sender.flush(self.write_timeout).await;
        flushed.map_err(|unsent| self.unsent(unsent))
    }

    fn unsent(&mut self, unsent: Unsent) -> Box<Error> {
        let (kind, what) = match unsent {
            Unsent::Stalled => {
                self.stalls.inc();
                self.sender.reset_with(Code::REQUEST_CANCELLED);
                (ErrorType::WriteTimedout, "the client takes no more of the answer")
            }
            Unsent::Stopped => {
                self.gone();
                (ErrorType::ConnectionClosed, "the client cancelled the request")
            }
            Unsent::Lost => (ErrorType::ConnectionClosed, "the client's connection is gone"),
        };
        Error::explain(kind, what).into_down()
    }

    fn gone(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.sender.reset_with(Code::REQUEST_CANCELLED);
        self.receiver.stop_with(Code::REQUEST_CANCELLED);
    }

    fn ended(&mut self, ended: Ended) -> Box<Error> {
        let (kind, what) = match ended {
            Ended::Cancelled => {
                self.gone();
                (ErrorType::ConnectionClosed, "the client cancelled the request")
            }
            Ended::Lost => (ErrorType::ConnectionClosed, "the client's connection is gone"),
            Ended::TooLarge => {
                self.break_off(Code::EXCESSIVE_LOAD);
                (ErrorType::InvalidHTTPHeader, "trailers too large")
            }
            Ended::Broken(Broken::Stream(code)) => {
                self.break_off(code);
                (ErrorType::InvalidHTTPHeader, "a malformed request body")
            }
            Ended::Broken(Broken::Connection(code)) => {
                self.connection.close(code.into(), b"");
                (ErrorType::InvalidHTTPHeader, "frames out of order")
            }
        };
        Error::explain(kind, what).into_down()
    }

    /// A malformed message: no answer, nor the rest of one.
    fn break_off(&mut self, code: Code) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.sender.reset_with(code);
        self.receiver.stop_with(code);
        self.sender.abort();
    }

    async fn read(&mut self) -> Result<Option<Bytes>> {
        let read = self.receiver.body();
        let read = match self.read_timeout {
            None => read.await,
            Some(limit) => match timeout(limit, read).await {
                Ok(read) => read,
                Err(_) => return Err(Error::explain(ErrorType::ReadTimedout, "the request's body stalled").into_down()),
            },
        };
        let data = read.map_err(|ended| self.ended(ended))?;
        if let Some(data) = &data {
            self.read += data.len();
            if let Some(retry) = &mut self.retry {
                retry.write_to_buffer(data);
            }
        }
        Ok(data)
    }

    /// Sends the end, if everything that was promised is on its way.
    async fn end(&mut self) -> Result<()> {
        if self.sender.is_ended() || self.written.is_none() {
            return Ok(());
        }
        if self.owed.is_some_and(|owed| owed > 0) {
            self.sender.abort();
            return Err(internal("less body than its head promised"));
        }
        self.flush().await?;
        self.sender.finish();
        Ok(())
    }
}

fn internal(what: &'static str) -> Box<Error> {
    Error::explain(ErrorType::InternalError, what)
}

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
        self.sender.queued() > 0 || self.end_queued || self.failed.is_some()
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
        self.sent.saturating_sub(self.sender.queued())
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
