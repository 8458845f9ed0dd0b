//! Answers that are ours: refusals, redirects, preflights, errors. Small, typed, never cached by accident.

use super::Edge;
use super::context::Context;
use crate::http::cache_status::CacheStatus;
use crate::http::problem;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Method, StatusCode};
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
        let accept = session.req_header().headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        let (content_type, body) = problem::body(status, detail, problem::wants_json(accept));
        let mut response = ResponseHeader::build(status, Some(6))?;
        response.insert_header(CONTENT_TYPE, content_type)?;
        if let Some(wait) = retry_after {
            response.insert_header(RETRY_AFTER, wait.as_secs().max(1).to_string())?;
        }
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
        self.write_own(session, ctx, response, Bytes::new()).await
    }

    /// The answer to a CORS preflight.
    pub(super) async fn preflight(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<()> {
        let mut response = ResponseHeader::build(StatusCode::NO_CONTENT, Some(headers.len() + 4))?;
        for (name, value) in headers {
            response.append_header(name, value)?;
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
        response.insert_header(CACHE_STATUS, CacheStatus::bypass(ctx.cache.detail).to_string())?;
        if response.status != StatusCode::NO_CONTENT {
            response.insert_header(CONTENT_LENGTH, body.len().to_string())?;
        }
        self.decorate(session, &mut response, ctx)?;
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
        if failure.status == 0 || session.response_written().is_some() {
            // Nobody to tell, or a response half sent: the only honest end is an abort.
            return done(false);
        }
        let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let detail = ctx.refusal.take().unwrap_or_else(|| problem::default_detail(status).to_owned());
        let retry_after = ctx.origin.retry_after;
        // What is left of the request's body would be read as the next request.
        session.set_keepalive(None);
        if self.refuse(session, ctx, status, &detail, retry_after).await.is_err() {
            tracing::debug!(reason = failure.reason, "the client left before its error was written");
        }
        done(false)
    }
}
