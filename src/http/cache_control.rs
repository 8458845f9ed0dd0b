//! Cache-Control as sent (RFC 9111 §5.2): the directives, not what follows from them.
//!
//! Robust where the RFC says so: names in any letter case, both token and quoted arguments, unknown directives ignored,
//! numbers too large taken as 2^31 (§1.2.2). Where a directive repeats the first one counts, and a number that is none, or
//! has blanks around its `=`, counts as 0, which is stale (both §4.2.1). Targeted fields (RFC 9213) have a syntax of their
//! own: [`super::targeted`].

use super::fields::{list, name_and_value, split_outside_quotes, unquote};

/// The largest delta-seconds (RFC 9111 §1.2.2).
pub const DELTA_SECONDS_MAX: u64 = 1 << 31;

/// Directives of a response. Extensions that are not listed are ignored (§5.2.3).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseCacheControl {
    pub no_store: bool,
    pub no_cache: Option<Scope>,
    pub private: Option<Scope>,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub no_transform: bool,
    /// RFC 8246
    pub immutable: bool,
    pub max_age_s: Option<u64>,
    pub s_maxage_s: Option<u64>,
    /// RFC 5861 §3
    pub stale_while_revalidate_s: Option<u64>,
    /// RFC 5861 §4
    pub stale_if_error_s: Option<u64>,
}

/// What `no-cache` or `private` speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The whole response.
    All,
    /// Only these fields, lower case.
    Fields(Vec<String>),
}

/// Directives of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestCacheControl {
    pub no_cache: bool,
    pub no_store: bool,
    pub no_transform: bool,
    pub only_if_cached: bool,
    pub max_age_s: Option<u64>,
    pub min_fresh_s: Option<u64>,
    /// Without an argument any staleness will do: [`DELTA_SECONDS_MAX`].
    pub max_stale_s: Option<u64>,
    /// RFC 5861 §4
    pub stale_if_error_s: Option<u64>,
}

impl ResponseCacheControl {
    /// Parses all lines of the field.
    pub fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut directives = Self::default();
        for_each(values, |name, argument| match name {
            "no-store" => directives.no_store = true,
            "no-cache" => widen(&mut directives.no_cache, argument),
            "private" => widen(&mut directives.private, argument),
            "public" => directives.public = true,
            "must-revalidate" => directives.must_revalidate = true,
            "proxy-revalidate" => directives.proxy_revalidate = true,
            "must-understand" => directives.must_understand = true,
            "no-transform" => directives.no_transform = true,
            "immutable" => directives.immutable = true,
            "max-age" => first(&mut directives.max_age_s, argument),
            "s-maxage" => first(&mut directives.s_maxage_s, argument),
            "stale-while-revalidate" => first(&mut directives.stale_while_revalidate_s, argument),
            "stale-if-error" => first(&mut directives.stale_if_error_s, argument),
            _ => {}
        });
        directives
    }
}

impl RequestCacheControl {
    /// Parses all lines of the field.
    pub fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut directives = Self::default();
        for_each(values, |name, argument| match name {
            "no-cache" => directives.no_cache = true,
            "no-store" => directives.no_store = true,
            "no-transform" => directives.no_transform = true,
            "only-if-cached" => directives.only_if_cached = true,
            "max-age" => first(&mut directives.max_age_s, argument),
            "min-fresh" => first(&mut directives.min_fresh_s, argument),
            "max-stale" if argument.is_none() => _ = directives.max_stale_s.get_or_insert(DELTA_SECONDS_MAX),
            "max-stale" => first(&mut directives.max_stale_s, argument),
            "stale-if-error" => first(&mut directives.stale_if_error_s, argument),
            _ => {}
        });
        directives
    }
}

/// Calls `take` with each directive's name in lower case and its argument as sent.
fn for_each<'a>(values: impl Iterator<Item = &'a [u8]>, mut take: impl FnMut(&str, Option<&[u8]>)) {
    for member in list(values) {
        let (name, argument) = name_and_value(member);
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        // `max-age = 60` is no directive of the grammar (§5.2): kept with its blanks, the argument is no number.
        let blank = |at: usize| member.get(at).is_some_and(u8::is_ascii_whitespace);
        let equals = member.iter().position(|byte| *byte == b'=');
        match equals.filter(|at| blank(at + 1) || at.checked_sub(1).is_some_and(blank)) {
            Some(at) => take(&name, Some(&member[at..])),
            None => take(&name, argument),
        }
    }
}

fn first(slot: &mut Option<u64>, argument: Option<&[u8]>) {
    slot.get_or_insert_with(|| argument.and_then(delta_seconds).unwrap_or(0));
}

/// Digits, bare or quoted (RFC 9111 §1.2.2, §5.2). None for anything else.
pub fn delta_seconds(value: &[u8]) -> Option<u64> {
    let text = unquote(value)?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse::<u64>().unwrap_or(DELTA_SECONDS_MAX).min(DELTA_SECONDS_MAX))
}

/// The bare form wins over any list of fields, and so does a list that cannot be read: neither may loosen the other.
pub(super) fn widen(slot: &mut Option<Scope>, argument: Option<&[u8]>) {
    let fields = argument.and_then(unquote).map(|text| {
        let names = split_outside_quotes(text.as_bytes(), b',');
        names.map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect::<Vec<_>>()
    });
    *slot = Some(match (slot.take(), fields) {
        (Some(Scope::All), _) | (_, None) => Scope::All,
        (_, Some(fields)) if fields.is_empty() => Scope::All,
        (None, Some(fields)) => Scope::Fields(fields),
        (Some(Scope::Fields(mut known)), Some(fields)) => {
            known.extend(fields);
            Scope::Fields(known)
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn response(value: &str) -> ResponseCacheControl {
        ResponseCacheControl::parse([value.as_bytes()].into_iter())
    }

    #[test]
    fn rfc9111_5_2_names_are_case_insensitive_and_unknown_ones_ignored() {
        let parsed = response("PUBLIC, Max-Age=60, x-unknown=\"no-store, private\", S-MaxAge=\"90\", immutable");
        let expected = ResponseCacheControl {
            public: true,
            immutable: true,
            max_age_s: Some(60),
            s_maxage_s: Some(90),
            ..Default::default()
        };
        assert_eq!(parsed, expected);
    }

    #[test]
    fn rfc9111_1_2_2_overflow_is_two_to_the_31() {
        assert_eq!(response("max-age=2147483649").max_age_s, Some(DELTA_SECONDS_MAX));
        assert_eq!(response("max-age=99999999999999999999999").max_age_s, Some(DELTA_SECONDS_MAX));
    }

    #[test]
    fn rfc9111_4_2_1_first_of_several_counts_and_nonsense_is_stale() {
        assert_eq!(response("max-age=5, max-age=9").max_age_s, Some(5));
        for nonsense in [
            "max-age",
            "max-age=",
            "max-age=-1",
            "max-age=1.5",
            "max-age=1s",
            "max-age='60'",
            "max-age=\"60",
            "max-age = 60",
            "max-age= 60",
            "max-age =60",
        ] {
            assert_eq!(response(nonsense).max_age_s, Some(0), "{nonsense}");
        }
    }

    #[test]
    fn rfc9111_5_2_2_4_and_7_fields_never_loosen_the_bare_form() {
        assert_eq!(response("no-cache=\"A, b\"").no_cache, Some(Scope::Fields(vec!["a".into(), "b".into()])));
        assert_eq!(response("private=Set-Cookie").private, Some(Scope::Fields(vec!["set-cookie".into()])));
        assert_eq!(response("private, private=\"a\"").private, Some(Scope::All));
        assert_eq!(response("private=\"a\", private").private, Some(Scope::All));
        assert_eq!(response("no-cache=\"open").no_cache, Some(Scope::All));
        assert_eq!(response("no-cache=\"\"").no_cache, Some(Scope::All));
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [b"max-age=1".as_slice(), b"no-store"];
        let parsed = ResponseCacheControl::parse(lines.into_iter());
        assert!(parsed.no_store && parsed.max_age_s == Some(1));
    }

    #[test]
    fn rfc9111_5_2_1_request_directives() {
        let parse = |value: &str| RequestCacheControl::parse([value.as_bytes()].into_iter());
        let parsed = parse("no-cache, No-Store, only-if-cached, no-transform, max-age=1, min-fresh=2, max-stale=3");
        let expected = RequestCacheControl {
            no_cache: true,
            no_store: true,
            no_transform: true,
            only_if_cached: true,
            max_age_s: Some(1),
            min_fresh_s: Some(2),
            max_stale_s: Some(3),
            stale_if_error_s: None,
        };
        assert_eq!(parsed, expected);
        assert_eq!(parse("max-stale").max_stale_s, Some(DELTA_SECONDS_MAX));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_a_last_no_store_is_always_seen(
            value in proptest::collection::vec(any::<u8>(), 0..48), seconds: u64,
        ) {
            let line = format!("max-age={seconds}");
            let lines = [line.as_bytes(), value.as_slice(), b"no-store"];
            let parsed = ResponseCacheControl::parse(lines.into_iter());
            prop_assert!(parsed.no_store);
            prop_assert_eq!(parsed.max_age_s, Some(seconds.min(DELTA_SECONDS_MAX)));
            RequestCacheControl::parse(lines.into_iter());
        }
    }
}
