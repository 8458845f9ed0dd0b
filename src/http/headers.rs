//! Fields that belong to one connection (RFC 9110 §7.6.1), and requests no edge should pass on.
//!
//! The checks come after the library's own and are stricter than the RFCs where two readers of one message could
//! disagree: that is what request smuggling lives on. Nothing is repaired: a request is passed as it is, or refused.
//! Framing itself stays with the server library; chunk sizes and line ends are not seen here.

use super::fields::{HeaderView, is_token, list};
use super::key::normalise_host;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};

/// Fields of one connection, lower case. `transfer-encoding` among them: an answer is stored without it.
pub const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields meant for every recipient: naming them in Connection is an error (RFC 9110 §7.6.1) or an attack, and ignored.
const END_TO_END: [&str; 27] = [
    "accept-encoding",
    "age",
    "authorization",
    "cache-control",
    "cdn-loop",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expires",
    "forwarded",
    "host",
    "if-range",
    "last-modified",
    "location",
    "origin",
    "range",
    "set-cookie",
    "vary",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Names taken from Connection, at most.
const CONNECTION_NAMES_MAX: usize = 32;

/// The fields to drop before a message is passed on, either way: those of this connection, those Connection names, and
/// those an origin could take for one of the above or for a field of ours (`x_forwarded_for`: CGI knows no difference).
/// `upgrade`: the message asks for or grants a change of protocol, so Connection and Upgrade stay. Transfer-Encoding and
/// Trailer are never in the list: the library frames by them.
pub fn names_to_drop(headers: &HeaderMap, upgrade: bool) -> Vec<HeaderName> {
    let kept = |name: &str| {
        matches!(name, "transfer-encoding" | "trailer") || (upgrade && matches!(name, "connection" | "upgrade"))
    };
    let fixed = HOP_BY_HOP.into_iter().filter(|name| !kept(name)).map(HeaderName::from_static);
    let named = list(headers.all("connection"))
        .take(CONNECTION_NAMES_MAX)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| !kept(name.as_str()) && !END_TO_END.contains(&name.as_str()));
    let look_alikes = headers.keys().filter(|name| is_look_alike(name.as_str())).cloned();
    let mut names: Vec<HeaderName> = Vec::new();
    for name in fixed.chain(named).chain(look_alikes) {
        if headers.contains_key(&name) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// RFC 9113 §8.2.3: cookies that came in several fields go on in one; an HTTP/1.1 origin may read the first only. None: they
/// are as they must be.
pub fn one_cookie_field(headers: &HeaderMap) -> Option<HeaderValue> {
    let fields: Vec<&[u8]> = headers.all("cookie").collect();
    if fields.len() < 2 {
        return None;
    }
    HeaderValue::from_bytes(&fields.join(&b"; "[..])).ok()
}

fn is_look_alike(name: &str) -> bool {
    let hyphenated = || name.replace('_', "-");
    name.contains('_') && HOP_BY_HOP.iter().chain(&END_TO_END).any(|known| *known == hyphenated())
}

/// A request to refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadRequest {
    pub status: StatusCode,
    /// For the log and the body; holds nothing the client sent.
    pub detail: &'static str,
}

fn bad(detail: &'static str) -> BadRequest {
    BadRequest { status: StatusCode::BAD_REQUEST, detail }
}

/// Checks a request's header before anything routes by it. `uri` as parsed, absolute form included.
pub fn check_request(method: &Method, uri: &Uri, version: Version, headers: &HeaderMap) -> Result<(), BadRequest> {
    if *method == Method::CONNECT || *method == Method::TRACE {
        return Err(BadRequest { status: StatusCode::METHOD_NOT_ALLOWED, detail: "this method is not served" });
    }
    check_target(method, uri)?;
    check_fields(headers)?;
    check_framing(version, headers)?;
    check_authority(uri, version, headers)?;
    if version > Version::HTTP_11 {
        check_multiplexed(headers)?;
    }
    match values(headers, EXPECT).next() {
        Some(expect) if !expect.trim_ascii().eq_ignore_ascii_case(b"100-continue") => {
            Err(BadRequest { status: StatusCode::EXPECTATION_FAILED, detail: "unknown expectation" })
        }
        _ => Ok(()),
    }
}

/// By a parsed name: a text would be parsed at every look-up.
fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).iter().map(http::HeaderValue::as_bytes)
}

/// RFC 9112 §3.2: a path, or `*` for OPTIONS. An escaped NUL ends the path for some origins and not for others.
fn check_target(method: &Method, uri: &Uri) -> Result<(), BadRequest> {
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    if target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(bad("control character in the request target"));
    }
    // Most paths hold none of what the next two are made of.
    if uri.path().bytes().any(hides) {
        if uri.path().contains("%00") {
            return Err(bad("NUL in the path"));
        }
        if uri.path().split('/').any(is_hidden_dot_segment) {
            return Err(bad("a dot segment hidden from the normalised path"));
        }
    }
    let asterisk = *method == Method::OPTIONS && uri.path() == "*";
    if !asterisk && !uri.path().starts_with('/') {
        return Err(bad("the request target is not a path"));
    }
    match uri.scheme_str() {
        None | Some("http" | "https") => Ok(()),
        Some(_) => Err(bad("the scheme is neither http nor https")),
    }
}

/// Begins an escape, a parameter, or another kind of separator.
fn hides(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | b';')
}

/// Segments that are none here and lead upwards for an origin that decodes first (`..%2Fadmin`, `..\\`) or cuts off parameters
/// (`..;x`): routed and kept by one path, answered by another.
fn is_hidden_dot_segment(segment: &str) -> bool {
    if !segment.bytes().any(hides) {
        return false;
    }
    let decoded =
        segment.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace("%3b", ";");
    let parts: Vec<&str> = decoded.split(['/', '\\']).map(|part| part.split(';').next().unwrap_or("")).collect();
    let plain = parts.len() == 1 && !decoded.contains(';');
    !plain && parts.iter().any(|part| matches!(*part, "." | ".."))
}

/// RFC 9110 §5.5: no control characters but tab.
fn check_fields(headers: &HeaderMap) -> Result<(), BadRequest> {
    let control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    if headers.values().any(|value| value.as_bytes().iter().any(control)) {
        return Err(bad("control character in a header"));
    }
    Ok(())
}

/// RFC 9112 §6: one length, or chunked, never both.
fn check_framing(version: Version, headers: &HeaderMap) -> Result<(), BadRequest> {
    let mut lengths = values(headers, CONTENT_LENGTH);
    if let Some(length) = lengths.next() {
        if lengths.next().is_some() || length.contains(&b',') {
            return Err(bad("more than one Content-Length"));
        }
        let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(length).ok().and_then(|text| text.parse::<u64>().ok());
        if !digits || number.is_none() {
            return Err(bad("Content-Length is not a number"));
        }
    }
    let mut codings = values(headers, TRANSFER_ENCODING);
    let Some(coding) = codings.next() else { return Ok(()) };
    if version != Version::HTTP_11 {
        return Err(bad("Transfer-Encoding outside HTTP/1.1"));
    }
    if headers.contains_key(CONTENT_LENGTH) {
        return Err(bad("both Content-Length and Transfer-Encoding"));
    }
    if codings.next().is_some() || coding.contains(&b',') {
        return Err(bad("more than one transfer coding"));
    }
    if coding.eq_ignore_ascii_case(b"chunked") {
        Ok(())
    } else if is_token(coding) {
        Err(BadRequest { status: StatusCode::NOT_IMPLEMENTED, detail: "unknown transfer coding" })
    } else {
        Err(bad("malformed Transfer-Encoding"))
    }
}

/// RFC 9112 §3.2, RFC 9113 §8.3.1: one host, the same wherever it is said, without user information.
fn check_authority(uri: &Uri, version: Version, headers: &HeaderMap) -> Result<(), BadRequest> {
    let mut hosts = values(headers, HOST);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("more than one Host"));
    }
    let host = host.map(|host| std::str::from_utf8(host).map_err(|_| bad("invalid Host"))).transpose()?;
    let authority = uri.authority().map(http::uri::Authority::as_str);
    for value in host.into_iter().chain(authority) {
        if normalise_host(value).is_err() {
            return Err(bad("invalid Host"));
        }
    }
    match (host, authority) {
        (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
            Err(bad("Host and the request target differ"))
        }
        // RFC 9112 §3.2 wants Host even beside an absolute target.
        (None, _) if version == Version::HTTP_11 => Err(bad("no Host")),
        (None, None) if version > Version::HTTP_11 => Err(bad("no authority")),
        _ => Ok(()),
    }
}

/// RFC 9113 §8.2.2, RFC 9114 §4.2: there are no fields of a connection; TE may say only `trailers`.
fn check_multiplexed(headers: &HeaderMap) -> Result<(), BadRequest> {
    if [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, UPGRADE].into_iter().any(|name| headers.contains_key(name)) {
        return Err(bad("a field of the connection in HTTP/2 or HTTP/3"));
    }
    if values(headers, TE).any(|value| !value.eq_ignore_ascii_case(b"trailers")) {
        return Err(bad("TE other than trailers"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
