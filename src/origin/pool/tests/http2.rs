//! HTTP/2 to the origin in clear, by prior knowledge.

use std::convert::Infallible;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

/// Serves HTTP/2 only; a request for `/health` is refused with 500.
async fn h2_server() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let respond = service_fn(async |request: hyper::Request<hyper::body::Incoming>| {
                assert_eq!(request.version(), hyper::Version::HTTP_2);
                let status = if request.uri().path() == "/health" { 500 } else { 200 };
                let body = http_body_util::Full::new(bytes::Bytes::from_static(b"ok"));
                Ok::<_, Infallible>(hyper::Response::builder().status(status).body(body).unwrap())
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), respond));
        }
    });
    (address, task)
}

#[tokio::test]
async fn requests_share_a_connection_and_checks_speak_it_too() {
    let (address, task) = h2_server().await;
    let mut settings = settings(vec![server(address)]);
    settings.protocol = OriginProtocol::Http2;
    settings.health.active = Some(ActiveHealth {
        path: "/health".to_owned(),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(2),
        healthy_threshold: 1,
        unhealthy_threshold: 3,
        status: 200..=299,
    });
    let pool = pool(settings);
    let connector = Connector::new(None);
    for _ in 0..3 {
        assert_eq!(request(&pool, &connector, 0).await.unwrap().0, 200);
    }
    let text = pool.metrics().render();
    assert!(text.contains(r#"reelgate_origin_connections_total{origin="media",reused="true"} 2"#), "{text}");
    let (_stop, shutdown) = watch::channel(false);
    let work = tokio::spawn(pool.run(shutdown));
    eventually("down by its status", async || !pool.status().servers[0].up).await;
    work.abort();
    task.abort();
}
