//! Objects that lie on a disk while all of RAM is in use.

use std::path::Path;

use super::super::room::STALLED_PAUSE_MAX;
use super::*;
use crate::cache::disk::{Disks, LogSettings};
use crate::config::{Disk, DiskAdmission};

fn store_above(folder: &Path) -> &'static MemoryStore {
    let disk = Disk {
        path: folder.to_owned(),
        size_bytes: 16 << 20,
        write_bytes_per_day_max: None,
        write_bytes_per_second_max: None,
        admit: DiskAdmission::All,
    };
    let metrics = Arc::new(Metrics::new());
    let disks = Arc::new(Disks::open(vec![LogSettings::new(&disk, 0)], &metrics));
    let settings = StoreSettings { bytes_max: 64_000, object_bytes_max: 32_000, hold_timeout: Duration::from_secs(60) };
    MemoryStore::new(settings, metrics).above(disks).leak()
}

/// Takes all the room that objects of this size can have, and holds it.
async fn take_room(store: &'static MemoryStore, bytes: usize, held: &mut Vec<HitHandler>) {
    for at in 0.. {
        let key = key(&format!("held {bytes} {at}"));
        let Ok(mut miss) = store.get_miss_handler(&key, &meta(Some(bytes)), &span()).await else { return };
        miss.write_body(Bytes::from(body(1, bytes)), true).await.expect("written");
        miss.finish().await.map(|_| ()).expect("finished");
        held.push(get(store, &key).await.expect("a hit"));
    }
}

/// Of an object that is on the disk and nowhere else.
async fn put_below(store: &'static MemoryStore, bytes: usize, held: &mut Vec<HitHandler>) -> u64 {
    let version = put(store, &key("below"), bytes).await;
    let disks = store.disks().expect("it has some");
    for _ in 0..500 {
        if disks.peek(u128::from_be_bytes(key("below").combined_bin())).is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for bytes in [2_000, 100] {
        take_room(store, bytes, held).await;
    }
    version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_304_renews_the_head_of_what_ram_has_no_room_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store_above(folder.path());
    let mut held = Vec::new();
    let version = put_below(store, 3_000, &mut held).await;
    let (old, mut hit) = store.lookup(&key("below"), &span()).await.expect("no failure").expect("a hit");
    assert_eq!(read_all(&mut hit).await.expect("whole"), body(version, 3_000));
    assert!(store.stats().bytes > 57_000 && old.headers().get("x-new").is_none());
    let mut new = meta(Some(3_000));
    new.response_header_mut().insert_header("x-new", "1").expect("valid field");
    new.extensions_mut().insert(meta::Version(version + 1));
    assert!(!store.update_meta(&key("below"), &new, &span()).await.expect("no failure"), "another version");
    new.extensions_mut().insert(meta::Version(version));
    assert!(store.update_meta(&key("below"), &new, &span()).await.expect("no failure"));
    for crowded in [true, false] {
        if !crowded {
            held.clear();
        }
        let (now, mut hit) = store.lookup(&key("below"), &span()).await.expect("no failure").expect("a hit");
        assert!(now.headers().contains_key("x-new"), "crowded: {crowded}");
        assert_eq!(read_all(&mut hit).await.expect("whole"), body(version, 3_000));
    }
    store.remove(&key("below").to_compact());
    assert!(!store.update_meta(&key("below"), &new, &span()).await.expect("no failure"), "it was removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_room_is_told_when_a_reader_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store_above(folder.path());
    let mut held = Vec::new();
    for bytes in [20_000, 2_000, 100] {
        take_room(store, bytes, &mut held).await;
    }
    let began = std::time::Instant::now();
    assert!(store.room_within(Duration::from_millis(50), || store.reserve(20_000)).await.is_none());
    assert!(began.elapsed() >= Duration::from_millis(50));
    let waiters: Vec<_> =
        (0..2).map(|_| tokio::spawn(store.room_within(Duration::from_secs(30), || store.reserve(10_000)))).collect();
    tokio::task::yield_now().await;
    let began = std::time::Instant::now();
    drop(held.remove(0));
    let mut charges = Vec::new();
    for waiter in waiters {
        let charge = waiter.await.expect("no panic").expect("room for both");
        assert_eq!(charge.bytes(), 10_000);
        charges.push(charge);
    }
    // Less than the look that needs no notice.
    assert!(began.elapsed() < STALLED_PAUSE_MAX, "{:?}", began.elapsed());
}
