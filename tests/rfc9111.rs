//! The HTTP cache, section by section: one table of cases ([`cases`]), run over HTTP/1.1 and HTTP/2 through one edge with a
//! scripted origin. Each case names the section and what it would break.

mod cases;

use crate::support::{Edge, Origin, Player, Reply, Speech, Step, eventually, pause, runtime};
use cases::{CASES, Case};
use http::Method;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

/// How many cases wait for something at the same time.
const AT_ONCE: usize = 16;

/// `{now}`, `{now-60}`: a date.
fn with_dates(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{now") {
        let (offset, after) = after.split_once('}').expect("{now…}");
        let seconds: i64 = if offset.is_empty() { 0 } else { offset.parse().expect("seconds") };
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        let time = Duration::from_secs(since.checked_add_signed(seconds).expect("a date"));
        out.push_str(before);
        out.push_str(&httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + time));
        rest = after;
    }
    out + rest
}

/// `first | Name: value | …`
fn parts(line: &str) -> (String, Vec<(String, String)>) {
    let line = with_dates(line);
    let mut parts = line.split('|').map(str::trim);
    let first = parts.next().unwrap_or_default().to_owned();
    let field = |part: &str| {
        let (name, value) = part.split_once(':').unwrap_or_else(|| panic!("a field: {part}"));
        (name.trim().to_owned(), value.trim().to_owned())
    };
    (first, parts.map(field).collect())
}

/// The n-th answer of a case; its body is its number.
fn reply(line: &str, number: usize) -> Reply {
    let (status, fields) = parts(line);
    if status == "RESET" {
        return Reply::raw(vec![Step::Reset]);
    }
    let mut reply = Reply::ok(number.to_string());
    if let Ok(status) = status.parse::<u16>()
        && status != 200
    {
        reply = Reply::status_with(status, number.to_string());
    }
    for (name, value) in fields {
        reply = reply.header(&name, &value);
    }
    reply
}

fn path(speech: Speech, index: usize) -> String {
    format!("/{}/{index}", if speech.is_http2() { "h2" } else { "h1" })
}

async fn ask(edge: &Edge, speech: Speech, path: &str, line: &str) -> Result<(u16, http::HeaderMap, String), String> {
    let (first, fields) = parts(line);
    let (method, suffix) = first.split_once(' ').unwrap_or((&first, ""));
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut player = Player::open(speech, edge.http(), None).await?;
    let method: Method = method.parse().map_err(|_| "a method".to_owned())?;
    let mut answer = player.ask(method, &format!("{path}{suffix}"), &fields).await?;
    let body = answer.rest().await?;
    Ok((answer.status.as_u16(), answer.headers.clone(), String::from_utf8_lossy(&body).into_owned()))
}

/// `status body word…`: the body is the number of the origin's answer (`-`: empty, `*`: any); a word is in Cache-Status, or with
/// `!` is not; `=name=value` is a field of the answer (no value: absent), `+name` is there; `asked:name=value` was in the last
/// request to the origin.
fn judge(expected: &str, got: &(u16, http::HeaderMap, String), origin: &Origin, path: &str) -> Result<(), String> {
    let mut words = expected.split_whitespace();
    let mut fail = Vec::new();
    let (status, body) = (words.next().expect("a status"), words.next().expect("a body"));
    if status != got.0.to_string() {
        fail.push(format!("status {}", got.0));
    }
    if body != "*" && (body != got.2 && !(body == "-" && got.2.is_empty())) {
        fail.push(format!("body {:?}", got.2));
    }
    let cache_status = got.1.get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let says = |word: &str| cache_status.split("; ").any(|part| part == word);
    for word in words {
        if let Some((name, value)) = word.strip_prefix("asked:").and_then(|word| word.split_once('=')) {
            let asked = origin.last(path).header(name).unwrap_or_default();
            if asked != value {
                fail.push(format!("asked {name}: {asked}"));
            }
        } else if let Some((name, value)) = word.strip_prefix('=').and_then(|word| word.split_once('=')) {
            let values: Vec<_> = got.1.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
            if values.join(",") != value {
                fail.push(format!("{name}: {}", values.join(",")));
            }
        } else if let Some(name) = word.strip_prefix('+') {
            if !got.1.contains_key(name) {
                fail.push(format!("no {name}"));
            }
        } else if let Some(word) = word.strip_prefix('!') {
            if says(word) {
                fail.push(cache_status.to_owned());
            }
        } else if !says(word) {
            fail.push(cache_status.to_owned());
        }
    }
    if fail.is_empty() { Ok(()) } else { Err(fail.join("; ")) }
}

/// The first thing that is not as the case says.
fn run(case: &Case, edge: &Edge, origin: &Origin, speech: Speech, path: &str) -> Result<(), String> {
    for (number, (line, expected)) in case.asks.iter().enumerate() {
        let step =
            |error: String| format!("{}\n    step {}, {line}: {expected}\n    got {error}", case.name, number + 1);
        if let Some(seconds) = line.strip_prefix("WAIT ") {
            pause(Duration::from_secs_f64(seconds.parse().expect("seconds")));
            continue;
        }
        let attempt = |line: &str| {
            let got = runtime().block_on(ask(edge, speech, path, line))?;
            judge(expected, &got, origin, path.split('?').next().unwrap_or(path))
        };
        if let Some(line) = line.strip_prefix("EVENTUALLY ") {
            eventually(case.name, || attempt(line).is_ok());
            continue;
        }
        attempt(line).map_err(step)?;
    }
    Ok(())
}

/// All cases over both protocols; every failure is told, not only the first.
#[test]
fn every_section_over_http1_and_http2() {
    let asked: Mutex<HashMap<String, usize>> = Mutex::default();
    let origin = Arc::new(Origin::start().handle("*", move |request| {
        let index: usize = request.path().rsplit('/').next().and_then(|index| index.parse().ok()).unwrap_or(usize::MAX);
        let Some(case) = CASES.get(index) else { return Reply::status(404) };
        let mut asked = asked.lock();
        let number = asked.entry(request.path().to_owned()).or_default();
        *number += 1;
        let line = case.answers.get(*number - 1).or(case.answers.last()).expect("an answer");
        reply(line, *number)
    }));
    let edge = Arc::new(
        Edge::of(&origin)
            .set("origins.main.breaker.enabled", false)
            .set("origins.main.health.passive.failures", 1000)
            .set("origins.main.retry.attempts", 0)
            .run(),
    );
    let jobs: Vec<_> = [Speech::Http1, Speech::Http2]
        .into_iter()
        .flat_map(|speech| (0..CASES.len()).map(move |index| (speech, index)))
        .collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(&(speech, index)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = run(&CASES[index], &edge, &origin, speech, &path(speech, index)) {
                        failures.lock().push(format!("{speech:?} {failure}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner();
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), jobs.len(), failures.join("\n"));
}

#[test]
fn a_site_may_ignore_what_clients_ask_of_its_cache() {
    let origin = Origin::start().route("/a", Reply::cacheable("x"));
    let edge = Edge::of(&origin).set("sites.0.cache.request_directives", "ignore").run();
    edge.get("/a").expect_miss();
    for directives in ["no-cache", "no-store", "max-age=0", "only-if-cached"] {
        edge.send(&crate::support::Request::get("/a").header("Cache-Control", directives)).expect_hit();
    }
    assert_eq!(origin.count("/a"), 1);
}

#[test]
fn a_site_s_ttl_rules_count_in_their_order() {
    let origin = Origin::start()
        .route("/film.mp4", Reply::ok("x"))
        .route("/gone", Reply::status_with(404, "x"))
        .route("/forced", Reply::ok("x").header("Cache-Control", "max-age=0"))
        .route("/private", Reply::ok("x").header("Cache-Control", "private"))
        .route("/other", Reply::ok("x"));
    let rules = serde_json::json!([
        {"match": "\\.mp4$", "ttl": "10m"},
        {"status": [404], "ttl": "1m"},
        {"match": "^/(forced|private)", "ttl": "5m", "override": true},
    ]);
    let edge = Edge::of(&origin).set("sites.0.cache.ttl", rules).run();
    for (path, ttl) in [("/film.mp4", Some("ttl=600")), ("/gone", Some("ttl=60")), ("/forced", Some("ttl=300"))] {
        let first = edge.get(path).expect_miss();
        assert!(ttl.is_none_or(|ttl| first.cache_status().contains(ttl)), "{path}: {first:?}");
        edge.get(path).expect_hit();
    }
    for path in ["/private", "/other"] {
        edge.get(path).expect_miss();
        edge.get(path).expect_miss();
    }
}

#[test]
fn a_site_s_key_rules_leave_out_what_does_not_matter() {
    let origin = Origin::start().handle("/a", |request| Reply::cacheable(request.target.clone()));
    let rules = serde_json::json!({"query": "sorted", "ignore": ["utm_*"], "host": "never"});
    let edge = Edge::of(&origin).set("sites.0.cache.key", rules).run();
    let get = |target: &str, host: &str| edge.send(&crate::support::Request::get(target).host(host));
    assert_eq!(get("/a?b=1&utm_source=x&a=2", "one.test").expect_miss().text(), "/a?b=1&utm_source=x&a=2");
    get("/a?a=2&b=1", "two.test").expect_hit();
    get("/a?a=2&b=2", "one.test").expect_miss();
}

#[test]
fn one_refresh_runs_behind_a_hundred_stale_hits() {
    let gate = crate::support::Gate::new();
    let stale = "max-age=60, stale-while-revalidate=600";
    let origin = Origin::start().route("/a", Reply::ok("old").header("Cache-Control", stale).header("Age", "60"));
    let edge = Edge::of(&origin).run();
    edge.get("/a").expect_miss();
    origin.set_route("/a", Reply::cacheable("new").gated(&gate));
    for _ in 0..100 {
        assert_eq!(edge.get("/a").expect_hit().text(), "old");
    }
    gate.open();
    eventually("the refreshed answer", || edge.get("/a").text() == "new");
    assert_eq!(origin.count("/a"), 2);
    let counted = edge.metrics().value("reelgate_requests_total", &[("cache", "stale")]);
    assert!(counted >= 100.0, "the cache's own request is no client's: {counted}");
}

#[test]
fn an_origin_that_is_down_is_stood_in_for_also_when_it_is_no_longer_asked() {
    for (longest, status) in [("1h", 200), ("0s", 502)] {
        let stale = Reply::ok("old").header("Cache-Control", "max-age=60").header("Age", "70").header("ETag", "\"a\"");
        let origin = Origin::start().route("/a", stale);
        let edge = Edge::of(&origin)
            .set("sites.0.cache.stale_if_unreachable", longest)
            .set("origins.main.health.passive", serde_json::json!({"failures": 2, "ejection": "1h"}))
            .run();
        edge.get("/a").expect_miss();
        for path in ["/a", "/other"] {
            origin.set_route(path, Reply::raw(vec![Step::Reset]));
        }
        eventually("the origin is given up", || edge.get("/other").status == 503);
        let answer = edge.get("/a");
        if status == 200 {
            let answer = answer.expect_status(200);
            assert_eq!(answer.text(), "old");
            assert_eq!(answer.header("connection"), Some("close"), "the connection ends with an answer that stands in");
        } else {
            assert!(answer.status >= 502, "{answer:?}");
        }
    }
}

#[test]
fn an_answer_keeps_the_date_of_its_making_over_http1() {
    let made = with_dates("{now-50}");
    let origin = Origin::start().route("/a", Reply::cacheable("a").header("Date", &made));
    let edge = Edge::of(&origin).run();
    assert_eq!(edge.get("/a").expect_miss().header("date"), Some(&made[..]));
    for _ in 0..2 {
        assert_eq!(edge.get("/a").expect_hit().header("date"), Some(&made[..]));
    }
    let own = edge.send(&crate::support::Request::get("/b").header("Cache-Control", "only-if-cached"));
    assert_ne!(own.expect_status(504).header("date"), Some(&made[..]), "ours is made now");
}

#[test]
fn a_refresh_goes_the_way_of_the_request_it_is_for() {
    let stale = "max-age=60, stale-while-revalidate=600";
    let origin = Origin::start().route("/out/a", Reply::ok("old").header("Cache-Control", stale).header("Age", "70"));
    let edge = Edge::of(&origin)
        .tls()
        .set("sites.0.rewrites", serde_json::json!([{"from": "^/in/", "to": "/out/"}]))
        .set("sites.0.redirect_https", true)
        .set("sites.0.rate", serde_json::json!({"requests_per_second": 1000}))
        .run();
    let get = || crate::support::Curl::https(edge.https(), "/in/a").http2().header("X-Mine: 1").send();
    get().expect_status(200).expect_miss();
    origin.set_route("/out/a", Reply::cacheable("new"));
    assert_eq!(get().expect_hit().text(), "old");
    eventually("the refreshed answer", || get().text() == "new");
    let refresh = origin.last("/out/a");
    assert_eq!(refresh.header("x-forwarded-proto").as_deref(), Some("https"), "{refresh:?}");
    assert_eq!(refresh.header("x-mine").as_deref(), Some("1"), "{refresh:?}");
    assert_eq!(origin.count("/out/a"), 2);
}

#[test]
fn what_a_post_changed_is_found_under_the_site_s_own_rules() {
    let origin = Origin::start().handle("*", |r| match r.method.as_str() {
        "GET" => Reply::cacheable(r.target.clone()),
        _ => Reply::status_with(201, "").header("Location", "/in/b?y=1&x=2&utm_a=b"),
    });
    let edge = Edge::of(&origin)
        .set("sites.0.rewrites", serde_json::json!([{"from": "^/in/", "to": "/out/"}]))
        .set("sites.0.cache.key", serde_json::json!({"query": "sorted", "ignore": ["utm_*"]}))
        .run();
    for target in ["/in/a?x=1", "/in/b?x=2&y=1", "/in/c"] {
        edge.get(target).expect_miss();
        edge.get(target).expect_hit();
    }
    edge.send(&crate::support::Request::new("POST", "/in/a?x=1&utm_z=1").body("")).expect_status(201);
    edge.get("/in/a?x=1").expect_miss();
    edge.get("/in/b?x=2&y=1").expect_miss();
    edge.get("/in/c").expect_hit();
}
