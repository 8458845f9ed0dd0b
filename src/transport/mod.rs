//! Where clients connect: sockets, the PROXY header, TLS and its certificates, the limits of a connection, and the hand-over
//! of a clean byte stream to the HTTP application.
//!
//! | part | what it does |
//! |---|---|
//! | [`Listener`] | binds, accepts, counts, closes on shutdown |
//! | `serve` | one connection from accept to its end: PROXY → TLS → protocol → application |
//! | `answer_date` | the `Date` of stored answers, which Pingora overwrites |
//! | `control_frames` | HTTP/2 frames that only cost CPU time, counted |
//! | `guard` | what Pingora does not bound: whole request heads, stalled writes, silence |
//! | [`Connection`] | the facts of a connection, found again in the session's digest |
//! | [`Certificates`] | chosen by SNI, read again when files change |
//! | [`Workers`] | the threads connections are served on |
//! | `h3` | HTTP/3: the same address on UDP, the same application |
//! | `slots` | how many connections there are, in all and per address |
//! | `uploads` | HTTP/2 request bodies that stop coming |
//!
//! Invariants: nothing here reads a URL or a header field, except the PROXY header that precedes HTTP, the `Date` of an answer
//! (`answer_date`) and what HTTP/3's own framing has to check. Every wait has a deadline and every table is bounded by the number of
//! open connections. A bind that fails is an error value, never a panic.

mod answer_date;
mod bind;
mod certificates;
mod connection;
mod connection_app;
mod control_frames;
mod guard;
mod h3;
mod lane;
mod listener;
mod proxy_protocol;
mod self_signed;
mod serve;
mod slots;
mod socket;
#[cfg(test)]
mod tests;
mod tls;
mod uploads;
mod workers;
mod write_buffer;

pub use bind::{BindError, BindProblem};
pub use certificates::{CertificateError, CertificateInfo, Certificates};
pub use connection::{Connection, HeaderWatch, Protocol, connection};
pub use lane::{Answered, Lane};
pub use listener::Listener;
pub use workers::Workers;

use crate::config::Limits;
use crate::observe::{Lifecycle, Metrics};
use arc_swap::ArcSwap;
use std::net::IpAddr;
use std::sync::Arc;

/// What all listeners of a process share. `limits` and `trusted_proxies` may be swapped at any time; a connection keeps the
/// limits it was accepted under.
#[derive(Debug)]
pub struct Shared {
    pub limits: ArcSwap<Limits>,
    /// Peers whose PROXY header is believed.
    pub trusted_proxies: ArcSwap<Vec<ipnet::IpNet>>,
    /// Host names for self-signed certificates, beside `localhost` and the machine's own name.
    pub names: Vec<String>,
    pub metrics: Arc<Metrics>,
    pub lifecycle: Arc<Lifecycle>,
    /// Who answers some requests before HTTP sees them.
    lane: Option<Arc<dyn Lane>>,
    slots: Arc<slots::Slots>,
    workers: Workers,
}

impl Shared {
    pub fn new(
        limits: Limits,
        trusted_proxies: Vec<ipnet::IpNet>,
        names: Vec<String>,
        metrics: Arc<Metrics>,
        lifecycle: Arc<Lifecycle>,
        workers: Workers,
        lane: Option<Arc<dyn Lane>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            limits: ArcSwap::from_pointee(limits),
            trusted_proxies: ArcSwap::from_pointee(trusted_proxies),
            names,
            metrics,
            lifecycle,
            lane,
            slots: Arc::default(),
            workers,
        })
    }

    /// Takes over what a reload may change; open connections keep what they have.
    pub fn apply(&self, limits: Limits, trusted_proxies: Vec<ipnet::IpNet>) {
        self.limits.store(Arc::new(limits));
        self.trusted_proxies.store(Arc::new(trusted_proxies));
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.load().iter().any(|net| net.contains(&address))
    }
}
