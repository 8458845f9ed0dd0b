//! HTTP rules as pure functions: input and `now` in, decisions out. No tokio, no Pingora, no IO, no clock.

pub mod cors;
pub mod route;
pub mod rules;
