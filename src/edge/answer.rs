//! Answers that are ours: refusals, redirects, preflights, errors. Small, typed, never cached by accident.

use super::Edge;
use super::context::Context;
use crate::http::cache_status::{CacheStatus, Fwd};
use crate::http::cors::CorsFields;
use crate::http::problem::{self, Problem};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, VARY};
use http::{HeaderName, Method, StatusCode};
use pingora_error::{Error, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{FailToProxy, Session};
use std::time::Duration;

/// The name of RFC 9211's header field.
pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

impl Edge {
    /// A refusal or an error: a problem document where the client accepts one, else a line of text.
    pub(super) async fn refuse(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        status: StatusCode,
        detail: &str,
        retry_after: Option<Duration>,
    ) -> Result<()> {
        let json = problem::wants_json(&session.req_header().headers);
        let (content_type, body) = Problem::of(status).body(detail, json);
        let mut response = ResponseHeader::build(status, Some(6))?;
        response.insert_header(CONTENT_TYPE, content_type)?;
        if let Some(wait) = retry_after {
            response.insert_header(RETRY_AFTER, problem::retry_after(wait))?;
        }
        self.allow_origins(session, &mut response, ctx)?;
        self.write_own(session, ctx, response, Bytes::from(body)).await
    }

    /// A redirect of the site's rules.
    pub(super) async fn redirect(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        status: StatusCode,
        location: &str,
    ) -> Result<()> {
        let mut response = ResponseHeader::build(status, Some(4))?;
        response.insert_header(LOCATION, location)?;
        self.allow_origins(session, &mut response, ctx)?;
        self.write_own(session, ctx, response, Bytes::new()).await
    }

    /// The answer to a CORS preflight.
    pub(super) async fn preflight(&self, session: &mut Session, ctx: &mut Context, fields: CorsFields) -> Result<()> {
        let mut response = ResponseHeader::build(StatusCode::NO_CONTENT, Some(fields.set.len() + 5))?;
        for (name, value) in fields.set {
            response.insert_header(name, value)?;
        }
        if let Some(vary) = fields.vary {
            response.append_header(VARY, vary)?;
        }
        self.write_own(session, ctx, response, Bytes::new()).await
    }

    async fn write_own(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        mut response: ResponseHeader,
        body: Bytes,
    ) -> Result<()> {
        ctx.own_answer = true;
        response.insert_header(CACHE_CONTROL, "no-store")?;
        let status = if ctx.origin.asked.is_some() {
            // The origin was asked, in vain; what is sent has no lifetime.
            CacheStatus { ttl: None, ..self.cache_status(session, ctx) }
        } else if ctx.cache.asked.only_if_cached {
            CacheStatus { detail: Some("only-if-cached"), ..CacheStatus::default() }
        } else {
            CacheStatus { fwd: Some(Fwd::Bypass), ..CacheStatus::default() }
        };
        response.insert_header(CACHE_STATUS, status.to_string())?;
        if response.status != StatusCode::NO_CONTENT {
            response.insert_header(CONTENT_LENGTH, body.len().to_string())?;
        }
        if let Some(follow) = &ctx.follow {
            follow.says("none", ctx, false);
        }
        self.decorate(&mut response, ctx)?;
        ctx.first_byte = Some(ctx.started.elapsed());
        let head_only = body.is_empty() || session.req_header().method == Method::HEAD;
        session.write_response_header(Box::new(response), head_only).await?;
        if !head_only {
            session.write_response_body(Some(body), true).await?;
        }
        Ok(())
    }

    /// After a failure in any phase: an answer where one is still possible, and whether the connection may go on.
    pub(super) async fn answer_failure(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        let failure = super::failure::classify(error);
        ctx.error = Some(failure.reason);
        let done = |can_reuse_downstream| FailToProxy { error_code: failure.status, can_reuse_downstream };
        // An informational answer is none yet: the final one may still be ours.
        let begun = session.response_written().is_some_and(|response| {
            !response.status.is_informational() || response.status == StatusCode::SWITCHING_PROTOCOLS
        });
        if failure.status == 0 || begun {
            // Nobody to tell, or a response half sent: the only honest end is an abort.
            return done(false);
        }
        let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let detail = ctx.refusal.take().unwrap_or_default();
        let retry_after = ctx.origin.retry_after;
        // What is left of the request's body would be read as the next request.
        session.set_keepalive(None);
        if self.refuse(session, ctx, status, &detail, retry_after).await.is_err() {
            tracing::debug!(reason = failure.reason, "the client left before its error was written");
        }
        done(false)
    }
}
