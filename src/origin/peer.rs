//! How Pingora is to connect to a server: timeouts, protocol, TLS.

use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::tls::CaType;
use pingora_core::upstreams::peer::{ALPN, HttpPeer};
use pingora_core::utils::tls::{WrappedX509, parse_x509};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::PoolError;
use crate::config::{HttpOrigin, OriginProtocol, OriginTimeouts, OriginTls, Server, ServerAddress};

/// Requests at a time on one HTTP/2 connection to an origin (Pingora's default is 1).
const H2_STREAMS_MAX: usize = 100;
/// What may lie unread of one answer; less would slow a distant origin down. The connection's window is that of all its answers: Pingora's
/// default, one of 8 MiB for either, lets a client that stops reading hold up all others on its connection.
const H2_STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Finds HTTP/2 connections that died without a word.
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
/// Certificates in a file of authorities; a whole system's bundle holds about 150.
const AUTHORITIES_MAX: usize = 1024;

/// What kind of exchange a connection is for: it decides how long silence is borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// A request and its response. Pingora has one timeout for the first byte and for each read after it: the longer of
    /// the origin's two settings.
    Ordinary,
    /// Server-sent events and the like: long silences are normal.
    Stream { idle: Duration },
    /// A protocol upgrade (websocket): always over HTTP/1.1, with long silences both ways.
    Upgrade { idle: Duration },
}

/// The authorities of `tls.ca`, read once per pool.
#[derive(Debug, Clone, Default)]
pub(super) struct Authorities {
    certificates: Option<Arc<CaType>>,
    /// Changes when the file does, so that no connection verified by the old authorities is used again.
    pub fingerprint: u64,
}

impl Authorities {
    /// Those of `tls.ca`; without it, those of the system, or none where nothing is verified. Blocking.
    pub fn load(origin: &str, tls: &OriginTls) -> Result<Self, PoolError> {
        let Some(path) = &tls.ca else {
            return Ok(if tls.verify { Self::default() } else { Self::placeholder() });
        };
        Self::read(path).map_err(|reason| PoolError::Authorities {
            origin: origin.to_owned(),
            path: path.clone(),
            reason,
        })
    }

    /// One certificate that vouches for nothing. Pingora builds a verifier even where it then verifies nothing, and fails
    /// when there is no authority at all, as on a system without `ca-certificates`.
    fn placeholder() -> Self {
        let certificates = rcgen::generate_simple_self_signed(Vec::new())
            .ok()
            .map(|made| Arc::from([WrappedX509::new(made.cert.der().to_vec(), parse_x509)]));
        Self { certificates: certificates.map(|one: Arc<[_; 1]>| one as Arc<CaType>), fingerprint: 0 }
    }

    fn read(path: &Path) -> Result<Self, String> {
        let pem = std::fs::read(path).map_err(|error| error.to_string())?;
        let mut certificates = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let der = certificate.map_err(|error| format!("not PEM: {error}"))?;
            // `parse_x509` panics on what this refuses.
            x509_parser::parse_x509_certificate(&der).map_err(|error| format!("not a certificate: {error}"))?;
            if certificates.len() == AUTHORITIES_MAX {
                return Err(format!("more than {AUTHORITIES_MAX} certificates"));
            }
            certificates.push(WrappedX509::new(der.to_vec(), parse_x509));
        }
        if certificates.is_empty() {
            return Err("no certificate in it".to_owned());
        }
        let fingerprint = certificates.iter().map(|certificate| certificate.borrow_raw_cert()).fold(1, |state, der| {
            let mut hasher = ahash::AHasher::default();
            (state, der).hash(&mut hasher);
            hasher.finish()
        });
        Ok(Self { certificates: Some(certificates.into()), fingerprint })
    }
}

/// The settings of every connection to `server`. For a name the address is a placeholder until it is resolved.
pub(super) fn template(
    origin: &str,
    settings: &HttpOrigin,
    server: &Server,
    authorities: &Authorities,
) -> Result<HttpPeer, PoolError> {
    let name = server_name(origin, settings, server)?;
    let mut peer = match &server.address {
        ServerAddress::Tcp { port, .. } => HttpPeer::new((Ipv4Addr::UNSPECIFIED, *port), server.tls, name),
        ServerAddress::Unix(path) => {
            let error =
                |reason: String| PoolError::SocketPath { origin: origin.to_owned(), path: path.clone(), reason };
            let text = path.to_str().ok_or_else(|| error("not UTF-8".to_owned()))?;
            HttpPeer::new_uds(text, server.tls, name).map_err(|e| error(e.to_string()))?
        }
    };
    let timeouts = &settings.timeouts;
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.handshake);
    options.read_timeout = Some(longest_silence(timeouts));
    options.write_timeout = Some(timeouts.write);
    options.idle_timeout = Some(settings.keepalive_idle);
    options.alpn = match settings.protocol {
        OriginProtocol::Http1 => ALPN::H1,
        OriginProtocol::Http2 => ALPN::H2,
        OriginProtocol::Auto if server.tls => ALPN::H2H1,
        OriginProtocol::Auto => ALPN::H1,
    };
    options.verify_cert = settings.tls.verify;
    options.verify_hostname = settings.tls.verify;
    options.max_h2_streams = H2_STREAMS_MAX;
    options.h2_stream_window_size = Some(H2_STREAM_WINDOW_BYTES);
    options.h2_connection_window_size = Some(H2_STREAM_WINDOW_BYTES * H2_STREAMS_MAX as u32);
    options.h2_ping_interval = Some(H2_PING_INTERVAL);
    if server.tls {
        options.ca = authorities.certificates.clone();
    }
    if matches!(server.address, ServerAddress::Tcp { .. }) {
        options.tcp_keepalive = Some(TcpKeepalive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            count: 3,
            user_timeout: Duration::ZERO,
        });
    }
    // Pingora's key for reuse holds the name and the verify switches, but not the authorities.
    peer.group_key = authorities.fingerprint;
    Ok(peer)
}

/// Adapts a connection's settings to what it is for.
pub(super) fn adapt(peer: &mut HttpPeer, exchange: Exchange, timeouts: &OriginTimeouts) {
    match exchange {
        Exchange::Ordinary => {}
        Exchange::Stream { idle } => peer.options.read_timeout = Some(idle.max(longest_silence(timeouts))),
        Exchange::Upgrade { idle } => {
            peer.options.alpn = ALPN::H1;
            peer.options.read_timeout = Some(idle.max(longest_silence(timeouts)));
        }
    }
}

fn longest_silence(timeouts: &OriginTimeouts) -> Duration {
    timeouts.first_byte.max(timeouts.read)
}

/// The name sent and verified. It is never empty with TLS: Pingora verifies nothing then.
fn server_name(origin: &str, settings: &HttpOrigin, server: &Server) -> Result<String, PoolError> {
    if !server.tls {
        return Ok(String::new());
    }
    let configured = settings.tls.server_name.as_deref().or(settings.host.as_deref().map(without_port));
    match (configured, &server.address) {
        (Some(name), _) if !name.is_empty() => Ok(name.to_owned()),
        (_, ServerAddress::Tcp { host, .. }) if !host.is_empty() => Ok(host.clone()),
        _ => Err(PoolError::ServerNameMissing { origin: origin.to_owned() }),
    }
}

/// The host of an authority: `example.org:8443` → `example.org`, `[::1]:1` → `::1`.
fn without_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match authority.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_a_host_is_no_part_of_the_name_verified() {
        for (authority, host) in
            [("a.example:8443", "a.example"), ("a.example", "a.example"), ("[::1]:1", "::1"), ("::1", "::1")]
        {
            assert_eq!(without_port(authority), host);
        }
    }
}
