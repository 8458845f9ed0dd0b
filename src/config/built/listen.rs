//! `listen`: where clients connect.

use std::net::SocketAddr;
use std::path::PathBuf;

/// One entry of `listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    pub address: ListenAddress,
    /// Empty: in clear.
    pub tls: Vec<Certificate>,
    pub protocols: Protocols,
    /// HTTP/3 on the same port of UDP.
    pub http3: bool,
    /// The port `Alt-Svc` advertises; default: the listener's own.
    pub alt_svc_port: Option<u16>,
    /// Every connection must begin with a PROXY header, v1 or v2 (from `trusted_proxies` only).
    pub proxy_protocol: bool,
}

/// Where a listener is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    /// `unix:/run/reelgate.sock`
    Unix(PathBuf),
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Which HTTP versions a listener speaks. Both false is refused by validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    pub http1: bool,
    pub http2: bool,
}

/// Where a certificate comes from; chosen by SNI among a listener's, the first for names that match none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Certificate {
    /// Made at start for `localhost`, the host name and the sites' hosts; kept only in memory.
    SelfSigned,
    /// PEM files, watched and read again when they change.
    Files { cert: PathBuf, key: PathBuf },
}
