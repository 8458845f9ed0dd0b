//! A pool's work without requests: names resolved again, active checks, gauges. It holds the pool weakly between steps and
//! ends when the pool is dropped, retired, or the process stops. Every step is bounded by a timeout of the settings.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, future, stream};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Pool, ServerEntry};
use crate::origin::endpoint::Endpoint;
use crate::origin::{probe, resolve};

/// How often ejections that ended reach the gauges.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);
/// How soon a name without any address is looked up again.
const UNRESOLVED_INTERVAL: Duration = Duration::from_secs(1);
/// No interval of the settings runs faster.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Checks and look-ups under way at a time.
const PARALLEL_MAX: usize = 16;

impl Pool {
    /// The background work; spawn it once. Ends on `shutdown` (true, or its sender gone), when the pool is retired, and when
    /// it is dropped.
    pub fn run(self: &Arc<Self>, shutdown: watch::Receiver<bool>) -> impl Future<Output = ()> + Send + 'static {
        let pool = Arc::downgrade(self);
        let retired = self.retired.subscribe();
        async move {
            tokio::select! {
                _ = future::join3(resolve_loop(pool.clone()), check_loop(pool.clone()), publish_loop(pool)) => {}
                () = raised(shutdown) => {}
                () = raised(retired) => {}
            }
        }
    }

    /// Spawns [`Self::run`] unless that was done before.
    pub(in crate::origin) fn start(self: &Arc<Self>, shutdown: watch::Receiver<bool>) {
        if !self.started.swap(true, Ordering::Relaxed) {
            self.publish();
            tokio::spawn(self.run(shutdown));
        }
    }

    /// Stops the background work and takes the pool's gauges away. Requests that hold it go on.
    pub(in crate::origin) fn retire(&self) {
        self.retired.send_replace(true);
        self.unpublish();
    }

    /// Looks all names up. A name that cannot be resolved keeps its addresses, and is counted. `first_only`: do nothing when
    /// it was done by the time it is our turn.
    pub(in crate::origin) async fn resolve(&self, first_only: bool) {
        let _turn = self.resolving.lock().await;
        if first_only && self.resolved_once.load(Ordering::Acquire) {
            return;
        }
        let lookups: Vec<_> = self.servers.iter().map(|server| self.look_up(server)).collect();
        let found: Vec<_> = stream::iter(lookups).buffered(PARALLEL_MAX).collect().await;
        self.set_addresses(&found);
        self.resolved_once.store(true, Ordering::Release);
        self.publish();
    }

    /// The addresses of a server that is a name; None where it is not, or cannot be resolved now.
    async fn look_up(&self, server: &ServerEntry) -> Option<Vec<SocketAddr>> {
        let (host, port) = resolve::name(&server.address)?;
        match resolve::lookup(host, port, self.settings.timeouts.connect).await {
            Ok(addresses) => Some(addresses),
            Err(error) => {
                warn!(origin = self.name, server = server.label, %error, "name not resolved; its addresses stay");
                self.metrics.origin_errors.with_label_values(&[self.name.as_str(), "dns"]).inc();
                None
            }
        }
    }

    fn has_names(&self) -> bool {
        self.servers.iter().any(|server| resolve::name(&server.address).is_some())
    }

    fn every_server_has_an_address(&self) -> bool {
        let endpoints = self.endpoints.load();
        (0..self.servers.len()).all(|server| endpoints.list.iter().any(|endpoint| endpoint.server == server))
    }

    /// Checks every address once.
    async fn check_all(&self) {
        let endpoints = self.endpoints.load_full();
        let checks: Vec<_> = endpoints.list.iter().map(|endpoint| self.check(endpoint)).collect();
        stream::iter(checks).for_each_concurrent(PARALLEL_MAX, |check| check).await;
    }

    async fn check(&self, endpoint: &Endpoint) {
        let (Some(settings), Some(checker)) = (&self.settings.health.active, &self.checker) else { return };
        let server = &self.servers[endpoint.server];
        let result = probe::check(checker, &endpoint.peer, &server.host, settings).await;
        let changed =
            endpoint.health.lock().checked(result.is_ok(), settings.healthy_threshold, settings.unhealthy_threshold);
        if !changed {
            return;
        }
        let address = endpoint.address();
        match result {
            Ok(()) => info!(origin = self.name, server = server.label, %address, "up: checks pass"),
            Err(reason) => warn!(origin = self.name, server = server.label, %address, %reason, "down: checks fail"),
        }
        self.publish();
    }
}

async fn resolve_loop(pool: Weak<Pool>) {
    loop {
        let wait = {
            let Some(pool) = pool.upgrade() else { return };
            if !pool.has_names() {
                pool.resolved_once.store(true, Ordering::Release);
                break;
            }
            pool.resolve(false).await;
            let interval = pool.settings.dns_interval.max(INTERVAL_MIN);
            if pool.every_server_has_an_address() { interval } else { interval.min(UNRESOLVED_INTERVAL) }
        };
        tokio::time::sleep(wait).await;
    }
    future::pending().await
}

async fn check_loop(pool: Weak<Pool>) {
    loop {
        let wait = {
            let Some(pool) = pool.upgrade() else { return };
            let Some(settings) = &pool.settings.health.active else { break };
            let began = Instant::now();
            pool.resolve(true).await;
            pool.check_all().await;
            settings.interval.max(INTERVAL_MIN).saturating_sub(began.elapsed()).max(INTERVAL_MIN)
        };
        tokio::time::sleep(wait).await;
    }
    future::pending().await
}

async fn publish_loop(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(PUBLISH_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.publish();
    }
}

/// Completes once the value is true or nobody is left to set it.
async fn raised(mut signal: watch::Receiver<bool>) {
    // An error: the sender is gone, which ends the work as well.
    let _ = signal.wait_for(|raised| *raised).await;
}
