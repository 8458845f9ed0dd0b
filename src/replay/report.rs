//! What came out, for people (a table and a plot) and for scripts (JSON).

use std::fmt::Write;

use serde_json::{Value, json};

use super::policy::PolicyName;
use super::read::Counts;
use super::simulate::Outcome;
use super::trace::Trace;

const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Columns of the plot for each size.
const COLUMNS: usize = 10;

/// Everything there is to say about a replay.
#[derive(Debug)]
pub struct Report<'a> {
    pub trace: &'a Trace,
    /// Of all inputs together.
    pub counts: Counts,
    pub outcomes: &'a [Outcome],
}

impl Report<'_> {
    /// What was replayed and what was not, one thing a line.
    pub fn summary(&self) -> String {
        let Self { trace, counts, .. } = self;
        let mut text = format!(
            "{} requests of {} objects, {} in all\n",
            thousands(trace.requests() as u64),
            thousands(trace.distinct_objects() as u64),
            human_bytes(trace.footprint_bytes()),
        );
        if trace.sample < 1.0 {
            let share = trace.sample * 100.0;
            let _ = writeln!(text, "a sample: {share:.3} % of the objects; sizes and sums are scaled to the whole");
        }
        for (count, what) in [
            (counts.not_cached, "lines left out: no request of a cache"),
            (trace.size_unknown, "left out: parts (range, 304, HEAD) of objects whose size no line says"),
            (trace.left_out, "left out at the end: more requests than --memory holds"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "{} {what}", thousands(count));
            }
        }
        text
    }

    /// Policy by size.
    pub fn table(&self) -> String {
        let head = ["size", "policy", "requests", "hit %", "byte-hit %", "origin bytes"].map(str::to_owned);
        let mut rows = vec![head];
        let mut size_before = None;
        for outcome in self.outcomes {
            let is_same = size_before.replace(outcome.size_bytes) == Some(outcome.size_bytes);
            rows.push([
                if is_same { String::new() } else { human_bytes(outcome.size_bytes) },
                outcome.policy.name().to_owned(),
                thousands(outcome.requests),
                format!("{:.2}", outcome.hit_ratio() * 100.0),
                format!("{:.2}", outcome.byte_hit_ratio() * 100.0),
                human_bytes(outcome.origin_bytes),
            ]);
        }
        let mut widths = [0; 6];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.len().max(*width);
            }
        }
        let mut text = String::new();
        for row in &rows {
            let [a, b, c, d, e, f] = widths;
            let [size, policy, rest @ ..] = row;
            let _ = write!(text, "{size:>a$}  {policy:<b$}");
            for (cell, width) in rest.iter().zip([c, d, e, f]) {
                let _ = write!(text, "  {cell:>width$}");
            }
            text.push('\n');
        }
        text
    }

    /// Hit ratio against size, a line of bars for each policy; empty where there is one size only.
    pub fn plot(&self) -> String {
        let mut sizes: Vec<u64> = self.outcomes.iter().map(|outcome| outcome.size_bytes).collect();
        sizes.dedup();
        if sizes.len() < 2 {
            return String::new();
        }
        let top = self.outcomes.iter().map(Outcome::hit_ratio).fold(0.0, f64::max);
        let mut text = format!("hit % by size, a full bar is {:.1} %\n{:8}", top * 100.0, "");
        for size in &sizes {
            let _ = write!(text, "  {:>COLUMNS$}", human_bytes(*size));
        }
        text.push('\n');
        for policy in PolicyName::ALL {
            let mut of_policy = self.outcomes.iter().filter(|outcome| outcome.policy == policy).peekable();
            if of_policy.peek().is_none() {
                continue;
            }
            let _ = write!(text, "{:<8}", policy.name());
            for outcome in of_policy {
                let ratio = outcome.hit_ratio();
                let bar = bar(if top > 0.0 { ratio / top } else { 0.0 });
                let _ = write!(text, "  {bar} {:>5.1}", ratio * 100.0);
            }
            text.push('\n');
        }
        text
    }

    /// For scripts: sums are integers, ratios from 0 to 1.
    pub fn json(&self) -> Value {
        let Self { trace, counts, outcomes } = self;
        let outcome = |outcome: &Outcome| {
            json!({
                "policy": outcome.policy.name(),
                "size_bytes": outcome.size_bytes,
                "requests": outcome.requests,
                "hits": outcome.hits,
                "hit_ratio": outcome.hit_ratio(),
                "requested_bytes": outcome.requested_bytes,
                "hit_bytes": outcome.hit_bytes,
                "byte_hit_ratio": outcome.byte_hit_ratio(),
                "origin_bytes": outcome.origin_bytes,
            })
        };
        json!({
            "trace": {
                "lines": counts.lines,
                "wrong": counts.wrong,
                "not_cached": counts.not_cached,
                "size_unknown": trace.size_unknown,
                "left_out": trace.left_out,
                "sample": trace.sample,
                "requests": trace.requests(),
                "objects": trace.distinct_objects(),
                "footprint_bytes": trace.footprint_bytes(),
            },
            "outcomes": outcomes.iter().map(outcome).collect::<Vec<_>>(),
        })
    }
}

/// Four columns; a share of the top in eighths of a line's height.
fn bar(share: f64) -> String {
    let eighths = (share * 8.0).round().clamp(0.0, 8.0) as usize;
    // Something is there, however little.
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    BARS[eighths].to_string().repeat(4)
}

/// With one decimal, in the unit that leaves it below 1024: `1.5GiB`.
fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut scaled = bytes as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1}{}", UNITS[unit])
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let sizes = [0, 1023, 1024, 1536, 1 << 20, (1 << 30) - 1, 20 << 30, u64::MAX];
        assert_eq!(
            sizes.map(human_bytes),
            ["0B", "1023B", "1.0KiB", "1.5KiB", "1.0MiB", "1.0GiB", "20.0GiB", "16.0EiB"]
        );
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_little_is_seen_and_nothing_is_not() {
        assert_eq!((bar(0.0).as_str(), bar(0.001).as_str(), bar(1.0).as_str()), ("    ", "▁▁▁▁", "████"));
    }
}
