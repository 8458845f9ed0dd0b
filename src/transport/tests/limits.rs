//! Each limit is reached once, and counted.

use super::harness::*;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_dripping_head_is_answered_408_within_its_whole_time() {
    for listen in [listen(), self_signed()] {
        let secure = !listen.tls.is_empty();
        let server =
            serve(listen, crate::config::Limits { header_timeout: Duration::from_millis(600), ..limits() }).await;
        let (mut reader, mut writer): (
            Box<dyn tokio::io::AsyncRead + Unpin + Send>,
            Box<dyn tokio::io::AsyncWrite + Unpin + Send>,
        ) = if secure {
            let (r, w) = tokio::io::split(tls(server.connect().await, "localhost", &["http/1.1"]).await.unwrap());
            (Box::new(r), Box::new(w))
        } else {
            let (r, w) = server.connect().await.into_split();
            (Box::new(r), Box::new(w))
        };
        let started = Instant::now();
        let drip = tokio::spawn(async move {
            writer.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
            while writer.write_all(b"a").await.is_ok() && writer.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        });
        let answer = read_all(&mut reader).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
        assert!(started.elapsed() >= Duration::from_millis(500) && started.elapsed() < Duration::from_secs(8));
        assert_eq!(server.limit_reached("header_timeout"), 1);
        drip.abort();
    }
}

#[tokio::test]
async fn each_head_of_a_kept_connection_has_its_own_time() {
    let server =
        serve(listen(), crate::config::Limits { header_timeout: Duration::from_millis(500), ..limits() }).await;
    let mut client = server.connect().await;
    for _ in 0..4 {
        assert!(get(&mut client, "/").await.starts_with("HTTP/1.1 200"));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    client.write_all(b"GET / HT").await.unwrap();
    assert!(read_all(&mut client).await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn a_head_of_exactly_the_limit_passes_and_one_byte_more_is_431() {
    let server = serve(listen(), limits()).await;
    let request = |bytes: usize| {
        let (start, end) = ("GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n");
        format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len()))
    };
    let mut client = server.connect().await;
    client.write_all(request(8192).as_bytes()).await.unwrap();
    assert!(read_response(&mut client).await.starts_with("HTTP/1.1 200"));
    client.write_all(request(8193).as_bytes()).await.unwrap();
    let answer = read_all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    assert_eq!(server.limit_reached("header_bytes"), 1);
}

#[tokio::test]
async fn the_431_arrives_though_the_client_is_still_sending() {
    let server = serve(listen(), limits()).await;
    let mut client = server.connect().await;
    let flood = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(300_000));
    client.write_all(flood.as_bytes()).await.unwrap();
    assert!(read_all(&mut client).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn a_body_that_comes_with_its_head_is_not_counted_as_head() {
    let server = serve(listen(), limits()).await;
    let mut client = server.connect().await;
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{}", "b".repeat(100_000));
    for _ in 0..2 {
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = read_response(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    }
    assert_eq!(server.limit_reached("header_bytes"), 0);
}

#[tokio::test]
async fn an_idle_connection_ends_in_silence() {
    let server = serve(listen(), crate::config::Limits { idle_timeout: Duration::from_millis(300), ..limits() }).await;
    let mut fresh = server.connect().await;
    let mut kept = server.connect().await;
    assert!(get(&mut kept, "/").await.starts_with("HTTP/1.1 200"));
    assert_eq!(read_all(&mut kept).await, "");
    assert_eq!(read_all(&mut fresh).await, "");
    eventually(|| server.metrics().connections.with_label_values(&["clear"]).get() == 0).await;
}

#[tokio::test]
async fn a_short_http10_request_is_answered_on_a_listener_that_speaks_http2() {
    let server = serve(listen(), limits()).await;
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(read_response(&mut client).await.contains(" 200 "));
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_off() {
    let server = serve(listen(), crate::config::Limits { stall_timeout: Duration::from_millis(500), ..limits() }).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut first = [0; 64];
    client.read_exact(&mut first).await.unwrap();
    eventually(|| server.limit_reached("stall_timeout") == 1).await;
    eventually(|| server.shared.lifecycle.in_flight() == 0).await;
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let few = crate::config::Limits { connections_per_address_max: 2, ..limits() };
    let server = serve(listen(), few).await;
    let mut held = [server.connect().await, server.connect().await];
    for client in &mut held {
        get(client, "/").await;
    }
    assert_eq!(read_all(&mut server.connect().await).await, "");
    assert_eq!(server.limit_reached("connections_per_address"), 1);
    drop(held);
    eventually(|| server.shared.lifecycle.in_flight() == 0).await;
    assert!(get(&mut server.connect().await, "/").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn the_total_holds_and_a_reload_changes_it() {
    let server = serve(listen(), crate::config::Limits { connections_max: 1, ..limits() }).await;
    let mut held = server.connect().await;
    get(&mut held, "/").await;
    assert_eq!(read_all(&mut server.connect().await).await, "");
    assert_eq!(server.limit_reached("connections"), 1);
    server.shared.apply(limits(), Vec::new());
    get(&mut server.connect().await, "/").await;
}

#[tokio::test]
async fn requests_per_connection_are_counted_as_requests() {
    let server = serve(listen(), crate::config::Limits { requests_per_connection_max: 2, ..limits() }).await;
    let mut client = server.connect().await;
    get(&mut client, "/").await;
    get(&mut client, "/").await;
    assert_eq!(read_all(&mut client).await, "");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_given_up() {
    let server =
        serve(self_signed(), crate::config::Limits { handshake_timeout: Duration::from_millis(300), ..limits() }).await;
    assert_eq!(read_all(&mut server.connect().await).await, "");
    // Counted once the socket is closed, on the connection's own thread.
    eventually(|| server.metrics().tls_handshake_failures.get() == 1).await;
    let waiting = crate::config::Listen { proxy_protocol: true, ..listen() };
    let server =
        serve(waiting, crate::config::Limits { handshake_timeout: Duration::from_millis(300), ..limits() }).await;
    assert_eq!(read_all(&mut server.connect().await).await, "");
    eventually(|| server.limit_reached("handshake_timeout") == 1).await;
}

#[tokio::test]
async fn http2_that_never_begins_or_has_nothing_to_do_is_closed() {
    let impatient = crate::config::Limits { header_timeout: Duration::from_millis(300), ..limits() };
    let server = serve(self_signed(), impatient).await;
    let mut mute = tls(server.connect().await, "localhost", &["h2"]).await.unwrap();
    read_all(&mut mute).await;
    let lazy = crate::config::Limits { idle_timeout: Duration::from_millis(300), ..limits() };
    let server = serve(self_signed(), lazy).await;
    let mut idle = tls(server.connect().await, "localhost", &["h2"]).await.unwrap();
    idle.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    read_all(&mut idle).await;
    eventually(|| server.shared.lifecycle.in_flight() == 0).await;
}

/// CVE-2023-44487: streams opened and reset in one breath.
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let server = serve(listen(), limits()).await;
    let mut client = server.connect().await;
    let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in (1u32..600).step_by(2) {
        // HEADERS with END_STREAM and END_HEADERS: GET http / of `a`; then RST_STREAM with CANCEL.
        flood.extend(b"\0\0\x06\x01\x05");
        flood.extend(stream.to_be_bytes());
        flood.extend(b"\x82\x86\x84\x41\x01a");
        flood.extend(b"\0\0\x04\x03\0");
        flood.extend(stream.to_be_bytes());
        flood.extend(8u32.to_be_bytes());
    }
    client.write_all(&flood).await.unwrap();
    let mut answer = Vec::new();
    let _ = in_time(client.read_to_end(&mut answer)).await;
    let mut rest = &answer[..];
    let mut told = None;
    while let [a, b, c, kind, _, _, _, _, _, payload @ ..] = rest {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        if *kind == 7 {
            told = Some(payload[7]);
        }
        rest = &payload[length.min(payload.len())..];
    }
    assert_eq!(told, Some(11), "GOAWAY with ENHANCE_YOUR_CALM");
}
