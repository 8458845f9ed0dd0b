//! A site's header rules, rewrites and redirects.

use super::*;
use http::StatusCode;
use proptest::prelude::*;
use regex::Regex;

fn name(name: &str) -> HeaderName {
    name.parse().unwrap()
}

fn rewrite(from: &str, to: &str) -> Result<Rewrite, RuleError> {
    Rewrite::new(Regex::new(from).unwrap(), to.to_owned())
}

fn redirect(from: &str, to: &str) -> Result<Redirect, RuleError> {
    Redirect::new(Regex::new(from).unwrap(), to.to_owned(), StatusCode::MOVED_PERMANENTLY)
}

#[test]
fn removed_then_set_then_added() {
    let mut headers = HeaderMap::new();
    headers.append("x-a", HeaderValue::from_static("old"));
    headers.append("x-b", HeaderValue::from_static("old"));
    headers.append("x-b", HeaderValue::from_static("older"));
    let value = HeaderValue::from_static("new");
    let rules =
        HeaderRules::new(vec![name("x-a")], vec![(name("x-b"), value.clone())], vec![(name("x-a"), value.clone())])
            .unwrap();
    rules.apply(&mut headers);
    assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["new"]);
    assert_eq!(headers.get_all("x-b").iter().collect::<Vec<_>>(), ["new"]);
}

#[test]
fn framing_connection_and_loop_fields_are_refused_everywhere() {
    for refused in ["Host", "Content-Length", "transfer-encoding", "Connection", "te", "upgrade", "cdn-loop"] {
        let value = HeaderValue::from_static("x");
        assert!(HeaderRules::new(vec![name(refused)], vec![], vec![]).is_err(), "{refused}");
        assert!(HeaderRules::new(vec![], vec![(name(refused), value.clone())], vec![]).is_err(), "{refused}");
        let error = HeaderRules::new(vec![], vec![], vec![(name(refused), value)]).unwrap_err();
        assert!(error.to_string().contains(&refused.to_lowercase()), "{error}");
    }
}

#[test]
fn the_first_rewrite_that_matches_wins_and_the_query_stays() {
    let rules = [rewrite("^/old/(.*)$", "/new/$1").unwrap(), rewrite("^/", "/all/").unwrap()];
    assert_eq!(rewrite_first(&rules, "/old/a?b=/old/").unwrap().unwrap(), "/new/a?b=/old/");
    assert_eq!(rewrite_first(&rules, "/x").unwrap().unwrap(), "/all/x");
    assert_eq!(rewrite_first(&rules[..1], "/x").unwrap(), None);
}

#[test]
fn a_rewrite_cannot_climb_or_leave_the_path() {
    assert_eq!(rewrite("^/a", "/films").unwrap().apply("/a/../../etc").unwrap().unwrap(), "/etc");
    assert_eq!(rewrite("^/", "").unwrap().apply("/x"), Err(RuleError::Result));
    assert_eq!(rewrite("^/", "/a?b").unwrap_err(), RuleError::Query);
    assert_eq!(rewrite("^/", "/a\r\nb").unwrap_err(), RuleError::Character);
}

#[test]
fn groups_that_do_not_exist_are_found_when_the_rule_is_built() {
    assert_eq!(rewrite("^/(a)", "/$1x").unwrap_err(), RuleError::Group("1x".into()));
    assert_eq!(rewrite("^/(a)", "/$2").unwrap_err(), RuleError::Group("2".into()));
    assert!(rewrite("^/(?<name>a)", "/${1}x/$name/$0/$$").is_ok());
}

#[test]
fn a_redirect_keeps_the_query_unless_it_has_one() {
    let rule = redirect("^/old/(.*)$", "/new/$1").unwrap();
    assert_eq!(rule.apply("/old/a", Some("q=1")).unwrap(), "/new/a?q=1");
    assert_eq!(rule.apply("/other", None), None);
    let rule = redirect("^/old/(.*)$", "https://tv.example.org:8443/?t=$1#top").unwrap();
    assert_eq!(rule.apply("/old/a", Some("q=1")).unwrap(), "https://tv.example.org:8443/?t=a#top");
    let rule = redirect("^/$", "https://tv.example.org").unwrap();
    assert_eq!(rule.apply("/", Some("q")).unwrap(), "https://tv.example.org/?q");
    let rule = redirect("^/$", "/web/#home").unwrap();
    assert_eq!(rule.apply("/", Some("q")).unwrap(), "/web/?q#home");
}

#[test]
fn no_request_can_choose_the_host_it_is_redirected_to() {
    for to in
        ["$1", "//$1", "https://$1/", "https://a.org$1", "https://u@a.org/", "//a.org/", "javascript:x", "https:///"]
    {
        assert_eq!(redirect("^/(.*)$", to).unwrap_err(), RuleError::Target, "{to}");
    }
    let rule = redirect("^/go/(.*)$", "/$1").unwrap();
    assert_eq!(rule.apply("/go//evil.org", None).unwrap(), "/evil.org");
    assert_eq!(rule.apply("/go/\\evil.org", None).unwrap(), "/%5Cevil.org");
    assert_eq!(rule.apply("/go/..//evil.org", None).unwrap(), "/evil.org");
    assert_eq!(rule.apply("/go/\r\nset-cookie: a", None).as_deref(), None, "`.` matches no line end");
}

#[test]
fn only_redirect_statuses_redirect() {
    let rule = Redirect::new(Regex::new("^/$").unwrap(), "/a".into(), StatusCode::OK);
    assert_eq!(rule.unwrap_err(), RuleError::Status(StatusCode::OK));
}

#[test]
fn to_https_on_the_same_host() {
    assert_eq!(https_location("TV.org:80", 443, "/a?b").unwrap(), "https://tv.org/a?b");
    assert_eq!(https_location("[::1]", 8443, "/").unwrap(), "https://[::1]:8443/");
    assert_eq!(https_location("tv.org/@evil.org", 443, "/"), None);
}

proptest! {
    #[test]
    fn locations_stay_on_this_host_and_in_one_line(path in "(?s)(/|\\\\|.|\\.\\.|\n){0,20}", query in proptest::option::of("(?s).{0,10}")) {
        for to in ["/$1", "/a$1", "/x?y=$1", "/#$1"] {
            let rule = redirect("(?s)^/?(.*)$", to).unwrap();
            let location = rule.apply(&path, query.as_deref()).unwrap();
            prop_assert!(location.starts_with('/') && !location.starts_with("//"), "{}", location);
            prop_assert!(location.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'), "{}", location);
        }
        let rule = redirect("(?s)^/?(.*)$", "https://a.org/$1").unwrap();
        prop_assert!(rule.apply(&path, query.as_deref()).unwrap().starts_with("https://a.org/"));
    }

    #[test]
    fn rewritten_paths_are_paths(path in "/(\\PC|/|\\.\\.){0,20}") {
        if let Ok(Some(path)) = rewrite("^/(.*)a", "/b/$1").unwrap().apply(&path) {
            prop_assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
