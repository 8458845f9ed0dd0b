//! `limits` and `log` as typed.

use super::super::units::{ByteSize, TimeSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `limits`
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawLimits {
    /// Request line and headers together; 1KiB to 1023KiB. Beyond it: 431.
    pub header_size: ByteSize,
    /// Number of header fields. Beyond it: 431.
    #[schemars(range(min = 8, max = 256))]
    pub header_count: usize,
    /// From the first byte of a request to the end of its headers. Beyond it: 408.
    #[schemars(extend("format" = "positive-time-span"))]
    pub header_timeout: TimeSpan,
    /// From accepting a connection to the end of its TLS handshake or PROXY header.
    #[schemars(extend("format" = "positive-time-span"))]
    pub handshake_timeout: TimeSpan,
    /// How long a connection may stay open without a request.
    #[schemars(extend("format" = "positive-time-span"))]
    pub idle_timeout: TimeSpan,
    /// Between two reads of a request's body (408), and between two writes of an answer.
    #[schemars(extend("format" = "positive-time-span"))]
    pub stall_timeout: TimeSpan,
    /// How long a tunnel (websocket, server-sent events) may be silent both ways.
    #[schemars(extend("format" = "positive-time-span"))]
    pub upgrade_idle_timeout: TimeSpan,
    /// Open connections, all listeners together.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections: usize,
    /// Open connections of one client address (of one /64 for IPv6).
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections_per_address: usize,
    /// Requests on one connection before it is closed; 0: no limit.
    #[schemars(range(max = 1_000_000_000))]
    pub requests_per_connection: u32,
    /// Concurrent streams of one HTTP/2 connection.
    #[schemars(range(min = 1, max = 10_000))]
    pub http2_streams: u32,
    /// HTTP/2 streams reset by the client before they were accepted, until the connection is closed (rapid reset).
    #[schemars(range(min = 1, max = 10_000))]
    pub http2_pending_resets: usize,
    /// Concurrent requests of one HTTP/3 connection.
    #[schemars(range(min = 1, max = 10_000))]
    pub http3_streams: u32,
    /// HTTP/3 requests a client may cancel or spoil at once, until the connection is closed; an eighth comes back each second.
    #[schemars(range(min = 1, max = 100_000))]
    pub http3_resets: u32,
    /// QUIC handshakes at once; beyond it clients must prove their address first (Retry). 0: always.
    #[schemars(range(max = 1_000_000))]
    pub http3_handshakes: usize,
    /// Slow clients that get the rest of a body from the origin at once (`cache.hold_timeout`), of 2 MiB of `cache.memory` each. The next
    /// wait for 10 s, and are cut off then.
    #[schemars(range(min = 1, max = 100_000))]
    pub resumes: usize,
    /// Client addresses remembered for `rate` and `connections_per_address`.
    #[schemars(range(min = 16, max = 100_000_000))]
    pub addresses: usize,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            header_size: ByteSize::kib(64),
            header_count: 128,
            header_timeout: TimeSpan::secs(10),
            handshake_timeout: TimeSpan::secs(10),
            idle_timeout: TimeSpan::secs(75),
            stall_timeout: TimeSpan::secs(60),
            // Jellyfin's server gives a socket up after 60 s of silence itself; ours must never be the shorter one.
            upgrade_idle_timeout: TimeSpan::secs(600),
            connections: 20_000,
            // A household or an office behind one address plays many titles at once.
            connections_per_address: 512,
            requests_per_connection: 0,
            http2_streams: 128,
            http2_pending_resets: 20,
            http3_streams: 128,
            http3_resets: 128,
            http3_handshakes: 64,
            resumes: 64,
            addresses: 100_000,
        }
    }
}

/// `log`
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawLog {
    /// Level of the process log (error, warn, info, debug, trace) or a filter like `warn,reelgate=debug`.
    #[schemars(extend("format" = "log-filter"))]
    pub level: String,
    /// One line per request.
    pub access: RawAccessLog,
}

impl Default for RawLog {
    fn default() -> Self {
        Self { level: "info".to_owned(), access: RawAccessLog::default() }
    }
}

/// `log.access`
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawAccessLog {
    /// Whether requests are logged.
    pub enabled: bool,
    /// Form of a line.
    pub format: RawAccessFormat,
    /// File to append to; default: standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "non-empty"))]
    pub file: Option<String>,
    /// Share of successful requests written, 0 to 1; errors (status 400 and above) are always written.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample: f64,
}

impl Default for RawAccessLog {
    fn default() -> Self {
        Self { enabled: true, format: RawAccessFormat::Json, file: None, sample: 1.0 }
    }
}

/// `log.access.format`
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawAccessFormat {
    /// One JSON object a line.
    Json,
    /// One short line for people.
    Human,
}
