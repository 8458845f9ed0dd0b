//! What goes in and out of the disk tier.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use super::format::FRAME_HEADER_BYTES;
use super::index::Located;
use super::{BODY_CHUNK_BYTES, segment};
use crate::config;

/// What is let onto a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    All,
    /// What was asked for at least twice lately.
    SecondHit,
}

/// One disk's settings.
#[derive(Debug, Clone)]
pub struct LogSettings {
    pub path: PathBuf,
    /// The label of its metrics.
    pub name: String,
    /// All files together, at most.
    pub size_bytes: u64,
    /// What waits to be written, at most: bodies and heads. An object larger than this is refused.
    pub queue_bytes_max: u64,
    /// Memory of the index, at most (and as much more as the objects of one segment take): beyond it the oldest are let go.
    pub index_bytes_max: u64,
    /// How many reads run at once.
    pub reads_max: usize,
    /// What was written is synced at the latest after this long.
    pub sync_interval: Duration,
    pub admission: Admission,
    pub write_bytes_per_second_max: Option<u64>,
    pub write_bytes_per_day_max: Option<u64>,
}

impl LogSettings {
    /// Of entry `index` of `cache.disk`; what it does not say has a default.
    pub fn new(disk: &config::Disk, index: usize) -> Self {
        Self {
            path: disk.path.clone(),
            name: index.to_string(),
            size_bytes: disk.size_bytes,
            queue_bytes_max: 64 << 20,
            index_bytes_max: 256 << 20,
            reads_max: 16,
            sync_interval: Duration::from_secs(1),
            admission: match disk.admit {
                config::DiskAdmission::All => Admission::All,
                config::DiskAdmission::SecondHit => Admission::SecondHit,
            },
            write_bytes_per_second_max: disk.write_bytes_per_second_max,
            write_bytes_per_day_max: disk.write_bytes_per_day_max,
        }
    }
}

/// What a log has to know that is opened when others of this process have been for a while.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Its epoch is larger than this.
    pub(super) epoch_min: u64,
    /// Objects whose versions begin with one of these are not taken: this process has given such versions to others.
    pub(super) epochs_foreign: Vec<u64>,
    /// Nothing of what is there is taken.
    pub(super) emptied: bool,
}

/// An object to keep. Immutable: another body is another version, with a larger number, also after a restart.
#[derive(Debug, Clone)]
pub struct Record {
    pub key: u128,
    pub version: u64,
    /// The latest ban when the origin began to be asked for it.
    pub ban_number: u64,
    pub head: Vec<u8>,
    /// In pieces of any length.
    pub body: Vec<Bytes>,
}

impl Record {
    pub fn body_bytes(&self) -> u64 {
        self.body.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Head and body.
    pub fn bytes(&self) -> u64 {
        self.head.len() as u64 + self.body_bytes()
    }
}

/// An object on the disk. It stays readable while it is held, unless it is reclaimed: then reads say [`ReadError::Gone`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub key: u128,
    pub version: u64,
    pub ban_number: u64,
    pub body_bytes: u64,
    pub head_bytes: u32,
    pub(super) located: Located,
}

impl Found {
    /// What [`super::Log::read_beginning`] needs.
    pub fn beginning_bytes(&self) -> usize {
        segment::beginning_bytes(&self.located)
    }

    /// What [`super::Log::read_chunk`] needs, whichever chunk is read.
    pub fn chunk_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.body_bytes.min(BODY_CHUNK_BYTES) as usize
    }
}

/// The beginning of an object.
#[derive(Debug)]
pub struct Beginning<B> {
    pub buffer: B,
    /// Where in the buffer the head is.
    pub head: Range<usize>,
    /// Where the body's first chunk is; empty where the body is.
    pub first: Range<usize>,
}

/// Why something is not kept; the label of `reelgate_disk_refused_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Too much waits to be written already.
    QueueFull,
    /// The write budget is spent.
    OverBudget,
    /// Not asked for often enough, where that is asked for.
    SeenOnce,
    /// Larger than a segment, or than the queue.
    TooLarge,
    /// As new or newer is there, or it was removed meanwhile; for a head: its version is not there.
    Outdated,
    ReadOnly,
    /// The disk cannot be written now.
    Failed,
    Closed,
}

impl Refusal {
    pub(super) const ALL: [Self; 8] = [
        Self::QueueFull,
        Self::OverBudget,
        Self::SeenOnce,
        Self::TooLarge,
        Self::Outdated,
        Self::ReadOnly,
        Self::Failed,
        Self::Closed,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::OverBudget => "over_budget",
            Self::SeenOnce => "seen_once",
            Self::TooLarge => "too_large",
            Self::Outdated => "outdated",
            Self::ReadOnly => "read_only",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Why something that was accepted is not on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    WriteFailed,
    /// The log was dropped, or closed while it could not be written.
    Closed,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WriteFailed => "the disk could not be written",
            Self::Closed => "the disk store was closed first",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadError {
    /// It was reclaimed meanwhile.
    Gone,
    /// It cannot be read, or is not what was written. It is gone from now on.
    Damaged,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the object is no longer on disk",
            Self::Damaged => "the object is damaged on disk",
        })
    }
}

#[derive(Debug)]
pub enum OpenError {
    /// Another process has it open.
    InUse(PathBuf),
    TooSmall {
        size_bytes_min: u64,
    },
    Io(PathBuf, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(path) => {
                write!(f, "{} is used by another process; give each its own cache.disk.path", path.display())
            }
            Self::TooSmall { size_bytes_min } => {
                write!(f, "cache.disk.size is too small; the least is {size_bytes_min}B")
            }
            Self::Io(path, error) => write!(f, "{} cannot be used: {error}", path.display()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogState {
    /// The index is being rebuilt: what is not found may still be there.
    Recovering,
    Ok,
    /// It reads, but does not write.
    Degraded {
        reason: String,
        read_only: bool,
    },
    Closed,
}

impl LogState {
    /// The label of `reelgate_disk_state`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Recovering => "recovering",
            Self::Ok => "ok",
            Self::Degraded { .. } => "degraded",
            Self::Closed => "closed",
        }
    }
}

/// A log in numbers. Counts are since the process began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStats {
    pub disk: String,
    pub objects: u64,
    /// Heads and bodies of what can be found.
    pub bytes: u64,
    /// What the files take.
    pub file_bytes: u64,
    pub bytes_max: u64,
    /// Memory of the index.
    pub index_bytes: u64,
    pub queue_bytes: u64,
    pub queue_bytes_max: u64,
    pub queue_entries: u64,
    pub accepted: u64,
    /// By reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Accepted, and then not written.
    pub lost: u64,
    pub written_bytes: u64,
    pub reinserted_bytes: u64,
    pub read_bytes: u64,
    pub read_errors: u64,
    pub write_errors: u64,
    pub damaged_segments: u64,
    pub write_bytes_per_second_max: Option<u64>,
    pub write_bytes_per_day_max: Option<u64>,
    pub state: LogState,
}
