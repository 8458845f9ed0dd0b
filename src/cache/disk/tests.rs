//! Tests of the disk tier: what it keeps (`keeping`), what it does when the disk fails (`faults`), and random operations
//! against a simple model (`model`); a process that is killed (`killed`);
//! files that somebody else put there (`tampered`).

mod faults;
mod keeping;
mod killed;
mod model;
mod tampered;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Admission, Found, Log, LogSettings, ReadError, Record};
use crate::observe::Metrics;

const MIB: u64 = 1 << 20;

fn settings(path: &Path, size_bytes: u64) -> LogSettings {
    LogSettings {
        path: path.to_owned(),
        name: "0".to_owned(),
        size_bytes,
        queue_bytes_max: 16 * MIB,
        index_bytes_max: 16 * MIB,
        reads_max: 4,
        sync_interval: Duration::from_millis(50),
        admission: Admission::All,
        write_bytes_per_second_max: None,
        write_bytes_per_day_max: None,
    }
}

/// An open log whose index is rebuilt.
async fn open(path: &Path, size_bytes: u64) -> Log {
    open_with(settings(path, size_bytes)).await
}

async fn open_with(settings: LogSettings) -> Log {
    let log = Log::open(settings, Arc::new(Metrics::new())).expect("the folder is free");
    recovered(&log).await;
    log
}

async fn recovered(log: &Log) {
    eventually("the index is rebuilt", || !log.recovering()).await;
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(tokio::time::Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A hash, as keys are.
fn key(n: u64) -> u128 {
    u128::from(n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
}

/// Bytes that only this version of this object has.
fn content(key: u128, version: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(key as u64 ^ version.wrapping_mul(77));
    let mut content = vec![0; bytes];
    random.fill(&mut content);
    content
}

fn record(key: u128, version: u64, bytes: usize) -> Record {
    let content = Bytes::from(content(key, version, bytes));
    // In pieces that fit no chunk.
    let pieces = (0..bytes).step_by(100_003).map(|start| content.slice(start..bytes.min(start + 100_003)));
    Record {
        key,
        version,
        ban_number: version,
        head: format!("head of {key} {version}").into(),
        body: pieces.collect(),
    }
}

async fn read_all(log: &Log, found: &Found) -> Result<Vec<u8>, ReadError> {
    let mut body = Vec::new();
    while (body.len() as u64) < found.body_bytes {
        let piece = log.read(found, body.len() as u64, usize::MAX).await?;
        assert!(!piece.is_empty(), "a read makes progress");
        body.extend(piece);
    }
    Ok(body)
}

/// Whether the object is there, and then it is right.
async fn holds(log: &Log, key: u128, version: u64, bytes: usize) -> bool {
    let Some(found) = log.peek(key).filter(|found| found.version == version) else { return false };
    assert_eq!(found.body_bytes, bytes as u64);
    assert!(read_all(log, &found).await.expect("it can be read") == content(key, version, bytes), "the bytes differ");
    true
}

fn segment_files(path: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(path).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "segment")).collect();
    files.sort();
    files
}
