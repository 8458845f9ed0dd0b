//! Every way of asking for a part, against the bytes themselves; also beyond 4 GiB.

use super::film::Film;
use super::{GIB, MIB, get_range, range};
use crate::support::{Connection, Edge, Player, Request, Speech, eventually, runtime};
use http::Method;

const TOTAL: u64 = 5 * GIB + 12_345;

#[test]
fn all_kinds_of_ranges_are_exact_beyond_4_gib() {
    let film = Film::new(TOTAL);
    let origin = film.origin();
    let edge = Edge::of(&origin).run();
    let at = |range: &str| edge.send(&Request::get("/film.mkv").header("Range", range));
    for start in [0, 1, 65_535, 65_536, 4 * GIB - 3, 4 * GIB, 5 * GIB, TOTAL - 1000] {
        let wanted = start..start + 1000;
        let part = get_range(&edge, "/film.mkv", wanted.clone()).expect_status(206);
        assert!(part.complete && part.body == film.bytes(wanted.clone()), "{wanted:?}");
        let field = format!("bytes {}-{}/{TOTAL}", wanted.start, wanted.end - 1);
        assert_eq!(part.header("content-range"), Some(field.as_str()));
        assert_eq!(part.header("etag"), Some("\"v1\""));
        assert_eq!(part.header("content-type"), Some("video/x-matroska"));
    }
    let suffix = at("bytes=-700").expect_status(206);
    assert!(suffix.body == film.bytes(TOTAL - 700..TOTAL));
    let open = at(&format!("bytes={}-", TOTAL - 70_000)).expect_status(206);
    assert!(open.body == film.bytes(TOTAL - 70_000..TOTAL));
    assert_eq!(open.header("content-length"), Some("70000"));
    let over = at(&format!("bytes={}-{}", TOTAL - 5, TOTAL + 5)).expect_status(206);
    assert!(over.body == film.bytes(TOTAL - 5..TOTAL));
    let beyond = at(&format!("bytes={TOTAL}-")).expect_status(416);
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{TOTAL}").as_str()));
    let several = at(&format!("bytes=10-19,{}-{}", 4 * GIB, 4 * GIB + 9)).expect_status(206);
    assert!(several.header("content-type").is_some_and(|kind| kind.starts_with("multipart/byteranges")));
    let text = several.text();
    assert!(text.contains(&format!("bytes {}-{}/{TOTAL}", 4 * GIB, 4 * GIB + 9)), "{text}");
    for part in [10..20, 4 * GIB..4 * GIB + 10] {
        let bytes = film.bytes(part.clone());
        assert!(several.body.windows(10).any(|window| window == bytes), "{part:?}");
    }
}

/// The origin is asked by requests of our own; the client's line was as silent about it as a hit's.
#[test]
fn the_log_of_a_miss_names_the_origin_and_that_of_a_hit_does_not() {
    let film = Film::new(32 * MIB);
    let origin = film.origin();
    let edge = Edge::of(&origin).run();
    get_range(&edge, "/film.mkv", 0..10).expect_status(206).expect_miss();
    eventually("its line is written", || edge.stdout().lines().count() == 1);
    get_range(&edge, "/film.mkv", 0..10).expect_status(206).expect_hit();
    eventually("both lines are written", || edge.stdout().lines().count() >= 2);
    let said = edge.stdout();
    let origins: Vec<bool> = said.lines().map(|line| line.contains(r#""origin":"main","origin_status":206"#)).collect();
    assert_eq!(origins, [true, false], "{said}");
}

#[test]
fn a_head_answers_head_conditions_and_if_range() {
    let film = Film::new(TOTAL);
    let origin = film.origin();
    let edge = Edge::of(&origin).run();
    get_range(&edge, "/film.mkv", 0..10).expect_status(206).expect_miss();
    let asked = origin.count("*");
    let head = edge.send(&Request::new("HEAD", "/film.mkv")).expect_status(200).expect_hit();
    assert_eq!(head.header("content-length"), Some(TOTAL.to_string().as_str()));
    let part = edge.send(&Request::new("HEAD", "/film.mkv").header("Range", "bytes=0-9"));
    assert!(matches!(part.status, 200 | 206), "{part:?}");
    let not_modified = edge.send(&Request::get("/film.mkv").header("If-None-Match", "\"v1\"")).expect_status(304);
    assert!(not_modified.is_hit());
    let same = Request::get("/film.mkv").header("Range", "bytes=5-8").header("If-Range", "\"v1\"");
    assert!(edge.send(&same).expect_status(206).expect_hit().body == film.bytes(5..9));
    assert_eq!(origin.count("*"), asked, "the head answers all that");
    let other = Request::get("/film.mkv").header("Range", "bytes=5-8").header("If-Range", "\"other\"");
    let mut connection = Connection::open(edge.http());
    connection.send(other.to_bytes());
    let head = connection.head().expect("a head").expect_status(200);
    assert_eq!(head.header("content-length"), Some(TOTAL.to_string().as_str()));
}

#[test]
fn whatever_is_asked_first_the_answer_is_right() {
    let cases: [(&str, std::ops::Range<u64>); 5] = [
        ("bytes=-1000", 20 * MIB - 1000..20 * MIB),
        ("bytes=7340031-7340034", 7_340_031..7_340_035),
        ("bytes=20000000-", 20_000_000..20 * MIB),
        ("bytes=0-0", 0..1),
        ("bytes=3-20971519", 3..20 * MIB),
    ];
    for (field, wanted) in cases {
        let film = Film::new(20 * MIB);
        let origin = film.origin();
        let edge = Edge::of(&origin).run();
        let part = edge.send(&Request::get("/film.mkv").header("Range", field)).expect_status(206).expect_miss();
        assert!(part.complete && part.body == film.bytes(wanted.clone()), "{field}");
        assert_eq!(film.sent_twice(), 0, "{field}");
        let again = || edge.send(&Request::get("/film.mkv").header("Range", field)).expect_status(206);
        eventually("all of it is stored", || again().is_hit());
        assert!(again().expect_hit().body == film.bytes(wanted), "{field}");
        assert_eq!(film.sent_twice(), 0, "{field}");
    }
    let film = Film::new(20 * MIB);
    let origin = film.origin();
    let edge = Edge::of(&origin).run();
    let beyond = edge.send(&Request::get("/film.mkv").header("Range", "bytes=99999999999-")).expect_status(416);
    assert_eq!(beyond.header("content-range"), Some("bytes */20971520"));
    let whole = edge.get("/film.mkv").expect_status(200);
    assert!(whole.complete && whole.body == film.bytes(0..20 * MIB));
    assert_eq!(film.sent_twice(), 0);
    edge.get("/film.mkv").expect_status(200).expect_hit();
}

#[test]
fn cold_random_unaligned_reads_cost_at_most_a_tenth_more() {
    let film = Film::new(GIB);
    let origin = film.origin();
    let edge = Edge::of(&origin).set("cache.memory", "256MiB").run();
    let mut client_bytes = 0;
    for _ in 0..60 {
        let start = fastrand::u64(..GIB - MIB);
        let part = get_range(&edge, "/film.mkv", start..start + MIB).expect_status(206);
        assert!(part.complete && part.body == film.bytes(start..start + MIB), "{start}");
        client_bytes += MIB;
    }
    let ratio = film.sent_bytes() as f64 / client_bytes as f64;
    assert!(ratio <= 1.1, "{ratio}");
    assert_eq!(film.sent_twice(), 0);
    assert!(film.requests() <= 80, "{} requests for 60 ranges", film.requests());
}

#[test]
fn random_ranges_are_those_of_the_file() {
    let total = 24 * MIB + 777;
    let film = Film::new(total);
    let origin = film.origin();
    let edge = Edge::of(&origin).run();
    let mut connection = Connection::open(edge.http());
    for _ in 0..150 {
        let start = fastrand::u64(..total);
        let wanted = start..(start + 1 + fastrand::u64(..400_000)).min(total);
        let request = Request::get("/film.mkv").header("Range", &range(wanted.clone()));
        let part = connection.exchange(&request).expect_status(206);
        assert!(part.complete && part.body == film.bytes(wanted.clone()), "{wanted:?}");
    }
    assert_eq!(film.sent_twice(), 0);
}

#[test]
fn an_origin_without_ranges_still_plays_and_is_asked_once_about_it() {
    let film = Film::new(9 * MIB);
    film.answers_ranges.store(false, std::sync::atomic::Ordering::SeqCst);
    let origin = film.origin();
    let edge = Edge::of(&origin).run();
    let part = get_range(&edge, "/film.mkv", 100..200).expect_status(206);
    assert!(part.body == film.bytes(100..200));
    // It came whole, and was kept so.
    eventually("the whole is stored", || edge.get("/film.mkv").is_hit());
    assert!(get_range(&edge, "/film.mkv", 5 * MIB..6 * MIB).expect_hit().body == film.bytes(5 * MIB..6 * MIB));
    assert_eq!(origin.count("*"), 1);
}

#[test]
fn a_large_object_without_ranges_passes() {
    let film = Film::new(9 * MIB);
    film.answers_ranges.store(false, std::sync::atomic::Ordering::SeqCst);
    let origin = film.origin();
    let edge = Edge::of(&origin).set("cache.object_max", "4MiB").run();
    for _ in 0..3 {
        let whole = get_range(&edge, "/film.mkv", 100..200);
        assert!(whole.status == 200 && whole.complete && whole.body == film.bytes(0..9 * MIB));
    }
    assert_eq!(origin.count("*"), 3, "what was asked to find out is the first one's answer");
}

#[test]
fn an_origin_whose_parts_are_shorter_than_asked_for_still_plays() {
    for part_max in [10_000, 100_000] {
        let film = Film::new(20 * MIB).parts_of_at_most(part_max);
        let origin = film.origin();
        let edge = Edge::of(&origin).run();
        let whole = edge.get("/film.mkv").expect_status(200);
        assert!(whole.complete && whole.body == film.bytes(0..20 * MIB), "{part_max}");
        let part = get_range(&edge, "/film.mkv", 9 * MIB..9 * MIB + 5000).expect_status(206);
        assert!(part.complete && part.body == film.bytes(9 * MIB..9 * MIB + 5000), "{part_max}");
    }
}

#[test]
fn what_is_not_sliced_is_answered_all_the_same() {
    for (name, value) in
        [("Content-Encoding", "x-coded"), ("Vary", "Origin"), ("Set-Cookie", "a=b"), ("Cache-Control", "no-store")]
    {
        let film = Film::new(20 * MIB).field(name, value);
        let origin = film.origin();
        let edge = Edge::of(&origin).run();
        for start in [0, 5 * MIB + 1] {
            let part = get_range(&edge, "/film.mkv", start..start + 5000).expect_status(206).expect_miss();
            assert!(part.body == film.bytes(start..start + 5000), "{name}");
        }
        assert!(!edge.get("/film.mkv").is_hit(), "{name}");
    }
}

#[test]
fn a_small_object_is_fetched_whole_once() {
    for speech in Speech::ALL {
        let film = Film::new(3 * MIB);
        let origin = film.origin();
        let edge = Edge::of(&origin).tls().run();
        let ask = |path: &'static str, fields: &'static [(&'static str, &'static str)]| {
            runtime().block_on(async {
                let mut player = Player::open(speech, edge.speaks(speech), None).await.expect("a connection");
                let mut answer = player.ask(Method::GET, path, fields).await.expect("a head");
                let cache_status = answer.header("cache-status").to_owned();
                (answer.status.as_u16(), answer.rest().await.expect("whole"), cache_status)
            })
        };
        let (status, body, _) = ask("/film.mkv", &[("range", "bytes=2097152-2098151")]);
        assert!(status == 206 && body == film.bytes(2 * MIB..2 * MIB + 1000), "{speech:?}: {status}");
        // Known to be small: whoever wants any of it now gets it whole.
        let (status, body, _) = ask("/film.mkv", &[("range", "bytes=100-199")]);
        assert!(status == 206 && body == film.bytes(100..200), "{speech:?}: {status}");
        eventually("the whole is stored", || ask("/film.mkv", &[]).2.contains("; hit"));
        assert!(film.sent_bytes() <= 3 * MIB + 2 * 65_536, "{speech:?}: {}", film.sent_bytes());
        assert_eq!(origin.count("/film.mkv"), 2, "{speech:?}");
        // A film asked for without a range comes by one request.
        let (status, body, _) = ask("/other.mkv", &[]);
        assert!(status == 200 && body == film.bytes(0..3 * MIB), "{speech:?}: {status}");
        assert_eq!(origin.count("/other.mkv"), 1, "{speech:?}");
        assert!(ask("/other.mkv", &[]).2.contains("; hit"), "{speech:?}");
    }
}
