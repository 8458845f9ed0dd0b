//! h3load: as many GETs of one path over HTTP/3 as a server answers, for `benches/http3`: Debian's h2load speaks no HTTP/3.
//!
//!   h3load ADDRESS PATH CONNECTIONS STREAMS SECONDS
//!
//! prints `requests N bytes N seconds S`. Any certificate will do. An answer other than 200 ends it with an error.

mod anyone;

use anyone::Failure;
use bytes::Buf;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    bytes: AtomicU64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, connections, streams, seconds] = &given[..] else {
        return Err("usage: h3load ADDRESS PATH CONNECTIONS STREAMS SECONDS".into());
    };
    let address: SocketAddr = address.parse()?;
    let (connections, streams): (usize, usize) = (connections.parse()?, streams.parse()?);
    let until = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse()?)?;
    endpoint.set_default_client_config(anyone::quic()?);
    let counts = Arc::new(Counts::default());
    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let connection = endpoint.connect(address, "localhost")?.await?;
        let (mut driver, sender) = h3::client::new(h3_quinn::Connection::new(connection)).await?;
        tokio::spawn(async move { driver.wait_idle().await });
        for _ in 0..streams {
            let (mut sender, counts) = (sender.clone(), Arc::clone(&counts));
            let uri = format!("https://localhost{path}");
            running.spawn(async move {
                while Instant::now() < until {
                    let mut stream = sender.send_request(http::Request::get(&uri).body(())?).await?;
                    stream.finish().await?;
                    let answer = stream.recv_response().await?;
                    if answer.status() != 200 {
                        return Err(format!("status {}", answer.status()).into());
                    }
                    let mut bytes = 0;
                    while let Some(data) = stream.recv_data().await? {
                        bytes += data.remaining() as u64;
                    }
                    counts.requests.fetch_add(1, Ordering::Relaxed);
                    counts.bytes.fetch_add(bytes, Ordering::Relaxed);
                }
                Ok::<(), Failure>(())
            });
        }
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    let (requests, bytes) = (counts.requests.load(Ordering::Relaxed), counts.bytes.load(Ordering::Relaxed));
    println!("requests {requests} bytes {bytes} seconds {:.3}", began.elapsed().as_secs_f64());
    Ok(())
}
