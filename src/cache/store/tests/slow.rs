//! Readers that stall: what they hold is let go when room is needed, and they go on elsewhere or fail; nobody gets other bytes.

use std::sync::atomic::AtomicU64;

use tokio::sync::mpsc;

use super::*;
use crate::cache::{OwnersRest, Rest, Resume, resume_by};

const MEMORY: u64 = 64_000;

/// Every reader stalls at once.
fn impatient() -> &'static MemoryStore {
    store_that_holds(Duration::ZERO)
}

fn store_that_holds(hold_timeout: Duration) -> &'static MemoryStore {
    let settings = StoreSettings { bytes_max: MEMORY, object_bytes_max: 32_000, hold_timeout };
    MemoryStore::new(settings, Arc::new(Metrics::new())).leak()
}

/// As [`put`], of a version that the origin could be asked for again.
async fn put_named(store: &'static MemoryStore, key: &CacheKey, bytes: usize) -> u64 {
    let mut meta = meta(Some(bytes));
    meta.response_header_mut().insert_header("etag", "\"a\"").expect("valid field");
    let mut miss = store.get_miss_handler(key, &meta, &span()).await.expect("there is room");
    let version = miss.entry_id().expect("identified").get();
    miss.write_body(Bytes::from(body(version, bytes)), true).await.expect("written");
    miss.finish().await.map(|_| ()).expect("finished");
    version
}

async fn fill_up(store: &'static MemoryStore, name: &str) {
    for at in 0..20 {
        put(store, &key(&format!("{name} {at}")), 10_000).await;
        assert!(store.stats().bytes <= MEMORY);
    }
}

fn went(store: &MemoryStore, outcome: &str) -> u64 {
    store.metrics.cache_readers_let_go.with_label_values(&[outcome]).get()
}

/// An origin that gives the rest of a body, `short` bytes less than it should.
#[derive(Debug)]
struct Again {
    body: Vec<u8>,
    short: usize,
    asked: AtomicU64,
}

impl Resume for Again {
    fn resume(&self, rest: Rest) -> mpsc::Receiver<Option<Bytes>> {
        assert_eq!(rest.complete, Some(self.body.len() as u64));
        let end = rest.end.map_or(self.body.len(), |end| end as usize);
        let bytes = self.body[rest.from as usize..end].to_vec();
        let (sender, receiver) = mpsc::channel(1);
        let (left, short) = (bytes.len() - self.short, self.short);
        self.asked.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            for piece in bytes[..left].chunks(100) {
                let _ = sender.send(Some(Bytes::copy_from_slice(piece))).await;
            }
            if short == 0 {
                let _ = sender.send(None).await;
            }
        });
        receiver
    }
}

fn again(body: Vec<u8>, short: usize) -> Arc<Again> {
    Arc::new(Again { body, short, asked: AtomicU64::new(0) })
}

#[tokio::test]
async fn what_a_stalled_reader_holds_is_let_go_and_the_origin_has_the_rest() {
    let store = impatient();
    for range in [None, Some((20_000, 25_000))] {
        let version = put_named(store, &key("slow"), 30_000).await;
        let origin = again(body(version, 30_000), 0);
        let mut reader = get(store, &key("slow")).await.expect("a hit");
        resume_by(&mut reader, origin.clone());
        if let Some((start, end)) = range {
            reader.seek(start, Some(end)).expect("in the body");
        }
        let (start, end) = range.unwrap_or((0, 30_000));
        let first = reader.read_body().await.expect("there").expect("not the end");
        fill_up(store, "a").await;
        assert!(get(store, &key("slow")).await.is_none(), "it was let go like any other");
        let all = [first.to_vec(), read_all(&mut reader).await.expect("whole")].concat();
        assert!(all == body(version, 30_000)[start..end], "{start}..{end}");
        assert!(reader.read_body().await.expect("the end").is_none());
        // Another part of the same, as for several ranges.
        reader.seek(10, Some(5_000)).expect("in the body");
        assert!(read_all(&mut reader).await.expect("whole") == body(version, 30_000)[10..5_000]);
        assert_eq!(origin.asked.load(Ordering::Relaxed), 2);
    }
    assert_eq!(went(store, "aborted"), 0);
}

#[tokio::test]
async fn a_rest_that_is_short_is_an_error() {
    let store = impatient();
    let version = put_named(store, &key("slow"), 30_000).await;
    let mut reader = get(store, &key("slow")).await.expect("a hit");
    resume_by(&mut reader, again(body(version, 30_000), 1));
    reader.read_body().await.expect("there").expect("not the end");
    fill_up(store, "a").await;
    assert!(read_all(&mut reader).await.is_err());
}

#[tokio::test]
async fn the_reader_of_the_request_that_fills_goes_on_too() {
    let store = impatient();
    let origin = again(body(1, 30_000), 0);
    let mut meta = meta(Some(30_000));
    meta.response_header_mut().insert_header("etag", "\"a\"").expect("valid field");
    meta.extensions_mut().insert(OwnersRest(origin.clone()));
    let mut miss = store.get_miss_handler(&key("slow"), &meta, &span()).await.expect("there is room");
    let owner = store.lookup_streaming_write(&key("slow"), miss.streaming_write_tag(), &span()).await;
    let (meta, mut owner) = owner.expect("no failure").expect("a running fill");
    assert!(meta.extensions().get::<OwnersRest>().is_none(), "it is not kept");
    miss.write_body(Bytes::from(body(1, 30_000)), true).await.expect("written");
    let first = owner.read_body().await.expect("there").expect("not the end");
    miss.finish().await.map(|_| ()).expect("finished");
    fill_up(store, "a").await;
    let all = [first.to_vec(), read_all(&mut owner).await.expect("whole")].concat();
    assert!(all == body(1, 30_000) && origin.asked.load(Ordering::Relaxed) == 1);
}

#[tokio::test]
async fn a_reader_that_would_be_aborted_is_let_go_only_for_want_of_any_other_room() {
    let store = impatient();
    put(store, &key("slow"), 30_000).await;
    let slow = get(store, &key("slow")).await.expect("a hit");
    fill_up(store, "a").await;
    assert!(get(store, &key("slow")).await.is_some(), "there was other room");
    let mut readers = vec![(1, 30_000, slow)];
    for at in 0..3 {
        let version = put(store, &key(&format!("held {at}")), 25_000).await;
        readers.push((version, 25_000, get(store, &key(&format!("held {at}"))).await.expect("a hit")));
    }
    let mut failed = 0;
    for (version, bytes, mut reader) in readers {
        match read_all(&mut reader).await {
            Ok(all) => assert!(all == body(version, bytes), "{version}"),
            Err(_) => failed += 1,
        }
    }
    assert_eq!((failed, went(store, "aborted")), (2, 2), "no more than there was need for");
}

#[tokio::test]
async fn a_reader_that_keeps_up_is_not_let_go() {
    let store = store_that_holds(Duration::from_secs(60));
    let version = put_named(store, &key("read"), 30_000).await;
    let mut reader = get(store, &key("read")).await.expect("a hit");
    fill_up(store, "a").await;
    assert!(read_all(&mut reader).await.expect("whole") == body(version, 30_000));
    assert_eq!(went(store, "aborted"), 0);
}

/// Versions that nobody finds any more have no place in the eviction, and could pile up in slow hands.
#[tokio::test]
async fn purged_and_replaced_versions_in_slow_hands_give_way() {
    let store = impatient();
    let mut readers = Vec::new();
    for at in 0..8 {
        put_named(store, &key("changing"), 20_000).await;
        let mut reader = get(store, &key("changing")).await.expect("a hit");
        reader.read_body().await.expect("there").expect("not the end");
        readers.push(reader);
        if at % 2 == 0 {
            store.remove(&key("changing").to_compact());
        }
    }
    assert_eq!(fills(store, "too_large"), 0, "none was refused for want of room");
    fill_up(store, "a").await;
    for mut reader in readers {
        assert!(read_all(&mut reader).await.is_err());
    }
}

#[tokio::test]
async fn what_is_on_its_way_to_a_reader_is_paid_for_and_objects_make_room_for_it() {
    let store = impatient();
    fill_up(store, "a").await;
    let before = store.stats().bytes;
    let room = store.room_to_pass(20_000, Duration::ZERO).await.expect("objects make room");
    assert!((20_000..=MEMORY).contains(&store.stats().bytes) && store.stats().evictions > 0);
    assert!(store.room_to_pass(MEMORY, Duration::ZERO).await.is_none(), "more than there is");
    let with_room = store.stats().bytes;
    drop(room);
    assert_eq!(store.stats().bytes, with_room - 20_000, "{before}");
}
