//! RFC 9111 §3 and §4.2, case by case.

use super::*;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn now() -> SystemTime {
    httpdate::parse_http_date(NOW).unwrap()
}

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

struct Case(HeaderMap, Method, u16, bool, bool, bool);

const VALIDATOR: (&str, &str) = ("etag", "\"1\"");

fn case(fields: &[(&str, &str)]) -> Case {
    Case(map(fields), Method::GET, 200, false, false, false)
}

impl Case {
    fn decide(&self) -> Result<Storable, NotStorable> {
        decide(&Exchange {
            method: &self.1,
            request_authorized: self.3,
            request_has_cookie: false,
            request_no_store: self.4,
            status: StatusCode::from_u16(self.2).unwrap(),
            headers: &self.0,
            strip_set_cookie: self.5,
            site_ttl: None,
            response_delay: Duration::ZERO,
            now: now(),
        })
    }

    fn fresh_s(&self) -> Result<u64, NotStorable> {
        self.decide().map(|storable| storable.fresh_for.as_secs())
    }
}

fn fresh_s(fields: &[(&str, &str)]) -> Result<u64, NotStorable> {
    case(fields).fresh_s()
}

#[test]
fn rfc9111_4_2_1_s_maxage_before_max_age_before_expires() {
    let expires = ("expires", "Sun, 06 Nov 1994 08:49:47 GMT");
    let decided = case(&[("cache-control", "max-age=60, s-maxage=90"), expires]).decide().unwrap();
    assert_eq!((decided.fresh_for.as_secs(), decided.source), (90, TtlSource::SMaxage));
    let decided = case(&[("cache-control", "max-age=60"), expires]).decide().unwrap();
    assert_eq!((decided.fresh_for.as_secs(), decided.source.as_str()), (60, "max-age"));
    let decided = case(&[expires, ("date", NOW)]).decide().unwrap();
    assert_eq!((decided.fresh_for.as_secs(), decided.source), (10, TtlSource::Expires));
    assert_eq!(fresh_s(&[("cache-control", "max-age=60, s-maxage=0"), expires]), Err(NotStorable::Stale));
    assert_eq!(fresh_s(&[("cache-control", "s-maxage=x, max-age=60")]), Err(NotStorable::Stale));
}

#[test]
fn rfc9111_4_2_what_is_never_of_use_is_not_stored() {
    assert_eq!(fresh_s(&[("last-modified", "soon")]), Ok(0), "it may be validated");
    assert_eq!(fresh_s(&[("x", "y")]), Err(NotStorable::NoFreshness));
    assert_eq!(fresh_s(&[("cache-control", "public")]), Err(NotStorable::NoFreshness));
    assert_eq!(fresh_s(&[("cache-control", "max-age=0")]), Err(NotStorable::Stale));
    assert_eq!(fresh_s(&[("cache-control", "no-cache")]), Err(NotStorable::NoCache));
    assert_eq!(fresh_s(&[("cache-control", "max-age=0, stale-if-error=5")]), Ok(0));
}

#[test]
fn rfc9111_4_2_2_a_tenth_of_the_time_since_it_changed() {
    let modified = ("last-modified", "Sun, 06 Nov 1994 07:49:37 GMT");
    let decided = case(&[modified]).decide().unwrap();
    assert_eq!((decided.fresh_for.as_secs(), decided.source.as_str()), (360, "heuristic"));
    assert_eq!(fresh_s(&[modified, ("cache-control", "max-age=7")]), Ok(7));
    assert_eq!(fresh_s(&[modified, ("age", "300")]), Ok(60));
    let headers = map(&[modified]);
    let decided = decide(&Exchange {
        method: &Method::GET,
        request_authorized: false,
        request_has_cookie: true,
        request_no_store: false,
        status: StatusCode::OK,
        headers: &headers,
        strip_set_cookie: false,
        site_ttl: None,
        response_delay: Duration::ZERO,
        now: now(),
    });
    assert!(decided.unwrap().fresh_for.is_zero(), "it may be personal");
    assert_eq!(fresh_s(&[modified, ("expires", "0")]), Ok(0), "an invalid Expires is stale, not absent");
}

#[test]
fn rfc9111_5_2_2_4_no_cache_is_stored_to_be_validated() {
    let decided = case(&[("cache-control", "no-cache, max-age=60"), VALIDATOR]).decide().unwrap();
    assert!(decided.validate_always && decided.no_stale && decided.fresh_for.is_zero());
    let qualified = case(&[("cache-control", "no-cache=\"Set-Cookie, X-A\", max-age=60"), ("set-cookie", "a=b")]);
    let decided = qualified.decide().unwrap();
    assert_eq!((decided.fresh_for.as_secs(), decided.withheld), (60, vec!["set-cookie".into(), "x-a".into()]));
    let framing = case(&[("cache-control", "private=\"Content-Length, Transfer-Encoding, x-a\", max-age=60")]);
    assert_eq!(
        framing.decide().unwrap().withheld,
        ["x-a"],
        "a body without its length would be read as another answer"
    );
    let decided = case(&[("cache-control", "private=X-User, max-age=60")]).decide().unwrap();
    assert_eq!((decided.validate_always, decided.withheld), (false, vec!["x-user".into()]));
}

#[test]
fn rfc9213_2_1_the_targeted_field_replaces_the_others() {
    let (targeted, expires) = (("cdn-cache-control", "max-age=60"), ("expires", "Sun, 06 Nov 1994 09:49:37 GMT"));
    assert_eq!(fresh_s(&[targeted, ("cache-control", "no-store")]), Ok(60));
    assert_eq!(
        fresh_s(&[("cdn-cache-control", "no-store"), ("cache-control", "max-age=60")]),
        Err(NotStorable::NoStore)
    );
    assert_eq!(fresh_s(&[("cdn-cache-control", "foo"), expires]), Err(NotStorable::NoFreshness));
    assert_eq!(fresh_s(&[("cdn-cache-control", "&"), ("cache-control", "max-age=5"), expires]), Ok(5));
}

#[test]
fn a_site_s_ttl_is_for_what_says_nothing_unless_it_overrides() {
    let fresh = |control: &str, status: u16, overrides: bool| {
        let headers = map(&[("cache-control", control), ("age", "10")]);
        let site_ttl = Some(SiteTtl { ttl: Duration::from_secs(600), overrides });
        let decided = decide(&Exchange {
            method: &Method::GET,
            request_authorized: false,
            request_has_cookie: false,
            request_no_store: false,
            status: StatusCode::from_u16(status).unwrap(),
            headers: &headers,
            strip_set_cookie: false,
            site_ttl,
            response_delay: Duration::ZERO,
            now: now(),
        });
        decided.map(|kept| (kept.fresh_for.as_secs(), kept.source))
    };
    assert_eq!(fresh("x", 404, false), Ok((600, TtlSource::Site)));
    assert_eq!(fresh("max-age=60", 200, false), Ok((50, TtlSource::MaxAge)));
    assert_eq!(fresh("max-age=60", 200, true), Ok((600, TtlSource::Site)));
    assert_eq!(fresh("no-store", 200, true), Err(NotStorable::NoStore));
    assert_eq!(fresh("private", 200, true), Err(NotStorable::Private));
}

#[test]
fn rfc9111_5_3_an_expires_that_is_no_date_is_in_the_past() {
    for expires in ["0", "-1", "soon", NOW, "Sat, 05 Nov 1994 08:49:37 GMT"] {
        assert_eq!(fresh_s(&[("expires", expires), ("date", NOW)]), Err(NotStorable::Stale), "{expires}");
    }
    let (one, two) = (("expires", "Sun, 06 Nov 1994 08:49:47 GMT"), ("expires", "Sun, 06 Nov 1994 08:59:47 GMT"));
    assert_eq!(fresh_s(&[one, two]), Err(NotStorable::Stale));
    assert_eq!(fresh_s(&[one, one]), Ok(10));
}

#[test]
fn rfc9111_4_2_3_upstream_age_and_date_are_subtracted() {
    let control = ("cache-control", "max-age=60");
    assert_eq!(fresh_s(&[control, ("age", "20")]), Ok(40));
    assert_eq!(fresh_s(&[control, ("age", "60")]), Err(NotStorable::Stale));
    assert_eq!(fresh_s(&[control, ("age", "20, 30")]), Ok(40));
    for ignored in ["-5", "\"20\"", "20.5", "20s", "x, 20"] {
        assert_eq!(fresh_s(&[control, ("age", ignored)]), Ok(60), "{ignored}");
    }
    assert_eq!(fresh_s(&[control, ("age", "9999999999999999999999")]), Err(NotStorable::Stale));
    assert_eq!(fresh_s(&[control, ("date", "Sun, 06 Nov 1994 08:49:07 GMT")]), Ok(30));
    assert_eq!(fresh_s(&[control, ("date", "Sun, 06 Nov 1994 08:49:07 GMT"), ("age", "40")]), Ok(20));
    // An origin whose clock is ahead does not make its answers fresher.
    assert_eq!(fresh_s(&[control, ("date", "Sun, 06 Nov 1994 09:49:37 GMT")]), Ok(60));
}

#[test]
fn rfc9111_4_2_3_the_time_on_the_wire_counts_as_age() {
    let headers = map(&[("cache-control", "max-age=60"), ("age", "10")]);
    let decided = decide(&Exchange {
        method: &Method::HEAD,
        request_authorized: false,
        request_has_cookie: false,
        request_no_store: false,
        status: StatusCode::OK,
        headers: &headers,
        strip_set_cookie: false,
        site_ttl: None,
        response_delay: Duration::from_secs(5),
        now: now(),
    });
    assert_eq!(decided.unwrap().age_at_receipt, Duration::from_secs(15));
}

#[test]
fn rfc9111_3_what_forbids_storing() {
    for (control, reason) in [
        ("no-store, max-age=60", NotStorable::NoStore),
        ("private, max-age=60", NotStorable::Private),
        ("private=\"x\", private, max-age=60", NotStorable::Private),
        ("no-cache, max-age=60", NotStorable::NoCache),
        ("no-cache=\"x, max-age=60", NotStorable::NoCache),
    ] {
        assert_eq!(fresh_s(&[("cache-control", control)]), Err(reason), "{control}");
    }
    assert_eq!(fresh_s(&[("cache-control", "no-store, must-understand, max-age=60")]), Ok(60));
}

#[test]
fn rfc9111_3_status_and_method() {
    for status in 200..600 {
        let mut case = case(&[("cache-control", "max-age=60")]);
        case.2 = status;
        let stored = ![206, 304, 412, 416].contains(&status);
        assert_eq!(case.fresh_s().is_ok(), stored, "{status}");
    }
    for (status, stored) in [(200, true), (301, true), (302, true), (206, false), (418, false), (599, false)] {
        let mut case = case(&[("cache-control", "max-age=60, must-understand, no-store")]);
        case.2 = status;
        assert_eq!(case.fresh_s().is_ok(), stored, "must-understand {status}");
    }
    for (status, stored) in [(200, true), (302, false), (404, false), (500, false), (501, false)] {
        let mut case = case(&[VALIDATOR]);
        case.2 = status;
        assert_eq!(case.fresh_s().is_ok(), stored, "without a lifetime {status}");
    }
    for (method, header, stored) in [
        (Method::PUT, ("cache-control", "max-age=60"), false),
        (Method::POST, ("cache-control", "max-age=60"), true),
        (Method::POST, VALIDATOR, false),
        (Method::POST, ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"), false),
    ] {
        let mut case = case(&[header]);
        case.1 = method;
        assert_eq!(case.fresh_s().is_ok(), stored, "{} {header:?}", case.1);
    }
}

#[test]
fn rfc9111_3_5_authorization_needs_consent() {
    for (control, stored) in [
        ("max-age=60", false),
        ("max-age=60, public", true),
        ("s-maxage=60", true),
        ("max-age=60, must-revalidate", true),
        ("max-age=60, proxy-revalidate", false),
    ] {
        let mut case = case(&[("cache-control", control)]);
        case.3 = true;
        assert_eq!(case.fresh_s().is_ok(), stored, "{control}");
    }
}

#[test]
fn rfc9111_5_2_1_5_a_request_may_forbid_storing() {
    let mut case = case(&[("cache-control", "max-age=60")]);
    case.4 = true;
    assert_eq!(case.fresh_s(), Err(NotStorable::RequestNoStore));
}

#[test]
fn set_cookie_is_stored_only_where_it_is_stripped() {
    let mut case = case(&[("cache-control", "public, max-age=60"), ("set-cookie", "a=b")]);
    assert_eq!(case.fresh_s(), Err(NotStorable::SetCookie));
    case.5 = true;
    assert_eq!(case.fresh_s(), Ok(60));
}

#[test]
fn rfc5861_stale_windows_and_what_forbids_them() {
    let windows = |control: &str| {
        let control = format!("{control}, stale-while-revalidate=10, stale-if-error=20");
        let decided = case(&[("cache-control", &control)]).decide().unwrap();
        (
            decided.no_stale,
            decided.stale_while_revalidate.as_secs(),
            decided.stale_if_error.unwrap_or_default().as_secs(),
        )
    };
    assert_eq!(windows("max-age=60"), (false, 10, 20));
    assert_eq!(windows("s-maxage=60"), (false, 10, 20));
    assert_eq!(windows("max-age=60, must-revalidate"), (true, 0, 0));
    assert_eq!(windows("max-age=60, proxy-revalidate"), (true, 0, 0));
    assert!(case(&[("cache-control", "s-maxage=60")]).decide().unwrap().no_stale);
}

proptest! {
    #[test]
    fn no_header_panics_and_what_is_stored_is_fresh(
        fields in proptest::collection::vec((0usize..5, "[ -~]{0,30}|max-age=[0-9]{1,24}|s-maxage=[0-9]{1,3}"), 0..5),
        status in 100u16..1000, delay: u64, seconds in 0u64..1 << 40,
    ) {
        let names = ["cache-control", "age", "date", "expires", "vary"];
        let fields: Vec<_> = fields.iter().map(|(name, value)| (names[*name], value.as_str())).collect();
        let headers = map(&fields);
        let decided = decide(&Exchange {
            method: &Method::GET,
            request_authorized: false,
            request_has_cookie: false,
            request_no_store: false,
            status: StatusCode::from_u16(status).unwrap(),
            headers: &headers,
            strip_set_cookie: false,
            site_ttl: None,
            response_delay: Duration::from_millis(delay),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        });
        if let Ok(storable) = decided {
            prop_assert!(storable.fresh_for.is_zero() || storable.stale_for.is_zero());
            prop_assert!(!storable.no_stale || storable.stale_while_revalidate.is_zero());
            prop_assert!(!storable.vary.iter().any(|name| name == "*"));
        }
    }
}
