//! Errors of this room: a pool that cannot be built, and a pool that has no server for a request.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A pool that cannot be built. Each says what to change.
#[derive(Debug)]
pub enum PoolError {
    /// `tls.ca` cannot be read or holds no certificate.
    Authorities { origin: String, path: PathBuf, reason: String },
    /// The path of a unix socket cannot be an address.
    SocketPath { origin: String, path: PathBuf, reason: String },
    /// TLS over a unix socket has no name to verify.
    ServerNameMissing { origin: String },
    /// An origin without servers.
    NoServers { origin: String },
    /// The embedded origin cannot listen on its socket.
    Library { origin: String, error: String },
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorities { origin, path, reason } => {
                write!(f, "origin {origin}: tls.ca {}: {reason}; give a PEM file of certificates", path.display())
            }
            Self::SocketPath { origin, path, reason } => {
                write!(f, "origin {origin}: unix socket {}: {reason}; use a shorter UTF-8 path", path.display())
            }
            Self::ServerNameMissing { origin } => {
                write!(f, "origin {origin}: TLS over a unix socket needs tls.server_name or host")
            }
            Self::NoServers { origin } => write!(f, "origin {origin}: no servers; list at least one under servers"),
            Self::Library { origin, error } => write!(f, "origin {origin}: its library cannot listen: {error}"),
        }
    }
}

impl std::error::Error for PoolError {}

/// Why a pool has no server for a request. Both are answered with 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// Every server is down, ejected or without an address.
    NoHealthyServer,
    /// The circuit breaker is open; `retry_after` is at least a second, for the `Retry-After` field.
    BreakerOpen { retry_after: Duration },
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHealthyServer => f.write_str("no healthy server"),
            Self::BreakerOpen { retry_after } => {
                write!(f, "circuit breaker open, try again in {} s", retry_after.as_secs())
            }
        }
    }
}

impl std::error::Error for Unavailable {}
