//! The same, with Pingora's own proxy as the application: its phases and its way of stopping.

use super::harness::*;
use crate::config::Limits;
use crate::transport::{Listener, connection};
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{ProxyHttp, Session, http_proxy};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

struct Answering;

#[async_trait]
impl ProxyHttp for Answering {
    type CTX = ();
    fn new_ctx(&self) {}

    async fn early_request_filter(&self, session: &mut Session, (): &mut ()) -> Result<()> {
        connection(session.digest().expect("a client's session")).expect("ours").request_begun();
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, (): &mut ()) -> Result<bool> {
        while session.read_request_body().await?.is_some() {}
        let mut header = ResponseHeader::build(200, None)?;
        header.insert_header("content-length", 2)?;
        session.write_response_header(Box::new(header), false).await?;
        session.write_response_body(Some(Bytes::from_static(b"ok")), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Error::e_explain(ErrorType::InternalError, "never asked")
    }
}

#[tokio::test]
async fn pingoras_proxy_keeps_connections_bounds_heads_and_stops_at_once() {
    let shared = shared(Limits { header_timeout: Duration::from_millis(400), ..limits() });
    let listener = Listener::bind(&listen(), Arc::clone(&shared)).unwrap();
    let address = listener.local_address().unwrap();
    let (stop, stopped) = watch::channel(false);
    let app = Arc::new(http_proxy(&Arc::new(ServerConf::default()), Answering));
    let running = tokio::spawn(listener.run(app, stopped));

    let mut kept = TcpStream::connect(address).await.unwrap();
    let post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    for _ in 0..3 {
        assert!(get(&mut kept, "/").await.ends_with("ok"));
        kept.write_all(post).await.unwrap();
        assert!(read_response(&mut kept).await.ends_with("ok"));
    }
    let mut slow = TcpStream::connect(address).await.unwrap();
    assert!(get(&mut slow, "/").await.ends_with("ok"));
    slow.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
    assert!(read_all(&mut slow).await.starts_with("HTTP/1.1 408 "));

    stop.send_replace(true);
    in_time(running).await.unwrap();
    assert_eq!(read_all(&mut kept).await, "");
    in_time(shared.lifecycle.drained()).await;
}
