//! Counts the answered requests of one site. The metrics' children are looked up once per combination of labels and kept: five
//! look-ups by text for every request cost more than the counting.
//!
//! Bound: the combinations that occurred, each of which the metrics themselves keep as well.

use super::{Metrics, status_label};
use parking_lot::RwLock;
use prometheus::{Histogram, IntCounter};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What a request is counted under, beside its site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AnswerLabels {
    pub protocol: &'static str,
    pub class: &'static str,
    pub cache: &'static str,
    pub status: u16,
}

/// What is counted of a request.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub duration: Duration,
    /// None: no header was written.
    pub first_byte: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub struct Answers {
    metrics: Arc<Metrics>,
    site: String,
    known: RwLock<HashMap<AnswerLabels, Children, ahash::RandomState>>,
}

#[derive(Debug)]
struct Children {
    requests: IntCounter,
    response_body_bytes: IntCounter,
    request_body_bytes: IntCounter,
    seconds: Histogram,
    first_byte_seconds: Histogram,
}

impl Answers {
    pub fn new(metrics: Arc<Metrics>, site: &str) -> Self {
        Self { metrics, site: site.to_owned(), known: RwLock::default() }
    }

    /// One answer.
    pub fn count(&self, labels: AnswerLabels, answer: Answer) {
        if let Some(children) = self.known.read().get(&labels) {
            return children.count(answer);
        }
        let children = self.children(labels);
        children.count(answer);
        self.known.write().insert(labels, children);
    }

    fn children(&self, AnswerLabels { protocol, class, cache, status }: AnswerLabels) -> Children {
        let (m, site) = (&self.metrics, self.site.as_str());
        Children {
            requests: m.requests.with_label_values(&[site, protocol, class, cache, &status_label(status)]),
            response_body_bytes: m.response_body_bytes.with_label_values(&[site, cache]),
            request_body_bytes: m.request_body_bytes.with_label_values(&[site]),
            seconds: m.request_seconds.with_label_values(&[class, cache]),
            first_byte_seconds: m.first_byte_seconds.with_label_values(&[class, cache]),
        }
    }
}

impl Children {
    fn count(&self, answer: Answer) {
        self.requests.inc();
        self.response_body_bytes.inc_by(answer.sent_bytes);
        self.request_body_bytes.inc_by(answer.received_bytes);
        self.seconds.observe(answer.duration.as_secs_f64());
        if let Some(first_byte) = answer.first_byte {
            self.first_byte_seconds.observe(first_byte.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_combination_is_counted_under_its_own_labels() {
        let metrics = Arc::new(Metrics::new());
        let answers = Answers::new(metrics.clone(), "films");
        let labels = AnswerLabels { protocol: "h2", class: "segment", cache: "hit", status: 200 };
        let answer = Answer { sent_bytes: 10, received_bytes: 1, duration: Duration::from_millis(2), first_byte: None };
        answers.count(labels, answer);
        answers.count(labels, answer);
        answers.count(AnswerLabels { status: 206, ..labels }, answer);
        let requests = |status| metrics.requests.with_label_values(&["films", "h2", "segment", "hit", status]).get();
        assert_eq!((requests("200"), requests("206")), (2, 1));
        assert_eq!(metrics.response_body_bytes.with_label_values(&["films", "hit"]).get(), 30);
        assert_eq!(metrics.request_seconds.with_label_values(&["segment", "hit"]).get_sample_count(), 3);
        assert_eq!(metrics.first_byte_seconds.with_label_values(&["segment", "hit"]).get_sample_count(), 0);
    }
}
