//! What a request wants of an object, and what to ask for first of one nothing is known of. Pure.

use crate::http::byte_range::{self, ByteRange, Selection};
use crate::http::slicing::{self, GRANULE_BYTES};
use http::HeaderMap;
use http::header::{IF_RANGE, RANGE};

/// Stands for a length nobody knows.
const LENGTH_UNKNOWN: u64 = u64::MAX;
/// Asked for first where a client names no end.
const FIRST_BYTES: u64 = 512 << 10;
/// The most that is asked for first.
const FIRST_BYTES_MAX: u64 = 4 << 20;

/// The beginning of an object.
pub(super) const FIRST: ByteRange = ByteRange { first: 0, last: GRANULE_BYTES - 1 };

/// What a request wants of an object this long, before conditions are looked at.
pub(super) fn wanted_of(head_only: bool, headers: &HeaderMap, complete: u64) -> Vec<ByteRange> {
    if head_only {
        return Vec::new();
    }
    match headers.get(RANGE).map_or(Selection::Whole, |range| byte_range::parse(range.as_bytes(), complete)) {
        Selection::Whole => whole(complete),
        Selection::Part(part) => vec![part],
        Selection::Unsatisfiable => Vec::new(),
    }
}

fn whole(complete: u64) -> Vec<ByteRange> {
    complete.checked_sub(1).map(|last| ByteRange { first: 0, last }).into_iter().collect()
}

/// What to ask for first, of an object nothing is known of.
pub(super) fn first_range(headers: &HeaderMap, bytes_min: u64) -> ByteRange {
    let Some(range) = headers.get(RANGE) else { return ByteRange { first: 0, last: bytes_min - 1 } };
    let asked = byte_range::parse(range.as_bytes(), LENGTH_UNKNOWN);
    let (Selection::Part(asked), false) = (asked, headers.contains_key(IF_RANGE)) else { return FIRST };
    // A suffix: where that is nobody knows yet.
    if asked.first > LENGTH_UNKNOWN / 2 {
        return FIRST;
    }
    let is_open = asked.last == LENGTH_UNKNOWN - 1;
    let last = if is_open { asked.first + FIRST_BYTES - 1 } else { asked.last };
    let granules = slicing::granules(ByteRange { first: asked.first, last });
    let count_max = FIRST_BYTES_MAX / GRANULE_BYTES;
    let end = granules.end.min(granules.start + count_max + 1);
    slicing::bytes_of(granules.start..end, LENGTH_UNKNOWN).unwrap_or(FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(range: &str) -> (u64, u64) {
        let headers = HeaderMap::from_iter([(RANGE, range.parse().unwrap())]);
        let range = first_range(&headers, 8 << 20);
        (range.first, range.last)
    }

    #[test]
    fn what_is_asked_for_first_is_what_was_wanted_and_not_much_more() {
        const K64: u64 = 64 << 10;
        assert_eq!(first("bytes=0-0"), (0, K64 - 1));
        assert_eq!(first("bytes=65535-65536"), (0, 2 * K64 - 1));
        assert_eq!(first("bytes=5368709120-5369757695"), (5_368_709_120, 5_369_757_695));
        assert_eq!(first("bytes=0-"), (0, (512 << 10) - 1));
        assert_eq!(first("bytes=70000-"), (K64, K64 * 10 - 1));
        for unknown in ["bytes=-500", "bytes=0-1,5-6", "nonsense"] {
            assert_eq!(first(unknown), (0, K64 - 1), "{unknown}");
        }
        let (begin, end) = first("bytes=0-999999999999");
        assert!(begin == 0 && end < FIRST_BYTES_MAX + K64);
        assert_eq!(first("bytes=18446744073709551000-18446744073709551614"), (0, K64 - 1));
        assert_eq!(first_range(&HeaderMap::new(), 8 << 20), ByteRange { first: 0, last: (8 << 20) - 1 });
    }
}
