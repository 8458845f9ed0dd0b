//! Every metric of Reelgate: a flat table, registered once, in base units, with bounded label sets. Labels come from the
//! configuration (site, origin, server) or from fixed lists; never from a request.

use super::Top;
use parking_lot::Mutex;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::borrow::Cow;
use std::time::{Instant, SystemTime};

/// What is registered under one name, whether or not it has a value yet: for the meta-tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// With the `reelgate_` prefix.
    pub name: String,
    /// `counter`, `gauge` or `histogram`
    pub kind: &'static str,
    pub labels: Vec<String>,
    pub help: String,
}

/// The registry, and the list of what was put into it: a family with labels and no value yet does not show in `gather`.
#[derive(Debug, Default)]
struct Table {
    registry: Registry,
    families: Mutex<Vec<Family>>,
}

/// Handles of all metric families. One per process (one per test); shared by `Arc`.
#[derive(Debug)]
pub struct Metrics {
    table: Table,
    started: Instant,
    /// No metric: its names come from requests.
    pub top: Top,
    pub requests: IntCounterVec,
    pub request_body_bytes: IntCounterVec,
    pub response_body_bytes: IntCounterVec,
    pub request_seconds: HistogramVec,
    pub first_byte_seconds: HistogramVec,
    pub requests_in_flight: IntGauge,
    pub connections: IntGaugeVec,
    pub connections_accepted: IntCounterVec,
    pub tls_handshake_failures: IntCounter,
    pub certificate_reloads: IntCounterVec,
    pub certificate_not_after_timestamp_seconds: GaugeVec,
    pub limits_reached: IntCounterVec,
    pub origin_requests: IntCounterVec,
    pub origin_errors: IntCounterVec,
    pub origin_retries: IntCounterVec,
    pub origin_phase_seconds: HistogramVec,
    pub origin_connections: IntCounterVec,
    pub origin_body_bytes: IntCounterVec,
    pub origin_server_up: IntGaugeVec,
    pub origin_breaker_open: IntGaugeVec,
    pub cache_bytes: IntGaugeVec,
    pub cache_capacity_bytes: IntGaugeVec,
    pub cache_objects: IntGaugeVec,
    pub cache_evictions: IntCounterVec,
    pub cache_tier_hits: IntCounterVec,
    pub cache_fills: IntCounterVec,
    pub cache_collapsed: IntCounterVec,
    pub cache_readers_let_go: IntCounterVec,
    pub slice_runs: IntCounterVec,
    pub slice_runs_in_flight: IntGauge,
    pub slice_origin_bytes: IntCounter,
    pub slice_joins: IntCounter,
    pub slice_versions_dropped: IntCounter,
    pub compression_runs: IntCounterVec,
    pub compression_input_bytes: IntCounterVec,
    pub compression_output_bytes: IntCounterVec,
    pub compression_failures: IntCounterVec,
    pub purges: IntCounterVec,
    pub bans: IntGauge,
    pub ban_log_bytes: IntGauge,
    pub ban_log_failures: IntCounter,
    pub disk_accepted: IntCounterVec,
    pub disk_refused: IntCounterVec,
    pub disk_lost: IntCounterVec,
    pub disk_queue_bytes: IntGaugeVec,
    pub disk_written_bytes: IntCounterVec,
    pub disk_read_bytes: IntCounterVec,
    pub disk_errors: IntCounterVec,
    pub disk_state: IntGaugeVec,
    pub disk_index_bytes: IntGaugeVec,
    pub config_reload_success: IntGauge,
    pub config_reloads: IntCounterVec,
    pub config_loaded_timestamp_seconds: GaugeVec,
    pub access_log_dropped: IntCounter,
    pub ready: IntGauge,
    pub library_titles: IntGaugeVec,
    pub library_probed: IntGaugeVec,
    pub library_broken: IntGaugeVec,
    pub transcode_optimised_titles: IntGaugeVec,
    pub transcode_optimised_saved_ratio: GaugeVec,
    pub library_index_errors: IntCounterVec,
    pub transcoder_up: IntGauge,
    pub transcoder_starts: IntCounter,
    pub transcode_answers: IntCounterVec,
    pub transcoder_events: IntCounterVec,
    pub transcoder_jobs: IntGaugeVec,
    pub renditions: IntCounterVec,
    pub transcoder_ahead_bytes: IntGauge,
    pub transcoder_server_up: IntGaugeVec,
    pub transcoder_server_answers: IntCounterVec,
    pub background_files: IntCounterVec,
    pub background_bytes: IntCounterVec,
    pub transcoder_encoder_up: IntGaugeVec,
    pub build_info: IntGaugeVec,
    pub start_timestamp_seconds: Gauge,
}

/// From 0.25 ms to 60 s: a RAM hit to a transcode that has to start first.
const LATENCY_BUCKETS_S: [f64; 16] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

impl Metrics {
    /// Registers everything; the names are fixed at compile time, so this cannot fail at run time.
    pub fn new() -> Self {
        let r = Table::default();
        let metrics = Self {
            requests: counters(
                &r,
                "requests_total",
                "Requests answered.",
                &["site", "protocol", "class", "cache", "status"],
            ),
            request_body_bytes: counters(
                &r,
                "request_body_bytes_total",
                "Bytes of request bodies read from clients.",
                &["site"],
            ),
            response_body_bytes: counters(
                &r,
                "response_body_bytes_total",
                "Bytes of response bodies sent to clients.",
                &["site", "cache"],
            ),
            request_seconds: histograms(
                &r,
                "request_duration_seconds",
                "From a request's headers read to its response's last byte.",
                &["class", "cache"],
            ),
            first_byte_seconds: histograms(
                &r,
                "first_byte_seconds",
                "From a request's headers read to its response's headers written.",
                &["class", "cache"],
            ),
            requests_in_flight: gauge(&r, "requests_in_flight", "Requests being answered now."),
            connections: gauges(&r, "connections", "Open client connections.", &["transport"]),
            connections_accepted: counters(
                &r,
                "connections_accepted_total",
                "Client connections accepted.",
                &["transport"],
            ),
            tls_handshake_failures: counter(
                &r,
                "tls_handshake_failures_total",
                "TLS and QUIC handshakes of clients that failed or timed out.",
            ),
            certificate_reloads: counters(
                &r,
                "certificate_reloads_total",
                "Certificates read again from their files, by outcome.",
                &["outcome"],
            ),
            certificate_not_after_timestamp_seconds: float_gauges(
                &r,
                "certificate_not_after_timestamp_seconds",
                "When a certificate expires (Unix time), by its file.",
                &["certificate"],
            ),
            limits_reached: counters(
                &r,
                "limits_reached_total",
                "Times a limit of the configuration was reached.",
                &["limit"],
            ),
            origin_requests: counters(
                &r,
                "origin_requests_total",
                "Requests sent to origins, by status of the answer (0: none).",
                &["origin", "status"],
            ),
            origin_errors: counters(
                &r,
                "origin_errors_total",
                "Requests to origins that failed.",
                &["origin", "reason"],
            ),
            origin_retries: counters(
                &r,
                "origin_retries_total",
                "Requests to origins sent again, and retries refused by the budget.",
                &["origin", "outcome"],
            ),
            origin_phase_seconds: histograms(
                &r,
                "origin_phase_seconds",
                "Time spent connecting to an origin, and from a request to the first byte of its answer.",
                &["origin", "phase"],
            ),
            origin_connections: counters(
                &r,
                "origin_connections_total",
                "Connections used for origin requests, new or reused.",
                &["origin", "reused"],
            ),
            origin_body_bytes: counters(
                &r,
                "origin_body_bytes_total",
                "Bytes of response bodies received from origins.",
                &["origin"],
            ),
            origin_server_up: gauges(&r, "origin_server_up", "1: the server is in rotation.", &["origin", "server"]),
            origin_breaker_open: gauges(
                &r,
                "origin_breaker_open",
                "1: the origin's circuit breaker is open.",
                &["origin"],
            ),
            cache_bytes: gauges(&r, "cache_bytes", "Bytes kept, by tier.", &["tier"]),
            cache_capacity_bytes: gauges(&r, "cache_capacity_bytes", "Bound of the bytes kept, by tier.", &["tier"]),
            cache_objects: gauges(&r, "cache_objects", "Objects kept, by tier.", &["tier"]),
            cache_tier_hits: counters(&r, "cache_tier_hits_total", "Lookups answered by a tier.", &["tier"]),
            cache_evictions: counters(&r, "cache_evictions_total", "Objects evicted to make room, by tier.", &["tier"]),
            cache_fills: counters(&r, "cache_fills_total", "Fills, by how they ended.", &["outcome"]),
            cache_readers_let_go: counters(
                &r,
                "cache_readers_let_go_total",
                "Readers of a body that was let go before they had it all, by where they went on.",
                &["outcome"],
            ),
            cache_collapsed: counters(
                &r,
                "cache_collapsed_total",
                "Requests that waited for or followed another's fill.",
                &["site"],
            ),
            slice_runs: counters(
                &r,
                "slice_runs_total",
                "Requests to origins for a part of a sliced object, by how they ended.",
                &["outcome"],
            ),
            slice_runs_in_flight: gauge(&r, "slice_runs_in_flight", "Parts of sliced objects being fetched now."),
            slice_origin_bytes: counter(
                &r,
                "slice_origin_bytes_total",
                "Bytes of sliced objects received from origins.",
            ),
            slice_joins: counter(
                &r,
                "slice_joins_total",
                "Granules of a sliced object that a client read while they were fetched for another.",
            ),
            slice_versions_dropped: counter(
                &r,
                "slice_versions_dropped_total",
                "Versions of sliced objects dropped because the origin has another.",
            ),
            compression_runs: counters(
                &r,
                "compression_runs_total",
                "Bodies coded (stored, popular, passing) or decoded, to their end.",
                &["coding", "kind"],
            ),
            compression_input_bytes: counters(
                &r,
                "compression_input_bytes_total",
                "Bytes that went into coders.",
                &["coding", "kind"],
            ),
            compression_output_bytes: counters(
                &r,
                "compression_output_bytes_total",
                "Bytes that came out of coders.",
                &["coding", "kind"],
            ),
            compression_failures: counters(
                &r,
                "compression_failures_total",
                "Bodies whose coding or decoding failed or was given up.",
                &["coding", "kind"],
            ),
            purges: counters(&r, "purges_total", "Purges put in force.", &["selector", "soft"]),
            bans: gauge(&r, "bans", "Purges kept because an object older than they are may be left."),
            ban_log_bytes: gauge(&r, "ban_log_bytes", "Size of the log that purges survive a restart in."),
            ban_log_failures: counter(
                &r,
                "ban_log_failures_total",
                "Times the log of purges could not be read, locked, written or synced.",
            ),
            disk_accepted: counters(&r, "disk_accepted_total", "Objects accepted to be written to a disk.", &["disk"]),
            disk_refused: counters(
                &r,
                "disk_refused_total",
                "Objects, heads and removals a disk did not accept, by reason.",
                &["disk", "reason"],
            ),
            disk_lost: counters(&r, "disk_lost_total", "Objects accepted and then not written.", &["disk"]),
            disk_queue_bytes: gauges(&r, "disk_queue_bytes", "Bytes that wait to be written to a disk.", &["disk"]),
            disk_written_bytes: counters(
                &r,
                "disk_written_bytes_total",
                "Bytes written to a disk: new ones, and again of what was kept when its segment was reclaimed.",
                &["disk", "kind"],
            ),
            disk_read_bytes: counters(
                &r,
                "disk_read_bytes_total",
                "Bytes of heads and bodies read from a disk and verified.",
                &["disk"],
            ),
            disk_errors: counters(
                &r,
                "disk_errors_total",
                "Operations on a disk that failed, damage found included.",
                &["disk", "operation"],
            ),
            disk_state: gauges(&r, "disk_state", "1: the disk is in this state.", &["disk", "state"]),
            disk_index_bytes: gauges(&r, "disk_index_bytes", "Memory of the index of a disk.", &["disk"]),
            config_reload_success: gauge(
                &r,
                "config_reload_success",
                "1: the last load of the configuration succeeded.",
            ),
            config_reloads: counters(
                &r,
                "config_reloads_total",
                "Loads of the configuration, by outcome.",
                &["outcome"],
            ),
            config_loaded_timestamp_seconds: float_gauges(
                &r,
                "config_loaded_timestamp_seconds",
                "When the configuration in force was loaded (Unix time).",
                &[],
            ),
            access_log_dropped: counter(
                &r,
                "access_log_dropped_total",
                "Access log lines dropped because the writer fell behind.",
            ),
            ready: gauge(&r, "ready", "1: /readyz answers 200."),
            library_titles: gauges(&r, "library_titles", "Titles found by a library origin.", &["origin"]),
            library_probed: gauges(
                &r,
                "library_probed",
                "Films of a library that were looked into, the broken ones included.",
                &["origin"],
            ),
            library_broken: gauges(
                &r,
                "library_broken",
                "Films of a library that cannot be streamed; `/titles.json?broken=1` says why.",
                &["origin"],
            ),
            transcode_optimised_titles: gauges(
                &r,
                "transcode_optimised_titles",
                "Titles of a library whose bit rates were found out by trials.",
                &["origin"],
            ),
            transcode_optimised_saved_ratio: float_gauges(
                &r,
                "transcode_optimised_saved_ratio",
                "Mean part of their bits that these save, for players that take every codec: 0 to 1.",
                &["origin"],
            ),
            library_index_errors: counters(
                &r,
                "library_index_errors_total",
                "Failures of a library's index: it goes on from memory, or makes the index anew.",
                &["origin"],
            ),
            transcoder_up: gauge(&r, "transcoder_up", "1: a transcoder runs and answers."),
            transcoder_starts: counter(&r, "transcoder_starts_total", "Times the transcoder was started."),
            transcode_answers: counters(
                &r,
                "transcode_answers_total",
                "Answers a library asked of the transcoder, by kind and outcome.",
                &["origin", "kind", "outcome"],
            ),
            transcoder_events: counters(&r, "transcoder_events_total", "What the transcoder did.", &["event"]),
            transcoder_jobs: gauges(&r, "transcoder_jobs", "Runs of an encoder, waiting and running.", &["state"]),
            renditions: counters(
                &r,
                "renditions_total",
                "What was made to add rungs to the ladders of HLS origins, by kind and outcome.",
                &["kind", "outcome"],
            ),
            transcoder_ahead_bytes: gauge(
                &r,
                "transcoder_ahead_bytes",
                "Segments made before anybody asked, and kept until somebody does.",
            ),
            transcoder_server_up: gauges(
                &r,
                "transcoder_server_up",
                "1: this transcoder answers; `local` is the one on this host.",
                &["server"],
            ),
            transcoder_server_answers: counters(
                &r,
                "transcoder_server_answers_total",
                "Answers asked of each transcoder, by outcome.",
                &["server", "outcome"],
            ),
            background_files: counters(
                &r,
                "background_files_total",
                "Files of popular titles that the cache lacked, by what became of them.",
                &["origin", "outcome"],
            ),
            background_bytes: counters(
                &r,
                "background_bytes_total",
                "Bytes of popular titles that were made and put into the cache while nobody waited.",
                &["origin"],
            ),
            transcoder_encoder_up: gauges(
                &r,
                "transcoder_encoder_up",
                "1: this encoder works on this device, as it was tried last.",
                &["server", "device", "encoder"],
            ),
            build_info: gauges(&r, "build_info", "1, with the version as a label.", &["version"]),
            start_timestamp_seconds: float_gauge(
                &r,
                "start_timestamp_seconds",
                "When the process started (Unix time).",
            ),
            table: r,
            top: Top::default(),
            started: Instant::now(),
        };
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        metrics.start_timestamp_seconds.set(now.as_secs_f64());
        metrics
    }

    /// The Prometheus text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.table.registry.gather()).unwrap_or_default()
    }

    /// Everything registered, by name.
    pub fn families(&self) -> Vec<Family> {
        let mut families = self.table.families.lock().clone();
        families.sort_by(|a, b| a.name.cmp(&b.name));
        families
    }

    /// Since these metrics (and with them the process) began.
    pub fn uptime(&self) -> std::time::Duration {
        self.started.elapsed()
    }

    /// Gathered families, for `/api/v1/stats` and the meta-tests.
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.table.registry.gather()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("reelgate")
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(
    table: &Table,
    kind: &'static str,
    collector: prometheus::Result<C>,
) -> C {
    let collector = collector.expect("metric names and labels are constants");
    for desc in collector.desc() {
        table.families.lock().push(Family {
            name: desc.fq_name.clone(),
            kind,
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        });
    }
    table.registry.register(Box::new(collector.clone())).expect("metric names are unique");
    collector
}

fn counters(r: &Table, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(r, "counter", IntCounterVec::new(opts(name, help), labels))
}

fn counter(r: &Table, name: &str, help: &str) -> IntCounter {
    registered(r, "counter", IntCounter::with_opts(opts(name, help)))
}

fn gauges(r: &Table, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(r, "gauge", IntGaugeVec::new(opts(name, help), labels))
}

fn gauge(r: &Table, name: &str, help: &str) -> IntGauge {
    registered(r, "gauge", IntGauge::with_opts(opts(name, help)))
}

fn float_gauges(r: &Table, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    registered(r, "gauge", GaugeVec::new(opts(name, help), labels))
}

fn float_gauge(r: &Table, name: &str, help: &str) -> Gauge {
    registered(r, "gauge", Gauge::with_opts(opts(name, help)))
}

fn histograms(r: &Table, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let opts = HistogramOpts::new(name, help).namespace("reelgate").buckets(LATENCY_BUCKETS_S.to_vec());
    registered(r, "histogram", HistogramVec::new(opts, labels))
}

/// A status as a label: what is registered, those of common proxies (499, 520 to 530) and 0 for none; all else together, so
/// that an origin cannot mint labels.
pub fn status_label(status: u16) -> Cow<'static, str> {
    let registered = http::StatusCode::from_u16(status).is_ok_and(|status| status.canonical_reason().is_some());
    if registered || matches!(status, 0 | 499 | 520..=530) {
        Cow::Owned(status.to_string())
    } else {
        Cow::Borrowed("other")
    }
}

#[cfg(test)]
mod tests;
