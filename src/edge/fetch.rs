//! Towards the origin: which server, what it is told, and what happens when it fails. The choosing, the budget and the
//! breaker are `origin`'s.

use super::Edge;
use super::admit::{CDN_LOOP, refusal};
use super::context::{Context, UNIX_CLIENT};
use crate::config::OriginKind;
use crate::http::fields::HeaderView;
use crate::http::traceparent::{self, Trace};
use crate::http::{forwarded, headers, loop_detection};
use crate::origin::{Exchange, Failure, Unavailable};
use http::header::{COOKIE, HOST, VIA};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::time::{Duration, Instant};

/// What a client is told to wait when every server is down: about one health check.
const RETRY_AFTER_NO_SERVER: Duration = Duration::from_secs(5);

impl Edge {
    pub(super) async fn choose_server(&self, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        let Some(site) = ctx.site.clone() else { return Err(refusal(ctx, 421, "No site.")) };
        if ctx.rendition.is_some() {
            return self.rendition_server(session, ctx);
        }
        let pool = match &ctx.origin.pool {
            Some(pool) => pool.clone(),
            None => {
                let Some(pool) = ctx.generation.origins.get(&site.origin.name) else {
                    return Err(refusal(ctx, 503, "This site's origin is not running."));
                };
                ctx.origin.pool.insert(pool.clone()).clone()
            }
        };
        let hash = stable_hash(session.req_header().uri.path().as_bytes());
        let pick = match pool.pick(hash, &mut ctx.origin.tried).await {
            Ok(pick) => pick,
            Err(unavailable) => {
                if let Some(failure) = ctx.origin.failure {
                    return Err(refusal(ctx, failure.status(), "The origin did not answer."));
                }
                let (detail, wait) = match unavailable {
                    Unavailable::BreakerOpen { retry_after } => {
                        ("The origin keeps failing; it is given a rest.", retry_after)
                    }
                    Unavailable::NoHealthyServer => ("None of the origin's servers is healthy.", RETRY_AFTER_NO_SERVER),
                };
                ctx.origin.retry_after = Some(wait);
                return Err(refusal(ctx, 503, detail));
            }
        };
        let idle = ctx.generation.config.limits.upgrade_idle_timeout;
        let peer = pick.peer(match (session.is_upgrade_req(), ctx.long_lived) {
            (true, _) => Exchange::Upgrade { idle },
            (false, true) => Exchange::Stream { idle },
            (false, false) => Exchange::Ordinary,
        });
        ctx.origin.server = Some(pick.server().to_owned());
        ctx.origin.asked = Some(Instant::now());
        ctx.origin.pick = Some(pick);
        Ok(peer)
    }

    pub(super) fn connected(&self, reused: bool, ctx: &mut Context) {
        if let (Some(pick), Some(asked)) = (&ctx.origin.pick, ctx.origin.asked) {
            pick.connected((!reused).then(|| asked.elapsed()));
            ctx.origin.asked = Some(Instant::now());
        }
    }

    /// What the origin is told: the site's Host, who asks (RFC 7239), and that we were here (RFC 8586, RFC 9110 §7.6.3).
    pub(super) fn prepare_request(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let Some(site) = ctx.site.clone() else { return Ok(()) };
        self.asking_origin(ctx);
        if let OriginKind::Http(settings) = &site.origin.kind
            && let Some(host) = &settings.host
        {
            request.insert_header(HOST, host.as_str())?;
        } else if !request.headers.contains_key(HOST) {
            // HTTP/1.0 may leave it out; what goes on as HTTP/1.1 must not (RFC 9112 §3.2).
            let server = ctx.origin.server.as_deref().filter(|server| !server.contains('/')).unwrap_or("localhost");
            request.insert_header(HOST, server)?;
        }
        for name in headers::names_to_drop(&request.headers, session.is_upgrade_req()) {
            request.remove_header(&name);
        }
        let received = &session.req_header().headers;
        for name in forwarded::claims_to_drop(&ctx.client, &session.req_header().method, received) {
            request.remove_header(&name);
        }
        let connection = ctx.connection.as_deref();
        let peer = connection.and_then(|connection| connection.client).map_or(UNIX_CLIENT, |client| client.ip());
        let host = ctx.authority.as_deref();
        let told = forwarded::outgoing(peer, &ctx.client, host, received);
        request.insert_header("x-forwarded-for", told.x_forwarded_for)?;
        request.insert_header("x-forwarded-proto", told.x_forwarded_proto)?;
        request.insert_header("x-real-ip", told.x_real_ip)?;
        request.insert_header("forwarded", told.forwarded)?;
        match told.x_forwarded_host {
            Some(host) => request.insert_header("x-forwarded-host", host)?,
            None => drop(request.remove_header("x-forwarded-host")),
        }
        if let Some(cookies) = headers::one_cookie_field(received) {
            request.insert_header(COOKIE, cookies)?;
        }
        request.insert_header(CDN_LOOP, self.loop_id.append_to(received.all(CDN_LOOP)))?;
        request.insert_header(VIA, loop_detection::append_via(received.all("via"), session.req_header().version))?;
        if let Some(trace) = &ctx.trace {
            // A state without a valid parent belongs to no trace of ours (Trace Context §3.3.1.4).
            let parent = received.first("traceparent").and_then(|parent| std::str::from_utf8(parent).ok());
            request.remove_header("tracestate");
            if let Some(state) = received.first("tracestate").and_then(|state| std::str::from_utf8(state).ok())
                && parent.and_then(Trace::parse).is_some()
            {
                request.insert_header("tracestate", traceparent::bounded_tracestate(state))?;
            }
            request.insert_header("traceparent", trace.header_value())?;
        }
        self.ask_for_coding(session, request, ctx)?;
        site.request_headers.apply(&mut super::respond::RequestSink(request));
        Ok(())
    }

    /// No connection: nothing was sent, so any method may be tried again.
    pub(super) fn connect_failed(&self, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
        let retry = self.note_failure(ctx, &error, false, true);
        error.set_retry(retry);
        error
    }

    /// The exchange broke off, on either side.
    pub(super) fn exchange_failed(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        mut error: Box<Error>,
        reused: bool,
    ) -> Box<Error> {
        let replayable = session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
        let answered = session.response_written().is_some() || ctx.origin.status.is_some();
        if !answered && waits_for_client(session, &error) {
            return refusal(ctx, 408, "The rest of the request did not come.");
        }
        let retry = self.note_failure(ctx, &error, reused, replayable) && !answered;
        error.set_retry(retry);
        error
    }

    /// Tells the origin's health, and asks whether another try is worth it.
    fn note_failure(&self, ctx: &mut Context, error: &Error, reused: bool, replayable: bool) -> bool {
        let Some(failure) = Failure::of(error, reused) else { return false };
        ctx.origin.failure = Some(failure);
        if let Some(mut pick) = ctx.origin.pick.take() {
            pick.failed(failure);
        }
        // A retry that could not be used must not be taken from the budget.
        let answered = ctx.origin.status.is_some();
        let Some(pool) = &ctx.origin.pool else { return false };
        !answered && pool.may_retry(&mut ctx.origin.tried, failure, replayable)
    }
}

/// Whether an origin was silent because the client has not sent it the whole request: it must not be held against the origin, or
/// anybody could take it out of use with a few uploads that stop. Each piece of a body that is passed on starts the time anew.
fn waits_for_client(session: &mut Session, error: &Error) -> bool {
    *error.esource() == ErrorSource::Upstream
        && *error.etype() == ErrorType::ReadTimedout
        && !session.as_downstream_mut().is_body_done()
}

/// The same for every process and version: consistent hashing must send a path to the same server everywhere.
fn stable_hash(bytes: &[u8]) -> u64 {
    // FNV-1a, 64 bit (RFC 9923), whose high bits hardly differ for paths alike; then the finalizer of splitmix64.
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
