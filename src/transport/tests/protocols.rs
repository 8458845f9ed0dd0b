//! What a listener speaks, and what the edge learns of a connection.

use super::harness::*;
use crate::config::{Listen, ListenAddress, Protocols};
use crate::transport::{BindProblem, Listener};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::os::unix::fs::PermissionsExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

const ONLY_HTTP1: Protocols = Protocols { http1: true, http2: false };
const ONLY_HTTP2: Protocols = Protocols { http1: false, http2: true };

async fn get_http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> hyper::Result<String> {
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::get("http://media.example/").body(Empty::<Bytes>::new()).unwrap();
    let answer = in_time(client.send_request(request)).await?;
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn the_edge_finds_the_connection_on_all_four_protocols() {
    let clear = serve(listen(), limits()).await;
    let mut stream = clear.connect().await;
    let client = stream.local_addr().unwrap();
    let seen = |tls: bool, protocol: &str, client: std::net::SocketAddr, port: u16| {
        format!(
            "client=Some(\"{client}\") local_port=Some({port}) tls={tls} protocol={protocol} pingora=Some(\"{client}\")"
        )
    };
    assert!(get(&mut stream, "/").await.ends_with(&seen(false, "Http1", client, clear.address.port())));

    let stream = clear.connect().await;
    let client = stream.local_addr().unwrap();
    assert_eq!(get_http2(stream).await.unwrap(), seen(false, "Http2", client, clear.address.port()));

    let secure = serve(self_signed(), limits()).await;
    let stream = secure.connect().await;
    let client = stream.local_addr().unwrap();
    let mut stream = tls(stream, "localhost", &["http/1.1"]).await.unwrap();
    assert!(get(&mut stream, "/").await.ends_with(&seen(true, "Http1", client, secure.address.port())));

    let stream = secure.connect().await;
    let client = stream.local_addr().unwrap();
    let stream = tls(stream, "localhost", &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(get_http2(stream).await.unwrap(), seen(true, "Http2", client, secure.address.port()));
    assert_eq!(secure.metrics().connections_accepted.with_label_values(&["tls"]).get(), 2);
}

#[tokio::test]
async fn an_http1_listener_refuses_http2() {
    let clear = serve(Listen { protocols: ONLY_HTTP1, ..listen() }, limits()).await;
    assert!(get_http2(clear.connect().await).await.is_err());
    let secure = serve(Listen { protocols: ONLY_HTTP1, ..self_signed() }, limits()).await;
    assert!(tls(secure.connect().await, "localhost", &["h2"]).await.is_err());
    let mut stream = tls(secure.connect().await, "localhost", &["h2", "http/1.1"]).await.unwrap();
    assert!(get(&mut stream, "/").await.contains(" 200 "));
}

#[tokio::test]
async fn an_http2_listener_refuses_http1() {
    let clear = serve(Listen { protocols: ONLY_HTTP2, ..listen() }, limits()).await;
    let mut stream = clear.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
    assert!(get_http2(clear.connect().await).await.is_ok());
    let secure = serve(Listen { protocols: ONLY_HTTP2, ..self_signed() }, limits()).await;
    let mut stream = tls(secure.connect().await, "localhost", &[]).await.unwrap();
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn http2_connections_end_after_their_share_of_requests() {
    let server = serve(listen(), crate::config::Limits { requests_per_connection_max: 2, ..limits() }).await;
    let io = TokioIo::new(server.connect().await);
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..2 {
        let request = http::Request::get("http://media.example/").body(Empty::<Bytes>::new()).unwrap();
        in_time(client.send_request(request)).await.unwrap().into_body().collect().await.unwrap();
    }
    in_time(connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_proxy_header_names_the_client_in_clear_and_before_tls() {
    let v2 = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"[..],
        &[203, 0, 113, 9, 198, 51, 100, 2],
        &4711u16.to_be_bytes(),
        &443u16.to_be_bytes(),
    ]
    .concat();
    let v1 = b"PROXY TCP4 203.0.113.9 198.51.100.2 4711 443\r\n".to_vec();
    for header in [v1, v2] {
        let clear = serve(Listen { proxy_protocol: true, ..listen() }, limits()).await;
        let mut stream = clear.connect().await;
        // In one segment with the request: no byte of it may be lost.
        stream.write_all(&[&header[..], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat()).await.unwrap();
        let answer = read_response(&mut stream).await;
        assert!(answer.contains("client=Some(\"203.0.113.9:4711\") local_port=Some(443)"), "{answer}");

        let secure = serve(Listen { proxy_protocol: true, ..self_signed() }, limits()).await;
        let mut stream = secure.connect().await;
        stream.write_all(&header).await.unwrap();
        let stream = tls(stream, "localhost", &["h2"]).await.unwrap();
        let answer = get_http2(stream).await.unwrap();
        assert!(answer.contains("client=Some(\"203.0.113.9:4711\")") && answer.contains("tls=true"), "{answer}");
    }
}

#[tokio::test]
async fn a_proxy_header_is_demanded_and_believed_of_trusted_peers_only() {
    let server = serve(Listen { proxy_protocol: true, ..listen() }, limits()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
    server.shared.apply(limits(), vec!["192.0.2.0/24".parse().unwrap()]);
    let mut stream = server.connect().await;
    let _ = stream.write_all(b"PROXY TCP4 203.0.113.9 198.51.100.2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn clients_behind_a_balancer_are_counted_each_for_itself() {
    let few = crate::config::Limits { connections_per_address_max: 1, ..limits() };
    let server = serve(Listen { proxy_protocol: true, ..listen() }, few).await;
    let mut held = Vec::new();
    for (client, served) in [("203.0.113.1", true), ("203.0.113.2", true), ("203.0.113.1", false)] {
        let mut stream = server.connect().await;
        let request = format!("PROXY TCP4 {client} 198.51.100.2 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        if served {
            assert!(read_response(&mut stream).await.contains(client));
            held.push(stream);
        } else {
            assert_eq!(read_all(&mut stream).await, "");
        }
    }
    assert_eq!(server.limit_reached("connections_per_address"), 1);
}

#[tokio::test]
async fn a_unix_socket_is_shared_with_the_group_taken_over_when_stale_and_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let settings = Listen { address: ListenAddress::Unix(path.clone()), ..listen() };
    let server = serve_with(settings.clone(), shared(limits()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    assert!(get(&mut stream, "/").await.contains("client=None local_port=None"));
    let second = Listener::bind(&settings, shared(limits())).unwrap_err();
    assert!(matches!(second.problem, BindProblem::InUse), "{second}");
    server.stop.send_replace(true);
    in_time(server.running).await.unwrap();
    assert!(!path.exists());
    std::fs::write(&path, "a film").unwrap();
    let file = Listener::bind(&settings, shared(limits())).unwrap_err();
    assert!(matches!(file.problem, BindProblem::NotASocket), "{file}");
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let server = serve(listen(), limits()).await;
    let taken = Listen { address: ListenAddress::Tcp(server.address), ..listen() };
    let errors = Listener::bind_all(&[taken.clone(), taken], &server.shared).unwrap_err();
    assert_eq!(errors.len(), 2);
    let text = errors[0].to_string();
    assert!(text.contains(&server.address.to_string()) && text.contains("another program"), "{text}");
}

#[tokio::test]
async fn both_families_can_name_the_same_port() {
    let Ok(free) = std::net::TcpListener::bind("[::]:0") else { return };
    let port = free.local_addr().unwrap().port();
    drop(free);
    let entry = |text: String| Listen { address: ListenAddress::Tcp(text.parse().unwrap()), ..listen() };
    let both = [entry(format!("0.0.0.0:{port}")), entry(format!("[::]:{port}"))];
    assert_eq!(Listener::bind_all(&both, &shared(limits())).unwrap().len(), 2);
    let dual = serve(entry("[::]:0".to_owned()), limits()).await;
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", dual.address.port())).await.unwrap();
    assert!(get(&mut stream, "/").await.contains("client=Some(\"127.0.0.1:"), "IPv4 clients are shown as IPv4");
}
