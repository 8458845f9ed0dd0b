//! Which requests share a stored answer that names fields in `Vary` (RFC 9111 §4.1).
//!
//! Values are brought to one form only where the difference means nothing: blanks around the commas of lists (any field that
//! may stand on several lines is one), letter case of languages, codings and media types. Order stays where it may be taken for
//! a preference.

use super::fields::{HeaderView, is_token, list, split_outside_quotes};
use super::freshness::NotStorable;

/// More field names in `Vary` than this, and the answer is not stored.
pub const NAMES_MAX: usize = 16;

/// Lists whose members are compared without letter case (RFC 9110 §12.5).
const CASELESS_LISTS: [&str; 4] = ["accept", "accept-charset", "accept-encoding", "accept-language"];

/// Of these, those whose order says nothing, and is not taken to say something (§12.5.3).
const UNORDERED: [&str; 1] = ["accept-encoding"];

/// Before the value of every field that is there.
const PRESENT: &[u8] = b"=";

/// The request fields an answer depends on: lower case, sorted, each once.
pub fn names<H: HeaderView>(headers: &H) -> Result<Vec<String>, NotStorable> {
    let mut names = Vec::new();
    for name in list(headers.all("vary")) {
        if name == b"*" {
            return Err(NotStorable::VaryAny);
        }
        if !is_token(name) {
            return Err(NotStorable::VaryUnusable);
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        if !names.contains(&name) {
            if names.len() == NAMES_MAX {
                return Err(NotStorable::VaryUnusable);
            }
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What of field `name` (lower case) tells variants apart: all its lines as one (RFC 9110 §5.3). Absent is empty, and differs
/// from a field that is there without a value.
pub fn selecting_value<H: HeaderView>(headers: &H, name: &str) -> Vec<u8> {
    if !headers.has(name) {
        return Vec::new();
    }
    if !CASELESS_LISTS.contains(&name) {
        // Several lines are one list (RFC 9110 §5.3), in which blanks around commas mean nothing (§5.6.1), but within quotes.
        let members: Vec<&[u8]> = list(headers.all(name)).collect();
        return [PRESENT, &members.join(&b","[..])].concat();
    }
    let compact = |part: &[u8]| -> Vec<u8> {
        part.iter().filter(|byte| !byte.is_ascii_whitespace()).map(u8::to_ascii_lowercase).collect()
    };
    let member = |member| split_outside_quotes(member, b';').map(compact).collect::<Vec<_>>().join(&b';');
    let mut members: Vec<Vec<u8>> = list(headers.all(name)).map(member).collect();
    if UNORDERED.contains(&name) {
        members.sort_unstable();
    }
    [PRESENT, &members.join(&b',')].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let field =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        fields.iter().map(field).collect()
    }

    fn same(name: &str, one: &[&str], other: &[&str]) -> bool {
        let value = |values: &[&str]| {
            selecting_value(&map(&values.iter().map(|value| (name, *value)).collect::<Vec<_>>()), name)
        };
        value(one) == value(other)
    }

    #[test]
    fn rfc9111_4_1_names_of_all_lines_in_any_case() {
        assert_eq!(names(&map(&[("vary", "Origin, accept"), ("vary", "ACCEPT")])).unwrap(), ["accept", "origin"]);
        assert_eq!(names(&map(&[("vary", "accept, *")])), Err(NotStorable::VaryAny));
        assert_eq!(names(&map(&[("vary", "a b")])), Err(NotStorable::VaryUnusable));
        let many = (0..=NAMES_MAX).map(|n| format!("x{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(names(&map(&[("vary", &many)])), Err(NotStorable::VaryUnusable));
    }

    #[test]
    fn rfc9111_4_1_alike_requests_share() {
        assert!(same("accept-language", &["en, de;q=0.5"], &["EN,de; q=0.5"]));
        assert!(same("accept-language", &["en", "de"], &["en , de"]));
        assert!(same("accept-encoding", &["GZIP, br"], &["br,gzip"]));
        assert!(same("x-device", &["tv", "hd"], &["tv, hd"]));
        assert!(same("x-device", &[" tv"], &["tv"]));
        assert!(same("x-device", &["tv,hd"], &[" tv , hd "]));
    }

    #[test]
    fn rfc9111_4_1_different_requests_do_not() {
        assert!(!same("accept-language", &["en, de"], &["de, en"]));
        assert!(!same("x-device", &["TV"], &["tv"]));
        assert!(!same("x-device", &["a b"], &["ab"]));
        assert!(!same("x-device", &["\"a, b\""], &["\"a,b\""]), "quoted blanks mean something");
        assert!(!same("x-device", &[], &[""]), "absent is not empty");
        assert!(!same("accept", &[], &[""]), "absent is not empty");
    }

    proptest! {
        #[test]
        fn no_value_panics(value in proptest::collection::vec(prop_oneof![Just(b','), Just(b'"'), 0x20_u8..0x7f, 0x80_u8..], 0..32)) {
            let value = HeaderValue::from_bytes(&value).unwrap();
            let headers = HeaderMap::from_iter([
                (http::header::ACCEPT, value.clone()), (http::header::VARY, value.clone()), (http::header::COOKIE, value),
            ]);
            selecting_value(&headers, "accept");
            selecting_value(&headers, "cookie");
            let _ = names(&headers);
        }
    }
}
