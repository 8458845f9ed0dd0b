//! The store through Pingora's traits, as its proxy drives them. Chunks are 64 bytes here, so every body crosses borders.

mod below;
mod coded;
mod concurrent;
mod model;
mod proxied;
mod purged;
mod slow;

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use pingora_cache::trace::{Span, SpanHandle};
use pingora_cache::{CacheKey, HitHandler, MissHandler, PurgeOutcome, PurgeTarget, PurgeType, Storage};
use pingora_error::Result;
use pingora_http::ResponseHeader;

use super::super::{follows_fill, held_back};
use super::*;

fn span() -> SpanHandle {
    Span::inactive().handle()
}

fn key(name: &str) -> CacheKey {
    crate::cache::key(name)
}

fn store(bytes_max: u64, object_bytes_max: u64) -> &'static MemoryStore {
    let settings = StoreSettings { bytes_max, object_bytes_max, hold_timeout: Duration::from_secs(60) };
    MemoryStore::new(settings, Arc::new(Metrics::new())).leak()
}

fn meta(promised_bytes: Option<usize>) -> CacheMeta {
    let mut header = ResponseHeader::build(200, None).expect("valid status");
    if let Some(bytes) = promised_bytes {
        header.insert_header("content-length", bytes).expect("valid field");
    }
    let now = SystemTime::now();
    CacheMeta::new(now + Duration::from_secs(60), now, 10, 10, header)
}

/// The body of a version: every byte tells its version and place.
fn body(version: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ version.wrapping_mul(101)) as u8).collect()
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn begin(
    store: &'static MemoryStore,
    key: &CacheKey,
    promised: Option<usize>,
) -> Result<(MissHandler, HitHandler)> {
    let miss = store.get_miss_handler(key, &meta(promised), &span()).await?;
    let owner = store.lookup_streaming_write(key, miss.streaming_write_tag(), &span()).await?;
    Ok((miss, owner.expect("a running fill is found by its tag").1))
}

async fn put(store: &'static MemoryStore, key: &CacheKey, bytes: usize) -> u64 {
    let (mut miss, _) = begin(store, key, Some(bytes)).await.expect("there is room");
    let version = miss.entry_id().expect("identified").get();
    miss.write_body(Bytes::from(body(version, bytes)), true).await.expect("written");
    miss.finish().await.map(|_| ()).expect("finished");
    version
}

async fn get(store: &'static MemoryStore, key: &CacheKey) -> Option<HitHandler> {
    store.lookup(key, &span()).await.expect("lookups do not fail").map(|(_, hit)| hit)
}

async fn read_all(hit: &mut HitHandler) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(bytes) = hit.read_body().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

fn fills(store: &MemoryStore, outcome: &str) -> u64 {
    store.metrics.cache_fills.with_label_values(&[outcome]).get()
}

#[tokio::test]
async fn a_finished_fill_is_hit_whole_and_by_range() {
    let store = store(1 << 20, 1 << 19);
    let version = put(store, &key("a"), 300).await;
    let expected = body(version, 300);
    let mut hit = get(store, &key("a")).await.expect("a hit");
    assert!(!follows_fill(&hit) && hit.can_seek() && hit.can_seek_multipart());
    assert_eq!(read_all(&mut hit).await.expect("whole"), expected);
    for (start, end) in [(0, 1), (63, 65), (64, 128), (100, 300), (299, 10_000), (10, 10)] {
        hit.seek(start, Some(end)).expect("inside");
        assert_eq!(read_all(&mut hit).await.expect("range"), expected[start..end.min(300)]);
    }
    hit.seek(250, None).expect("inside");
    assert_eq!(read_all(&mut hit).await.expect("range"), expected[250..]);
    assert!(hit.seek(300, None).is_err() && hit.seek(5, Some(4)).is_err());
    assert_eq!((fills(store, "complete"), store.stats().objects, store.stats().fills_running), (1, 1, 0));
}

#[tokio::test]
async fn a_body_up_to_a_chunk_is_one_piece() {
    let store = store(1 << 20, 1 << 19);
    let (mut miss, _) = begin(store, &key("a"), None).await.expect("room");
    for _ in 0..8 {
        miss.write_body(Bytes::from_static(b"piece"), false).await.expect("written");
    }
    miss.finish().await.map(|_| ()).expect("finished");
    let mut hit = get(store, &key("a")).await.expect("a hit");
    assert_eq!(hit.read_body().await.expect("read").expect("bytes").len(), 40);
    let meta = store.lookup(&key("a"), &span()).await.expect("lookup").expect("hit").0;
    assert_eq!(meta.headers()["content-length"], "40", "the length is known now");
}

#[tokio::test]
async fn a_follower_reads_what_is_there_and_waits_for_the_rest() {
    let store = store(1 << 20, 1 << 19);
    let (mut miss, mut owner) = begin(store, &key("a"), Some(200)).await.expect("room");
    let expected = body(1, 200);
    miss.write_body(Bytes::copy_from_slice(&expected[..100]), false).await.expect("written");
    let mut follower = get(store, &key("a")).await.expect("a running fill");
    let mut ranged = get(store, &key("a")).await.expect("a running fill");
    assert!(follows_fill(&follower) && !follows_fill(&owner));
    ranged.seek(150, Some(160)).expect("the length is promised");
    assert!(ranged.read_body().now_or_never().is_none(), "not there yet");
    assert_eq!(follower.read_body().await.expect("read").expect("bytes"), expected[..64]);
    assert_eq!(follower.read_body().await.expect("read").expect("bytes"), expected[64..100]);
    assert!(follower.read_body().now_or_never().is_none());
    miss.write_body(Bytes::copy_from_slice(&expected[100..]), true).await.expect("written");
    assert_eq!(read_all(&mut ranged).await.expect("range"), expected[150..160]);
    assert_eq!(follower.read_body().await.expect("read").expect("bytes"), expected[100..128]);
    let info = store.contains(&key("a").to_compact()).expect("there");
    assert!(info.filling && info.body_bytes == 200);
    miss.finish().await.map(|_| ()).expect("finished");
    assert_eq!(read_all(&mut follower).await.expect("the rest"), expected[128..]);
    assert_eq!(read_all(&mut owner).await.expect("whole"), expected);
    assert!(!store.contains(&key("a").to_compact()).expect("there").filling);
}

/// cloudflare/pingora#932: a cancelled fill read as a whole one.
#[tokio::test]
async fn pingora_932_a_cancelled_fill_is_an_error_and_then_a_miss() {
    let store = store(1 << 20, 1 << 19);
    for promised in [None, Some(200)] {
        let (mut miss, mut owner) = begin(store, &key("a"), promised).await.expect("room");
        miss.write_body(Bytes::from(vec![1; 100]), false).await.expect("written");
        let mut follower = get(store, &key("a")).await.expect("a running fill");
        follower.read_body().await.expect("read").expect("bytes");
        drop(miss);
        assert!(follower.read_body().await.is_err() && owner.read_body().await.is_err());
        assert!(get(store, &key("a")).await.is_none());
    }
    assert_eq!((fills(store, "cancelled"), store.stats().bytes), (2, 0));
}

#[tokio::test]
async fn a_body_of_another_length_than_promised_is_never_kept() {
    let store = store(1 << 20, 1 << 19);
    for (bytes, eof) in [(99, true), (99, false), (101, true), (101, false), (0, false)] {
        let (mut miss, mut owner) = begin(store, &key("a"), Some(100)).await.expect("room");
        let written = miss.write_body(Bytes::from(vec![1; bytes]), eof).await;
        assert_eq!(written.is_err(), eof || bytes > 100, "{bytes} {eof}");
        assert!(miss.finish().await.is_err());
        assert!(read_all(&mut owner).await.is_err());
        assert!(get(store, &key("a")).await.is_none());
    }
    assert_eq!((fills(store, "truncated"), store.stats().bytes), (5, 0));
}

#[tokio::test]
async fn a_promised_body_that_does_not_fit_is_refused_before_it_begins() {
    let store = store(100_000, 50_000);
    put(store, &key("hot"), 1000).await;
    for bytes in [50_001, 1 << 30] {
        assert!(begin(store, &key("a"), Some(bytes)).await.is_err());
    }
    let first = begin(store, &key("b"), Some(48_000)).await.expect("fits");
    assert!(begin(store, &key("c"), Some(48_000)).await.is_err(), "a running fill cannot be evicted");
    assert!(get(store, &key("hot")).await.is_some(), "nothing was evicted in vain");
    drop(first);
    assert_eq!(fills(store, "too_large"), 3);
}

#[tokio::test]
async fn a_body_that_grows_too_large_still_reaches_its_own_client() {
    let store = store(1 << 20, 1000);
    let expected = body(1, 5000);
    let (mut miss, mut owner) = begin(store, &key("a"), None).await.expect("room");
    let mut follower = get(store, &key("a")).await.expect("a running fill");
    let mut got = Vec::new();
    for (at, piece) in expected.chunks(70).enumerate() {
        miss.write_body(Bytes::copy_from_slice(piece), false).await.expect("the own client is served");
        if at % 3 == 0 {
            got.extend_from_slice(&owner.read_body().await.expect("read").expect("bytes"));
        }
    }
    assert!(read_all(&mut follower).await.is_err(), "a follower is aborted, not ended");
    assert!(get(store, &key("a")).await.is_none());
    miss.finish().await.map(|_| ()).expect("no error for the own client");
    got.extend(read_all(&mut owner).await.expect("whole"));
    assert_eq!(got, expected);
    drop((owner, follower));
    assert_eq!((fills(store, "too_large"), store.stats().bytes), (1, 0));
    assert!(store.is_too_large(&key("a").to_compact()));
    assert!(begin(store, &key("a"), None).await.is_err(), "not tried again");
    assert!(begin(store, &key("a"), Some(10)).await.is_ok(), "unless its length is known to fit");
    assert!(!store.is_too_large(&key("a").to_compact()));
}

#[tokio::test]
async fn a_cancelled_body_too_large_to_keep_is_an_error_for_its_own_client() {
    let store = store(1 << 20, 1000);
    let (mut miss, mut owner) = begin(store, &key("a"), None).await.expect("room");
    miss.write_body(Bytes::from(vec![1; 2000]), false).await.expect("written");
    drop(miss);
    assert!(read_all(&mut owner).await.is_err());
    assert_eq!((fills(store, "too_large"), fills(store, "cancelled"), store.stats().fills_running), (1, 0, 0));
}

#[tokio::test]
async fn a_client_that_falls_too_far_behind_holds_the_origin_back_and_is_then_aborted() {
    let store = store(1 << 23, 1000);
    let (mut miss, mut owner) = begin(store, &key("a"), None).await.expect("room");
    assert_eq!(held_back(&owner), None, "not while it is kept");
    let mut pauses = Vec::new();
    while miss.write_body(Bytes::from(vec![1; 100_000]), false).await.is_ok() {
        pauses.push(held_back(&owner).expect("passing"));
    }
    assert!((8..=10).contains(&pauses.len()), "{}", pauses.len());
    assert!(pauses.is_sorted() && pauses[3].is_zero() && !pauses[7].is_zero(), "{pauses:?}");
    assert!(read_all(&mut owner).await.is_err());
}

#[tokio::test]
async fn bodies_too_large_to_keep_stay_within_the_bound_together() {
    let store = store(64_000, 1000);
    let mut running = Vec::new();
    for at in 0..20 {
        let Ok((mut miss, owner)) = begin(store, &key(&format!("{at}")), None).await else { break };
        for _ in 0..9 {
            let _ = miss.write_body(Bytes::from(vec![1; 1000]), false).await;
            assert!(store.stats().bytes <= 64_000);
        }
        running.push((miss, owner));
    }
    assert!(running.len() > 4);
    drop(running);
    assert_eq!(store.stats().bytes, 0);
}

#[tokio::test]
async fn a_newer_version_leaves_the_readers_of_the_older_alone() {
    let store = store(1 << 20, 1 << 19);
    let old = put(store, &key("a"), 300).await;
    let mut reader = get(store, &key("a")).await.expect("a hit");
    reader.read_body().await.expect("read");
    let (mut miss, _) = begin(store, &key("a"), Some(300)).await.expect("room");
    assert_eq!(get(store, &key("a")).await.and_then(|hit| hit.entry_id()).map(|id| id.get()), Some(old));
    miss.write_body(Bytes::from(body(2, 300)), true).await.expect("written");
    miss.finish().await.map(|_| ()).expect("finished");
    assert_eq!(read_all(&mut reader).await.expect("the rest"), body(old, 300)[64..]);
    assert_eq!(read_all(&mut get(store, &key("a")).await.expect("a hit")).await.expect("whole"), body(2, 300));
    assert_eq!(store.stats().objects, 1);
}

#[tokio::test]
async fn a_fill_overtaken_by_a_newer_one_is_not_stored() {
    let store = store(1 << 20, 1 << 19);
    let (mut slow, mut owner) = begin(store, &key("a"), Some(100)).await.expect("room");
    let newer = put(store, &key("a"), 300).await;
    slow.write_body(Bytes::from(vec![7; 100]), true).await.expect("written");
    slow.finish().await.map(|_| ()).expect("finished");
    assert_eq!(read_all(&mut owner).await.expect("its own client is served"), [7; 100]);
    assert_eq!(get(store, &key("a")).await.and_then(|hit| hit.entry_id()).map(|id| id.get()), Some(newer));
    assert_eq!((fills(store, "discarded"), fills(store, "complete")), (1, 1));
}

#[tokio::test]
async fn a_stale_object_gives_way_to_the_fill_that_replaces_it() {
    let store = store(1 << 20, 1 << 19);
    put(store, &key("a"), 300).await;
    let outcome = store.expire(PurgeTarget::Active(&key("a").to_compact()), &span()).await.expect("expired");
    assert_eq!(outcome, PurgeOutcome::Expired);
    let (stale, hit) = store.lookup(&key("a"), &span()).await.expect("lookup").expect("still there");
    assert!(!stale.is_fresh(SystemTime::now() + Duration::from_secs(1)) && !follows_fill(&hit));
    assert!(stale.serve_stale_while_revalidate(SystemTime::now()));
    let (miss, _) = begin(store, &key("a"), Some(300)).await.expect("room");
    assert!(follows_fill(&get(store, &key("a")).await.expect("the fill")));
    drop(miss);
    assert!(!follows_fill(&get(store, &key("a")).await.expect("the stale object again")));
}

#[tokio::test]
async fn a_purge_reaches_the_object_and_what_is_being_filled() {
    let store = store(1 << 20, 1 << 19);
    let compact = key("a").to_compact();
    put(store, &key("a"), 300).await;
    let miss = store.get_miss_handler(&key("a"), &meta(Some(100)), &span()).await.expect("room");
    let purged = store.purge(PurgeTarget::Active(&compact), PurgeType::Invalidation, &span()).await;
    assert!(matches!(purged, Ok(PurgeOutcome::Purged(Some(_)))));
    assert!(get(store, &key("a")).await.is_none());
    // Pingora looks its own fill up after the purge: it must be found, or Pingora panics.
    let owner = store.lookup_streaming_write(&key("a"), miss.streaming_write_tag(), &span()).await;
    let (mut miss, mut owner) = (miss, owner.expect("lookup").expect("found by its tag").1);
    miss.write_body(Bytes::from(vec![7; 100]), true).await.expect("written");
    miss.finish().await.map(|_| ()).expect("finished");
    assert_eq!(read_all(&mut owner).await.expect("served all the same"), [7; 100]);
    assert!(get(store, &key("a")).await.is_none(), "what was purged while it was filled is not stored");
    drop(owner);
    assert_eq!((fills(store, "discarded"), store.stats().objects, store.stats().bytes), (1, 0, 0));
    let again = store.purge(PurgeTarget::Active(&compact), PurgeType::Invalidation, &span()).await;
    assert!(matches!(again, Ok(PurgeOutcome::NotFound)));
}

#[tokio::test]
async fn metadata_of_a_304_is_not_put_on_another_version() {
    let store = store(1 << 20, 1 << 19);
    put(store, &key("a"), 300).await;
    let (mut old, _) = store.lookup(&key("a"), &span()).await.expect("lookup").expect("hit");
    old.response_header_mut().insert_header("etag", "\"old\"").expect("valid field");
    assert!(store.update_meta(&key("a"), &old, &span()).await.expect("no failure"));
    let (updated, _) = store.lookup(&key("a"), &span()).await.expect("lookup").expect("hit");
    assert_eq!(updated.headers()["etag"], "\"old\"");
    put(store, &key("a"), 300).await;
    assert!(!store.update_meta(&key("a"), &old, &span()).await.expect("no failure"));
    let (kept, _) = store.lookup(&key("a"), &span()).await.expect("lookup").expect("hit");
    assert!(!kept.headers().contains_key("etag"));
    assert!(!store.update_meta(&key("b"), &old, &span()).await.expect("an absent key is no panic"));
}

#[tokio::test]
async fn an_object_in_a_readers_hands_is_not_evicted() {
    let store = store(64_000, 32_000);
    let version = put(store, &key("read"), 10_000).await;
    let mut reader = get(store, &key("read")).await.expect("a hit");
    for at in 0..50 {
        put(store, &key(&format!("other {at}")), 10_000).await;
        assert!(store.stats().bytes <= 64_000);
    }
    assert_eq!(read_all(&mut reader).await.expect("whole"), body(version, 10_000));
    assert!(store.stats().evictions > 0 && get(store, &key("read")).await.is_some());
}

#[tokio::test]
async fn a_fill_that_somebody_follows_is_not_given_up_whoever_left() {
    let store = store(1 << 20, 1 << 19);
    let (mut miss, owner) = begin(store, &key("a"), Some(300)).await.expect("there is room");
    let version = miss.entry_id().expect("identified").get();
    let abandoned = || store.abandon(&key("a").to_compact(), version, false);
    miss.write_body(Bytes::from(body(version, 200)), false).await.expect("written");
    assert!(!store.abandon(&key("a").to_compact(), version, true), "half of it is there");
    let follower = get(store, &key("a")).await.expect("a running fill");
    assert!(!abandoned(), "followed, with its owner");
    // As when all that its client asked for was a part.
    drop(owner);
    assert!(!abandoned(), "followed, without its owner");
    drop(follower);
    assert!(abandoned() && get(store, &key("a")).await.is_none());
}
