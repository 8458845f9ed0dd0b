//! A film on a scripted origin: ranges, validators, versions, and a record of every byte that left it.

use crate::support::{Gate, Origin, Received, Reply, Step};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What the origin answers for `/film.mkv`, and what it sent.
#[derive(Clone)]
pub struct Film {
    pub total: u64,
    pub version: Arc<AtomicU64>,
    pub answers_ranges: Arc<AtomicBool>,
    /// None: `If-None-Match` is answered by 304 where it holds.
    pub status: Arc<AtomicU64>,
    pub gate: Option<Gate>,
    /// Bytes a second of each connection; 0: no bound.
    pub pace: u64,
    /// Bytes of a 206, at most.
    part_max: u64,
    cache_control: &'static str,
    extra: Arc<Vec<(String, String)>>,
    sent: Arc<Mutex<Vec<Range<u64>>>>,
}

impl Film {
    pub fn new(total: u64) -> Self {
        Self {
            total,
            version: Arc::new(AtomicU64::new(1)),
            answers_ranges: Arc::new(AtomicBool::new(true)),
            status: Arc::default(),
            gate: None,
            pace: 0,
            part_max: u64::MAX,
            cache_control: "public, max-age=600",
            extra: Arc::default(),
            sent: Arc::default(),
        }
    }

    pub fn gated(self, gate: &Gate) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }

    pub fn paced(self, bytes_per_second: u64) -> Self {
        Self { pace: bytes_per_second, ..self }
    }

    pub fn parts_of_at_most(self, part_max: u64) -> Self {
        Self { part_max, ..self }
    }

    pub fn cache_control(self, cache_control: &'static str) -> Self {
        Self { cache_control, ..self }
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        Arc::make_mut(&mut self.extra).push((name.into(), value.into()));
        self
    }

    pub fn origin(&self) -> Origin {
        let film = self.clone();
        Origin::start().handle("*", move |request| film.answer(request))
    }

    /// The bytes of the version in force.
    pub fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        content(self.version.load(Ordering::SeqCst), range)
    }

    pub fn etag(&self) -> String {
        format!("\"v{}\"", self.version.load(Ordering::SeqCst))
    }

    pub fn sent_bytes(&self) -> u64 {
        self.sent.lock().iter().map(|range| range.end - range.start).sum()
    }

    pub fn requests(&self) -> usize {
        self.sent.lock().len()
    }

    /// Bytes that left the origin more than once.
    pub fn sent_twice(&self) -> u64 {
        let mut sent = self.sent.lock().clone();
        sent.sort_by_key(|range| range.start);
        let (mut end, mut twice) = (0, 0);
        for range in sent {
            twice += end.min(range.end).saturating_sub(range.start);
            end = end.max(range.end);
        }
        twice
    }

    pub fn forget_sent(&self) {
        self.sent.lock().clear();
    }

    fn answer(&self, request: &Received) -> Reply {
        let status = self.status.load(Ordering::SeqCst) as u16;
        if status != 0 {
            return Reply::status(status);
        }
        let (version, etag) = (self.version.load(Ordering::SeqCst), self.etag());
        let with_fields = |reply: Reply| {
            let reply = reply.header("ETag", &etag).header("Cache-Control", self.cache_control);
            let reply = reply.header("Content-Type", "video/x-matroska").header("Accept-Ranges", "bytes");
            self.extra.iter().fold(reply, |reply, (name, value)| reply.header(name, value))
        };
        if request.header("if-none-match").as_deref() == Some(&etag) {
            return with_fields(Reply::status(304));
        }
        let wanted = request.header("range").filter(|_| self.answers_ranges.load(Ordering::SeqCst));
        let wanted = wanted.filter(|_| request.header("if-range").is_none_or(|named| named == etag));
        let range = match wanted.as_deref().map(|wanted| parse(wanted, self.total)) {
            None => 0..self.total,
            Some(Some(range)) => range.start..range.end.min(range.start.saturating_add(self.part_max)),
            Some(None) => {
                return with_fields(Reply::status(416)).header("Content-Range", &format!("bytes */{}", self.total));
            }
        };
        if request.method == "HEAD" {
            return with_fields(Reply::status(200)).length(self.total);
        }
        self.sent.lock().push(range.clone());
        let reply = if wanted.is_some() {
            let field = format!("bytes {}-{}/{}", range.start, range.end - 1, self.total);
            Reply::status(206).header("Content-Range", &field)
        } else {
            Reply::status(200)
        };
        let mut steps = Vec::new();
        steps.extend(self.gate.clone().map(Step::Wait));
        let mut at = range.start;
        let piece = if self.pace > 0 { self.pace / 20 } else { 1 << 20 };
        while at < range.end {
            let end = (at + piece).min(range.end);
            steps.push(Step::Send(content(version, at..end)));
            if self.pace > 0 {
                steps.push(Step::Pause(Duration::from_millis(50)));
            }
            at = end;
        }
        with_fields(reply).length(range.end - range.start).steps(steps)
    }
}

/// Bytes that differ at every offset modulo a prime, by version.
pub fn content(version: u64, range: Range<u64>) -> Vec<u8> {
    let first = (range.start + 31 * version) % 251;
    (first..).take((range.end - range.start) as usize).map(|i| (i % 251) as u8).collect()
}

/// A single range; None: beyond the end.
fn parse(field: &str, total: u64) -> Option<Range<u64>> {
    let (first, last) = field.trim_start_matches("bytes=").split_once('-').expect("a single range");
    if first.is_empty() {
        return Some(total.saturating_sub(last.parse().expect("a suffix"))..total);
    }
    let first: u64 = first.parse().expect("a number");
    let last = if last.is_empty() { total - 1 } else { last.parse::<u64>().expect("a number").min(total - 1) };
    (first < total).then_some(first..last + 1)
}
