//! `transcode`, built.

use super::ServerAddress;
use crate::media::codec::Family;
use std::path::PathBuf;
use std::time::Duration;

/// `transcode`: who makes streams.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcode {
    /// Segments made at once on this host, ≥ 1.
    pub jobs: u16,
    /// Segments that may wait for that.
    pub queue: u16,
    /// Of segments made before they are asked for; 0: none are.
    pub ahead_bytes_max: u64,
    /// Of origins' segments that added rungs are made of, held at once on the edge.
    pub source_bytes_max: u64,
    /// None: popular titles are not made ahead.
    pub background: Option<Background>,
    /// What may encode, the preferred first.
    pub encoders: Vec<Family>,
    /// None: what each device is known to take.
    pub device_jobs: Option<u16>,
    /// None: `reelgate-transcoder`, beside this program or in PATH.
    pub program: Option<PathBuf>,
    /// On other hosts.
    pub remote: Option<TranscodeServers>,
    /// Whether one is started on this host; None: yes, but beside `remote` only where it can be.
    pub local: Option<bool>,
}

impl Transcode {
    /// What may encode, as the transcoder takes it: `nvenc,software`.
    pub fn encoder_names(&self) -> String {
        self.encoders.iter().map(|family| family.name()).collect::<Vec<_>>().join(",")
    }
}

/// `transcode.background`: what popular titles lack in the cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Background {
    /// Of a title so much must have been watched lately.
    pub watched_min: Duration,
    pub titles_max: usize,
    /// Of these titles in the cache.
    pub bytes_max: u64,
    /// Of the time, 0.0–1.0, exclusive of 0.
    pub share: f64,
    /// Whether these titles are optimised first.
    pub optimise: bool,
}

/// `transcode.servers` and what is needed to speak to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscodeServers {
    /// TCP, each once, at least one; the preferred first.
    pub addresses: Vec<ServerAddress>,
    pub tls: TlsFiles,
}

/// Paths of PEM files: who is believed, and who one is oneself. It never holds what is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities that the other side's certificate must be from.
    pub ca: PathBuf,
    /// The own certificate, the chain after it.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}
