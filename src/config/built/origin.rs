//! `origins`: where answers come from.

use crate::media::codec::Codec;
use crate::media::upstream::multivariant::Wanted;
use std::path::PathBuf;
use std::time::Duration;

/// One entry of `origins`.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Its key in the file; a metric label.
    pub name: String,
    pub kind: OriginKind,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq)]
pub enum OriginKind {
    Http(Box<HttpOrigin>),
    Library(LibraryOrigin),
}

/// `kind: library`: folders of films served by Reelgate itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryOrigin {
    pub folders: Vec<PathBuf>,
    /// How often folders are scanned again.
    pub rescan_interval: Duration,
    /// The folder of the index; None: what is known of films is forgotten at a restart.
    pub index: Option<PathBuf>,
    /// `transcode.codecs`: what every title is offered in beside H.264; None: what hardware makes, and what it was optimised for.
    pub codecs: Option<Vec<Codec>>,
}

/// `kind: http`
#[derive(Debug, Clone, PartialEq)]
pub struct HttpOrigin {
    pub servers: Vec<Server>,
    /// Replaces the client's Host towards the origin.
    pub host: Option<String>,
    pub balance: Balance,
    pub protocol: OriginProtocol,
    pub tls: OriginTls,
    pub timeouts: OriginTimeouts,
    pub retry: Retry,
    pub health: Health,
    pub breaker: Breaker,
    /// How often names are resolved again.
    pub dns_interval: Duration,
    /// Idle connections to a server are closed after this.
    pub keepalive_idle: Duration,
    /// Rungs that are added to its HLS ladders.
    pub add_renditions: Option<Wanted>,
}

/// One of `origins.*.servers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub address: ServerAddress,
    pub tls: bool,
    /// ≥ 1
    pub weight: u32,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// A name or an IP address (without brackets), and a port.
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `origins.*.balance`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    LeastRequests,
    /// Consistent hash (ketama) of the cache key.
    Hash,
}

/// `origins.*.protocol`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginProtocol {
    Http1,
    /// In clear: prior knowledge.
    Http2,
    /// By ALPN over TLS, else HTTP/1.1.
    Auto,
}

/// `origins.*.tls`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginTls {
    pub verify: bool,
    /// PEM file of the authorities to trust instead of the system's (package `ca-certificates`).
    pub ca: Option<PathBuf>,
    /// Name sent and verified; default: `host`, else the server's name.
    pub server_name: Option<String>,
}

/// `origins.*.timeouts`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginTimeouts {
    /// TCP (or unix socket) connect.
    pub connect: Duration,
    /// TCP and TLS together.
    pub handshake: Duration,
    /// From the request sent to the response's headers. Long: a transcode may have to start first. Pingora has one timeout for
    /// this and `read`: the longer of the two holds for both.
    pub first_byte: Duration,
    /// Between two reads of a response body.
    pub read: Duration,
    /// Between two writes of a request.
    pub write: Duration,
}

/// `origins.*.retry`: of idempotent requests that got no response.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Tries after the first.
    pub attempts_max: u32,
    /// Retries may be at most this share of requests (0.0–1.0) over the last ten seconds …
    pub budget_ratio: f64,
    /// … or this many a second, whichever is more.
    pub budget_per_second_min: u32,
}

/// `origins.*.health`
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// None: no active checks.
    pub active: Option<ActiveHealth>,
    /// Consecutive failures of real requests that take a server out; 0: never.
    pub passive_failures: u32,
    /// For how long it is out.
    pub passive_ejection: Duration,
}

/// `origins.*.health.active`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveHealth {
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    /// Passed checks in a row that bring a server back.
    pub healthy_threshold: u32,
    /// Failed checks in a row that take it out.
    pub unhealthy_threshold: u32,
    /// Status codes that pass.
    pub status: std::ops::RangeInclusive<u16>,
}

/// `origins.*.breaker`: stops asking an origin that fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    pub enabled: bool,
    /// Share of failures (0.0–1.0) over the window that opens it.
    pub failure_ratio: f64,
    /// Fewer requests than this in the window never open it.
    pub requests_min: u32,
    pub window: Duration,
    /// How long it stays open before one request may try again.
    pub open: Duration,
}
