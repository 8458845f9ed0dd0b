//! What a changing request makes untrue (RFC 9111 §4.4): the answers stored for its target, and for what its answer points to on
//! the same origin.
//!
//! Never another origin's: else a site could empty another one's part of the cache.

use super::fields::HeaderView;
use super::key::{normalise_host, normalise_path_and_query};
use http::{Method, StatusCode};
use std::borrow::Cow;

/// Fields of an answer that point to what changed too.
const POINTERS: [&str; 2] = ["location", "content-location"];

/// The request as its client sent it.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub secure: bool,
    /// Host and port as asked for.
    pub authority: &'a str,
    pub path_and_query: &'a str,
}

/// Paths (with query) whose stored answers may no longer be given unasked; empty where nothing changed. A method whose safety is
/// not known changes things.
pub fn changed<H: HeaderView>(method: &Method, status: StatusCode, headers: &H, target: Target<'_>) -> Vec<String> {
    let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    if safe || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut paths = Vec::from_iter(normalise_path_and_query(target.path_and_query).ok().map(Cow::into_owned));
    for name in POINTERS {
        let reference = headers.first(name).and_then(|value| std::str::from_utf8(value).ok());
        if let Some(path) = reference.and_then(|reference| resolve(reference.trim(), target))
            && !paths.contains(&path)
        {
            paths.push(path);
        }
    }
    paths
}

/// Whether the answer to a POST is, by its own word, what a GET of the same target would give (RFC 9110 §9.3.3, §8.7).
pub fn is_representation<H: HeaderView>(status: StatusCode, headers: &H, target: Target<'_>) -> bool {
    let mut locations = headers.all("content-location");
    let (Some(location), None) = (locations.next(), locations.next()) else { return false };
    let named = std::str::from_utf8(location).ok().and_then(|location| resolve(location.trim(), target));
    let asked = normalise_path_and_query(target.path_and_query).ok();
    status == StatusCode::OK && named.is_some() && named.as_deref() == asked.as_deref()
}

/// The path and query a reference (RFC 3986 §4.1) points to, where it stays on the target's origin.
fn resolve(reference: &str, target: Target<'_>) -> Option<String> {
    let reference = reference.split('#').next()?;
    let scheme_end = reference.find(':').filter(|at| !reference[..*at].contains(['/', '?']));
    let (secure, rest) = match scheme_end.map(|at| reference.split_at(at)) {
        None => (target.secure, reference),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, &rest[1..]),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, &rest[1..]),
        Some(_) => return None,
    };
    if let Some(rest) = rest.strip_prefix("//") {
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let same = origin(secure, authority)? == origin(target.secure, target.authority)?;
        return if same { normalise_path_and_query(path).ok().map(Cow::into_owned) } else { None };
    }
    if scheme_end.is_some() {
        return None;
    }
    let base = target.path_and_query.split('?').next().unwrap_or_default();
    let path = match rest.chars().next() {
        None => return None,
        Some('/') => rest.to_owned(),
        Some('?') => format!("{base}{rest}"),
        Some(_) => format!("{}{rest}", &base[..=base.rfind('/')?]),
    };
    normalise_path_and_query(&path).ok().map(Cow::into_owned)
}

/// Scheme, host and port (RFC 6454), for comparison.
fn origin(secure: bool, authority: &str) -> Option<(bool, String, u16)> {
    let host = normalise_host(authority).ok()?.into_owned();
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    let port = after_host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.is_empty());
    let default = if secure { 443 } else { 80 };
    Some((secure, host, port.map_or(Ok(default), str::parse).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    const TARGET: Target<'static> =
        Target { secure: false, authority: "films.test:8080", path_and_query: "/library/item?x=1" };

    fn paths(method: &str, status: u16, fields: &[(&'static str, &str)]) -> Vec<String> {
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        changed(&method.parse().unwrap(), StatusCode::from_u16(status).unwrap(), &headers, TARGET)
    }

    #[test]
    fn rfc9111_4_4_only_a_change_that_happened_counts() {
        for (method, status, changes) in [
            ("POST", 200, true),
            ("PUT", 204, true),
            ("DELETE", 302, true),
            ("UNKNOWN", 200, true),
            ("POST", 404, false),
            ("POST", 500, false),
            ("GET", 200, false),
            ("HEAD", 200, false),
            ("OPTIONS", 200, false),
        ] {
            assert_eq!(!paths(method, status, &[]).is_empty(), changes, "{method} {status}");
        }
        assert_eq!(paths("POST", 200, &[]), ["/library/item?x=1"]);
    }

    #[test]
    fn rfc9111_4_4_pointers_of_the_same_origin_only() {
        for (reference, expected) in [
            ("/other", Some("/other")),
            ("other?y", Some("/library/other?y")),
            ("../up", Some("/up")),
            ("?z=2", Some("/library/item?z=2")),
            ("http://films.test:8080/a#b", Some("/a")),
            ("//FILMS.test:8080/a", Some("/a")),
            ("http://films.test/a", None),
            ("https://films.test:8080/a", None),
            ("http://other.test:8080/a", None),
            ("mailto:someone", None),
            ("http:relative", None),
        ] {
            let mut wanted = vec!["/library/item?x=1".to_owned()];
            wanted.extend(expected.map(str::to_owned));
            assert_eq!(paths("POST", 201, &[("location", reference)]), wanted, "{reference}");
            assert_eq!(paths("PUT", 200, &[("content-location", reference)]), wanted, "{reference}");
        }
    }

    proptest! {
        #[test]
        fn no_reference_panics_or_leaves_the_origin(reference in "\\PC{0,40}", host in "[a-z]{1,8}\\.example") {
            resolve(&reference, TARGET);
            let foreign = format!("http://{}/x", host);
            prop_assert_eq!(resolve(&foreign, TARGET), None);
        }
    }
}
