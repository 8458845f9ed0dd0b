//! Objects that lie on a disk while all of RAM is in use.

use std::path::Path;

use super::super::super::bans::{Ban, Selector, Stamp};
use super::super::room::STALLED_PAUSE_MAX;
use super::*;
use crate::cache::disk::{Disks, LogSettings};
use crate::cache::{Ahead, Held};
use crate::config::{Disk, DiskAdmission};

fn store_above(folder: &Path) -> &'static MemoryStore {
    store_with(folder, DiskAdmission::All, Duration::from_secs(60))
}

fn store_with(folder: &Path, admit: DiskAdmission, hold_timeout: Duration) -> &'static MemoryStore {
    let disk = Disk { admit, ..disk_at(folder, 16 << 20) };
    let metrics = Arc::new(Metrics::new());
    let disks = Arc::new(Disks::open(vec![LogSettings::new(&disk, 0)], &metrics));
    let settings = StoreSettings { bytes_max: 64_000, object_bytes_max: 32_000, hold_timeout };
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

async fn written(store: &MemoryStore, key: &CacheKey) {
    let disks = store.disks().expect("it has some");
    eventually("it is written", async || disks.peek(u128::from_be_bytes(key.combined_bin())).is_some()).await;
}

/// Of an object that is on the disk and nowhere else.
async fn put_below(store: &'static MemoryStore, bytes: usize, held: &mut Vec<HitHandler>) -> u64 {
    let version = put(store, &key("below"), bytes).await;
    written(store, &key("below")).await;
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
        // The new head is being written, and there is room for one reader.
        let is_new = async || {
            let found = store.lookup(&key("below"), &span()).await.expect("no failure").expect("a hit");
            found.0.headers().contains_key("x-new")
        };
        eventually("the new head is found", is_new).await;
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

/// A reader in the middle of an object that the origin cannot be asked for again, and others that want the room.
async fn stall_and_press(store: &'static MemoryStore) -> HitHandler {
    let mut reader = get(store, &key("slow")).await.expect("a hit");
    reader.read_body().await.expect("there").expect("not the end");
    for at in 0..20 {
        let key = key(&format!("other {at}"));
        // What goes down takes its room until it is written.
        let filled = async || begin(store, &key, Some(10_000)).await.is_ok();
        eventually("there is room for a fill", filled).await;
        put(store, &key, 10_000).await;
    }
    reader
}

/// That a disk could take it by its size does not say that it has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_of_what_the_disk_refused_is_kept_while_there_is_other_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store_with(folder.path(), DiskAdmission::SecondHit, Duration::ZERO);
    let version = put(store, &key("slow"), 20_000).await;
    let mut reader = stall_and_press(store).await;
    let refused = store.metrics.disk_refused.with_label_values(&["0", "seen_once"]).get();
    assert!(refused > 20, "{refused}");
    assert_eq!(read_all(&mut reader).await.expect("whole"), body(version, 20_000)[64..]);
    assert_eq!(store.metrics.cache_readers_let_go.with_label_values(&["aborted"]).get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_goes_on_from_the_disk_where_that_has_its_version_and_no_purge_takes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store_with(folder.path(), DiskAdmission::All, Duration::ZERO);
    let version = put(store, &key("slow"), 20_000).await;
    written(store, &key("slow")).await;
    let mut reader = stall_and_press(store).await;
    assert_eq!(read_all(&mut reader).await.expect("whole"), body(version, 20_000)[64..]);
    assert_eq!(store.metrics.cache_readers_let_go.with_label_values(&["disk"]).get(), 1);

    let hash = u128::from_be_bytes(key("slow").combined_bin());
    let stamp = Stamp::new(store.bans(), &key("slow"), &meta(None));
    assert!(store.can_be_read_below(hash, version, &stamp));
    assert!(!store.can_be_read_below(hash, version + 1, &stamp), "another version");
    store.bans().add(&Ban { selector: Selector::All, soft: true, at: SystemTime::now() });
    assert!(store.can_be_read_below(hash, version, &stamp), "stale is as good");
    store.bans().add(&Ban { selector: Selector::All, soft: false, at: SystemTime::now() });
    assert!(!store.can_be_read_below(hash, version, &stamp), "purged");
}

/// What a disk has is known to be gone before it is read where its key was purged, or all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_disk_has_is_not_held_once_its_key_or_all_was_purged() {
    for selector in [Selector::Key("below".to_owned()), Selector::All] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store_above(folder.path());
        put_below(store, 3_000, &mut Vec::new()).await;
        let (below, compact) = (key("below"), key("below").to_compact());
        assert!(store.lies_below(&below) && store.held(&compact) == Some(Held::Whole));
        let ban = |selector: &Selector, soft| {
            store.bans().add(&Ban { selector: selector.clone(), soft, at: SystemTime::now() })
        };
        ban(&Selector::Key("another".to_owned()), false);
        ban(&selector, true);
        assert_eq!(store.held(&compact), Some(Held::Whole), "stale");
        let stale = store.look_ahead(&below).await.expect("no failure").expect("it is there");
        assert!(!stale.meta.is_fresh(SystemTime::now()));
        drop(stale);
        ban(&selector, false);
        assert_eq!(store.held(&compact), None, "{selector:?}");
        assert!(store.look_ahead(&below).await.expect("no failure").is_none());
    }
}

/// One request looks twice, and is one request to a disk that wants what is asked for twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_look_ahead_for_what_is_not_there_counts_as_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store_with(folder.path(), DiskAdmission::SecondHit, Duration::from_secs(60));
    for _ in 0..3 {
        assert!(store.look_ahead(&key("a")).await.expect("no failure").is_none());
    }
    assert!(get(store, &key("a")).await.is_none());
    put(store, &key("a"), 1_000).await;
    assert_eq!(store.metrics.disk_refused.with_label_values(&["0", "seen_once"]).get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_looked_up_ahead_is_what_the_next_look_up_finds_and_is_read_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store_above(folder.path());
    let mut held = Vec::new();
    let version = put_below(store, 3_000, &mut held).await;
    let mut below = key("below");
    let ahead = store.look_ahead(&below).await.expect("no failure").expect("it is there");
    assert_eq!(ahead.held(), Held::Whole);
    let read = || store.metrics.disk_read_bytes.with_label_values(&["0"]).get();
    let before = read();
    below.extensions.insert(Arc::new(Ahead::of([ahead])));
    let mut other = below.clone();
    other.set_variance_key([1; 16]);
    assert!(get(store, &other).await.is_none(), "only for its key");
    let mut hit = get(store, &below).await.expect("a hit");
    assert_eq!(read(), before, "the beginning was read before");
    assert_eq!(read_all(&mut hit).await.expect("whole"), body(version, 3_000));
    let mut hit = get(store, &below).await.expect("looked up again");
    assert_eq!(read_all(&mut hit).await.expect("whole"), body(version, 3_000));
    assert!(read() > before);
}

fn disk_at(folder: &Path, size_bytes: u64) -> Disk {
    Disk {
        path: folder.to_owned(),
        size_bytes,
        write_bytes_per_day_max: None,
        write_bytes_per_second_max: None,
        admit: DiskAdmission::All,
    }
}

async fn whole(store: &'static MemoryStore, name: &str) -> Option<Vec<u8>> {
    let mut hit = get(store, &key(name)).await?;
    Some(read_all(&mut hit).await.expect("whole"))
}

/// Another process with the same log of purges, and the disks it has.
fn process(bans: &Arc<Bans>, disks: [&Disk; 2]) -> &'static MemoryStore {
    let metrics = Arc::new(Metrics::new());
    let settings = disks.iter().enumerate().map(|(index, disk)| LogSettings::new(disk, index)).collect();
    let disks = Arc::new(Disks::open(settings, &metrics));
    let bytes_max = StoreSettings { bytes_max: 1 << 20, object_bytes_max: 1 << 19, hold_timeout: Duration::ZERO };
    MemoryStore::with_bans(bytes_max, Arc::clone(bans), metrics).above(disks).leak()
}

fn forget_ram(store: &MemoryStore) {
    for shard in store.shards() {
        let there: Vec<_> =
            shard.read().iter().filter_map(|(key, slot)| Some((*key, slot.object.as_ref()?.body.version))).collect();
        there.into_iter().for_each(|(key, version)| {
            store.forget_object(key, version);
            store.forget_version(version);
        });
    }
}

/// The first process is still here, with its locks: the next one gets other files.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("made");
    for file in std::fs::read_dir(from).expect("a folder") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
}

/// One of two disks is away when a process starts, and comes back while it runs: with what it had, but for what has changed since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_comes_back_late_brings_nothing_that_has_changed_since() {
    let folder = tempfile::tempdir().expect("a folder");
    let (stays, goes) = (folder.path().join("stays"), folder.path().join("goes"));
    // Nearly all keys are of the one that goes.
    let disks = [&disk_at(&stays, 1 << 20), &disk_at(&goes, 64 << 20)];
    let bans = Arc::new(Bans::new(Arc::new(Metrics::new())));
    let names: Vec<String> = (0..40).map(|at| format!("object {at}")).collect();
    let before = process(&bans, disks);
    for name in &names {
        put(before, &key(name), 5_000).await;
    }
    assert!(before.disks().expect("it has some").close().await);
    let (first_stays, first_goes, elsewhere) =
        (folder.path().join("1"), folder.path().join("2"), folder.path().join("3"));
    std::fs::rename(&stays, &first_stays).expect("moved");
    std::fs::rename(&goes, &first_goes).expect("moved");
    copy(&first_stays, &stays);
    copy(&first_goes, &elsewhere);
    std::fs::write(&goes, "not a folder").expect("written");

    let store = process(&bans, disks);
    assert_eq!(store.disks().expect("it has some").failures().count(), 1);
    let opening = tokio::spawn(store.keep_opening_disks());
    let (removed, replaced, filling, kept) = (&names[..10], &names[10..20], &names[20..30], &names[30..]);
    removed.iter().for_each(|name| drop(store.remove(&key(name).to_compact())));
    let mut versions = Vec::new();
    for name in replaced {
        versions.push(put(store, &key(name), 6_000).await);
    }
    let mut fills = Vec::new();
    for name in filling {
        fills.push(begin(store, &key(name), Some(7_000)).await.expect("room").0);
    }
    let version = versions[0];
    std::fs::remove_file(&goes).expect("removed");
    std::fs::rename(&elsewhere, &goes).expect("moved back");
    tokio::time::timeout(Duration::from_secs(60), opening).await.expect("it is opened").expect("no panic");
    let disks = store.disks().expect("it has some");
    assert!(disks.failures().next().is_none() && disks.logs().count() == 2);
    assert!(store.latest_version() > version, "versions go on above those of the disk");
    eventually("it has recovered", async || !disks.recovering()).await;
    for mut miss in fills {
        let version = miss.entry_id().expect("identified").get();
        miss.write_body(Bytes::from(body(version, 7_000)), true).await.expect("written");
        miss.finish().await.map(|_| ()).expect("finished");
    }
    for (name, version) in replaced.iter().zip(&versions) {
        assert_eq!(whole(store, name).await, Some(body(*version, 6_000)), "{name}");
    }
    forget_ram(store);
    for name in removed {
        assert!(whole(store, name).await.is_none(), "{name} came back");
    }
    for (name, bytes) in replaced.iter().map(|name| (name, 6_000)).chain(filling.iter().map(|name| (name, 7_000))) {
        assert!(whole(store, name).await.is_none_or(|body| body.len() == bytes), "{name}: an older version came back");
    }
    for name in kept {
        assert_eq!(
            whole(store, name).await.map(|body| body.len()),
            Some(5_000),
            "{name}: what has not changed is there"
        );
    }
    // And what is stored from now on goes there.
    let version = put(store, &key("new"), 5_000).await;
    written(store, &key("new")).await;
    forget_ram(store);
    assert_eq!(whole(store, "new").await, Some(body(version, 5_000)));
}
