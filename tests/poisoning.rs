//! Cache poisoning: what is no part of the key must not change the answer that is kept under it.

use crate::support::{Connection, Curl, Edge, Origin, Reply, Request, Response, eventually};
use serde_json::json;

/// An origin that obeys everything a client may say, and lets it be kept.
fn obedient() -> Origin {
    Origin::start().handle("*", |r| Reply::cacheable(format!("{}\n{}", r.head, String::from_utf8_lossy(&r.body))))
}

#[test]
fn unkeyed_fields_do_not_reach_the_origin() {
    let origin = obedient();
    let edge = Edge::of(&origin).run();
    let fields = [
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Scheme",
        "X-Forwarded-Server",
        "X-Forwarded-Ssl",
        "X_Forwarded_Prefix",
        "X-Host",
        "X-Original-Host",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-Method-Override",
        "Forwarded",
        "True-Client-IP",
        "X-Client-IP",
    ];
    let poison = fields.iter().fold(Request::get("/a"), |request, name| request.header(name, "host=poison"));
    edge.send(&poison).expect_miss();
    let kept = edge.get("/a").expect_hit().text();
    assert!(!kept.contains("poison"), "{kept}");
}

#[test]
fn a_trusted_proxy_may_say_more_but_no_other_method() {
    let origin = obedient();
    let edge = Edge::of(&origin).set("trusted_proxies", json!(["127.0.0.0/8"])).run();
    edge.send(&Request::get("/a").header("X-Forwarded-Prefix", "/app").header("X-HTTP-Method-Override", "DELETE"));
    assert_eq!(origin.last("/a").header("x-forwarded-prefix").as_deref(), Some("/app"));
    assert_eq!(origin.last("/a").header("x-http-method-override"), None);
    edge.send(&Request::new("POST", "/b").header("X-HTTP-Method-Override", "PUT").body("x"));
    assert_eq!(origin.last("/b").header("x-http-method-override").as_deref(), Some("PUT"));
}

#[test]
fn a_get_with_a_body_is_neither_kept_nor_answered_from_the_cache() {
    let origin = obedient();
    let edge = Edge::of(&origin).run();
    let fat = |path| edge.send(&Request::get(path).body("page=poison"));
    assert!(fat("/a").expect_miss().cache_status().contains("request-body"));
    assert!(!edge.get("/a").expect_miss().text().contains("poison"));
    edge.get("/a").expect_hit();
    assert!(fat("/a").expect_miss().text().contains("poison"));
    let chunked = "GET /b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n6\r\npoison\r\n0\r\n\r\n";
    Connection::open(edge.http()).send(chunked).response("GET").expect("an answer").expect_miss();
    assert!(!edge.get("/b").expect_miss().text().contains("poison"));
}

#[test]
fn a_body_behind_a_hit_is_no_second_request() {
    let smuggled = "GET /admin HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let origin = obedient();
    let edge = Edge::of(&origin)
        .set("sites.0.redirects", json!([{"from": "^/old$", "to": "/new", "status": 301}]))
        .set("limits.header_count", 64)
        .run();
    edge.get("/hit");
    let many: String = (0..70).map(|n| format!("X-{n}: y\r\n")).collect();
    let length = smuggled.len();
    for method in ["GET", "HEAD", "POST", "DELETE"] {
        for (path, field) in [
            ("/hit", String::new()),
            ("/hit", "If-None-Match: *\r\n".into()),
            ("/hit", "Expect: 100-continue\r\n".into()),
            ("/hit", "Range: bytes=0-1\r\n".into()),
            ("/old", String::new()),
            ("/%00", String::new()),
            ("/many", many.clone()),
            ("/expect", "Expect: 200-nonsense\r\n".into()),
        ] {
            let head =
                format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{field}Content-Length: {length}\r\n\r\n");
            // With the head, and after the answer to it.
            let mut together = Connection::open(edge.http());
            together.send(format!("{head}{smuggled}{smuggled}")).finish_sending().read_to_end();
            let mut apart = Connection::open(edge.http());
            apart.send(&head);
            if field.is_empty() && path != "/hit" {
                apart.response(method);
            }
            apart.send(smuggled).finish_sending().read_to_end();
        }
    }
    edge.get("/end");
    assert!(origin.garbage().is_empty(), "{:?}", origin.garbage());
    // After a body that was forwarded whole, what follows is a request of the same client: only those may arrive.
    for admin in origin.received().iter().filter(|r| r.path() == "/admin") {
        assert_eq!(admin.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
        assert!(admin.header("cdn-loop").is_some(), "it came through no edge: {}", admin.head);
    }
    let refused = ["/old", "/many", "/expect"].map(|path| origin.count(path));
    assert_eq!(refused, [0, 0, 0]);
}

#[test]
fn an_absolute_target_reaches_the_origin_as_a_path() {
    let origin = obedient();
    let edge = Edge::of(&origin).run();
    for target in ["http://localhost/a/../abs", "HTTP://localhost/abs", "https://localhost/abs"] {
        let mut connection = Connection::open(edge.http());
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        connection.response("GET").expect("an answer");
    }
    for received in origin.received() {
        assert_eq!(received.target, "/abs", "an origin that is a proxy too would go there");
    }
    let mut connection = Connection::open(edge.http());
    let answer = connection.send("GET http://internal.test/x HTTP/1.0\r\n\r\n").response("GET").expect("an answer");
    assert_eq!(answer.status, 400);
    assert_eq!(origin.count("/x"), 0, "a host that nobody routed by");
}

#[test]
fn hidden_dot_segments_are_refused() {
    let origin = obedient();
    let edge = Edge::of(&origin).run();
    for path in [
        "/p/..%2fadmin",
        "/p/%2e%2e%2Fadmin",
        "/p/..;/admin",
        "/p/..;x=1/admin",
        "/p/..%5Cadmin",
        "/p\\..\\admin",
        "/p/.%2e%3b/x",
    ] {
        assert_eq!(edge.get(path).status, 400, "{path}");
    }
    for path in ["/p/a%2Fb", "/p/a;v=1", "/p/...;x", "/p/..a%2Fb", "/p/%25", "/p/a..b;c"] {
        assert_eq!(edge.get(path).status, 200, "{path}");
    }
    edge.expect_metric("reelgate_requests_total", &[("status", "400"), ("site", "none")], 7.0);
}

#[test]
fn double_slashes_do_not_lead_around_a_site() {
    let origin = obedient();
    let site = |paths: &str, deny: &str| json!({"origin": "main", "paths": [paths], "deny": [deny]});
    let edge =
        Edge::of(&origin).set("sites.0", site("/", "192.0.2.0/24")).set("sites.1", site("/admin", "127.0.0.0/8")).run();
    for path in ["/admin", "//admin", "///admin/x", "/./admin", "/x/..//admin", "/%61dmin"] {
        assert_eq!(edge.get(path).status, 403, "{path}");
    }
    assert!(edge.get("//x").text().starts_with("GET //x "), "only the routing merges them");
}

#[test]
fn a_redirect_to_another_scheme_of_the_same_url_is_not_kept() {
    let redirect = |to: &str| Reply::status(301).header("Location", to).header("Cache-Control", "public, max-age=60");
    let origin = Origin::start()
        .route("/secure", redirect("https://localhost/secure"))
        .handle("/folder", move |r| redirect(&format!("http://{}/folder/", r.header("host").unwrap_or_default())));
    let edge = Edge::of(&origin).run();
    for _ in 0..2 {
        edge.get("/secure").expect_status(301).expect_miss();
        edge.send(&Request::get("/folder").host("localhost:1337")).expect_miss();
    }
    edge.get("/folder").expect_miss();
    edge.get("/folder").expect_hit();
}

#[test]
fn variants_and_credentials_do_not_mix() {
    let origin = Origin::start()
        .handle("/vary", |r| {
            let user = r.header("authorization").or(r.header("cookie")).unwrap_or_default();
            Reply::cacheable(user).header("Vary", "Authorization, Cookie")
        })
        .handle("/private", |r| {
            Reply::ok(r.header("authorization").unwrap_or_default()).header("Cache-Control", "max-age=60")
        })
        .handle("/changing", |r| {
            let vary = if r.header("cookie").is_some() { "Cookie" } else { "Accept-Language" };
            Reply::cacheable(r.header("cookie").unwrap_or_default()).header("Vary", vary)
        });
    let edge = Edge::of(&origin).run();
    let ask = |path: &str, name: &str, value: &str| edge.send(&Request::get(path).header(name, value)).text();
    for _ in 0..2 {
        for user in ["alice", "bob", ""] {
            assert_eq!(ask("/vary", "Authorization", user), user);
            assert_eq!(ask("/vary", "Cookie", user), user);
            assert_eq!(ask("/private", "Authorization", user), user);
        }
        for user in ["alice", "bob"] {
            assert_eq!(ask("/changing", "Cookie", user), user, "Vary changed");
        }
    }
}

#[test]
fn a_head_or_a_condition_never_fills_with_less_than_the_whole_answer() {
    let origin = Origin::start().handle("*", |r| {
        let conditional =
            ["if-none-match", "if-range", "if-modified-since", "range"].iter().any(|n| r.header(n).is_some());
        Reply::cacheable(if conditional { "partial" } else { "whole" }).header("ETag", "\"v\"")
    });
    let edge = Edge::of(&origin).run();
    edge.send(&Request::new("HEAD", "/head")).expect_miss();
    assert_eq!(edge.get("/head").text(), "whole");
    for (path, name, value) in [
        ("/1", "If-None-Match", "\"x\""),
        ("/2", "If-Modified-Since", "Sat, 01 Jan 2022 00:00:00 GMT"),
        ("/3", "If-Range", "\"x\""),
    ] {
        edge.send(&Request::get(path).header(name, value));
        assert_eq!(edge.get(path).text(), "whole", "{name}");
    }
    edge.send(&Request::get("/4").header("Range", "bytes=0-1").header("If-Range", "\"x\""));
    assert_eq!(edge.get("/4").text(), "whole");
}

#[test]
fn cookies_split_over_fields_reach_the_origin_as_one() {
    let origin = obedient();
    let edge = Edge::of(&origin).run();
    edge.send(&Request::get("/a").header("Cookie", "a=1").header("Cookie", "b=2"));
    assert_eq!(origin.last("/a").head.to_lowercase().matches("cookie: a=1; b=2\r\n").count(), 1);
    assert_eq!(origin.last("/a").head.to_lowercase().matches("cookie").count(), 1);
}

/// A trusted proxy beside us does not make trusted what our own requests (on behalf of others) carry.
#[test]
fn what_is_fetched_for_a_client_is_fetched_for_the_host_it_asked_for() {
    let (ours, other) = (Origin::start(), Origin::start());
    let film = |letter: &str| Reply::cacheable(letter.repeat(100)).header("ETag", "\"1\"");
    let brief =
        |letter: &str| Reply::ok(letter.repeat(100)).header("Cache-Control", "max-age=0, stale-while-revalidate=600");
    for (origin, letter) in [(&ours, "o"), (&other, "x")] {
        origin.set_route("/page", Reply::cacheable(letter.repeat(100)));
        origin.set_route("/film.mp4", film(letter));
        origin.set_route("/brief", brief(letter));
    }
    let edge = Edge::of(&ours)
        .origin("other", &other.url())
        .set("trusted_proxies", json!(["127.0.0.1"]))
        .set("sites", json!([{"origin": "main", "hosts": ["127.0.0.1"]}, {"origin": "other", "hosts": ["other"]}]))
        .run();
    let stranger =
        |path| Curl::http(edge.http(), path).arg("--interface").arg("127.0.0.2").header("X-Forwarded-Host: other");
    let is_ours = |answer: Response| assert_eq!(answer.text(), "o".repeat(100));
    is_ours(stranger("/page").http2().send());
    is_ours(stranger("/film.mp4").send());
    is_ours(stranger("/brief").http1().send());
    is_ours(stranger("/brief").http1().send());
    eventually("the refresh is asked for", || ours.count("/brief") >= 2);
    assert_eq!(other.count("*"), 0);
}
