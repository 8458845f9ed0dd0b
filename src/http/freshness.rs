//! May an answer be stored, and how long is it fresh (RFC 9111 §3, §4.2)?
//!
//! The result, [`Storable`], is all that later decisions need: it is kept beside the answer, so that a hit parses no stored
//! field. An answer that is of no use later (neither fresh, nor to be validated, nor ever to be given stale) is not stored.
//! Does not look at bodies, sizes or the store. 206 is not stored.

use super::cache_control::{ResponseCacheControl, Scope, delta_seconds};
use super::fields::{HeaderView, list};
use super::{date, heuristic, slicing, targeted, variant};
use http::{Method, StatusCode};
use std::time::{Duration, SystemTime};

/// Fields without which the stored bytes could not be read: no directive can keep them apart.
const OF_THE_BODY: [&str; 5] = ["connection", "content-encoding", "content-length", "trailer", "transfer-encoding"];

/// A request and the header of its answer, as far as storing depends on them.
#[derive(Debug)]
pub struct Exchange<'a, H> {
    /// POST only where the answer is [`super::invalidation::is_representation`].
    pub method: &'a Method,
    /// The request carries `Authorization`.
    pub request_authorized: bool,
    /// The request carries `Cookie`: its answer may be personal, so no lifetime is guessed for it.
    pub request_has_cookie: bool,
    /// The request says `Cache-Control: no-store`.
    pub request_no_store: bool,
    pub status: StatusCode,
    pub headers: &'a H,
    /// `sites[].cache.set_cookie: strip`: the caller removes `Set-Cookie` before it stores.
    pub strip_set_cookie: bool,
    /// `sites[].cache.ttl`: the rule for this path and status.
    pub site_ttl: Option<SiteTtl>,
    /// From the request sent to the answer's header read.
    pub response_delay: Duration,
    /// When the answer's header was read.
    pub now: SystemTime,
}

/// A lifetime the operator gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteTtl {
    /// From the moment the answer came.
    pub ttl: Duration,
    /// Also where the origin names a lifetime of its own.
    pub overrides: bool,
}

/// An answer that may be stored, and what its header fields say about using it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storable {
    /// How long it is fresh from `now` on; zero where it was stale when it came.
    pub fresh_for: Duration,
    /// How long it had been stale when it came.
    pub stale_for: Duration,
    pub source: TtlSource,
    /// Its age at `now` (§4.2.3, corrected_initial_age); `Age` goes on from here.
    pub age_at_receipt: Duration,
    /// Lower case, sorted, each once: request fields the answer depends on.
    pub vary: Vec<String>,
    /// Fields to leave out of what is stored, lower case: `no-cache="…"` and `private="…"` (§5.2.2.4, §5.2.2.7).
    pub withheld: Vec<String>,
    /// `no-cache`: never given without asking the origin first.
    pub validate_always: bool,
    /// It may never be given stale (§5.2.2.2, §5.2.2.8).
    pub no_stale: bool,
    /// RFC 8246
    pub immutable: bool,
    /// RFC 5861 §3, beyond its lifetime
    pub stale_while_revalidate: Duration,
    /// RFC 5861 §4, beyond its lifetime; None: not said
    pub stale_if_error: Option<Duration>,
    /// It may be given in a content coding of ours (RFC 9110 §8.4); set by whoever stores it.
    pub codable: bool,
    /// `Last-Modified` tells versions of these bytes apart, by the `Date` of the answer that they came in (RFC 9110 §8.8.2.2). A 304 renews
    /// that date and must not make it so: whoever stores what it validated takes this from before.
    pub strong_date: bool,
    /// What `If-Modified-Since` is compared with (§4.3.2): `Last-Modified`, else `Date`, else when it came.
    pub modified: SystemTime,
}

impl Default for Storable {
    fn default() -> Self {
        Self {
            fresh_for: Duration::ZERO,
            stale_for: Duration::ZERO,
            source: TtlSource::Validation,
            age_at_receipt: Duration::ZERO,
            vary: Vec::new(),
            withheld: Vec::new(),
            validate_always: false,
            no_stale: false,
            immutable: false,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: None,
            codable: false,
            strong_date: false,
            modified: SystemTime::UNIX_EPOCH,
        }
    }
}

impl Storable {
    /// When it goes, or went, stale. `now`: when it was received.
    pub fn fresh_until(&self, now: SystemTime) -> SystemTime {
        // A second back, so that "not fresh at all" holds within the second of its receipt too.
        let behind = self.stale_for.max(Duration::from_secs(1));
        if self.fresh_for.is_zero() { now.checked_sub(behind).unwrap_or(now) } else { now + self.fresh_for }
    }
}

/// Where a lifetime came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TtlSource {
    SMaxage,
    MaxAge,
    Expires,
    /// `Last-Modified` (§4.2.2)
    Heuristic,
    /// `sites[].cache.ttl`
    Site,
    /// None: it is stored to be validated.
    Validation,
}

impl TtlSource {
    /// As `explain` shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SMaxage => "s-maxage",
            Self::MaxAge => "max-age",
            Self::Expires => "Expires",
            Self::Heuristic => "heuristic",
            Self::Site => "site",
            Self::Validation => "validation",
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
    /// `no-cache`, and nothing to validate it by.
    NoCache,
    Private,
    Authorization,
    SetCookie,
    /// `Vary: *`
    VaryAny,
    /// A name in `Vary` is none, or there are more than [`variant::NAMES_MAX`].
    VaryUnusable,
    /// No lifetime, and nothing to validate it by.
    NoFreshness,
    /// Its lifetime was over on arrival, and there is nothing to validate it by.
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
    if !matches!(*exchange.method, Method::GET | Method::HEAD | Method::POST) {
        return Err(NotStorable::Method);
    }
    if exchange.request_no_store {
        return Err(NotStorable::RequestNoStore);
    }
    let targeted = targeted::parse(headers.all(targeted::FIELD));
    let expires_counts = targeted.is_none();
    let control = targeted.unwrap_or_else(|| ResponseCacheControl::parse(headers.all("cache-control")));
    let withheld = may_store(exchange, &control)?;
    let vary = variant::names(headers)?;

    let age_at_receipt = age_at_receipt(exchange);
    let lifetime = lifetime(exchange, &control, expires_counts);
    // An error, or a status that must be declared cacheable, is kept only for a lifetime that was named (§3).
    if lifetime.is_none() && (!heuristic::is_cacheable(exchange.status) || exchange.status.as_u16() >= 400) {
        return Err(NotStorable::NoFreshness);
    }
    let validate_always = control.no_cache == Some(Scope::All);
    let (lifetime, source) = match lifetime {
        Some(known) if !validate_always => known,
        _ => (Duration::ZERO, TtlSource::Validation),
    };
    // RFC 9110 §9.3.3: only for a lifetime the origin names.
    let named = matches!(source, TtlSource::SMaxage | TtlSource::MaxAge | TtlSource::Expires);
    if exchange.method == Method::POST && !named {
        return Err(NotStorable::Method);
    }
    // The operator's lifetime begins here; what caches before us did with theirs is no matter.
    let age = if source == TtlSource::Site { Duration::ZERO } else { age_at_receipt };
    let no_stale = validate_always || is_stale_forbidden(&control);
    let seconds = |value: Option<u64>| value.filter(|_| !no_stale).map(Duration::from_secs);
    let date_of = |name| headers.first(name).and_then(date::parse);
    let kept = Storable {
        fresh_for: lifetime.saturating_sub(age),
        stale_for: age.saturating_sub(lifetime),
        source,
        age_at_receipt,
        vary,
        withheld,
        validate_always,
        no_stale,
        immutable: control.immutable,
        stale_while_revalidate: seconds(control.stale_while_revalidate_s).unwrap_or_default(),
        stale_if_error: seconds(control.stale_if_error_s),
        codable: false,
        strong_date: slicing::strong_date(headers).is_some(),
        modified: date_of("last-modified").or_else(|| date_of("date")).unwrap_or(exchange.now),
    };
    let can_be_validated = headers.has("etag") || headers.has("last-modified");
    let can_be_stale = !(kept.stale_while_revalidate + kept.stale_if_error.unwrap_or_default()).is_zero();
    match kept.source {
        _ if !kept.fresh_for.is_zero() || can_be_validated || can_be_stale => Ok(kept),
        _ if validate_always => Err(NotStorable::NoCache),
        TtlSource::Validation => Err(NotStorable::NoFreshness),
        _ => Err(NotStorable::Stale),
    }
}

/// §3 but for freshness; the fields not to be stored, where it may be.
fn may_store<H: HeaderView>(
    exchange: &Exchange<'_, H>,
    control: &ResponseCacheControl,
) -> Result<Vec<String>, NotStorable> {
    // Partial content, and answers to conditions or ranges that this cache has taken out of the request.
    if exchange.status.is_informational() || matches!(exchange.status.as_u16(), 206 | 304 | 412 | 416) {
        return Err(NotStorable::Status);
    }
    // §5.2.2.3: a cache that understands the status ignores the `no-store` meant for those that do not.
    if control.must_understand {
        if !is_understood(exchange.status) {
            return Err(NotStorable::Status);
        }
    } else if control.no_store {
        return Err(NotStorable::NoStore);
    }
    if control.private == Some(Scope::All) {
        return Err(NotStorable::Private);
    }
    let shared = control.public || control.must_revalidate || control.s_maxage_s.is_some();
    if exchange.request_authorized && !shared {
        return Err(NotStorable::Authorization); // §3.5
    }
    let mut withheld = Vec::new();
    for scope in [&control.private, &control.no_cache].into_iter().flatten() {
        if let Scope::Fields(names) = scope {
            withheld.extend(names.iter().filter(|name| !OF_THE_BODY.contains(&name.as_str())).cloned());
        }
    }
    let cookie_stays_out = exchange.strip_set_cookie || withheld.iter().any(|name| name == "set-cookie");
    if exchange.headers.has("set-cookie") && !cookie_stays_out {
        return Err(NotStorable::SetCookie);
    }
    Ok(withheld)
}

/// Final statuses whose caching rules are implemented here (§3: "understands the response status code").
fn is_understood(status: StatusCode) -> bool {
    heuristic::is_cacheable(status) || matches!(status.as_u16(), 302 | 303 | 307)
}

/// §4.2.4. `s-maxage` implies `proxy-revalidate` (§5.2.2.10); an origin that in the same breath names how long stale
/// answers may be served has said what it means, and is believed, as elsewhere among shared caches.
fn is_stale_forbidden(control: &ResponseCacheControl) -> bool {
    let stale_named = control.stale_while_revalidate_s.is_some() || control.stale_if_error_s.is_some();
    control.must_revalidate || control.proxy_revalidate || (control.s_maxage_s.is_some() && !stale_named)
}

/// §4.2.1. A present but unusable value means stale, and never gives way to the next source.
fn lifetime<H: HeaderView>(
    exchange: &Exchange<'_, H>,
    control: &ResponseCacheControl,
    expires_counts: bool,
) -> Option<(Duration, TtlSource)> {
    let headers = exchange.headers;
    let site = exchange.site_ttl.map(|site| (site.ttl, TtlSource::Site));
    if exchange.site_ttl.is_some_and(|site| site.overrides) {
        return site;
    }
    if let Some(seconds) = control.s_maxage_s {
        return Some((Duration::from_secs(seconds), TtlSource::SMaxage));
    }
    if let Some(seconds) = control.max_age_s {
        return Some((Duration::from_secs(seconds), TtlSource::MaxAge));
    }
    let mut expires = headers.all("expires");
    if let Some(first) = expires.next().filter(|_| expires_counts) {
        let expiry = if expires.all(|value| value == first) { date::parse(first) } else { None };
        let from = headers.first("date").and_then(date::parse).unwrap_or(exchange.now);
        let lifetime = expiry.and_then(|expiry| expiry.duration_since(from).ok()).unwrap_or_default();
        return Some((lifetime, TtlSource::Expires));
    }
    let heuristic = || {
        if exchange.request_has_cookie {
            return None;
        }
        let lifetime = heuristic::lifetime(exchange.status, control.public, headers, exchange.now)?;
        Some((lifetime, TtlSource::Heuristic))
    };
    site.or_else(heuristic)
}

/// §4.2.3: the larger of what `Date` and what `Age` says.
fn age_at_receipt<H: HeaderView>(exchange: &Exchange<'_, H>) -> Duration {
    let headers = exchange.headers;
    let sent = headers.first("date").and_then(date::parse).unwrap_or(exchange.now);
    // Date has whole seconds: a part of one says nothing about the answer's age.
    let apparent_age = Duration::from_secs(exchange.now.duration_since(sent).unwrap_or_default().as_secs());
    // §5.1: the first member counts; one that is no number (a quoted one is none) is ignored.
    let first = list(headers.all("age")).next().filter(|value| !value.starts_with(b"\""));
    let age_value = first.and_then(delta_seconds).unwrap_or(0);
    apparent_age.max(Duration::from_secs(age_value).saturating_add(exchange.response_delay))
}

#[cfg(test)]
mod tests;
