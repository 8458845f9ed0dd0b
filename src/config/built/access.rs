//! `log` and `limits`: what is written, and what nobody may exceed.

use std::path::PathBuf;
use std::time::Duration;

/// `log`
#[derive(Debug, Clone)]
pub struct Log {
    /// Filter of the process log, as in `RUST_LOG`: `info`, `warn,reelgate=debug`.
    pub level: String,
    pub access: AccessLog,
}

/// `log.access`
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    pub enabled: bool,
    pub format: AccessFormat,
    /// None: standard output.
    pub file: Option<PathBuf>,
    /// Share of successful requests written, 0.0–1.0; responses ≥ 400 are always written.
    pub sample: f64,
}

/// `log.access.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object a line.
    Json,
    /// One short line for people.
    Human,
}

/// `limits`: of clients, on every listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Request line and headers together, in bytes → 431.
    pub header_bytes_max: usize,
    /// Number of header fields → 431.
    pub header_count_max: usize,
    /// From the first byte of a request to the end of its headers → 408.
    pub header_timeout: Duration,
    /// From accept to the end of the TLS handshake or PROXY header.
    pub handshake_timeout: Duration,
    /// A connection without a request.
    pub idle_timeout: Duration,
    /// Between two reads of a request body, → 408; between two writes of a response.
    pub stall_timeout: Duration,
    /// A tunnel (websocket, SSE) without a byte either way.
    pub upgrade_idle_timeout: Duration,
    pub connections_max: usize,
    pub connections_per_address_max: usize,
    /// Requests on one connection before it is closed; 0: no limit.
    pub requests_per_connection_max: u32,
    /// Concurrent streams of one HTTP/2 connection.
    pub http2_streams_max: u32,
    /// Streams reset by the peer and not yet accepted by us, before the connection is closed (CVE-2023-44487).
    pub http2_pending_resets_max: usize,
    /// Concurrent requests of one HTTP/3 connection.
    pub http3_streams_max: u32,
    /// Requests one HTTP/3 connection may break off or spoil in quick succession.
    pub http3_resets_max: u32,
    /// QUIC handshakes at once, above which a client has to prove its address first.
    pub http3_handshakes_max: usize,
    /// Readers of the rest of a body at the origin at once, past the cache.
    pub resumes_max: usize,
    /// Addresses remembered for `rate` and per-address limits.
    pub addresses_max: usize,
}
