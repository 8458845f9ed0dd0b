//! May an answer be stored, and how long is it fresh (RFC 9111 §3, §4.2)?
//!
//! Only explicit freshness counts: `s-maxage`, `max-age`, `Expires`. No heuristics, no validation, no partial content: an
//! answer that is already stale is not stored. Does not look at bodies, sizes or the store. Where the RFC lets a cache
//! choose, this one stores less: `no-cache="…"` and `private="…"` count as their bare forms.

use super::cache_control::{RequestCacheControl, ResponseCacheControl, delta_seconds};
use super::fields::{HeaderView, is_token, list};
use http::{Method, StatusCode};
use std::time::{Duration, SystemTime};

/// More field names in `Vary` than this, and the answer is not stored.
pub const VARY_NAMES_MAX: usize = 16;

/// A request and the header of its answer, as far as storing depends on them.
#[derive(Debug)]
pub struct Exchange<'a, H> {
    pub method: &'a Method,
    /// The request carries `Authorization`.
    pub request_authorized: bool,
    /// The request says `Cache-Control: no-store`.
    pub request_no_store: bool,
    pub status: StatusCode,
    pub headers: &'a H,
    /// `sites[].cache.strip_set_cookie`: the caller removes `Set-Cookie` before it stores.
    pub strip_set_cookie: bool,
    /// From the request sent to the answer's header read.
    pub response_delay: Duration,
    /// When the answer's header was read.
    pub now: SystemTime,
}

/// An answer that may be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storable {
    /// How long it is fresh from `now` on; never zero.
    pub fresh_for: Duration,
    pub source: TtlSource,
    /// Its age at `now` (§4.2.3, corrected_initial_age); `Age` goes on from here.
    pub age_at_receipt: Duration,
    /// Lower case, sorted, each once: request fields the answer depends on.
    pub vary: Vec<String>,
    /// It may never be served stale (§5.2.2.2, §5.2.2.8); both durations below are then zero.
    pub no_stale: bool,
    /// RFC 5861 §3, beyond `fresh_for`
    pub stale_while_revalidate: Duration,
    /// RFC 5861 §4, beyond `fresh_for`
    pub stale_if_error: Duration,
}

/// Where a lifetime came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TtlSource {
    SMaxage,
    MaxAge,
    Expires,
}

impl TtlSource {
    /// As `explain` shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SMaxage => "s-maxage",
            Self::MaxAge => "max-age",
            Self::Expires => "Expires",
        }
    }
}

/// Why an answer is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStorable {
    Method,
    RequestNoStore,
    Status,
    NoStore,
    NoCache,
    Private,
    Authorization,
    SetCookie,
    /// `Vary: *`
    VaryAny,
    /// A name in `Vary` is none, or there are more than [`VARY_NAMES_MAX`].
    VaryUnusable,
    /// Neither `s-maxage` nor `max-age` nor `Expires`.
    NoFreshness,
    /// Its lifetime was over on arrival.
    Stale,
}

impl NotStorable {
    /// A token, as Cache-Status and `explain` show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::RequestNoStore => "request-no-store",
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::NoCache => "no-cache",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::SetCookie => "set-cookie",
            Self::VaryAny => "vary-any",
            Self::VaryUnusable => "vary-unusable",
            Self::NoFreshness => "no-freshness",
            Self::Stale => "stale-on-arrival",
        }
    }
}

/// Decides whether an answer may be stored (§3), and for how long it is fresh.
pub fn decide<H: HeaderView>(exchange: &Exchange<'_, H>) -> Result<Storable, NotStorable> {
    let headers = exchange.headers;
    let control = ResponseCacheControl::parse(headers.all("cache-control"));
    if exchange.method != Method::GET && exchange.method != Method::HEAD {
        return Err(NotStorable::Method);
    }
    if exchange.request_no_store {
        return Err(NotStorable::RequestNoStore);
    }
    if !is_understood(exchange.status) {
        return Err(NotStorable::Status);
    }
    // §5.2.2.3: a cache that understands the status ignores the `no-store` meant for those that do not.
    if control.no_store && !control.must_understand {
        return Err(NotStorable::NoStore);
    }
    if control.private.is_some() {
        return Err(NotStorable::Private);
    }
    if control.no_cache.is_some() {
        return Err(NotStorable::NoCache);
    }
    let shared = control.public || control.must_revalidate || control.s_maxage_s.is_some();
    if exchange.request_authorized && !shared {
        return Err(NotStorable::Authorization); // §3.5
    }
    if headers.has("set-cookie") && !exchange.strip_set_cookie {
        return Err(NotStorable::SetCookie);
    }
    let vary = vary_names(headers)?;
    let (lifetime, source) = lifetime(&control, headers, exchange.now).ok_or(NotStorable::NoFreshness)?;
    let age_at_receipt = age_at_receipt(exchange);
    let fresh_for = lifetime.saturating_sub(age_at_receipt);
    if fresh_for.is_zero() {
        return Err(NotStorable::Stale);
    }
    let no_stale = is_stale_forbidden(&control);
    let seconds = |value: Option<u64>| Duration::from_secs(if no_stale { 0 } else { value.unwrap_or(0) });
    Ok(Storable {
        fresh_for,
        source,
        age_at_receipt,
        vary,
        no_stale,
        stale_while_revalidate: seconds(control.stale_while_revalidate_s),
        stale_if_error: seconds(control.stale_if_error_s),
    })
}

/// What the client's own directives ask for. Of these only `no_store` is obeyed, as nginx does by default: the others
/// would let any client empty or bypass the cache. `Pragma: no-cache` counts where there is no Cache-Control (§5.4).
pub fn request_policy<H: HeaderView>(headers: &H) -> RequestCacheControl {
    let mut directives = RequestCacheControl::parse(headers.all("cache-control"));
    if !headers.has("cache-control") {
        directives.no_cache = list(headers.all("pragma")).any(|member| member.eq_ignore_ascii_case(b"no-cache"));
    }
    directives
}

/// Final statuses whose caching rules are implemented here. 206 and 304 are not among them.
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 302 | 307 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// §4.2.4. `s-maxage` implies `proxy-revalidate` (§5.2.2.10); an origin that in the same breath names how long stale
/// answers may be served has said what it means, and is believed, as elsewhere among shared caches.
fn is_stale_forbidden(control: &ResponseCacheControl) -> bool {
    let stale_named = control.stale_while_revalidate_s.is_some() || control.stale_if_error_s.is_some();
    control.must_revalidate || control.proxy_revalidate || (control.s_maxage_s.is_some() && !stale_named)
}

/// §4.2.1. A present but unusable value means stale, and never gives way to the next source.
fn lifetime<H: HeaderView>(
    control: &ResponseCacheControl,
    headers: &H,
    now: SystemTime,
) -> Option<(Duration, TtlSource)> {
    if let Some(seconds) = control.s_maxage_s {
        return Some((Duration::from_secs(seconds), TtlSource::SMaxage));
    }
    if let Some(seconds) = control.max_age_s {
        return Some((Duration::from_secs(seconds), TtlSource::MaxAge));
    }
    let mut expires = headers.all("expires");
    let first = expires.next()?;
    let expiry = if expires.all(|value| value == first) { date(first) } else { None };
    let from = headers.first("date").and_then(date).unwrap_or(now);
    let lifetime = expiry.and_then(|expiry| expiry.duration_since(from).ok()).unwrap_or_default();
    Some((lifetime, TtlSource::Expires))
}

/// §4.2.3: the larger of what `Date` and what `Age` says.
fn age_at_receipt<H: HeaderView>(exchange: &Exchange<'_, H>) -> Duration {
    let headers = exchange.headers;
    let sent = headers.first("date").and_then(date).unwrap_or(exchange.now);
    // Date has whole seconds: a part of one says nothing about the answer's age.
    let apparent_age = Duration::from_secs(exchange.now.duration_since(sent).unwrap_or_default().as_secs());
    // §5.1: the first member counts; one that is no number is ignored.
    let age_value = list(headers.all("age")).next().and_then(delta_seconds).unwrap_or(0);
    apparent_age.max(Duration::from_secs(age_value).saturating_add(exchange.response_delay))
}

fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?.trim()).ok()
}

/// §4.1: the request fields an answer depends on, lower case, sorted, each once.
pub fn vary_names<H: HeaderView>(headers: &H) -> Result<Vec<String>, NotStorable> {
    let mut names = Vec::new();
    for name in list(headers.all("vary")) {
        if name == b"*" {
            return Err(NotStorable::VaryAny);
        }
        if !is_token(name) || names.len() == VARY_NAMES_MAX {
            return Err(NotStorable::VaryUnusable);
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests;
