//! Keeps the catalog true: first what the index knows, then a scan at the start, at every interval, and soon after the file system
//! reports a change. Both, because events are blind to what others do on a network share, and an interval alone is slow.
//!
//! Invariants: one scan at a time; scanning never takes more than about a tenth of the time, however busy the folders are; a
//! failed scan leaves the last catalog; what lies in a folder that cannot be read now is not forgotten by the index.

use super::catalog::{Catalog, Title};
use super::scan::{Scan, Work, scan};
use super::{State, Trouble, optimise, share};
use notify::{Config, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Changes come in flocks: this long after the first one a scan begins.
const SETTLE: Duration = Duration::from_millis(300);
/// After a scan, events wait this many times as long as it took.
const REST_FACTOR: u32 = 9;

/// Between two parts of a first list that takes long.
const SO_FAR_INTERVAL: Duration = Duration::from_secs(5);

/// Until `stop`.
pub async fn keep_scanning(state: Arc<State>, interval: Duration, stop: CancellationToken) {
    stop.run_until_cancelled(run(state, interval, stop.clone())).await;
}

async fn run(state: Arc<State>, interval: Duration, stop: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let mut watch = Watch::new(&state, interval, Arc::clone(&changed));
    recall(&state).await;
    loop {
        // Before the scan: a change during it is reported.
        watch = watch.renewed().await;
        let started = Instant::now();
        scan_once(&state, stop.clone()).await;
        sleep(started.elapsed() * REST_FACTOR).await;
        if timeout(interval, changed.notified()).await.is_ok() {
            sleep(SETTLE).await;
        }
    }
}

/// Lists what the index knows, so that a restart need not wait for the scan.
pub async fn recall(state: &Arc<State>) {
    let recalling = Arc::clone(state);
    let recalled = tokio::task::spawn_blocking(move || {
        recalling.save_all.store(recalling.index.ready(), Ordering::Relaxed);
        optimise::recall(&recalling, &recalling.index);
        recalling.index.load(&recalling.folders)
    });
    match recalled.await {
        Ok(titles) if !titles.is_empty() => {
            tracing::info!(origin = state.name, titles = titles.len(), "library: listed from the index");
            state.catalog.send_replace(Some(Arc::new(Catalog::new(titles))));
            state.count();
        }
        Ok(_) => {}
        Err(error) => tracing::error!(origin = state.name, %error, "library: the index cannot be read"),
    }
}

/// One scan, and what follows from it. Blocking work is done elsewhere.
pub async fn scan_once(state: &Arc<State>, stop: CancellationToken) {
    let previous = state.catalog.borrow().clone();
    let (scanning, known, first) = (Arc::clone(state), previous.clone().unwrap_or_default(), previous.is_none());
    state.is_scanning.store(true, Ordering::Relaxed);
    let scanned = tokio::task::spawn_blocking(move || scan_and_save(&scanning, &known, first, &stop)).await;
    state.is_scanning.store(false, Ordering::Relaxed);
    let Scan { catalog, limit_reached, unreadable } = match scanned {
        Ok(Some(scan)) => scan,
        Ok(None) => return,
        Err(error) => {
            tracing::error!(origin = state.name, %error, "library: the scan failed; the last list of titles stays");
            // Requests must not wait for a list that may never come.
            state.catalog.send_if_modified(|catalog| catalog.replace(catalog.clone().unwrap_or_default()).is_none());
            return;
        }
    };
    tell_trouble(state, limit_reached, &unreadable);
    let titles = catalog.len();
    if previous.is_none_or(|previous| previous.len() != titles) {
        tracing::info!(origin = state.name, titles, "library: scanned");
    }
    state.catalog.send_replace(Some(Arc::new(catalog)));
    state.count();
}

/// A log line when it changes, not at every scan.
fn tell_trouble(state: &State, limit_reached: bool, unreadable: &[(PathBuf, std::io::Error)]) {
    let mut logged: Vec<_> =
        unreadable.iter().map(|(path, error)| format!("cannot read {}: {error}", path.display())).collect();
    let mut told: Vec<_> = unreadable.iter().map(|(_, error)| format!("a folder cannot be read: {error}")).collect();
    if limit_reached {
        state.metrics.limits_reached.with_label_values(&["library_entries"]).inc();
        let limit = "too many or too deep folders: titles are missing; split the library into several origins";
        logged.push(limit.to_owned());
        told.push(limit.to_owned());
    }
    let trouble = Trouble { logged: logged.join("; "), told: told.join("; ") };
    let mut last = state.trouble.lock();
    if trouble.logged != last.logged && !trouble.logged.is_empty() {
        tracing::warn!(origin = state.name, "library: {}", trouble.logged);
    }
    *last = trouble;
}

/// `first`: there is no list yet, so parts of this one are shown as they are found.
fn scan_and_save(state: &State, previous: &Catalog, first: bool, cancelled: &CancellationToken) -> Option<Scan> {
    let save_all = state.index.ready() | state.save_all.swap(false, Ordering::Relaxed);
    let work = Work {
        previous,
        found: &state.found,
        save: &|titles: &[Arc<Title>]| state.index.save(titles),
        save_all,
        so_far: &|titles: &[Arc<Title>]| {
            // A list that is known to be whole is not replaced by a part of it.
            let shown = state.catalog.send_if_modified(|catalog| {
                let is_part = first && !titles.is_empty();
                if is_part {
                    *catalog = Some(Arc::new(Catalog::new(titles.to_vec())));
                }
                is_part
            });
            if shown {
                state.count();
            }
        },
        so_far_interval: SO_FAR_INTERVAL,
        cancelled,
    };
    let scan = scan(&state.folders, &work)?;
    let lost = |title: &&Arc<Title>| {
        let unread = scan.unreadable.iter().any(|(folder, _)| *folder == title.folder.path());
        !unread && !scan.limit_reached && scan.catalog.get(&title.id).is_none()
    };
    let lost: Vec<_> = previous.titles().iter().filter(lost).map(|title| title.id.clone()).collect();
    state.index.missing(&lost);
    Some(scan)
}

/// The watch for file events. It is a help: where it cannot be had, the interval does the work.
struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// Not watched yet: they may be mounted later.
    waiting: Vec<PathBuf>,
    interval: Duration,
    origin: String,
}

impl Watch {
    fn new(state: &State, interval: Duration, changed: Arc<Notify>) -> Self {
        let on_event = move |event: notify::Result<notify::Event>| {
            // Opening a file is an event too: our own scans and readers must not set off the next scan.
            let quiet = matches!(&event, Ok(event) if event.kind.is_access() && !is_written(event.kind));
            if !quiet {
                changed.notify_one();
            }
        };
        // Links are not followed: a link to `/` would watch everything.
        let watcher = RecommendedWatcher::new(on_event, Config::default().with_follow_symlinks(false));
        let watcher = watcher
            .inspect_err(
                |error| tracing::warn!(origin = state.name, %error, "library: no file events; scanning by interval"),
            )
            .ok();
        let waiting = state.folders.iter().map(|folder| folder.path().to_path_buf()).collect();
        Self { watcher, waiting, interval, origin: state.name.clone() }
    }

    /// Watches what can be watched by now. Walks whole folders, so it waits on another thread.
    async fn renewed(mut self) -> Self {
        if self.watcher.is_none() || self.waiting.is_empty() {
            return self;
        }
        let (origin, interval) = (self.origin.clone(), self.interval);
        let renewed = tokio::task::spawn_blocking(move || {
            if let Some(watcher) = &mut self.watcher {
                self.waiting.retain(|path| !watched(watcher, path, &self.origin, interval));
            }
            self
        });
        renewed.await.unwrap_or(Self { watcher: None, waiting: Vec::new(), interval, origin })
    }
}

/// Whether that is settled: watched, or never to be.
fn watched(watcher: &mut RecommendedWatcher, path: &Path, origin: &str, interval: Duration) -> bool {
    if !path.is_dir() {
        return false;
    }
    if let Some(kind) = share::kind(path) {
        let (path, interval_s) = (path.display(), interval.as_secs_f64());
        tracing::info!(origin, %path, kind, interval_s, "library: a network share makes no events; it is scanned by interval");
        return true;
    }
    if let Err(error) = watcher.watch(path, RecursiveMode::Recursive) {
        // Often the system's limit of watches (fs.inotify.max_user_watches).
        tracing::warn!(origin, path = %path.display(), %error, "library: not all file events; scanning by interval too");
    }
    true
}

fn is_written(kind: EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}
