//! Live statistics as JSON for `/api/v1/stats`, `/api/v1/events` and the dashboard: the metrics, summed up into what a person
//! asks first.
//!
//! Invariants: but for the disks' and what is asked for most, every number comes from [`Metrics`], so the dashboard and Prometheus
//! never disagree; counters are totals since the start (a reader takes differences); it holds no addresses of clients, and targets
//! only redacted ([`TopStats`]).

mod families;

use super::{Lifecycle, Metrics, Phase, TopStats};
use families::Families;
use serde::Serialize;
use std::collections::BTreeMap;

/// Cache results that were answered without the origin's body.
const HITS: [&str; 3] = ["hit", "revalidated", "stale"];
/// Cache results of requests that were never meant for the cache; no part of the hit ratio.
const UNCACHED: [&str; 4] = ["", "none", "bypass", "pass"];

/// A snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    pub version: &'static str,
    pub uptime_s: f64,
    /// `starting`, `serving` or `draining`
    pub phase: &'static str,
    pub requests: Requests,
    pub bytes: Bytes,
    /// Open client connections, by transport.
    pub connections: BTreeMap<String, u64>,
    pub limits_reached: BTreeMap<String, u64>,
    /// From a request's headers read to its response's last byte.
    pub duration: Latency,
    /// From a request's headers read to its response's headers written.
    pub first_byte: Latency,
    /// By tier.
    pub cache: BTreeMap<String, Tier>,
    pub disks: Vec<Disk>,
    /// What is asked for most.
    pub top: TopStats,
    pub origins: BTreeMap<String, Origin>,
    pub reload: Reload,
    pub access_log_dropped: u64,
}

/// Requests of clients.
#[derive(Debug, Clone, Serialize)]
pub struct Requests {
    pub total: u64,
    pub in_flight: u64,
    /// By cache result (`hit`, `miss`, …).
    pub cache: BTreeMap<String, u64>,
    /// By class of what was asked for.
    pub class: BTreeMap<String, u64>,
    /// By `1xx` … `5xx`.
    pub status: BTreeMap<String, u64>,
    /// Hits among the requests that went through the cache; null before the first.
    pub hit_ratio: Option<f64>,
}

/// Bytes of bodies.
#[derive(Debug, Clone, Serialize)]
pub struct Bytes {
    pub to_clients: u64,
    pub from_clients: u64,
    pub from_origins: u64,
    /// Share of the bytes to clients that no origin had to send; null before the first. Below zero is shown as zero.
    pub offload_ratio: Option<f64>,
}

/// A histogram. Quantiles are interpolated within a bucket, as Prometheus does; null while it is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Latency {
    pub count: u64,
    pub sum_s: f64,
    pub p50_s: Option<f64>,
    pub p90_s: Option<f64>,
    pub p99_s: Option<f64>,
    /// Upper bounds in seconds with cumulative counts, without `+Inf`: a reader can take quantiles of an interval.
    pub buckets: Vec<(f64, u64)>,
}

/// RAM, or all disks.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tier {
    pub bytes: u64,
    pub capacity_bytes: u64,
    pub objects: u64,
    pub evictions: u64,
    /// Lookups it answered.
    pub hits: u64,
}

/// One disk of the store.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Disk {
    /// As in the metrics: its place in `cache.disk`.
    pub disk: String,
    /// `ok`, `recovering`, `degraded` or `closed`
    pub state: &'static str,
    /// Why it is degraded; else empty.
    pub reason: String,
    pub objects: u64,
    /// Heads and bodies of what can be found.
    pub bytes: u64,
    pub capacity_bytes: u64,
    /// Of `cache.memory`.
    pub index_bytes: u64,
    pub queue_bytes: u64,
    pub queue_capacity_bytes: u64,
    pub accepted: u64,
    /// By reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Accepted, and then not written.
    pub lost: u64,
    /// What is kept when its place is reclaimed included.
    pub written_bytes: u64,
    pub read_bytes: u64,
    pub errors: u64,
    /// The write budget; null: none.
    pub write_bytes_per_second_max: Option<u64>,
    pub write_bytes_per_day_max: Option<u64>,
}

/// One origin.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Origin {
    pub breaker_open: bool,
    pub requests: u64,
    pub errors: u64,
    pub retries: u64,
    pub bytes: u64,
    /// Up or down, by address.
    pub servers: BTreeMap<String, bool>,
}

/// The configuration in force.
#[derive(Debug, Clone, Serialize)]
pub struct Reload {
    /// Whether the last load of the configuration succeeded.
    pub success: bool,
    /// When the configuration in force was loaded; 0: not yet.
    pub loaded_timestamp_s: f64,
}

impl Stats {
    /// Reads all metrics once.
    pub fn snapshot(metrics: &Metrics, lifecycle: &Lifecycle, disks: Vec<Disk>) -> Self {
        let families = Families::gather(metrics);
        let requests = Requests {
            total: families.total("reelgate_requests_total"),
            in_flight: families.total("reelgate_requests_in_flight"),
            cache: families.by("reelgate_requests_total", "cache", str::to_owned),
            class: families.by("reelgate_requests_total", "class", str::to_owned),
            status: families.by("reelgate_requests_total", "status", |status| {
                status.get(..1).map_or_else(String::new, |hundreds| format!("{hundreds}xx"))
            }),
            hit_ratio: None,
        };
        let to_clients = families.total("reelgate_response_body_bytes_total");
        let from_origins = families.total("reelgate_origin_body_bytes_total");
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: metrics.uptime().as_secs_f64(),
            phase: match lifecycle.phase() {
                Phase::Starting => "starting",
                Phase::Serving => "serving",
                Phase::Draining => "draining",
            },
            requests: Requests { hit_ratio: hit_ratio(&requests.cache), ..requests },
            bytes: Bytes {
                to_clients,
                from_clients: families.total("reelgate_request_body_bytes_total"),
                from_origins,
                offload_ratio: (to_clients > 0).then(|| (1.0 - from_origins as f64 / to_clients as f64).max(0.0)),
            },
            connections: families.by("reelgate_connections", "transport", str::to_owned),
            limits_reached: families.by("reelgate_limits_reached_total", "limit", str::to_owned),
            duration: families.latency("reelgate_request_duration_seconds"),
            first_byte: families.latency("reelgate_first_byte_seconds"),
            cache: tiers(&families),
            disks,
            top: metrics.top.stats(),
            origins: origins(&families),
            reload: Reload {
                success: families.total("reelgate_config_reload_success") == 1,
                loaded_timestamp_s: metrics.config_loaded_timestamp_seconds.with_label_values::<&str>(&[]).get(),
            },
            access_log_dropped: metrics.access_log_dropped.get(),
        }
    }
}

fn hit_ratio(by_result: &BTreeMap<String, u64>) -> Option<f64> {
    let count =
        |wanted: &dyn Fn(&str) -> bool| by_result.iter().filter(|(k, _)| wanted(k)).map(|(_, n)| n).sum::<u64>();
    let hits = count(&|result| HITS.contains(&result));
    let cached = count(&|result| !UNCACHED.contains(&result));
    (cached > 0).then(|| hits as f64 / cached as f64)
}

fn tiers(families: &Families) -> BTreeMap<String, Tier> {
    let mut tiers = BTreeMap::<String, Tier>::new();
    families.each("reelgate_cache_bytes", "tier", |tier, n| tiers.entry(tier).or_default().bytes += n);
    families
        .each("reelgate_cache_capacity_bytes", "tier", |tier, n| tiers.entry(tier).or_default().capacity_bytes += n);
    families.each("reelgate_cache_objects", "tier", |tier, n| tiers.entry(tier).or_default().objects += n);
    families.each("reelgate_cache_evictions_total", "tier", |tier, n| tiers.entry(tier).or_default().evictions += n);
    families.each("reelgate_cache_tier_hits_total", "tier", |tier, n| tiers.entry(tier).or_default().hits += n);
    tiers
}

fn origins(families: &Families) -> BTreeMap<String, Origin> {
    let mut origins = BTreeMap::<String, Origin>::new();
    families.each("reelgate_origin_requests_total", "origin", |o, n| origins.entry(o).or_default().requests += n);
    families.each("reelgate_origin_errors_total", "origin", |o, n| origins.entry(o).or_default().errors += n);
    families.each("reelgate_origin_retries_total", "origin", |o, n| origins.entry(o).or_default().retries += n);
    families.each("reelgate_origin_body_bytes_total", "origin", |o, n| origins.entry(o).or_default().bytes += n);
    families.each("reelgate_origin_breaker_open", "origin", |o, n| origins.entry(o).or_default().breaker_open |= n > 0);
    families.pairs("reelgate_origin_server_up", "origin", "server", |origin, server, n| {
        origins.entry(origin).or_default().servers.insert(server, n > 0);
    });
    origins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_process_has_no_ratios_and_no_quantiles() {
        let stats = Stats::snapshot(&Metrics::new(), &Lifecycle::default(), Vec::new());
        assert_eq!((stats.phase, stats.requests.total), ("starting", 0));
        assert_eq!((stats.requests.hit_ratio, stats.bytes.offload_ratio, stats.duration.p99_s), (None, None, None));
    }

    #[test]
    fn counters_are_summed_over_what_is_not_asked_for() {
        let metrics = Metrics::new();
        for (class, cache, status, times) in
            [("segment", "hit", "200", 6), ("segment", "miss", "206", 2), ("other", "pass", "502", 9)]
        {
            metrics.requests.with_label_values(&["s", "HTTP/2", class, cache, status]).inc_by(times);
        }
        metrics.response_body_bytes.with_label_values(&["s", "hit"]).inc_by(1000);
        metrics.origin_body_bytes.with_label_values(&["o"]).inc_by(250);
        metrics.origin_server_up.with_label_values(&["o", "127.0.0.1:1"]).set(1);
        metrics.origin_server_up.with_label_values(&["o", "127.0.0.1:2"]).set(0);
        metrics.origin_breaker_open.with_label_values(&["o"]).set(1);
        metrics.cache_bytes.with_label_values(&["memory"]).set(7);
        metrics.cache_capacity_bytes.with_label_values(&["memory"]).set(70);
        let stats = Stats::snapshot(&metrics, &Lifecycle::default(), Vec::new());
        assert_eq!(stats.requests.total, 17);
        assert_eq!(stats.requests.class["segment"], 8);
        assert_eq!(stats.requests.status["5xx"], 9);
        assert_eq!(stats.requests.hit_ratio, Some(0.75));
        assert_eq!(stats.bytes.offload_ratio, Some(0.75));
        assert_eq!((stats.cache["memory"].bytes, stats.cache["memory"].capacity_bytes), (7, 70));
        assert!(stats.origins["o"].breaker_open);
        assert_eq!(stats.origins["o"].servers.values().copied().collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn quantiles_lie_within_the_bucket_of_their_rank() {
        let metrics = Metrics::new();
        for (class, seconds, times) in [("a", 0.002, 90), ("b", 0.3, 9), ("b", 120.0, 1)] {
            (0..times).for_each(|_| metrics.request_seconds.with_label_values(&[class, "hit"]).observe(seconds));
        }
        let latency = Stats::snapshot(&metrics, &Lifecycle::default(), Vec::new()).duration;
        assert_eq!(latency.count, 100);
        let (p50, p99) = (latency.p50_s.expect("p50"), latency.p99_s.expect("p99"));
        assert!((0.001..=0.0025).contains(&p50), "{p50}");
        assert!((0.25..=0.5).contains(&p99), "{p99}");
    }
}
