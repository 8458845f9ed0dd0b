//! Operations of the store, one by one: `cargo bench --bench store`. What a whole request costs is `benches/peers`' question.
//!
//! RAM: a look-up that hits, a fill; with bans in force, a look-up that knows what they say and one that has to ask. Disk: an object until
//! it is in the file, a read of it (from the system's page cache), the index, and rebuilding the index. The disk is the folder for
//! temporary files: set `TMPDIR` for another.

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pingora_cache::trace::Span;
use pingora_cache::{CacheKey, CacheMeta, Storage};
use pingora_http::ResponseHeader;
use reelgate::cache::disk::{Admission, Log, LogSettings, Record};
use reelgate::cache::{Ban, MemoryStore, Selector, StoreSettings};
use reelgate::observe::Metrics;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::Runtime;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn store(objects: usize) -> &'static MemoryStore {
    let settings =
        StoreSettings { bytes_max: 512 << 20, object_bytes_max: 64 << 20, hold_timeout: Duration::from_secs(5) };
    let store = MemoryStore::new(settings, Arc::new(Metrics::new())).leak();
    let runtime = runtime();
    for at in 0..objects {
        runtime.block_on(put(store, &key(at), Bytes::from(vec![7; KIB])));
    }
    store
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn key(at: usize) -> CacheKey {
    CacheKey::new(format!("site/films/{at}"), "")
}

fn meta(bytes: usize) -> CacheMeta {
    let mut header = ResponseHeader::build(200, None).expect("a status");
    header.insert_header("content-length", bytes).expect("a field");
    header.insert_header("content-type", "video/mp4").expect("a field");
    header.insert_header("etag", "\"5f3c-1\"").expect("a field");
    let now = SystemTime::now();
    CacheMeta::new(now + Duration::from_secs(3600), now, 10, 10, header)
}

async fn put(store: &'static MemoryStore, key: &CacheKey, body: Bytes) {
    let span = Span::inactive().handle();
    let mut miss = store.get_miss_handler(key, &meta(body.len()), &span).await.expect("there is room");
    miss.write_body(body, true).await.expect("it is taken");
    miss.finish().await.expect("it is whole");
}

async fn look_up(store: &'static MemoryStore, key: &CacheKey) {
    let span = Span::inactive().handle();
    assert!(store.lookup(key, &span).await.expect("look-ups do not fail").is_some());
}

fn ram(criterion: &mut Criterion) {
    let (runtime, objects) = (runtime(), 10_000);
    let store = store(objects);
    let keys: Vec<CacheKey> = (0..objects).map(key).collect();
    let mut at = 0;
    criterion.bench_function("ram/look-up", |bencher| {
        bencher.iter(|| {
            at = (at + 7919) % objects;
            runtime.block_on(look_up(store, &keys[at]));
        });
    });
    let mut group = criterion.benchmark_group("ram/put");
    for (name, bytes) in [("1KiB", KIB), ("64KiB", 64 * KIB), ("1MiB", MIB)] {
        let body = Bytes::from(vec![7; bytes]);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                at = (at + 1) % objects;
                runtime.block_on(put(store, &keys[at], body.clone()));
            });
        });
    }
    group.finish();
}

/// None of them reaches what is looked up.
fn bans(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("bans");
    for count in [0, 10, 10_000] {
        let store = store(1);
        let ban = |selector| Ban { selector, soft: false, at: SystemTime::now() };
        for at in 0..count {
            store.bans().add(&ban(match at % 3 {
                0 => Selector::Key(format!("site/other/{at}")),
                1 => Selector::Tag(format!("tag-{at}")),
                _ => Selector::Prefixes(vec![format!("site/other/{at}")]),
            }));
        }
        runtime.block_on(put(store, &key(0), Bytes::from_static(b"a body")));
        group.bench_function(BenchmarkId::new("known", count), |bencher| {
            bencher.iter(|| runtime.block_on(look_up(store, &key(0))));
        });
        let another = || store.bans().add(&ban(Selector::Key("site/other".to_owned())));
        group.bench_function(BenchmarkId::new("asked", count), |bencher| {
            let look_up = |()| runtime.block_on(look_up(store, &key(0)));
            bencher.iter_batched(another, look_up, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn log(path: &Path) -> Log {
    let settings = LogSettings {
        path: path.to_owned(),
        name: "0".to_owned(),
        size_bytes: 1 << 30,
        queue_bytes_max: 64 << 20,
        index_bytes_max: 256 << 20,
        reads_max: 16,
        sync_interval: Duration::from_secs(1),
        admission: Admission::All,
        write_bytes_per_second_max: None,
        write_bytes_per_day_max: None,
    };
    let log = Log::open(settings, Arc::new(Metrics::new())).expect("the folder is free");
    while log.recovering() {
        std::thread::yield_now();
    }
    log
}

/// Spread as hashes are.
fn disk_key(at: u64) -> u128 {
    u128::from(at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
}

fn record(at: u64, version: u64, body: &Bytes) -> Record {
    Record { key: disk_key(at), version, ban_number: 0, head: vec![7; 300], body: vec![body.clone()] }
}

async fn write(log: &Log, record: Record) {
    let ticket = log.offer(record).expect("there is room");
    ticket.written().await.expect("it is written");
}

fn disk(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = tempfile::tempdir().expect("a folder");
    let log = log(folder.path());
    let mut version = 0;
    for (name, bytes) in [("64KiB", 64 * KIB), ("1MiB", MIB)] {
        let body = Bytes::from(vec![7; bytes]);
        let mut group = criterion.benchmark_group("disk");
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("put", name), |bencher| {
            bencher.iter(|| {
                version += 1;
                runtime.block_on(write(&log, record(version % 512, version, &body)));
            });
        });
        version += 1;
        runtime.block_on(write(&log, record(0, version, &body)));
        group.bench_function(BenchmarkId::new("read", name), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let found = log.find(disk_key(0)).expect("it is there");
                    let mut offset = 0;
                    while offset < bytes as u64 {
                        offset += log.read(&found, offset, bytes).await.expect("it is readable").len() as u64;
                    }
                });
            });
        });
        group.finish();
    }
    runtime.block_on(log.close());
}

fn index(criterion: &mut Criterion) {
    let (runtime, body) = (runtime(), Bytes::from_static(b"a body"));
    for objects in [1_000, 100_000] {
        let folder = tempfile::tempdir().expect("a folder");
        let filled = log(folder.path());
        runtime.block_on(async {
            for at in 0..objects {
                let until = tokio::time::Instant::now() + Duration::from_secs(10);
                filled.offer_waiting(record(at, at + 1, &body), until).await.expect("there is room");
            }
            let mut at = 0;
            criterion.bench_function(&format!("disk/index/{objects}"), |bencher| {
                bencher.iter(|| {
                    at = (at + 7919) % objects;
                    filled.peek(disk_key(at))
                });
            });
            assert!(filled.close().await);
        });
        drop(filled);
        criterion.bench_function(&format!("disk/recover/{objects}"), |bencher| {
            bencher.iter_custom(|times| {
                let mut taken = Duration::ZERO;
                for _ in 0..times {
                    let begun = Instant::now();
                    let log = log(folder.path());
                    taken += begun.elapsed();
                    assert_eq!(log.stats().objects, objects);
                    assert!(runtime.block_on(log.close()));
                }
                taken
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = ram, bans, disk, index
}
criterion_main!(benches);
