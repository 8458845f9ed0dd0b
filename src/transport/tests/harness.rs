//! A listener on port 0 with a small application, and clients for it.

use crate::config::{Certificate, Limits, Listen, ListenAddress, Protocols};
use crate::observe::{Lifecycle, Metrics};
use crate::transport::{Certificates, Lane, Listener, Shared, Workers, connection};
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use pingora_http::ResponseHeader;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Nothing here takes longer unless it hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn limits() -> Limits {
    Limits {
        header_bytes_max: 8192,
        header_count_max: 100,
        header_timeout: Duration::from_secs(10),
        handshake_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(30),
        stall_timeout: Duration::from_secs(10),
        upgrade_idle_timeout: Duration::from_secs(60),
        connections_max: 100,
        connections_per_address_max: 50,
        requests_per_connection_max: 0,
        http2_streams_max: 100,
        http2_pending_resets_max: 20,
        http3_streams_max: 100,
        http3_resets_max: 20,
        http3_handshakes_max: 64,
        resumes_max: 64,
        addresses_max: 1000,
    }
}

pub(super) fn listen() -> Listen {
    Listen {
        address: ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()),
        tls: Vec::new(),
        protocols: Protocols { http1: true, http2: true },
        http3: false,
        alt_svc_port: None,
        proxy_protocol: false,
    }
}

pub(super) fn self_signed() -> Listen {
    Listen { tls: vec![Certificate::SelfSigned], ..listen() }
}

/// Answers each request with what the connection says of itself. `/busy` waits until `gate` lets it; `/endless` never stops.
#[derive(Debug)]
pub(super) struct Teller {
    pub(super) gate: Semaphore,
    pub(super) entered: Semaphore,
}

#[async_trait]
impl HttpServerApp for Teller {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        match session.read_request().await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(_) => {
                let _ = session.respond_error(400).await;
                return None;
            }
        }
        let facts = Arc::clone(connection(session.digest()?)?);
        facts.request_begun();
        if *shutdown.borrow() {
            session.set_keepalive(None);
        }
        while session.read_request_body().await.ok()?.is_some() {}
        let path = session.req_header().uri.path().to_owned();
        if path == "/busy" {
            self.entered.add_permits(1);
            let _ = self.gate.acquire().await;
        }
        let mut header = ResponseHeader::build(200, None).unwrap();
        if path == "/endless" {
            session.write_response_header(Box::new(header)).await.ok()?;
            loop {
                session.write_response_body(Bytes::from_static(&[0; 65536]), false).await.ok()?;
            }
        }
        let body = format!(
            "client={:?} local_port={:?} tls={} protocol={:?} pingora={:?}",
            facts.client.map(|client| client.to_string()),
            facts.local_port(),
            facts.tls,
            facts.protocol,
            session.client_addr().map(ToString::to_string),
        );
        header.insert_header("content-length", body.len()).unwrap();
        session.write_response_header(Box::new(header)).await.ok()?;
        session.write_response_body(body.into(), true).await.ok()?;
        let settings = HttpPersistentSettings::for_session(&session);
        let reusable = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
    }
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) app: Arc<Teller>,
    pub(super) shared: Arc<Shared>,
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) running: tokio::task::JoinHandle<()>,
}

pub(super) fn shared(limits: Limits) -> Arc<Shared> {
    shared_with(limits, None)
}

pub(super) fn shared_with(limits: Limits, lane: Option<Arc<dyn Lane>>) -> Arc<Shared> {
    let trusted = vec!["127.0.0.0/8".parse().unwrap()];
    Shared::new(
        limits,
        trusted,
        vec!["media.example".to_owned()],
        Arc::default(),
        Arc::new(Lifecycle::default()),
        Workers::start(1).expect("a thread"),
        lane,
    )
}

pub(super) async fn serve(listen: Listen, limits: Limits) -> Server {
    serve_with(listen, shared(limits))
}

pub(super) fn serve_with(listen: Listen, shared: Arc<Shared>) -> Server {
    let listener = Listener::bind(&listen, Arc::clone(&shared)).unwrap();
    let address = listener.local_address().unwrap_or_else(|| "0.0.0.0:0".parse().unwrap());
    let certificates = listener.certificates();
    let app = Arc::new(Teller { gate: Semaphore::new(0), entered: Semaphore::new(0) });
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(listener.run(Arc::clone(&app), stopped));
    Server { address, app, shared, certificates, stop, running }
}

impl Server {
    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(super) fn limit_reached(&self, limit: &str) -> u64 {
        self.metrics().limits_reached.with_label_values(&[limit]).get()
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }
}

pub(super) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it hangs")
}

pub(super) async fn eventually(what: impl Fn() -> bool) {
    in_time(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Everything until the end; a reset counts as one.
pub(super) async fn read_all<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut all = Vec::new();
    let _ = in_time(stream.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}

/// One response with a `Content-Length`.
pub(super) async fn read_response<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        let mut chunk = [0; 4096];
        let read = in_time(stream.read(&mut chunk)).await.unwrap();
        assert_ne!(read, 0, "the connection ended after {text:?}");
        text.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
    }
}

pub(super) async fn get<S: AsyncRead + AsyncWriteExt + Unpin>(stream: &mut S, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: media.example\r\n\r\n").as_bytes()).await.unwrap();
    read_response(stream).await
}

/// Believes every certificate; tests look at it themselves.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

pub(super) async fn tls(stream: TcpStream, name: &str, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    in_time(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}
