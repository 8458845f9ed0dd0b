//! Spellings of one URL, and of two.

use super::*;
use proptest::prelude::*;

fn normal(path: &str) -> String {
    normalise_path_and_query(path).unwrap().into_owned()
}

#[test]
fn rfc3986_6_2_2_1_escapes_are_upper_case() {
    assert_eq!(normal("/a%c3%a9?b%2f"), "/a%C3%A9?b%2F");
}

#[test]
fn rfc3986_6_2_2_2_only_unreserved_characters_are_decoded() {
    assert_eq!(normal("/%61%7E%2d%5f"), "/a~-_");
    assert_eq!(normal("/a%2Fb%3Fc%23d%26"), "/a%2Fb%3Fc%23d%26");
    assert_eq!(normal("/?q=%41%26b"), "/?q=A%26b");
}

#[test]
fn rfc3986_6_2_2_3_dot_segments_are_removed_even_escaped() {
    for (path, expected) in [
        ("/a/b/c/./../../g", "/a/g"),
        ("/a/%2e%2E/b", "/b"),
        ("/../../x", "/x"),
        ("/a/..", "/"),
        ("/a/b/.", "/a/b/"),
        ("/a/...", "/a/..."),
        ("/a//b/", "/a//b/"),
        ("/a//../b", "/a/b"),
        ("", "/"),
        ("x", "/x"),
        ("/a?../b", "/a?../b"),
    ] {
        assert_eq!(normal(path), expected, "{path}");
    }
}

#[test]
fn what_no_url_may_hold_is_encoded() {
    assert_eq!(normal("/a b\"\\é"), "/a%20b%22%5C%C3%A9");
    assert_eq!(normal("/%"), "/%25");
    assert_eq!(normal("/%zz"), "/%25zz");
}

#[test]
fn a_lone_percent_never_makes_a_new_escape() {
    assert_eq!(normal("/%%4110"), "/%25A10");
    assert_eq!(normal("/%252e%252e"), "/%252e%252e");
}

#[test]
fn an_empty_query_is_not_no_query() {
    assert_ne!(normal("/a?"), normal("/a"));
    assert_eq!(normalise_url("http://h/a?").unwrap().query.as_deref(), Some(""));
}

#[test]
fn the_key_knows_neither_scheme_nor_port() {
    let key = |url: &str| {
        let url = normalise_url(url).unwrap();
        content_key("films", Some(&url.host), &url.path_and_query()).unwrap()
    };
    assert_eq!(key("HTTPS://Films.Example.org.:8443/a?b#c"), "films films.example.org /a?b");
    assert_eq!(key("http://films.example.org/%61?b"), key("https://films.example.org:443/a?b"));
    assert_eq!(content_key("films", None, "/a").unwrap(), "films  /a");
}

#[test]
fn urls_that_are_none_are_refused() {
    for (url, error) in [
        ("/a", KeyError::Scheme),
        ("ftp://h/a", KeyError::Scheme),
        ("http://", KeyError::Host(HostError)),
        ("http://user:pw@h/", KeyError::Host(HostError)),
        ("http://h:http/", KeyError::Host(HostError)),
        ("http://h:99999/", KeyError::Host(HostError)),
        ("http://[::1/", KeyError::Host(HostError)),
        ("http://a..b/", KeyError::Host(HostError)),
    ] {
        assert_eq!(normalise_url(url), Err(error), "{url}");
    }
    assert_eq!(normalise_url("http://h").unwrap().path, "/");
    assert_eq!(normalise_url("http://h?x").unwrap().path_and_query(), "/?x");
}

#[test]
fn keys_are_bounded_even_when_encoding_makes_them_longer() {
    assert_eq!(content_key("s", None, &"/a".repeat(KEY_BYTES_MAX)), Err(KeyError::TooLong));
    assert_eq!(content_key("s", None, &" ".repeat(KEY_BYTES_MAX / 2)), Err(KeyError::TooLong));
    assert!(content_key("s", None, &"/a".repeat(4000)).is_ok());
}

#[test]
fn ipv6_literals_have_one_spelling() {
    assert_eq!(normalise_host("[0:0:0:0:0:0:0:1]:80").unwrap(), "[::1]");
    assert!(normalise_host("[fe80::1%25eth0]").is_err());
    assert!(normalise_host("::1").is_err());
}

proptest! {
    #[test]
    fn normalising_twice_changes_nothing(path in "(\\PC|[/.%?2eE41]){0,40}") {
        let once = normal(&path);
        prop_assert_eq!(&normal(&once), &once);
        prop_assert!(once.starts_with('/'));
        prop_assert!(once.bytes().all(|byte| byte.is_ascii_graphic()));
        let path_only = once.split('?').next().unwrap();
        prop_assert!(path_only.split('/').all(|segment| segment != "." && segment != ".."));
    }

    #[test]
    fn what_is_taken_for_normal_is(path in "/([a.]|[/?.~%]){0,12}") {
        prop_assert_eq!(normal(&path), normalise_each(&path));
    }

    #[test]
    fn urls_never_panic_and_are_idempotent(url in "(http|https|HTTP)://(\\PC|[/:?#@.a\\[\\]]){0,30}") {
        if let Ok(url) = normalise_url(&url) {
            let again = normalise_url(&format!("http://{}{}", url.host, url.path_and_query())).unwrap();
            prop_assert_eq!(again, url);
        }
    }

    #[test]
    fn different_parts_make_different_keys(
        a in ("[a/ ]{1,4}", proptest::option::of("[ab]{1,2}"), "[/ab ]{0,4}"),
        b in ("[a/ ]{1,4}", proptest::option::of("[ab]{1,2}"), "[/ab ]{0,4}"),
    ) {
        let key = |(site, host, path): &(String, Option<String>, String)| content_key(site, host.as_deref(), path).unwrap();
        let parts = |(site, host, path): &(String, Option<String>, String)| (site.clone(), host.clone(), normal(path));
        prop_assert_eq!(key(&a) == key(&b), parts(&a) == parts(&b));
    }
}
