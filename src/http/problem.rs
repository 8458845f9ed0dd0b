//! Bodies of the errors Reelgate itself answers with: small, typed, the same for every cause of a kind (RFC 9457).
//!
//! Holds nothing of the request and nothing of the origin's inside: a detail is a text of ours. Such answers carry no
//! freshness, so they are never stored.

use super::fields::{HeaderView, list, name_and_value, split_outside_quotes};
use http::StatusCode;
use std::fmt::Write;
use std::time::Duration;

/// A detail is cut to this many bytes.
const DETAIL_BYTES_MAX: usize = 512;

/// What went wrong, as clients and scripts may rely on it. Each has its status and its `type`, and both are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    BadRequest,
    /// The address is denied.
    Forbidden,
    NotFound,
    MethodNotAllowed,
    /// The client was too slow to send its request.
    RequestTimeout,
    UriTooLong,
    ExpectationFailed,
    /// No site for this host and path.
    NoSite,
    TooManyRequests,
    HeaderTooLarge,
    Internal,
    NotImplemented,
    /// The origin refused, reset, or answered with what is no HTTP.
    OriginFailed,
    /// No healthy server, or the breaker is open.
    OriginUnavailable,
    /// Our own limits are reached, or we are stopping.
    Overloaded,
    OriginTimeout,
    /// The request came through here before (RFC 8586).
    Loop,
}

impl Problem {
    /// Every kind; the order is that of the statuses.
    pub const ALL: [Self; 17] = [
        Self::BadRequest,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::UriTooLong,
        Self::ExpectationFailed,
        Self::NoSite,
        Self::TooManyRequests,
        Self::HeaderTooLarge,
        Self::Internal,
        Self::NotImplemented,
        Self::OriginFailed,
        Self::OriginUnavailable,
        Self::Overloaded,
        Self::OriginTimeout,
        Self::Loop,
    ];

    /// Status, name within the `type`, title.
    fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::BadRequest => (400, "bad-request", "Bad request"),
            Self::Forbidden => (403, "forbidden", "Forbidden"),
            Self::NotFound => (404, "not-found", "Not found"),
            Self::MethodNotAllowed => (405, "method-not-allowed", "Method not allowed"),
            Self::RequestTimeout => (408, "request-timeout", "Request not received in time"),
            Self::UriTooLong => (414, "uri-too-long", "URI too long"),
            Self::ExpectationFailed => (417, "expectation-failed", "Expectation failed"),
            Self::NoSite => (421, "no-site", "No site for this host and path"),
            Self::TooManyRequests => (429, "too-many-requests", "Too many requests"),
            Self::HeaderTooLarge => (431, "header-too-large", "Request header too large"),
            Self::Internal => (500, "internal", "Internal error"),
            Self::NotImplemented => (501, "not-implemented", "Not implemented"),
            Self::OriginFailed => (502, "origin-failed", "The origin failed"),
            Self::OriginUnavailable => (503, "origin-unavailable", "The origin is unavailable"),
            Self::Overloaded => (503, "overloaded", "Overloaded"),
            Self::OriginTimeout => (504, "origin-timeout", "The origin did not answer in time"),
            Self::Loop => (508, "loop", "Loop detected"),
        }
    }

    /// The kind for a status; where it has several, the one whose fault is nearer to the origin.
    pub fn of(status: StatusCode) -> Self {
        let fallback = if status.is_client_error() { Self::BadRequest } else { Self::Internal };
        Self::ALL.into_iter().find(|problem| problem.status() == status).unwrap_or(fallback)
    }

    /// The status to answer with.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.parts().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The `type` URI: an identifier, nothing to fetch.
    pub fn type_uri(self) -> String {
        format!("urn:reelgate:problem:{}", self.parts().1)
    }

    /// Content type and body. `detail` may be empty; `json` comes from [`wants_json`].
    pub fn body(self, detail: &str, json: bool) -> (&'static str, String) {
        let (status, _, title) = self.parts();
        let detail = shorten(detail);
        if !json {
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            return ("text/plain; charset=utf-8", format!("{status} {title}{detail}\n"));
        }
        let mut body = format!(r#"{{"type":"{}","title":"{title}","status":{status}"#, self.type_uri());
        if !detail.is_empty() {
            body.push_str(r#","detail":""#);
            escape_json(detail, &mut body);
            body.push('"');
        }
        body.push_str("}\n");
        ("application/problem+json", body)
    }
}

fn shorten(detail: &str) -> &str {
    &detail[..detail.floor_char_boundary(DETAIL_BYTES_MAX)]
}

/// RFC 8259 §7
fn escape_json(text: &str, into: &mut String) {
    for character in text.chars() {
        match character {
            '"' | '\\' => into.extend(['\\', character]),
            control if control < ' ' => {
                // Writing into a String cannot fail.
                let _ = write!(into, "\\u{:04x}", u32::from(control));
            }
            other => into.push(other),
        }
    }
}

/// Whether the client asks for JSON (RFC 9110 §12.5.1): `application/problem+json` or `application/json` by name, and
/// not less than plain text. A wildcard is no asking: browsers, curl and players send it and show people the text.
pub fn wants_json<H: HeaderView>(headers: &H) -> bool {
    let (mut json, mut text) = (0, Quality::default());
    for range in list(headers.all("accept")) {
        let mut parts = split_outside_quotes(range, b';');
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.map(name_and_value).find(|(name, _)| name.eq_ignore_ascii_case(b"q"));
        let weight = match weight {
            Some((_, value)) => value.and_then(quality).unwrap_or(0),
            None => 1000,
        };
        match media_type.as_slice() {
            b"application/problem+json" | b"application/json" => json = json.max(weight),
            b"text/plain" => text.exact = Some(weight),
            b"text/*" => text.group = Some(weight),
            b"*/*" => text.any = Some(weight),
            _ => {}
        }
    }
    json > 0 && json >= text.exact.or(text.group).or(text.any).unwrap_or(0)
}

/// The weights, in thousandths, that fit plain text, the most specific first.
#[derive(Default)]
struct Quality {
    exact: Option<u32>,
    group: Option<u32>,
    any: Option<u32>,
}

/// A qvalue in thousandths (RFC 9110 §12.4.2).
fn quality(value: &[u8]) -> Option<u32> {
    let (whole, fraction) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(10);
    let mut thousandths = digit(whole)? * 1000;
    for (byte, scale) in fraction.iter().zip([100, 10, 1]) {
        thousandths += digit(byte)? * scale;
    }
    (thousandths <= 1000).then_some(thousandths)
}

/// The value of Retry-After (RFC 9110 §10.2.3): whole seconds, rounded up, at least one.
pub fn retry_after(wait: Duration) -> String {
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    seconds.max(1).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    fn asks(accept: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_str(accept).unwrap());
        wants_json(&headers)
    }

    #[test]
    fn rfc9457_members() {
        let (content_type, body) = Problem::Loop.body("seen \"before\"\n", true);
        assert_eq!(content_type, "application/problem+json");
        let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(parsed["type"], "urn:reelgate:problem:loop");
        assert_eq!(parsed["status"], 508);
        assert_eq!(parsed["title"], "Loop detected");
        assert_eq!(parsed["detail"], "seen \"before\"\n");
    }

    #[test]
    fn people_get_one_line_of_text() {
        let (content_type, body) = Problem::OriginTimeout.body("", false);
        assert_eq!(
            (content_type, body.as_str()),
            ("text/plain; charset=utf-8", "504 The origin did not answer in time\n")
        );
        assert_eq!(Problem::NoSite.body("h", false).1, "421 No site for this host and path: h\n");
    }

    #[test]
    fn statuses_of_the_contract() {
        for (problem, status) in [
            (Problem::OriginFailed, 502),
            (Problem::OriginTimeout, 504),
            (Problem::OriginUnavailable, 503),
            (Problem::HeaderTooLarge, 431),
            (Problem::RequestTimeout, 408),
            (Problem::NoSite, 421),
            (Problem::Loop, 508),
        ] {
            assert_eq!(problem.status().as_u16(), status);
            assert_eq!(Problem::of(problem.status()), problem);
        }
        assert_eq!(Problem::of(StatusCode::IM_A_TEAPOT), Problem::BadRequest);
        assert_eq!(Problem::of(StatusCode::INSUFFICIENT_STORAGE), Problem::Internal);
    }

    #[test]
    fn types_are_unique() {
        let mut types: Vec<_> = Problem::ALL.map(Problem::type_uri).to_vec();
        types.sort();
        types.dedup();
        assert_eq!(types.len(), Problem::ALL.len());
    }

    #[test]
    fn rfc9110_12_5_1_json_only_where_asked_for_by_name() {
        for (accept, json) in [
            ("application/json", true),
            ("Application/Problem+JSON;q=0.5", true),
            ("application/json, text/plain, */*", true),
            ("text/html, application/json;q=0.9, */*;q=0.8", true),
            ("text/plain, application/json;q=0.1", false),
            ("application/json;q=0", false),
            ("application/json;q=x", false),
            ("*/*", false),
            ("application/*", false),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("", false),
            ("text/*;q=0.3, application/json;q=0.4, */*", true),
            ("application/json;profile=\"a,b;q=0\"", true),
        ] {
            assert_eq!(asks(accept), json, "{accept}");
        }
        assert!(!wants_json(&HeaderMap::new()));
    }

    #[test]
    fn rfc9110_12_4_2_qvalues() {
        for (value, expected) in [("1", Some(1000)), ("0.5", Some(500)), ("0.123", Some(123)), ("1.000", Some(1000))] {
            assert_eq!(quality(value.as_bytes()), expected);
        }
        for value in ["", "2", "1.001", "0.1234", ".5", "-1", "0,5"] {
            assert_eq!(quality(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn retry_after_is_never_zero() {
        assert_eq!(retry_after(Duration::ZERO), "1");
        assert_eq!(retry_after(Duration::from_millis(1001)), "2");
        assert_eq!(retry_after(Duration::MAX), u64::MAX.to_string());
    }

    proptest! {
        #[test]
        fn every_body_is_json_and_small(detail in "(?s).{0,600}", kind in 0usize..17, accept in "[ -~]{0,40}") {
            let (_, body) = Problem::ALL[kind].body(&detail, true);
            let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(parsed["status"].as_u64(), Some(u64::from(Problem::ALL[kind].status().as_u16())));
            prop_assert!(detail.starts_with(parsed["detail"].as_str().unwrap_or_default()));
            prop_assert!(body.len() < 6 * DETAIL_BYTES_MAX + 256);
            asks(&accept);
        }
    }
}
