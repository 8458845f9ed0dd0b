//! Disks that fail, fill up, slow down or lie.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::super::device::{Device, Files, Folder};
use super::super::types::Late;
use super::super::{Log, LogState, Lost, Refusal};
use super::*;

/// What goes wrong now. Zero: nothing.
#[derive(Debug, Default)]
struct Faults {
    read: AtomicI32,
    write: AtomicI32,
    create: AtomicI32,
    /// Every write and read takes a while.
    slow: AtomicBool,
    /// Reads give other bytes than are there.
    flips: AtomicBool,
    /// A write stops in the middle.
    tears: AtomicBool,
}

impl Faults {
    fn check(error: &AtomicI32) -> io::Result<()> {
        match error.load(Ordering::Acquire) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn delay(&self) {
        if self.slow.load(Ordering::Acquire) {
            let (_held, receiver) = std::sync::mpsc::channel::<()>();
            let _ = receiver.recv_timeout(Duration::from_millis(30));
        }
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

#[derive(Debug)]
struct FaultyFolder {
    files: Files,
    faults: Arc<Faults>,
}

impl Folder for FaultyFolder {
    fn list(&self) -> io::Result<Vec<(u32, u64)>> {
        self.files.list()
    }

    fn create(&self, sequence: u32) -> io::Result<Arc<dyn Device>> {
        Faults::check(&self.faults.create)?;
        let inner = self.files.create(sequence)?;
        Ok(Arc::new(FaultyDevice { inner, faults: Arc::clone(&self.faults) }))
    }

    fn open(&self, sequence: u32) -> io::Result<Arc<dyn Device>> {
        let inner = self.files.open(sequence)?;
        Ok(Arc::new(FaultyDevice { inner, faults: Arc::clone(&self.faults) }))
    }

    fn remove(&self, sequence: u32) -> io::Result<()> {
        self.files.remove(sequence)
    }
}

#[derive(Debug)]
struct FaultyDevice {
    inner: Arc<dyn Device>,
    faults: Arc<Faults>,
}

impl Device for FaultyDevice {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.faults.delay();
        Faults::check(&self.faults.read)?;
        self.inner.read_at(buffer, offset)?;
        if self.faults.flips.load(Ordering::Acquire) {
            let middle = buffer.len() / 2;
            buffer[middle] ^= 4;
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.faults.delay();
        let failed = Faults::check(&self.faults.write);
        if failed.is_err() && self.faults.tears.load(Ordering::Acquire) {
            self.inner.write_at(&bytes[..bytes.len() / 2], offset)?;
        }
        failed?;
        self.inner.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        Faults::check(&self.faults.write)?;
        self.inner.sync()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        Faults::check(&self.faults.create)?;
        self.inner.set_len(bytes)
    }
}

async fn faulty(path: &Path, size: u64) -> (Log, Arc<Faults>) {
    faulty_with(settings(path, size), Arc::new(Metrics::new())).await
}

async fn faulty_with(settings: LogSettings, metrics: Arc<Metrics>) -> (Log, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let folder = FaultyFolder { files: Files::new(&settings.path), faults: Arc::clone(&faults) };
    let log = Log::open_on(settings, metrics, Box::new(folder), Late::default()).unwrap();
    recovered(&log).await;
    (log, faults)
}

async fn written(log: &Log, n: u64, version: u64, bytes: usize) {
    log.offer(record(key(n), version, bytes)).unwrap().written().await.unwrap();
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_refuses_reads_on_and_comes_back() {
    for (errno, refusal, word) in
        [(EIO, Refusal::Failed, "fails"), (ENOSPC, Refusal::Failed, "full"), (EROFS, Refusal::ReadOnly, "read-only")]
    {
        for tears in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            // No write of its own accord is to meet the fault first.
            let settings = LogSettings { sync_interval: Duration::from_secs(600), ..settings(folder.path(), 16 * MIB) };
            let (log, faults) = faulty_with(settings, Arc::new(Metrics::new())).await;
            for n in 0..10 {
                written(&log, n, 1, 50_000).await;
            }
            faults.tears.store(tears, Ordering::Release);
            faults.write.store(errno, Ordering::Release);
            // It replaces what must not come back only because its successor was lost.
            let lost = log.offer(record(key(3), 2, 400_000)).unwrap().written().await;
            assert_eq!(lost, Err(Lost::WriteFailed));
            eventually("it says so", || matches!(log.state(), LogState::Degraded { .. })).await;
            let LogState::Degraded { reason, .. } = log.state() else { panic!("{:?}", log.state()) };
            assert!(reason.contains(word), "{reason}");
            assert_eq!(log.offer(record(key(11), 1, 10)).unwrap_err(), refusal);
            assert!(holds(&log, key(5), 1, 50_000).await, "reads go on");
            let removal = log.remove(key(6), 1).unwrap();
            assert!(log.find(key(6)).is_none() && log.find(key(3)).is_none());
            assert!(log.oldest_ban_number() <= Some(1));
            faults.write.store(0, Ordering::Release);
            removal.written().await.unwrap();
            eventually("it writes again", || log.state() == LogState::Ok).await;
            written(&log, 12, 1, 50_000).await;
            assert_eq!(log.stats().lost, 1);
            drop(log);
            let log = open(folder.path(), 16 * MIB).await;
            for n in [0, 5, 9, 12] {
                assert!(holds(&log, key(n), 1, 50_000).await, "{n}");
            }
            assert!(log.find(key(6)).is_none(), "the removal was written when the disk came back");
            assert!(log.find(key(3)).is_none(), "nor did what was superseded come back");
        }
    }
}

#[tokio::test]
async fn a_full_disk_shows_when_a_segment_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(folder.path(), 2 * MIB).await;
    faults.create.store(ENOSPC, Ordering::Release);
    let lost = log.offer(record(key(1), 1, 50_000)).unwrap().written().await;
    assert_eq!(lost, Err(Lost::WriteFailed));
    eventually("it says so", || matches!(log.state(), LogState::Degraded { .. })).await;
    assert!(segment_files(folder.path()).is_empty(), "nothing is left of the attempt");
    faults.create.store(0, Ordering::Release);
    eventually("it writes again", || log.state() == LogState::Ok).await;
    written(&log, 1, 2, 50_000).await;
    assert!(holds(&log, key(1), 2, 50_000).await);
}

#[tokio::test]
async fn a_failing_seal_leaves_no_trailer_that_hides_what_comes_after() {
    let folder = tempfile::tempdir().unwrap();
    let (log, faults) = faulty(folder.path(), 2 * MIB).await;
    written(&log, 1, 1, 100_000).await;
    faults.write.store(EIO, Ordering::Release);
    // It does not fit the segment any more.
    let lost = log.offer(record(key(2), 1, 100_000)).unwrap().written().await;
    assert_eq!(lost, Err(Lost::WriteFailed));
    faults.write.store(0, Ordering::Release);
    eventually("it writes again", || log.state() == LogState::Ok).await;
    log.remove(key(1), 1).unwrap().written().await.unwrap();
    written(&log, 2, 2, 100_000).await;
    drop(log);
    let log = open(folder.path(), 2 * MIB).await;
    assert!(log.find(key(1)).is_none());
    assert!(holds(&log, key(2), 2, 100_000).await);
}

#[tokio::test]
async fn a_read_that_fails_or_lies_is_an_error_and_the_object_is_gone_for_good() {
    for lies in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (log, faults) = faulty(folder.path(), 16 * MIB).await;
        written(&log, 1, 1, 300_000).await;
        written(&log, 2, 1, 300_000).await;
        let found = log.find(key(1)).unwrap();
        faults.flips.store(lies, Ordering::Release);
        faults.read.store(if lies { 0 } else { EIO }, Ordering::Release);
        assert_eq!(log.read(&found, 0, 10).await, Err(ReadError::Damaged));
        faults.flips.store(false, Ordering::Release);
        faults.read.store(0, Ordering::Release);
        assert!(log.find(key(1)).is_none());
        assert!(holds(&log, key(2), 1, 300_000).await);
        assert_eq!(log.stats().read_errors, 1);
        assert!(log.close().await);
        drop(log);
        assert!(open(folder.path(), 16 * MIB).await.find(key(1)).is_none());
    }
}

#[tokio::test]
async fn a_slow_disk_fills_the_queue_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let small_queue = LogSettings { queue_bytes_max: MIB, ..settings(folder.path(), 64 * MIB) };
    let (log, faults) = faulty_with(small_queue, Arc::new(Metrics::new())).await;
    faults.slow.store(true, Ordering::Release);
    let mut refused = 0;
    for n in 0..100 {
        refused += u64::from(log.offer(record(key(n), 1, 100_000)).is_err());
        assert!(log.stats().queue_bytes <= MIB);
    }
    assert!(refused >= 50, "{refused}");
    assert_eq!(log.stats().refused, [("queue_full", refused)]);
    // It may just have been emptied; not every time.
    let mut gave_up = false;
    for n in 1000..1020 {
        let full = (0..100).any(|other| log.offer(record(key(100 * n + other), 1, 200_000)).is_err());
        assert!(full);
        let deadline = tokio::time::Instant::now() + Duration::from_millis(1);
        let waited = log.offer_waiting(record(key(2000 + n), 1, 1_000_000), deadline).await;
        gave_up |= waited.is_err_and(|refusal| refusal == Refusal::QueueFull);
    }
    assert!(gave_up);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    log.offer_waiting(record(key(5000), 1, 900_000), deadline).await.unwrap().written().await.unwrap();
}

#[tokio::test]
async fn reads_beyond_the_bound_wait_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new());
    let (log, faults) = faulty_with(settings(folder.path(), 16 * MIB), Arc::clone(&metrics)).await;
    written(&log, 1, 1, 1000).await;
    faults.slow.store(true, Ordering::Release);
    let found = log.find(key(1)).unwrap();
    let reads = (0..20).map(|_| log.read(&found, 0, usize::MAX));
    for read in futures_util::future::join_all(reads).await {
        assert_eq!(read.unwrap(), content(key(1), 1, 1000));
    }
    assert_eq!(metrics.limits_reached.with_label_values(&["disk_reads"]).get(), 16);
}

#[tokio::test]
async fn a_folder_that_vanishes_is_noticed_and_what_is_open_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let log = open(&path, 2 * MIB).await;
    written(&log, 1, 1, 50_000).await;
    std::fs::remove_dir_all(&path).unwrap();
    for n in 2..10 {
        if let Ok(ticket) = log.offer(record(key(n), 1, 50_000)) {
            let _ = ticket.written().await;
        }
    }
    eventually("it says so", || matches!(log.state(), LogState::Degraded { .. })).await;
    assert!(holds(&log, key(1), 1, 50_000).await);
    assert!(!log.close().await, "it could not be closed cleanly");
    assert!(!path.exists(), "it is not made anew: the disk may be unmounted");
}

#[tokio::test]
async fn damaged_truncated_and_missing_segments_are_never_trusted() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 5] = [
        ("no magic", |file| overwrite(file, 0, &[9; 8])),
        ("an empty file", |file| std::fs::write(file, "").unwrap()),
        ("half a file", |file| {
            let length = file.metadata().unwrap().len();
            std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length / 2).unwrap();
        }),
        ("no file", |file| std::fs::remove_file(file).unwrap()),
        ("zeros", |file| std::fs::write(file, vec![0; file.metadata().unwrap().len() as usize]).unwrap()),
    ];
    for (harm, damage) in harms {
        for which in [0, 3, 6] {
            let folder = tempfile::tempdir().unwrap();
            let log = open(folder.path(), 2 * MIB).await;
            for n in 0..30 {
                written(&log, n, 1, 30_000).await;
            }
            // Its removal lies in a newer segment than the object itself.
            log.remove(key(0), 1).unwrap().written().await.unwrap();
            assert!(log.close().await);
            drop(log);
            let files = segment_files(folder.path());
            damage(&files[which.min(files.len() - 1)]);
            let log = open(folder.path(), 2 * MIB).await;
            for n in 0..30 {
                let _ = holds(&log, key(n), 1, 30_000).await;
            }
            assert!(log.find(key(0)).is_none(), "{harm} of {which}: a removed object came back");
            if which < files.len() - 1 {
                assert!(holds(&log, key(29), 1, 30_000).await, "{harm} of {which}: what is newer stays");
            }
            written(&log, 100, 1, 30_000).await;
            assert!(holds(&log, key(100), 1, 30_000).await);
        }
    }
}

fn overwrite(file: &Path, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    std::fs::OpenOptions::new().write(true).open(file).unwrap().write_all_at(bytes, offset).unwrap();
}

#[tokio::test]
async fn a_damaged_trailer_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 2 * MIB).await;
    for n in 0..12 {
        written(&log, n, 1, 30_000).await;
    }
    assert!(log.close().await);
    drop(log);
    for file in segment_files(folder.path()) {
        let length = file.metadata().unwrap().len();
        overwrite(&file, length - 4000 - 96, &[7; 4096]);
    }
    let log = open(folder.path(), 2 * MIB).await;
    for n in 0..12 {
        assert!(holds(&log, key(n), 1, 30_000).await, "{n}");
    }
    assert_eq!(log.stats().damaged_segments, 0);
}

#[tokio::test]
async fn a_damaged_record_costs_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 2 * MIB).await;
    for n in 0..12 {
        written(&log, n, 1, 30_000).await;
    }
    assert!(log.close().await);
    drop(log);
    let files = segment_files(folder.path());
    // The second block is the first record, of object 0.
    overwrite(&files[0], 4096, &[7; 64]);
    let log = open(folder.path(), 2 * MIB).await;
    for n in 1..12 {
        assert!(holds(&log, key(n), 1, 30_000).await, "{n}");
    }
    let found = log.find(key(0)).unwrap();
    assert_eq!(log.read_head(&found).await, Err(ReadError::Damaged));
    assert!(log.find(key(0)).is_none());
}
