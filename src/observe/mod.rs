//! What operators see: metrics, the access log, the process log, live statistics, and the process's lifecycle.
//!
//! Invariant: nothing here changes how a request is answered, and no credential leaves this room.

pub mod access_log;
mod answers;
mod lifecycle;
pub mod logging;
mod metrics;
pub mod status;
mod top;

pub use access_log::{AccessLog, AccessRecord, OriginExchange};
pub use answers::{Answer, AnswerLabels, Answers};
pub use lifecycle::{InFlight, Lifecycle, Phase};
pub use metrics::{Family, Metrics, status_label};
pub use status::Stats;
pub use top::{Counted, Top, TopStats};
