//! The log against crashes, damage and failing disks: what was acknowledged holds, and never less.

use std::time::SystemTime;

use pingora_cache::CacheMeta;
use pingora_http::ResponseHeader;
use proptest::prelude::*;

use super::super::table::{Reach, Record};
use super::super::{AskedFor, FillTime, Selector, Stamp, Verdict};
use super::file::LOG;
use super::*;

const URLS: [&str; 5] = ["s h /", "s h /a", "s h /a/b", "s h /ab", "t  /a"];
const TAGS: [&str; 3] = ["x", "y", "film 1"];
const PREFIXES: [&str; 4] = ["s h /", "s h /a", "s h /a/", "t  /"];

fn open(folder: &Path) -> (LogFile, Bans) {
    LogFile::open(folder, Arc::new(Metrics::new()))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn by_key(url: &str) -> Ban {
    ban(Selector::Key(url.to_owned()), false)
}

fn ban(selector: Selector, soft: bool) -> Ban {
    Ban { selector, soft, at: SystemTime::now() }
}

fn stamp(bans: &Bans, time: FillTime, url: &str, tags: &[&str]) -> Stamp {
    let mut header = ResponseHeader::build(200, None).expect("valid status");
    for tag in tags {
        header.append_header("cache-tag", *tag).expect("valid field");
    }
    let now = SystemTime::now();
    let mut meta = CacheMeta::new(now, now, 0, 0, header);
    meta.extensions_mut().insert(AskedFor { time, url: url.into(), has_aliases: false });
    Stamp::new(bans, &crate::cache::key(url), &meta)
}

/// An object on the disk, asked for now.
fn object(bans: &Bans, url: &str, tags: &[&str]) -> Vec<u8> {
    stamp(bans, bans.now(), url, tags).to_bytes(bans)
}

/// What is said of an object on the disk; one that cannot be judged is gone.
fn verdict(bans: &Bans, object: &[u8]) -> Verdict {
    Stamp::from_bytes(bans, object).map_or(Verdict::Gone, |stamp| bans.verdict(&stamp))
}

/// As another process would find what is on the disk now.
fn reopened(file: &[u8]) -> (tempfile::TempDir, LogFile, Bans) {
    let folder = folder();
    std::fs::write(folder.path().join(LOG), file).expect("written");
    let (log, bans) = open(folder.path());
    (folder, log, bans)
}

#[derive(Debug, Clone)]
enum Step {
    Store { url: usize, tags: Vec<usize> },
    Purge(Vec<(Selector, bool)>),
    WriteAnew,
    Restart,
}

fn selectors() -> impl Strategy<Value = Selector> {
    prop_oneof![
        1 => Just(Selector::All),
        4 => (0..URLS.len()).prop_map(|url| Selector::Key(URLS[url].to_owned())),
        4 => (0..TAGS.len()).prop_map(|tag| Selector::Tag(TAGS[tag].to_owned())),
        4 => prop::collection::vec(0..PREFIXES.len(), 1..3)
            .prop_map(|all| Selector::Prefixes(all.iter().map(|prefix| PREFIXES[*prefix].to_owned()).collect())),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..URLS.len(), prop::collection::vec(0..=TAGS.len(), 0..3)).prop_map(|(url, tags)| Step::Store { url, tags }),
        4 => prop::collection::vec((selectors(), any::<bool>()), 1..4).prop_map(Step::Purge),
        1 => Just(Step::WriteAnew),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..25)
}

/// What the steps leave: the objects, what was said of them, and the file.
struct Left {
    folder: tempfile::TempDir,
    log: LogFile,
    bans: Bans,
    objects: Vec<Vec<u8>>,
}

impl Left {
    fn of(steps: Vec<Step>) -> Result<Self, TestCaseError> {
        let folder = folder();
        let (log, bans) = open(folder.path());
        let mut left = Self { folder, log, bans, objects: Vec::new() };
        for step in steps {
            match step {
                Step::Store { url, tags } => {
                    // Too long to be kept: such an object has every tag.
                    let long = "l".repeat(crate::http::tags::TAG_BYTES_MAX + 1);
                    let tags: Vec<&str> = tags.into_iter().map(|tag| TAGS.get(tag).copied().unwrap_or(&long)).collect();
                    left.objects.push(object(&left.bans, URLS[url], &tags));
                }
                Step::Purge(purges) => {
                    let purges: Vec<Ban> = purges.into_iter().map(|(selector, soft)| ban(selector, soft)).collect();
                    prop_assert!(left.log.commit(&left.bans, &purges));
                }
                Step::WriteAnew => {
                    std::fs::remove_file(left.folder.path().join(LOG)).expect("it is there");
                    left.log.tend(&left.bans);
                    prop_assert!(left.log.is_durable(&left.bans));
                }
                Step::Restart => {
                    let before = left.verdicts(&left.bans);
                    drop(left.log);
                    (left.log, left.bans) = open(left.folder.path());
                    prop_assert_eq!(before, left.verdicts(&left.bans));
                }
            }
        }
        Ok(left)
    }

    fn verdicts(&self, bans: &Bans) -> Vec<Verdict> {
        self.objects.iter().map(|object| verdict(bans, object)).collect()
    }

    fn file(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join(LOG)).expect("it is there")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_crash_at_any_byte_of_a_purge_leaves_the_purges_before_it(
        steps in steps(),
        last in (selectors(), any::<bool>()),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut left = Left::of(steps)?;
        let (acknowledged, before) = (left.file(), left.verdicts(&left.bans));
        prop_assert!(left.log.commit(&left.bans, &[ban(last.0, last.1)]));
        let (whole, after) = (left.file(), left.verdicts(&left.bans));
        prop_assert!(whole.starts_with(&acknowledged));
        let cut = acknowledged.len() + cut.index(whole.len() - acknowledged.len() + 1);
        let (_folder, log, bans) = reopened(&whole[..cut]);
        prop_assert!(log.is_durable(&bans));
        let found = left.verdicts(&bans);
        for ((found, before), after) in found.iter().zip(&before).zip(&after) {
            prop_assert!(before <= found && found <= after, "{before:?} {found:?} {after:?}");
        }
        if cut == whole.len() {
            prop_assert_eq!(found, after);
        }
    }

    #[test]
    fn changed_bytes_purge_more_never_less(
        steps in steps(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
    ) {
        let left = Left::of(steps)?;
        let (mut file, before) = (left.file(), left.verdicts(&left.bans));
        for (at, change) in changes {
            file[at.index(left.file().len())] ^= change;
        }
        let (_folder, _log, bans) = reopened(&file);
        for (found, before) in left.verdicts(&bans).iter().zip(&before) {
            prop_assert!(found >= before, "{before:?} {found:?}");
        }
        if file != left.file() {
            prop_assert!(left.verdicts(&bans).iter().all(|verdict| *verdict == Verdict::Gone));
            prop_assert_eq!(bans.metrics.ban_log_failures.get(), 1);
        }
    }

    #[test]
    fn no_bytes_are_too_strange_to_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(format::read(&bytes).is_err());
    }
}

#[test]
fn a_record_that_is_missing_doubled_or_moved_is_damage() {
    let identity = super::super::identity::Identity::random();
    let mut encoder = format::Encoder::new(identity, 0);
    let mut ends = vec![encoder.bytes.len()];
    for number in 1..4 {
        let record = Record { number, soft: false, at: SystemTime::now(), reach: Reach::Tag(number) };
        encoder.push(&record);
        ends.push(encoder.bytes.len());
        assert_eq!(format::record_bytes(&record) as usize, ends[ends.len() - 1] - ends[ends.len() - 2]);
    }
    let file = encoder.bytes;
    let parts: Vec<&[u8]> = ends.windows(2).map(|ends| &file[ends[0]..ends[1]]).collect();
    let of = |order: &[usize]| {
        let records = order.iter().flat_map(|at| parts[*at]);
        format::read(&file[..ends[0]].iter().chain(records).copied().collect::<Vec<u8>>())
    };
    assert_eq!(of(&[0, 1, 2]).expect("as it was written").latest, 3);
    for order in [&[1, 2][..], &[0, 2], &[0, 0, 1, 2], &[0, 2, 1], &[0, 1, 2, 2]] {
        assert!(of(order).is_err(), "{order:?}");
    }
    assert!(format::read(&[file, vec![0; 4096]].concat()).is_err(), "zeros are no torn record");
}

#[test]
fn numbers_go_on_after_a_restart_also_when_no_ban_is_left() {
    let folder = folder();
    let (mut log, bans) = open(folder.path());
    let old = object(&bans, "s h /a", &[]);
    assert!(log.commit(&bans, &[by_key("s h /a")]));
    let new = object(&bans, "s h /a", &[]);
    bans.disk_holds_from(None);
    let pass = bans.sweep_begins();
    assert!(bans.prune(pass, pass.judged_through));
    log.tend(&bans);
    let number = bans.number();
    drop(log);
    let (mut log, bans) = open(folder.path());
    assert!(bans.number() > number);
    assert_eq!(verdict(&bans, &new), Verdict::Clear);
    assert!(log.commit(&bans, &[by_key("s h /a")]));
    assert_eq!((verdict(&bans, &old), verdict(&bans, &new)), (Verdict::Gone, Verdict::Gone));
}

#[test]
fn a_failing_disk_leaves_the_purge_in_force_and_is_caught_up_with() {
    let parent = folder();
    let path = parent.path().join("cache");
    let (mut log, bans) = open(&path);
    let (first, second) = (object(&bans, "s h /a", &[]), object(&bans, "s h /b", &[]));
    assert!(log.commit(&bans, &[by_key("s h /a")]) && log.is_durable(&bans));
    std::fs::remove_dir_all(&path).expect("removed");
    assert!(!log.commit(&bans, &[by_key("s h /b")]) && !log.is_durable(&bans));
    assert_eq!(verdict(&bans, &second), Verdict::Gone);
    assert!(bans.metrics.ban_log_failures.get() > 0);
    let between = object(&bans, "s h /b", &[]);
    std::fs::create_dir(&path).expect("made");
    log.tend(&bans);
    assert!(log.is_durable(&bans));
    drop(log);
    let (_log, bans) = open(&path);
    assert_eq!(
        [first, second, between].map(|object| verdict(&bans, &object)),
        [Verdict::Gone, Verdict::Gone, Verdict::Clear]
    );
}

#[test]
fn what_was_asked_for_after_a_purge_that_was_never_logged_is_not_used() {
    let folder = folder();
    let (log, bans) = open(folder.path());
    bans.add(&by_key("s h /a"));
    let after = object(&bans, "s h /b", &[]);
    drop(log);
    let (_log, bans) = open(folder.path());
    assert_eq!(verdict(&bans, &after), Verdict::Gone);
}

#[test]
fn a_purge_that_was_put_in_force_without_the_log_is_logged_with_the_next() {
    let folder = folder();
    let (mut log, bans) = open(folder.path());
    let object = object(&bans, "s h /a", &[]);
    bans.add(&by_key("s h /a"));
    assert!(log.commit(&bans, &[by_key("s h /b")]));
    drop(log);
    assert_eq!(verdict(&open(folder.path()).1, &object), Verdict::Gone);
}

#[test]
fn two_processes_never_write_one_log() {
    let folder = folder();
    let (mut log, bans) = open(folder.path());
    let object = object(&bans, "s h /a", &[]);
    let (mut second, others) = open(folder.path());
    assert!(!second.is_durable(&others) && !second.commit(&others, &[by_key("s h /b")]));
    assert_eq!(verdict(&others, &object), Verdict::Gone, "the other's log is not known here");
    assert!(log.commit(&bans, &[by_key("s h /a")]));
    drop(log);
    second.tend(&others);
    assert!(second.is_durable(&others));
}

#[test]
fn a_full_disk_is_an_error_and_no_half_log() {
    let folder = folder();
    let (mut log, bans) = open(folder.path());
    std::fs::remove_file(folder.path().join(LOG)).expect("removed");
    std::os::unix::fs::symlink("/dev/full", folder.path().join("bans.log.new")).expect("linked");
    assert!(!log.commit(&bans, &[by_key("s h /a")]));
    assert!(!folder.path().join(LOG).exists());
}

#[test]
fn the_log_is_bounded_by_what_is_in_force() {
    let folder = folder();
    let (mut log, bans) = open(folder.path());
    let object = object(&bans, "s h /a", &[]);
    let batch = vec![by_key("s h /a"); 1000];
    let mut largest = 0;
    for _ in 0..40 {
        assert!(log.commit(&bans, &batch));
        largest = largest.max(bans.metrics.ban_log_bytes.get());
    }
    assert!((1000..700_000).contains(&largest), "{largest}");
    drop(log);
    assert_eq!(verdict(&open(folder.path()).1, &object), Verdict::Gone);
}

#[tokio::test]
async fn purges_at_once_are_all_in_the_log_when_they_are_acknowledged() {
    let folder = folder();
    let log = Arc::new(BanLog::open(folder.path(), Arc::new(Metrics::new())).expect("a thread"));
    assert!(log.is_durable());
    let urls: Vec<String> = (0..64).map(|number| format!("s h /{number}")).collect();
    let objects: Vec<_> = urls.iter().map(|url| object(log.bans(), url, &[])).collect();
    let purges: Vec<_> = urls.iter().map(|url| by_key(url)).collect();
    let purges = purges.into_iter().map(|ban| {
        tokio::spawn({
            let log = Arc::clone(&log);
            async move { log.add(ban).await }
        })
    });
    for purge in purges.collect::<Vec<_>>() {
        assert_eq!(purge.await.expect("no panic"), Ok(()));
    }
    assert!(log.is_durable());
    let file = std::fs::read(folder.path().join(LOG)).expect("it is there");
    let (_folder, _log, bans) = reopened(&file);
    assert!(objects.iter().all(|object| verdict(&bans, object) == Verdict::Gone));
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_no_purge_for_long_and_only_so_many() {
    let folder = folder();
    let metrics = Arc::new(Metrics::new());
    let (file, bans) = LogFile::open(folder.path(), Arc::clone(&metrics));
    let log = BanLog::start(file, bans, Duration::from_millis(300), Arc::clone(&metrics)).expect("a thread");
    let log = Arc::new(log);
    std::fs::remove_file(folder.path().join(LOG)).expect("removed");
    // Opening a pipe waits for its reader.
    let pipe = folder.path().join("bans.log.new");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()));
    let object = object(log.bans(), "s h /a", &[]);
    let adding = |_| {
        tokio::spawn({
            let log = Arc::clone(&log);
            async move { log.add(by_key("s h /a")).await }
        })
    };
    let (mut refused, mut in_force) = (0, 0);
    for purge in (0..2 * QUEUE_MAX + 10).map(adding).collect::<Vec<_>>() {
        match purge.await.expect("no panic") {
            Ok(()) => panic!("acknowledged"),
            Err(NotLogged::Refused) => refused += 1,
            Err(NotLogged::InForceOnly) => in_force += 1,
        }
    }
    assert!(refused > 0 && in_force >= QUEUE_MAX, "{refused} {in_force}");
    assert_eq!(metrics.limits_reached.with_label_values(&["ban_log_queue"]).get(), refused);
    assert!(!log.is_durable());
    assert_eq!(verdict(log.bans(), &object), Verdict::Gone);
    // The disk goes on; what waits is lost on it, and the next purge finds a log again.
    let elsewhere = folder.path().join("pipe");
    std::fs::rename(&pipe, &elsewhere).expect("renamed");
    drop(std::fs::File::open(&elsewhere).expect("a reader"));
    while log.add(by_key("s h /b")).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(log.is_durable());
    let file = std::fs::read(folder.path().join(LOG)).expect("it is there");
    let (_folder, _log, bans) = reopened(&file);
    assert_eq!(verdict(&bans, &object), Verdict::Gone);
}
