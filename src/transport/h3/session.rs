//! One request as Pingora sees it. Pingora knows three kinds of sessions and one that others make: this is such a one.
//!
//! What Pingora relies on: dropped before its end, the stream is reset ([`super::send`]); a failed task's error comes back as it
//! was; once the body is read, `read_body_or_idle` waits for the client to leave; proxy tasks may be abandoned half-way, so that a
//! slow client never holds up a fill; and a body that is shorter than its head promised never ends well.

mod pingora;

use super::code::{Broken, Code};
use super::fields;
use super::receive::{Ended, Receiver};
use super::send::{Sender, Stopped, Unsent};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, Method, StatusCode};
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::body_buffer::FixedBuffer;
use pingora_core::protocols::http::date::get_cached_date;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use prometheus::IntCounter;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::timeout;

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
        self.receiver.stop_with(Code::REQUEST_CANCELLED);
        // At once (RFC 9000, section 3.5), though what is fetched may still be wanted by others.
        self.sender.reset_with(Code::REQUEST_CANCELLED);
        self.sender.abort();
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
