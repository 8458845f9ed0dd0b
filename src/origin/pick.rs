//! One request's claim on one address, and what a request has tried so far.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pingora_core::upstreams::peer::HttpPeer;

use super::breaker::Permit;
use super::endpoint::Endpoint;
use super::failure::{Failure, Judgement, judge};
use super::peer::{self, Exchange};
use super::pool::Pool;
use crate::observe::status_label;

/// Addresses one request may try.
const TRIED_MAX: usize = 16;
/// Kept connections one request may find closed before that counts as a retry like any other.
const STALE_MAX: u8 = 3;

/// The addresses a request has tried, and its retries: kept in the request's context from its first pick to its last.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    ids: [u32; TRIED_MAX],
    len: usize,
    retries: u32,
    stale: u8,
}

impl Tried {
    /// Whether this is the first try.
    pub fn is_empty(&self) -> bool {
        self.len == 0 && self.retries == 0 && self.stale == 0
    }

    /// Retries that were taken from the budget.
    pub fn retries(&self) -> u32 {
        self.retries
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.ids[..self.len].contains(&id)
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == TRIED_MAX
    }

    pub(super) fn last(&self) -> Option<u32> {
        self.ids[..self.len].last().copied()
    }

    pub(super) fn add(&mut self, id: u32) {
        // When full (`may_retry` refuses before), the last place keeps the newest.
        self.len = (self.len + 1).min(TRIED_MAX);
        self.ids[self.len - 1] = id;
    }

    pub(super) fn retried(&mut self) {
        self.retries += 1;
    }

    /// A kept connection was closed: the address itself has not been tried. False when that happened too often.
    pub(super) fn was_stale(&mut self) -> bool {
        if self.stale == STALE_MAX {
            return false;
        }
        self.stale += 1;
        self.len = self.len.saturating_sub(1);
        true
    }
}

/// A claim on an address for one try. Tell it how the try went; dropping it gives back the in-flight count and, when nothing
/// was told (the client left), the breaker's trial.
#[derive(Debug)]
pub struct Pick {
    pool: Arc<Pool>,
    endpoint: Arc<Endpoint>,
    permit: Option<Permit>,
    answered: bool,
    failed: bool,
}

impl Pick {
    pub(super) fn new(pool: Arc<Pool>, endpoint: Arc<Endpoint>, permit: Permit) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { pool, endpoint, permit: Some(permit), answered: false, failed: false }
    }

    /// Everything Pingora needs to connect.
    pub fn peer(&self, exchange: Exchange) -> Box<HttpPeer> {
        let mut peer = Box::new(self.endpoint.peer.clone());
        peer::adapt(&mut peer, exchange, &self.pool.settings().timeouts);
        peer
    }

    /// The server as configured, for logs: `host:port` or `unix:/path`.
    pub fn server(&self) -> &str {
        self.pool.server_label(self.endpoint.server)
    }

    /// The address chosen, for logs.
    pub fn address(&self) -> String {
        self.endpoint.address().to_string()
    }

    /// Connected. `took`: how long it took; None for a connection that was reused.
    pub fn connected(&self, took: Option<Duration>) {
        let metrics = self.pool.metrics();
        let reused = if took.is_some() { "false" } else { "true" };
        metrics.origin_connections.with_label_values(&[self.pool.name(), reused]).inc();
        if let Some(took) = took {
            metrics.origin_phase_seconds.with_label_values(&[self.pool.name(), "connect"]).observe(took.as_secs_f64());
        }
    }

    /// The final response's headers came (not an interim 1xx, but 101 counts). `first_byte`: since the request was sent.
    pub fn succeeded(&mut self, status: u16, first_byte: Duration) {
        if std::mem::replace(&mut self.answered, true) {
            return;
        }
        let metrics = self.pool.metrics();
        metrics.origin_requests.with_label_values(&[self.pool.name(), &status_label(status)]).inc();
        metrics
            .origin_phase_seconds
            .with_label_values(&[self.pool.name(), "first_byte"])
            .observe(first_byte.as_secs_f64());
        let now = Instant::now();
        match judge(status) {
            Judgement::Good => {
                self.endpoint.health.lock().succeeded();
                self.pool.request_succeeded(self.permit.take(), now);
            }
            // It answers: enough for a breaker that waits to hear from it.
            Judgement::Neutral if self.permit == Some(Permit::Trial) => {
                self.pool.request_succeeded(self.permit.take(), now);
            }
            Judgement::Neutral => self.permit = None,
            Judgement::Bad => self.pool.request_failed(&self.endpoint, self.permit.take(), None, now),
        }
    }

    /// The try failed: no response, or a response that broke off (then [`Self::succeeded`] was called before).
    pub fn failed(&mut self, failure: Failure) {
        if std::mem::replace(&mut self.failed, true) {
            return;
        }
        let metrics = self.pool.metrics();
        metrics.origin_errors.with_label_values(&[self.pool.name(), failure.as_str()]).inc();
        if !self.answered && failure != Failure::Stale {
            metrics.origin_requests.with_label_values(&[self.pool.name(), "0"]).inc();
        }
        if failure.counts() {
            // After an answer the permit is spent; a body that broke off counts like an ordinary request.
            self.pool.request_failed(&self.endpoint, self.permit.take(), Some(failure), Instant::now());
        }
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(permit) = self.permit.take() {
            self.pool.request_abandoned(permit);
        }
    }
}
