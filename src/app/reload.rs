//! Reload: parse → validate → build → swap. On any failure the old configuration stays, and a metric and a log line say so.

use crate::config::{self, Config, Loaded};
use crate::edge::Generation;
use crate::observe::{AccessLog, Metrics};
use crate::origin::{Embedded, Origins};
use crate::transport::Shared;
use arc_swap::{ArcSwap, ArcSwapOption};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};

/// Editors write a file in several steps; wait until they are done.
const QUIET: Duration = Duration::from_millis(200);

/// Loads the configuration again and puts it in force.
pub(super) struct Reloader {
    path: PathBuf,
    /// What the process started with: some of its keys stay in force until it starts again.
    started: Config,
    loaded: Mutex<Loaded>,
    generation: Arc<ArcSwap<Generation>>,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    access_log: Arc<ArcSwapOption<AccessLog>>,
    embedded: Embedded,
    all_ends: watch::Receiver<bool>,
}

impl Reloader {
    pub fn new(
        loaded: Loaded,
        generation: Arc<ArcSwap<Generation>>,
        shared: Arc<Shared>,
        metrics: Arc<Metrics>,
        access_log: Arc<ArcSwapOption<AccessLog>>,
        embedded: Embedded,
        all_ends: watch::Receiver<bool>,
    ) -> Self {
        note_time(&metrics);
        let path = loaded.config.file.clone();
        let started = loaded.config.clone();
        Self { path, started, loaded: Mutex::new(loaded), generation, shared, metrics, access_log, embedded, all_ends }
    }

    /// The configuration in force as YAML, secrets masked.
    pub fn show(&self) -> String {
        config::show(&self.loaded.lock())
    }

    /// How to stop, by the configuration in force.
    pub fn shutdown(&self) -> config::Shutdown {
        self.loaded.lock().config.shutdown.clone()
    }

    /// Files whose change means a reload.
    fn files(&self) -> Vec<PathBuf> {
        self.loaded.lock().files.clone()
    }

    /// One reload. Blocking work (files) is small; a library's first scan runs on its own.
    fn reload(&self, why: &str) {
        match self.try_reload() {
            Ok(needs_restart) => {
                self.metrics.config_reload_success.set(1);
                self.metrics.config_reloads.with_label_values(&["succeeded"]).inc();
                note_time(&self.metrics);
                tracing::info!(why, file = %self.path.display(), "configuration reloaded");
                for key in needs_restart {
                    tracing::warn!(key, "differs from what runs; it takes effect only after a restart");
                }
            }
            Err(errors) => {
                self.metrics.config_reload_success.set(0);
                self.metrics.config_reloads.with_label_values(&["failed"]).inc();
                for error in errors {
                    tracing::error!(why, "{error}");
                }
                tracing::error!(why, "reload failed; the configuration in force stays");
            }
        }
    }

    fn try_reload(&self) -> Result<Vec<&'static str>, Vec<String>> {
        let new = config::load(&self.path).map_err(|errors| summaries(&errors))?;
        let old = self.generation.load_full();
        let origins = Origins::build(&new.config.origins, Some(&old.origins), &self.metrics, &self.embedded)
            .map_err(|error| vec![error.to_string()])?;
        let access_log = self.build_access_log(&old.config.log.access, &new.config.log.access)?;

        // From here on nothing fails.
        let needs_restart = config::restart_differences(&self.started, &new.config);
        let origins = Arc::new(origins);
        let config = Arc::new(new.config.clone());
        self.shared.apply(config.limits.clone(), config.trusted_proxies.clone());
        self.generation.store(Arc::new(Generation::new(config, origins.clone(), &self.metrics)));
        origins.start(Some(&old.origins), &self.all_ends);
        if let Some(access_log) = access_log {
            self.access_log.store(access_log.map(Arc::new));
        }
        for warning in summaries(&new.warnings) {
            tracing::warn!("{warning}");
        }
        *self.loaded.lock() = new;
        Ok(needs_restart)
    }

    /// Some: the log to use from now on (or none at all). None: it did not change.
    fn build_access_log(
        &self,
        old: &config::AccessLog,
        new: &config::AccessLog,
    ) -> Result<Option<Option<AccessLog>>, Vec<String>> {
        if old == new {
            return Ok(None);
        }
        AccessLog::start(new, self.metrics.clone()).map(Some).map_err(|error| vec![format!("log.access: {error}")])
    }
}

/// One line each.
pub(super) fn summaries(diagnostics: &config::Diagnostics) -> Vec<String> {
    let file = diagnostics.file.display();
    let line = |found: &config::Diagnostic| {
        let advice = found.advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
        format!("{file}:{}:{}: {}{advice}", found.line, found.column, found.message)
    };
    diagnostics.list.iter().map(line).collect()
}

fn note_time(metrics: &Metrics) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    metrics.config_loaded_timestamp_seconds.with_label_values::<&str>(&[]).set(now.as_secs_f64());
}

/// Watches the folders of the files (editors replace files, so a watch on the file itself is soon blind).
pub(super) struct Watcher {
    reloader: Arc<Reloader>,
    /// None where the system has no more watches to give: SIGHUP still works.
    notifier: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    changes: mpsc::Receiver<()>,
}

impl Watcher {
    pub fn start(reloader: Arc<Reloader>) -> Self {
        // One pending change is as good as many.
        let (sender, changes) = mpsc::channel(1);
        let watched = reloader.clone();
        let notifier = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if !event.kind.is_access() && event.paths.iter().any(|path| is_watched(path, &watched.files())) {
                let _ = sender.try_send(());
            }
        });
        let notifier = notifier
            .inspect_err(|error| tracing::warn!(%error, "cannot watch the configuration; reload it with SIGHUP"))
            .ok();
        let mut watcher = Self { reloader, notifier, folders: BTreeSet::new(), changes };
        watcher.follow();
        watcher
    }

    /// Resolves when a file has changed and is quiet again. Pends for ever where nothing can be watched.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        while tokio::time::timeout(QUIET, self.changes.recv()).await.is_ok_and(|change| change.is_some()) {}
    }

    pub async fn reload_now(&mut self, why: &'static str) {
        let reloader = self.reloader.clone();
        // Files may lie on a slow disk; the runtime goes on meanwhile.
        if tokio::task::spawn_blocking(move || reloader.reload(why)).await.is_err() {
            tracing::error!("the reload panicked; the configuration in force stays");
        }
        self.follow();
    }

    /// The folders of the files in force; a reload may name others.
    fn follow(&mut self) {
        let Some(notifier) = &mut self.notifier else { return };
        for file in self.reloader.files() {
            let Some(folder) = file.parent().map(Path::to_owned) else { continue };
            if self.folders.contains(&folder) {
                continue;
            }
            match notifier.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.folders.insert(folder)),
                Err(error) => tracing::warn!(folder = %folder.display(), %error, "cannot watch; reload with SIGHUP"),
            }
        }
    }
}

/// Also links to it: mounted secrets are swapped by their folder's link.
fn is_watched(path: &Path, files: &[PathBuf]) -> bool {
    files.iter().any(|file| file == path) || path.file_name().is_some_and(|name| name == "..data")
}
