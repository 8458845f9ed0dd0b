//! Which messages are malformed, and how answers are written.

use super::*;
use proptest::prelude::*;

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":authority", "h.test"), (":path", "/a?b")];

fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = Vec::new();
    qpack::begin(&mut section);
    for (name, value) in fields {
        qpack::put(&mut section, name, value.as_bytes());
    }
    section
}

fn of(fields: &[(&str, &str)]) -> Result<request::Parts, Refused> {
    request(&section(fields), 1 << 16)
}

fn with(field: (&str, &str)) -> Result<request::Parts, Refused> {
    of(&[&GET[..], &[field]].concat())
}

#[test]
fn a_request_has_its_target_as_http2_has_it() {
    let request = with(("x-a", "1")).unwrap();
    assert_eq!(request.uri, "https://h.test/a?b");
    assert_eq!((request.version, request.headers["x-a"].as_bytes()), (Version::HTTP_3, &b"1"[..]));
    let by_host = [GET[0], GET[1], GET[3], ("host", "h.test")];
    assert_eq!(of(&by_host).unwrap().uri, "/a?b");
}

#[test]
fn malformed_requests_are_refused() {
    for field in [
        (":path", "/again"),
        (":method", "GET"),
        (":status", "200"),
        (":protocol", "websocket"),
        (":unknown", ""),
        ("Upper", "1"),
        ("sp ace", "1"),
        ("", "1"),
        ("x", "a\r\nb: c"),
        ("x", "a\0b"),
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "1"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("host", "other.test"),
        ("host", ""),
        ("content-length", "-1"),
        ("content-length", "1, 1"),
    ] {
        assert!(matches!(with(field), Err(Refused::Malformed(_))), "{field:?}");
    }
    assert!(with(("te", "trailers")).is_ok());
    assert!(with(("host", "h.test")).is_ok());
}

#[test]
fn pseudo_header_fields_come_first_and_none_is_missing() {
    let late = [("x-a", "1"), GET[0], GET[1], GET[2], GET[3]];
    assert!(matches!(of(&late), Err(Refused::Malformed(_))));
    for missing in GET {
        let rest: Vec<_> = GET.into_iter().filter(|field| *field != missing).collect();
        assert!(matches!(of(&rest), Err(Refused::Malformed(_))), "without {missing:?}");
    }
    for (at, value) in [(2, ""), (2, "u@h.test"), (3, ""), (3, "a"), (3, "/a#b"), (3, "*"), (0, "G T"), (1, "1:")] {
        let mut fields = GET;
        fields[at].1 = value;
        assert!(matches!(of(&fields), Err(Refused::Malformed(_))), "{:?}", fields[at]);
    }
}

#[test]
fn the_same_length_twice_is_refused() {
    let twice = [&GET[..], &[("content-length", "1"), ("content-length", "1")]].concat();
    assert!(matches!(of(&twice), Err(Refused::Malformed(_))));
}

#[test]
fn connect_has_an_authority_only() {
    assert!(of(&[(":method", "CONNECT"), (":authority", "h.test:443")]).is_ok());
    assert!(matches!(of(&[("x", ""), (":method", "CONNECT")]), Err(Refused::Malformed(_))));
    assert!(matches!(of(&[("x", ""); 0]), Err(Refused::Malformed(_))));
}

#[test]
fn trailers_hold_no_pseudo_header_fields() {
    assert_eq!(trailers(&section(&[("x-sum", "1")]), 100), Ok(()));
    assert!(matches!(trailers(&section(&[(":path", "/")]), 100), Err(Refused::Malformed(_))));
}

#[test]
fn answers_leave_fields_of_the_connection_out() {
    let mut answer = ResponseHeader::build(206, None).unwrap();
    answer.insert_header("transfer-encoding", "chunked").unwrap();
    answer.insert_header("x-a", "1").unwrap();
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    qpack::decode(&response(&answer), 1000, |name, value| fields.push((text(name), text(value)))).unwrap();
    assert_eq!(fields, [(":status".to_owned(), "206".to_owned()), ("x-a".to_owned(), "1".to_owned())]);
}

proptest! {
    #[test]
    fn any_section_is_a_request_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = request(&bytes, 4096);
        let _ = trailers(&bytes, 4096);
    }

    #[test]
    fn any_fields_are_a_request_or_refused(fields in prop::collection::vec((":[a-z]{0,9}|[a-zA-Z :-]{0,9}", "\\PC{0,20}"), 0..6)) {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let _ = with(fields.first().copied().unwrap_or(("a", "")));
        let _ = of(&fields);
    }
}
