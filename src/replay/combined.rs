//! The NCSA combined log of nginx and Apache (and the common log, which ends after the bytes):
//! `host ident user [time] "GET /target HTTP/1.1" 200 1234 "referer" "agent"`.
//!
//! The object's name is the target alone: the format has no host. It does not say either what may be kept, so GET answers
//! with a status that is cacheable by default count, and parts (206, 304, HEAD) where the size is known.

use super::reference::{Extent, Parsed, Reference, hash, is_whole_status};
use crate::http::key;

pub(super) fn parse(line: &[u8]) -> Parsed {
    const WRONG: &str = "not a line of a combined log (host ident user [time] \"request\" status bytes …)";
    let text = String::from_utf8_lossy(line);
    let (_, rest) = text.split_once('[').ok_or(WRONG)?;
    let (_, rest) = rest.split_once("] \"").ok_or(WRONG)?;
    let (request, rest) = rest.split_at(closing_quote(rest).ok_or(WRONG)?);
    let mut fields = rest[1..].split_ascii_whitespace();
    let status: u16 = fields.next().and_then(|status| status.parse().ok()).ok_or(WRONG)?;
    let bytes = match fields.next().ok_or(WRONG)? {
        "-" => 0,
        bytes => bytes.parse().map_err(|_| WRONG)?,
    };
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next());
    // Garbage that a server refused (`"\x16\x03" 400`) is a line like any other.
    let Some(target) = target else { return Ok(None) };
    let extent = match (method, status) {
        ("GET", 206) => Extent::Part,
        ("GET", 304) => Extent::Cut,
        ("GET", status) if is_whole_status(status) => Extent::Whole,
        ("HEAD", status) if is_whole_status(status) => Extent::Part,
        _ => return Ok(None),
    };
    let name = key::normalise_path_and_query(target).unwrap_or(target.into());
    Ok(Some(Reference { key: hash(&[name.as_bytes()]), bytes, extent }))
}

/// Where the quoted text ends: Apache writes `\"` inside, nginx `\x22`.
fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(line: &str) -> Option<(u64, Extent)> {
        parse(line.as_bytes()).expect("understood").map(|reference| (reference.bytes, reference.extent))
    }

    #[test]
    fn lines_of_nginx_and_apache() {
        let start = "192.0.2.1 - - [20/Nov/2026:21:18:12 +0000]";
        for (rest, expected) in [
            (r#""GET /a?b=c HTTP/1.1" 200 512 "-" "curl/8""#, Some((512, Extent::Whole))),
            (r#""GET /a HTTP/1.1" 200 512"#, Some((512, Extent::Whole))),
            (r#""GET /a\"b HTTP/1.1" 304 - "-" "x""#, Some((0, Extent::Cut))),
            (r#""GET /a HTTP/2.0" 206 7 "-" "[x] \"y\"""#, Some((7, Extent::Part))),
            (r#""HEAD /a HTTP/1.1" 200 0 "-" "-""#, Some((0, Extent::Part))),
            (r#""POST /a HTTP/1.1" 200 5 "-" "-""#, None),
            (r#""GET /a HTTP/1.1" 502 5 "-" "-""#, None),
            (r#""\x16\x03\x01" 400 150 "-" "-""#, None),
        ] {
            assert_eq!(parsed(&format!("{start} {rest}")), expected, "{rest}");
        }
    }

    #[test]
    fn equal_urls_are_one_object() {
        let key = |target: &str| {
            let line = format!(r#"h - - [t] "GET {target} HTTP/1.1" 200 1"#);
            parse(line.as_bytes()).expect("understood").expect("a request").key
        };
        assert_eq!(key("/%7ea"), key("/~a"));
        assert_ne!(key("/a"), key("/a?"));
    }

    #[test]
    fn other_text_is_wrong() {
        for line in ["", "hello", r#"h - - [t] "GET /a HTTP/1.1"#, r#"h - - [t] "GET /a HTTP/1.1" ok 1"#, "1,a,2"] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in r#"h \[t\] ".{0,30}"? ?[0-9-]{0,6}.{0,9}"#) {
            let _ = parse(&bytes);
            let _ = parse(text.as_bytes());
        }
    }
}
