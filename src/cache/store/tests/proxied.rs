//! The store under Pingora's real proxy, on real sockets: what clients see when fills are followed, abandoned or cut off.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use pingora_cache::lock::CacheKeyLockImpl;
use pingora_cache::{ForcedFreshness, RespCacheable};
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{HttpProxy, ProxyHttp, Session, http_proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::super::super::collapse;
use super::*;

const BYTES: usize = 300_000;
const COLLAPSE_TIMEOUT: Duration = Duration::from_secs(20);

struct Edge {
    store: &'static MemoryStore,
    lock: &'static CacheKeyLockImpl,
    origin: SocketAddr,
    followers: Arc<AtomicUsize>,
}

#[async_trait]
impl ProxyHttp for Edge {
    type CTX = ();
    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.origin, false, String::new())))
    }

    fn request_cache_filter(&self, session: &mut Session, _: &mut ()) -> Result<()> {
        let overrides = collapse::overrides(COLLAPSE_TIMEOUT);
        session.cache.enable(self.store, None, None, Some(self.lock), Some(overrides));
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, _: &mut ()) -> Result<CacheKey> {
        Ok(key(session.req_header().uri.path()))
    }

    async fn cache_hit_filter(
        &self,
        _: &mut Session,
        _: &CacheMeta,
        hit: &mut HitHandler,
        _: bool,
        _: &mut (),
    ) -> Result<Option<ForcedFreshness>> {
        self.followers.fetch_add(usize::from(follows_fill(hit)), Ordering::Relaxed);
        Ok(None)
    }

    fn response_cache_filter(&self, _: &Session, response: &ResponseHeader, _: &mut ()) -> Result<RespCacheable> {
        let now = SystemTime::now();
        Ok(RespCacheable::Cacheable(CacheMeta::new(now + Duration::from_secs(60), now, 0, 0, response.clone())))
    }
}

/// An origin whose paths say what it does: `chunked` or with a length; `dies` half way. Each body stops after its first
/// quarter until the test lets it go on.
struct Origin {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    go_on: Arc<Semaphore>,
}

async fn origin() -> Origin {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (requests, go_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let address = listener.local_addr().expect("bound");
    let (counted, gate) = (Arc::clone(&requests), Arc::clone(&go_on));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer(stream, Arc::clone(&gate)));
        }
    });
    Origin { address, requests, go_on }
}

async fn answer(mut stream: TcpStream, gate: Arc<Semaphore>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let (chunked, dies) = (head.contains("chunked"), head.contains("dies"));
    let framing = if chunked { "Transfer-Encoding: chunked".into() } else { format!("Content-Length: {BYTES}") };
    stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    for (at, piece) in body(9, BYTES).chunks(BYTES / 16).enumerate() {
        if at == 4 {
            let _permit = gate.acquire().await;
        }
        if at == 8 && dies {
            return Ok(());
        }
        if chunked {
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        }
        stream.write_all(piece).await?;
        if chunked {
            stream.write_all(b"\r\n").await?;
        }
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    stream.shutdown().await
}

async fn edge(store: &'static MemoryStore, origin: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let followers = Arc::new(AtomicUsize::new(0));
    let edge = Edge { store, lock: collapse::lock(COLLAPSE_TIMEOUT, store), origin, followers: Arc::clone(&followers) };
    let proxy: Arc<HttpProxy<Edge>> = Arc::new(http_proxy(&Arc::new(ServerConf::default()), edge));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (_alive, shutdown) = tokio::sync::watch::channel(false);
        while let Ok((stream, _)) = listener.accept().await {
            let (proxy, shutdown) = (Arc::clone(&proxy), shutdown.clone());
            tokio::spawn(async move {
                let stream: Stream = Box::new(pingora_core::protocols::l4::stream::Stream::from(stream));
                proxy.process_new_http(ServerSession::new_http1(stream), &shutdown).await;
            });
        }
    });
    (address, followers)
}

struct Client(TcpStream);

impl Client {
    async fn ask(edge: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(edge).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        Self(stream)
    }

    /// The body, and whether its framing says that it is whole.
    async fn answer(mut self) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(30), self.0.read_to_end(&mut all)).await;
        let _ = read.expect("the answer ends");
        let head = all.windows(4).position(|four| four == b"\r\n\r\n").map_or(all.len(), |at| at + 4);
        let mut rest = &all[head..];
        if !String::from_utf8_lossy(&all[..head]).to_ascii_lowercase().contains("transfer-encoding: chunked") {
            return (rest.to_vec(), rest.len() == BYTES);
        }
        let mut decoded = Vec::new();
        while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
            let size = std::str::from_utf8(&rest[..line]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
            let Some(size) = size else { break };
            if size == 0 {
                return (decoded, true);
            }
            decoded.extend_from_slice(&rest[line + 2..rest.len().min(line + 2 + size)]);
            rest = rest.get(line + 4 + size..).unwrap_or_default();
        }
        (decoded, false)
    }
}

/// Several clients of a path whose fill stops at a quarter: the first, then two more once the fill runs.
async fn three_clients(store: &'static MemoryStore, path: &str) -> (Origin, SocketAddr, Vec<Client>, Arc<AtomicUsize>) {
    let origin = origin().await;
    let (edge, followers) = edge(store, origin.address).await;
    let mut clients = vec![Client::ask(edge, path).await];
    let filling = async || store.contains(&key(path).to_compact()).is_some_and(|info| info.body_bytes > 0);
    eventually("the fill runs", filling).await;
    for _ in 0..2 {
        clients.push(Client::ask(edge, path).await);
    }
    eventually("two follow", async || followers.load(Ordering::Relaxed) == 2).await;
    (origin, edge, clients, followers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_fetch_serves_all_who_ask_meanwhile() {
    for path in ["/length", "/chunked"] {
        let store = store(1 << 22, 1 << 21);
        let (origin, edge, clients, _) = three_clients(store, path).await;
        origin.go_on.add_permits(1);
        for client in clients {
            assert_eq!(client.answer().await, (body(9, BYTES), true));
        }
        assert_eq!(Client::ask(edge, path).await.answer().await, (body(9, BYTES), true));
        assert_eq!(origin.requests.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_that_dies_aborts_every_client_and_leaves_nothing() {
    for path in ["/length/dies", "/chunked/dies"] {
        let store = store(1 << 22, 1 << 21);
        let (origin, _, clients, _) = three_clients(store, path).await;
        origin.go_on.add_permits(1);
        for client in clients {
            let (got, whole) = client.answer().await;
            assert!(!whole && body(9, BYTES).starts_with(&got), "{path}");
        }
        eventually("it is forgotten", async || store.stats().bytes == 0).await;
        assert_eq!(fills(store, "cancelled"), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_does_not_stop_the_fill() {
    let store = store(1 << 22, 1 << 21);
    let (origin, _, mut clients, _) = three_clients(store, "/chunked").await;
    drop(clients.remove(0));
    origin.go_on.add_permits(1);
    for client in clients {
        assert_eq!(client.answer().await, (body(9, BYTES), true));
    }
    eventually("it is stored", async || fills(store, "complete") == 1).await;
}

/// Without a length nobody knows that it is too large until it is: the first client must not pay for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_client_of_a_body_too_large_to_keep_gets_all_of_it() {
    let store = store(1 << 22, 150_000);
    let (origin, edge, mut clients, _) = three_clients(store, "/chunked").await;
    origin.go_on.add_permits(1);
    let first = clients.remove(0);
    assert_eq!(first.answer().await, (body(9, BYTES), true));
    for follower in clients {
        let (got, whole) = follower.answer().await;
        assert!(!whole && body(9, BYTES).starts_with(&got));
    }
    assert!(store.is_too_large(&key("/chunked").to_compact()));
    assert_eq!(Client::ask(edge, "/chunked").await.answer().await, (body(9, BYTES), true), "relayed from now on");
    eventually("nothing is kept", async || store.stats().bytes == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_a_length_too_large_is_relayed_to_everyone() {
    let store = store(1 << 22, 150_000);
    let origin = origin().await;
    let (edge, _) = edge(store, origin.address).await;
    origin.go_on.add_permits(1);
    for _ in 0..2 {
        assert_eq!(Client::ask(edge, "/length").await.answer().await, (body(9, BYTES), true));
    }
    assert_eq!((fills(store, "too_large"), store.stats().bytes), (2, 0));
}
