//! Renditions made on demand, in a process of their own: media files are hostile input, and encoders crash, hang and eat memory.
//! The edge goes on without it.
//!
//! - [`protocol`]: what the two sides say to each other, as JSON over HTTP/1.1 on a unix socket.
//! - [`Client`]: the edge's side of a request.
//! - [`Supervisor`]: starts the sidecar, keeps it alive, ends it.
//! - [`sidecar`]: the other process: `reelgate-transcoder`.
//!
//! Invariants: the edge never runs an encoder or a prober; the sidecar opens films only through [`crate::source`], keeps no
//! state a restart could lose, and ends with the process that started it. It knows no sites, clients or cache.

mod client;
pub mod protocol;
pub mod sidecar;
mod supervisor;

pub use client::{Body, Client, Error};
pub use supervisor::{Supervisor, find_program, own_program};
