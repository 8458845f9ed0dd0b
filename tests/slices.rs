//! Sliced objects over the real binary: what is right of every range, what leaves the origin and how often, who waits for whom, and
//! what becomes of a version that is no more.

mod changes;
mod disk;
mod film;
mod nginx;
mod players;
mod ranges;
mod sharing;

use crate::support::{Edge, Request, Response};
use std::ops::Range;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn range(range: Range<u64>) -> String {
    format!("bytes={}-{}", range.start, range.end - 1)
}

fn get_range(edge: &Edge, path: &str, wanted: Range<u64>) -> Response {
    edge.send(&Request::get(path).header("Range", &range(wanted)))
}
