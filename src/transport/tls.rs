//! rustls for a listener: TLS 1.2 and 1.3 (QUIC: 1.3 only), ALPN of the protocols the listener speaks, session tickets with rotating
//! keys. No 0-RTT: replayed requests would reach origins (RFC 8470).

use super::certificates::Certificates;
use crate::config::Protocols;
use pingora_core::listeners::tls::Acceptor;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::ServerConfig;
use std::sync::Arc;

/// The error is rustls' own; it cannot happen with the provider that is compiled in.
pub(super) fn acceptor(certificates: Arc<Certificates>, protocols: Protocols) -> Result<Acceptor, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.max_early_data_size = 0;
    if protocols.http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    if protocols.http1 {
        config.alpn_protocols.push(b"http/1.1".to_vec());
    }
    Ok(Acceptor::from_server_config(Arc::new(config)))
}

/// The same for QUIC.
pub(super) fn quic(certificates: Arc<Certificates>) -> Result<QuicServerConfig, Box<dyn std::error::Error>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.max_early_data_size = 0;
    config.alpn_protocols.push(b"h3".to_vec());
    Ok(QuicServerConfig::try_from(config)?)
}
