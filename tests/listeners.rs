//! Where clients connect: protocols, certificates, PROXY headers, and what nobody may exceed.

use crate::support::{Connection, Curl, Edge, Origin, Reply, Request, certificate, eventually, h2load, pause};
use serde_json::json;
use std::process::Command;
use std::time::Duration;

fn origin() -> Origin {
    Origin::start().handle("*", |r| Reply::ok(r.header("x-forwarded-for").unwrap_or_default()))
}

#[test]
fn clear_listeners_speak_http1_and_h2c() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    assert_eq!(Curl::http(edge.http(), "/").http1().send().version, "HTTP/1.1");
    assert_eq!(Curl::http(edge.http(), "/").http2().send().version, "HTTP/2");
}

#[test]
fn tls_listeners_agree_on_a_version() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().run();
    assert_eq!(Curl::https(edge.https(), "/").http1().send().version, "HTTP/1.1");
    assert_eq!(Curl::https(edge.https(), "/").http2().send().version, "HTTP/2");
    assert_eq!(origin.last("/").header("x-forwarded-proto").as_deref(), Some("https"));
    for version in ["--tlsv1.2", "--tlsv1.3"] {
        let curl =
            Curl::https(edge.https(), "/").arg(version).arg("--tls-max").arg(version.trim_start_matches("--tlsv"));
        assert_eq!(curl.send().status, 200, "{version}");
    }
    let old = Curl::https(edge.https(), "/").arg("--tls-max").arg("1.1").arg("--ciphers").arg("DEFAULT@SECLEVEL=0");
    assert!(!old.output().status.success(), "TLS 1.1 must not be spoken");
}

#[test]
fn protocols_are_chosen_per_listener() {
    let origin = origin();
    let edge = Edge::of(&origin)
        .listen(json!({"protocols": ["http1"]}))
        .listen(json!({"protocols": ["http2"]}))
        .listen(json!({"protocols": ["http1"], "tls": "self-signed"}))
        .run();
    assert!(Curl::http(edge.listener(1), "/").http2().try_send().is_none_or(|r| r.version != "HTTP/2"));
    assert_eq!(Curl::http(edge.listener(1), "/").http1().send().status, 200);
    assert!(Curl::http(edge.listener(2), "/").http1().try_send().is_none_or(|r| r.status != 200));
    assert_eq!(Curl::http(edge.listener(2), "/").http2().send().status, 200);
    assert_eq!(Curl::https(edge.listener(3), "/").http2().send().version, "HTTP/1.1");
}

#[test]
fn certificates_are_chosen_by_sni_and_read_again() {
    let origin = origin();
    let builder = Edge::of(&origin);
    let (one, one_key) = certificate(builder.folder(), "one.test");
    let (two, two_key) = certificate(builder.folder(), "*.two.test");
    let edge = builder
        .listen(json!({"tls": [
            {"cert": one.display().to_string(), "key": one_key.display().to_string()},
            {"cert": two.display().to_string(), "key": two_key.display().to_string()},
        ]}))
        .run();
    let port = edge.https().port();
    let ask = |name: &str, trusted: &std::path::Path| {
        let resolve = format!("{name}:{port}:127.0.0.1");
        let curl = Curl::new(&format!("https://{name}:{port}/")).arg("--resolve").arg(&resolve).trusting(trusted);
        curl.output().status.success()
    };
    assert!(ask("one.test", &one) && ask("a.two.test", &two));
    assert!(!ask("one.test", &two), "a certificate of the other name must not be shown");

    // A renewal: the same files, a new certificate, no restart.
    let renewed = tempfile::tempdir().expect("a temporary folder");
    let (new, new_key) = certificate(renewed.path(), "one.test");
    std::fs::copy(&new_key, &one_key).expect("the key is replaced");
    std::fs::copy(&new, &one).expect("the certificate is replaced");
    eventually("the new certificate is shown", || ask("one.test", &new));
    assert!(ask("a.two.test", &two));

    // A broken file leaves what works in force.
    std::fs::write(&two, "not a certificate").expect("the certificate is broken");
    pause(Duration::from_millis(1500));
    assert_eq!(Curl::https(edge.https(), "/").send().status, 200);
}

#[test]
fn a_proxy_header_names_the_client() {
    let origin = origin();
    let edge = Edge::of(&origin)
        .set("trusted_proxies", json!(["127.0.0.0/8"]))
        .listen(json!({"proxy_protocol": true}))
        .listen(json!({"proxy_protocol": true, "tls": "self-signed"}))
        .run();
    let mut connection = Connection::open(edge.listener(1));
    connection.send("PROXY TCP4 203.0.113.9 192.0.2.1 4000 443\r\n");
    assert!(connection.exchange(&Request::get("/v1")).expect_status(200).text().contains("203.0.113.9"));

    let mut connection = Connection::open(edge.listener(1));
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([203, 0, 113, 10, 192, 0, 2, 1, 0x10, 0, 0x01, 0xbb]);
    connection.send(header);
    assert!(connection.exchange(&Request::get("/v2")).expect_status(200).text().contains("203.0.113.10"));

    assert_eq!(Curl::http(edge.listener(1), "/").arg("--haproxy-protocol").send().status, 200);
    assert_eq!(Curl::https(edge.listener(2), "/").arg("--haproxy-protocol").http2().send().status, 200);
}

#[test]
fn without_its_proxy_header_a_connection_ends() {
    let origin = origin();
    let edge = Edge::of(&origin)
        .set("trusted_proxies", json!(["127.0.0.0/8"]))
        .set("limits.handshake_timeout", "1s")
        .listen(json!({"proxy_protocol": true}))
        .run();
    for start in ["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "PROXY NONSENSE\r\n\r\n", "PROXY TCP4 203.0.113.9", ""] {
        let mut connection = Connection::open(edge.listener(1));
        connection.send(start);
        assert!(connection.closed_within(Duration::from_secs(10)), "{start:?}");
    }
    assert_eq!(origin.count("*"), 0);
}

#[test]
fn a_proxy_header_of_an_untrusted_peer_is_refused() {
    let origin = origin();
    let edge =
        Edge::of(&origin).set("trusted_proxies", json!(["192.0.2.0/24"])).listen(json!({"proxy_protocol": true})).run();
    let mut connection = Connection::open(edge.listener(1));
    connection.send("PROXY TCP4 203.0.113.9 192.0.2.1 4000 443\r\n").send(Request::get("/").to_bytes());
    assert!(connection.closed_within(Duration::from_secs(10)));
    assert_eq!(origin.count("*"), 0);
}

#[test]
fn an_idle_connection_is_closed() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().set("limits.idle_timeout", "1s").set("limits.handshake_timeout", "1s").run();
    let mut used = Connection::open(edge.http());
    used.exchange(&Request::get("/")).expect_status(200);
    let mut silent = Connection::open(edge.http());
    let mut without_handshake = Connection::open(edge.https());
    for connection in [&mut used, &mut silent, &mut without_handshake] {
        assert!(connection.closed_within(Duration::from_secs(10)));
    }
}

#[test]
fn connections_of_one_address_are_bounded() {
    let origin = origin();
    let edge = Edge::of(&origin).set("limits.connections_per_address", 5).run();
    let mut open: Vec<_> = (0..5).map(|_| Connection::open(edge.http())).collect();
    for connection in &mut open {
        connection.exchange(&Request::get("/")).expect_status(200);
    }
    let mut sixth = Connection::open(edge.http());
    sixth.send(Request::get("/").to_bytes());
    assert!(sixth.response("GET").is_none_or(|r| r.status != 200), "the sixth is refused");
    edge.expect_metric_at_least("reelgate_limits_reached_total", &[], 1.0);
    open.pop();
    eventually("a place is free again", || {
        let mut connection = Connection::open(edge.http());
        connection.send(Request::get("/").to_bytes());
        connection.response("GET").is_some_and(|r| r.status == 200)
    });
}

#[test]
fn requests_on_one_connection_are_bounded() {
    let origin = origin();
    let edge = Edge::of(&origin).set("limits.requests_per_connection", 3).run();
    let mut connection = Connection::open(edge.http());
    for _ in 0..3 {
        connection.exchange(&Request::get("/")).expect_status(200);
    }
    assert!(connection.closed_within(Duration::from_secs(10)));
}

#[test]
fn many_streams_of_one_connection_are_served() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().set("limits.http2_streams", 16).run();
    let report = h2load(&["-n", "500", "-c", "2", "-m", "16", &format!("https://{}/", edge.https())]);
    assert!(report.contains("500 succeeded, 0 failed, 0 errored, 0 timeout"), "{report}");
}

/// CVE-2023-44487: streams opened and reset at once.
#[test]
fn a_rapid_reset_ends_the_connection_and_nothing_else() {
    let origin = origin();
    let edge = Edge::of(&origin).set("limits.http2_pending_resets", 10).run();
    let mut attack = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    attack.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    // :method GET, :scheme http, :path / and :authority x, as HPACK's static table has them.
    let headers = [0x82, 0x86, 0x84, 0x41, 0x01, b'x'];
    for stream in (1..20_001u32).step_by(2) {
        let id = stream.to_be_bytes();
        attack.extend([0, 0, headers.len() as u8, 1, 5]);
        attack.extend(id);
        attack.extend(headers);
        attack.extend([0, 0, 4, 3, 0]);
        attack.extend(id);
        attack.extend([0, 0, 0, 8]);
    }
    let mut connection = Connection::open(edge.http());
    connection.send(&attack);
    assert!(connection.closed_within(Duration::from_secs(15)), "the connection goes on");
    assert!(origin.count("*") < 5000, "{} of 10000 reset requests reached the origin", origin.count("*"));
    assert_eq!(edge.get("/after").status, 200);
}

/// Pingora waits for bodies over HTTP/2 without a deadline, also once the answer is out.
#[test]
fn an_upload_over_http2_that_stops_is_given_up_and_its_connection_goes_on() {
    let origin = origin().route("/", Reply::ok("x")).early("/");
    let edge = Edge::of(&origin).set("limits.stall_timeout", "1s").set("limits.idle_timeout", "60s").run();
    // :scheme http, :path / and :authority x, as HPACK's static table has them; POST is 0x83, GET 0x82.
    let request = |stream: u8, method: u8, flags: u8| {
        [0, 0, 6, 1, flags, 0, 0, 0, stream, method, 0x86, 0x84, 0x41, 0x01, b'x'].to_vec()
    };
    let mut connection = Connection::open(edge.http());
    connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    connection.send(request(1, 0x83, 4)).send([0, 0, 3, 0, 0, 0, 0, 0, 1, b'a', b'b', b'c']);
    edge.expect_metric("reelgate_requests_in_flight", &[], 1.0);
    edge.expect_metric("reelgate_requests_in_flight", &[], 0.0);
    edge.expect_metric("reelgate_limits_reached_total", &[("limit", "stall_timeout")], 1.0);
    connection.send(request(3, 0x82, 5));
    eventually("the next request of the connection is answered", || origin.count("/") == 2);
}

#[test]
fn an_upload_over_http2_that_stops_within_a_frame_ends_its_connection_and_is_never_completed() {
    let origin = origin();
    let edge = Edge::of(&origin).set("limits.stall_timeout", "1s").set("limits.idle_timeout", "60s").run();
    let mut connection = Connection::open(edge.http());
    connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    connection.send([0, 0, 6, 1, 4, 0, 0, 0, 1, 0x83, 0x86, 0x84, 0x41, 0x01, b'x']);
    // The body's last frame, of 100 bytes: as many are missing as a RST_STREAM has.
    connection.send([0, 0, 100, 0, 1, 0, 0, 0, 1]).send([b'a'; 87]);
    edge.expect_metric("reelgate_requests_in_flight", &[], 1.0);
    edge.expect_metric("reelgate_limits_reached_total", &[("limit", "stall_timeout")], 1.0);
    edge.expect_metric("reelgate_requests_in_flight", &[], 0.0);
    assert!(origin.received().iter().all(|request| request.body.len() < 100), "nothing was added to it");
}

#[test]
fn a_port_in_use_is_an_error_that_names_it() {
    let origin = origin();
    let edge = Edge::of(&origin).run();
    let taken = edge.http().to_string();
    let file = Edge::of(&origin).set("listen.0.address", taken.as_str()).write();
    let output = Command::new("timeout")
        .args(["20", env!("CARGO_BIN_EXE_reelgate"), "serve", "-c"])
        .arg(file.path())
        .output()
        .expect("timeout (coreutils) runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&taken), "{output:?}");
}
