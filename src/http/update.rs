//! Bringing a stored answer up to date from a 304 (RFC 9111 §3.2, §4.3.4). Whole heads in, a whole head out; whether the result
//! may still be stored is [`super::freshness`]'s to say.

use super::headers::HOP_BY_HOP;
use http::HeaderMap;
use http::header::{AGE, ETAG};

/// Fields that describe the bytes stored, which a 304 does not change (§3.2). A digest of the content is, in a 304, one of
/// nothing (RFC 9530 §2) or of other bytes.
const OF_THE_BYTES: [&str; 5] =
    ["content-digest", "content-encoding", "content-length", "content-md5", "content-range"];

/// The stored header with every field of `fresh` in place of its own, but for those of the connection and of the stored bytes.
/// `Age` is the new answer's alone.
pub fn merge(stored: &HeaderMap, fresh: &HeaderMap) -> HeaderMap {
    let mut merged = stored.clone();
    merged.remove(AGE);
    for name in fresh.keys() {
        if OF_THE_BYTES.contains(&name.as_str()) || HOP_BY_HOP.contains(&name.as_str()) {
            continue;
        }
        merged.remove(name);
        for value in fresh.get_all(name) {
            merged.append(name, value.clone());
        }
    }
    merged
}

/// Whether a 304 speaks of the stored answer: it names no entity-tag, or the stored one. A 304 with another tag validates
/// nothing and updates nothing.
pub fn is_of(stored: &HeaderMap, fresh: &HeaderMap) -> bool {
    let opaque = |value: &http::HeaderValue| {
        let bytes = value.as_bytes();
        bytes.strip_prefix(b"W/").unwrap_or(bytes).to_vec()
    };
    match (stored.get(ETAG), fresh.get(ETAG)) {
        (_, None) => true,
        (None, Some(_)) => true,
        (Some(stored), Some(fresh)) => opaque(stored) == opaque(fresh),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let field =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        fields.iter().map(field).collect()
    }

    #[test]
    fn rfc9111_3_2_every_field_is_replaced_but_those_of_the_bytes_and_the_connection() {
        let stored = map(&[
            ("x-a", "1"),
            ("x-a", "2"),
            ("x-kept", "k"),
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("content-md5", "AAAA"),
            ("content-digest", "sha-256=:AAAA:"),
            ("content-type", "text/plain"),
            ("age", "50"),
        ]);
        let fresh = map(&[
            ("x-a", "3"),
            ("x-new", "n"),
            ("content-length", "0"),
            ("content-encoding", "br"),
            ("content-md5", "BBBB"),
            ("content-digest", "sha-256=:BBBB:"),
            ("content-type", "text/html"),
            ("connection", "x"),
            ("keep-alive", "5"),
        ]);
        let expected = map(&[
            ("x-a", "3"),
            ("x-kept", "k"),
            ("x-new", "n"),
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("content-md5", "AAAA"),
            ("content-digest", "sha-256=:AAAA:"),
            ("content-type", "text/html"),
        ]);
        assert_eq!(merge(&stored, &fresh), expected);
    }

    #[test]
    fn rfc9111_4_3_4_a_304_of_another_version_updates_nothing() {
        let tag = |value: &str| map(&[("etag", value)]);
        assert!(is_of(&tag("\"a\""), &tag("\"a\"")));
        assert!(is_of(&tag("\"a\""), &tag("W/\"a\"")));
        assert!(is_of(&tag("\"a\""), &map(&[])));
        assert!(!is_of(&tag("\"a\""), &tag("\"b\"")));
    }

    proptest! {
        #[test]
        fn what_the_304_says_is_what_is_kept(
            stored in proptest::collection::vec(("x-[a-d]", "[a-z]{0,3}"), 0..6),
            fresh in proptest::collection::vec(("x-[a-d]", "[a-z]{0,3}"), 0..6),
        ) {
            let view = |fields: &[(String, String)]| {
                map(&fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>())
            };
            let (stored, fresh) = (view(&stored), view(&fresh));
            let merged = merge(&stored, &fresh);
            for name in ["x-a", "x-b", "x-c", "x-d"] {
                let source = if fresh.contains_key(name) { &fresh } else { &stored };
                prop_assert!(merged.get_all(name).iter().eq(source.get_all(name).iter()));
            }
        }
    }
}
