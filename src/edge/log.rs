//! The end of a request: metrics, the access log, what a library is told of what was watched, and the guards that other rooms hold.

use super::context::Context;
use super::{Edge, failure};
use crate::http::cache_status::Fwd;
use crate::http::tags;
use crate::observe::{AccessLog, AccessRecord, Answer, AnswerLabels, Metrics, OriginExchange};
use arc_swap::ArcSwapOption;
use http::header::{REFERER, USER_AGENT};
use http::{HeaderMap, Method, Version};
use pingora_cache::key::CacheHashKey;
use pingora_cache::{CacheMeta, CachePhase};
use pingora_error::Error;
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::time::SystemTime;

/// Of an object with more tags, these are counted.
const TAGS_COUNTED_MAX: usize = 8;

/// How a request ended.
pub(super) struct Finished<'a> {
    pub request: &'a RequestHeader,
    /// 0: no head was written.
    pub status: u16,
    /// Of bodies.
    pub sent: u64,
    pub received: u64,
    /// The `cache` label.
    pub cache: &'static str,
    /// It waited for another request's fill, or followed it.
    pub collapsed: bool,
    /// What was found or stored, and its key (all variants as one).
    pub found: Option<(&'a CacheMeta, u128)>,
}

impl Edge {
    pub(super) fn log(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        if let Some(error) = error {
            note_error(error, ctx);
        }
        if let (Some(site), true) = (&ctx.site, ctx.origin.body_bytes > 0) {
            let bytes = self.metrics.origin_body_bytes.with_label_values(&[&site.origin.name]);
            bytes.inc_by(ctx.origin.body_bytes);
        }
        if ctx.in_flight.take().is_none() {
            return;
        }
        let meta = session.cache.maybe_cache_meta();
        let finished = Finished {
            request: session.req_header(),
            status: session.response_written().map_or(0, |response| response.status.as_u16()),
            sent: session.body_bytes_sent() as u64,
            received: session.body_bytes_read() as u64,
            cache: cache_label(session, ctx),
            collapsed: session.cache.lock_duration().is_some() || ctx.cache.collapsed,
            found: meta.map(|meta| (meta, u128::from_be_bytes(session.cache.cache_key().primary_bin()))),
        };
        record(&finished, ctx, &self.metrics, &self.access_log);
    }
}

pub(super) fn note_error(error: &Error, ctx: &mut Context) {
    ctx.error.get_or_insert(failure::classify(error).reason);
    tracing::debug!(reason = ctx.error, kind = ?error.etype(), "request failed");
}

/// Counts a client's request and writes its line.
pub(super) fn record(
    finished: &Finished<'_>,
    ctx: &mut Context,
    metrics: &Metrics,
    access_log: &ArcSwapOption<AccessLog>,
) {
    let Finished { request, status, sent, received, cache, .. } = *finished;
    let duration = ctx.started.elapsed();
    let site = ctx.site.as_ref().map_or("none", |site| site.name.as_str());
    let class = ctx.class.as_str();
    let protocol = protocol(request);
    let answer = Answer { sent_bytes: sent, received_bytes: received, duration, first_byte: ctx.first_byte };
    ctx.generation.answers(ctx.site_index).count(AnswerLabels { protocol, class, cache, status }, answer);
    if finished.collapsed {
        metrics.cache_collapsed.with_label_values(&[site]).inc();
    }

    count_what_is_asked_for(finished, ctx, metrics);
    note_watched(request, ctx, status);

    let access_log = access_log.load();
    let Some(access_log) = &*access_log else { return };
    let asked = ctx.origin.pool.as_ref().map(|pool| OriginExchange {
        name: pool.name().to_owned(),
        server: ctx.origin.server.take(),
        status: ctx.origin.status,
        time: ctx.origin.elapsed,
    });
    // For parts it was asked by requests of our own.
    let asked = asked.or_else(|| {
        let (status, name) = (ctx.slices.origin_status?, ctx.site.as_ref()?.origin.name.clone());
        Some(OriginExchange { name, server: None, status: Some(status), time: None })
    });
    access_log.record(AccessRecord {
        time: SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH),
        client: ctx.connection.as_ref().and_then(|connection| connection.client).map(|_| ctx.client.address),
        method: request.method.as_str().to_owned(),
        scheme: if ctx.client.secure { "https" } else { "http" },
        host: ctx.authority.take().unwrap_or_default(),
        target: std::mem::take(&mut ctx.target),
        protocol: match protocol {
            "h2" => "HTTP/2",
            "h3" => "HTTP/3",
            _ => "HTTP/1.1",
        },
        status,
        bytes_sent: sent,
        bytes_received: received,
        duration,
        first_byte: ctx.first_byte,
        site: ctx.site.as_ref().map(|site| site.name.clone()),
        class,
        cache,
        origin: asked,
        trace_id: ctx.trace.as_ref().map(|trace| trace.trace_id()).unwrap_or_default(),
        user_agent: field(&request.headers, USER_AGENT.as_str()),
        referer: field(&request.headers, REFERER.as_str()),
        error: ctx.error.map(str::to_owned),
    });
}

/// For those who ask what is asked for most: what was found or stored, and its tags.
fn count_what_is_asked_for(finished: &Finished<'_>, ctx: &Context, metrics: &Metrics) {
    let Some((meta, key)) = finished.found else { return };
    if ctx.refresh.is_some() {
        return;
    }
    let sent = finished.sent;
    metrics.top.count_object(key, sent, || format!("{}{}", ctx.authority.as_deref().unwrap_or_default(), ctx.target));
    let tags = tags::of(meta.headers());
    tags.list.iter().take(TAGS_COUNTED_MAX).for_each(|tag| metrics.top.count_tag(tag, sent));
}

/// A library is told what of its titles is watched, also where the store has it.
fn note_watched(request: &RequestHeader, ctx: &Context, status: u16) {
    if !matches!(status, 200 | 206) || request.method != Method::GET {
        return;
    }
    let (Some(site), Some(host)) = (&ctx.site, &ctx.authority) else { return };
    if let Some(library) = ctx.generation.origins.library(&site.origin.name) {
        library.watched(host, &ctx.target);
    }
}

fn field(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The `protocol` label.
fn protocol(request: &RequestHeader) -> &'static str {
    match request.version {
        Version::HTTP_2 => "h2",
        Version::HTTP_3 => "h3",
        _ => "h1",
    }
}

/// Of what is given as it lies here.
pub(super) fn hit_label(ctx: &Context) -> &'static str {
    if ctx.cache.ttl_s.is_some_and(|left| left < 0) { "stale" } else { "hit" }
}

/// The `cache` label: what a person wants to count.
pub(super) fn cache_label(session: &Session, ctx: &Context) -> &'static str {
    if ctx.own_answer {
        return "none";
    }
    if let Some(label) = ctx.answered_as {
        return label;
    }
    match session.cache.phase() {
        CachePhase::Hit if matches!(ctx.slices.fwd, Some(Fwd::UriMiss | Fwd::Partial)) => "miss",
        CachePhase::Hit if ctx.slices.fwd_status == Some(304) => "revalidated",
        CachePhase::Hit => hit_label(ctx),
        CachePhase::Stale | CachePhase::StaleUpdating => "stale",
        CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) => "revalidated",
        CachePhase::Expired => "expired",
        CachePhase::Miss => "miss",
        CachePhase::Disabled(_) | CachePhase::Bypass | CachePhase::Uninit | CachePhase::CacheKey => "bypass",
    }
}
