//! fetch: one object a few times at once over one new connection, by HTTP/2 or HTTP/3, for `benches/link`.
//!
//!   fetch h2|h3 ADDRESS PATH STREAMS SECONDS_MAX
//!
//! prints `seconds S bytes N handshake S`, the seconds from before the handshake to the last byte, or SECONDS_MAX and what came by then.
//! Any certificate will do. An answer other than 200 ends it with an error. Both have windows that never hold anything up.

mod anyone;

use anyone::Failure;
use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 128 << 20;

/// What came, and how long the handshake took.
#[derive(Debug, Default)]
struct Told {
    bytes: AtomicU64,
    handshake_us: AtomicU64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [protocol, address, path, streams, seconds_max] = &given[..] else {
        return Err("usage: fetch h2|h3 ADDRESS PATH STREAMS SECONDS_MAX".into());
    };
    let (address, streams): (SocketAddr, usize) = (address.parse()?, streams.parse()?);
    let most = Duration::from_secs_f64(seconds_max.parse()?);
    let told = Arc::new(Told::default());
    let uri = format!("https://localhost{path}");
    let began = Instant::now();
    let fetched = async {
        if protocol == "h3" {
            over_http3(address, &uri, streams, &told, began).await
        } else {
            over_http2(address, &uri, streams, &told, began).await
        }
    };
    let ended = tokio::time::timeout(most, fetched).await;
    let seconds = ended.map_or(Ok(most), |fetched| fetched.map(|()| began.elapsed()))?.as_secs_f64();
    let handshake = told.handshake_us.load(Ordering::Relaxed) as f64 / 1e6;
    println!("seconds {seconds:.4} bytes {} handshake {handshake:.4}", told.bytes.load(Ordering::Relaxed));
    Ok(())
}

impl Told {
    fn connected(&self, began: Instant) {
        self.handshake_us.store(began.elapsed().as_micros() as u64, Ordering::Relaxed);
    }

    fn came(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

fn expect_ok(status: http::StatusCode) -> Result<(), Failure> {
    if status == 200 { Ok(()) } else { Err(format!("status {status}").into()) }
}

async fn over_http3(
    address: SocketAddr,
    uri: &str,
    streams: usize,
    told: &Arc<Told>,
    began: Instant,
) -> Result<(), Failure> {
    let mut settings = anyone::quic()?;
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(STREAM_WINDOW_BYTES.into()).receive_window(CONNECTION_WINDOW_BYTES.into());
    settings.transport_config(Arc::new(transport));
    let mut endpoint = quinn::Endpoint::client("0.0.0.0:0".parse()?)?;
    endpoint.set_default_client_config(settings);
    let connection = endpoint.connect(address, "localhost")?.await?;
    told.connected(began);
    let (mut driver, sender) = h3::client::new(h3_quinn::Connection::new(connection)).await?;
    tokio::spawn(async move { driver.wait_idle().await });
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..streams {
        let (mut sender, told, request) = (sender.clone(), Arc::clone(told), http::Request::get(uri).body(())?);
        running.spawn(async move {
            let mut stream = sender.send_request(request).await?;
            stream.finish().await?;
            expect_ok(stream.recv_response().await?.status())?;
            while let Some(data) = stream.recv_data().await? {
                told.came(data.remaining());
            }
            Ok::<(), Failure>(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

async fn over_http2(
    address: SocketAddr,
    uri: &str,
    streams: usize,
    told: &Arc<Told>,
    began: Instant,
) -> Result<(), Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(anyone::tls("h2")?));
    let stream = connector.connect(ServerName::try_from("localhost")?, stream).await?;
    told.connected(began);
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..streams {
        let request = http::Request::get(uri).body(Empty::<Bytes>::new())?;
        let (mut sender, told) = (sender.clone(), Arc::clone(told));
        running.spawn(async move {
            let mut answer = sender.send_request(request).await?;
            expect_ok(answer.status())?;
            while let Some(frame) = answer.frame().await {
                told.came(frame?.data_ref().map_or(0, Bytes::len));
            }
            Ok::<(), Failure>(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}
