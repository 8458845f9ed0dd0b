//! Slicing against the RFC, and as properties.

use super::*;
use http::HeaderMap;
use proptest::prelude::*;

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn part(first: u64, last: u64) -> ByteRange {
    ByteRange { first, last }
}

const MIB: u64 = 1 << 20;
const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const MINUTE_LATER: &str = "Sun, 06 Nov 1994 08:50:37 GMT";

#[test]
fn a_length_no_object_has_is_not_believed() {
    let parse = |complete: u64| ContentRange::parse(format!("bytes 0-9/{complete}").as_bytes());
    assert!(parse(i64::MAX as u64).is_some());
    assert!(parse(i64::MAX as u64 + 1).is_none() && parse(u64::MAX).is_none());
}

#[test]
fn content_range_is_exact_beyond_4_gib_and_strict() {
    let parse = |value: &str| ContentRange::parse(value.as_bytes());
    assert_eq!(
        parse("bytes 5368709120-5368709121/5368709122"),
        Some(ContentRange::Part { range: part(5_368_709_120, 5_368_709_121), complete: 5_368_709_122 })
    );
    assert_eq!(parse("bytes */7"), Some(ContentRange::Unsatisfied { complete: 7 }));
    for wrong in [
        "bytes 0-7/7",
        "bytes 3-2/7",
        "bytes 0-1/*",
        "bytes 0-1",
        "items 0-1/7",
        "bytes +0-1/7",
        "0-1/7",
        "bytes 0-99999999999999999999999/99999999999999999999999999",
        "",
    ] {
        assert_eq!(parse(wrong), None, "{wrong}");
    }
}

#[test]
fn only_a_strong_validator_tells_versions_apart() {
    let strong = |fields: &[(&'static str, &str)]| Validator::strong(&headers(fields));
    assert_eq!(strong(&[("etag", "\"a\"")]), Some(Validator::Tag("\"a\"".into())));
    for weak in ["W/\"a\"", "a", "\"", "\"a\" \"b\""] {
        assert_eq!(strong(&[("etag", weak)]), None, "{weak}");
    }
    let modified = |tag: Option<&str>| Some(Validator::Modified { date: OLD.into(), tag: tag.map(Into::into) });
    assert_eq!(strong(&[("last-modified", OLD), ("date", MINUTE_LATER)]), modified(None));
    let weak = strong(&[("etag", "W/\"a\""), ("last-modified", OLD), ("date", MINUTE_LATER)]);
    assert_eq!(weak, modified(Some("W/\"a\"")));
    assert_ne!(weak.unwrap().version(), modified(Some("W/\"b\"")).unwrap().version(), "granules of both never mix");
    assert_eq!(strong(&[("last-modified", OLD), ("date", OLD)]), None, "it may have changed twice in that second");
    assert_eq!(strong(&[("last-modified", OLD)]), None);
    assert_eq!(strong(&[("etag", "\"a\""), ("etag", "\"b\"")]), None);
}

#[test]
fn the_answer_decides_what_is_kept_in_parts() {
    let shape = |status: u16, fields: &[(&'static str, &str)]| {
        super::shape(StatusCode::from_u16(status).unwrap(), &headers(fields), 1000)
    };
    let validator = Validator::Tag("\"a\"".into());
    let large = ("content-range", "bytes 0-9/1000");
    assert_eq!(
        shape(206, &[large, ("etag", "\"a\""), ("content-encoding", "identity")]),
        Shape::Sliced { complete: 1000, validator, part: part(0, 9) }
    );
    for ordinary in [
        &[large][..],
        &[large, ("etag", "W/\"a\"")],
        &[large, ("etag", "\"a\""), ("content-encoding", "gzip")],
        &[large, ("etag", "\"a\""), ("content-length", "9")],
        &[("content-type", "multipart/byteranges; boundary=x"), ("etag", "\"a\"")],
    ] {
        assert_eq!(shape(206, ordinary), Shape::Ordinary, "{ordinary:?}");
    }
    assert_eq!(shape(206, &[("content-range", "bytes 0-9/999"), ("etag", "\"a\"")]), Shape::Small);
    assert_eq!(shape(206, &[("content-range", "bytes 0-9/10")]), Shape::Whole { complete: 10 });
    assert_eq!(shape(200, &[("content-length", "5")]), Shape::Whole { complete: 5 });
    assert_eq!(shape(200, &[]), Shape::Ordinary);
    assert_eq!(shape(416, &[("content-range", "bytes */5")]), Shape::Beyond { complete: 5 });
    assert_eq!(shape(416, &[]), Shape::Ordinary);
    assert_eq!(shape(404, &[large]), Shape::Ordinary);
}

#[test]
fn bytes_of_another_version_are_never_taken_for_these() {
    let judge = |status: u16, fields: &[(&'static str, &str)], validator: &Validator| {
        super::judge(StatusCode::from_u16(status).unwrap(), &headers(fields), part(10, 19), 100, validator)
    };
    let tag = Validator::Tag("\"a\"".into());
    let range = ("content-range", "bytes 10-19/100");
    assert_eq!(judge(206, &[range, ("etag", "\"a\"")], &tag), Verdict::Same(part(10, 19)));
    assert_eq!(
        judge(206, &[("content-range", "bytes 10-14/100"), ("etag", "\"a\"")], &tag),
        Verdict::Same(part(10, 14)),
        "a server may send less"
    );
    for other in [&[range][..], &[range, ("etag", "\"b\"")], &[("content-range", "bytes 10-19/101"), ("etag", "\"a\"")]]
    {
        assert_eq!(judge(206, other, &tag), Verdict::Changed, "{other:?}");
    }
    for elsewhere in ["bytes 9-18/100", "bytes 10-20/100", "bytes 0-99/100"] {
        assert_eq!(
            judge(206, &[("content-range", elsewhere), ("etag", "\"a\"")], &tag),
            Verdict::Refused,
            "{elsewhere}"
        );
    }
    let modified = Validator::Modified { date: OLD.into(), tag: None };
    assert_eq!(judge(206, &[range], &modified), Verdict::Same(part(10, 19)));
    let weak = Validator::Modified { date: OLD.into(), tag: Some("W/\"a\"".into()) };
    for same in [&[range][..], &[range, ("etag", "W/\"a\"")], &[range, ("etag", "\"a\""), ("last-modified", OLD)]] {
        assert_eq!(judge(206, same, &weak), Verdict::Same(part(10, 19)), "{same:?}");
    }
    for tag in ["W/\"b\"", "\"b\""] {
        let other = [range, ("etag", tag), ("last-modified", OLD)];
        assert_eq!(judge(206, &other, &weak), Verdict::Changed, "the date agrees, and the tag does not: {tag}");
    }
    assert_eq!(judge(206, &[range, ("last-modified", MINUTE_LATER)], &modified), Verdict::Changed);
    for gone in [200, 404, 410, 412, 416] {
        assert_eq!(judge(gone, &[("etag", "\"a\"")], &tag), Verdict::Changed, "{gone}");
    }
    for silent in [401, 403, 429, 500, 503] {
        assert_eq!(judge(silent, &[], &tag), Verdict::Refused, "{silent}");
    }
}

#[test]
fn a_slow_reader_keeps_a_small_window_and_a_starved_one_gets_several_runs() {
    let mut ahead = ReadAhead::new(0, 0, 8 * MIB);
    let (mut asked_to, mut runs) = (0, 0);
    while let Some(run) = ahead.next_run(0, asked_to, u64::MAX, false) {
        asked_to += run;
        runs += 1;
    }
    assert_eq!((asked_to, runs), (MIB / 2, 2));
    for position in (0..32 * MIB).step_by(GRANULE_BYTES as usize) {
        ahead.waited(position);
    }
    let position = 32 * MIB;
    asked_to = position;
    runs = 0;
    while let Some(run) = ahead.next_run(position, asked_to, u64::MAX, false) {
        asked_to += run;
        runs += 1;
    }
    assert_eq!((asked_to - position, runs), (8 * MIB, 4));
}

#[test]
fn a_range_of_a_mib_is_one_request() {
    let ahead = ReadAhead::new(1000, MIB, 8 * MIB);
    assert_eq!(ahead.next_run(1000, 1000, 1000 + MIB, true), Some(MIB));
}

proptest! {
    #[test]
    fn any_content_range_that_is_read_lies_inside(value in "bytes [0-9]{0,20}-[0-9]{0,20}/[0-9]{0,20}") {
        if let Some(ContentRange::Part { range, complete }) = ContentRange::parse(value.as_bytes()) {
            prop_assert!(range.first <= range.last && range.last < complete);
        }
    }

    #[test]
    fn any_bytes_are_read(value in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = ContentRange::parse(&value);
    }

    #[test]
    fn what_is_written_is_read(first in 0..u64::MAX / 8, length in 1..u64::MAX / 8, rest in 0..u64::MAX / 8) {
        let range = part(first, first + length - 1);
        let complete = range.last + 1 + rest;
        let read = ContentRange::parse(range.content_range(complete).as_bytes());
        prop_assert_eq!(read, Some(ContentRange::Part { range, complete }));
    }

    #[test]
    fn granules_cover_a_range_and_not_a_whole_one_more(first in 0..u64::MAX / 4, length in 1..u64::MAX / 4) {
        let range = part(first, first + length - 1);
        let complete = range.last + 1;
        let covered = bytes_of(granules(range), complete).unwrap();
        prop_assert!(covered.first <= range.first && covered.last >= range.last);
        prop_assert!(range.first - covered.first < GRANULE_BYTES && covered.last - range.last < GRANULE_BYTES);
    }

    #[test]
    fn a_mib_costs_at_most_a_tenth_more(first in 0..u64::MAX / 4) {
        let covered = bytes_of(granules(part(first, first + MIB - 1)), u64::MAX).unwrap();
        prop_assert!(covered.length() * 10 <= MIB * 11);
    }

    #[test]
    fn the_window_is_never_left_and_never_stands_still(
        max in MIB..64 * MIB, steps in proptest::collection::vec((0..4 * MIB, any::<bool>()), 1..50), bounded: bool,
    ) {
        let mut ahead = ReadAhead::new(0, 0, max);
        let (mut position, mut asked_to) = (0_u64, 0_u64);
        for (step, waited) in steps {
            position += step;
            asked_to = asked_to.max(position);
            if waited {
                ahead.waited(position);
            }
            let mut asked = 0;
            while let Some(run) = ahead.next_run(position, asked_to, u64::MAX, bounded) {
                asked_to += run;
                asked += 1;
                prop_assert!(asked < 100);
            }
            prop_assert!(asked_to > position, "a reader always has something on its way");
            prop_assert!(asked_to - position <= max.max(RUN_BYTES_MAX));
        }
    }
}
