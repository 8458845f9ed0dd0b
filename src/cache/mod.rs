//! The cache's keeping side: objects in RAM, and on disks below, behind Pingora's `Storage`, and the collapsing of concurrent fetches.
//!
//! Parts:
//! - `store`: [`MemoryStore`], the slots, their versions, and making room; `storage`: the same as Pingora calls it;
//! - `flow`: bytes from one writer to any number of readers; `fill`: one running fill and the `Body` it leaves; `hit` and `miss`:
//!   its readers and its writer;
//! - `forms`: the coded forms of a body; `coder`: making them;
//! - `quick`: whole objects, for who answers without Pingora's cache;
//! - `budget`: the hard bound, as charges that lie inside the bytes they pay for; `eviction`: S3-FIFO, pure; `simulation`: the same
//!   policy over keys and sizes alone, for `reelgate replay`;
//! - `recent_keys`: bodies of unknown length that turned out too large to keep;
//! - `hold`: slow readers, and where they go on when what they read is let go;
//! - `slices`: objects kept in parts, as a head and granules that are ordinary entries;
//! - `bans`: purges as facts with a time, their log, and `sweep`: letting go of what they reach;
//! - [`key`]: what an object is found by; `inspect`: what is held of a key, for those who ask; `ahead`: looking up before Pingora does;
//! - `meta`: copying and weighing heads; [`collapse`]: Pingora's cache lock as we use it;
//! - [`disk`]: a log of objects on each disk; `tier`: what goes down there and comes up again; `head`: an object's head as it lies there.
//!
//! Invariants: a body is whole or it is an error, for every reader; bytes of two versions never mix; the bytes held never
//! exceed the bound, running fills and the chunks still in clients' sockets included. Decides nothing about freshness,
//! cacheability or keys: that is `http`, by way of the edge.

mod ahead;
mod bans;
mod budget;
mod coder;
pub mod collapse;
pub mod disk;
mod eviction;
mod fill;
mod flow;
mod forms;
mod head;
mod hit;
mod hold;
mod inspect;
mod key;
mod meta;
mod miss;
mod quick;
mod recent_keys;
mod simulation;
mod slices;
mod storage;
mod store;
mod sweep;
mod tier;

pub use ahead::{Ahead, Looked};
pub use bans::{
    AskedFor, Ban, BanLog, Bans, Begun, FillTime, NotLogged, Restored, Selector, Stamp, StampError, Verdict,
};
pub use coder::{AcceptsCodings, Given, Wanted};
pub use hit::{FILL_FAILED, StoreHit, follows_fill, held_back, may_be_let_go, resume_by, verdict_on_alias};
pub use hold::{OwnersRest, Rest, Resume};
pub use inspect::{Held, ObjectInfo};
pub use key::key;
pub use meta::Version;
pub use quick::QuickHit;
pub use simulation::{EvictionSimulation, room_for_objects};
pub use slices::{Asker, Fetch, Head, PartsKept, Run, Slices, Title, View, head_key};
pub use storage::FILL_REFUSED;
pub use store::{MemoryStore, Room, StoreSettings, StoreStats};
