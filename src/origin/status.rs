//! A pool as the admin API shows it. Holds no secret: names, addresses and counts only.

use serde::Serialize;

/// An origin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolStatus {
    pub origin: String,
    pub breaker: BreakerStatus,
    /// Requests being answered by the origin now.
    pub in_flight: u32,
    pub servers: Vec<ServerStatus>,
}

/// An origin's breaker.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BreakerStatus {
    Closed,
    Open { retry_after_s: f64 },
    HalfOpen,
}

/// One of its servers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServerStatus {
    /// As configured: `host:port` or `unix:/path`.
    pub server: String,
    pub weight: u32,
    /// At least one address is in use.
    pub up: bool,
    /// Empty while the name has not been resolved.
    pub addresses: Vec<AddressStatus>,
}

/// An address that the name of a server resolves to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AddressStatus {
    pub address: String,
    pub up: bool,
    /// Why it is not up: `checks` (active checks fail) or `ejected` (requests failed; see `returns_in_s`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returns_in_s: Option<f64>,
    pub in_flight: u32,
}
