//! Secrets planted everywhere; none may come out.

use super::{MASK, redact_header, redact_target};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use proptest::prelude::*;
use std::borrow::Cow;

fn decoded_fully(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..12 {
        text = percent_decode_str(&text).decode_utf8_lossy().into_owned();
    }
    text
}

fn encoded(text: &str, times: usize) -> String {
    (0..times).fold(text.to_owned(), |text, _| utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string())
}

#[test]
fn tokens_of_media_servers_are_masked_in_place() {
    for (target, expected) in [
        ("/Videos/1/main.m3u8?ApiKey=s3cret&x=1", "/Videos/1/main.m3u8?ApiKey=***&x=1"),
        ("/a?x=1&api_key=s3cret", "/a?x=1&api_key=***"),
        ("/a?x%2dPLEX%2dtoken=s3cret&y=2", "/a?x%2dPLEX%2dtoken=***&y=2"),
        ("/a?sig=abc%2Fdef==&se=1", "/a?sig=***&se=1"),
        ("/a;jsessionid=s3cret", "/a;jsessionid=***"),
        ("/a?PHPSESSID=s3cret&session=s3cret", "/a?PHPSESSID=***&session=***"),
        ("/a?md5=s3cret&expires=1", "/a?md5=***&expires=1"),
        ("/a?wmsAuthSign=s3cret", "/a?wmsAuthSign=***"),
        ("http://user:pw@host/a", "http://***@host/a"),
        ("bad header Authorization: Bearer s3cret", "bad header Authorization:***"),
        ("/a?data={\"token\":\"s3cret\"}", "/a?data={\"token\":***"),
    ] {
        assert_eq!(redact_target(target), expected);
    }
}

#[test]
fn a_url_inside_a_query_value_stays_readable_without_its_token() {
    let target =
        "/photo/:/transcode?url=%2Flibrary%2Fmetadata%2F1%2Fthumb%2F2%3FX-Plex-Token%3Ds3cret%26w%3D3&width=200";
    assert_eq!(
        redact_target(target),
        "/photo/:/transcode?url=/library/metadata/1/thumb/2?X-Plex-Token=***%26w=3&width=200"
    );
}

#[test]
fn what_is_encoded_too_deeply_is_masked_whole() {
    let target = format!("/a?url={}&b=1", encoded("x y", 7));
    let redacted = redact_target(&target);
    assert!(!decoded_fully(&redacted).contains("x y"), "{redacted}");
    assert!(redacted.ends_with("&b=1"), "{redacted}");
}

#[test]
fn cmcd_loses_only_the_next_object() {
    let query = "/s.ts?CMCD=bl%3D2000%2Cnor%3D%22main2.ts%253FApiKey%253Ds3cret%22%2Crtp%3D2000";
    assert_eq!(redact_target(query), "/s.ts?CMCD=bl=2000,nor=***,rtp=2000");
    let list = r#"bl=(2000),nor=("a.ts?ApiKey=s3cret" "b(1).ts%3Ftoken%3Ds3cret"),sid="x""#;
    assert_eq!(redact_header("CMCD-Request", list), r#"bl=(2000),nor=***,sid="x""#);
    assert_eq!(redact_header("cmcd-request", "nor=\"unclosed?ApiKey=s3cret"), "nor=***");
    assert_eq!(redact_header("cmcd-session", "cid=\"http://h/?ApiKey=s3cret\",st=v"), "cid=\"http://h/?ApiKey=***");
}

#[test]
fn headers_keep_what_is_no_secret() {
    for (name, value, expected) in [
        ("Authorization", "MediaBrowser Token=\"s3cret\", Client=\"x\"", "MediaBrowser ***"),
        ("authorization", "s3cret s3cret", MASK),
        ("Proxy-Authorization", "Basic czNjcmV0", "Basic ***"),
        ("X-Emby-Authorization", "Emby Token=s3cret", "Emby ***"),
        ("X-Emby-Token", "s3cret", MASK),
        ("x-mediabrowser-token", "s3cret", MASK),
        ("X-PLEX-TOKEN", "s3cret", MASK),
        ("Cookie", "a=s3cret", MASK),
        ("Set-Cookie", "a=s3cret; HttpOnly", MASK),
        ("Referer", "https://h/web/?api_key=s3cret#!/home", "https://h/web/?api_key=***"),
        ("Range", "bytes=0-99", "bytes=0-99"),
        ("User-Agent", "Jellyfin/10.11 (x=1; y)", "Jellyfin/10.11 (x=1; y)"),
    ] {
        assert_eq!(redact_header(name, value), expected, "{name}");
    }
}

#[test]
fn ordinary_targets_are_borrowed_unchanged() {
    for target in [
        "/",
        "*",
        "/web/index.html",
        "/Videos/1/hls1/main/0.ts?DeviceId=d&PlaySessionId=p&h264-level=41&runtimeTicks=0",
        "/a%20b/c?d=%C3%A9%26&e=%2Fpath%3Fx%3D1",
        "/users//me@example.org/x",
        "connect to [::1]:9000: refused",
        "/a?mail=me@example.org&ratingKey=7&author=x",
        "/a?x=100%&y=%zz",
        "/%ff%fe?x=%ff",
        "/photo/:/transcode?url=http%3A%2F%2F127.0.0.1%3A32400%2Fx%3Fa%3D1",
    ] {
        assert!(matches!(redact_target(target), Cow::Borrowed(same) if same == target), "{target}");
    }
}

#[test]
fn redacting_twice_changes_nothing_more() {
    let once = redact_target("http://u:p@h/?a=1&api_key=s&url=%2Fx%3Ftoken%3Ds&CMCD=nor%3D%22x%22").into_owned();
    assert_eq!(redact_target(&once), once);
}

/// A name that must be hidden, in random case and partly percent-encoded.
fn secret_name() -> impl Strategy<Value = String> {
    let names = [
        "api_key",
        "ApiKey",
        "X-Plex-Token",
        "X-Emby-Token",
        "X-MediaBrowser-Token",
        "X-Emby-Authorization",
        "Authorization",
        "token",
        "access_token",
        "auth",
        "signature",
        "sig",
        "password",
        "key",
    ];
    (prop::sample::select(names.to_vec()), prop::collection::vec((any::<bool>(), 0..6u8), 24)).prop_map(
        |(name, how)| {
            name.chars()
                .zip(how)
                .map(|(c, (upper, encode))| {
                    let c = if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
                    if encode == 0 { format!("%{:02x}", c as u32) } else { c.to_string() }
                })
                .collect()
        },
    )
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{10,24}"
}

/// A URL with a credential somewhere a media client or server really puts one.
fn url_with(secret: &str, name: &str, place: u8, filler: &str) -> String {
    match place {
        0 => format!("/a/{filler}?{name}={secret}"),
        1 => format!("/a?{filler}=1&{name}={secret}&{filler}=2"),
        2 => format!("https://user:{secret}@host.example/{filler}"),
        3 => format!("/s.ts?CMCD=bl=1,nor=\"{filler}.ts?{name}={secret}\",sid=\"x\""),
        4 => format!("/s.ts?cmcd=nor=(\"a.ts\" \"{filler}?x=1&{name}={secret}\"),rtp=(100)"),
        5 => format!("/a?x={{\"{filler}\":1,\"api_key\":\"{secret}\"}}"),
        6 => format!("/a#{name}={secret}"),
        _ => format!("/{filler};{name}={secret}?x=1"),
    }
}

proptest! {
    #[test]
    fn a_planted_token_never_comes_out(
        secret in token(),
        name in secret_name(),
        place in 0..8u8,
        filler in "[a-z]{1,6}",
        layers in prop::collection::vec(0..3usize, 0..4),
    ) {
        prop_assume!(!name.to_ascii_lowercase().contains(&secret.to_ascii_lowercase()) && !filler.contains(&secret));
        let mut target = url_with(&secret, &name, place, &filler);
        for times in layers {
            target = format!("/photo/:/transcode?{filler}=1&url={}&height=2", encoded(&target, times));
        }
        for (what, out) in [
            ("target", redact_target(&target)),
            ("referer", redact_header("Referer", &target)),
            ("user-agent", redact_header("User-Agent", &target)),
        ] {
            prop_assert!(!decoded_fully(&out).contains(&secret), "{what}: {target} -> {out}");
        }
        let header = format!("bl=1,nor=\"{}\"", encoded(&target, 1));
        prop_assert!(!decoded_fully(&redact_header("CMCD-Request", &header)).contains(&secret));
    }

    #[test]
    fn a_secret_header_never_comes_out(secret in token(), name in secret_name()) {
        let name = decoded_fully(&name);
        for value in [secret.clone(), format!("Bearer {secret}"), format!("MediaBrowser Token=\"{secret}\"")] {
            prop_assert!(!redact_header(&name, &value).contains(&secret));
        }
    }

    #[test]
    fn targets_without_secrets_are_unchanged(
        path in "(/[a-zA-Z0-9 ._~-]{0,8}){1,4}",
        query in prop::collection::vec(("(DeviceId|MediaSourceId|maxWidth|q|runtimeTicks|b)", "[a-zA-Z0-9/:, ._~-]{0,12}"), 0..5),
        times in 0..3usize,
    ) {
        let query: Vec<String> = query.iter().map(|(n, v)| format!("{n}={}", encoded(v, times))).collect();
        let target = format!("{}?{}", encoded(&path, 1), query.join("&"));
        prop_assert_eq!(redact_target(&target), target.clone());
    }

    #[test]
    fn no_input_panics_and_the_work_is_bounded(text in "\\PC{0,200}", more in "[%0-9a-fA-F&=/@\":()noNO]{0,400}") {
        redact_target(&text);
        redact_target(&more);
        redact_header("CMCD-Object", &more);
    }
}
