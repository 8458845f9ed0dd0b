//! Stale-while-revalidate (RFC 5861 §3): the client has its answer, and the origin is asked behind its back.
//!
//! Pingora's own way makes its request from the client's session, and cannot from one over HTTP/2. This one writes an HTTP/1.1 head
//! and lets the proxy serve it like any request. One refresh per object at a time, and not more than [`REFRESHES_MAX`] in all:
//! beyond that the stale answer stays as it is, and the next request tries again.

use super::Edge;
use super::context::Context;
use super::subrequests;
use crate::http::forwarded::Client;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, PRAGMA, RANGE, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;
use pingora_cache::key::CacheHashKey;
use pingora_core::protocols::http::ServerSession;
use pingora_proxy::{Session, subrequest};
use std::collections::HashSet;
use std::io::Cursor;
use std::sync::Arc;

/// Refreshes under way at once.
const REFRESHES_MAX: usize = 256;

/// Fields that belong to what this one client asked, not to the object.
const OF_THE_CLIENT: [HeaderName; 15] = [
    CACHE_CONTROL,
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    PRAGMA,
    RANGE,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Keys being refreshed.
#[derive(Debug, Default)]
pub struct Refreshes(Arc<Mutex<HashSet<String>>>);

/// One refresh; its end makes room for the next.
pub struct Refresh {
    /// Who was given the stale answer: the origin is told as for any request of theirs.
    pub(super) client: Client,
    key: String,
    all: Arc<Mutex<HashSet<String>>>,
}

impl Refreshes {
    fn begin(&self, key: String, client: &Client) -> Begun {
        let mut all = self.0.lock();
        if all.contains(&key) {
            return Begun::RunsAlready;
        }
        if all.len() >= REFRESHES_MAX {
            return Begun::TooMany;
        }
        all.insert(key.clone());
        drop(all);
        Begun::Now(Refresh { client: client.clone(), key, all: self.0.clone() })
    }
}

enum Begun {
    Now(Refresh),
    RunsAlready,
    TooMany,
}

impl Drop for Refresh {
    fn drop(&mut self) {
        self.all.lock().remove(&self.key);
    }
}

impl Edge {
    /// Starts a refresh of the object this request found, where none runs.
    pub(super) fn refresh(&self, session: &mut Session, ctx: &Context) {
        let Some(authority) = &ctx.authority else { return };
        let refresh = match self.refreshes.begin(session.cache.cache_key().combined(), &ctx.client) {
            Begun::Now(refresh) => refresh,
            Begun::RunsAlready => return,
            Begun::TooMany => return self.metrics.limits_reached.with_label_values(&["refreshes"]).inc(),
        };
        let Some(spawner) = subrequests::spawner(session, ctx) else { return };
        let head = head(&ctx.target, authority, &session.req_header().headers, &[]);
        tokio::spawn(async move {
            let mut template = ServerSession::new_http1(Box::new(Cursor::new(head)));
            if !matches!(template.read_request().await, Ok(true)) {
                tracing::warn!("a refresh could not be written as a request");
                return;
            }
            let guard: subrequest::UserCtx = Box::new(Some(refresh));
            let child = subrequest::Ctx::builder().user_ctx(guard).build();
            let _ = spawner.spawn_background_subrequest(&template, child).await;
        });
    }
}

/// The refresh a request is, if it is one.
pub(super) fn of(session: &mut Session) -> Option<Refresh> {
    let given = session.subrequest_ctx.as_mut()?.user_ctx_mut()?;
    given.downcast_mut::<Option<Refresh>>()?.take()
}

/// What the client asked for, as if a cache had asked, with fields of our own.
pub(super) fn head(target: &str, authority: &str, headers: &HeaderMap, own: &[(HeaderName, &str)]) -> Vec<u8> {
    let mut head = format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    for (name, value) in headers {
        if OF_THE_CLIENT.contains(name) || own.iter().any(|(own, _)| own == name) {
            continue;
        }
        append(&mut head, name, value.as_bytes());
    }
    for (name, value) in own {
        append(&mut head, name, value.as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn append(head: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    for part in [name.as_str().as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}
