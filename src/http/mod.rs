//! HTTP rules as pure functions: input and `now` in, decisions out. No tokio, no Pingora, no IO, no clock.

pub mod answer;
pub mod byte_range;
pub mod cache_control;
pub mod cache_status;
pub mod cors;
pub mod fields;
pub mod forwarded;
pub mod freshness;
pub mod headers;
pub mod heuristic;
pub mod invalidation;
pub mod key;
pub mod key_rules;
pub mod loop_detection;
pub mod path;
pub mod precondition;
pub mod problem;
pub mod redact;
pub mod reuse;
pub mod route;
pub mod rules;
pub mod tags;
pub mod targeted;
pub mod traceparent;
pub mod update;
pub mod variant;
