//! What operators see: metrics, the access log, redaction of it, and the process's lifecycle.
//!
//! Invariant: nothing here changes how a request is answered, and no credential leaves this room.

mod lifecycle;
mod metrics;

pub use lifecycle::{InFlight, Lifecycle, Phase};
pub use metrics::Metrics;
