//! The lane: a plain request for what lies whole and fresh in RAM is answered before Pingora sees it (`transport::Lane`).
//!
//! It decides nothing by itself. Each step asks the function that the same step of Pingora's way asks, in the same order; where the answer
//! would be anything but the usual one, the request is not for the lane, and nothing has been done. So what is not here needs no
//! rule here: ranges, bodies, upgrades, what varies, what may be coded for this client, what is stale, purged, on a disk or on its way,
//! in parts or made here, redirects, rewrites, refusals. Only the last step, when all is decided, counts: the rate, the visit.
//!
//! Invariants: an answer is the one that Pingora's way would give, byte for byte, and so is its line in the log; it is whole in one
//! write; nothing here waits.

use super::admit::{examine, lets_in, redirected, wants_events};
use super::compression::{self, Form};
use super::context::{Context, Filling};
use super::generation::Generation;
use super::keep::kept;
use super::log::{self, Finished};
use super::lookup::{self, bare_key, filling, seconds_until};
use super::renditions;
use super::respond::{allow_origins, append_status, classify_by_type, decorate, hit_status};
use crate::cache::{MemoryStore, QuickHit};
use crate::http::plain_head::PlainHead;
use crate::http::reuse::{self, Reuse, Stored};
use crate::observe::{AccessLog, Metrics};
use crate::transport::{self, Answered, Connection};
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::{BufMut, Bytes};
use http::header::{AGE, CONNECTION, CONTENT_LENGTH, DATE};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use pingora_cache::CacheKey;
use pingora_cache::key::CacheHashKey;
use pingora_core::protocols::http::conditional_filter::to_304;
use pingora_error::{Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::RangeType;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Longer bodies cost more than what is saved here.
const BODY_BYTES_MAX: usize = 12 * 1024;

/// Of most requests, at most.
const FIELDS: usize = 16;

/// See the module.
pub struct Lane {
    pub generation: Arc<ArcSwap<Generation>>,
    pub store: &'static MemoryStore,
    pub metrics: Arc<Metrics>,
    /// None: switched off.
    pub access_log: Arc<ArcSwapOption<AccessLog>>,
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

impl transport::Lane for Lane {
    fn answer(
        &self,
        connection: &Arc<Connection>,
        head: &[u8],
        out: &mut Vec<u8>,
        room: usize,
    ) -> Option<Box<dyn Answered>> {
        let mut request = request(&PlainHead::parse(head)?)?;
        let mut ctx = Box::new(Context::new(self.generation.load_full()));
        ctx.connection = Some(Arc::clone(connection));
        examine(&mut request, &mut ctx).ok()?;
        admit(&request, &mut ctx)?;
        let key = key_to_ask_for(self.store, &request, &mut ctx)?;
        let hit = self.look_up(&request, &key, &mut ctx)?;
        let (response, body) = answer(&request, &hit, &mut ctx)?;
        let start = out.len();
        write_head(&response, out);
        if out.len() - start + body.len() > room {
            return None;
        }
        let (_, limiter) = ctx.generation.site(ctx.site_index?);
        limiter.is_none_or(|limiter| limiter.admit(ctx.client.address, Instant::now()).is_ok()).then_some(())?;
        out.extend_from_slice(&body);
        self.store.visit(&hit);
        let (metrics, access_log) = (Arc::clone(&self.metrics), Arc::clone(&self.access_log));
        let (status, sent) = (response.status.as_u16(), body.len() as u64);
        Some(Box::new(Given { metrics, access_log, ctx, request, hit, key, status, sent }))
    }
}

/// The request as the phases know it.
fn request(plain: &PlainHead<'_>) -> Option<RequestHeader> {
    let method = if plain.is_head { Method::HEAD } else { Method::GET };
    let mut request = RequestHeader::build_no_case(method, plain.target, Some(FIELDS)).ok()?;
    request.set_version(Version::HTTP_11);
    for field in plain.fields() {
        let (name, value) = field?;
        let name = HeaderName::from_bytes(name).ok()?;
        request.append_header(name, HeaderValue::from_bytes(value).ok()?).ok()?;
    }
    Some(request)
}

/// Whether the site takes the request as it is.
fn admit(request: &RequestHeader, ctx: &mut Context) -> Option<()> {
    ctx.find_site(request);
    let site = ctx.site.clone()?;
    let plain = lets_in(&site, ctx.client.address)
        && (site.https_port.is_none() || ctx.client.secure)
        && redirected(&site, request).is_none()
        && site.rewrites.is_empty()
        && !wants_events(&request.headers)
        && renditions::wanted(ctx).is_none();
    plain.then_some(())
}

/// The key, where the cache is asked at all.
fn key_to_ask_for(store: &MemoryStore, request: &RequestHeader, ctx: &mut Context) -> Option<CacheKey> {
    let site = ctx.site.clone().filter(|site| site.cache.enabled)?;
    if site.cache.honor_request_directives {
        ctx.cache.asked = reuse::request_directives(&request.headers);
    }
    ctx.cache.filling = filling(request, &ctx.cache.asked);
    if ctx.cache.filling == Filling::Never {
        return None;
    }
    let key = bare_key(request, ctx).ok()?;
    (!store.is_too_large(&key.to_compact())).then_some(key)
}

impl Lane {
    /// What is there, where it may be given to everybody at once.
    fn look_up(&self, request: &RequestHeader, key: &CacheKey, ctx: &mut Context) -> Option<QuickHit> {
        let now = SystemTime::now();
        let hit = self.store.quick(key, now)?;
        let meta = hit.meta();
        let kept = kept(meta)?;
        if !kept.vary.is_empty() || meta.variance().is_some() {
            return None;
        }
        let age = now.duration_since(meta.epoch()).unwrap_or_default();
        let stored = Stored { kept: &kept, age, fresh_until: meta.fresh_until() };
        if reuse::decide(&stored, &ctx.cache.asked, now) != Reuse::Fresh {
            return None;
        }
        ctx.cache.ttl_s = Some(seconds_until(meta.fresh_until(), now));
        // What is coded for this client has more to it.
        if let Form::Coded { .. } = compression::form(request, meta.response_header(), Some(meta), ctx) {
            return None;
        }
        Some(hit)
    }
}

/// The answer, as Pingora's hit and its HTTP/1 server would make it.
fn answer(request: &RequestHeader, hit: &QuickHit, ctx: &mut Context) -> Option<(ResponseHeader, Bytes)> {
    let meta = hit.meta();
    let mut response = meta.response_header_copy();
    let Some(mut body) = hit.body(BODY_BYTES_MAX) else {
        ctx.connection.iter().for_each(|connection| connection.leave_lane());
        return None;
    };
    let length = response.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    if response.status != StatusCode::OK || length != Some(body.len()) {
        return None;
    }
    response.insert_header(AGE, meta.age().as_secs()).ok()?;
    response.set_version(Version::HTTP_11);
    let not_modified = lookup::is_not_modified(request, &response, Some(meta));
    if not_modified {
        to_304(&mut response);
    }
    if not_modified || request.method == Method::HEAD {
        body = Bytes::new();
    }
    let RangeType::None = lookup::cut(request, &mut response) else { return None };
    ctx.first_byte = Some(ctx.started.elapsed());
    if let Form::Varies = compression::form(request, &response, Some(meta), ctx) {
        compression::say_it_varies(&mut response).ok()?;
    }
    classify_by_type(&response, ctx);
    append_status(&hit_status(ctx), &mut response).ok()?;
    allow_origins(request, &mut response, ctx).ok()?;
    decorate(&mut response, ctx).ok()?;
    // Another kind of date becomes the present time.
    let mut dates = response.headers.get_all(DATE).iter();
    let (Some(date), None) = (dates.next(), dates.next()) else { return None };
    Connection::keeps_date(date.as_bytes()).then_some(())?;
    response.insert_header(CONNECTION, HeaderValue::from_static("keep-alive")).ok()?;
    Some((response, body))
}

fn write_head(response: &ResponseHeader, out: &mut Vec<u8>) {
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(response.status.as_str().as_bytes());
    out.put_slice(b" ");
    out.put_slice(response.get_reason_phrase().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
    response.header_to_h1_wire(out);
    out.put_slice(b"\r\n");
}

/// What was given, until the socket has it.
struct Given {
    metrics: Arc<Metrics>,
    access_log: Arc<ArcSwapOption<AccessLog>>,
    ctx: Box<Context>,
    request: RequestHeader,
    hit: QuickHit,
    key: CacheKey,
    status: u16,
    sent: u64,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Answered for Given {
    fn end(mut self: Box<Self>, outcome: Result<(), &io::Error>) {
        if outcome.is_err() {
            // As Pingora calls it where the end of a body could not be flushed.
            log::note_error(&Error::explain(ErrorType::WriteError, "flushing body"), &mut self.ctx);
        }
        let finished = Finished {
            request: &self.request,
            status: self.status,
            sent: self.sent,
            received: 0,
            cache: log::hit_label(&self.ctx),
            collapsed: self.ctx.cache.collapsed,
            found: Some((self.hit.meta(), u128::from_be_bytes(self.key.primary_bin()))),
        };
        log::record(&finished, &mut self.ctx, &self.metrics, &self.access_log);
    }
}
