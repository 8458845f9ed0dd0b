//! The side of the origin over the real binary: HTTP/2 and TLS towards it, failing over, resting and coming back, and bodies that
//! are long, slow or silent.

use crate::support::{
    Connection, Curl, Edge, EdgeBuilder, Gate, Nginx, Origin, Reply, Request, Step, certificate, eventually, free_port,
    pattern, pause,
};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An authority of our own and a certificate by it for `name`, as files.
struct Authority {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

fn authority(folder: &Path, name: &str) -> Authority {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names are valid");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).expect("an authority");
    let issuer = rcgen::Issuer::new(params, key);
    let leaf_key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let leaf = params.signed_by(&leaf_key, &issuer).expect("a certificate");
    let write = |file: &str, text: String| {
        let path = folder.join(file);
        std::fs::write(&path, text).expect("a file is written");
        path
    };
    Authority {
        ca: write("ca.pem", ca.pem()),
        certificate: write("leaf.pem", leaf.pem()),
        key: write("leaf.key", leaf_key.serialize_pem()),
    }
}

/// nginx over TLS on the second port, with `extra` after its address; it tells what it was asked with.
fn nginx(authority: &Authority, extra: &str) -> (Nginx, u16) {
    let port = free_port();
    let server = format!(
        "listen 127.0.0.1:{port} {extra}; ssl_certificate {}; ssl_certificate_key {};
         location / {{ add_header X-Protocol $server_protocol; add_header X-Sni \"$ssl_server_name\";
                       add_header X-Host $http_host; }}",
        authority.certificate.display(),
        authority.key.display()
    );
    (Nginx::with(&server).file("a.txt", "hello").file("large.mp4", pattern(3_000_000)), port)
}

fn trusting(edge: EdgeBuilder, authority: &Authority, name: &str) -> EdgeBuilder {
    edge.set("origins.main.tls", json!({"ca": authority.ca.to_str().expect("UTF-8"), "server_name": name}))
}

#[test]
fn http2_to_the_origin_over_tls() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = authority(folder.path(), "media.test");
    let (both, port) = nginx(&authority, "ssl http2");
    let (only_http1, port_http1) = nginx(&authority, "ssl");
    for (port, protocol, spoken) in [
        (port, "auto", "HTTP/2.0"),
        (port, "http2", "HTTP/2.0"),
        (port, "http1", "HTTP/1.1"),
        (port_http1, "auto", "HTTP/1.1"),
    ] {
        let edge = Edge::of_url(&format!("https://127.0.0.1:{port}")).set("origins.main.protocol", protocol);
        let edge = trusting(edge, &authority, "media.test").tls().run();
        let answer = edge.send(&Request::get("/a.txt").host("films.test")).expect_status(200);
        assert_eq!((answer.text().as_str(), answer.header("x-protocol")), ("hello", Some(spoken)), "{protocol}");
        assert_eq!(answer.header("x-sni"), Some("media.test"), "{protocol}");
        assert_eq!(answer.header("x-host"), Some("films.test"), "{protocol}: the client's Host goes on");
        assert!(edge.get("/large.mp4").body == pattern(3_000_000), "{protocol}");
        let part = edge.send(&Request::get("/large.mp4").header("Range", "bytes=1000000-1000099")).expect_status(206);
        assert!(part.body == pattern(3_000_000)[1_000_000..1_000_100], "{protocol}");
        let head = edge.send(&Request::new("HEAD", "/large.mp4"));
        assert_eq!((head.status, head.header("content-length")), (200, Some("3000000")), "{protocol}");
        let both_ways = Curl::https(edge.https(), "/large.mp4").http2().send();
        assert!(both_ways.body == pattern(3_000_000), "{protocol}: HTTP/2 on both sides");
    }
    drop((both, only_http1));
}

#[test]
fn http2_to_the_origin_in_clear() {
    let port = free_port();
    let server = format!("listen 127.0.0.1:{port} http2; location / {{ add_header X-Protocol $server_protocol; }}");
    let nginx = Nginx::with(&server).file("a.txt", "hello");
    let edge = Edge::of_url(&format!("http://127.0.0.1:{port}")).set("origins.main.protocol", "http2").run();
    let answer = edge.get("/a.txt").expect_status(200);
    assert_eq!((answer.text().as_str(), answer.header("x-protocol")), ("hello", Some("HTTP/2.0")));
    drop(nginx);
}

#[test]
fn a_client_that_stops_reading_holds_nobody_up_over_http2_to_the_origin() {
    const BYTES: usize = 16 << 20;
    let port = free_port();
    let server = format!("listen 127.0.0.1:{port} http2; location / {{ add_header Cache-Control max-age=60; }}");
    let nginx = Nginx::with(&server).file("a.mp4", pattern(BYTES));
    // One fill of the whole, as of an object that is not sliced.
    let edge = Edge::of_url(&format!("http://127.0.0.1:{port}")).set("cache.slices.enabled", false);
    let edge = edge.set("origins.main.protocol", "http2").run();
    let mut stalled = Connection::open_narrow(edge.http());
    stalled.send(Request::get("/a.mp4").to_bytes());
    assert_eq!(stalled.head().map(|h| h.status), Some(200));
    let began = Instant::now();
    let other = edge.get("/a.mp4").expect_status(200);
    assert!(other.complete && other.body == pattern(BYTES));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(stalled.read(BYTES) == pattern(BYTES), "the first goes on where it stopped");
    assert_eq!(nginx.requests(), 1);
}

/// One connection to the origin carries the requests of many clients: what one of them does not read must leave room for the others.
#[test]
fn a_client_that_stops_reading_what_is_not_kept_leaves_its_origins_connection_to_others() {
    const BYTES: usize = 32 << 20;
    let port = free_port();
    let nginx =
        Nginx::with(&format!("listen 127.0.0.1:{port} http2;")).file("a.bin", pattern(BYTES)).file("b", "hello");
    let edge = Edge::of_url(&format!("http://127.0.0.1:{port}")).set("sites.0.cache.enabled", false);
    let edge = edge.set("origins.main.protocol", "http2").run();
    edge.get("/b").expect_status(200);
    let mut stalled: Vec<_> = (0..4).map(|_| Connection::open_narrow(edge.http())).collect();
    for client in &mut stalled {
        client.send(Request::get("/a.bin").to_bytes());
        assert_eq!(client.head().map(|head| head.status), Some(200));
    }
    // What may lie on its way to them does.
    pause(Duration::from_secs(2));
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(edge.get("/b").expect_status(200).text(), "hello");
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(stalled[0].read(BYTES) == pattern(BYTES), "it goes on where it stopped");
    drop(nginx);
}

#[test]
fn a_certificate_that_is_not_accepted_is_502() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = authority(folder.path(), "media.test");
    let (_nginx, port) = nginx(&authority, "ssl http2");
    let url = format!("https://127.0.0.1:{port}");
    let other = certificate(folder.path(), "other.test").0;
    let other = json!({"ca": other.to_str().expect("UTF-8"), "server_name": "media.test"});
    for edge in [
        trusting(Edge::of_url(&url), &authority, "else.test"),
        Edge::of_url(&url).set("origins.main.tls.server_name", "media.test"),
        Edge::of_url(&url).set("origins.main.tls", other),
    ] {
        let edge = edge.run();
        edge.get("/a.txt").expect_status(502);
        edge.expect_metric_at_least("reelgate_origin_errors_total", &[("origin", "main"), ("reason", "tls")], 1.0);
        eventually("the reason is in the access log", || edge.stdout().contains("\"error\":\"tls\""));
    }
    let careless = Edge::of_url(&url).set("origins.main.tls.verify", false).run();
    assert_eq!(careless.get("/a.txt").expect_status(200).text(), "hello");
}

/// A port on which connecting hangs: its backlog is full. The sockets keep it so.
fn hanging_port() -> (u16, Vec<socket2::Socket>) {
    let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let listener = new();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&any.into()).expect("a port");
    listener.listen(0).expect("it listens");
    let address = listener.local_addr().expect("bound");
    let port = address.as_socket().expect("IPv4").port();
    let mut held = vec![listener];
    for _ in 0..4 {
        let client = new();
        client.set_nonblocking(true).expect("an option");
        let _ = client.connect(&address);
        held.push(client);
    }
    (port, held)
}

#[test]
fn a_server_that_hangs_in_connect_is_passed_over() {
    let (port, held) = hanging_port();
    let alive = Origin::start().handle("/a", |r| Reply::ok(format!("{} {}", r.method, r.body_bytes)));
    let edge = Edge::of(&alive)
        .set("origins.main.servers", json!([format!("http://127.0.0.1:{port}"), alive.url()]))
        .set("origins.main.timeouts", json!({"connect": "300ms", "handshake": "1s"}))
        .set("origins.main.retry.budget_per_second", 100)
        .run();
    for _ in 0..4 {
        assert_eq!(edge.get("/a").expect_status(200).text(), "GET 0");
        // Nothing of it was sent, so a POST goes to the next server too.
        let post = Request::new("POST", "/a").body("12345");
        assert_eq!(edge.send(&post).expect_status(200).text(), "POST 5");
    }
    drop(held);
}

#[test]
fn retries_end_with_their_budget() {
    let (one, two) = (Origin::start(), Origin::start());
    for origin in [&one, &two] {
        origin.set_route("/a", Reply::raw(vec![Step::Close]));
    }
    let edge = |ratio: f64, per_second: u32| {
        Edge::of(&one)
            .set("origins.main.servers", json!([one.url(), two.url()]))
            .set("origins.main.breaker.enabled", false)
            .set("origins.main.health.passive.failures", 0)
            .set("origins.main.retry", json!({"attempts": 1, "budget_ratio": ratio, "budget_per_second": per_second}))
            .run()
    };
    let none = edge(0.0, 0);
    for _ in 0..10 {
        none.get("/a").expect_status(502);
    }
    assert_eq!(one.count("/a") + two.count("/a"), 10, "without a budget no request goes twice");
    none.expect_metric("reelgate_origin_retries_total", &[("outcome", "refused")], 10.0);
    let some = edge(0.2, 1);
    for _ in 0..50 {
        some.get("/a").expect_status(502);
    }
    let retried = one.count("/a") + two.count("/a") - 60;
    assert!((1..=40).contains(&retried), "{retried} of 50 went again");
}

#[test]
fn a_post_whose_bytes_were_sent_is_never_sent_again() {
    let (one, two) = (Origin::start(), Origin::start());
    for origin in [&one, &two] {
        origin.set_route("/a", Reply::raw(vec![Step::Reset]));
        origin.set_route("/put", Reply::raw(vec![Step::Reset]));
    }
    let edge = Edge::of(&one)
        .set("origins.main.servers", json!([one.url(), two.url()]))
        .set("origins.main.retry.attempts", 1)
        .run();
    edge.send(&Request::new("POST", "/a").body("12345")).expect_status(502);
    assert_eq!(one.count("/a") + two.count("/a"), 1);
    edge.send(&Request::new("PUT", "/put").body("12345")).expect_status(502);
    assert_eq!(one.count("/put") + two.count("/put"), 2, "PUT is idempotent, and its body at hand");
}

#[test]
fn a_failing_server_is_ejected_and_comes_back() {
    let (bad, good) = (Origin::start(), Origin::start().route("/a", Reply::ok("good")));
    bad.set_route("/a", Reply::raw(vec![Step::Close]));
    let edge = Edge::of(&good)
        .set("origins.main.servers", json!([bad.url(), good.url()]))
        .set("origins.main.breaker.enabled", false)
        .set("origins.main.retry.budget_per_second", 100)
        .set("origins.main.health.passive", json!({"failures": 2, "ejection": "2s"}))
        .run();
    eventually("the server is out", || {
        edge.get("/a").expect_status(200);
        edge.metrics().value("reelgate_origin_server_up", &[]) == 1.0
    });
    let asked = bad.count("/a");
    for _ in 0..10 {
        edge.get("/a").expect_status(200);
    }
    assert_eq!(bad.count("/a"), asked, "an ejected server is not asked");
    bad.set_route("/a", Reply::ok("well"));
    eventually("the server is asked again", || edge.get("/a").expect_status(200).text() == "well");
    edge.expect_metric("reelgate_origin_server_up", &[], 2.0);
}

#[test]
fn an_open_breaker_says_when_to_come_back_and_closes() {
    let origin = Origin::start().route("/a", Reply::raw(vec![Step::Close]));
    let edge = Edge::of(&origin)
        .set("origins.main.health.passive.failures", 0)
        .set(
            "origins.main.breaker",
            json!({"enabled": true, "failure_ratio": 0.5, "requests": 4, "window": "10s", "open": "1s"}),
        )
        .run();
    let mut last = edge.get("/a");
    eventually("the breaker is open", || {
        last = edge.get("/a");
        last.status == 503
    });
    let wait: u64 = last.header("retry-after").and_then(|s| s.parse().ok()).expect("Retry-After in seconds");
    assert!((1..=2).contains(&wait), "{wait}");
    origin.set_route("/a", Reply::ok("well"));
    eventually("it closes again", || edge.get("/a").status == 200);
    edge.expect_metric("reelgate_origin_breaker_open", &[("origin", "main")], 0.0);
    for _ in 0..5 {
        edge.get("/a").expect_status(200);
    }
}

#[test]
fn a_name_with_two_addresses_is_reached_at_the_one_that_answers() {
    let port_of = |origin: &Origin| origin.url().rsplit(':').next().expect("a port").to_owned();
    let four = Origin::start().route("/a", Reply::ok("four"));
    let edge = Edge::of_url(&format!("http://localhost:{}", port_of(&four))).run();
    for _ in 0..3 {
        assert_eq!(edge.get("/a").expect_status(200).text(), "four");
    }
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        let six = Origin::start_ipv6().route("/a", Reply::ok("six"));
        let edge = Edge::of_url(&format!("http://localhost:{}", port_of(&six))).run();
        let resolves = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 1)).expect("localhost is a name");
        if resolves.into_iter().any(|a| a.is_ipv6()) {
            assert_eq!(edge.get("/a").expect_status(200).text(), "six");
        }
    }
}

#[test]
fn a_tunnel_through_tls_may_be_silent_for_its_own_idle_time() {
    let origin = Origin::start().route("/socket", Reply::upgrade_echo());
    let edge = Edge::of(&origin)
        .tls()
        .set("limits.stall_timeout", "500ms")
        .set("limits.idle_timeout", "500ms")
        .set("limits.header_timeout", "500ms")
        .set("limits.upgrade_idle_timeout", "3s")
        .set("origins.main.timeouts", json!({"first_byte": "500ms", "read": "500ms", "write": "500ms"}))
        .run();
    let tunnel = |secure: bool| {
        let mut socket = if secure { Connection::open_tls(edge.https()) } else { Connection::open(edge.http()) };
        let request = Request::get("/socket")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        socket.send(request.to_bytes());
        assert_eq!(socket.head().map(|h| h.status), Some(101));
        for message in ["one", "two"] {
            pause(Duration::from_millis(1800));
            socket.send(message);
            assert_eq!(socket.read(3), message.as_bytes(), "secure: {secure}");
        }
        let began = Instant::now();
        assert!(socket.closed_within(Duration::from_secs(10)), "secure: {secure}: an idle tunnel ends");
        assert!(began.elapsed() > Duration::from_secs(2), "secure: {secure}: {:?}", began.elapsed());
    };
    std::thread::scope(|scope| {
        scope.spawn(|| tunnel(false));
        scope.spawn(|| tunnel(true));
    });
    edge.expect_metric("reelgate_requests_in_flight", &[], 0.0);
}

#[test]
fn events_through_tls_may_be_far_apart() {
    let gate = Gate::new();
    let event = |text: &str| Step::Send(format!("data: {text}\n\n").into_bytes());
    let steps = vec![event("one"), Step::Wait(gate.clone()), event("two")];
    let events = Reply::status(200).header("Content-Type", "text/event-stream").chunked().steps(steps);
    let origin = Origin::start().route("/events", events);
    let edge = Edge::of(&origin)
        .tls()
        .set("limits.stall_timeout", "500ms")
        .set("limits.idle_timeout", "500ms")
        .set("origins.main.timeouts", json!({"first_byte": "500ms", "read": "500ms"}))
        .run();
    let mut first = Connection::open_tls(edge.https());
    let request = Request::get("/events").header("Accept", "text/event-stream");
    first.send(request.to_bytes());
    assert_eq!(first.head().map(|h| h.status), Some(200));
    assert_eq!(first.read(16).to_ascii_lowercase(), b"b\r\ndata: one\n\n\r\n");
    let url = format!("https://{}/events", edge.https());
    let http2 = std::thread::spawn(move || {
        Curl::new(&url).http2().arg("-N").header("Accept: text/event-stream").try_send().map(|r| (r.complete, r.text()))
    });
    pause(Duration::from_millis(2500));
    gate.open();
    assert_eq!(first.read(16).to_ascii_lowercase(), b"b\r\ndata: two\n\n\r\n");
    let seen = http2.join().expect("curl ends");
    assert_eq!(seen, Some((true, "data: one\n\ndata: two\n\n".to_owned())), "over HTTP/2");
}

#[test]
fn a_huge_upload_streams_in_bounded_memory() {
    const BYTES: u64 = 200_000_000;
    let origin = Origin::start().route("/up", Reply::ok("taken"));
    let edge = Edge::of(&origin).tls().run();
    let file = edge.folder().join("upload");
    std::fs::File::create(&file).and_then(|f| f.set_len(BYTES)).expect("a sparse file");
    let resident = || edge.resident_bytes();
    for url in [Curl::http(edge.http(), "/up").http1(), Curl::https(edge.https(), "/up").http2()] {
        let before = resident();
        let upload = url.arg("-X").arg("POST").arg("-T").arg(&file.display().to_string());
        let sent = std::thread::spawn(move || upload.send().status);
        let mut most = before;
        while !sent.is_finished() {
            most = most.max(resident());
            pause(Duration::from_millis(20));
        }
        assert_eq!(sent.join().expect("curl ends"), 200);
        let received = origin.last("/up");
        assert_eq!((received.body_bytes, received.complete), (BYTES, true));
        assert!(most - before < 32 << 20, "{} bytes more than before", most - before);
    }
    assert_eq!(origin.count("/up"), 2);
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let origin = Origin::start().route("/up", Reply::status(413).header("X-Why", "large")).early("/up");
    let edge = Edge::of(&origin).run();
    let mut client = Connection::open(edge.http());
    client.send("POST /up HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n");
    client.send(vec![b'x'; 10_000]);
    let answer = client.head().expect("an answer before the end of the body");
    assert_eq!((answer.status, answer.header("x-why")), (413, Some("large")));
    client.abort();
    edge.expect_metric("reelgate_requests_in_flight", &[], 0.0);
}

#[test]
fn a_slow_download_longer_than_the_stall_timeout_is_whole() {
    const BYTES: usize = 5_000_000;
    let origin = Origin::start().handle("*", |r| {
        let reply = if r.path() == "/kept" { Reply::cacheable("") } else { Reply::ok("") };
        reply.length(BYTES as u64).steps(vec![Step::Pattern(BYTES as u64)])
    });
    let edge = Edge::of(&origin).set("limits.stall_timeout", "2s").set("origins.main.timeouts.read", "2s").run();
    let clients: Vec<_> = ["/kept", "/passed"]
        .map(|path| {
            let address = edge.http();
            std::thread::spawn(move || {
                let mut client = Connection::open_narrow(address);
                client.send(Request::get(path).to_bytes());
                assert_eq!(client.head().map(|h| h.status), Some(200));
                let mut all = Vec::new();
                while all.len() < BYTES {
                    let part = client.read(100_000.min(BYTES - all.len()));
                    assert!(!part.is_empty(), "{path} ended after {}", all.len());
                    all.extend(part);
                    pause(Duration::from_millis(80));
                }
                assert!(all == pattern(BYTES), "{path}");
            })
        })
        .into();
    for client in clients {
        client.join().expect("a whole download");
    }
}
