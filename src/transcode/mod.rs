//! Renditions made on demand, in a process of their own: media files are hostile input, and encoders crash, hang and eat memory.
//! The edge goes on without it.
//!
//! - [`protocol`]: what the two sides say to each other, as JSON over HTTP/1.1 on a unix socket, or over TCP with TLS on both sides (`tls`).
//! - [`Client`]: the edge's side of a request, to one sidecar or several.
//! - [`start`]: begins with what is configured; `supervisor` starts the sidecar on this host, keeps it alive, ends it.
//! - [`sidecar`]: the other process: `reelgate-transcoder`.
//!
//! Invariants: the edge never runs an encoder or a prober; the sidecar opens films only through [`crate::source`], keeps no
//! state a restart could lose, and ends with the process that started it. One on another host opens nothing outside the folders it was
//! given. It knows no sites, clients or cache.

mod client;
pub mod protocol;
pub mod sidecar;
mod start;
mod supervisor;
mod tls;

pub use client::{Body, Client, Error, Introduction, MadeBy, Report, ServerJob, ServerStatus, introduction};
pub use start::start;
pub use supervisor::{find_program, own_program};
