//! One server of an origin: its name resolves, it accepts a connection and, over TLS, shows a certificate this origin's
//! settings accept. No request is sent.

use super::online::{Outcome, PROBE_TIMEOUT, Probe};
use crate::config::{HttpOrigin, Server, ServerAddress};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring::default_provider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

pub async fn connect(subject: &str, origin: &HttpOrigin, server: &Server) -> Probe {
    let limit = origin.timeouts.handshake.min(PROBE_TIMEOUT);
    let found = match timeout(limit, reach(origin, server)).await {
        Ok(found) => found,
        Err(_) => Err(format!("no answer within {} ms", limit.as_millis())),
    };
    Probe::new(subject, server.address.to_string(), found)
}

async fn reach(origin: &HttpOrigin, server: &Server) -> Result<(Outcome, String), String> {
    let (host, port) = match &server.address {
        ServerAddress::Unix(path) => {
            UnixStream::connect(path).await.map_err(|error| format!("cannot connect: {error}"))?;
            return Ok((Outcome::Good, "connected".to_owned()));
        }
        ServerAddress::Tcp { host, port } => (host, *port),
    };
    let addresses = lookup_host((host.as_str(), port)).await.map_err(|error| format!("cannot resolve: {error}"))?;
    let addresses = addresses.collect::<Vec<_>>();
    let stream = TcpStream::connect(addresses.as_slice()).await.map_err(|error| format!("cannot connect: {error}"))?;
    let peer = stream.peer_addr().map_or_else(|_| String::new(), |peer| format!(" to {peer}"));
    if !server.tls {
        return Ok((Outcome::Good, format!("connected{peer}")));
    }
    let config = client_config(origin)?;
    let name = server_name(origin, host)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.map_err(|error| format!("TLS failed{peer}: {error}"))?;
    let version = stream.get_ref().1.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS");
    Ok(if origin.tls.verify {
        (Outcome::Good, format!("connected{peer}, {version}, certificate verified"))
    } else {
        (Outcome::Warning, format!("connected{peer}, {version}, certificate not verified (tls.verify: false)"))
    })
}

/// `tls.server_name`, else `host` without its port, else the server's own name.
fn server_name(origin: &HttpOrigin, host: &str) -> Result<ServerName<'static>, String> {
    let authority = origin.host.as_deref().and_then(|host| host.parse::<http::uri::Authority>().ok());
    let from_host = authority.as_ref().map(|authority| authority.host().trim_matches(['[', ']']));
    let name = origin.tls.server_name.as_deref().or(from_host).unwrap_or(host).to_owned();
    ServerName::try_from(name).map_err(|_| "its name cannot stand in a certificate; set tls.server_name".to_owned())
}

fn client_config(origin: &HttpOrigin) -> Result<ClientConfig, String> {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    if !origin.tls.verify {
        let verifier = Arc::new(Unverified(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    match &origin.tls.ca {
        // The system's, as for the edge's own connections.
        None => {
            let system = rustls_native_certs::load_native_certs()
                .map_err(|error| format!("cannot read the system's authorities: {error}; install ca-certificates"))?;
            roots.add_parsable_certificates(system);
        }
        Some(path) => {
            let unreadable = |error: &dyn std::fmt::Display| format!("tls.ca {}: {error}", path.display());
            let authorities = CertificateDer::pem_file_iter(path)
                .and_then(|list| list.collect::<Result<Vec<_>, _>>())
                .map_err(|error| unreadable(&error))?;
            if roots.add_parsable_certificates(authorities).0 == 0 {
                return Err(unreadable(&"holds no usable certificate (PEM)"));
            }
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Accepts any certificate, for `tls.verify: false`; signatures are still checked, so the peer holds the key it shows.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
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
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, OriginKind};
    use tokio::net::TcpListener;

    fn config(origin: &str) -> Config {
        let text = format!("listen: [{{address: 127.0.0.1:0}}]\norigins: {{a: {origin}}}\nsites: [{{origin: a}}]\n");
        crate::config::from_str(&text, std::path::Path::new("/edge.yaml"), &|_| None).unwrap().config
    }

    async fn outcome(origin: &str) -> (Outcome, String) {
        let config = config(origin);
        let OriginKind::Http(http) = &config.origins[0].kind else { panic!("an http origin") };
        let probe = connect("origin a", http, &http.servers[0]).await;
        (probe.outcome, probe.detail)
    }

    /// A TLS server for `localhost` on a free port, and its certificate as PEM.
    async fn tls_server() -> (u16, String) {
        let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let private = rustls_pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private.into())
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that refuses the certificate is part of the test.
                let _ = acceptor.accept(stream).await;
            }
        });
        (port, key.cert.pem())
    }

    #[tokio::test]
    async fn a_server_is_reached_or_the_reason_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let origin = format!("{{kind: http, servers: [\"http://127.0.0.1:{port}\"]}}");
        assert_eq!(outcome(&origin).await.0, Outcome::Good);
        drop(listener);
        let (found, detail) = outcome(&origin).await;
        assert!(found == Outcome::Failed && detail.contains("cannot connect"), "{detail}");
        // Unresolvable, or the resolver itself out of reach: either way a failure.
        let name = "{kind: http, servers: [\"http://reelgate.invalid\"], timeouts: {connect: 1s, handshake: 1s}}";
        assert_eq!(outcome(name).await.0, Outcome::Failed);
    }

    #[tokio::test]
    async fn a_certificate_is_verified_as_the_origin_says() {
        let (port, pem) = tls_server().await;
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, pem).unwrap();
        let origin = |tls: &str| {
            format!("{{kind: http, servers: [\"https://127.0.0.1:{port}\"], tls: {{server_name: localhost{tls}}}}}")
        };
        let (found, detail) = outcome(&origin("")).await;
        assert!(found == Outcome::Failed && detail.contains("TLS failed"), "{detail}");
        assert_eq!(outcome(&origin(", verify: false")).await.0, Outcome::Warning);
        let (found, detail) = outcome(&origin(&format!(", ca: {}", ca.display()))).await;
        assert!(found == Outcome::Good && detail.contains("verified"), "{detail}");
    }
}
