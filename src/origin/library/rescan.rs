//! Keeps the catalog true: a scan at the start, at every interval, and soon after the file system reports a change. Both, because
//! events are blind to what others do on a network share, and an interval alone is slow.
//!
//! Invariants: one scan at a time; scanning never takes more than about a tenth of the time, however busy the folders are; a
//! failed scan leaves the last catalog.

use super::State;
use super::scan::{Scan, scan};
use notify::{Config, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Changes come in flocks: this long after the first one a scan begins.
const SETTLE: Duration = Duration::from_millis(300);
/// After a scan, events wait this many times as long as it took.
const REST_FACTOR: u32 = 9;

pub async fn keep_scanning(state: Arc<State>, interval: Duration, stop: CancellationToken) {
    stop.run_until_cancelled(run(state, interval, stop.clone())).await;
}

async fn run(state: Arc<State>, interval: Duration, stop: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let mut watch = Watch::new(&state, Arc::clone(&changed));
    let mut trouble = String::new();
    loop {
        // Before the scan: a change during it is reported.
        watch = watch.renewed().await;
        let started = Instant::now();
        scan_once(&state, stop.clone(), &mut trouble).await;
        sleep(started.elapsed() * REST_FACTOR).await;
        if timeout(interval, changed.notified()).await.is_ok() {
            sleep(SETTLE).await;
        }
    }
}

/// `trouble` is what was last complained of, so that a log line is written when it changes and not at every scan.
async fn scan_once(state: &Arc<State>, stop: CancellationToken, trouble: &mut String) {
    let previous = state.catalog.borrow().clone();
    let folders = state.folders.clone();
    let known = previous.clone().unwrap_or_default();
    let scanned = tokio::task::spawn_blocking(move || scan(&folders, &known, &stop)).await;
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
    let mut complaints: Vec<_> =
        unreadable.iter().map(|(path, error)| format!("cannot read {}: {error}", path.display())).collect();
    if limit_reached {
        state.metrics.limits_reached.with_label_values(&["library_entries"]).inc();
        complaints
            .push("too many or too deep folders: titles are missing; split the library into several origins".into());
    }
    let complaints = complaints.join("; ");
    if *trouble != complaints {
        *trouble = complaints;
        if !trouble.is_empty() {
            tracing::warn!(origin = state.name, "library: {trouble}");
        }
    }
    let titles = catalog.len();
    if previous.is_none_or(|previous| previous.len() != titles) {
        tracing::info!(origin = state.name, titles, "library: scanned");
    }
    state.metrics.library_titles.with_label_values(&[&state.name]).set(i64::try_from(titles).unwrap_or(i64::MAX));
    state.catalog.send_replace(Some(Arc::new(catalog)));
}

/// The watch for file events. It is a help: where it cannot be had, the interval does the work.
struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// Not watched yet: they may be mounted later.
    waiting: Vec<PathBuf>,
    origin: String,
}

impl Watch {
    fn new(state: &State, changed: Arc<Notify>) -> Self {
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
        Self { watcher, waiting, origin: state.name.clone() }
    }

    /// Watches what can be watched by now. Walks whole folders, so it waits on another thread.
    async fn renewed(mut self) -> Self {
        if self.watcher.is_none() || self.waiting.is_empty() {
            return self;
        }
        let origin = self.origin.clone();
        let renewed = tokio::task::spawn_blocking(move || {
            if let Some(watcher) = &mut self.watcher {
                self.waiting.retain(|path| !watched(watcher, path, &self.origin));
            }
            self
        });
        renewed.await.unwrap_or(Self { watcher: None, waiting: Vec::new(), origin })
    }
}

/// Whether that is settled: watched, or never to be.
fn watched(watcher: &mut RecommendedWatcher, path: &Path, origin: &str) -> bool {
    if !path.is_dir() {
        return false;
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
