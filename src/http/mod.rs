//! HTTP rules as pure functions: input and `now` in, decisions out. No tokio, no Pingora, no IO, no clock.

pub mod byte_range;
pub mod cors;
pub mod path;
pub mod precondition;
pub mod route;
pub mod rules;
