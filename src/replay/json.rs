//! Our own access log (`log.access.format: json`; its writer is `observe::access_log`).
//!
//! What counts as a request of the cache is what the edge asked its cache for: `cache` is `hit`, `stale`, `revalidated`,
//! `expired` or `miss`. `none` and a `bypass` that is no range asked none and are left out. A range that missed bypasses
//! at the edge (it passes through), so a bypassing 206 is a part: it counts where the object's size is known. So is any 206 of a
//! film: those are kept in parts.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::reference::{Extent, KeyRules, Parsed, Reference};

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    host: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
    status: u16,
    bytes_sent: u64,
    #[serde(borrow, default)]
    site: Cow<'a, str>,
    #[serde(borrow, default)]
    class: Cow<'a, str>,
    #[serde(borrow)]
    cache: Cow<'a, str>,
    error: Option<IgnoredAny>,
}

pub(super) fn parse(line: &[u8], keys: &KeyRules<'_>) -> Parsed {
    let line: Line<'_> = serde_json::from_slice(line)
        .map_err(|_| "not a JSON access record (method, host, target, status, bytes_sent and cache are needed)")?;
    let is_head = line.method == "HEAD";
    if !is_head && line.method != "GET" {
        return Ok(None);
    }
    let extent = match (&*line.cache, line.status) {
        // The client was gone before there was a head.
        (_, 0) => return Ok(None),
        ("hit" | "stale" | "revalidated" | "expired" | "miss", _) if is_head => Extent::Part,
        ("miss", 206) if line.class == "film" => Extent::Part,
        // A range that missed and is no bypass asked for everything (`bytes=0-`): it filled the cache.
        ("miss", 206) if line.error.is_none() => Extent::Whole,
        ("hit" | "stale" | "revalidated" | "bypass", 206) => Extent::Part,
        ("hit" | "stale" | "revalidated" | "expired" | "miss", status) => match status {
            206 | 304 | 412 | 416 => Extent::Cut,
            _ if line.error.is_some() => Extent::Cut,
            _ => Extent::Whole,
        },
        ("bypass" | "none", _) => return Ok(None),
        _ => return Err("`cache` is no word of an access record"),
    };
    let key = keys.key(&line.site, &line.host, &line.target);
    Ok(Some(Reference { key, bytes: line.bytes_sent, extent }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(method: &str, status: u16, cache: &str, more: &str) -> String {
        format!(
            r#"{{"time":"2026-01-01T00:00:00.000Z","method":"{method}","scheme":"http","host":"h","target":"/\"a\u0041","protocol":"HTTP/1.1","status":{status},"bytes_sent":42,"bytes_received":0,"duration_s":0.1,"site":"s","class":"other","cache":"{cache}"{more}}}"#
        )
    }

    fn extent(method: &str, status: u16, cache: &str, more: &str) -> Option<Extent> {
        parse(line(method, status, cache, more).as_bytes(), &KeyRules::plain()).expect("understood").map(|r| r.extent)
    }

    #[test]
    fn what_a_line_says_of_the_cache() {
        for (method, status, cache, more, expected) in [
            ("GET", 200, "miss", "", Some(Extent::Whole)),
            ("GET", 200, "hit", "", Some(Extent::Whole)),
            ("GET", 404, "stale", "", Some(Extent::Whole)),
            ("GET", 200, "hit", r#","error":"client gone""#, Some(Extent::Cut)),
            ("GET", 304, "hit", "", Some(Extent::Cut)),
            ("GET", 206, "miss", "", Some(Extent::Whole)),
            ("GET", 206, "miss", r#","error":"client gone""#, Some(Extent::Cut)),
            ("GET", 206, "expired", "", Some(Extent::Cut)),
            ("GET", 206, "hit", "", Some(Extent::Part)),
            ("GET", 206, "bypass", "", Some(Extent::Part)),
            ("HEAD", 200, "hit", "", Some(Extent::Part)),
            ("GET", 200, "bypass", "", None),
            ("GET", 502, "none", "", None),
            ("HEAD", 200, "bypass", "", None),
            ("POST", 200, "bypass", "", None),
            ("GET", 0, "miss", "", None),
        ] {
            assert_eq!(extent(method, status, cache, more), expected, "{method} {status} {cache} {more}");
        }
    }

    #[test]
    fn a_range_of_a_film_is_no_whole_object() {
        let line = line("GET", 206, "miss", "").replace(r#""class":"other""#, r#""class":"film""#);
        let parsed = parse(line.as_bytes(), &KeyRules::plain()).expect("understood");
        assert_eq!(parsed.map(|reference| reference.extent), Some(Extent::Part));
    }

    #[test]
    fn other_json_is_wrong() {
        for text in ["", "{}", "[]", "{\"method\":1}", &line("GET", 200, "maybe", "")] {
            assert!(parse(text.as_bytes(), &KeyRules::plain()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..300_usize) {
            let _ = parse(&bytes, &KeyRules::plain());
            let line = line("GET", 200, "hit", "");
            let _ = parse(&line.as_bytes()[..cut.min(line.len())], &KeyRules::plain());
        }
    }
}
