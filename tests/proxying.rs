//! What the edge does to a request and an answer on their way: forwarding headers, rules of a site, tunnels, streams, limits
//! of who may ask.

use crate::support::{Connection, Curl, Edge, Gate, Origin, Reply, Request, Step, eventually, pattern};
use serde_json::json;
use std::time::Duration;

fn origin() -> Origin {
    Origin::start().handle("*", |r| Reply::ok(format!("{} {}", r.method, r.target)))
}

#[test]
fn the_origin_learns_who_asked() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    edge.send(&Request::get("/a").host("films.test:8080")).expect_status(200);
    let received = origin.last("/a");
    assert_eq!(received.header("host").as_deref(), Some("films.test:8080"));
    assert_eq!(received.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    assert_eq!(received.header("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(received.header("x-forwarded-host").as_deref(), Some("films.test:8080"));
    let forwarded = received.header("forwarded").unwrap_or_default().to_lowercase();
    for part in ["for=127.0.0.1", "proto=http", "host=\"films.test:8080\""] {
        assert!(forwarded.contains(part), "{part}: {forwarded}");
    }
    assert!(received.header("via").is_some_and(|v| v.starts_with("1.1 ")), "{}", received.head);
    assert!(received.header("cdn-loop").is_some_and(|v| v.contains("reelgate")), "{}", received.head);
}

#[test]
fn a_request_of_http_1_0_without_a_host_reaches_the_origin_with_one() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    let mut client = Connection::open(edge.http());
    client.send("GET /old HTTP/1.0\r\n\r\n");
    assert!(client.response("GET").is_some_and(|answer| answer.status == 200));
    assert_eq!(origin.last("/old").header("host").as_deref(), origin.url().strip_prefix("http://"));
}

#[test]
fn the_host_of_an_http2_request_reaches_the_origin() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().run();
    for curl in [Curl::http(edge.http(), "/a"), Curl::https(edge.https(), "/a")] {
        curl.http2().header("Host: films.test").send().expect_status(200);
        let received = origin.last("/a");
        assert_eq!(received.header("host").as_deref(), Some("films.test"), "{}", received.head);
        assert_eq!(received.header("x-forwarded-host").as_deref(), Some("films.test"));
    }
}

#[test]
fn an_answer_says_via() {
    let origin = origin();
    let via = Edge::of(&origin).run().get("/a").header("via").map(str::to_owned);
    assert!(via.as_deref().is_some_and(|v| v.starts_with("1.1 ")), "{via:?}");
}

#[test]
fn a_host_of_the_configuration_replaces_the_clients() {
    let origin = origin();
    let edge = Edge::of(&origin).set("origins.main.host", "internal.test").run();
    edge.send(&Request::get("/a").host("films.test")).expect_status(200);
    let received = origin.last("/a");
    assert_eq!(received.header("host").as_deref(), Some("internal.test"));
    assert_eq!(received.header("x-forwarded-host").as_deref(), Some("films.test"));
}

#[test]
fn an_untrusted_client_cannot_say_who_it_is() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    let request = Request::get("/a")
        .header("X-Forwarded-For", "203.0.113.9")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "evil.test")
        .header("Forwarded", "for=203.0.113.9;host=evil.test");
    edge.send(&request);
    let head = origin.last("/a").head;
    assert!(!head.contains("203.0.113.9") && !head.contains("evil.test") && !head.contains("https"), "{head}");
}

#[test]
fn a_trusted_proxy_is_believed_and_extended() {
    let origin = origin();
    let edge = Edge::of(&origin).set("trusted_proxies", json!(["127.0.0.0/8"])).run();
    let request = Request::get("/a").header("X-Forwarded-For", "203.0.113.9").header("X-Forwarded-Proto", "https");
    edge.send(&request);
    let received = origin.last("/a");
    assert_eq!(received.header("x-forwarded-for").as_deref(), Some("203.0.113.9, 127.0.0.1"));
    assert_eq!(received.header("x-forwarded-proto").as_deref(), Some("https"));
}

#[test]
fn a_client_behind_a_trusted_proxy_is_judged_by_its_own_address() {
    let origin = origin();
    let edge = Edge::of(&origin)
        .set("trusted_proxies", json!(["127.0.0.0/8"]))
        .set("sites.0.deny", json!(["203.0.113.0/24"]))
        .run();
    let from = |address: &str| edge.send(&Request::get("/a").header("X-Forwarded-For", address)).status;
    assert_eq!((from("203.0.113.9"), from("198.51.100.7")), (403, 200));
    // The rightmost untrusted hop counts; what stands left of it anyone could have written.
    assert_eq!((from("198.51.100.7, 203.0.113.9"), from("203.0.113.9, 198.51.100.7")), (403, 200));
}

#[test]
fn a_loop_is_found_by_cdn_loop() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    edge.get("/a");
    let ours = origin.last("/a").header("cdn-loop").expect("CDN-Loop is sent");
    edge.send(&Request::get("/b").header("CDN-Loop", &ours)).expect_status(508);
    edge.send(&Request::get("/c").header("CDN-Loop", "another; x=\"y\"")).expect_status(200);
    assert!(origin.last("/c").header("cdn-loop").is_some_and(|v| v.contains("another")));
    assert_eq!(origin.count("/b"), 0);
}

#[test]
fn a_websocket_passes_both_ways() {
    let origin = Origin::start().route("/socket", Reply::upgrade_echo());
    let edge = Edge::of(&origin).run();
    let mut connection = Connection::open(edge.http());
    let request = Request::get("/socket?token=x")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    connection.send(request.to_bytes());
    let answer = connection.head().expect("an answer");
    assert_eq!(answer.status, 101, "{answer:?}");
    assert_eq!(answer.header("upgrade").map(str::to_lowercase).as_deref(), Some("websocket"));
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    for i in 0..20u8 {
        let frame = vec![i; 500 * usize::from(i) + 1];
        connection.send(&frame);
        assert_eq!(connection.read(frame.len()), frame, "message {i}");
    }
    let received = origin.last("/socket");
    assert_eq!(received.header("sec-websocket-key").as_deref(), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    // A tunnel is one too when what flows in it looks like a request.
    let inside = b"GET /admin HTTP/1.1\r\nHost: localhost\r\n\r\n";
    connection.send(inside);
    assert_eq!(connection.read(inside.len()), inside);
    assert_eq!(origin.count("/admin"), 0);
}

#[test]
fn server_sent_events_come_as_they_are_sent() {
    let gate = Gate::new();
    let steps =
        vec![Step::Send(b"data: one\n\n".to_vec()), Step::Wait(gate.clone()), Step::Send(b"data: two\n\n".to_vec())];
    let origin = Origin::start()
        .route("/events", Reply::status(200).header("Content-Type", "text/event-stream").chunked().steps(steps));
    // Silence between events is longer than the read timeout of ordinary answers.
    let edge = Edge::of(&origin).set("origins.main.timeouts.read", "500ms").run();
    let mut connection = Connection::open(edge.http());
    connection.send(Request::get("/events").header("Accept", "text/event-stream").to_bytes());
    assert_eq!(connection.head().map(|h| h.status), Some(200));
    let mut seen = String::new();
    while !seen.contains("data: one\n\n") {
        let more = connection.read(1);
        assert!(!more.is_empty(), "the first event did not come before the second was sent: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&more));
    }
    crate::support::pause(Duration::from_millis(1200));
    gate.open();
    let rest = String::from_utf8_lossy(&connection.read(16)).into_owned();
    assert!(rest.contains("data: two"), "{rest:?}");
}

#[test]
fn a_large_body_streams_to_the_origin() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().run();
    let file = edge.folder().join("upload");
    std::fs::write(&file, pattern(50_000_000)).expect("the upload is written");
    let upload = format!("@{}", file.display());
    for (version, url) in
        [("1", Curl::http(edge.http(), "/up").http1()), ("2", Curl::https(edge.https(), "/up").http2())]
    {
        let answer = url.arg("-X").arg("POST").arg("--data-binary").arg(&upload).send();
        assert_eq!(answer.status, 200, "HTTP/{version}");
        let received = origin.last("/up");
        assert_eq!((received.body_bytes, received.complete), (50_000_000, true), "HTTP/{version}");
    }
    let chunked =
        Curl::http(edge.http(), "/chunked").header("Transfer-Encoding: chunked").arg("--data-binary").arg(&upload);
    assert_eq!(chunked.send().status, 200);
    assert_eq!(origin.last("/chunked").body_bytes, 50_000_000);
}

#[test]
fn a_body_reaches_the_origin_before_it_ends() {
    let origin = Origin::start();
    let edge = Edge::of(&origin).run();
    let mut connection = Connection::open(edge.http());
    connection.send("POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf:");
    eventually("the origin is connected while the body is still coming", || origin.connections() >= 1);
    connection.send("there");
    assert_eq!(connection.response("POST").map(|r| r.status), Some(404));
    assert_eq!(origin.last("/a").body, b"half:there");
}

#[test]
fn expect_100_continue_is_answered() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    let mut connection = Connection::open(edge.http());
    connection.send("PUT /a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let interim = connection.head().expect("an interim answer");
    assert_eq!(interim.status, 100, "{interim:?}");
    connection.send("hello");
    assert_eq!(connection.response("PUT").map(|r| r.status), Some(200));
}

#[test]
fn a_preflight_is_answered_by_the_site() {
    let origin = Origin::start().route("/a", Reply::cacheable("x"));
    let edge = Edge::of(&origin).set("sites.0.cors", json!({"origins": ["https://player.test"]})).run();
    let preflight = |from: &str| {
        let request = Request::new("OPTIONS", "/a")
            .header("Origin", from)
            .header("Access-Control-Request-Method", "GET")
            .header("Access-Control-Request-Headers", "range");
        edge.send(&request)
    };
    let allowed = preflight("https://player.test");
    assert!(matches!(allowed.status, 200 | 204), "{allowed:?}");
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://player.test"));
    assert!(allowed.header("access-control-allow-headers").is_some_and(|h| h.to_lowercase().contains("range")));
    assert_eq!(preflight("https://evil.test").header("access-control-allow-origin"), None);
    assert_eq!(origin.count("/a"), 0, "a preflight is the edge's own");
    // On a hit as on a miss, for each caller its own.
    for hit in [false, true] {
        let answer = edge.send(&Request::get("/a").header("Origin", "https://player.test")).expect_status(200);
        assert_eq!(answer.is_hit(), hit);
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://player.test"));
        assert!(answer.header("vary").is_some_and(|v| v.to_lowercase().contains("origin")), "{answer:?}");
    }
    let other = edge.send(&Request::get("/a").header("Origin", "https://evil.test"));
    assert_eq!(other.header("access-control-allow-origin"), None);
}

#[test]
fn header_rules_hold_both_ways() {
    let origin =
        Origin::start().route("/a", Reply::cacheable("x").header("Server", "secret/1.0").header("X-Keep", "1"));
    let edge = Edge::of(&origin)
        .set(
            "sites.0.headers",
            json!({
                "request": {"remove": ["X-Debug"], "set": {"X-Api-Key": "k"}, "add": {"X-Tag": ["a", "b"]}},
                "response": {"remove": ["Server"], "set": {"X-Frame-Options": "DENY"}, "add": {"X-Keep": "2"}},
            }),
        )
        .run();
    for hit in [false, true] {
        let answer = edge.send(&Request::get("/a").header("X-Debug", "1").header("X-Api-Key", "forged"));
        assert_eq!(answer.is_hit(), hit);
        assert_eq!((answer.fields("server"), answer.header("x-frame-options")), (0, Some("DENY")));
        assert_eq!(answer.fields("x-keep"), 2, "{answer:?}");
    }
    let received = origin.last("/a");
    assert_eq!(received.header("x-debug"), None);
    assert_eq!(received.header("x-api-key").as_deref(), Some("k"));
    assert_eq!(received.header("x-tag").as_deref(), Some("a, b"));
}

#[test]
fn a_rewrite_changes_the_path_and_keeps_the_query() {
    let origin = origin();
    let edge = Edge::of(&origin).set("sites.0.rewrites", json!([{"from": "^/old/(.*)$", "to": "/new/$1"}])).run();
    assert_eq!(edge.get("/old/x/y?q=1").text(), "GET /new/x/y?q=1");
    assert_eq!(edge.get("/other").text(), "GET /other");
}

#[test]
fn redirects_answer_before_the_origin() {
    let origin = origin();
    let edge = Edge::of(&origin)
        .set("sites.0.redirects", json!([{"from": "^/moved/(.*)$", "to": "/here/$1", "status": 301}]))
        .run();
    let answer = edge.get("/moved/film").expect_status(301);
    assert!(answer.header("location").is_some_and(|l| l.ends_with("/here/film")), "{answer:?}");
    assert_eq!(origin.count("*"), 0);
}

#[test]
fn clear_is_redirected_to_https() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().set("sites.0.redirect_https", true).run();
    let answer = edge.send(&Request::get("/a?b=c").host("films.test"));
    assert!(matches!(answer.status, 301 | 307 | 308), "{answer:?}");
    let wanted = format!("https://films.test:{}/a?b=c", edge.https().port());
    assert_eq!(answer.header("location"), Some(wanted.as_str()));
    assert_eq!(Curl::https(edge.https(), "/a").send().status, 200);
    assert_eq!(origin.count("*"), 1);
}

#[test]
fn allow_and_deny_decide_who_may_ask() {
    let origin = origin();
    let status = |key: &str, networks: serde_json::Value| Edge::of(&origin).set(key, networks).run().get("/a").status;
    assert_eq!(status("sites.0.deny", json!(["127.0.0.1"])), 403);
    assert_eq!(status("sites.0.allow", json!(["192.0.2.0/24"])), 403);
    assert_eq!(status("sites.0.allow", json!(["127.0.0.0/8", "::1"])), 200);
}

#[test]
fn too_many_requests_are_429() {
    let origin = origin();
    let edge = Edge::of(&origin).set("sites.0.rate", json!({"requests_per_second": 0.01, "burst": 4})).run();
    let statuses: Vec<u16> = (0..8).map(|_| edge.get("/a").status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429], "one, and the burst");
    assert!(edge.get("/a").header("retry-after").is_some());
    assert_eq!(origin.count("/a"), 5);
}

#[test]
fn sites_are_chosen_by_host_then_path() {
    let name = |name: &'static str| Origin::start().handle("*", move |_| Reply::ok(name));
    let (exact, wildcard, path) = (name("exact"), name("wildcard"), name("path"));
    let edge = Edge::of(&exact)
        .origin("wildcard", &wildcard.url())
        .origin("path", &path.url())
        .set(
            "sites",
            json!([
                {"origin": "main", "hosts": ["a.films.test"]},
                {"origin": "wildcard", "hosts": ["*.films.test"]},
                {"origin": "path", "hosts": ["a.films.test"], "paths": ["/video/"]},
            ]),
        )
        .run();
    let ask = |host: &str, path: &str| edge.send(&Request::get(path).host(host));
    assert_eq!(ask("a.films.test", "/x").text(), "exact");
    assert_eq!(ask("A.FILMS.test:8080", "/x").text(), "exact");
    assert_eq!(ask("a.films.test", "/video/x").text(), "path");
    assert_eq!(ask("b.films.test", "/video/x").text(), "wildcard");
    assert_eq!(ask("b.c.films.test", "/x").text(), "wildcard");
    assert_eq!(ask("films.test", "/x").status, 421);
    assert_eq!(ask("other.test", "/x").status, 421);
}

#[test]
fn unix_sockets_work_on_both_sides() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (behind, before) = (folder.path().join("origin.sock"), folder.path().join("edge.sock"));
    let origin = Origin::start_unix(&behind).route("/a", Reply::cacheable("hello"));
    let edge = Edge::of(&origin).listen(json!({"address": format!("unix:{}", before.display())})).run();
    assert_eq!(Request::get("/a").send_unix(&before).expect_miss().text(), "hello");
    assert_eq!(edge.get("/a").expect_hit().text(), "hello");
}

#[test]
fn ipv6_works_on_both_sides() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("left out: this machine has no IPv6");
        return;
    }
    let origin = Origin::start_ipv6().handle("/a", |r| Reply::ok(r.header("x-forwarded-for").unwrap_or_default()));
    let edge = Edge::of(&origin).listen(json!({"address": "[::1]:PORT"})).run();
    assert_eq!(Request::get("/a").send(edge.listener(1)).text(), "::1");
    assert!(origin.last("/a").header("forwarded").is_some_and(|f| f.contains("\"[::1]\"")), "{:?}", origin.last("/a"));
    assert_eq!(edge.get("/a").text(), "127.0.0.1");
}

#[test]
fn connections_to_the_origin_are_used_again() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    for _ in 0..10 {
        edge.get("/a").expect_status(200);
    }
    // One goes back to the pool after its answer was sent, so the next request may be quicker.
    assert!(origin.connections() <= 5, "{} connections for 10 requests", origin.connections());
}

#[test]
fn weights_share_requests_between_servers() {
    let (one, two) = (origin(), origin());
    let edge = Edge::of(&one)
        .set("origins.main.servers", json!([{"url": one.url(), "weight": 3}, {"url": two.url(), "weight": 1}]))
        .run();
    for i in 0..40 {
        edge.get(&format!("/{i}")).expect_status(200);
    }
    assert_eq!(one.count("*") + two.count("*"), 40);
    assert!((25..=35).contains(&one.count("*")), "{} of 40 on the server of weight 3", one.count("*"));
}

#[test]
fn a_hash_sends_a_key_to_the_same_server() {
    let (one, two) = (origin(), origin());
    let edge = Edge::of(&one)
        .set("origins.main.servers", json!([one.url(), two.url()]))
        .set("origins.main.balance", "hash")
        .run();
    for i in 0..20 {
        for _ in 0..3 {
            edge.get(&format!("/{i}")).expect_status(200);
        }
    }
    for i in 0..20 {
        let path = format!("/{i}");
        assert!(matches!((one.count(&path), two.count(&path)), (3, 0) | (0, 3)), "{path} went to both");
    }
    assert!(one.count("*") > 0 && two.count("*") > 0, "all keys on one server");
}

#[test]
fn a_traceparent_is_passed_on() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    edge.send(&Request::get("/a").header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01")));
    assert!(origin.last("/a").header("traceparent").is_some_and(|t| t.contains(trace)));
    eventually("the trace is in the access log", || edge.stdout().contains(trace));
}
