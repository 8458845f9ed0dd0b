//! Configuration in two stages: raw serde types (as typed by a person), then built types (validated, defaults filled in).
//! Only built types travel to other rooms.
//!
//! Invariant: this room knows no other above `http` and `media`, opens no sockets and starts no tasks.

mod built;

pub use built::*;
