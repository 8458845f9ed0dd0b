//! HTTP rules as pure functions: input and `now` in, decisions out. No tokio, no Pingora, no IO, no clock.

pub mod cors;
pub mod redact;
pub mod route;
pub mod rules;
pub mod traceparent;
