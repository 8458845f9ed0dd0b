//! Requests of our own on behalf of a client's: what starts them, and how their answers are read.
//!
//! Pingora gives each request one spawner, which can be taken once; several things may need it in turn ([`spawner`]): parts, a refresh,
//! the rest of a body, another rung's source. [`Incoming`] is the one reader of what Pingora sends in return.

use super::context::Context;
use bytes::Bytes;
use pingora_core::protocols::http::subrequest::server::SubrequestHandle;
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_http::ResponseHeader;
use pingora_proxy::{Session, SubrequestSpawner, subrequest};
use std::io::Cursor;
use std::sync::Arc;

/// None: this request may have no requests of its own.
pub(super) fn spawner(session: &mut Session, ctx: &Context) -> Option<Arc<SubrequestSpawner>> {
    if let Some(spawner) = session.subrequest_spawner.take() {
        // Taken once, so it is set once.
        let _ = ctx.spawner.set(Arc::new(spawner));
    }
    ctx.spawner.get().cloned()
}

/// Starts the request that a head, written as HTTP/1.1, asks for. `mark`: what it finds in its context. None: that is no head.
pub(super) async fn start(spawner: &SubrequestSpawner, head: Vec<u8>, mark: subrequest::UserCtx) -> Option<Incoming> {
    let mut template = ServerSession::new_http1(Box::new(Cursor::new(head)));
    if !matches!(template.read_request().await, Ok(true)) {
        tracing::warn!("a request of our own could not be written");
        return None;
    }
    let (child, handle) = spawner.create_subrequest(&template, subrequest::Ctx::builder().user_ctx(mark).build());
    tokio::spawn(child.run());
    Some(Incoming::new(handle))
}

/// The answer to a request of ours, as it comes: heads, then bytes, then whether that was all. Dropping it gives the request up.
///
/// Invariant: it is whole only where its end was told. Pingora tells it by `Done`, also after trailers (which nobody here wants), but not
/// where an answer is our own: that just ends, and then its length says whether it is whole. All other silence is an answer broken off.
pub(super) struct Incoming {
    handle: SubrequestHandle,
    /// How much of the body is to come, where its head says so.
    left: Option<u64>,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Broken,
}

impl Incoming {
    /// Of a request that runs.
    pub(super) fn new(handle: SubrequestHandle) -> Self {
        Self { handle, left: None, end: None }
    }

    /// The next head: any number of informational ones, then the answer's. None: there is none. Cancel-safe.
    pub(super) async fn head(&mut self) -> Option<Box<ResponseHeader>> {
        if self.end.is_some() {
            return None;
        }
        match self.handle.rx.recv().await {
            Some(HttpTask::Header(header, ended)) => {
                if !header.status.is_informational() {
                    self.left = super::keep::content_length(&header.headers);
                    self.end = ended.then_some(End::Whole);
                }
                Some(header)
            }
            _ => {
                self.end = Some(End::Broken);
                None
            }
        }
    }

    /// The answer's own head.
    pub(super) async fn final_head(&mut self) -> Option<Box<ResponseHeader>> {
        loop {
            let header = self.head().await?;
            if !header.status.is_informational() {
                return Some(header);
            }
        }
    }

    /// The next bytes of the body, never none of them. None: there are no more, for whatever reason. Cancel-safe.
    pub(super) async fn bytes(&mut self) -> Option<Bytes> {
        while self.end.is_none() {
            match self.handle.rx.recv().await {
                Some(HttpTask::Body(bytes, ended)) => {
                    self.end = ended.then_some(End::Whole);
                    if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
                        self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
                        return Some(bytes);
                    }
                }
                Some(HttpTask::Done) => self.end = Some(End::Whole),
                Some(HttpTask::Header(..) | HttpTask::Trailer(_)) => {}
                None if self.left == Some(0) => self.end = Some(End::Whole),
                Some(HttpTask::UpgradedBody(..) | HttpTask::Failed(_)) | None => self.end = Some(End::Broken),
            }
        }
        None
    }

    /// The body came to its end, and was not broken off.
    pub(super) fn is_whole(&self) -> bool {
        self.end == Some(End::Whole)
    }
}

#[cfg(test)]
mod tests;
