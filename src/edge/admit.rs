//! The first phases: facts of the connection, limits, the site, and whether the request may come in at all.

use super::Edge;
use super::context::{Context, InFlightGauge, UNIX_CLIENT};
use super::{follow, inquiry, refresh, renditions, slices};
use crate::config::Site;
use crate::http::fields::HeaderView;
use crate::http::headers::{self, BadRequest};
use crate::http::{cors, forwarded, key, rules, traceparent};
use crate::media::class;
use crate::transport;
use http::header::{ACCEPT, HOST};
use http::{HeaderMap, StatusCode};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

/// RFC 8586
pub(super) const CDN_LOOP: &str = "cdn-loop";

/// A refusal that travels through Pingora's error path to [`Edge::answer_failure`].
pub(super) fn refusal(ctx: &mut Context, status: u16, detail: impl Into<String>) -> Box<Error> {
    ctx.refusal = Some(detail.into());
    let mut error = Error::new(ErrorType::HTTPStatus(status));
    error.set_retry(false);
    error
}

impl Edge {
    /// Before anything else: deadlines, limits, and whether the bytes are a request we may pass on.
    pub(super) fn begin(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        ctx.connection = session.digest().and_then(transport::connection).cloned();
        if let Some(connection) = &ctx.connection {
            connection.request_begun();
            connection.count_quick_answers(&mut session.downstream_session);
        }
        ctx.refresh = refresh::of(session);
        ctx.part = slices::of(session);
        ctx.follow = follow::of(session);
        ctx.slices.small = ctx.follow.as_ref().is_some_and(|follow| follow.small);
        ctx.source = renditions::of(session);
        ctx.inquiry = inquiry::of(session);
        if !ctx.is_ours() {
            ctx.in_flight = Some(InFlightGauge::enter(&self.metrics));
        }
        let limits = ctx.generation.config.limits.clone();
        session.set_read_timeout(Some(limits.stall_timeout));
        session.set_write_timeout(Some(limits.stall_timeout));
        // A client that stops reading must not hold up what others wait for.
        session.set_proxy_tasks_enabled(true);

        match examine(session.req_header_mut(), ctx) {
            Ok(()) => Ok(()),
            Err(Unfit::TooLarge) => {
                self.metrics.limits_reached.with_label_values(&["header_bytes"]).inc();
                Err(refusal(ctx, 431, "The request's header fields are too many or too long."))
            }
            Err(Unfit::Bad(BadRequest { status, detail })) => Err(refusal(ctx, status.as_u16(), detail)),
            Err(Unfit::Failed(error)) => Err(error),
        }
    }
}

/// Why a head is no request that goes on.
pub(super) enum Unfit {
    TooLarge,
    Bad(BadRequest),
    Failed(Box<Error>),
}

/// What a head says by itself, whatever its site is: notes it and checks it, and gives the target its one spelling.
pub(super) fn examine(request: &mut RequestHeader, ctx: &mut Context) -> std::result::Result<(), Unfit> {
    ctx.target = request.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    ctx.trace = Some(traceparent::next(header_str(&request.headers, "traceparent"), random_bytes()));
    ctx.class = class::classify(request.uri.path(), None);
    let (count, bytes) = head_size(&request.headers, &ctx.target);
    let limits = &ctx.generation.config.limits;
    if count > limits.header_count_max || bytes > limits.header_bytes_max {
        return Err(Unfit::TooLarge);
    }
    headers::check_request(&request.method, &request.uri, request.version, &request.headers).map_err(Unfit::Bad)?;
    ctx.identify(request);
    normalise_target(request, ctx).map_err(Unfit::Failed)
}

impl Context {
    /// Who asks, and for which host: from trusted proxies also through what they forward. A request of our own asks for a client
    /// that has been identified, and its Host is what was found then: its fields are the client's, so nothing is believed again.
    fn identify(&mut self, request: &RequestHeader) {
        let ctx = self;
        if let Some(refresh) = &ctx.refresh {
            ctx.client = refresh.client.clone();
        } else if let Some(part) = &ctx.part {
            (ctx.client, ctx.connection) = (part.client.clone(), part.connection.clone());
        } else if let Some(follow) = &ctx.follow {
            (ctx.client, ctx.connection) = (follow.client.clone(), follow.connection.clone());
        } else if let Some(source) = &ctx.source {
            (ctx.client, ctx.connection) = (source.client.clone(), source.connection.clone());
        } else {
            let connection = ctx.connection.as_deref();
            let peer = connection.and_then(|connection| connection.client).map_or(UNIX_CLIENT, |client| client.ip());
            let tls = connection.is_some_and(|connection| connection.tls);
            ctx.client = forwarded::resolve(peer, tls, &ctx.generation.config.trusted_proxies, &request.headers);
        }
        let authority = request.uri.authority().map(|authority| authority.as_str());
        let authority = authority.or_else(|| header_str(&request.headers, HOST.as_str()));
        ctx.authority = ctx.client.host.clone().or_else(|| authority.map(str::to_owned));
        ctx.host =
            ctx.authority.as_deref().and_then(|host| key::normalise_host(host).ok()).map(|host| host.into_owned());
    }

    /// Finds the site by host and path. False: there is none.
    pub(super) fn find_site(&mut self, request: &RequestHeader) -> bool {
        let found = self.generation.route(self.host.as_deref(), &merged_slashes(request.uri.path()));
        self.site_index = found;
        self.site = found.map(|index| self.generation.site(index).0.clone());
        found.is_some()
    }
}

/// Whether a site lets an address in.
pub(super) fn lets_in(site: &Site, address: IpAddr) -> bool {
    !site.deny.iter().any(|net| net.contains(&address))
        && (site.allow.is_empty() || site.allow.iter().any(|net| net.contains(&address)))
}

/// Where a site's rules send a request instead.
pub(super) fn redirected(site: &Site, request: &RequestHeader) -> Option<(StatusCode, String)> {
    let uri = &request.uri;
    site.redirects.iter().find_map(|rule| Some((rule.status, rule.apply(uri.path(), uri.query())?)))
}

impl Edge {
    /// The site's own rules. True: the request has been answered.
    pub(super) async fn admit(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let generation = ctx.generation.clone();
        ctx.find_site(session.req_header());
        let Some(index) = ctx.site_index else {
            return Err(refusal(ctx, 421, "No site of this server has that host and path."));
        };
        let (site, limiter) = generation.site(index);
        if ctx.is_ours() {
            if let Some(source) = ctx.source.take() {
                source.stays(ctx)?;
                ctx.source = Some(source);
            }
            // The client it is for has been let in.
            self.rewrite(session, ctx)?;
            return Ok(false);
        }

        if !lets_in(site, ctx.client.address) {
            return Err(refusal(ctx, 403, "This address may not use this site."));
        }
        if let Some(Err(wait)) = limiter.map(|limiter| limiter.admit(ctx.client.address, Instant::now())) {
            self.metrics.limits_reached.with_label_values(&["rate"]).inc();
            ctx.error = Some("rate");
            let detail = "Too many requests from this address.";
            self.refuse(session, ctx, StatusCode::TOO_MANY_REQUESTS, detail, Some(wait)).await?;
            return Ok(true);
        }
        let request = session.req_header();
        if self.loop_id.is_loop(request.headers.all(CDN_LOOP)) {
            return Err(refusal(ctx, 508, "This request has been through this server already (CDN-Loop)."));
        }
        if let (Some(port), false) = (site.https_port, ctx.client.secure) {
            let host = ctx.host.as_deref().unwrap_or("localhost");
            let Some(location) = rules::https_location(host, port, target_of(session.req_header())) else {
                return Err(refusal(ctx, 400, "The Host field is no host."));
            };
            self.redirect(session, ctx, StatusCode::PERMANENT_REDIRECT, &location).await?;
            return Ok(true);
        }
        if let Some((status, location)) = redirected(site, session.req_header()) {
            self.redirect(session, ctx, status, &location).await?;
            return Ok(true);
        }
        let request = session.req_header();
        if let Some(cors) = &site.cors
            && cors::is_preflight(&request.method, &request.headers)
        {
            let fields = cors.preflight(&request.headers);
            self.preflight(session, ctx, fields).await?;
            return Ok(true);
        }
        self.rewrite(session, ctx)?;
        ctx.long_lived = session.is_upgrade_req() || wants_events(&session.req_header().headers);
        if ctx.long_lived {
            let idle = generation.config.limits.upgrade_idle_timeout;
            session.set_read_timeout(Some(idle));
            session.set_write_timeout(Some(idle));
        }
        Ok(false)
    }

    /// The path towards the origin (and in the key) after the site's rewrites.
    fn rewrite(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        let Some(site) = ctx.site.clone() else { return Ok(()) };
        if site.rewrites.is_empty() {
            return Ok(());
        }
        let target = rules::rewrite_first(&site.rewrites, target_of(session.req_header()));
        match target.map(|target| target.map(|target| target.parse::<http::Uri>())) {
            Ok(None) => {}
            Ok(Some(Ok(uri))) => session.req_header_mut().set_uri(uri),
            Ok(Some(Err(_))) | Err(_) => {
                tracing::warn!(site = site.name, "a rewrite made an invalid path");
                return Err(refusal(ctx, 400, "The site's rewrite of this path is not a valid path."));
            }
        }
        Ok(())
    }
}

/// For routing only: most origins take `//admin` for `/admin`, so it belongs to the site of `/admin`, with its rules.
fn merged_slashes(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    Cow::Owned(merged)
}

fn header_str<'a>(headers: &'a HeaderMap, name: &'a str) -> Option<&'a str> {
    let visible = |value: &&[u8]| value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    headers.first(name).filter(visible).and_then(|value| std::str::from_utf8(value).ok())
}

/// Server-sent events are asked for by name (HTML Living Standard, §9.2.3).
pub(super) fn wants_events(headers: &HeaderMap) -> bool {
    header_str(headers, ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/event-stream"))
}

fn random_bytes() -> [u8; 24] {
    let mut bytes = [0; 24];
    fastrand::fill(&mut bytes);
    bytes
}

/// Path and query as normalised and rewritten.
pub(super) fn target_of(request: &RequestHeader) -> &str {
    request.uri.path_and_query().map_or("/", |target| target.as_str())
}

/// Number of fields, and bytes of the request line and the fields as HTTP/1.1 would send them.
fn head_size(headers: &HeaderMap, target: &str) -> (usize, usize) {
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    (headers.len(), target.len() + fields.sum::<usize>())
}

/// One spelling of the path for routing, the key and the origin (RFC 3986 §6.2.2): were the origin asked for another one than
/// the key says, `/a/%2e%2e/b` could put its answer under `/b`.
fn normalise_target(request: &mut RequestHeader, ctx: &mut Context) -> Result<()> {
    if !request.raw_path_is_utf8() {
        return Err(refusal(ctx, 400, "The request target is not UTF-8."));
    }
    if ctx.target == "*" {
        return Ok(());
    }
    // Nothing has compared it with a Host that is not there; it would become one towards the origin.
    if !request.raw_path().starts_with(b"/") && request.uri.authority().is_none() && ctx.authority.is_none() {
        return Err(refusal(ctx, 400, "An absolute target needs a Host."));
    }
    let Ok(target) = key::normalise_path_and_query(&ctx.target) else {
        return Err(refusal(ctx, 414, "The request target is too long."));
    };
    // Pingora keeps an absolute target (RFC 9112 §3.2.2) for the origin: one that is a proxy too would go where the client says.
    if target.as_bytes() != request.raw_path() || request.uri.authority().is_some() {
        let Ok(uri) = target.parse() else { return Err(refusal(ctx, 400, "The request target is not a path.")) };
        // HTTP/2 names the host in the target only; what follows reads it from the field.
        if let Some(authority) = request.uri.authority().map(|authority| authority.as_str().to_owned())
            && !request.headers.contains_key(HOST)
        {
            request.insert_header(HOST, authority)?;
        }
        request.set_uri(uri);
    }
    Ok(())
}
