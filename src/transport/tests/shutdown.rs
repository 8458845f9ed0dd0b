//! The process stops: who is let go at once, and who is waited for.

use super::harness::*;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn idle_connections_close_at_once_and_a_busy_one_ends_with_its_response() {
    for listen in [listen(), self_signed()] {
        let secure = !listen.tls.is_empty();
        let mut server = serve(listen, limits()).await;
        let mut clients: Vec<Box<dyn Duplex>> = Vec::new();
        for _ in 0..3 {
            let stream = server.connect().await;
            clients.push(if secure {
                Box::new(tls(stream, "localhost", &["http/1.1"]).await.unwrap())
            } else {
                Box::new(stream)
            });
        }
        let [mut fresh, mut kept, mut busy] = <[_; 3]>::try_from(clients).ok().unwrap();
        get(&mut kept, "/").await;
        busy.write_all(b"GET /busy HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        busy.flush().await.unwrap();
        let _ = in_time(server.app.entered.acquire()).await;
        // Otherwise the kernel may hand it over only after the socket is closed.
        eventually(|| server.shared.lifecycle.in_flight() >= 4).await;
        server.stop.send_replace(true);
        in_time(&mut server.running).await.unwrap();
        assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
        assert_eq!(read_all(&mut fresh).await, "");
        assert_eq!(read_all(&mut kept).await, "");
        assert!(server.shared.lifecycle.in_flight() > 0);
        server.app.gate.add_permits(1);
        assert!(read_all(&mut busy).await.contains(" 200 "));
        in_time(server.shared.lifecycle.drained()).await;
        let transport = if secure { "tls" } else { "clear" };
        assert_eq!(server.metrics().connections.with_label_values(&[transport]).get(), 0);
    }
}

trait Duplex: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Duplex for T {}

#[tokio::test]
async fn http2_is_told_to_go_away_and_its_running_stream_ends() {
    let server = serve(listen(), limits()).await;
    let mut idle = {
        let io = TokioIo::new(server.connect().await);
        let (client, connection) = http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), io).await.unwrap();
        (client, tokio::spawn(connection))
    };
    let io = TokioIo::new(server.connect().await);
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get("http://media.example/busy").body(Empty::<Bytes>::new()).unwrap();
    let answer = tokio::spawn(client.send_request(request));
    let _ = in_time(server.app.entered.acquire()).await;
    idle.0.ready().await.unwrap();
    eventually(|| server.shared.lifecycle.in_flight() >= 3).await;
    server.stop.send_replace(true);
    in_time(&mut idle.1).await.unwrap().unwrap();
    server.app.gate.add_permits(1);
    let answer = in_time(answer).await.unwrap().unwrap();
    assert!(answer.into_body().collect().await.is_ok());
    in_time(connection).await.unwrap().unwrap();
    in_time(server.shared.lifecycle.drained()).await;
}

#[tokio::test]
async fn a_request_whose_head_has_begun_is_still_answered() {
    let mut server = serve(listen(), limits()).await;
    let mut client = server.connect().await;
    get(&mut client, "/").await;
    client.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    let mut other = server.connect().await;
    get(&mut other, "/").await;
    server.stop.send_replace(true);
    in_time(&mut server.running).await.unwrap();
    assert_eq!(read_all(&mut other).await, "");
    client.write_all(b"st: a\r\n\r\n").await.unwrap();
    let answer = read_all(&mut client).await;
    assert!(answer.contains(" 200 ") && answer.to_ascii_lowercase().contains("connection: close"), "{answer:?}");
}
