//! Who may ask. With a token: `Authorization: Bearer`. Without one the listener is on loopback only, and what remains is a web
//! page in the operator's own browser: a name of the attacker's that resolves to 127.0.0.1 (DNS rebinding) is refused by its
//! Host, a cross-site request by Fetch Metadata.

use super::problem::Problem;
use crate::config::Secret;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// Largest request body that is let in.
pub(super) const BODY_BYTES_MAX: u64 = 64 * 1024;
/// From a request's headers to the end of its body.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Paths that answer without the token: the probes (with less detail), and the page, which holds no data and asks for it.
const OPEN: [&str; 3] = ["/", "/livez", "/readyz"];

pub(super) struct Guard {
    /// Of the token, so that comparing takes the same time whatever its length.
    token_digest: Option<[u8; 32]>,
}

impl Guard {
    pub(super) fn new(token: Option<&Secret>) -> Self {
        Self { token_digest: token.map(|token| Sha256::digest(token.expose()).into()) }
    }

    /// Whether a request may be answered at all.
    pub(super) fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        if too_large(headers) {
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Send at most 64 KiB."));
        }
        if self.token_digest.is_none() {
            return from_here(uri, headers);
        }
        if OPEN.contains(&uri.path()) || self.sees_all(headers) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "Send the token of the configuration (admin.token) as `Authorization: Bearer TOKEN`.",
        ))
    }

    /// Whether the asker has the token, or none is needed.
    pub(super) fn sees_all(&self, headers: &HeaderMap) -> bool {
        let Some(expected) = &self.token_digest else { return true };
        let credentials = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, token)) = credentials.and_then(|value| value.split_once(' ')) else { return false };
        let given: [u8; 32] = Sha256::digest(token.trim()).into();
        scheme.eq_ignore_ascii_case("bearer") && bool::from(given.ct_eq(expected))
    }
}

/// Whether a request that changes something may do so: not from another website's page in a browser, which could send a form
/// without asking first (a form is never JSON), nor from another port of this machine.
pub(super) fn admit_change(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let detail = "Send JSON, with `Content-Type: application/json`.";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    admit_own_page(headers)
}

/// Refuses what another website's page, or one of another port of this machine, asks for: browsers say whose it is.
pub(super) fn admit_own_page(headers: &HeaderMap) -> Result<(), Problem> {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let own = |origin: &str| origin.split_once("://").map(|(_, authority)| authority) == host;
    if site.is_some_and(|site| !matches!(site, b"same-origin" | b"none")) || origin.is_some_and(|origin| !own(origin)) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "Only this listener's own page may ask for this."));
    }
    Ok(())
}

fn too_large(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length > BODY_BYTES_MAX)
}

fn from_here(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (uri.host(), hosts.next(), hosts.next()) {
        (Some(host), _, None) => Some(host),
        (None, Some(host), None) => Some(host.to_str().unwrap_or("")),
        // HTTP/1.0 without a Host: a probe; no browser does that.
        (None, None, None) => None,
        _ => return Err(Problem::new(StatusCode::BAD_REQUEST, "Send one Host header.")),
    };
    if host.is_some_and(|host| !is_local_name(host)) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "Without admin.token only `localhost` or an IP address is answered as Host, so that no website can reach this \
             listener by a name of its own (DNS rebinding). Use the address, or set admin.token.",
        ));
    }
    // A link to the dashboard may come from elsewhere; data may not be asked for by another site's page.
    let cross_site = headers.get("sec-fetch-site").is_some_and(|site| site.as_bytes() == b"cross-site");
    if cross_site && uri.path() != "/" {
        return Err(Problem::new(StatusCode::FORBIDDEN, "Without admin.token no other website may ask."));
    }
    Ok(())
}

/// `localhost`, a name below it (RFC 6761), or an IP address; with or without a port.
fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

/// Set on every answer.
pub(super) fn security_headers(headers: &mut HeaderMap) {
    for (name, value) in [
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::is_local_name;

    #[test]
    fn only_local_names_and_addresses_pass_without_a_token() {
        for host in [
            "localhost",
            "LOCALHOST:9090",
            "a.localhost",
            "127.0.0.1:9090",
            "[::1]:9090",
            "[::1]",
            "10.0.0.1",
            "localhost.",
        ] {
            assert!(is_local_name(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9090",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[evil]",
            "notlocalhost",
        ] {
            assert!(!is_local_name(host), "{host}");
        }
    }
}
