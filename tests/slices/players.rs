//! How players begin, and that what they then ask for becomes kept: the whole as a range, two bytes to see whether ranges are answered,
//! byte ranges of a playlist one after the other. By curl.

use super::MIB;
use super::film::Film;
use crate::support::{Curl, Edge, Origin, Reply, Response, pattern};

/// HTTP/1.1 in clear, then HTTP/2 over TLS.
fn ask(edge: &Edge, http2: bool, path: &str, range: &str) -> Response {
    let curl = match http2 {
        true => Curl::https(edge.https(), path).http2(),
        false => Curl::http(edge.http(), path).http1(),
    };
    curl.header(&format!("Range: bytes={range}")).send().expect_status(206)
}

/// Jellyfin, Plex and browsers begin so.
#[test]
fn the_whole_asked_for_as_a_range_is_kept_whatever_its_size() {
    // All of it comes by the first request; it is too small to be kept in parts; it is kept in parts.
    for (total, requests_max, sent_max) in
        [(300_000, 1, 300_000), (3 * MIB, 2, 3 * MIB + (512 << 10)), (20 * MIB, 40, 20 * MIB)]
    {
        for http2 in [false, true] {
            let film = Film::new(total);
            let origin = film.origin();
            let edge = Edge::of(&origin).tls().run();
            let first = ask(&edge, http2, "/film.mp4", "0-").expect_miss();
            assert_eq!(first.header("content-range"), Some(format!("bytes 0-{}/{total}", total - 1).as_str()));
            assert!(first.body == film.bytes(0..total), "{total}: {} bytes", first.body.len());
            let again = ask(&edge, http2, "/film.mp4", "0-").expect_hit();
            assert!(again.body == film.bytes(0..total));
            assert!(ask(&edge, http2, "/film.mp4", "1000-1999").expect_hit().body == film.bytes(1000..2000));
            assert!(film.sent_bytes() <= sent_max && film.requests() <= requests_max, "{total}: {}", film.sent_bytes());
        }
    }
}

/// Safari begins so, and then names both ends.
#[test]
fn what_is_tried_with_two_bytes_is_kept_by_the_second_request() {
    for total in [300_000, 3 * MIB, 20 * MIB] {
        let film = Film::new(total);
        let origin = film.origin();
        let edge = Edge::of(&origin).tls().run();
        let whole = format!("0-{}", total - 1);
        assert!(ask(&edge, true, "/film.mp4", "0-1").body == film.bytes(0..2));
        assert!(ask(&edge, true, "/film.mp4", &whole).body == film.bytes(0..total));
        assert!(ask(&edge, true, "/film.mp4", &whole).expect_hit().body == film.bytes(0..total));
        assert!(film.sent_bytes() <= total + 65_536, "{total}: {}", film.sent_bytes());
    }
}

/// hls.js asks so for `EXT-X-BYTERANGE`; one file holds all segments.
#[test]
fn byte_ranges_one_after_the_other_are_fetched_once() {
    for total in [3 * MIB, 20 * MIB] {
        let film = Film::new(total);
        let origin = film.origin();
        let edge = Edge::of(&origin).tls().run();
        let segments: Vec<_> = (0..total).step_by(700_000).map(|start| start..(start + 700_000).min(total)).collect();
        for pass in 0..2 {
            for segment in &segments {
                let range = format!("{}-{}", segment.start, segment.end - 1);
                let part = ask(&edge, true, "/all.ts", &range);
                assert!(part.body == film.bytes(segment.clone()), "{segment:?}");
                assert!(pass == 0 || part.is_hit(), "{segment:?}: {}", part.cache_status());
            }
        }
        // The first part of what turns out small is fetched alone, and then with the whole.
        let twice = if total < 8 * MIB { 700_000 + 2 * 65_536 } else { 0 };
        assert!(film.sent_bytes() <= total + twice, "{total}: {}", film.sent_bytes());
    }
}

/// Without a strong validator there are no parts; up to `cache.object_max` it is kept whole.
#[test]
fn the_whole_as_a_range_of_what_cannot_be_in_parts_is_kept_whole() {
    let total = 12 << 20;
    let body = pattern(total);
    let whole = body.clone();
    let origin = Origin::start().handle("*", move |request| {
        let fields = |reply: Reply| reply.header("ETag", "W/\"v1\"").header("Cache-Control", "max-age=600");
        let Some(range) = request.header("range") else { return fields(Reply::ok(&*body)) };
        let (first, last) = range.trim_start_matches("bytes=").split_once('-').expect("a range");
        let first: usize = first.parse().expect("a number");
        let last = last.parse().unwrap_or(usize::MAX).min(body.len() - 1);
        let content_range = format!("bytes {first}-{last}/{}", body.len());
        fields(Reply::status_with(206, &body[first..=last])).header("Content-Range", &content_range)
    });
    for http2 in [false, true] {
        let edge = Edge::of(&origin).tls().run();
        assert!(ask(&edge, http2, "/film.mp4", "0-").body == whole);
        assert!(ask(&edge, http2, "/film.mp4", "0-").expect_hit().body == whole);
        assert!(ask(&edge, http2, "/film.mp4", "5-9").expect_hit().body == whole[5..10]);
    }
}
