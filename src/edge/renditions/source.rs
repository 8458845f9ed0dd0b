//! What is the origin's, asked for through the cache by requests of our own on behalf of a client: with what the client sent, so the
//! origin may refuse, and bytes that are kept are not asked for again.
//!
//! Invariants: a request of these stays on the site its client came to, and asks for nothing that was added; an answer is bounded in
//! bytes and time, and whole.

use super::super::Edge;
use super::super::admit::refusal;
use super::super::context::Context;
use super::super::{log, refresh, subrequests};
use crate::http::forwarded::Client;
use crate::transport::Connection;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;
use parking_lot::Mutex;
use pingora_cache::CachePhase;
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::{Session, SubrequestSpawner, subrequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// From the request to the last byte.
const TIME_MAX: Duration = Duration::from_secs(60);

/// All that is needed to ask.
pub(super) struct Sources {
    spawner: Arc<SubrequestSpawner>,
    authority: String,
    headers: HeaderMap,
    client: Client,
    connection: Option<Arc<Connection>>,
    site_index: Option<usize>,
}

/// In the context of a request of ours: for whom it is, and what is to be known of the answer.
pub struct Source {
    pub(in crate::edge) client: Client,
    pub(in crate::edge) connection: Option<Arc<Connection>>,
    site_index: Option<usize>,
    said: Arc<Mutex<Option<Said>>>,
}

/// What the answer's head does not say.
#[derive(Debug)]
struct Said {
    is_kept: bool,
    fresh_s: i64,
    cache_status: String,
    label: &'static str,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Fetched {
    pub header: Box<ResponseHeader>,
    pub body: Bytes,
    /// It lies in the cache, for everyone.
    pub is_kept: bool,
    /// Seconds for which it is fresh; not more than 0: it is not.
    pub fresh_s: i64,
    pub cache_status: Option<String>,
    /// For the log.
    pub label: Option<&'static str>,
}

/// There is no answer, or not all of it.
#[derive(Debug)]
pub(super) struct NoAnswer;

impl Fetched {
    /// Its bytes, and what else is to be known.
    pub(super) fn apart(mut self) -> (Bytes, Self) {
        (std::mem::take(&mut self.body), self)
    }
}

impl Sources {
    /// None: this request may have no requests of its own.
    pub(super) fn new(session: &mut Session, ctx: &Context) -> Option<Self> {
        Some(Self {
            authority: ctx.authority.clone()?,
            spawner: subrequests::spawner(session, ctx)?,
            headers: session.req_header().headers.clone(),
            client: ctx.client.clone(),
            connection: ctx.connection.clone(),
            site_index: ctx.site_index,
        })
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Asks for a path and query.
    pub(super) async fn fetch(&self, target: &str, bytes_max: usize) -> Result<Fetched, NoAnswer> {
        timeout(TIME_MAX, self.ask(target, bytes_max)).await.map_err(|_| NoAnswer)?
    }

    async fn ask(&self, target: &str, bytes_max: usize) -> Result<Fetched, NoAnswer> {
        let head = refresh::head(target, &self.authority, &self.headers, &[(ACCEPT_ENCODING, "identity")]);
        let said = Arc::new(Mutex::new(None));
        let source: subrequest::UserCtx = Box::new(Some(Source {
            client: self.client.clone(),
            connection: self.connection.clone(),
            site_index: self.site_index,
            said: said.clone(),
        }));
        let mut incoming = subrequests::start(&self.spawner, head, source).await.ok_or(NoAnswer)?;
        let header = incoming.final_head().await.ok_or(NoAnswer)?;
        let mut body = BytesMut::new();
        while let Some(bytes) = incoming.bytes().await {
            if body.len() + bytes.len() > bytes_max {
                return Err(NoAnswer);
            }
            body.extend_from_slice(&bytes);
        }
        if !incoming.is_whole() {
            return Err(NoAnswer);
        }
        let said = said.lock().take();
        Ok(Fetched {
            header,
            body: body.freeze(),
            is_kept: said.as_ref().is_some_and(|said| said.is_kept),
            fresh_s: said.as_ref().map_or(0, |said| said.fresh_s),
            label: said.as_ref().map(|said| said.label),
            cache_status: said.map(|said| said.cache_status),
        })
    }
}

/// The request of these that a request is, if it is one.
pub(in crate::edge) fn of(session: &mut Session) -> Option<Source> {
    let given = session.subrequest_ctx.as_mut()?.user_ctx_mut()?;
    given.downcast_mut::<Option<Source>>()?.take()
}

impl Source {
    /// Its path may belong to another site than its client came to.
    pub(in crate::edge) fn stays(&self, ctx: &mut Context) -> Result<()> {
        if self.site_index == ctx.site_index {
            return Ok(());
        }
        Err(refusal(ctx, 403, "A playlist points to another site."))
    }

    /// The answer's head, as it was stored or came.
    pub(in crate::edge) fn answered(&self, edge: &Edge, session: &Session, ctx: &Context) {
        let phase = session.cache.phase();
        let found =
            matches!(phase, CachePhase::Hit | CachePhase::Stale | CachePhase::StaleUpdating | CachePhase::Revalidated);
        *self.said.lock() = Some(Said {
            is_kept: found || ctx.cache.stored,
            fresh_s: ctx.cache.ttl_s.unwrap_or(0),
            cache_status: edge.cache_status(session, ctx).to_string(),
            label: log::cache_label(session, ctx),
        });
    }
}
