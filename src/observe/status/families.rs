//! Gathered metrics by name and label. It knows what a counter, a gauge and a histogram are, and no metric by name.

use super::{Latency, Metrics};
use prometheus::proto::{Metric, MetricFamily, MetricType};
use std::collections::BTreeMap;

pub(super) struct Families(Vec<MetricFamily>);

impl Families {
    pub(super) fn gather(metrics: &Metrics) -> Self {
        Self(metrics.gather())
    }

    /// Every series of a family with its value (a counter's or a gauge's, cut to a whole number ≥ 0).
    fn series(&self, name: &str) -> impl Iterator<Item = (&Metric, u64)> {
        self.0.iter().filter(move |family| family.name() == name).flat_map(|family| {
            let counter = family.get_field_type() == MetricType::COUNTER;
            family.get_metric().iter().map(move |metric| {
                let value = if counter { metric.get_counter().get_value() } else { metric.get_gauge().get_value() };
                (metric, value as u64)
            })
        })
    }

    pub(super) fn total(&self, name: &str) -> u64 {
        self.series(name).map(|(_, value)| value).sum()
    }

    pub(super) fn each(&self, name: &str, by: &str, mut each: impl FnMut(String, u64)) {
        self.series(name).for_each(|(metric, value)| each(label(metric, by).to_owned(), value));
    }

    pub(super) fn pairs(&self, name: &str, a: &str, b: &str, mut each: impl FnMut(String, String, u64)) {
        self.series(name).for_each(|(m, value)| each(label(m, a).to_owned(), label(m, b).to_owned(), value));
    }

    /// Sums by a label, after giving it a coarser name.
    pub(super) fn by(&self, name: &str, by: &str, coarser: fn(&str) -> String) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        self.series(name).for_each(|(metric, value)| *sums.entry(coarser(label(metric, by))).or_default() += value);
        sums
    }

    /// All series of a histogram as one.
    pub(super) fn latency(&self, name: &str) -> Latency {
        let mut latency = Latency::default();
        for metric in self.0.iter().filter(|family| family.name() == name).flat_map(MetricFamily::get_metric) {
            let histogram = metric.get_histogram();
            latency.count += histogram.get_sample_count();
            latency.sum_s += histogram.get_sample_sum();
            for (at, bucket) in histogram.get_bucket().iter().enumerate() {
                match latency.buckets.get_mut(at) {
                    Some((_, count)) => *count += bucket.cumulative_count(),
                    None => latency.buckets.push((bucket.upper_bound(), bucket.cumulative_count())),
                }
            }
        }
        latency.buckets.retain(|(bound, _)| bound.is_finite());
        latency.p50_s = quantile(&latency, 0.5);
        latency.p90_s = quantile(&latency, 0.9);
        latency.p99_s = quantile(&latency, 0.99);
        latency
    }
}

/// As Prometheus' `histogram_quantile`: linear within the bucket; beyond the last bound, that bound.
fn quantile(latency: &Latency, q: f64) -> Option<f64> {
    if latency.count == 0 {
        return None;
    }
    let rank = q * latency.count as f64;
    let (mut bound_below, mut count_below) = (0.0, 0);
    for &(bound, count) in &latency.buckets {
        if count as f64 >= rank && count > count_below {
            let within = (rank - count_below as f64) / (count - count_below) as f64;
            return Some(bound_below + (bound - bound_below) * within);
        }
        (bound_below, count_below) = (bound, count);
    }
    Some(bound_below)
}

fn label<'a>(metric: &'a Metric, name: &str) -> &'a str {
    metric.get_label().iter().find(|pair| pair.name() == name).map_or("", |pair| pair.value())
}
