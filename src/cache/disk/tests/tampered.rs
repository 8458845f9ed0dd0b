//! Files that somebody else has put in a segment's place: nothing is followed, waited for or written to, and no wrong byte comes of it.

use std::os::unix::fs::{OpenOptionsExt, symlink};

use super::*;

const OBJECTS: u64 = 30;
const BYTES: usize = 30_000;

async fn written(log: &Log, n: u64) {
    log.offer(record(key(n), 1, BYTES)).expect("accepted").written().await.expect("written");
}

/// A closed log of several segments.
async fn closed(path: &Path) {
    let log = open(path, 2 * MIB).await;
    for n in 0..OBJECTS {
        written(&log, n).await;
    }
    assert!(log.close().await);
}

/// What is put in the place of a segment; the folder is for files outside of the log.
type Harm = fn(&Path, &Path);

const HARMS: [(&str, Harm); 6] = [
    ("a link to another file", |file, outside| {
        std::fs::remove_file(file).expect("removed");
        symlink(outside.join("foreign"), file).expect("linked");
    }),
    ("a link to a good copy", |file, outside| {
        std::fs::rename(file, outside.join("copy")).expect("moved");
        symlink(outside.join("copy"), file).expect("linked");
    }),
    ("a link to nowhere", |file, outside| {
        std::fs::remove_file(file).expect("removed");
        symlink(outside.join("nothing"), file).expect("linked");
    }),
    ("a pipe", |file, _| {
        std::fs::remove_file(file).expect("removed");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, file, rustix::fs::FileType::Fifo, mode, 0).expect("made");
    }),
    ("another file", |file, outside| {
        std::fs::copy(outside.join("foreign"), file).expect("copied");
    }),
    ("a longer file", |file, _| {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).mode(0o600).open(file).expect("there");
        file.write_all(&[7; 5000]).expect("written");
    }),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_a_segments_place_is_neither_followed_nor_waited_for() {
    for (harm, tamper) in HARMS {
        for from_the_end in [0, 2] {
            let (folder, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
            let foreign = content(key(1000), 1, 100_000);
            std::fs::write(outside.path().join("foreign"), &foreign).expect("written");
            closed(folder.path()).await;
            let files = segment_files(folder.path());
            tamper(&files[files.len() - 1 - from_the_end], outside.path());
            let copy = std::fs::read(outside.path().join("copy")).ok();

            let metrics = Arc::new(Metrics::new());
            let log = Log::open(settings(folder.path(), 2 * MIB), Arc::clone(&metrics)).expect("the folder is free");
            recovered(&log).await;
            let errors = metrics.disk_errors.with_label_values(&["0", "recover"]).get();
            assert!(errors >= 1, "{harm}: it is counted");
            for n in 0..OBJECTS {
                let _ = holds(&log, key(n), 1, BYTES).await; // right, where it is there
            }
            if from_the_end > 0 {
                assert!(holds(&log, key(OBJECTS - 1), 1, BYTES).await, "{harm}: what is newer stays");
            }
            // It goes on, also over the place of what was tampered with, and after another start.
            for n in OBJECTS..3 * OBJECTS {
                written(&log, n).await;
                assert!(holds(&log, key(n), 1, BYTES).await, "{harm}");
            }
            assert!(log.close().await, "{harm}");
            drop(log);
            let log = open(folder.path(), 2 * MIB).await;
            assert!(holds(&log, key(3 * OBJECTS - 1), 1, BYTES).await, "{harm}");
            assert!(
                std::fs::read(outside.path().join("foreign")).expect("there") == foreign,
                "{harm}: it is untouched"
            );
            assert!(std::fs::read(outside.path().join("copy")).ok() == copy, "{harm}: it is untouched");
        }
    }
}

#[tokio::test]
async fn a_lock_that_is_a_link_or_a_pipe_is_refused() {
    let (folder, outside) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    std::fs::write(outside.path().join("foreign"), "mine").expect("written");
    closed(folder.path()).await;
    let lock = folder.path().join("lock");
    for (harm, tamper) in [HARMS[0], HARMS[3]] {
        tamper(&lock, outside.path());
        assert!(Log::open(settings(folder.path(), 2 * MIB), Arc::new(Metrics::new())).is_err(), "{harm}");
    }
    assert_eq!(std::fs::read(outside.path().join("foreign")).expect("there"), b"mine");
    std::fs::remove_file(&lock).expect("removed");
    let log = open(folder.path(), 2 * MIB).await;
    assert!(holds(&log, key(OBJECTS - 1), 1, BYTES).await, "without it, all is there");
}
