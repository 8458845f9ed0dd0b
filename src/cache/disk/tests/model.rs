//! Random operations against a simple model: what is found has the right bytes, head and version; what was removed or replaced
//! is never found again; where nothing is reclaimed, nothing is missing.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::super::{Log, Ticket};
use super::*;

const KEYS: u64 = 8;

#[derive(Debug, Clone)]
enum Operation {
    Offer {
        key: u64,
        bytes: usize,
    },
    Remove {
        key: u64,
    },
    NewHead {
        key: u64,
        bytes: usize,
    },
    Read {
        key: u64,
        offset: u64,
        bytes_max: usize,
    },
    /// Until everything accepted is written.
    Settle,
    Restart,
    Crash,
    /// A restart, with a run of bytes in one file changed while it was closed.
    Damage {
        file: usize,
        place: f64,
        bytes: Vec<u8>,
    },
}

/// Bodies that fit the segments of either size of log.
fn operations(body_bytes_max: usize) -> impl Strategy<Value = Vec<Operation>> {
    let bytes = prop_oneof![0..100_usize, 4000..4200_usize, 0..body_bytes_max];
    let operation = prop_oneof![
        8 => (0..KEYS, bytes).prop_map(|(key, bytes)| Operation::Offer { key, bytes }),
        2 => (0..KEYS).prop_map(|key| Operation::Remove { key }),
        2 => (0..KEYS, 0..9000_usize).prop_map(|(key, bytes)| Operation::NewHead { key, bytes }),
        6 => (0..KEYS, any::<u64>(), 1..300_000_usize)
            .prop_map(|(key, offset, bytes_max)| Operation::Read { key, offset, bytes_max }),
        2 => Just(Operation::Settle),
        1 => Just(Operation::Restart),
        1 => Just(Operation::Crash),
        1 => (any::<usize>(), 0.0..1.0, prop::collection::vec(any::<u8>(), 1..64))
            .prop_map(|(file, place, bytes)| Operation::Damage { file, place, bytes }),
    ];
    prop::collection::vec(operation, 1..60)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Promise {
    Object,
    Removal,
    Head,
}

#[derive(Debug, Default)]
struct Known {
    /// Nothing older may be found now; nor after a crash.
    version_min: u64,
    version_min_after_crash: u64,
    /// Every version that was ever accepted: body and heads.
    versions: HashMap<u64, (usize, Vec<Vec<u8>>)>,
    /// The version that must be found, where nothing is reclaimed or damaged, once all is settled.
    there: Option<u64>,
    there_after_crash: Option<u64>,
}

struct Model {
    path: std::path::PathBuf,
    size: u64,
    keeps_all: bool,
    log: Option<Log>,
    known: HashMap<u64, Known>,
    version: u64,
    tickets: Vec<(u64, u64, Promise, Ticket)>,
}

impl Model {
    fn log(&self) -> &Log {
        self.log.as_ref().expect("it is open")
    }

    /// Whether all of what was accepted was written.
    async fn settle(&mut self) -> bool {
        let mut all = true;
        for (key, version, promise, ticket) in std::mem::take(&mut self.tickets) {
            let known = self.known.entry(key).or_default();
            if ticket.written().await.is_err() {
                all = false;
                continue;
            }
            match promise {
                Promise::Object => {
                    known.version_min_after_crash = known.version_min_after_crash.max(version);
                    // Overtaken in the queue, it may have been skipped.
                    known.there_after_crash = Some(version).max(known.there_after_crash);
                }
                Promise::Removal => {
                    known.version_min_after_crash = known.version_min_after_crash.max(version + 1);
                    known.there_after_crash = known.there_after_crash.filter(|there| *there > version);
                }
                Promise::Head => {}
            }
        }
        all
    }

    async fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Offer { key: n, bytes } => {
                self.version += 1;
                let (key, version) = (key(n), self.version);
                let ticket = self.log().offer(record(key, version, bytes)).expect("there is room");
                let known = self.known.entry(n).or_default();
                known.versions.insert(version, (bytes, vec![record(key, version, 0).head]));
                known.version_min = version;
                known.there = Some(version);
                self.tickets.push((n, version, Promise::Object, ticket));
            }
            Operation::Remove { key: n } => {
                let known = self.known.entry(n).or_default();
                let version = known.versions.keys().max().copied().unwrap_or(0);
                known.version_min = version + 1;
                known.there = None;
                let ticket = self.log().remove(key(n), version).expect("there is room");
                self.tickets.push((n, version, Promise::Removal, ticket));
            }
            Operation::NewHead { key: n, bytes } => {
                let found = self.log().peek(key(n));
                if let Some(found) = found {
                    let head = content(key(n), self.version + bytes as u64, bytes);
                    let ticket = self.log().replace_head(key(n), found.version, 1, head.clone());
                    let known = self.known.entry(n).or_default();
                    known.versions.get_mut(&found.version).expect("it was offered").1.push(head);
                    self.tickets.push((n, found.version, Promise::Head, ticket.expect("its version is there")));
                }
            }
            Operation::Read { key: n, offset, bytes_max } => self.check(n, offset, bytes_max, false).await,
            Operation::Settle => {
                assert!(self.settle().await);
                for n in 0..KEYS {
                    self.check(n, 0, usize::MAX, self.keeps_all).await;
                }
            }
            Operation::Restart => {
                assert!(self.log().close().await);
                assert!(self.settle().await);
                self.reopen().await;
                for n in 0..KEYS {
                    self.check(n, 0, usize::MAX, self.keeps_all).await;
                }
            }
            Operation::Crash => {
                self.log = None;
                self.settle().await;
                for known in self.known.values_mut() {
                    known.version_min = known.version_min_after_crash;
                    known.there = known.there_after_crash;
                }
                self.reopen().await;
                for n in 0..KEYS {
                    self.check_after_crash(n).await;
                }
            }
            Operation::Damage { file, place, bytes } => {
                assert!(self.log().close().await);
                assert!(self.settle().await);
                self.log = None;
                let files = segment_files(&self.path);
                if let Some(file) = files.get(file % files.len().max(1)) {
                    let offset = (place * (file.metadata().unwrap().len() - 64) as f64) as u64;
                    let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
                    file.write_all_at(&bytes, offset).unwrap();
                    self.keeps_all = false;
                }
                self.reopen().await;
                for n in 0..KEYS {
                    self.check(n, 0, usize::MAX, false).await;
                }
            }
        }
        let files: u64 = segment_files(&self.path).iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!(files <= self.size, "{files}");
    }

    async fn reopen(&mut self) {
        self.log = None;
        self.log = Some(open(&self.path, self.size).await);
    }

    /// What was not yet written may be there or not; what is found decides what was.
    async fn check_after_crash(&mut self, n: u64) {
        self.check(n, 0, usize::MAX, false).await;
        let found = self.log().peek(key(n)).map(|found| found.version);
        let known = self.known.entry(n).or_default();
        if self.keeps_all && found.is_none() {
            // A removal may have been written whose ticket was not yet told.
            assert!(known.there.is_none_or(|there| known.versions.keys().max() >= Some(&there)));
        }
        known.there = found;
        known.there_after_crash = found;
        if let Some(version) = found {
            known.version_min = known.version_min.max(version);
            known.version_min_after_crash = known.version_min;
        }
    }

    async fn check(&self, n: u64, offset: u64, bytes_max: usize, must_be_there: bool) {
        let log = self.log();
        let key = key(n);
        let nothing = Known::default();
        let known = self.known.get(&n).unwrap_or(&nothing);
        let Some(found) = log.find(key) else {
            assert!(!must_be_there || known.there.is_none(), "{n} is missing: {known:?}");
            return;
        };
        assert!(found.version >= known.version_min, "{n} came back: {found:?} {known:?}");
        let (bytes, heads) = &known.versions[&found.version];
        assert_eq!(found.body_bytes, *bytes as u64);
        if let Ok(head) = log.read_head(&found).await {
            assert!(heads.contains(&head), "a head nobody gave");
        } else {
            assert!(!must_be_there);
        }
        let whole = content(key, found.version, *bytes);
        let mut at = offset % (*bytes as u64 + 1);
        let end = (at as usize).saturating_add(bytes_max).min(*bytes);
        while (at as usize) < end {
            match log.read(&found, at, end - at as usize).await {
                Ok(piece) => {
                    assert!(!piece.is_empty() && piece[..] == whole[at as usize..][..piece.len()], "other bytes");
                    at += piece.len() as u64;
                }
                Err(error) => {
                    assert!(!must_be_there, "{error}");
                    return;
                }
            }
        }
    }
}

fn run(size: u64, keeps_all: bool, operations: Vec<Operation>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let log = Some(open(&path, size).await);
        let (known, tickets) = (HashMap::new(), Vec::new());
        let mut model = Model { path, size, keeps_all, log, known, version: 0, tickets };
        for operation in operations {
            model.apply(operation).await;
        }
        model.apply(Operation::Restart).await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn with_room_nothing_accepted_is_missing(operations in operations(700_000)) {
        run(64 * MIB, true, operations);
    }

    #[test]
    fn without_room_what_is_found_is_right(operations in operations(45_000)) {
        run(MIB, false, operations);
    }
}
