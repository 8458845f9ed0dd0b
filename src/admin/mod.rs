//! The operators' listener: dashboard, metrics, probes and the API, over HTTP/1.1.
//!
//! Parts: [`serve`] (connections and their limits), `routes` (what answers which path), `guard` (who may ask), `patient` (whom it
//! leaves), `events` (live counters as Server-Sent Events), `jobs` (the transcoder's), `purge` and
//! `optimise` (the requests that change something), `page` (the embedded dashboard), `problem` (errors, RFC 9457).
//!
//! Invariants: but for these it reads and never changes what the edge does; it reaches the rest of the process only through [`Source`]; every
//! answer but the two probes and the empty page needs the token where one is set; no other website's script can read it, with or
//! without a token. It sends no CORS headers on purpose.

mod events;
mod guard;
mod jobs;
mod optimise;
mod page;
mod patient;
mod problem;
mod purge;
mod routes;
mod server;
#[cfg(test)]
mod tests;

pub use purge::{Purge, PurgeFailure, PurgeSelector, Purged};
pub use server::serve;

use crate::observe::{Lifecycle, Metrics, status};
use crate::origin::library::{Optimisation, Refused};
use crate::transcode::Report;

/// What the application tells the operators. Implemented once, by `app`.
#[async_trait::async_trait]
pub trait Source: Send + Sync + 'static {
    fn metrics(&self) -> &Metrics;

    fn lifecycle(&self) -> &Lifecycle;

    /// The state of what the process depends on. Called for every probe and scrape: cheap, and never blocking.
    fn readiness(&self) -> Readiness;

    /// The disks of the store, also those that could not be opened. Called as often as [`Self::readiness`].
    fn disks(&self) -> Vec<status::Disk>;

    /// What the transcoder is at; None where there is none, or it does not answer. Never slower than a few seconds.
    async fn jobs(&self) -> Option<Report>;

    /// Begins to optimise a title of a library, by its id or its whole name.
    ///
    /// # Errors
    /// Why not.
    fn optimise(&self, title: &str) -> Result<Optimisation, Refused>;

    /// The titles that were asked for lately, the latest last.
    fn optimisations(&self) -> Vec<Optimisation>;

    /// The configuration in force, defaults filled in and secrets masked, as YAML.
    fn config_yaml(&self) -> String;

    /// What the edge would do with a GET of this absolute URL, without doing it.
    ///
    /// # Errors
    /// Why the URL cannot be explained, for a person.
    async fn explain(&self, url: &str) -> Result<serde_json::Value, String>;

    /// Puts a purge in force: when it returns, no request that begins gets what was purged, also after a crash where there is a
    /// disk.
    ///
    /// # Errors
    /// Why it was not done, or not as it should.
    async fn purge(&self, purge: Purge) -> Result<Purged, PurgeFailure>;
}

/// The answer to `/readyz`, apart from the phase of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    pub checks: Vec<Check>,
}

/// One thing the process depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Stable and unique: `listeners`, `origin:media`.
    pub name: String,
    pub health: Health,
    /// For a person; shown only to those who have the token. Empty: nothing to say.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Ok,
    /// Worse than it should be, and still serving: an origin is down, what is cached goes on.
    Degraded,
    /// No request can be served well: takes the process out of rotation.
    Failed,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}
