//! Real tasks on several threads: many followers of one fill, and writers that die anywhere.

use super::*;

/// What a follower saw: the whole body, an error after right bytes, or nothing to follow.
async fn follow(store: &'static MemoryStore, key: CacheKey, expected: Arc<Vec<u8>>, start: usize) -> Option<bool> {
    let mut hit = get(store, &key).await?;
    let mut at = 0;
    if start > 0 && hit.can_seek() {
        hit.seek(start, None).expect("inside");
        at = start;
    }
    loop {
        match hit.read_body().await {
            Ok(Some(bytes)) => {
                assert_eq!(bytes, expected[at..at + bytes.len()], "a wrong byte at {at}");
                at += bytes.len();
            }
            Ok(None) => {
                assert_eq!(at, expected.len(), "a clean short end");
                return Some(true);
            }
            Err(_) => return Some(false),
        }
    }
}

async fn race(promised: bool, bytes: usize, dies_at: Option<usize>) {
    let store = store(1 << 22, 1 << 21);
    let key = key("raced");
    let expected = Arc::new(body(9, bytes));
    let (mut miss, _owner) = begin(store, &key, promised.then_some(bytes)).await.expect("room");
    let followers: Vec<_> = (0..24)
        .map(|at| {
            let (key, expected) = (key.clone(), Arc::clone(&expected));
            let start = if at % 3 == 0 { bytes * at / 24 } else { 0 };
            tokio::spawn(async move {
                for _ in 0..at {
                    tokio::task::yield_now().await;
                }
                follow(store, key, expected, start).await
            })
        })
        .collect();
    let all = Arc::clone(&expected);
    let writer = tokio::spawn(async move {
        let mut at = 0;
        while at < all.len() {
            if dies_at.is_some_and(|dies_at| at >= dies_at) {
                return;
            }
            let next = (at + 1 + fastrand::usize(..700)).min(all.len());
            miss.write_body(Bytes::copy_from_slice(&all[at..next]), next == all.len()).await.expect("written");
            at = next;
            tokio::task::yield_now().await;
        }
        miss.finish().await.map(|_| ()).expect("finished");
    });
    writer.await.expect("no panic");
    for follower in followers {
        let saw = tokio::time::timeout(Duration::from_secs(30), follower).await.expect("no follower hangs");
        match saw.expect("no panic") {
            Some(whole) => assert_eq!(whole, dies_at.is_none()),
            None => assert!(dies_at.is_some(), "a fill or its object is always found"),
        }
    }
    assert_eq!(get(store, &key).await.is_some(), dies_at.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_follower_gets_every_byte() {
    for at in 0..20 {
        race(at % 2 == 0, 40_000, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_follower_takes_a_dead_writers_bytes_for_the_whole() {
    for at in 0..20 {
        race(at % 2 == 0, 40_000, Some(fastrand::usize(..39_000))).await;
    }
}

async fn fill_once(store: &'static MemoryStore, key: &CacheKey) {
    let bytes = 1 + fastrand::usize(..20_000);
    let Ok((mut miss, _owner)) = begin(store, key, fastrand::bool().then_some(bytes)).await else { return };
    let version = miss.entry_id().expect("identified").get();
    for piece in body(version, bytes).chunks(997) {
        if fastrand::u8(..100) == 0 || miss.write_body(Bytes::copy_from_slice(piece), false).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    miss.finish().await.map(|_| ()).expect("finished");
}

async fn read_once(store: &'static MemoryStore, key: &CacheKey) {
    let Some(mut hit) = get(store, key).await else { return };
    let expected = body(hit.entry_id().expect("identified").get(), 20_000);
    let mut at = 0;
    while let Ok(Some(bytes)) = hit.read_body().await {
        assert_eq!(bytes, expected[at..at + bytes.len()], "bytes of two versions");
        at += bytes.len();
        tokio::task::yield_now().await;
    }
}

async fn purge(store: &'static MemoryStore, key: &CacheKey) {
    let compact = key.to_compact();
    let target = PurgeTarget::Active(&compact);
    store.purge(target, PurgeType::Invalidation, &span()).await.map(|_| ()).expect("purged");
}

/// Purges, replacements and readers of several keys at once, with room for a few of them only.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn versions_never_mix_under_load() {
    let store = store(100_000, 30_000);
    let tasks: Vec<_> = (0..6_u64)
        .map(|worker| {
            tokio::spawn(async move {
                for round in 0..150_u64 {
                    let key = key(&format!("{}", (worker + round) % 8));
                    match fastrand::u8(..10) {
                        0 => purge(store, &key).await,
                        1..=4 => fill_once(store, &key).await,
                        _ => read_once(store, &key).await,
                    }
                    assert!(store.stats().bytes <= 100_000);
                }
            })
        })
        .collect();
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(60), task).await.expect("no deadlock").expect("no panic");
    }
    for at in 0..8 {
        purge(store, &key(&format!("{at}"))).await;
    }
    assert_eq!((store.stats().bytes, store.stats().objects, store.stats().fills_running), (0, 0, 0));
}
