//! An origin's servers: which of them a request goes to, whether it may go again, and the work in the background.
//!
//! Invariants: no lock of a pool's state is held across an await, nor two of them at once. A pool that a reload replaced goes
//! on serving the requests it began, but runs nothing in the background and touches no gauge any more.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::sync::watch;
use tracing::{info, warn};

use super::balance::{Candidate, least};
use super::breaker::{self, Breaker, Permit};
use super::budget::Budget;
use super::endpoint::{Endpoint, Endpoints};
use super::peer::{self, Authorities};
use super::pick::Tried;
use super::{Failure, Pick, PoolError, Unavailable, resolve};
use crate::config::{self, Balance, HttpOrigin, Server, ServerAddress};
use crate::observe::Metrics;

mod background;
mod report;

/// The servers of one origin. Shared by every request to it; lives until the last of them is done.
pub struct Pool {
    name: String,
    settings: HttpOrigin,
    servers: Vec<ServerEntry>,
    weights: Vec<u32>,
    fingerprint: u64,
    endpoints: ArcSwap<Endpoints>,
    next_id: AtomicU32,
    /// Breaks ties of least requests.
    turn: AtomicUsize,
    breaker: Mutex<Breaker>,
    budget: Mutex<Budget>,
    metrics: Arc<Metrics>,
    /// Of active checks; None where there are none.
    checker: Option<Connector>,
    /// Held while names are looked up, so that it happens once at a time.
    resolving: tokio::sync::Mutex<()>,
    resolved_once: AtomicBool,
    /// True: a reload replaced this pool.
    retired: watch::Sender<bool>,
    started: AtomicBool,
}

/// A server as configured.
struct ServerEntry {
    /// `host:port` or `unix:/path`: for logs, and the `server` label of metrics.
    label: String,
    /// The Host field of active checks.
    host: String,
    address: ServerAddress,
    peer: HttpPeer,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of one server behind a unix socket of this process: never ejected, no breaker, no retries. Its timeouts are
    /// wide, because what answers there works on films, not because it may be far.
    pub fn for_socket(name: &str, path: PathBuf, metrics: Arc<Metrics>) -> Result<Arc<Self>, PoolError> {
        let settings = HttpOrigin {
            servers: vec![Server { address: ServerAddress::Unix(path), tls: false, weight: 1 }],
            host: None,
            balance: Balance::RoundRobin,
            protocol: config::OriginProtocol::Http1,
            tls: config::OriginTls { verify: true, ca: None, server_name: None },
            timeouts: config::OriginTimeouts {
                connect: Duration::from_secs(1),
                handshake: Duration::from_secs(1),
                first_byte: Duration::from_secs(60),
                read: Duration::from_secs(60),
                write: Duration::from_secs(60),
            },
            retry: config::Retry { attempts_max: 0, budget_ratio: 0.0, budget_per_second_min: 0 },
            health: config::Health { active: None, passive_failures: 0, passive_ejection: Duration::ZERO },
            breaker: config::Breaker {
                enabled: false,
                failure_ratio: 1.0,
                requests_min: 1,
                window: Duration::from_secs(10),
                open: Duration::from_secs(1),
            },
            dns_interval: Duration::from_secs(60),
            keepalive_idle: Duration::from_secs(60),
            add_renditions: None,
        };
        // The socket's path is of no use to anybody, and another one after each start.
        Self::build(name, &settings, |_| "embedded".to_owned(), metrics)
    }

    /// The pool of an origin of kind `http`. Reads `tls.ca`; connects to nothing and resolves nothing yet.
    pub fn new(name: &str, settings: &HttpOrigin, metrics: Arc<Metrics>) -> Result<Arc<Self>, PoolError> {
        Self::build(name, settings, |server| server.address.to_string(), metrics)
    }

    fn build(
        name: &str,
        settings: &HttpOrigin,
        label: impl Fn(&Server) -> String,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, PoolError> {
        if settings.servers.is_empty() {
            return Err(PoolError::NoServers { origin: name.to_owned() });
        }
        let authorities = Authorities::load(name, &settings.tls)?;
        let servers = settings
            .servers
            .iter()
            .map(|server| {
                Ok(ServerEntry {
                    label: label(server),
                    host: check_host(settings, server),
                    address: server.address.clone(),
                    peer: peer::template(name, settings, server, &authorities)?,
                })
            })
            .collect::<Result<Vec<_>, PoolError>>()?;
        let now = Instant::now();
        let weights: Vec<u32> = settings.servers.iter().map(|server| server.weight.max(1)).collect();
        let pool = Self {
            name: name.to_owned(),
            endpoints: ArcSwap::from_pointee(Endpoints::new(Vec::new(), &weights, false)),
            weights,
            servers,
            fingerprint: authorities.fingerprint,
            next_id: AtomicU32::new(0),
            turn: AtomicUsize::new(0),
            breaker: Mutex::new(Breaker::new(settings.breaker.clone(), now)),
            budget: Mutex::new(Budget::new(settings.retry.budget_ratio, settings.retry.budget_per_second_min, now)),
            metrics,
            checker: settings.health.active.is_some().then(|| Connector::new(None)),
            resolving: tokio::sync::Mutex::new(()),
            resolved_once: AtomicBool::new(false),
            retired: watch::Sender::new(false),
            started: AtomicBool::new(false),
            settings: settings.clone(),
        };
        pool.set_addresses(&vec![None; pool.servers.len()]);
        Ok(Arc::new(pool))
    }

    /// The origin's name, as configured.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn settings(&self) -> &HttpOrigin {
        &self.settings
    }

    /// Whether a pool built from the same settings now would connect as this one does (`tls.ca` may have changed on disk).
    pub(super) fn authorities_unchanged(&self) -> bool {
        Authorities::load(&self.name, &self.settings.tls).is_ok_and(|now| now.fingerprint == self.fingerprint)
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn server_label(&self, server: usize) -> &str {
        &self.servers[server].label
    }

    /// Chooses an address for a request and claims it. `hash`: of the cache key (used when balancing by hash). `tried`: kept
    /// by the request over its retries; an address in it is chosen again only when no other is left.
    ///
    /// The first call of all resolves names when the background has not done so yet, for at most the connect timeout.
    pub async fn pick(self: &Arc<Self>, hash: u64, tried: &mut Tried) -> Result<Pick, Unavailable> {
        if !self.resolved_once.load(Ordering::Acquire) {
            self.resolve(true).await;
        }
        let now = Instant::now();
        if tried.is_empty() {
            self.budget.lock().request_begun(now);
        }
        let endpoint = self.choose(hash, tried, now).ok_or(Unavailable::NoHealthyServer)?;
        let permit = self
            .breaker
            .lock()
            .admit(now)
            .map_err(|wait| Unavailable::BreakerOpen { retry_after: wait.max(Duration::from_secs(1)) })?;
        tried.add(endpoint.id);
        Ok(Pick::new(Arc::clone(self), endpoint, permit))
    }

    fn choose(&self, hash: u64, tried: &Tried, now: Instant) -> Option<Arc<Endpoint>> {
        let endpoints = self.endpoints.load();
        let mut candidates = endpoints.candidates(now, &self.weights, |endpoint| !tried.contains(endpoint.id));
        if candidates.is_empty() && !tried.is_empty() {
            candidates = endpoints.candidates(now, &self.weights, |_| true);
        }
        let index = match self.settings.balance {
            Balance::RoundRobin => endpoints.round_robin.lock().pick(&candidates),
            Balance::LeastRequests => least::pick(&candidates, self.turn.fetch_add(1, Ordering::Relaxed)),
            Balance::Hash => {
                let usable = |index: usize| candidates.iter().any(|candidate: &Candidate| candidate.index == index);
                endpoints.ring.pick(hash, usable)
            }
        }?;
        Some(Arc::clone(&endpoints.list[index]))
    }

    /// Whether a request whose last try ended in `failure` may be sent again. `replayable`: its method is idempotent and its
    /// body, if any, is still at hand whole. A granted retry is counted; call it once per failure, and pick again if true.
    ///
    /// - Nothing reached the server and its name has another address: yes, for any method, free of the budget (this is how
    ///   dual stack falls back).
    /// - A kept connection was closed: yes if replayable, free, three times at most.
    /// - Else: if nothing was sent or it is replayable, below `attempts_max`, with an untried address (or after a reset,
    ///   which the same server may not repeat), the breaker closed, and the budget granting it.
    pub fn may_retry(&self, tried: &mut Tried, failure: Failure, replayable: bool) -> bool {
        let now = Instant::now();
        if failure == Failure::Local || tried.is_full() || self.breaker.lock().would_admit(now).is_err() {
            return false;
        }
        if failure == Failure::Stale && replayable && tried.was_stale() {
            return true;
        }
        if !replayable && !failure.nothing_sent() {
            return false;
        }
        let endpoints = self.endpoints.load();
        let server = endpoints.list.iter().find(|e| Some(e.id) == tried.last()).map(|e| e.server);
        let untried = endpoints.candidates(now, &self.weights, |endpoint| !tried.contains(endpoint.id));
        if failure.is_of_the_address() && untried.iter().any(|c| Some(endpoints.list[c.index].server) == server) {
            return true;
        }
        let somewhere = !untried.is_empty() || matches!(failure, Failure::Reset | Failure::Stale);
        if !somewhere || tried.retries() >= self.settings.retry.attempts_max {
            return false;
        }
        let granted = self.budget.lock().may_retry(now);
        let outcome = if granted { "sent" } else { "refused" };
        self.metrics.origin_retries.with_label_values(&[self.name.as_str(), outcome]).inc();
        if granted {
            tried.retried();
        }
        granted
    }

    pub(super) fn request_succeeded(&self, permit: Option<Permit>, now: Instant) {
        let permit = permit.unwrap_or(Permit::Ordinary);
        self.breaker.lock().succeeded(permit, now);
        if permit == Permit::Trial {
            info!(origin = self.name, "circuit breaker closed");
            self.publish();
        }
    }

    /// A try failed: by `failure`, or by a status (None).
    pub(super) fn request_failed(
        &self,
        endpoint: &Endpoint,
        permit: Option<Permit>,
        failure: Option<Failure>,
        now: Instant,
    ) {
        let endpoints = self.endpoints.load();
        let mut others = endpoints.candidates(now, &self.weights, |other| other.id != endpoint.id).into_iter();
        let sibling = others.any(|other| endpoints.list[other.index].server == endpoint.server);
        let permit = permit.unwrap_or(Permit::Ordinary);
        let set_aside = sibling && failure.is_some_and(Failure::is_of_the_address);
        if set_aside {
            // The server may well be up at its other address: one failure is enough to prefer that, and none for the breaker.
            self.breaker.lock().abandoned(permit);
        } else if self.breaker.lock().failed(permit, now) {
            warn!(origin = self.name, "circuit breaker opened");
            self.publish();
        }
        let health = &self.settings.health;
        let mut state = endpoint.health.lock();
        let due = state.failed(health.passive_failures, now);
        // As nginx: the only server there is stays in, since nobody else could answer; the breaker is what protects it.
        let may_eject = health.passive_failures > 0 && (self.servers.len() > 1 || sibling);
        if may_eject && (due || set_aside) && state.down(now).is_none() {
            state.eject(health.passive_ejection, now);
            drop(state);
            let reason = failure.map_or("status", Failure::as_str);
            warn!(origin = self.name, server = self.server_label(endpoint.server), address = %endpoint.address(), reason, "ejected");
            self.publish();
        }
    }

    pub(super) fn request_abandoned(&self, permit: Permit) {
        self.breaker.lock().abandoned(permit);
    }

    /// Takes new addresses of the servers that are names; None keeps what a server has. Addresses that stay keep their
    /// health and counts.
    fn set_addresses(&self, found: &[Option<Vec<SocketAddr>>]) {
        let old = self.endpoints.load();
        let mut list = Vec::new();
        for (server, entry) in self.servers.iter().enumerate() {
            let literal = resolve::literal(&entry.address);
            let fixed = matches!(entry.address, ServerAddress::Unix(_)).then(|| entry.peer._address.clone());
            let wanted: Vec<PeerAddress> = match (&found[server], literal, fixed) {
                (_, _, Some(path)) => vec![path],
                (_, Some(address), _) => vec![PeerAddress::Inet(address)],
                (Some(addresses), ..) => addresses.iter().copied().map(PeerAddress::Inet).collect(),
                (None, ..) => {
                    list.extend(old.list.iter().filter(|endpoint| endpoint.server == server).cloned());
                    continue;
                }
            };
            for address in wanted {
                let known = old.list.iter().find(|known| known.server == server && *known.address() == address);
                list.push(known.cloned().unwrap_or_else(|| {
                    let peer = HttpPeer { _address: address, ..entry.peer.clone() };
                    Arc::new(Endpoint::new(self.next_id.fetch_add(1, Ordering::Relaxed), server, peer))
                }));
            }
        }
        let hashed = self.settings.balance == Balance::Hash;
        let same = list.len() == old.list.len() && list.iter().zip(&old.list).all(|(new, old)| new.id == old.id);
        if !same {
            self.endpoints.store(Arc::new(Endpoints::new(list, &self.weights, hashed)));
        }
    }

    fn breaker_state(&self, now: Instant) -> breaker::State {
        self.breaker.lock().state(now)
    }
}

/// The Host field of active checks: the origin's, else the server's own.
fn check_host(settings: &HttpOrigin, server: &Server) -> String {
    settings.host.clone().unwrap_or_else(|| match &server.address {
        ServerAddress::Unix(_) => "localhost".to_owned(),
        address => address.to_string(),
    })
}

#[cfg(test)]
mod tests;
