//! `origins` as typed.

use super::super::units::TimeSpan;
use super::items;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One entry of `origins`
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["kind"]))]
pub struct RawOrigin {
    /// `http`, or `library`: folders of films that Reelgate serves itself. `jellyfin` and `plex` are not built yet.
    pub kind: RawKind,
    /// URLs (`http://host:port`, `https://host`, `unix:/path`), or `{url, weight}`. For `kind: http`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<RawServer>,
    /// Replaces the client's Host towards the servers; default: the client's own is passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "authority"))]
    pub host: Option<String>,
    /// How a server is chosen; `hash`: by the cache key, so that each server sees the same titles.
    pub balance: RawBalance,
    /// HTTP version towards the servers; `auto`: by ALPN over TLS, else HTTP/1.1.
    pub protocol: RawOriginProtocol,
    /// TLS towards `https` servers.
    pub tls: RawOriginTls,
    /// How long each phase of a request may take.
    pub timeouts: RawTimeouts,
    /// Retries of idempotent requests that got no answer.
    pub retry: RawRetry,
    /// Which servers are asked at all.
    pub health: RawHealth,
    /// Stops asking an origin that fails, for a while.
    pub breaker: RawBreaker,
    /// How often names are resolved again.
    #[schemars(extend("format" = "positive-time-span"))]
    pub dns_interval: TimeSpan,
    /// Idle connections to a server are closed after this.
    #[schemars(extend("format" = "positive-time-span"))]
    pub keepalive_idle: TimeSpan,
    /// Folders of films. For `kind: library`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = items("non-empty"))]
    pub folders: Vec<String>,
    /// How often the folders are scanned again. For `kind: library`.
    #[schemars(extend("format" = "positive-time-span"))]
    pub rescan_interval: TimeSpan,
    /// A folder for what is known of the films, so that a restart need not find it out again; default: `library` in the folder
    /// of the first `cache.disk`, without a disk none. Never among the films. For `kind: library`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "non-empty"))]
    pub index: Option<String>,
    /// Rungs that its HLS ladders lack are added to them, made from the best one: `auto` (or `true`): all below it; or which, as
    /// `[240p, 480p]`. For `kind: http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_renditions: Option<RawAddRenditions>,
}

impl Default for RawOrigin {
    fn default() -> Self {
        Self {
            kind: RawKind::Http,
            servers: Vec::new(),
            host: None,
            balance: RawBalance::RoundRobin,
            protocol: RawOriginProtocol::Auto,
            tls: RawOriginTls::default(),
            timeouts: RawTimeouts::default(),
            retry: RawRetry::default(),
            health: RawHealth::default(),
            breaker: RawBreaker::default(),
            dns_interval: TimeSpan::secs(30),
            keepalive_idle: TimeSpan::secs(60),
            folders: Vec::new(),
            rescan_interval: TimeSpan::secs(300),
            index: None,
            add_renditions: None,
        }
    }
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawAddRenditions {
    Switch(bool),
    Word(RawRenditionsWord),
    Rungs(Vec<RawRung>),
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawRenditionsWord {
    Auto,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum RawRung {
    #[serde(rename = "240p")]
    P240,
    #[serde(rename = "360p")]
    P360,
    #[serde(rename = "480p")]
    P480,
    #[serde(rename = "720p")]
    P720,
    #[serde(rename = "1080p")]
    P1080,
    #[serde(rename = "1440p")]
    P1440,
}

impl RawRung {
    pub fn height(self) -> u32 {
        match self {
            Self::P240 => 240,
            Self::P360 => 360,
            Self::P480 => 480,
            Self::P720 => 720,
            Self::P1080 => 1080,
            Self::P1440 => 1440,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawKind {
    Http,
    Jellyfin,
    Plex,
    Library,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawServer {
    Url(#[schemars(extend("format" = "server-url"))] String),
    Weighted(RawWeightedServer),
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub struct RawWeightedServer {
    /// `http://host:port`, `https://host` or `unix:/path`.
    #[schemars(extend("format" = "server-url"))]
    pub url: String,
    /// Share of requests, beside the other servers' weights.
    #[schemars(range(min = 1, max = 1000))]
    pub weight: u32,
}

impl Default for RawWeightedServer {
    fn default() -> Self {
        Self { url: String::new(), weight: 1 }
    }
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawBalance {
    RoundRobin,
    LeastRequests,
    Hash,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawOriginProtocol {
    Http1,
    Http2,
    Auto,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawOriginTls {
    /// Whether certificates are verified. Only false where the network is trusted.
    pub verify: bool,
    /// PEM file of the authorities to trust, instead of those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "non-empty"))]
    pub ca: Option<String>,
    /// Name sent (SNI) and verified; default: `host` without its port, else the server's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "server-name"))]
    pub server_name: Option<String>,
}

impl Default for RawOriginTls {
    fn default() -> Self {
        Self { verify: true, ca: None, server_name: None }
    }
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawTimeouts {
    /// Connecting, TCP or unix socket.
    #[schemars(extend("format" = "positive-time-span"))]
    pub connect: TimeSpan,
    /// Connecting and the TLS handshake together.
    #[schemars(extend("format" = "positive-time-span"))]
    pub handshake: TimeSpan,
    /// From the request sent to the answer's headers; never shorter than `read`. Long, because a transcode may have to
    /// start first.
    #[schemars(extend("format" = "positive-time-span"))]
    pub first_byte: TimeSpan,
    /// Between two reads of an answer's body; never shorter than `first_byte` (one timer measures both).
    #[schemars(extend("format" = "positive-time-span"))]
    pub read: TimeSpan,
    /// Between two writes of a request.
    #[schemars(extend("format" = "positive-time-span"))]
    pub write: TimeSpan,
}

impl Default for RawTimeouts {
    fn default() -> Self {
        Self {
            connect: TimeSpan::secs(5),
            handshake: TimeSpan::secs(10),
            first_byte: TimeSpan::secs(120),
            read: TimeSpan::secs(60),
            write: TimeSpan::secs(60),
        }
    }
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawRetry {
    /// Tries after the first; 0: none.
    #[schemars(range(max = 10))]
    pub attempts: u32,
    /// Retries may be this share of the requests of the last ten seconds, 0 to 1 …
    #[schemars(range(min = 0.0, max = 1.0))]
    pub budget_ratio: f64,
    /// … or this many a second, whichever is more.
    #[schemars(range(max = 100_000))]
    pub budget_per_second: u32,
}

impl Default for RawRetry {
    fn default() -> Self {
        Self { attempts: 2, budget_ratio: 0.2, budget_per_second: 3 }
    }
}

#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawHealth {
    /// Asks each server at intervals. Without this block only real requests tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<RawActiveHealth>,
    /// Learns from real requests. Takes out one of several servers, never an origin's only one.
    pub passive: RawPassiveHealth,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawActiveHealth {
    /// Path asked for with GET.
    #[schemars(extend("format" = "request-path"))]
    pub path: String,
    /// Time between two checks of a server.
    #[schemars(extend("format" = "positive-time-span"))]
    pub interval: TimeSpan,
    /// A check without an answer after this has failed.
    #[schemars(extend("format" = "positive-time-span"))]
    pub timeout: TimeSpan,
    /// Passed checks in a row that bring a server back.
    #[schemars(range(min = 1, max = 100))]
    pub healthy_threshold: u32,
    /// Failed checks in a row that take a server out.
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_threshold: u32,
    /// Status codes that pass: one, or a range.
    #[schemars(extend("format" = "status-range"))]
    pub status: String,
}

impl Default for RawActiveHealth {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            interval: TimeSpan::secs(10),
            timeout: TimeSpan::secs(5),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
            status: "200-399".to_owned(),
        }
    }
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawPassiveHealth {
    /// Failed requests in a row that take a server out; 0: never.
    #[schemars(range(max = 10_000))]
    pub failures: u32,
    /// For how long it is out.
    #[schemars(extend("format" = "positive-time-span"))]
    pub ejection: TimeSpan,
}

impl Default for RawPassiveHealth {
    fn default() -> Self {
        Self { failures: 5, ejection: TimeSpan::secs(10) }
    }
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawBreaker {
    /// Whether it is used.
    pub enabled: bool,
    /// Share of failures over the window that opens it, 0 to 1.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub failure_ratio: f64,
    /// Fewer requests than this in the window never open it.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: u32,
    /// Time over which failures are counted.
    #[schemars(extend("format" = "positive-time-span"))]
    pub window: TimeSpan,
    /// How long it stays open before one request may try again.
    #[schemars(extend("format" = "positive-time-span"))]
    pub open: TimeSpan,
}

impl Default for RawBreaker {
    fn default() -> Self {
        Self { enabled: true, failure_ratio: 0.5, requests: 20, window: TimeSpan::secs(10), open: TimeSpan::secs(5) }
    }
}
