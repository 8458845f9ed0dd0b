//! Pools against real sockets: servers that answer, refuse, hang or reset, over TCP, TLS and unix sockets. Picks are driven
//! with Pingora's own connector, as the edge does.

use std::sync::atomic::AtomicU16;

use pingora_http::RequestHeader;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config::{ActiveHealth, OriginProtocol, OriginTimeouts, OriginTls};
use crate::origin::failure::Failure;
use crate::origin::{BreakerStatus, Exchange, Origins};

mod faults;
mod http2;
mod reload;
mod tls;

/// A server that answers every request with its current status; 0 closes the connection instead.
struct TestServer {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    task: tokio::task::JoinHandle<()>,
}

impl TestServer {
    async fn start(status: u16) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), status)
    }

    fn on(listener: TcpListener, status: u16) -> Self {
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(status));
        let current = Arc::clone(&status);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&current)));
            }
        });
        Self { address, status, task }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers requests without bodies on one connection.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, status: Arc<AtomicU16>) {
    let mut request = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut request).await {
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        request.clear();
        let status = status.load(Ordering::Relaxed);
        if status == 0 {
            return;
        }
        let response = format!("HTTP/1.1 {status} Test\r\nContent-Length: 2\r\n\r\nok");
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// An address where nobody listens.
async fn refusing() -> SocketAddr {
    // Not 127.0.0.1, where a test next door may be given the port that this one leaves.
    TcpListener::bind("127.0.0.3:0").await.unwrap().local_addr().unwrap()
}

fn server(address: SocketAddr) -> Server {
    let address = ServerAddress::Tcp { host: address.ip().to_string(), port: address.port() };
    Server { address, tls: false, weight: 1 }
}

/// Settings that react within a test's patience; no active checks, a breaker that hardly opens.
fn settings(servers: Vec<Server>) -> HttpOrigin {
    HttpOrigin {
        servers,
        host: None,
        balance: Balance::RoundRobin,
        protocol: OriginProtocol::Auto,
        tls: OriginTls { verify: true, ca: None, server_name: None },
        timeouts: OriginTimeouts {
            connect: Duration::from_secs(2),
            handshake: Duration::from_secs(2),
            first_byte: Duration::from_secs(10),
            read: Duration::from_secs(5),
            write: Duration::from_secs(2),
        },
        retry: config::Retry { attempts_max: 2, budget_ratio: 0.2, budget_per_second_min: 100 },
        health: config::Health { active: None, passive_failures: 2, passive_ejection: Duration::from_millis(300) },
        breaker: config::Breaker {
            enabled: true,
            failure_ratio: 0.9,
            requests_min: 1000,
            window: Duration::from_secs(10),
            open: Duration::from_millis(300),
        },
        dns_interval: Duration::from_secs(30),
        keepalive_idle: Duration::from_secs(10),
        add_renditions: None,
    }
}

fn pool(settings: HttpOrigin) -> Arc<Pool> {
    Pool::new("media", &settings, Arc::new(Metrics::new())).unwrap()
}

/// The edge's part: picks, connects, asks, retries as the pool allows. The last status, failure or unavailability.
async fn request(pool: &Arc<Pool>, connector: &Connector, hash: u64) -> Result<(u16, String), Outcome> {
    let mut tried = Tried::default();
    loop {
        let mut pick = pool.pick(hash, &mut tried).await.map_err(Outcome::Unavailable)?;
        match exchange(connector, &mut pick).await {
            Ok(status) => return Ok((status, pick.address())),
            Err(failure) if pool.may_retry(&mut tried, failure, true) => {}
            Err(failure) => return Err(Outcome::Failed(failure)),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Unavailable(Unavailable),
    Failed(Failure),
}

/// One try, judged as the edge judges it.
async fn exchange(connector: &Connector, pick: &mut Pick) -> Result<u16, Failure> {
    let peer = pick.peer(Exchange::Ordinary);
    let began = Instant::now();
    let (mut session, reused) = match connector.get_http_session(&*peer).await {
        Ok(connected) => connected,
        Err(mut error) => {
            error.as_up();
            return Err(fail(pick, &error, false));
        }
    };
    pick.connected((!reused).then(|| began.elapsed()));
    session.set_read_timeout(peer.options.read_timeout);
    let result = async {
        let mut header = RequestHeader::build("GET", b"/", None)?;
        header.insert_header("host", "media.test")?;
        session.write_request_header(Box::new(header)).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        let status = session.response_header().unwrap().status.as_u16();
        pick.succeeded(status, began.elapsed());
        while session.read_response_body().await?.is_some() {}
        Ok(status)
    };
    match result.await {
        Ok(status) => {
            connector.release_http_session(session, &*peer, peer.options.idle_timeout).await;
            Ok(status)
        }
        Err(error) => {
            let mut error: Box<pingora_error::Error> = error;
            error.as_up();
            Err(fail(pick, &error, reused))
        }
    }
}

fn fail(pick: &mut Pick, error: &pingora_error::Error, reused: bool) -> Failure {
    let failure = Failure::of(error, reused).unwrap_or_else(|| panic!("an upstream error: {error}"));
    pick.failed(failure);
    failure
}

/// Polls until `ready`, for at most ten seconds.
async fn eventually(what: &str, mut ready: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ready().await {
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_dropped_pick_gives_back_what_it_held() {
    let server = TestServer::start(200).await;
    let pool = pool(settings(vec![self::server(server.address)]));
    let picks =
        [pool.pick(0, &mut Tried::default()).await.unwrap(), pool.pick(0, &mut Tried::default()).await.unwrap()];
    assert_eq!(pool.status().in_flight, 2);
    drop(picks);
    assert_eq!(pool.status().in_flight, 0);
}

#[tokio::test]
async fn weights_hold_over_real_picks() {
    let mut servers = vec![server("127.0.0.1:1".parse().unwrap()), server("127.0.0.1:2".parse().unwrap())];
    servers[0].weight = 3;
    let pool = pool(settings(servers));
    let mut first = 0;
    for _ in 0..40 {
        first += u32::from(pool.pick(0, &mut Tried::default()).await.unwrap().server() == "127.0.0.1:1");
    }
    assert_eq!(first, 30);
}

#[tokio::test]
async fn least_requests_goes_where_nobody_is() {
    let servers = (1..4).map(|port| server(SocketAddr::from(([127, 0, 0, 1], port)))).collect();
    let pool = pool(HttpOrigin { balance: Balance::LeastRequests, ..settings(servers) });
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(pool.pick(0, &mut Tried::default()).await.unwrap());
    }
    let in_flight: Vec<_> = pool.status().servers.iter().map(|server| server.addresses[0].in_flight).collect();
    assert_eq!(in_flight, [2, 2, 2]);
}

#[tokio::test]
async fn a_key_stays_with_its_server_and_moves_only_when_that_is_down() {
    let live = TestServer::start(200).await;
    let other = TestServer::start(200).await;
    let pool =
        pool(HttpOrigin { balance: Balance::Hash, ..settings(vec![server(live.address), server(other.address)]) });
    let connector = Connector::new(None);
    let home = request(&pool, &connector, 42).await.unwrap().1;
    for _ in 0..5 {
        assert_eq!(request(&pool, &connector, 42).await.unwrap().1, home);
    }
    let (down, stays) = if live.address.to_string() == home { (live, &other) } else { (other, &live) };
    let (status, task) = (Arc::clone(&down.status), down.task.abort_handle());
    status.store(0, Ordering::Relaxed);
    task.abort();
    assert_eq!(request(&pool, &connector, 42).await.unwrap().1, stays.address.to_string());
}

#[tokio::test]
async fn a_unix_socket_is_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("library.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, Arc::new(AtomicU16::new(200))));
        }
    });
    let pool = Pool::for_socket("films", path, Arc::new(Metrics::new())).unwrap();
    let connector = Connector::new(None);
    assert_eq!(request(&pool, &connector, 0).await.unwrap().0, 200);
    assert_eq!(request(&pool, &connector, 0).await.unwrap().0, 200, "on the kept connection");
    let text = pool.metrics().render();
    assert!(text.contains(r#"reelgate_origin_connections_total{origin="films",reused="true"} 1"#), "{text}");
    task.abort();
}

#[tokio::test]
async fn localhost_works_whatever_families_it_has() {
    // ::1 and 127.0.0.1 on most machines, 127.0.0.1 alone on some; only the latter listens.
    let live = TestServer::start(200).await;
    let address = ServerAddress::Tcp { host: "localhost".to_owned(), port: live.address.port() };
    let pool = pool(settings(vec![Server { address, tls: false, weight: 1 }]));
    let connector = Connector::new(None);
    for _ in 0..10 {
        assert_eq!(request(&pool, &connector, 0).await.unwrap().1, live.address.to_string());
    }
    assert!(pool.status().servers[0].up);
}

#[tokio::test]
async fn a_name_whose_first_address_refuses_falls_back_without_a_retry_and_then_prefers_what_connects() {
    let live = TestServer::start(200).await;
    let dead = SocketAddr::from(([127, 0, 0, 2], live.address.port()));
    let address = ServerAddress::Tcp { host: "media.test".to_owned(), port: live.address.port() };
    let mut settings = settings(vec![Server { address, tls: false, weight: 1 }]);
    settings.retry = config::Retry { attempts_max: 0, budget_ratio: 0.0, budget_per_second_min: 0 };
    settings.health.passive_failures = 5;
    settings.health.passive_ejection = Duration::from_secs(30);
    settings.breaker = config::Breaker { requests_min: 1, failure_ratio: 0.01, ..settings.breaker };
    let pool = pool(settings);
    pool.set_addresses(&[Some(vec![dead, live.address])]);
    pool.resolved_once.store(true, Ordering::Release);
    let connector = Connector::new(None);
    for _ in 0..10 {
        assert_eq!(request(&pool, &connector, 0).await, Ok((200, live.address.to_string())));
    }
    assert_eq!(pool.status().breaker, BreakerStatus::Closed, "the server answers at its other address");
    let text = pool.metrics().render();
    assert!(
        text.contains(r#"reelgate_origin_errors_total{origin="media",reason="connect"} 1"#),
        "set aside at once: {text}"
    );
}

#[tokio::test]
async fn a_name_nobody_knows_is_unavailable_and_counted() {
    let address = ServerAddress::Tcp { host: "no-such-host.invalid".to_owned(), port: 1 };
    let pool = pool(settings(vec![Server { address, tls: false, weight: 1 }]));
    let picked = pool.pick(0, &mut Tried::default()).await;
    assert_eq!(picked.unwrap_err(), Unavailable::NoHealthyServer);
    assert!(pool.metrics().render().contains(r#"reelgate_origin_errors_total{origin="media",reason="dns"} 1"#));
}

#[test]
fn addresses_that_stay_keep_their_health_when_a_name_changes() {
    let address = ServerAddress::Tcp { host: "media.test".to_owned(), port: 1 };
    let pool = pool(settings(vec![Server { address, tls: false, weight: 1 }]));
    let at = |last: u8| SocketAddr::from(([192, 0, 2, last], 1));
    let ids = || pool.endpoints.load().list.iter().map(|endpoint| endpoint.id).collect::<Vec<_>>();
    pool.set_addresses(&[Some(vec![at(1), at(2)])]);
    assert_eq!(ids(), [0, 1]);
    pool.set_addresses(&[None]);
    assert_eq!(ids(), [0, 1], "a look-up that failed changes nothing");
    pool.set_addresses(&[Some(vec![at(2), at(3)])]);
    assert_eq!(ids(), [1, 2]);
}
