//! Where answers come from: a pool of servers per origin, and the choice of one for each request.
//!
//! Why: a request must reach a server that works, quickly, without hammering one that does not. The rules (which server,
//! is it well, may this be tried again) are pure: input and `now` in, a decision out. Sockets, names and clocks live at the
//! rim.
//!
//! Parts, from the rules outwards:
//! - [`balance`]: weighted round robin, least requests, consistent hash;
//! - [`breaker`], [`budget`], [`health`]: the state machines;
//! - [`failure`]: what went wrong, and what counts against a server;
//! - `endpoint`, `peer`, `resolve`, `probe`: one address, its connection settings, names, active checks;
//! - [`Pool`] and [`Pick`]: an origin, and one request's claim on one of its addresses;
//! - [`library`]: the embedded origin, folders of films;
//! - [`Origins`]: all of them by name, kept across reloads where their settings did not change.
//!
//! Invariants: nothing here reads or writes a request of a client; a pool connects only for its own health checks
//! (requests go through Pingora's connector, set up by [`Pick::peer`]); a [`Pick`] gives back what it holds when it is
//! dropped, whatever happened to its request; every wait has a timeout and every table a bound.

pub mod balance;
pub mod breaker;
pub mod budget;
mod endpoint;
mod error;
pub mod failure;
pub mod health;
pub mod library;
mod origins;
mod peer;
mod pick;
mod pool;
mod probe;
mod resolve;
mod status;

pub use error::{PoolError, Unavailable};
pub use failure::Failure;
pub use origins::{Embedded, Origins};
pub use peer::Exchange;
pub use pick::{Pick, Tried};
pub use pool::Pool;
pub use status::{AddressStatus, BreakerStatus, PoolStatus, ServerStatus};
