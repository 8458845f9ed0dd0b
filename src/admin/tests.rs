//! The listener on real sockets, in front of a small [`Source`].

mod changes;
mod jobs;

use super::*;
use crate::config::Secret;
use crate::observe::Phase;
use crate::transcode::Report;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Fake {
    metrics: Metrics,
    lifecycle: Lifecycle,
    readiness: Readiness,
}

#[async_trait::async_trait]
impl Source for Fake {
    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    fn disks(&self) -> Vec<crate::observe::status::Disk> {
        Vec::new()
    }

    async fn jobs(&self) -> Option<Report> {
        Some(jobs::report())
    }

    fn config_yaml(&self) -> String {
        "cache:\n  memory: 512MiB\n".to_owned()
    }

    async fn explain(&self, url: &str) -> Result<Value, String> {
        if url.starts_with("http") {
            Ok(serde_json::json!({ "url": url, "ttl_s": 60 }))
        } else {
            Err(format!("{url} is not an absolute URL"))
        }
    }

    fn optimise(&self, title: &str) -> Result<Optimisation, Refused> {
        changes::begun(title)
    }

    fn optimisations(&self) -> Vec<Optimisation> {
        changes::begun("film-1").into_iter().collect()
    }

    async fn purge(&self, purge: Purge) -> Result<Purged, PurgeFailure> {
        match purge.selector {
            PurgeSelector::Url(url) if !url.starts_with("http") => {
                Err(PurgeFailure::Invalid("not an absolute URL".to_owned()))
            }
            PurgeSelector::Tag(tag) if tag == "busy" => Err(PurgeFailure::Refused("try again".to_owned())),
            PurgeSelector::Tag(tag) if tag == "full" => Err(PurgeFailure::NotDurable("it is in force".to_owned())),
            selector => Ok(Purged { id: format!("{selector:?}"), at: std::time::SystemTime::UNIX_EPOCH }),
        }
    }
}

const PURGE: &str = "Content-Type: application/json\r\n";

struct Running {
    address: SocketAddr,
    source: Arc<Fake>,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<()>,
}

async fn running(token: Option<&str>, readiness: Readiness) -> Running {
    let source = Arc::new(Fake { readiness, ..Fake::default() });
    source.lifecycle.enter(Phase::Serving);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (shutdown, receiver) = watch::channel(false);
    let task = tokio::spawn(serve(listener, Arc::clone(&source) as Arc<dyn Source>, token.map(Secret::new), receiver));
    Running { address, source, shutdown, task }
}

async fn open() -> Running {
    running(None, Readiness::default()).await
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

impl Running {
    /// Sends these lines and reads to the end.
    async fn raw(&self, lines: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        stream.write_all(lines.as_bytes()).await.expect("sends");
        let mut text = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("in time").expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).expect("a status line").parse().expect("a number");
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    async fn get(&self, path: &str, headers: &str) -> Answer {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")).await
    }

    async fn purge(&self, headers: &str, body: &str) -> Answer {
        let length = body.len();
        self.raw(&format!(
            "POST /api/v1/purge HTTP/1.1\r\nHost: localhost:9090\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
        .await
    }

    /// Subscribes and reads the first snapshot.
    async fn subscribe(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sends");
        read_until(&mut stream, "event: stats\ndata: {").await;
        stream
    }
}

async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 16384];
    while !text.contains(wanted) {
        let n = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("in time").expect("reads");
        assert!(n > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    text
}

fn check(health: Health) -> Readiness {
    Readiness {
        checks: vec![Check { name: "origin:media".into(), health, detail: "http://u:s3cret@10.0.0.7 refused".into() }],
    }
}

#[tokio::test]
async fn every_route_answers_with_its_type_and_the_security_headers() {
    let admin = open().await;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/livez", "text/plain; charset=utf-8"),
        ("/readyz", "application/json"),
        ("/api/v1/stats", "application/json"),
        ("/api/v1/config", "application/yaml"),
        ("/api/v1/explain?url=http%3A%2F%2Fh%2Fa", "application/json"),
        ("/api/v1/jobs", "application/json"),
        ("/api/v1/openapi.json", "application/json"),
    ] {
        let answer = admin.get(path, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.head.contains(&format!("content-type: {kind}")), "{path}: {}", answer.head);
        for header in
            ["content-security-policy: default-src 'none'", "x-content-type-options: nosniff", "x-frame-options: deny"]
        {
            assert!(answer.head.contains(header), "{path} lacks {header}: {}", answer.head);
        }
        assert!(!answer.head.contains("access-control-"), "{path}: {}", answer.head);
    }
    let metrics = admin.get("/metrics", "").await.body;
    assert!(metrics.contains("reelgate_ready 1"), "{metrics}");
    assert_eq!(admin.get("/api/v1/stats", "").await.json()["phase"], "serving");
}

#[tokio::test]
async fn what_is_not_here_is_a_problem() {
    let admin = open().await;
    for path in ["/api/v1/warm", "/api/v1/sessions", "/nothing"] {
        let answer = admin.get(path, "").await;
        assert_eq!((answer.status, answer.json()["status"].as_u64()), (404, Some(404)), "{path}");
        assert!(answer.head.contains("application/problem+json"), "{}", answer.head);
    }
    let answer = admin.raw("DELETE /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer.status, 405);
    assert!(
        answer.head.contains("allow: get,head") && answer.head.contains("application/problem+json"),
        "{}",
        answer.head
    );
}

#[tokio::test]
async fn the_token_guards_everything_but_the_probes_and_the_empty_page() {
    let admin = running(Some("correct horse"), check(Health::Degraded)).await;
    for path in [
        "/metrics",
        "/api/v1/stats",
        "/api/v1/config",
        "/api/v1/events",
        "/api/v1/openapi.json",
        "/nothing",
        "/livez/x",
    ] {
        for header in [
            "",
            "Authorization: Bearer wrong\r\n",
            "Authorization: Basic correct horse\r\n",
            "Authorization: correct horse\r\n",
        ] {
            let answer = admin.get(path, header).await;
            assert_eq!(answer.status, 401, "{path} {header}");
            assert!(
                answer.head.contains("www-authenticate: bearer") && answer.head.contains("problem+json"),
                "{}",
                answer.head
            );
        }
    }
    assert_eq!(admin.get("/metrics", "Authorization: bearer correct horse\r\n").await.status, 200);
    for path in ["/", "/livez", "/readyz"] {
        assert_eq!(admin.get(path, "").await.status, 200, "{path}");
    }
    assert!(!admin.get("/readyz", "").await.body.contains("10.0.0.7"), "details are for those with the token");
    let seen = admin.get("/readyz", "Authorization: Bearer correct horse\r\n").await.body;
    assert!(seen.contains("10.0.0.7") && !seen.contains("s3cret"), "{seen}");
}

#[tokio::test]
async fn a_website_cannot_reach_the_open_listener_by_a_name_of_its_own() {
    let admin = open().await;
    for host in ["evil.example", "evil.example:9090", "127.0.0.1.evil.example"] {
        let answer = admin.raw(&format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(answer.status, 403, "{host}");
        assert!(answer.body.contains("rebinding"), "{}", answer.body);
    }
    let absolute = "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(admin.raw(absolute).await.status, 403);
    let two = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(admin.raw(two).await.status, 400);
    assert_eq!(admin.get("/api/v1/events", "Sec-Fetch-Site: cross-site\r\n").await.status, 403);
    assert_eq!(admin.get("/", "Sec-Fetch-Site: cross-site\r\n").await.status, 200);
    let named = running(Some("t"), Readiness::default()).await;
    let answer = named.raw("GET /livez HTTP/1.1\r\nHost: edge.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn readiness_follows_the_phase_and_survives_degradation() {
    let admin = running(None, check(Health::Degraded)).await;
    let answer = admin.get("/readyz", "").await;
    assert_eq!((answer.status, answer.json()["ready"].as_bool()), (200, Some(true)));
    assert_eq!(answer.json()["checks"]["origin:media"]["status"], "degraded");
    admin.source.lifecycle.enter(Phase::Draining);
    let answer = admin.get("/readyz", "").await;
    assert_eq!((answer.status, answer.json()["ready"].as_bool()), (503, Some(false)));
    assert_eq!(admin.source.metrics.ready.get(), 0);
    assert_eq!(admin.get("/livez", "").await.status, 200);
    assert_eq!(running(None, check(Health::Failed)).await.get("/readyz", "").await.status, 503);
}

#[tokio::test]
async fn explanations_and_their_errors_hold_no_token() {
    let admin = open().await;
    let answer = admin.get("/api/v1/explain?url=http%3A%2F%2Fh%2Fa%3FApiKey%3Ds3cret", "").await;
    assert_eq!(answer.json()["url"], "http://h/a?ApiKey=***");
    for query in ["", "?url=%2Fa%3FApiKey%3Ds3cret", "?uri=x"] {
        let answer = admin.get(&format!("/api/v1/explain{query}"), "").await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(!answer.body.contains("s3cret"), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_purge_takes_exactly_one_selector() {
    let admin = open().await;
    for (body, id, soft) in [
        (r#"{"url": "http://h/a"}"#, "Url(\"http://h/a\")", false),
        (r#"{"prefix": "http://h/", "soft": true}"#, "Prefix(\"http://h/\")", true),
        (r#"{"soft": false, "tag": "film 1", "url": null, "all": false}"#, "Tag(\"film 1\")", false),
        (r#"{"all": true}"#, "All", false),
    ] {
        let answer = admin.purge(PURGE, body).await;
        let expected = serde_json::json!({ "id": id, "at": "1970-01-01T00:00:00.000Z", "soft": soft });
        assert_eq!((answer.status, answer.json()), (200, expected), "{body}");
    }
    for body in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"soft": true}"#,
        r#"{"all": false}"#,
        r#"{"url": "http://h/a", "all": true}"#,
        r#"{"url": "http://h/a", "tag": "x"}"#,
        r#"{"url": "http://h/a", "url": "http://h/b"}"#,
        r#"{"urls": ["http://h/a"]}"#,
        r#"{"tag": "x", "soft": "yes"}"#,
        r#"{"tag": 1}"#,
        r#"{"url": "/a?ApiKey=s3cret"}"#,
    ] {
        let answer = admin.purge(PURGE, body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(answer.head.contains("problem+json") && !answer.body.contains("s3cret"), "{}", answer.body);
    }
    assert_eq!(admin.get("/api/v1/purge", "").await.status, 405);
}

#[tokio::test]
async fn no_other_websites_page_can_purge() {
    let admin = open().await;
    let all = r#"{"all": true}"#;
    for (headers, status) in [
        ("", 415),
        ("Content-Type: text/plain\r\n", 415),
        ("Content-Type: application/x-www-form-urlencoded\r\n", 415),
        ("Content-Type: application/json\r\nOrigin: https://evil.example\r\n", 403),
        ("Content-Type: application/json\r\nOrigin: null\r\n", 403),
        ("Content-Type: application/json\r\nSec-Fetch-Site: same-site\r\n", 403),
        ("Content-Type: application/json\r\nSec-Fetch-Site: cross-site\r\n", 403),
        ("Content-Type: Application/JSON; charset=utf-8\r\n", 200),
        ("Content-Type: application/json\r\nOrigin: http://localhost:9090\r\nSec-Fetch-Site: same-origin\r\n", 200),
    ] {
        assert_eq!(admin.purge(headers, all).await.status, status, "{headers}");
    }
    let named = running(Some("t"), Readiness::default()).await;
    assert_eq!(named.purge(PURGE, all).await.status, 401);
    assert_eq!(named.purge(&format!("{PURGE}Authorization: Bearer t\r\n"), all).await.status, 200);
}

#[tokio::test]
async fn the_body_of_a_purge_is_bounded_however_it_is_framed() {
    let admin = open().await;
    let body = format!(r#"{{"tag": "{}"}}"#, "a".repeat(70_000));
    assert_eq!(admin.purge(PURGE, &body).await.status, 413);
    let chunked = format!(
        "POST /api/v1/purge HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{PURGE}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    assert_eq!(admin.raw(&chunked).await.status, 413);
}

#[tokio::test]
async fn events_go_on_every_second_and_end_at_shutdown() {
    let admin = open().await;
    let mut stream = admin.subscribe().await;
    admin.source.metrics.requests.with_label_values(&["s", "HTTP/2", "segment", "hit", "200"]).inc();
    let text = read_until(&mut stream, "\"hit\":1").await;
    assert!(text.contains("event: stats"), "{text}");
    admin.shutdown.send_replace(true);
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the stream ends").expect("cleanly");
    assert!(rest.ends_with(b"0\r\n\r\n"), "the last chunk");
    tokio::time::timeout(PATIENCE, admin.task).await.expect("the listener ends").expect("without a panic");
}

#[tokio::test]
async fn subscribers_are_bounded_and_give_their_place_back() {
    let admin = open().await;
    let mut subscribers = Vec::new();
    for _ in 0..events::SUBSCRIBERS_MAX {
        subscribers.push(admin.subscribe().await);
    }
    assert_eq!(admin.get("/api/v1/events", "").await.status, 503);
    assert_eq!(admin.source.metrics.limits_reached.with_label_values(&["admin_events"]).get(), 1);
    drop(subscribers);
    // Noticed when the next snapshot cannot be written.
    tokio::time::timeout(PATIENCE, async {
        loop {
            let mut stream = TcpStream::connect(admin.address).await.expect("connects");
            stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sends");
            if read_until(&mut stream, "\r\n").await.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    })
    .await
    .expect("places are given back");
}

#[tokio::test]
async fn connections_and_bodies_are_bounded() {
    let admin = open().await;
    let too_large = "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70000\r\nConnection: close\r\n\r\n";
    assert_eq!(admin.raw(too_large).await.status, 413);
    let mut held = Vec::new();
    let refused = admin.source.metrics.limits_reached.with_label_values(&["admin_connections"]);
    while refused.get() == 0 {
        assert!(held.len() <= server::CONNECTIONS_MAX + 8, "never refused");
        held.push(TcpStream::connect(admin.address).await.expect("connects"));
        tokio::task::yield_now().await;
    }
}

#[test]
fn the_description_names_every_route_and_no_other() {
    let description: Value = serde_json::from_str(include_str!("openapi.json")).expect("JSON");
    let described: BTreeSet<_> = description["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    let routed: BTreeSet<_> = routes::table().iter().map(|(path, _)| *path).collect();
    assert_eq!(described, routed);
    let stats =
        serde_json::to_value(crate::observe::Stats::snapshot(&Metrics::new(), &Lifecycle::default(), Vec::new()))
            .expect("JSON");
    let fields: BTreeSet<_> = stats.as_object().expect("an object").keys().cloned().collect();
    let schema = &description["components"]["schemas"]["Stats"]["properties"];
    assert_eq!(schema.as_object().expect("properties").keys().cloned().collect::<BTreeSet<_>>(), fields);
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    for forbidden in ["src=\"http", "href=\"http", "@import", "url(", "innerHTML", " style=\"", " onclick="] {
        assert!(!page::HTML.contains(forbidden), "{forbidden}");
    }
    assert!(page::policy().to_str().expect("ASCII").contains("script-src 'sha256-"));
}
