//! Bodies that turned out too large to keep while they came: they go to the client alone whose request fetches them.
//!
//! Pingora drives the origin's side and the client's of such a request from one task, and prefers what comes from the origin: whenever the
//! origin is held back, more of it waits afterwards, and the client gets its turn the more seldom. So the client gets what waits for
//! it here, between two pieces from the origin, as far as it takes it at once; only then is the origin held back. What goes this way
//! goes through the same filters, in the same order.
//!
//! Not for ranges (Pingora cuts them out elsewhere), nor where it writes to the client without a queue: there the client itself holds
//! the origin back.

use super::Edge;
use super::context::Context;
use crate::cache;
use futures_util::FutureExt;
use http::{Method, StatusCode};
use pingora_core::protocols::http::HttpTask;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::unconstrained;

impl Edge {
    /// A head is about to be queued for the client: all of its body follows, or something else.
    pub(super) fn note_head(session: &Session, response: &ResponseHeader, ctx: &mut Context) {
        ctx.cache.whole_follows = response.status == StatusCode::OK
            && session.req_header().method == Method::GET
            && session.downstream_session.supports_proxy_task_api();
    }

    /// Before a piece of a body is taken from the origin: for how long that is to be held back, if at all.
    ///
    /// # Errors
    /// Its client has left, and nobody else gets it; or a filter of the client's side failed.
    pub(super) fn pass_on(&self, session: &mut Session, ctx: &Context) -> Result<Option<Duration>> {
        if held_back(session).is_none() {
            return Ok(None);
        }
        if ctx.cache.client_left.load(Ordering::Relaxed) {
            return Error::e_explain(ErrorType::ConnectionClosed, "the client left a body too large to keep")
                .map_err(Error::into_down);
        }
        if ctx.cache.whole_follows {
            give_what_waits(session)?;
        }
        Ok(held_back(session).filter(|pause| !pause.is_zero()))
    }
}

fn held_back(session: &mut Session) -> Option<Duration> {
    session.cache.miss_body_reader().and_then(|reader| cache::held_back(reader))
}

/// Until the client takes no more at once, or nothing is left. Failures to read or to write are left for Pingora to meet: they last.
fn give_what_waits(session: &mut Session) -> Result<()> {
    loop {
        // The end is never among it: a piece is still to come.
        if session.has_pending_downstream_tasks()
            && !matches!(unconstrained(session.write_downstream_proxy_tasks()).now_or_never(), Some(Ok(_)))
        {
            return Ok(());
        }
        let Some(reader) = session.cache.miss_body_reader() else { return Ok(()) };
        let Some(Ok(Some(bytes))) = reader.read_body().now_or_never() else { return Ok(()) };
        let queued = unconstrained(session.send_downstream_proxy_task(HttpTask::Body(Some(bytes), false)));
        queued.now_or_never().unwrap_or_else(|| Error::e_explain(ErrorType::InternalError, "a filter waits"))?;
    }
}
