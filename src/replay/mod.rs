//! What another cache would have done: an access log or a standard trace, read once, then asked of every policy and size.
//!
//! Parts:
//! - `format`: which format it is; `json`, `combined`, `csv`, `oracle_general`: one line or record each, pure;
//! - `read`: a whole input, line by line, with what could not be used counted by reason;
//! - `trace`: the requests in memory, bounded, sampled by object where they are too many;
//! - `policy`: LRU, S3-FIFO, the store's own code, Bélády's MIN, and an upper bound; `simulate`: all of them over all sizes;
//! - `report`: a table, a plot and JSON.
//!
//! What is simulated is room, nothing else: objects never expire, change, get purged or vary; a fill is there at once. One
//! object has one size, the largest whole body seen of it. A part of an object (a range, a 304, a HEAD) is a request
//! of the object if its size is known from another line, and left out otherwise.
//!
//! Invariants: memory stays within the bound given; no line, however long or wrong, stops the reading or panics; nothing here
//! opens a file, prints, or looks at a clock.

mod combined;
mod csv;
mod format;
mod json;
mod oracle_general;
mod policy;
mod read;
mod reference;
mod report;
mod simulate;
mod trace;

#[cfg(test)]
mod tests;

pub use format::Format;
pub use policy::PolicyName;
pub use read::{Counts, HEAD_BYTES_MAX, ReadError, read};
pub use reference::KeyRules;
pub use report::Report;
pub use simulate::{Outcome, Settings, simulate};
pub use trace::{Limits, Trace, TraceBuilder};
