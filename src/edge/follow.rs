//! Fills that no HTTP/2 client holds up.
//!
//! Pingora writes to its client and reads for the store in one loop; on HTTP/1.1 its proxy tasks keep a stalled client out of the way,
//! but for HTTP/2 there are none. So what such a client would have to fetch is fetched by a request of our own, which does all
//! that the client's would have done (collapsing, storing, conditions, ranges), and which has proxy tasks; the client only takes what
//! it answers. An answer that is not stored is held back by a slow client as ever, and nobody else is.
//!
//! Not for what may be given at once, from RAM or from a disk, nor for a fill that runs: of these an HTTP/2 client holds nothing up.
//! Which it is, the very look-up says that answers it (`ahead`).

use super::Edge;
use super::context::{Context, Filling};
use super::subrequests::{self, Incoming};
use crate::http::forwarded::Client;
use crate::transport::Connection;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, Method, Version};
use parking_lot::Mutex;
use pingora_core::protocols::http::ServerSession;
use pingora_error::{Error, ErrorType, Result};
use pingora_proxy::{Session, subrequest};
use std::io::Cursor;
use std::sync::Arc;

/// Fields of one connection, or written anew.
const OF_THE_CONNECTION: [HeaderName; 7] = [CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE];

/// In the context of a request that answers for a client's.
pub struct Follow {
    pub(super) client: Client,
    pub(super) connection: Option<Arc<Connection>>,
    said: Arc<Mutex<Said>>,
    /// What was asked for is known to be small: a range is no reason not to fetch it whole.
    pub(super) small: bool,
}

/// What the client's request is to be logged with.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    label: Option<&'static str>,
    error: Option<&'static str>,
    collapsed: bool,
}

impl Follow {
    /// The answer's head is about to be written.
    pub(super) fn says(&self, label: &'static str, ctx: &Context, collapsed: bool) {
        *self.said.lock() = Said { label: Some(label), error: ctx.error, collapsed };
    }
}

/// The request for a client that a request is, if it is one.
pub(super) fn of(session: &mut Session) -> Option<Follow> {
    let given = session.subrequest_ctx.as_mut()?.user_ctx_mut()?;
    given.downcast_mut::<Option<Follow>>()?.take()
}

impl Edge {
    /// Answers an HTTP/2 client by a request of our own, where it would have to fill the store. True: answered.
    pub(super) async fn follow(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let request = session.req_header();
        let caches = ctx.site.as_ref().is_some_and(|site| site.cache.enabled);
        if request.version != Version::HTTP_2 || request.method != Method::GET || ctx.is_ours() || ctx.long_lived {
            return Ok(false);
        }
        if !caches || ctx.slices.is_opened() || super::lookup::filling(request, &ctx.cache.asked) != Filling::Allowed {
            return Ok(false);
        }
        if !session.is_body_empty() {
            return Ok(false);
        }
        let Some(key) = ctx.cache.key.take() else { return Ok(false) };
        let has = self.has_for(session, ctx, &key).await;
        ctx.cache.key = Some(key);
        if has {
            return Ok(false);
        }
        // It is looked up anew by the request that answers, and is not read by this one.
        ctx.cache.ahead = None;
        let (Some(authority), Some(spawner)) = (&ctx.authority, subrequests::spawner(session, ctx)) else {
            return Ok(false);
        };
        let trace = ctx.trace.as_ref().map(|trace| trace.header_value());
        let head = head(&ctx.target, authority, &session.req_header().headers, trace.as_deref());
        let mut template = ServerSession::new_http1(Box::new(Cursor::new(head)));
        if !matches!(template.read_request().await, Ok(true)) {
            return Ok(false);
        }
        let said = Arc::new(Mutex::default());
        let follow = Follow {
            client: ctx.client.clone(),
            connection: ctx.connection.clone(),
            said: Arc::clone(&said),
            small: ctx.slices.small,
        };
        let follow: subrequest::UserCtx = Box::new(Some(follow));
        let child = subrequest::Ctx::builder().user_ctx(follow).build();
        let (child, handle) = spawner.create_subrequest(&template, child);
        tokio::spawn(child.run());
        let mut incoming = Incoming::new(handle);
        while let Some(header) = incoming.head().await {
            let is_informational = header.status.is_informational();
            if !is_informational {
                let said = *said.lock();
                ctx.answered_as = said.label;
                ctx.error = said.error;
                ctx.cache.collapsed = said.collapsed;
                ctx.first_byte = Some(ctx.started.elapsed());
            }
            session.write_response_header(header, false).await?;
            if !is_informational {
                break;
            }
        }
        while let Some(bytes) = incoming.bytes().await {
            session.write_response_body(Some(bytes), false).await?;
        }
        if !incoming.is_whole() {
            return Err(Error::explain(ErrorType::ConnectionClosed, "the answer broke off").into_up());
        }
        session.write_response_body(None, true).await?;
        Ok(true)
    }
}

/// What the client asked for, as it asked, over HTTP/1.1.
fn head(target: &str, authority: &str, headers: &HeaderMap, trace: Option<&str>) -> Vec<u8> {
    let mut head = format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    let fields = headers.iter().filter(|(name, _)| !OF_THE_CONNECTION.contains(name));
    let fields = fields.filter(|(name, _)| trace.is_none() || name.as_str() != "traceparent");
    let fields = fields.map(|(name, value)| (name.as_str(), value.as_bytes()));
    for (name, value) in fields.chain(trace.map(|trace| ("traceparent", trace.as_bytes()))) {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}
