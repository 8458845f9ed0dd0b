//! Requests to refuse, and fields to drop.

use super::*;
use http::HeaderValue;
use proptest::prelude::*;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn check(method: Method, target: &str, version: Version, fields: &[(&str, &str)]) -> Result<(), u16> {
    let uri: Uri = target.parse().unwrap();
    check_request(&method, &uri, version, &map(fields)).map_err(|refused| refused.status.as_u16())
}

fn http1(fields: &[(&str, &str)]) -> Result<(), u16> {
    let mut all = vec![("host", "h")];
    all.extend(fields);
    check(Method::POST, "/", Version::HTTP_11, &all)
}

#[test]
fn rfc9110_7_6_1_fields_named_by_connection_are_dropped() {
    let headers = map(&[
        ("connection", "X-Hop, keep-alive, \"odd\""),
        ("connection", "x-other, cache-control, Host, authorization"),
        ("x-hop", "1"),
        ("x-other", "1"),
        ("keep-alive", "1"),
        ("te", "trailers"),
        ("proxy-authorization", "secret"),
        ("cache-control", "no-store"),
        ("authorization", "x"),
        ("host", "h"),
        ("transfer-encoding", "chunked"),
        ("x-kept", "1"),
    ]);
    let mut names: Vec<_> = names_to_drop(&headers, false).into_iter().map(|name| name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["connection", "keep-alive", "proxy-authorization", "te", "x-hop", "x-other"]);
}

#[test]
fn an_underscore_does_not_pass_for_a_hyphen() {
    let headers = map(&[("x_forwarded_for", "1.1.1.1"), ("content_length", "5"), ("x_mine", "1"), ("x-real_ip", "1")]);
    assert_eq!(names_to_drop(&headers, false), ["x_forwarded_for", "content_length", "x-real_ip"]);
}

#[test]
fn an_upgrade_keeps_what_it_needs() {
    let headers = map(&[("connection", "Upgrade, X-Hop"), ("upgrade", "websocket"), ("x-hop", "1")]);
    assert_eq!(names_to_drop(&headers, true), ["x-hop"]);
    assert_eq!(names_to_drop(&headers, false).len(), 3);
}

#[test]
fn rfc9112_6_3_a_length_is_said_once_and_is_a_number() {
    assert_eq!(http1(&[("content-length", "5")]), Ok(()));
    for length in ["5, 5", "5,6", "+5", "-1", "5 ", "0x5", "", "99999999999999999999999"] {
        assert_eq!(http1(&[("content-length", length)]), Err(400), "{length}");
    }
    assert_eq!(http1(&[("content-length", "5"), ("content-length", "5")]), Err(400));
}

#[test]
fn rfc9112_6_1_chunked_alone_or_nothing() {
    assert_eq!(http1(&[("transfer-encoding", "Chunked")]), Ok(()));
    assert_eq!(http1(&[("transfer-encoding", "gzip")]), Err(501));
    for coding in ["chunked, chunked", "gzip, chunked", "chunked;x", "x chunked", ""] {
        assert_eq!(http1(&[("transfer-encoding", coding)]), Err(400), "{coding}");
    }
    assert_eq!(http1(&[("transfer-encoding", "chunked"), ("transfer-encoding", "x")]), Err(400));
    assert_eq!(http1(&[("transfer-encoding", "chunked"), ("content-length", "5")]), Err(400));
    for version in [Version::HTTP_10, Version::HTTP_2, Version::HTTP_3] {
        let fields = [("host", "h"), ("transfer-encoding", "chunked")];
        assert_eq!(check(Method::POST, "/", version, &fields), Err(400), "{version:?}");
    }
}

#[test]
fn rfc9112_3_2_exactly_one_valid_host() {
    let get = |target, fields: &[_]| check(Method::GET, target, Version::HTTP_11, fields);
    assert_eq!(get("/", &[("host", "tv.example.org:8080")]), Ok(()));
    assert_eq!(get("/", &[("host", "[::1]:8080")]), Ok(()));
    assert_eq!(get("/", &[]), Err(400));
    assert_eq!(get("/", &[("host", "h"), ("host", "h")]), Err(400));
    for host in ["", "a b", "user@h", "h/x", "h:port", "h,i", "h#", "[::1", "a..b"] {
        assert_eq!(get("/", &[("host", host)]), Err(400), "{host}");
    }
    assert_eq!(get("http://h/", &[("host", "H")]), Ok(()));
    assert_eq!(get("http://other/", &[("host", "h")]), Err(400));
    assert_eq!(get("http://h:81/", &[("host", "h")]), Err(400));
    assert_eq!(get("http://u:p@h/", &[("host", "u:p@h")]), Err(400));
    assert_eq!(get("ftp://h/", &[("host", "h")]), Err(400));
    assert_eq!(check(Method::GET, "/", Version::HTTP_10, &[]), Ok(()));
}

#[test]
fn rfc9113_8_3_1_the_authority_stands_for_host() {
    assert_eq!(check(Method::GET, "https://h/", Version::HTTP_2, &[]), Ok(()));
    assert_eq!(check(Method::GET, "/", Version::HTTP_3, &[]), Err(400));
}

#[test]
fn rfc9113_8_2_2_no_fields_of_a_connection() {
    let http2 = |field| check(Method::GET, "https://h/", Version::HTTP_2, &[field]);
    for name in ["connection", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(http2((name, "x")), Err(400), "{name}");
    }
    assert_eq!(http2(("te", "trailers")), Ok(()));
    assert_eq!(http2(("te", "gzip")), Err(400));
}

#[test]
fn targets_and_methods_that_are_not_ours() {
    let fields = [("host", "h")];
    assert_eq!(check(Method::CONNECT, "h:443", Version::HTTP_11, &fields), Err(405));
    assert_eq!(check(Method::TRACE, "/", Version::HTTP_11, &fields), Err(405));
    assert_eq!(check(Method::OPTIONS, "*", Version::HTTP_11, &fields), Ok(()));
    assert_eq!(check(Method::GET, "*", Version::HTTP_11, &fields), Err(400));
    assert_eq!(check(Method::GET, "/a%00b", Version::HTTP_11, &fields), Err(400));
    assert_eq!(http1(&[("expect", "100-Continue")]), Ok(()));
    assert_eq!(http1(&[("expect", "x")]), Err(417));
}

#[test]
fn control_bytes_in_a_field_are_refused_whoever_parsed_it() {
    assert_eq!(http1(&[("x-tab", "a\tb")]), Ok(()));
    let mut headers = map(&[("host", "h")]);
    // The map's own constructor refuses control characters, a parser of wire bytes may not: obs-text must still pass.
    headers.insert("x-obs", HeaderValue::from_bytes(b"caf\xe9").unwrap());
    assert!(check_request(&Method::GET, &Uri::from_static("/"), Version::HTTP_11, &headers).is_ok());
}

#[test]
fn dot_segments_that_only_some_origins_see_are_refused() {
    let passes = |path: &str| {
        let headers = map(&[("host", "h")]);
        check_request(&Method::GET, &path.parse().unwrap(), Version::HTTP_11, &headers).is_ok()
    };
    for path in ["/a/..%2fb", "/a/%2E%2e%5Cb", "/a/.%3Bx", "/a/..;x/b", "/..;", "/a%2f..", "/a%2f%2e/b"] {
        assert!(!passes(path), "{path}");
    }
    for path in ["/a/../b", "/a/%2e%2e/b", "/a;..", "/a;x=../b", "/a%2Fb", "/...;x", "/a%2F..b", "/%252e%252e%252f"] {
        assert!(passes(path), "{path}");
    }
}

#[test]
fn rfc9113_8_2_3_cookies_become_one_field() {
    assert_eq!(one_cookie_field(&map(&[("cookie", "a=1; b=2")])), None);
    assert_eq!(one_cookie_field(&map(&[("cookie", "a=1"), ("cookie", "b=2")])).unwrap(), "a=1; b=2");
}

proptest! {
    #[test]
    fn whatever_passes_has_one_framing_and_one_host(
        fields in proptest::collection::vec((0usize..6, "[0-9]{1,3}|chunked|[ -~]{0,12}|h"), 0..5), version in 0usize..3,
    ) {
        let names = ["content-length", "transfer-encoding", "host", "connection", "te", "expect"];
        let fields: Vec<_> = fields.iter().map(|(name, value)| (names[*name], value.as_str())).collect();
        let headers = map(&fields);
        let version = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2][version];
        names_to_drop(&headers, false);
        if check_request(&Method::GET, &Uri::from_static("/"), version, &headers).is_ok() {
            let count = |name: &str| headers.all(name).count();
            prop_assert!(count("content-length") + count("transfer-encoding") <= 1);
            prop_assert!(count("host") == 1 || version == Version::HTTP_10);
        }
    }
}
