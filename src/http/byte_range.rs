//! Which bytes of a representation a request asks for: `Range` (RFC 9110 §14.1.2, §14.2) and `If-Range` (§13.1.5).
//!
//! Invariant: a [`ByteRange`] made for a length lies inside it and is never empty. A server may ignore any `Range` (§14.2), so
//! whatever is malformed, excessive, or would need a multipart answer is answered with the whole representation.

use super::precondition::{Validators, if_range_holds};
use ::http::{HeaderMap, header};
use std::time::SystemTime;

/// More ranges than this in one request are ignored: nobody plays a film like that (§17.15).
pub const RANGES_MAX: usize = 16;
/// A longer `Range` is ignored.
pub const RANGE_BYTES_MAX: usize = 1024;

/// Bytes `first..=last`, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    pub first: u64,
    pub last: u64,
}

impl ByteRange {
    /// How many bytes; never 0.
    pub fn length(&self) -> u64 {
        self.last - self.first + 1
    }

    /// `Content-Range` of a 206 (§14.4).
    pub fn content_range(&self, complete_length: u64) -> String {
        format!("bytes {}-{}/{complete_length}", self.first, self.last)
    }
}

/// `Content-Range` of a 416 (§14.4).
pub fn unsatisfied_content_range(complete_length: u64) -> String {
    format!("bytes */{complete_length}")
}

/// What a range selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// 200 with everything.
    Whole,
    /// 206 with this part.
    Part(ByteRange),
    /// 416.
    Unsatisfiable,
}

/// The part that the headers of a GET ask for, of a representation with these validators and this length. Call it after
/// [`super::precondition::evaluate`] (§13.2.2 step 5); `Range` means nothing for other methods (§14.2).
pub fn select(headers: &HeaderMap, validators: Validators<'_>, length: u64, now: SystemTime) -> Selection {
    let mut ranges = headers.get_all(header::RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Selection::Whole };
    if !if_range_holds(headers, validators, now) {
        return Selection::Whole;
    }
    parse(range.as_bytes(), length)
}

/// Reads the value of a `Range` against a length. Of several ranges where only one is satisfiable, that one is the answer;
/// where more are, the whole is.
pub fn parse(value: &[u8], length: u64) -> Selection {
    ranges(value, length).unwrap_or(Selection::Whole)
}

/// None: ignore the header.
fn ranges(value: &[u8], length: u64) -> Option<Selection> {
    if value.len() > RANGE_BYTES_MAX {
        return None;
    }
    let (unit, set) = std::str::from_utf8(value).ok()?.split_once('=')?;
    if !unit.trim_matches([' ', '\t']).eq_ignore_ascii_case("bytes") {
        return None;
    }
    // A recipient takes empty list elements (§5.6.1.2).
    let specs = set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty());
    let mut seen = 0;
    let mut satisfiable = Vec::new();
    for spec in specs {
        seen += 1;
        if seen > RANGES_MAX {
            return None;
        }
        satisfiable.extend(one(spec, length)?);
    }
    match (seen, satisfiable.as_slice()) {
        (0, _) => None,
        // Every non-empty suffix of nothing is nothing: satisfiable, but no Content-Range can say so.
        _ if length == 0 => Some(Selection::Whole),
        (_, []) => Some(Selection::Unsatisfiable),
        (_, [range]) => Some(Selection::Part(*range)),
        _ => None,
    }
}

/// `first-last`, `first-` or `-suffix`. None: malformed, which spoils the whole header; `Some(None)`: not satisfiable.
fn one(spec: &str, length: u64) -> Option<Option<ByteRange>> {
    let (first, last) = spec.split_once('-')?;
    let end = length.checked_sub(1);
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(
            end.filter(|_| suffix > 0).map(|end| ByteRange { first: length.saturating_sub(suffix), last: end }),
        );
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some(end.filter(|end| first <= *end).map(|end| ByteRange { first, last: last.min(end) }))
}

/// `1*DIGIT`. A number too large to count is still beyond every length: it saturates.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(first: u64, last: u64) -> Selection {
        Selection::Part(ByteRange { first, last })
    }

    #[test]
    fn single_ranges() {
        for (value, length, expected) in [
            ("bytes=0-0", 10, part(0, 0)),
            ("bytes=2-5", 10, part(2, 5)),
            ("BYTES=2-", 10, part(2, 9)),
            ("bytes=2-99", 10, part(2, 9)),
            ("bytes=-3", 10, part(7, 9)),
            ("bytes=-99", 10, part(0, 9)),
            ("bytes= 2-5 ", 10, part(2, 5)),
            ("bytes=,2-5,", 10, part(2, 5)),
            ("bytes=0-99999999999999999999999", 10, part(0, 9)),
            ("bytes=10-", 10, Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Selection::Unsatisfiable),
            ("bytes=-0", 10, Selection::Unsatisfiable),
        ] {
            assert_eq!(parse(value.as_bytes(), length), expected, "{value}");
        }
    }

    #[test]
    fn malformed_ranges_are_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=1",
            "bytes=+1-2",
            "bytes=1-2-3",
            "bytes=1 - 2",
            "items=0-1",
            "bytes:0-1",
            "bytes=0-1,x",
            "bytes=--1",
            "bytes=0-1;2-3",
        ] {
            assert_eq!(parse(value.as_bytes(), 10), Selection::Whole, "{value}");
        }
    }

    #[test]
    fn several_ranges_get_the_whole_unless_only_one_can_be_met() {
        assert_eq!(parse(b"bytes=0-1,4-5", 10), Selection::Whole);
        assert_eq!(parse(b"bytes=0-1,40-50", 10), part(0, 1));
        assert_eq!(parse(b"bytes=40-50,60-", 10), Selection::Unsatisfiable);
        let many = format!("bytes={}", "50-60,".repeat(RANGES_MAX + 1));
        assert_eq!(parse(many.as_bytes(), 10), Selection::Whole);
    }

    #[test]
    fn an_empty_representation_has_no_part() {
        assert_eq!(parse(b"bytes=-5", 0), Selection::Whole);
        assert_eq!(parse(b"bytes=0-", 0), Selection::Whole);
    }

    #[test]
    fn two_range_fields_are_no_range() {
        let mut headers = HeaderMap::new();
        headers.append(header::RANGE, "bytes=0-1".parse().unwrap());
        let validators = Validators::default();
        assert_eq!(select(&headers, validators, 10, SystemTime::now()), part(0, 1));
        headers.append(header::RANGE, "bytes=2-3".parse().unwrap());
        assert_eq!(select(&headers, validators, 10, SystemTime::now()), Selection::Whole);
    }

    proptest! {
        #[test]
        fn a_part_always_lies_inside(value in "bytes=([0-9]{0,21}-[0-9]{0,21},?){1,3}", length in any::<u64>()) {
            if let Selection::Part(range) = parse(value.as_bytes(), length) {
                prop_assert!(range.first <= range.last && range.last < length);
                prop_assert!(range.length() > 0);
            }
        }

        #[test]
        fn any_bytes_are_read(value in proptest::collection::vec(any::<u8>(), 0..64), length in 0_u64..100) {
            let _ = parse(&value, length);
        }

        #[test]
        fn what_is_asked_for_is_given(first in 0_u64..100, extra in 0_u64..100, length in 1_u64..100) {
            let value = format!("bytes={first}-{}", first + extra);
            let expected = if first < length { part(first, (first + extra).min(length - 1)) } else { Selection::Unsatisfiable };
            prop_assert_eq!(parse(value.as_bytes(), length), expected);
        }
    }
}
