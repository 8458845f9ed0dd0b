//! From the origin or the store towards the client: what an answer loses, and what is added to it.

use super::Edge;
use super::answer::CACHE_STATUS;
use super::context::Context;
use super::keep::date_it;
use crate::http::cache_status::{CacheStatus, Fwd};
use crate::http::rules::HeaderSink;
use crate::http::{answer, cors, headers};
use crate::media::class;
use http::header::{AGE, ALT_SVC, CONTENT_LENGTH, CONTENT_TYPE, DATE, SET_COOKIE, TRANSFER_ENCODING, VARY, VIA};
use http::{HeaderName, HeaderValue, StatusCode, Version};
use pingora_cache::CachePhase;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::fmt::Write as _;

/// Of most values of `Cache-Status`.
const CACHE_STATUS_BYTES: usize = 64;
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

impl Edge {
    /// An origin's answer, before it is stored: connection-level fields go, health and class are noted.
    pub(super) fn receive_response(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let status = response.status.as_u16();
        if let Err(reason) = answer::check_answer(response.status, session.is_upgrade_req(), &response.headers) {
            tracing::debug!(reason, "an origin's answer refused");
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, reason).into_up());
        }
        if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS {
            ctx.origin.informational += 1;
            if ctx.origin.informational > answer::INFORMATIONAL_MAX {
                return Err(Error::explain(ErrorType::InvalidHTTPHeader, "endless informational answers").into_up());
            }
            return Ok(());
        }
        self.note_answer(ctx, status);
        let upgrade = response.status == StatusCode::SWITCHING_PROTOCOLS;
        for name in headers::names_to_drop(&response.headers, upgrade) {
            response.remove_header(&name);
        }
        if response.status == StatusCode::NO_CONTENT {
            response.remove_header(&CONTENT_LENGTH); // RFC 9110 §8.6
        }
        let content_type = response.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        ctx.class = class::classify(session.req_header().uri.path(), content_type);
        if ctx.site.as_ref().is_some_and(|site| site.cache.strip_set_cookie) && session.cache.enabled() {
            response.remove_header(&SET_COOKIE);
        }
        if !upgrade {
            date_it(response)?;
        }
        self.invalidate(session, response, ctx);
        self.keep_post(session, response, ctx);
        self.receive_validation(session, response, ctx);
        self.note_rest(session, response, ctx);
        Ok(())
    }

    /// The origin has answered: how it did and how fast, once.
    pub(super) fn note_answer(&self, ctx: &mut Context, status: u16) {
        if ctx.origin.status.is_some() {
            return;
        }
        ctx.origin.status = Some(status);
        let elapsed = ctx.origin.asked.map(|asked| asked.elapsed()).unwrap_or_default();
        ctx.origin.elapsed = Some(elapsed);
        if let Some(pick) = &mut ctx.origin.pick {
            pick.succeeded(status, elapsed);
        }
    }

    /// Every answer, hit or not, just before it is written.
    pub(super) fn finish_headers(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        if response.status.is_informational() {
            return Ok(());
        }
        if let Some(part) = &ctx.part {
            part.answered(ctx);
            return Ok(());
        }
        if let Some(source) = &ctx.source {
            source.answered(self, session, ctx);
            return Ok(());
        }
        ctx.first_byte = Some(ctx.started.elapsed());
        self.note_missing(session, response, ctx);
        self.encode(session, response, ctx)?;
        // RFC 9112 §6.1: HTTP/1.0 knows no chunks; there the end of the connection ends the body.
        if session.req_header().version < Version::HTTP_11 && response.headers.contains_key(TRANSFER_ENCODING) {
            response.remove_header(&TRANSFER_ENCODING);
            session.set_keepalive(None);
        }
        classify_by_type(response, ctx);
        self.complete(session, response, ctx)?;
        if let Some(follow) = &ctx.follow {
            let collapsed = ctx.cache.collapsed || session.cache.lock_duration().is_some();
            follow.says(super::log::cache_label(session, ctx), ctx, collapsed);
        }
        append_status(&self.cache_status(session, ctx), response)?;
        self.allow_origins(session, response, ctx)?;
        self.decorate(response, ctx)
    }

    /// What the stored form of this very answer lacks or has too much.
    fn complete(&self, session: &Session, response: &mut ResponseHeader, ctx: &mut Context) -> Result<()> {
        let mut withheld = std::mem::take(&mut ctx.cache.withheld);
        // Where nothing could be stored after all, this is the origin's own answer, with all its fields.
        withheld.retain(|(name, _)| !response.headers.contains_key(name));
        for (name, value) in withheld {
            response.append_header(name, value)?;
        }
        // Pingora leaves the age of the old answer on one that has just been validated.
        if matches!(session.cache.phase(), CachePhase::RevalidatedNoCache(_)) {
            response.remove_header(&AGE);
        }
        Ok(())
    }

    /// What every answer carries, also our own: `Via`, and the site's header rules.
    pub(super) fn decorate(&self, response: &mut ResponseHeader, ctx: &Context) -> Result<()> {
        decorate(response, ctx)?;
        if let Some(connection) = &ctx.connection {
            connection.answer_dated(response.headers.get(DATE).map(HeaderValue::as_bytes));
        }
        Ok(())
    }

    /// The site's CORS fields in place of the origin's; not on preflights, which have their own.
    pub(super) fn allow_origins(&self, session: &Session, response: &mut ResponseHeader, ctx: &Context) -> Result<()> {
        allow_origins(session.req_header(), response, ctx)
    }

    /// RFC 9211 from Pingora's phase and our notes.
    pub(super) fn cache_status(&self, session: &Session, ctx: &Context) -> CacheStatus {
        let mut status = CacheStatus {
            collapsed: ctx.cache.collapsed || session.cache.lock_duration().is_some(),
            detail: ctx.cache.detail,
            ..CacheStatus::default()
        };
        match session.cache.phase() {
            CachePhase::Hit if ctx.slices.fwd.is_some() => {
                status.fwd = ctx.slices.fwd;
                status.fwd_status = ctx.slices.fwd_status;
                status.stored = true;
                status.ttl = ctx.cache.ttl_s;
            }
            CachePhase::Hit => status = CacheStatus { collapsed: status.collapsed, ..hit_status(ctx) },
            // It went forward, in vain, and then came from here.
            CachePhase::Stale | CachePhase::StaleUpdating => {
                status.fwd = ctx.cache.fwd.or(Some(Fwd::Stale));
                status.fwd_status = ctx.origin.status;
                status.ttl = ctx.cache.ttl_s;
            }
            CachePhase::Revalidated | CachePhase::RevalidatedNoCache(_) | CachePhase::Expired => {
                status.fwd = ctx.cache.fwd.or(Some(Fwd::Stale));
                status.fwd_status = ctx.origin.status;
                status.stored = ctx.cache.stored;
                status.ttl = ctx.cache.ttl_s.filter(|_| ctx.cache.stored);
            }
            CachePhase::Miss => {
                let miss = if ctx.cache.vary_miss { Fwd::VaryMiss } else { Fwd::UriMiss };
                status.fwd = Some(ctx.cache.bypass.unwrap_or(miss));
                status.fwd_status = ctx.origin.status.filter(|status| *status != 200);
                status.stored = ctx.cache.stored;
                status.ttl = ctx.cache.ttl_s.filter(|_| ctx.cache.stored);
            }
            CachePhase::Disabled(_) | CachePhase::Bypass | CachePhase::Uninit | CachePhase::CacheKey => {
                status.fwd = Some(ctx.cache.bypass.or(ctx.cache.fwd).unwrap_or(Fwd::UriMiss));
                status.fwd_status = ctx.origin.status.filter(|status| *status != 200);
            }
        }
        status
    }
}

/// See [`Edge::decorate`]; but for the `Date`, which is not the head's alone.
pub(super) fn decorate(response: &mut ResponseHeader, ctx: &Context) -> Result<()> {
    response.append_header(VIA, HeaderValue::from_static("1.1 reelgate"))?;
    // An origin's alternatives are its own.
    response.remove_header(&ALT_SVC);
    if let Some(alternative) = ctx.connection.as_ref().and_then(|connection| connection.alt_svc.clone()) {
        response.insert_header(ALT_SVC, alternative)?;
    }
    // Invalidation tags are between the origin and us.
    response.remove_header(&CACHE_TAG);
    response.remove_header(&SURROGATE_KEY);
    if let Some(site) = &ctx.site {
        site.response_headers.apply(&mut ResponseSink(response));
    }
    Ok(())
}

/// See [`Edge::allow_origins`].
pub(super) fn allow_origins(request: &RequestHeader, response: &mut ResponseHeader, ctx: &Context) -> Result<()> {
    let Some(cors) = ctx.site.as_ref().and_then(|site| site.cors.as_ref()) else { return Ok(()) };
    for name in &cors::REPLACED {
        response.remove_header(name);
    }
    let fields = cors.response(&request.headers);
    for (name, value) in fields.set {
        response.insert_header(name, value)?;
    }
    if let Some(vary) = fields.vary {
        response.append_header(VARY, vary)?;
    }
    Ok(())
}

/// The class of an answer whose path said nothing.
pub(super) fn classify_by_type(response: &ResponseHeader, ctx: &mut Context) {
    if ctx.class == class::Class::Other {
        let content_type = response.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        ctx.class = content_type.and_then(class::of_content_type).unwrap_or(class::Class::Other);
    }
}

/// Of a hit.
pub(super) fn hit_status(ctx: &Context) -> CacheStatus {
    CacheStatus {
        hit: true,
        ttl: ctx.cache.ttl_s,
        collapsed: ctx.cache.collapsed,
        detail: ctx.cache.detail,
        ..CacheStatus::default()
    }
}

/// What the answer says of the cache.
pub(super) fn append_status(status: &CacheStatus, response: &mut ResponseHeader) -> Result<()> {
    let mut value = String::with_capacity(CACHE_STATUS_BYTES);
    let _ = write!(value, "{status}"); // a string takes all
    response.append_header(CACHE_STATUS, value)?;
    Ok(())
}

/// A site's header rules on Pingora's requests.
pub(super) struct RequestSink<'a>(pub &'a mut RequestHeader);

/// A site's header rules on Pingora's responses.
pub(super) struct ResponseSink<'a>(pub &'a mut ResponseHeader);

macro_rules! header_sink {
    ($sink:ident) => {
        impl HeaderSink for $sink<'_> {
            fn remove(&mut self, name: &HeaderName) {
                self.0.remove_header(name);
            }

            fn set(&mut self, name: &HeaderName, value: &HeaderValue) {
                // Names and values were valid when the rules were built.
                let _ = self.0.insert_header(name.clone(), value.clone());
            }

            fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
                let _ = self.0.append_header(name.clone(), value.clone());
            }
        }
    };
}

header_sink!(RequestSink);
header_sink!(ResponseSink);
