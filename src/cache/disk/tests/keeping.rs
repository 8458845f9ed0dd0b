//! What is kept, for how long, and what is let in.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::{Admission, BODY_CHUNK_BYTES, Disks, Log, Lost, OpenError, Refusal};
use super::*;

#[tokio::test]
async fn an_object_is_found_and_any_range_of_it_read() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 64 * MIB).await;
    let bytes = 3 * BODY_CHUNK_BYTES as usize + 17;
    let whole = content(key(1), 7, bytes);
    log.offer(record(key(1), 7, bytes)).unwrap().written().await.unwrap();
    let found = log.find(key(1)).unwrap();
    assert_eq!((found.version, found.ban_number, found.body_bytes), (7, 7, bytes as u64));
    assert_eq!(log.read_head(&found).await.unwrap(), record(key(1), 7, 0).head);
    for (offset, bytes_max) in [(0, 1), (5, 100_000), (BODY_CHUNK_BYTES as usize - 1, 9), (bytes - 3, 100)] {
        let piece = log.read(&found, offset as u64, bytes_max).await.unwrap();
        let chunk_end = (offset / BODY_CHUNK_BYTES as usize + 1) * BODY_CHUNK_BYTES as usize;
        assert_eq!(&piece[..], &whole[offset..bytes.min(chunk_end).min(offset + bytes_max)]);
    }
    assert!(log.read(&found, bytes as u64, 1).await.unwrap().is_empty());
    assert!(log.close().await);
    assert!(holds(&log, key(1), 7, bytes).await, "reads go on after the close");
    assert_eq!(log.offer(record(key(2), 8, 1)).unwrap_err(), Refusal::Closed);
}

#[tokio::test]
async fn after_a_clean_stop_everything_accepted_is_there_heads_and_removals_too() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 64 * MIB).await;
    let mut epoch = log.epoch();
    for n in 0..200 {
        drop(log.offer(record(key(n), n + 1, 10_000 + n as usize)).unwrap());
    }
    drop(log.remove(key(5), 6).unwrap());
    drop(log.replace_head(key(6), 7, 99, b"newer".to_vec()).unwrap());
    assert!(log.close().await);
    drop(log);
    for _ in 0..3 {
        let log = open(folder.path(), 64 * MIB).await;
        assert!(log.epoch() > epoch);
        epoch = log.epoch();
        for n in (0..200).filter(|n| *n != 5) {
            assert!(holds(&log, key(n), n + 1, 10_000 + n as usize).await, "{n}");
        }
        assert!(log.find(key(5)).is_none());
        let found = log.find(key(6)).unwrap();
        assert_eq!((log.read_head(&found).await.unwrap(), found.ban_number), (b"newer".to_vec(), 99));
        assert_eq!(log.oldest_ban_number(), Some(1));
        assert!(log.close().await);
    }
    assert_eq!(segment_files(folder.path()).len(), 1, "a restart goes on in the segment it finds");
}

#[tokio::test]
async fn a_crash_loses_nothing_that_was_written() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5_u64 {
        let log = open(folder.path(), 256 * MIB).await;
        for n in 0..round * 20 {
            assert!(holds(&log, key(n), n + 1, 50_000).await, "{n} after {round} crashes");
        }
        let mut tickets = Vec::new();
        for n in round * 20..(round + 1) * 20 {
            tickets.push(log.offer(record(key(n), n + 1, 50_000)).unwrap());
        }
        for ticket in tickets {
            ticket.written().await.unwrap();
        }
        // What is in the queue now may get lost; it must not do any harm.
        drop(log.offer(record(key(10_000 + round), 1, 3_000_000)));
    }
}

#[tokio::test]
async fn a_burst_from_many_tasks_keeps_all_it_accepts_and_counts_all_it_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new());
    let small_queue = LogSettings { queue_bytes_max: MIB, ..settings(folder.path(), 256 * MIB) };
    let log = Arc::new(Log::open(small_queue.clone(), Arc::clone(&metrics)).unwrap());
    let offers = (0..1000_u64).map(|n| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let record = record(key(n), n + 1, 65_536);
            if n % 2 == 0 {
                log.offer(record).is_ok().then_some(n)
            } else {
                let deadline = Instant::now() + Duration::from_secs(60);
                log.offer_waiting(record, deadline).await.expect("it waits for room");
                Some(n)
            }
        })
    });
    let accepted: Vec<u64> = futures_util::future::join_all(offers.collect::<Vec<_>>())
        .await
        .into_iter()
        .filter_map(|offer| offer.unwrap())
        .collect();
    let stats = log.stats();
    assert!(accepted.len() >= 500);
    assert_eq!(stats.accepted, accepted.len() as u64);
    let refused = 1000 - accepted.len() as u64;
    assert_eq!(stats.refused.iter().map(|(_, count)| count).sum::<u64>(), refused, "{stats:?}");
    assert!(log.close().await);
    assert_eq!((log.stats().queue_bytes, log.stats().lost), (0, 0));
    drop(log);
    let log = open_with(small_queue).await;
    for n in &accepted {
        assert!(holds(&log, key(*n), n + 1, 65_536).await, "{n}");
    }
    assert_eq!(log.stats().objects, accepted.len() as u64);
}

#[tokio::test]
async fn the_files_never_exceed_the_size_and_what_is_asked_for_outlives_a_scan() {
    let folder = tempfile::tempdir().unwrap();
    let size = 4 * MIB;
    let log = open(folder.path(), size).await;
    let hot: Vec<u64> = (0..20).collect();
    for n in &hot {
        log.offer(record(key(*n), 1, 20_000)).unwrap().written().await.unwrap();
    }
    for scan in 1000..2000 {
        log.offer(record(key(scan), 1, 20_000)).unwrap().written().await.unwrap();
        for n in &hot {
            log.find(key(*n));
        }
        let files: u64 = segment_files(folder.path()).iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!(files <= size, "{files}");
    }
    for n in &hot {
        assert!(holds(&log, key(*n), 1, 20_000).await, "{n} was flushed out by a scan");
    }
    assert!(log.find(key(1000)).is_none(), "the scan itself is let go");
    assert!(log.stats().reinserted_bytes > 0);
    // Everything is asked for: still the log advances, and takes what is new.
    for n in 3000..3600 {
        log.offer(record(key(n), 1, 20_000)).unwrap().written().await.unwrap();
        assert!(holds(&log, key(n), 1, 20_000).await);
        (0..4000).for_each(|n| _ = log.find(key(n)));
    }
    assert!(log.close().await);
    drop(log);
    let log = open(folder.path(), size).await;
    assert!(holds(&log, key(3599), 1, 20_000).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_get_right_bytes_or_an_error_while_segments_are_reclaimed_under_them() {
    let folder = tempfile::tempdir().unwrap();
    let log = Arc::new(open(folder.path(), 2 * MIB).await);
    let readers = (0..4_u64).map(|reader| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let (mut right, mut n) = (0, reader);
            let until = Instant::now() + Duration::from_secs(2);
            while Instant::now() < until {
                n = (n + 7) % 40;
                let Some(found) = log.find(key(n)) else {
                    tokio::task::yield_now().await;
                    continue;
                };
                match read_all(&log, &found).await {
                    Ok(body) => {
                        assert!(body == content(key(n), found.version, 60_000), "other bytes");
                        right += 1;
                    }
                    Err(error) => assert_eq!(error, ReadError::Gone),
                }
            }
            right
        })
    });
    let readers: Vec<_> = readers.collect();
    let mut version = 0;
    while !readers.iter().all(tokio::task::JoinHandle::is_finished) {
        version += 1;
        log.offer(record(key(version % 40), version, 60_000)).unwrap().written().await.unwrap();
    }
    for reader in readers {
        assert!(reader.await.unwrap() > 20);
    }
    assert_eq!(log.stats().read_errors, 0);
    assert!(log.stats().reinserted_bytes > 0);
}

#[tokio::test]
async fn a_version_is_never_followed_by_an_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 64 * MIB).await;
    log.offer(record(key(1), 5, 1000)).unwrap().written().await.unwrap();
    assert_eq!(log.offer(record(key(1), 4, 1000)).unwrap_err(), Refusal::Outdated);
    let ticket = log.offer(record(key(1), 6, 1000)).unwrap();
    assert!(log.find(key(1)).is_none_or(|found| found.version == 6), "5 is gone as soon as 6 is accepted");
    drop(log.remove(key(1), 6).unwrap());
    let _ = ticket.written().await;
    assert!(log.find(key(1)).is_none(), "a removal reaches what is in the queue");
    // A refusal ends the older version too: the origin has changed, whether or not there was room for the new one.
    log.offer(record(key(2), 5, 1000)).unwrap().written().await.unwrap();
    assert_eq!(log.offer(record(key(2), 6, 20 << 20)).unwrap_err(), Refusal::TooLarge);
    assert!(log.find(key(2)).is_none());
    assert!(log.close().await);
    drop(log);
    let log = open(folder.path(), 64 * MIB).await;
    assert!(log.find(key(1)).is_none() && log.find(key(2)).is_none());
    assert_eq!(log.oldest_ban_number(), None);
}

#[tokio::test]
async fn bans_are_kept_until_a_removal_is_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 64 * MIB).await;
    log.offer(record(key(1), 3, 1000)).unwrap().written().await.unwrap();
    log.offer(record(key(2), 9, 1000)).unwrap().written().await.unwrap();
    assert_eq!(log.oldest_ban_number(), Some(3));
    log.remove(key(1), 3).unwrap().written().await.unwrap();
    eventually("only the other is left", || log.oldest_ban_number() == Some(9)).await;
}

#[tokio::test]
async fn two_on_one_folder_are_told_so_and_files_are_for_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let log = open(&path, 16 * MIB).await;
    log.offer(record(key(1), 1, 10)).unwrap().written().await.unwrap();
    let again = Log::open(settings(&path, 16 * MIB), Arc::new(Metrics::new()));
    assert!(matches!(&again, Err(OpenError::InUse(_))), "{again:?}");
    assert!(again.unwrap_err().to_string().contains("another process"));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(segment_files(&path)[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
    drop(log);
    open(&path, 16 * MIB).await;
}

#[tokio::test]
async fn a_smaller_size_drops_the_oldest_and_a_larger_one_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 8 * MIB).await;
    for n in 0..200 {
        log.offer(record(key(n), 1, 30_000)).unwrap().written().await.unwrap();
    }
    assert!(log.close().await);
    drop(log);
    let mut newest = 199;
    for (round, size) in [4 * MIB, 32 * MIB, 3 * MIB].into_iter().enumerate() {
        let log = open(folder.path(), size).await;
        assert!(holds(&log, key(newest), 1, 30_000).await, "the newest stays");
        let files: u64 = segment_files(folder.path()).iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!(files <= size, "{files}");
        newest = 1000 + round as u64;
        log.offer(record(key(newest), 1, 30_000)).unwrap();
        log.remove(key(198), 1).unwrap();
        assert!(log.close().await);
        drop(log);
        let log = open(folder.path(), size).await;
        assert!(holds(&log, key(newest), 1, 30_000).await);
        assert!(log.find(key(198)).is_none());
    }
}

#[tokio::test]
async fn a_spent_budget_and_a_first_sight_are_refused_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let budget = LogSettings { write_bytes_per_second_max: Some(10_000), ..settings(folder.path(), 16 * MIB) };
    let log = open_with(budget).await;
    log.offer(record(key(1), 1, 9_000)).unwrap();
    assert_eq!(
        log.offer(record(key(2), 1, 9_000)).unwrap_err(),
        Refusal::OverBudget,
        "scarce: only what was asked for"
    );
    log.find(key(3));
    log.find(key(3));
    log.offer(record(key(3), 1, 9_000)).unwrap();
    assert_eq!(log.offer(record(key(3), 2, 9_000)).unwrap_err(), Refusal::OverBudget);
    assert_eq!(log.stats().refused, [("over_budget", 2)]);
    drop(log);
    let choosy = LogSettings { admission: Admission::SecondHit, ..settings(folder.path(), 16 * MIB) };
    let log = open_with(choosy).await;
    log.find(key(7));
    assert_eq!(log.offer(record(key(7), 1, 10)).unwrap_err(), Refusal::SeenOnce);
    log.asked_for(key(7));
    log.offer(record(key(7), 1, 10)).unwrap().written().await.unwrap();
}

#[tokio::test]
async fn several_disks_share_the_keys_by_size_and_one_that_fails_takes_only_its_share() {
    let folder = tempfile::tempdir().unwrap();
    let of = |n: usize, size| {
        let path = folder.path().join(n.to_string());
        LogSettings { name: n.to_string(), ..settings(&path, size) }
    };
    let three = || vec![of(0, 32 * MIB), of(1, 32 * MIB), of(2, 64 * MIB)];
    let metrics = Arc::new(Metrics::new());
    let disks = Disks::open(three(), &metrics);
    for n in 0..400 {
        disks.offer(record(key(n), 1, 1000)).unwrap();
    }
    assert!(disks.close().await);
    let shares: Vec<u64> = disks.stats().iter().map(|stats| stats.objects).collect();
    assert!((70..130).contains(&shares[0]) && (70..130).contains(&shares[1]) && shares[2] > 160, "{shares:?}");
    drop(disks);
    std::fs::remove_dir_all(folder.path().join("1")).unwrap();
    std::fs::write(folder.path().join("1"), "not a folder").unwrap();
    let disks = Disks::open(three(), &metrics);
    eventually("the others are rebuilt", || !disks.recovering()).await;
    let left = (0..400).filter(|n| disks.find(key(*n)).is_some()).count() as u64;
    assert_eq!(left, shares[0] + shares[2]);
    assert_eq!((disks.failures().count(), disks.oldest_ban_number()), (1, Some(0)));
    let refused = (1000..1400).filter(|n| disks.offer(record(key(*n), 1, 10)).is_err()).count();
    assert!((70..130).contains(&refused), "{refused}");
}

#[tokio::test]
async fn a_ticket_of_a_dropped_log_says_that_it_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 64 * MIB).await;
    let tickets: Vec<_> = (0..50).filter_map(|n| log.offer(record(key(n), 1, 300_000)).ok()).collect();
    drop(log);
    let mut written = 0;
    let mut kept = Vec::new();
    for (n, ticket) in tickets.into_iter().enumerate() {
        match ticket.written().await {
            Ok(()) => kept.push(n as u64),
            Err(lost) => assert_eq!(lost, Lost::Closed),
        }
        written += 1;
    }
    assert_eq!(written, 50);
    let log = open(folder.path(), 64 * MIB).await;
    for n in kept {
        assert!(holds(&log, key(n), 1, 300_000).await, "{n} was said to be written");
    }
}

#[tokio::test]
async fn where_objects_are_many_and_small_the_index_bounds_them() {
    let folder = tempfile::tempdir().unwrap();
    let bytes_max = MIB / 8;
    let few = LogSettings { index_bytes_max: bytes_max, ..settings(folder.path(), 64 * MIB) };
    let log = open_with(few).await;
    for n in 0..6000 {
        let deadline = Instant::now() + Duration::from_secs(60);
        log.offer_waiting(record(key(n), n + 1, 100), deadline)
            .await
            .expect("accepted")
            .written()
            .await
            .expect("written");
    }
    // A segment of 4 MiB holds less than 1024 of these.
    let most = bytes_max / 192 + 1024;
    assert!(log.stats().objects <= most, "{} of {most}", log.stats().objects);
    assert!(log.find(key(5999)).is_some() && log.find(key(0)).is_none(), "the oldest are let go");
}
