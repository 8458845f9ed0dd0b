//! `transcode`, built.

use super::ServerAddress;
use std::path::PathBuf;

/// `transcode`: who makes streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcode {
    /// Segments made at once on this host, ≥ 1.
    pub jobs: u16,
    /// Segments that may wait for that.
    pub queue: u16,
    /// Of segments made before they are asked for; 0: none are.
    pub ahead_bytes_max: u64,
    /// None: `reelgate-transcoder`, beside this program or in PATH.
    pub program: Option<PathBuf>,
    /// On other hosts.
    pub remote: Option<TranscodeServers>,
    /// Whether one is started on this host; None: yes, but beside `remote` only where it can be.
    pub local: Option<bool>,
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
