//! Towards the origin: which server, what it is told, and what happens when it fails. The choosing, the budget and the
//! breaker are `origin`'s.

use super::Edge;
use super::context::Context;
use crate::config::OriginKind;
use crate::http::{forwarded, loop_detection};
use crate::origin::{Failure, Unavailable};
use http::HeaderValue;
use http::header::HOST;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorSource, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::time::{Duration, Instant};

impl Edge {
    pub(super) async fn choose_server(&self, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        let Some(site) = ctx.site.clone() else { return Err(super::admit::refusal(ctx, 421, "No site.")) };
        let pool = match &ctx.origin.pool {
            Some(pool) => pool.clone(),
            None => {
                let Some(pool) = ctx.generation.origins.get(&site.origin.name) else {
                    return Err(super::admit::refusal(ctx, 503, "This site's origin is not running."));
                };
                pool.request_begun();
                ctx.origin.pool = Some(pool.clone());
                pool
            }
        };
        let hash = stable_hash(session.req_header().uri.path().as_bytes());
        let pick = match pool.pick(hash, &ctx.origin.tried).await {
            Ok(pick) => pick,
            Err(unavailable) => {
                let (detail, wait) = match unavailable {
                    Unavailable::BreakerOpen { retry_after } => ("The origin keeps failing; it is given a rest.", retry_after),
                    Unavailable::NoHealthyServer => ("None of the origin's servers is healthy.", Duration::from_secs(5)),
                };
                ctx.origin.unavailable = Some(wait);
                return Err(super::admit::refusal(ctx, 503, detail));
            }
        };
        let mut peer = pick.peer();
        if ctx.long_lived {
            let idle = ctx.generation.config.limits.upgrade_idle_timeout;
            peer.options.read_timeout = Some(idle);
            peer.options.write_timeout = Some(idle);
        }
        ctx.origin.server = Some(pick.server().to_owned());
        ctx.origin.tried.add(&pick);
        ctx.origin.attempts += 1;
        ctx.origin.asked = Some(Instant::now());
        ctx.origin.pick = Some(pick);
        Ok(peer)
    }

    pub(super) fn connected(&self, reused: bool, _digest: Option<&Digest>, ctx: &mut Context) {
        if let (Some(pick), Some(asked)) = (&mut ctx.origin.pick, ctx.origin.asked) {
            pick.connected(reused, asked.elapsed());
            ctx.origin.asked = Some(Instant::now());
        }
    }

    /// What the origin is told: the site's Host, who asks (RFC 7239), and that we were here (RFC 8586, RFC 9110 §7.6.3).
    pub(super) fn prepare_request(&self, session: &mut Session, request: &mut RequestHeader, ctx: &mut Context) -> Result<()> {
        let Some(site) = ctx.site.clone() else { return Ok(()) };
        if let OriginKind::Http(settings) = &site.origin.kind
            && let Some(host) = &settings.host
        {
            request.insert_header(HOST, host.as_str())?;
        }
        let peer = ctx.connection.as_ref().map_or(ctx.client, |connection| connection.client_address());
        let trusted = &ctx.generation.config.trusted_proxies;
        let outgoing =
            forwarded::outgoing(peer, ctx.client, ctx.secure, ctx.authority.as_deref(), &session.req_header().headers, trusted);
        for (name, value) in outgoing {
            request.insert_header(name, value)?;
        }
        request.insert_header(loop_detection::CDN_LOOP, loop_detection::appended(&session.req_header().headers))?;
        request.append_header(http::header::VIA, via(session.req_header().version))?;
        if let Some(trace) = &ctx.trace {
            request.insert_header("traceparent", trace.header_value())?;
        }
        site.request_headers.apply(&mut super::respond::RequestSink(request));
        Ok(())
    }

    pub(super) fn connect_failed(&self, _session: &mut Session, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
        self.note_failure(ctx, &error);
        // Nothing was sent: any method may be tried again.
        let retry = self.may_retry(ctx);
        error.set_retry(retry);
        error
    }

    pub(super) fn exchange_failed(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        error: Box<Error>,
        client_reused: bool,
    ) -> Box<Error> {
        let mut error = error;
        if error.esource() == &ErrorSource::Upstream {
            self.note_failure(ctx, &error);
        }
        let replayable = session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
        let answered = session.response_written().is_some() || ctx.origin.status.is_some();
        // A reused connection the origin had just closed is no failure of the origin: Pingora marks those `ReusedOnly`.
        error.retry.decide_reuse(client_reused);
        let wanted = error.retry() || (error.esource() == &ErrorSource::Upstream && lost_connection(error.etype()));
        let retry = replayable && !answered && wanted && self.may_retry(ctx);
        error.set_retry(retry);
        error
    }

    fn may_retry(&self, ctx: &mut Context) -> bool {
        let Some(pool) = &ctx.origin.pool else { return false };
        ctx.origin.attempts <= pool.retries_max() && pool.may_retry()
    }

    fn note_failure(&self, ctx: &mut Context, error: &Error) {
        if let Some(pick) = ctx.origin.pick.take() {
            pick.failed(Failure::of(error.etype()));
        }
    }
}

/// No answer came because the connection was lost: the origin may never have seen the request.
fn lost_connection(kind: &ErrorType) -> bool {
    matches!(kind, ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError)
}

fn via(version: http::Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        http::Version::HTTP_2 => "2.0 reelgate",
        http::Version::HTTP_3 => "3.0 reelgate",
        http::Version::HTTP_10 => "1.0 reelgate",
        _ => "1.1 reelgate",
    })
}

/// The same for every process and version: consistent hashing must send a path to the same server everywhere.
fn stable_hash(bytes: &[u8]) -> u64 {
    // FNV-1a, 64 bit (RFC 9923 §2).
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
