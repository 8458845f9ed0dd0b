//! Answers of an origin that no edge should pass on or keep: framed in two ways, unasked, endless. An origin is trusted with
//! its content, not with the framing of other people's connections.
//!
//! Nothing is repaired: an answer is passed as it is, or counts as the origin's failure (502). Does not decide freshness.

use super::fields::HeaderView;
use super::key::{normalise_host, normalise_path_and_query, normalise_url};
use http::{HeaderMap, StatusCode};

/// Fields of an answer in all, in bytes; what a media origin sends is a few hundred.
pub const HEADER_BYTES_MAX: usize = 128 * 1024;
/// Informational answers before the final one, at most (RFC 9110 §15.2 sets no bound).
pub const INFORMATIONAL_MAX: u32 = 64;

/// Checks the head of an answer. `upgrade_asked`: the request asked for another protocol. The error is for the log and holds
/// nothing the origin sent.
pub fn check_answer(status: StatusCode, upgrade_asked: bool, headers: &HeaderMap) -> Result<(), &'static str> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum();
    if bytes > HEADER_BYTES_MAX {
        return Err("the answer's header fields are too long");
    }
    // RFC 9110 §7.8: whoever did not ask would read the other protocol as answers.
    if status == StatusCode::SWITCHING_PROTOCOLS && !upgrade_asked {
        return Err("101 to a request that asked for no upgrade");
    }
    let mut codings = headers.all("transfer-encoding");
    // RFC 9112 §7: no other coding was offered, and kept without its name the body would be another one.
    if codings.next().is_some_and(|coding| !coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
        || codings.next().is_some()
    {
        return Err("an unknown transfer coding");
    }
    let mut lengths = headers.all("content-length");
    let Some(length) = lengths.next() else { return Ok(()) };
    if lengths.next().is_some() || length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
        return Err("not one Content-Length");
    }
    if status == StatusCode::NO_CONTENT && length.iter().any(|digit| *digit != b'0') {
        return Err("204 with a body");
    }
    Ok(())
}

/// The request a redirect answers, as far as the cache key does not know it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Host and port as asked for.
    pub authority: Option<&'a str>,
    /// Path and query, normalised; as asked for.
    pub target: &'a str,
    /// The port the client connected to.
    pub port: Option<u16>,
}

/// Whether a redirect depends on what is no part of the cache key, and so must not be kept: it leads to the very URL that was
/// asked for (the origin wants another scheme, and whoever asks with that would be sent round and round), or it repeats a port
/// that only the client named.
pub fn redirect_is_unkeyed(location: &str, asked: Asked<'_>) -> bool {
    let scheme_relative = location.starts_with("//").then(|| format!("http:{location}"));
    let location = scheme_relative.as_deref().unwrap_or(location);
    let (Ok(to), Some(authority)) = (normalise_url(location), asked.authority) else {
        // A path leads to itself on every scheme alike.
        return normalise_path_and_query(location).is_ok_and(|path| location.starts_with('/') && path == asked.target);
    };
    if normalise_host(authority).ok().as_deref() != Some(to.host.as_str()) {
        return false;
    }
    let named = port_of(authority).filter(|port| asked.port != Some(*port) && !matches!(port, 80 | 443));
    let authority_end =
        location.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
    to.path_and_query() == asked.target || (named.is_some() && port_of(authority_end) == named)
}

fn port_of(authority: &str) -> Option<u16> {
    let (_, port) = authority.rsplit_once(':')?;
    port.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn check(status: u16, fields: &[(&'static str, &str)]) -> Result<(), &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        check_answer(StatusCode::from_u16(status).unwrap(), false, &headers)
    }

    #[test]
    fn ordinary_answers_pass() {
        for (status, fields) in [
            (200, &[("content-length", "5")][..]),
            (200, &[("transfer-encoding", "Chunked")]),
            (204, &[("content-length", "0")]),
            (304, &[("content-length", "5")]),
            (200, &[]),
        ] {
            assert_eq!(check(status, fields), Ok(()), "{status} {fields:?}");
        }
        let upgrade = check_answer(StatusCode::SWITCHING_PROTOCOLS, true, &HeaderMap::new());
        assert_eq!(upgrade, Ok(()));
    }

    #[test]
    fn answers_two_readers_could_frame_differently_are_the_origins_failure() {
        for (status, fields) in [
            (101, &[][..]),
            (200, &[("content-length", "5, 5")]),
            (200, &[("content-length", "5"), ("content-length", "5")]),
            (200, &[("content-length", "+5")]),
            (200, &[("transfer-encoding", "gzip, chunked")]),
            (200, &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]),
            (200, &[("transfer-encoding", "xchunked")]),
            (204, &[("content-length", "5")]),
        ] {
            assert!(check(status, fields).is_err(), "{status} {fields:?}");
        }
        assert!(check(200, &[("x", &"y".repeat(HEADER_BYTES_MAX))]).is_err());
    }

    #[test]
    fn redirects_that_depend_on_scheme_or_port_are_known() {
        let asked = |authority| Asked { authority: Some(authority), target: "/a?b=1", port: Some(8080) };
        for (location, authority, expected) in [
            ("https://one.test/a?b=1", "one.test", true),
            ("//one.test:8443/a?b=1", "one.test:8080", true),
            ("/a?b=1", "one.test", true),
            ("https://ONE.test/%61?b=1", "one.test", true),
            ("https://one.test/a", "one.test", false),
            ("https://two.test/a?b=1", "one.test", false),
            ("/a/", "one.test", false),
            ("a?b=1", "one.test", false),
            ("http://one.test:1337/a/", "one.test:1337", true),
            ("http://one.test:8080/a/", "one.test:8080", false),
            ("http://one.test:9000/a/", "one.test:1337", false),
        ] {
            assert_eq!(redirect_is_unkeyed(location, asked(authority)), expected, "{location} for {authority}");
        }
    }

    proptest! {
        #[test]
        fn no_location_panics(location in any::<String>(), authority in "[a-z.:\\[\\]0-9]{0,12}") {
            redirect_is_unkeyed(&location, Asked { authority: Some(&authority), target: "/", port: None });
        }
    }
}
