//! TLS to the origin: what is verified, and that connections of other settings are not shared.

use std::path::Path;

use pingora_core::upstreams::peer::{ALPN, Peer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;

/// An authority, and a server with a certificate of it for `media.test`.
struct TlsServer {
    ca_pem: String,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl TlsServer {
    async fn start() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["media.test".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream, Arc::new(AtomicU16::new(200))).await;
                    }
                });
            }
        });
        Self { ca_pem: authority.pem(), address, task }
    }

    fn pool(&self, ca: Option<&Path>, host: Option<&str>, verify: bool) -> Arc<Pool> {
        let server = Server { tls: true, ..server(self.address) };
        pool(HttpOrigin {
            host: host.map(str::to_owned),
            tls: OriginTls { verify, ca: ca.map(Path::to_owned), server_name: None },
            ..settings(vec![server])
        })
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn only_a_certificate_of_the_authority_and_for_the_name_is_accepted() {
    let server = TlsServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &server.ca_pem).unwrap();
    let connector = Connector::new(None);
    let good = server.pool(Some(&ca), Some("media.test:443"), true);
    assert_eq!(request(&good, &connector, 0).await.unwrap().0, 200);
    for (pool, why) in [
        (server.pool(None, Some("media.test"), true), "an unknown authority"),
        (server.pool(Some(&ca), Some("other.test"), true), "another name"),
        (server.pool(Some(&ca), None, true), "an address the certificate does not name"),
    ] {
        assert_eq!(request(&pool, &connector, 0).await, Err(Outcome::Failed(Failure::Tls)), "{why}");
    }
    let careless = server.pool(None, None, false);
    assert_eq!(request(&careless, &connector, 0).await.unwrap().0, 200);
    // The connection made without verification is kept, and must not serve the one that verifies.
    let strict = server.pool(None, None, true);
    assert_eq!(request(&strict, &connector, 0).await, Err(Outcome::Failed(Failure::Tls)));
}

#[tokio::test]
async fn authorities_and_protocols_reach_the_peer() {
    let server = TlsServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &server.ca_pem).unwrap();
    let peer = async |pool: Arc<Pool>, exchange| pool.pick(0, &mut Tried::default()).await.unwrap().peer(exchange);
    let with = peer(server.pool(Some(&ca), None, true), Exchange::Ordinary).await;
    let without = peer(server.pool(None, None, true), Exchange::Ordinary).await;
    assert_ne!(with.reuse_hash(), without.reuse_hash(), "other authorities, other connections");
    assert_eq!(with.options.alpn, ALPN::H2H1);
    let idle = Duration::from_secs(600);
    let upgrade = peer(server.pool(None, None, true), Exchange::Upgrade { idle }).await;
    assert_eq!((&upgrade.options.alpn, upgrade.options.read_timeout), (&ALPN::H1, Some(idle)));
    let longest = settings(Vec::new()).timeouts.first_byte;
    assert_eq!(with.options.read_timeout, Some(longest), "the longer of first_byte and read");
}

#[test]
fn a_file_without_certificates_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("empty.pem", ""), ("text.pem", "hello")] {
        let ca = folder.path().join(name);
        std::fs::write(&ca, content).unwrap();
        let mut settings = settings(vec![server("127.0.0.1:1".parse().unwrap())]);
        settings.tls.ca = Some(ca);
        let error = Pool::new("media", &settings, Arc::new(Metrics::new())).unwrap_err().to_string();
        assert!(error.contains("media") && error.contains(name), "{error}");
    }
}
