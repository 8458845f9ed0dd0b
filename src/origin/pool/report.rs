//! What a pool shows: gauges, and the status for the admin API.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Pool;
use crate::origin::breaker::State;
use crate::origin::endpoint::Endpoint;
use crate::origin::health::Down;
use crate::origin::status::{AddressStatus, BreakerStatus, PoolStatus, ServerStatus};

impl Pool {
    /// The pool as it stands now.
    pub fn status(&self) -> PoolStatus {
        let now = Instant::now();
        let endpoints = self.endpoints.load();
        let servers: Vec<ServerStatus> = self
            .servers
            .iter()
            .enumerate()
            .map(|(server, entry)| {
                let addresses: Vec<_> =
                    endpoints.list.iter().filter(|e| e.server == server).map(|e| address_status(e, now)).collect();
                ServerStatus {
                    server: entry.label.clone(),
                    weight: self.weights[server],
                    up: addresses.iter().any(|address| address.up),
                    addresses,
                }
            })
            .collect();
        let breaker = match self.breaker_state(now) {
            State::Closed => BreakerStatus::Closed,
            State::Open { until } => {
                BreakerStatus::Open { retry_after_s: until.saturating_duration_since(now).as_secs_f64() }
            }
            State::HalfOpen { .. } => BreakerStatus::HalfOpen,
        };
        let in_flight = servers.iter().flat_map(|server| &server.addresses).map(|address| address.in_flight).sum();
        PoolStatus { origin: self.name.clone(), breaker, in_flight, servers }
    }

    /// Sets the gauges, unless a reload replaced this pool.
    pub(super) fn publish(&self) {
        if *self.retired.borrow() {
            return;
        }
        let now = Instant::now();
        let endpoints = self.endpoints.load();
        for (server, entry) in self.servers.iter().enumerate() {
            let up = endpoints.list.iter().any(|e| e.server == server && e.down(now).is_none());
            let labels = [self.name.as_str(), entry.label.as_str()];
            self.metrics.origin_server_up.with_label_values(&labels).set(i64::from(up));
        }
        let open = self.breaker_state(now) != State::Closed;
        self.metrics.origin_breaker_open.with_label_values(&[self.name.as_str()]).set(i64::from(open));
    }

    /// Takes the gauges away. An error means that they were not there.
    pub(super) fn unpublish(&self) {
        for entry in &self.servers {
            let _ = self.metrics.origin_server_up.remove_label_values(&[self.name.as_str(), entry.label.as_str()]);
        }
        let _ = self.metrics.origin_breaker_open.remove_label_values(&[self.name.as_str()]);
    }
}

fn address_status(endpoint: &Endpoint, now: Instant) -> AddressStatus {
    let down = endpoint.down(now);
    let (reason, returns_in_s) = match down {
        None => (None, None),
        Some(Down::Checks) => (Some("checks"), None),
        Some(Down::Ejected { until }) => (Some("ejected"), Some(until.saturating_duration_since(now).as_secs_f64())),
    };
    AddressStatus {
        address: endpoint.address().to_string(),
        up: down.is_none(),
        reason,
        returns_in_s,
        in_flight: endpoint.in_flight.load(Ordering::Relaxed),
    }
}
