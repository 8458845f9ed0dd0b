//! Accept-Encoding in all its forms, media types, and what may be coded.

use super::rules::*;
use super::types::{DEFAULT, TypeRules};
use super::*;
use ::http::HeaderMap;
use proptest::prelude::*;

const OFFERED: [Coding; 3] = Coding::ALL;

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, value.parse().unwrap());
    }
    map
}

fn accepts(value: &str) -> Accepts {
    Accepts::of(&headers(&[("accept-encoding", value)]))
}

fn choose(value: &str) -> Choice {
    accepts(value).choose(&OFFERED)
}

#[test]
fn rfc9110_12_5_3_the_highest_weight_wins_then_our_order() {
    use Choice::*;
    use Coding::*;
    for (value, choice) in [
        ("", Identity),
        ("gzip", Coded(Gzip)),
        ("gzip, deflate, br, zstd", Coded(Brotli)),
        ("GZIP;Q=1.000 , BR ; q=0.999", Coded(Gzip)),
        ("gzip;q=0.5, zstd;q=0.501", Coded(Zstd)),
        ("x-gzip", Coded(Gzip)),
        ("deflate, compress", Identity),
        ("br;q=0", Identity),
        ("br;q=0.000", Identity),
        ("*", Coded(Brotli)),
        ("*, br;q=0", Coded(Zstd)),
        ("br;q=0, *;q=0.1", Coded(Zstd)),
        ("gzip;q=0.2, *;q=0.1", Coded(Gzip)),
        ("identity", Identity),
        ("identity;q=0.5, gzip;q=0.4", Identity),
        ("identity;q=0.5, gzip;q=0.5", Coded(Gzip)),
        ("identity;q=0.5, *;q=0.6", Coded(Brotli)),
        ("identity, *;q=0", Identity),
        ("identity;q=0, gzip", Must(Gzip)),
        ("*;q=0, gzip;q=0.001", Must(Gzip)),
        ("identity;q=0", Identity),
        ("*;q=0", Identity),
    ] {
        assert_eq!(choose(value), choice, "{value}");
    }
}

#[test]
fn a_client_without_the_field_gets_identity() {
    let absent = Accepts::of(&HeaderMap::new());
    assert_eq!(absent.choose(&OFFERED), Choice::Identity);
    assert!(absent.allows_identity() && OFFERED.iter().all(|coding| !absent.allows(*coding)));
    assert_eq!(accepts("gzip").choose(&[]), Choice::Identity);
    assert_eq!(accepts("gzip, br").choose(&[Coding::Gzip, Coding::Brotli]), Choice::Coded(Coding::Gzip));
}

#[test]
fn what_is_refused_once_is_never_sent() {
    for value in ["gzip, gzip;q=0", "gzip;q=0, gzip", "gzip;q=0, x-gzip", "x-gzip;q=0.0,GZIP;q=1"] {
        assert!(!accepts(value).allows(Coding::Gzip), "{value}");
    }
    assert!(!accepts("identity, identity;q=0, br").allows_identity());
    let lines = headers(&[("accept-encoding", "br"), ("accept-encoding", "br;q=0, gzip")]);
    assert_eq!(Accepts::of(&lines).choose(&OFFERED), Choice::Coded(Coding::Gzip), "all lines count");
}

#[test]
fn members_that_cannot_be_read_are_as_if_absent() {
    for value in [
        "gzip;q=",
        "gzip;q=2",
        "gzip;q=1.001",
        "gzip;q=0.1234",
        "gzip;q=.5",
        "gzip;q=-1",
        "gzip;q=0,5",
        "gzip;q =1",
        "gzip;q= 1",
        "gzip;level=9",
        "gzip;q=1;q=1",
        "gzip;",
        "gzip gzip",
        "\"gzip\"",
        "gzip;q=\"1\"",
        "gzip=1",
        ";q=1",
    ] {
        assert!(!accepts(value).allows(Coding::Gzip), "{value}");
        assert_eq!(choose(&format!("{value}, br")), Choice::Coded(Coding::Brotli), "{value}");
    }
    assert!(accepts("gzip;q=1.").allows(Coding::Gzip), "RFC 9110 §12.4.2: no decimals is a number of them");
}

#[test]
fn members_are_bounded() {
    let many = "x,".repeat(MEMBERS_MAX - 1);
    assert!(accepts(&format!("{many}gzip")).allows(Coding::Gzip));
    assert!(!accepts(&format!("{many}x,gzip")).allows(Coding::Gzip));
}

#[test]
fn tokens_and_places_are_each_codings_own() {
    for (place, coding) in Coding::ALL.into_iter().enumerate() {
        assert_eq!(coding.index(), place);
        assert_eq!(Coding::from_token(coding.token().to_ascii_uppercase().as_bytes()), Some(coding));
    }
    assert_eq!(Coding::from_token(b"deflate"), None);
}

#[test]
fn rfc9110_8_4_what_a_body_is_coded_in() {
    let of = |values: &[&str]| of_body(&headers(&values.iter().map(|v| ("content-encoding", *v)).collect::<Vec<_>>()));
    for nothing in [&[][..], &[""], &["identity"], &[" , ", "Identity"]] {
        assert_eq!(of(nothing), BodyCoding::None, "{nothing:?}");
    }
    assert_eq!(of(&["X-GZIP"]), BodyCoding::One(Coding::Gzip));
    assert_eq!(of(&["br, identity"]), BodyCoding::One(Coding::Brotli));
    for other in [&["deflate"][..], &["gzip, gzip"], &["br", "gzip"], &["aes128gcm"], &["gzip;q=1"], &["\"gzip\""]] {
        assert_eq!(of(other), BodyCoding::Other, "{other:?}");
    }
}

#[test]
fn text_is_coded_and_media_is_not() {
    let rules = TypeRules::default();
    for yes in [
        "text/html; charset=utf-8",
        "TEXT/CSS",
        "text/vtt",
        "text/x-ssa",
        "application/json",
        "application/problem+json",
        "application/javascript",
        "image/svg+xml",
        "application/wasm",
        "font/ttf",
        "application/dash+xml",
        "application/ttml+xml",
        "application/vnd.apple.mpegurl",
        "Application/X-MpegURL",
        "audio/mpegurl",
        "audio/x-mpegurl;charset=utf-8",
        "image/x-icon",
        "application/x-subrip",
        "application/rss+xml",
    ] {
        assert!(rules.matches(yes), "{yes}");
    }
    for no in ["", "text", "/", "text/", "text/ht ml", "application/octet-stream", "application/x-unknown", "*/*"] {
        assert!(!rules.matches(no), "{no}");
    }
}

#[test]
fn no_list_brings_in_what_is_compressed_already() {
    let everything = TypeRules::parse(&["*/*", "video/mp4", "video/*"]).unwrap();
    for never in [
        "video/mp4",
        "video/mp2t",
        "video/iso.segment",
        "Audio/AAC; x=y",
        "audio/mp4",
        "image/jpeg",
        "image/avif",
        "font/woff2",
        "application/zip",
        "application/gzip",
        "application/zstd",
        "application/pdf",
        "application/mp4",
        "application/epub+zip",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "multipart/byteranges",
    ] {
        assert!(!everything.matches(never), "{never}");
    }
    for other in ["application/octet-stream", "audio/mpegurl", "image/svg+xml", "image/bmp", "model/gltf+json"] {
        assert!(everything.matches(other), "{other}");
    }
}

#[test]
fn entries_that_are_no_media_type_say_how_to_write_one() {
    for wrong in
        ["", "json", "text/", "/json", "te*t/html", "text/h*", "*/json", "*+", "*/*+", "text /html", "a/b/c", "ü/x"]
    {
        let (index, message) = TypeRules::parse(&["text/*", wrong]).unwrap_err();
        assert!(index == 1 && message.contains("application/json"), "{wrong}: {message}");
    }
    assert!(TypeRules::check("text/html;charset=utf-8").unwrap_err().contains("leave out"));
    assert_eq!(TypeRules::parse(&DEFAULT).unwrap(), TypeRules::default());
    let suffix = TypeRules::parse(&["*+json", " Application/*+XML "]).unwrap();
    assert!(suffix.matches("image/x+json") && suffix.matches("application/a+xml") && !suffix.matches("image/svg+xml"));
}

#[test]
fn partial_bodiless_coded_and_forbidden_answers_stay_as_they_are() {
    let plain = HeaderMap::new();
    for status in [200, 203, 301, 404, 410, 500] {
        assert!(may_be_coded(status, &plain), "{status}");
    }
    for status in [100, 101, 103, 204, 205, 206, 304] {
        assert!(!may_be_coded(status, &plain), "{status}");
    }
    for (name, value) in [
        ("content-range", "bytes */9"),
        ("content-encoding", "gzip"),
        ("content-encoding", "deflate"),
        ("cache-control", "max-age=1, No-Transform"),
        ("cache-control", "no-transform=\"x\""),
    ] {
        assert!(!may_be_coded(200, &headers(&[(name, value)])), "{name}: {value}");
    }
    for (name, value) in [("content-encoding", "identity"), ("cache-control", "x=\"no-transform, y\"")] {
        assert!(may_be_coded(200, &headers(&[(name, value)])), "{name}: {value}");
    }
}

#[test]
fn entity_tags_are_weakened_once() {
    assert_eq!(weak_etag("\"a\"").as_deref(), Some("W/\"a\""));
    assert_eq!(weak_etag("W/\"a\"").as_deref(), Some("W/\"a\""));
    for none in ["", "a", "\"a", "w/\"a\"", "\"a\"b", "\"a b\""] {
        assert_eq!(weak_etag(none), None, "{none}");
    }
}

#[test]
fn vary_is_added_once() {
    assert!(vary_lacks_accept_encoding(&HeaderMap::new()));
    assert!(vary_lacks_accept_encoding(&headers(&[("vary", "Origin, X-Accept-Encoding")])));
    for value in ["*", "accept-encoding", "Origin , ACCEPT-ENCODING"] {
        assert!(!vary_lacks_accept_encoding(&headers(&[("vary", "Origin"), ("vary", value)])), "{value}");
    }
}

proptest! {
    #[test]
    fn every_weight_is_read_as_written(q in 0u16..=1000, place in 0usize..3, spaces in "[ \t]{0,2}") {
        let coding = Coding::ALL[place];
        let text = if q == 1000 { "1.000".to_owned() } else { format!("0.{q:03}") };
        let seen = accepts(&format!("{}{spaces};{spaces}q={text}{spaces}, identity;q=0", coding.token()));
        prop_assert_eq!(seen.codings[place], q);
        let expected = if q == 0 { Choice::Identity } else { Choice::Must(coding) };
        prop_assert_eq!(seen.choose(&OFFERED), expected);
    }

    #[test]
    fn no_bytes_panic_and_what_is_chosen_is_allowed(value in proptest::collection::vec(any::<u8>(), 0..64)) {
        let Ok(line) = ::http::HeaderValue::from_bytes(&value) else { return Ok(()) };
        let mut map = HeaderMap::new();
        for name in ["accept-encoding", "content-encoding", "vary", "cache-control"] {
            map.append(name, line.clone());
        }
        let seen = Accepts::of(&map);
        match seen.choose(&OFFERED) {
            Choice::Identity => {}
            Choice::Coded(coding) => prop_assert!(seen.allows(coding) && seen.allows_identity()),
            Choice::Must(coding) => prop_assert!(seen.allows(coding) && !seen.allows_identity()),
        }
        let _ = (of_body(&map), may_be_coded(200, &map), vary_lacks_accept_encoding(&map));
        let text = String::from_utf8_lossy(&value);
        weak_etag(&text);
        TypeRules::default().matches(&text);
        if let Ok(rules) = TypeRules::parse(&[&text]) {
            prop_assert!(!rules.matches("video/mp4"));
        }
    }

    #[test]
    fn a_refusal_is_heard_wherever_it_stands(
        before in "[ ,;=a-z*0-9.]{0,24}", after in "[ ,;=a-z*0-9.]{0,24}", place in 0usize..3,
    ) {
        let coding = Coding::ALL[place];
        let value = format!("{before},{};q=0,{after}", coding.token());
        prop_assert!(!accepts(&value).allows(coding));
    }
}
