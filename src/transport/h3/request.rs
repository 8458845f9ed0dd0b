//! One request: its head within its time and size, then Pingora, then until the client has the answer.

use super::code::{Broken, Code};
use super::connection::Shared;
use super::control::stream_priority;
use super::fields;
use super::message::Message;
use super::receive::{Ended, Receiver};
use super::send::Sender;
use super::session::{Parts, Session};
use crate::http::priority::{self, Priority};
use crate::transport::h3::control::UNSAID;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::l4::socket::SocketAddr as PingoraAddress;
use pingora_core::protocols::{Digest, SocketDigest, TimingDigest};
use pingora_http::ResponseHeader;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// How long the first bytes of a body, or the end, are waited for: a request without a body must not go to an origin as one that
/// may have one, nor one whose length is wrong from the start.
const END_WAIT: Duration = Duration::from_millis(100);
/// A HEADERS frame may be as long as the largest head; what is beyond this is no honest one.
const FRAME_BYTES_LEAST: usize = 128 << 10;

/// How a request ended, as far as its client is to be judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    /// The client gave it up, or spoiled it.
    BrokenOff,
}

/// One request's stream.
pub(super) struct Request {
    pub shared: Arc<Shared>,
    pub id: u64,
}

impl Request {
    /// See the module. It goes on without its client, should that leave: others may be waiting for what it fetches.
    pub async fn serve<A>(self, send: quinn::SendStream, receive: quinn::RecvStream, app: Arc<A>) -> Outcome
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let limits = &self.shared.limits;
        let _held = self.shared.listener.context.shared.lifecycle.hold();
        let frame_bytes_max = limits.header_bytes_max.max(FRAME_BYTES_LEAST) as u64;
        let mut receiver = Receiver::new(receive, Message::new(limits.header_bytes_max, frame_bytes_max));
        let head = async {
            let _turn = self.shared.heads.acquire().await;
            receiver.head().await
        };
        let request = match timeout(limits.header_timeout, head).await {
            Ok(Ok(request)) => request,
            Ok(Err(ended)) => return self.refuse(ended, send, receiver).await,
            Err(_elapsed) => {
                self.limit_reached("header_timeout");
                return self.answer(408, send).await;
            }
        };
        let said = priority::parse_lines(request.headers.get_all("priority").iter().map(http::HeaderValue::as_bytes));
        let priority = self.shared.control.priorities.open(self.id, said);
        let outcome = self.proxy(request, receiver, self.sender(send, priority), app).await;
        self.shared.control.priorities.close(self.id);
        outcome
    }

    async fn proxy<A>(
        &self,
        request: http::request::Parts,
        mut receiver: Receiver,
        sender: Sender,
        app: Arc<A>,
    ) -> Outcome
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        if let Ok(Err(ended)) = timeout(END_WAIT, receiver.look_ahead()).await {
            return self.spoiled(ended, sender, receiver);
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let delivered = sender.stopped();
        let metrics = &self.shared.listener.context.shared.metrics;
        let session = Session::new(Parts {
            request,
            receiver,
            sender,
            connection: self.shared.quic.clone(),
            digest: self.digest(),
            cancelled: Arc::clone(&cancelled),
            stalls: metrics.limits_reached.with_label_values(&["stall_timeout"]),
        });
        app.process_new_http(ServerSession::new_custom(Box::new(session)), &self.shared.shutdown).await;
        // The connection must not end before the client has it all.
        let _ = timeout(self.shared.limits.stall_timeout, delivered).await;
        if cancelled.load(Ordering::Relaxed) { Outcome::BrokenOff } else { Outcome::Answered }
    }

    /// There is no head to answer.
    async fn refuse(&self, ended: Ended, send: quinn::SendStream, receiver: Receiver) -> Outcome {
        if ended == Ended::TooLarge {
            self.limit_reached("header_bytes");
            let outcome = self.answer(431, send).await;
            drop(receiver);
            return outcome;
        }
        let priority = Arc::new(AtomicI32::new(stream_priority(UNSAID, self.id)));
        self.spoiled(ended, self.sender(send, priority), receiver)
    }

    fn sender(&self, send: quinn::SendStream, priority: Arc<AtomicI32>) -> Sender {
        let turn = self.shared.turns.take(priority.load(Ordering::Relaxed));
        Sender::new(send, priority, turn)
    }

    fn spoiled(&self, ended: Ended, mut sender: Sender, mut receiver: Receiver) -> Outcome {
        let code = match ended {
            Ended::Cancelled | Ended::Lost => Code::REQUEST_CANCELLED,
            Ended::TooLarge => Code::EXCESSIVE_LOAD,
            Ended::Broken(Broken::Stream(code)) => code,
            Ended::Broken(Broken::Connection(code)) => {
                tracing::debug!(connection = self.shared.facts.id, %code, "an HTTP/3 connection closed");
                self.shared.quic.close(code.into(), b"");
                code
            }
        };
        if !matches!(ended, Ended::Cancelled | Ended::Lost) {
            self.count_refused("400");
        }
        sender.reset_with(code);
        receiver.stop_with(code);
        Outcome::BrokenOff
    }

    /// A head and no more, for a request that has none.
    async fn answer(&self, status: u16, send: quinn::SendStream) -> Outcome {
        self.count_refused(if status == 408 { "408" } else { "431" });
        let priority = stream_priority(Priority::default(), self.id);
        let mut sender = self.sender(send, Arc::new(AtomicI32::new(priority)));
        if let Ok(mut head) = ResponseHeader::build(status, Some(1))
            && head.insert_header(http::header::CONTENT_LENGTH, "0").is_ok()
        {
            sender.push_section(&fields::response(&head));
            if sender.flush(Some(self.shared.limits.stall_timeout)).await.is_ok() {
                sender.finish();
            }
        }
        Outcome::BrokenOff
    }

    fn digest(&self) -> Digest {
        let digest = SocketDigest::from_raw_fd(self.shared.listener.raw_fd());
        // All cells are empty, so setting them cannot fail.
        let _ = digest.peer_addr.set(self.shared.facts.client.map(PingoraAddress::Inet));
        let _ = digest.local_addr.set(self.shared.facts.local.map(PingoraAddress::Inet));
        Digest {
            ssl_digest: None,
            timing_digest: vec![Some(TimingDigest::default())],
            proxy_digest: Some(Arc::clone(&self.shared.proxy_digest)),
            socket_digest: Some(Arc::new(digest)),
        }
    }

    fn limit_reached(&self, limit: &str) {
        self.shared.listener.context.limit_reached(limit);
    }

    /// A request that never reached the edge's phases, and so is in no access log.
    fn count_refused(&self, status: &str) {
        let metrics = &self.shared.listener.context.shared.metrics;
        metrics.requests.with_label_values(&["none", "h3", "other", "none", status]).inc();
    }
}
