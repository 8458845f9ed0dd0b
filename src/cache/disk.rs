//! The disk tier: a log of objects on each disk, and an index of it in RAM.
//!
//! Why our own: the hybrid cache libraries there are (foyer above all) drop writes of a burst without a word unless paced from
//! outside (87 to 98 % of one, with the defaults we measured), give removed objects back after a restart unless told not
//! to, load an object as a whole where a player wants a range, and do not say when a write has reached the disk. What a media
//! cache needs of a disk is little: large objects, written once, read in ranges, let go oldest first. That is a log, as
//! Traffic Server's Cyclone cache and Varnish's fellow have it, with reinsertion of what was asked for, as CLOCK and
//! S3-FIFO do it.
//!
//! Parts:
//! - [`Log`]: one disk, as everyone else sees it; [`Disks`]: keys spread over several;
//! - `queue`: what waits to be written, and its [`Ticket`]s; `admit`: what is let in; `writer`: the one thread that writes
//!   and reclaims; `recover`: what it does first;
//! - `index`: where each object lies; `segment`: one file; `format`: what is in it, pure; `device`: where the disk is touched;
//! - `write_budget` and `sketch`: how much may be written, and what was asked for before, pure.
//!
//! What holds, after what:
//! - a clean stop ([`Log::close`]): everything accepted is there, unless it was reclaimed for room;
//! - a killed process: everything whose [`Ticket`] resolved, because the kernel keeps what was written; what was still
//!   in the queue is lost, never damaged;
//! - a power loss: what was written `sync_interval` (or 64 MiB) before, and every sealed segment;
//! - a write that fails: its ticket says so; the log refuses until a small write succeeds, and goes on reading.
//!
//! Invariants: a read gives the bytes that were offered under that key and version, verified, or an error; an object that was
//! removed, or replaced by a newer version, is not found again, also not after a restart or where a segment is damaged (what could
//! hide such a removal is let go with it); all files together never exceed the size; nothing waits without a bound; what is not
//! accepted is refused with a reason, and counted. Knows no HTTP, no freshness and no Pingora: a head is bytes, a ban a number.

mod admit;
mod device;
mod disks;
mod format;
mod index;
mod log;
mod queue;
mod recover;
mod segment;
mod sketch;
mod state;
mod types;
mod write_budget;
mod writer;

#[cfg(test)]
mod tests;

pub use disks::Disks;
pub(super) use disks::first_version;
pub use log::Log;
pub use queue::Ticket;
pub use types::{
    Admission, Beginning, Found, LogSettings, LogState, LogStats, Lost, OpenError, ReadError, Record, Refusal,
};

/// A body lies on the disk in chunks of this size, each with its own checksum.
pub const BODY_CHUNK_BYTES: u64 = 256 << 10;

/// A larger head is refused.
pub const HEAD_BYTES_MAX: u32 = 1 << 20;
