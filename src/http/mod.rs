//! HTTP rules as pure functions: input and `now` in, decisions out. No tokio, no Pingora, no IO, no clock.
//!
//! - [`fields`], [`date`], [`cache_control`], [`targeted`], [`tags`], [`byte_range`], [`priority`], [`traceparent`]: fields, read.
//! - [`route`], [`rules`], [`cors`], [`path`]: which site a request is for, what its rules change, where a file lies.
//! - [`key`], [`key_rules`], [`variant`], [`negotiation`]: what an object is called, and which requests share it.
//! - [`freshness`], [`heuristic`], [`reuse`], [`update`], [`invalidation`], [`precondition`]: what is kept, given and thrown away.
//! - [`slicing`]: objects in parts. [`content_coding`]: compressed ones.
//! - [`headers`], [`answer`], [`loop_detection`], [`forwarded`]: what no edge should pass on, and who asks.
//! - [`cache_status`], [`problem`], [`redact`]: what is said of it, and what never is.

pub mod answer;
pub mod byte_range;
pub mod cache_control;
pub mod cache_status;
pub mod content_coding;
pub mod cors;
pub mod date;
pub mod fields;
pub mod forwarded;
pub mod freshness;
pub mod headers;
pub mod heuristic;
pub mod invalidation;
pub mod key;
pub mod key_rules;
pub mod loop_detection;
pub mod negotiation;
pub mod path;
pub mod plain_head;
pub mod precondition;
pub mod priority;
pub mod problem;
pub mod redact;
pub mod reuse;
pub mod route;
pub mod rules;
pub mod slicing;
pub mod tags;
pub mod targeted;
pub mod traceparent;
pub mod update;
pub mod variant;
