//! The cache's keeping side: objects in RAM behind Pingora's `Storage`, and the collapsing of concurrent fetches.
//!
//! Parts:
//! - `store`: [`MemoryStore`], the slots, their versions, and making room; `storage`: the same as Pingora calls it;
//! - `flow`: bytes from one writer to any number of readers; `fill`: one running fill and the `Body` it leaves; `hit` and `miss`:
//!   its readers and its writer;
//! - `forms`: the coded forms of a body; `coder`: making them;
//! - `budget`: the hard bound, as charges that lie inside the bytes they pay for; `eviction`: S3-FIFO, pure;
//! - `slices`: objects kept in parts, as a head and granules that are ordinary entries;
//! - `bans`: purges as facts with a time, and `sweep`: letting go of what they reach;
//! - `meta`: copying and weighing heads; [`collapse`]: Pingora's cache lock as we use it.
//!
//! Invariants: a body is whole or it is an error, for every reader; bytes of two versions never mix; the bytes held never
//! exceed the bound, running fills and the chunks still in clients' sockets included. Decides nothing about freshness,
//! cacheability or keys: that is `http`, by way of the edge.
//!
//! # The seam for a disk tier
//! Everything above this room sees `&'static (dyn Storage + Sync)`, [`follows_fill`] and the explain/stat calls of
//! [`MemoryStore`]. A hybrid store is another `Storage` that owns a `MemoryStore`: `lookup` asks RAM, then disk, and promotes by
//! running an ordinary fill from disk (`get_miss_handler`, `write_body` per chunk, `finish`), so followers, bounds and
//! truncation need no second rule; `get_miss_handler` wraps the RAM writer and hands the same chunks to the disk's bounded
//! queue; `purge`, `expire` and `update_meta` go to both, disk first. Versions then come from the hybrid store, because they
//! must not repeat after a restart. Heads are serialised only there (`CacheMeta::serialize`).

mod bans;
mod budget;
mod coder;
pub mod collapse;
mod eviction;
mod fill;
mod flow;
mod forms;
mod head;
mod hit;
mod meta;
mod miss;
mod slices;
mod storage;
mod store;
mod sweep;

pub use bans::{AskedFor, Ban, Bans, Begun, FillTime, Selector, Verdict};
pub use coder::{Given, Wanted};
pub use hit::{FILL_FAILED, StoreHit, follows_fill, verdict_on_alias};
pub use meta::Version;
pub use slices::{Asker, Fetch, Head, Run, Slices, Title, View, head_key};
pub use storage::FILL_REFUSED;
pub use store::{Held, MemoryStore, ObjectInfo, StoreSettings, StoreStats};
