//! Heads, keys, claims and runs against the store, without an origin.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use pingora_http::ResponseHeader;
use proptest::prelude::*;

use super::super::disk::{Disks, LogSettings};
use super::super::store::StoreSettings;
use super::super::{Ban, Selector};
use super::*;
use crate::config::{Disk, DiskAdmission};
use crate::http::slicing::GRANULE_BYTES;

const COMPLETE: u64 = 10 * GRANULE_BYTES + 77;

fn slices(bytes_max: u64) -> &'static Slices {
    let metrics = Arc::new(Metrics::new());
    let store = MemoryStore::new(
        StoreSettings { bytes_max, object_bytes_max: bytes_max, hold_timeout: Duration::from_secs(5) },
        metrics.clone(),
    )
    .leak();
    Slices::new(store, metrics)
}

/// With a disk below.
fn slices_above(folder: &std::path::Path) -> &'static Slices {
    let disk = Disk {
        path: folder.to_owned(),
        size_bytes: 32 << 20,
        write_bytes_per_day_max: None,
        write_bytes_per_second_max: None,
        admit: DiskAdmission::All,
    };
    let metrics = Arc::new(Metrics::new());
    let disks = Arc::new(Disks::open(vec![LogSettings::new(&disk, 0)], &metrics));
    let settings =
        StoreSettings { bytes_max: 4 << 20, object_bytes_max: 1 << 20, hold_timeout: Duration::from_secs(5) };
    Slices::new(MemoryStore::new(settings, metrics.clone()).above(disks).leak(), metrics)
}

fn meta(etag: &str, complete: u64) -> CacheMeta {
    let mut header = ResponseHeader::build(200, None).expect("a status");
    header.insert_header("etag", etag).expect("a field");
    header.insert_header("content-length", complete).expect("a field");
    header.insert_header("cache-tag", "films").expect("a field");
    let now = SystemTime::now();
    CacheMeta::new(now + Duration::from_secs(60), now, 0, 0, header)
}

fn asker(slices: &Slices) -> Asker {
    Asker { url: "site/film".into(), has_aliases: false, begun: slices.store.begun() }
}

fn bytes(range: ByteRange) -> Vec<u8> {
    (range.first..=range.last).map(|at| (at % 251) as u8).collect()
}

fn wanted(from: u64, end: u64) -> Wanted {
    Wanted { from, passing_to: end, end, bytes_max: u64::MAX / 2 }
}

async fn head(slices: &'static Slices) -> (CacheKey, Head) {
    let key = crate::cache::key("site/film");
    let head = slices.keep_head(&key, &meta("\"a\"", COMPLETE)).await.expect("kept");
    (key, head)
}

async fn fill(mut run: Run, piece: usize) {
    for part in bytes(run.asked()).chunks(piece) {
        run.write(Bytes::copy_from_slice(part)).await.expect("as many as were asked for");
    }
    assert!(run.is_complete());
}

#[tokio::test]
async fn a_head_is_found_as_it_was_kept_and_by_its_fields_alone() {
    let slices = slices(4 << 20);
    let (key, kept) = head(slices).await;
    let (found, _) = slices.head(&key).await.expect("found");
    assert!(found.title().is_version(kept.title()));
    assert_eq!(found.meta().headers()["content-length"], COMPLETE.to_string().as_str());
    assert_eq!(found.meta().response_header().status, 200);
    assert!(!found.meta().headers().contains_key("content-range"));
    let mut from_disk = meta::copy(&kept.stored());
    from_disk.extensions_mut().remove::<Arc<Title>>();
    assert!(Head::of_stored(&key, from_disk).expect("a head").title().is_version(kept.title()));
    assert!(slices.store.held(&key.to_compact()).is_none(), "the ordinary path never sees a head");
}

#[tokio::test]
async fn what_is_claimed_or_kept_is_not_claimed_again() {
    let slices = slices(4 << 20);
    let (_, head) = head(slices).await;
    let (title, asker) = (head.title(), asker(slices));
    let first = slices.claim(title, &asker, wanted(2, 5)).await.expect("room").run.expect("missing");
    assert_eq!(slicing::granules(first.asked()), 2..5);
    let none = slices.claim(title, &asker, wanted(2, 5)).await.expect("room");
    assert!(none.run.is_none() && none.next == 5, "on its way");
    let behind = slices.claim(title, &asker, wanted(2, 11)).await.expect("room").run.expect("missing");
    assert_eq!(behind.asked(), ByteRange { first: 5 * GRANULE_BYTES, last: COMPLETE - 1 });
    fill(first, 1000).await;
    assert!(slices.claim(title, &asker, wanted(2, 5)).await.expect("room").run.is_none(), "kept");
    drop(behind);
    let again = slices.claim(title, &asker, wanted(2, 11)).await.expect("room").run.expect("given up");
    assert_eq!(slicing::granules(again.asked()), 5..11);
    drop(again);
    assert!(slices.has_all(title, &[ByteRange { first: 2 * GRANULE_BYTES, last: 5 * GRANULE_BYTES - 1 }]));
    assert!(!slices.has_all(title, &[ByteRange { first: 0, last: 0 }]));
    assert_eq!(slices.outstanding_bytes.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_run_is_no_larger_than_the_store_has_room_for() {
    let slices = slices(1 << 20);
    let (_, head) = head(slices).await;
    let mut wanted = wanted(0, 11);
    wanted.bytes_max = 4 * GRANULE_BYTES;
    let run = slices.claim(head.title(), &asker(slices), wanted).await.expect("room").run.expect("missing");
    assert_eq!(slicing::granules(run.asked()), 0..4);
    assert!(slices.store.stats().bytes <= 1 << 20);
}

#[tokio::test]
async fn a_version_that_ended_takes_its_entries_with_it_and_leaves_others() {
    let slices = slices(8 << 20);
    let (key, old) = head(slices).await;
    fill(slices.claim(old.title(), &asker(slices), wanted(0, 11)).await.expect("room").run.expect("missing"), 9999)
        .await;
    slices.changed(old.title());
    assert!(slices.head(&key).await.is_none());
    let new = slices.keep_head(&key, &meta("\"b\"", COMPLETE)).await.expect("kept");
    fill(slices.claim(new.title(), &asker(slices), wanted(0, 11)).await.expect("room").run.expect("missing"), 9999)
        .await;
    while slices.is_held(old.title(), 10) {
        tokio::task::yield_now().await;
    }
    let all = [ByteRange { first: 0, last: COMPLETE - 1 }];
    assert!(!slices.has_all(old.title(), &all) && slices.has_all(new.title(), &all));
    assert!(old.title().has_ended() && !new.title().has_ended());
}

#[tokio::test]
async fn purges_of_the_object_reach_its_parts() {
    for selector in [
        Selector::Key("site/film".into()),
        Selector::Prefixes(vec!["site/".into()]),
        Selector::Tag("films".into()),
        Selector::All,
    ] {
        let slices = slices(8 << 20);
        let (key, head) = head(slices).await;
        fill(
            slices.claim(head.title(), &asker(slices), wanted(0, 11)).await.expect("room").run.expect("missing"),
            9999,
        )
        .await;
        slices.store.bans().add(&Ban { selector: selector.clone(), soft: false, at: SystemTime::now() });
        let by_url = matches!(selector, Selector::Prefixes(_));
        // The head was kept without a URL here; the edge gives it one.
        assert!(by_url || slices.head(&key).await.is_none(), "{selector:?}");
        assert!((0..11).all(|index| !slices.is_held(head.title(), index)), "{selector:?}");
    }
}

#[test]
fn keys_of_granules_heads_and_versions_differ() {
    let key = crate::cache::key("site/film");
    let mut seen = HashSet::from([key.to_compact(), head_key(&key).to_compact()]);
    for etag in ["\"a\"", "\"b\""] {
        for complete in [COMPLETE, COMPLETE + 1] {
            let head = Head::of_whole(&key, &meta(etag, complete)).expect("a head");
            for index in 0..1000 {
                assert!(seen.insert(head.title().granule_key(index).to_compact()), "{etag} {complete} {index}");
            }
        }
    }
    assert!(seen.iter().all(|one| one.primary_bin() == key.primary_bin()), "variants of the object");
}

proptest! {
    /// Whatever pieces an answer comes in and wherever it begins, each granule that is whole holds its bytes.
    #[test]
    fn granules_hold_their_bytes(
        first in 0..COMPLETE, length in 1..COMPLETE, pieces in proptest::collection::vec(1_usize..150_000, 1..20), stop: bool,
    ) {
        let part = ByteRange { first, last: (first + length - 1).min(COMPLETE - 1) };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let slices = slices(8 << 20);
            let (_, head) = head(slices).await;
            let mut run = slices.claim_answer(head.title(), &asker(slices), part).await;
            let (body, mut at) = (bytes(part), 0);
            let end = if stop { body.len() / 2 } else { body.len() };
            for piece in pieces.iter().cycle() {
                if at == end {
                    break;
                }
                let to = (at + piece).min(end);
                run.write(Bytes::copy_from_slice(&body[at..to])).await.expect("asked for");
                at = to;
            }
            assert!(stop || run.write(Bytes::from_static(b"x")).await.is_err(), "more than was asked for");
            drop(run);
            let came = part.first..part.first + end as u64;
            for index in 0..11 {
                let range = slicing::bytes_of(index..index + 1, COMPLETE).expect("a granule");
                let whole = came.start <= range.first && range.last < came.end;
                let found = slices.store.lookup(&head.title().granule_key(index), &span()).await.expect("a lookup");
                assert_eq!(found.is_some(), whole, "{index} of {came:?}");
                if let Some((_, mut hit)) = found {
                    let mut got = Vec::new();
                    while let Some(piece) = hit.read_body().await.expect("whole") {
                        got.extend_from_slice(&piece);
                    }
                    assert!(got == bytes(range), "{index}");
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_disk_has_is_told_and_of_a_purged_object_claimed_in_one_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let slices = slices_above(folder.path());
    let (key, head) = head(slices).await;
    let (title, asker) = (head.title(), asker(slices));
    let stored = head.stored();
    let told = async || slices.store.parts_kept(&key, stored.headers()).await.expect("a head");
    fill(slices.claim(title, &asker, wanted(0, 11)).await.expect("room").run.expect("missing"), 1000).await;
    assert_eq!(told().await, PartsKept { memory_bytes: COMPLETE, disk_bytes: 0 });
    let disks = slices.store.disks().expect("it has one");
    for _ in 0..500 {
        if disks.stats()[0].objects == 12 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(disks.stats()[0].objects, 12);
    for shard in slices.store.shards() {
        let there: Vec<_> =
            shard.read().iter().filter_map(|(key, slot)| Some((*key, slot.object.as_ref()?.body.version))).collect();
        for (key, version) in there.iter().filter(|(_, version)| version % 3 > 0) {
            slices.store.forget_object(*key, *version);
            slices.store.forget_version(*version);
        }
    }
    let kept = told().await;
    assert!(
        kept.memory_bytes > 0 && kept.disk_bytes > 0 && kept.memory_bytes + kept.disk_bytes == COMPLETE,
        "{kept:?}"
    );
    assert!(slices.claim(title, &asker, wanted(0, 11)).await.expect("room").run.is_none(), "it is all there");
    slices.store.bans().add(&Ban { selector: Selector::Key("site/film".into()), soft: false, at: SystemTime::now() });
    assert_eq!(told().await, PartsKept::default());
    let again = slices.claim(title, &asker, wanted(0, 11)).await.expect("room").run.expect("purged");
    assert_eq!(slicing::granules(again.asked()), 0..11);
    assert!(slices.store.parts_kept(&key, &HeaderMap::new()).await.is_none(), "no head");
}
