//! The built configuration: what every other room sees. Everything here is validated; nothing here is optional because a
//! person left it out, only because it is switched off. It holds no raw text that still needs parsing, and secrets only
//! inside [`Secret`], which never prints them.

mod access;
mod compression;
mod listen;
mod origin;
mod site;

pub use access::*;
pub use compression::*;
pub use listen::*;
pub use origin::*;
pub use site::*;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A whole validated configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from, for messages and reload.
    pub file: PathBuf,
    pub listen: Vec<Listen>,
    pub limits: Limits,
    /// Peers whose `X-Forwarded-*`, `Forwarded` and PROXY headers are believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// By name; sites refer to them by `Arc`.
    pub origins: Vec<Arc<Origin>>,
    pub sites: Vec<Arc<Site>>,
    /// Host and path to index into `sites`.
    pub routes: crate::http::route::RouteTable,
    pub cache: Cache,
    pub admin: Option<Admin>,
    pub log: Log,
    pub shutdown: Shutdown,
    /// None: no streams are made.
    pub transcode: Option<Transcode>,
    /// Worker threads of the runtime; default: one per core.
    pub worker_threads: usize,
}

/// `cache`: the bounds of the stores.
#[derive(Debug, Clone)]
pub struct Cache {
    /// Bound of the RAM store in bytes: bodies, headers and bookkeeping.
    pub memory_bytes: u64,
    /// Disks of the hybrid store; none: RAM alone.
    pub disks: Vec<Disk>,
    /// An object larger than this is passed on but not kept.
    pub object_bytes_max: u64,
    pub slices: Slices,
    pub background_fill: BackgroundFill,
    /// How long a follower waits for the head of a running fill before it asks the origin itself.
    pub collapse_timeout: Duration,
}

/// `cache.slices`: objects kept in parts.
#[derive(Debug, Clone, Copy)]
pub struct Slices {
    pub enabled: bool,
    /// A smaller object is kept whole.
    pub bytes_min: u64,
    /// Asked for ahead of one client at most.
    pub read_ahead_bytes_max: u64,
}

/// One entry of `cache.disk`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub path: PathBuf,
    pub size_bytes: u64,
    /// Bytes written a day at most; None: no bound.
    pub write_bytes_per_day_max: Option<u64>,
    /// Bytes written a second at most; None: no bound.
    pub write_bytes_per_second_max: Option<u64>,
    pub admit: DiskAdmission,
}

/// `cache.disk.admit`: what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskAdmission {
    All,
    /// Only what was asked for before lately.
    SecondHit,
}

/// `cache.background_fill`: whether a fetch goes on when its client has left and nobody else waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackgroundFill {
    Always,
    /// Where at least half of it is there; not where its length is unknown.
    Half,
    Never,
}

/// `admin`: the operators' listener.
#[derive(Debug, Clone)]
pub struct Admin {
    pub address: SocketAddr,
    /// Required unless `address` is loopback (validated).
    pub token: Option<Secret>,
}

/// `shutdown`
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// How long responses in flight may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// How long `/readyz` already fails while connections are still accepted, for load balancers to notice.
    pub notice: Duration,
}

/// `transcode`: the sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcode {
    /// Segments made at once, ≥ 1.
    pub jobs: u16,
    /// Segments that may wait for that.
    pub queue: u16,
    /// Of segments made before they are asked for; 0: none are.
    pub ahead_bytes_max: u64,
    /// Families of encoders by their names, the preferred first.
    pub encoders: Vec<&'static str>,
    /// None: what each device is known to take.
    pub device_jobs: Option<u16>,
    /// None: `reelgate-transcoder`, beside this program or in PATH.
    pub program: Option<PathBuf>,
}

/// A value that must never be printed. `Debug` shows `***`; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself; call it only where it is compared or sent, never where it is written.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
