//! Conditional requests (RFC 9110 §13): whether a request goes on, and whether a `Range` counts. It knows the selected
//! representation only by its [`Validators`], and the time only as told.

use ::http::{HeaderMap, Method, header};
use std::time::{Duration, SystemTime};

/// What tells one version of a representation from another (§8.8).
#[derive(Debug, Clone, Copy, Default)]
pub struct Validators<'a> {
    /// The whole entity-tag as sent: `"…"` or `W/"…"`.
    pub etag: Option<&'a str>,
    /// Whole seconds count, as in `Last-Modified`.
    pub last_modified: Option<SystemTime>,
}

/// What the preconditions of a request say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answer the request.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Evaluates the preconditions of a request for a representation that exists, in the order of §13.2.2 steps 1 to 4.
/// [`super::byte_range::select`] is step 5. Conditions that cannot be read are as the RFC says: an unreadable entity-tag matches
/// nothing, an unreadable date is no condition.
pub fn evaluate(method: &Method, headers: &HeaderMap, validators: Validators<'_>) -> Outcome {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let modified = validators.last_modified.and_then(unix_seconds);
    if headers.contains_key(header::IF_MATCH) {
        if !any_tag_matches(headers, header::IF_MATCH, validators.etag, Comparison::Strong) {
            return Outcome::Failed;
        }
    } else if let (Some(modified), Some(since)) = (modified, date(headers, header::IF_UNMODIFIED_SINCE))
        && modified > since
    {
        return Outcome::Failed;
    }
    if headers.contains_key(header::IF_NONE_MATCH) {
        if any_tag_matches(headers, header::IF_NONE_MATCH, validators.etag, Comparison::Weak) {
            return if reads { Outcome::NotModified } else { Outcome::Failed };
        }
    } else if let (true, Some(modified), Some(since)) = (reads, modified, date(headers, header::IF_MODIFIED_SINCE))
        && modified <= since
    {
        return Outcome::NotModified;
    }
    Outcome::Proceed
}

/// Whether a `Range` counts (§13.1.5): there is no `If-Range`, or it names exactly this version by a strong validator. A
/// modification date is strong once its second has passed (§8.8.2.2).
pub fn if_range_holds(headers: &HeaderMap, validators: Validators<'_>, now: SystemTime) -> bool {
    let mut values = headers.get_all(header::IF_RANGE).iter();
    let Some(value) = values.next() else { return true };
    if values.next().is_some() {
        return false;
    }
    if let Some((tag, rest)) = EntityTag::read(value.as_bytes()) {
        let current = validators.etag.and_then(EntityTag::of);
        return rest.is_empty() && current.is_some_and(|current| tag.matches(&current, Comparison::Strong));
    }
    let named = super::date::parse(value.as_bytes()).and_then(unix_seconds);
    let (Some(named), Some(current)) = (named, validators.last_modified) else { return false };
    let passed = now.duration_since(current).is_ok_and(|age| age >= Duration::from_secs(1));
    passed && unix_seconds(current) == Some(named)
}

/// How entity-tags are compared (§8.8.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// An entity-tag (§8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntityTag<'a> {
    pub(super) weak: bool,
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    pub(super) fn of(text: &'a str) -> Option<Self> {
        Self::read(text.as_bytes()).filter(|(_, rest)| rest.is_empty()).map(|(tag, _)| tag)
    }

    /// The tag at the start of a value, and what follows it.
    fn read(value: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, quoted) = match value.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, value),
        };
        let inner = quoted.strip_prefix(b"\"")?;
        let end = inner.iter().position(|byte| *byte == b'"')?;
        let opaque = &inner[..end];
        let valid = opaque.iter().all(|byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..=0xff));
        valid.then_some((Self { weak, opaque }, &inner[end + 1..]))
    }

    fn matches(&self, other: &EntityTag<'_>, comparison: Comparison) -> bool {
        let comparable = comparison == Comparison::Weak || !(self.weak || other.weak);
        comparable && self.opaque == other.opaque
    }
}

/// Whether a list of entity-tags, or `*`, names the current one. The representation exists, so `*` always does.
fn any_tag_matches(
    headers: &HeaderMap,
    name: header::HeaderName,
    current: Option<&str>,
    comparison: Comparison,
) -> bool {
    let current = current.and_then(EntityTag::of);
    headers.get_all(name).iter().any(|value| {
        let mut rest = value.as_bytes().trim_ascii();
        if rest == b"*" {
            return true;
        }
        loop {
            while let [b',' | b' ' | b'\t', after @ ..] = rest {
                rest = after;
            }
            let Some((tag, after)) = EntityTag::read(rest) else { return false };
            if current.is_some_and(|current| tag.matches(&current, comparison)) {
                return true;
            }
            rest = after;
        }
    })
}

/// A single HTTP-date (§5.6.7) in whole seconds; None where there is none, several, or it is no date.
fn date(headers: &HeaderMap, name: header::HeaderName) -> Option<u64> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    unix_seconds(super::date::parse(value.as_bytes())?)
}

fn unix_seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            (header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap())
        };
        fields.iter().map(field).collect()
    }

    fn modified() -> SystemTime {
        httpdate::parse_http_date(MODIFIED).unwrap() + Duration::from_millis(700)
    }

    fn outcome(method: Method, fields: &[(&str, &str)]) -> Outcome {
        let validators = Validators { etag: Some("\"a,b\""), last_modified: Some(modified()) };
        evaluate(&method, &headers(fields), validators)
    }

    #[test]
    fn each_condition_alone() {
        for (name, value, expected) in [
            ("if-match", "\"a,b\"", Outcome::Proceed),
            ("if-match", "\"x\" , \"a,b\"", Outcome::Proceed),
            ("if-match", "*", Outcome::Proceed),
            ("if-match", "W/\"a,b\"", Outcome::Failed),
            ("if-match", "\"x\"", Outcome::Failed),
            ("if-match", "nonsense", Outcome::Failed),
            ("if-none-match", "\"x\"", Outcome::Proceed),
            ("if-none-match", "W/\"a,b\"", Outcome::NotModified),
            ("if-none-match", ",, \"x\",\"a,b\"", Outcome::NotModified),
            ("if-none-match", "*", Outcome::NotModified),
            ("if-none-match", "a,b", Outcome::Proceed),
            ("if-modified-since", MODIFIED, Outcome::NotModified),
            ("if-modified-since", BEFORE, Outcome::Proceed),
            ("if-modified-since", "yesterday", Outcome::Proceed),
            ("if-unmodified-since", MODIFIED, Outcome::Proceed),
            ("if-unmodified-since", BEFORE, Outcome::Failed),
            ("if-unmodified-since", "yesterday", Outcome::Proceed),
        ] {
            assert_eq!(outcome(Method::GET, &[(name, value)]), expected, "{name}: {value}");
        }
    }

    #[test]
    fn the_order_of_the_rfc() {
        let cases: [(&[(&str, &str)], Outcome); 4] = [
            (&[("if-match", "\"a,b\""), ("if-unmodified-since", BEFORE)], Outcome::Proceed),
            (&[("if-none-match", "\"x\""), ("if-modified-since", MODIFIED)], Outcome::Proceed),
            (&[("if-match", "\"x\""), ("if-none-match", "\"a,b\"")], Outcome::Failed),
            (&[("if-match", "\"a,b\""), ("if-none-match", "\"a,b\"")], Outcome::NotModified),
        ];
        for (fields, expected) in cases {
            assert_eq!(outcome(Method::GET, fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_writing_method_fails_where_a_reading_one_is_not_modified() {
        assert_eq!(outcome(Method::PUT, &[("if-none-match", "*")]), Outcome::Failed);
        assert_eq!(outcome(Method::PUT, &[("if-modified-since", MODIFIED)]), Outcome::Proceed);
        assert_eq!(outcome(Method::HEAD, &[("if-none-match", "*")]), Outcome::NotModified);
    }

    #[test]
    fn only_a_strong_validator_lets_a_range_count() {
        let later = modified() + Duration::from_secs(1);
        let holds = |value, etag, now| {
            let validators = Validators { etag: Some(etag), last_modified: Some(modified()) };
            if_range_holds(&headers(&[("if-range", value)]), validators, now)
        };
        assert!(if_range_holds(&HeaderMap::new(), Validators::default(), later));
        assert!(holds("\"a\"", "\"a\"", later));
        assert!(!holds("\"b\"", "\"a\"", later));
        assert!(!holds("W/\"a\"", "\"a\"", later));
        assert!(!holds("W/\"a\"", "W/\"a\"", later));
        assert!(!holds("\"a\", \"b\"", "\"a\"", later));
        assert!(holds(MODIFIED, "\"a\"", later));
        assert!(!holds(MODIFIED, "\"a\"", modified()), "its second has not passed");
        assert!(!holds(BEFORE, "\"a\"", later));
        assert!(!holds("Mon, 07 Nov 1994 08:49:37 GMT", "\"a\"", later), "a later date is not this version");
        assert!(!holds("nonsense", "\"a\"", later));
    }

    proptest! {
        #[test]
        fn any_values_are_read(value in proptest::collection::vec(prop_oneof![Just(b'"'), Just(b','), Just(b'W'), Just(b'/'), 0x20_u8..0x7f, 0x80_u8..], 0..24)) {
            let value = ::http::HeaderValue::from_bytes(&value).unwrap();
            let validators = Validators { etag: Some("\"a\""), last_modified: Some(modified()) };
            for name in [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_RANGE] {
                let headers = HeaderMap::from_iter([(name, value.clone())]);
                let _ = evaluate(&Method::GET, &headers, validators);
                let _ = if_range_holds(&headers, validators, modified());
            }
        }

        #[test]
        fn the_current_tag_is_found_in_any_list(before in "(\"[a-z,]{0,3}\" ?, ?){0,4}", after in "( ?, ?\"[a-z,]{0,3}\"){0,4}") {
            let list = format!("{before}\"current\"{after}");
            let validators = Validators { etag: Some("\"current\""), last_modified: None };
            let evaluated = evaluate(&Method::GET, &headers(&[("if-none-match", &list)]), validators);
            prop_assert_eq!(evaluated, Outcome::NotModified);
        }
    }
}
