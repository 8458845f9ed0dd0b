//! Fills the indexes of a configuration's libraries ahead of time, without serving anything.

use super::build;
use crate::config::{Config, LibraryOrigin, OriginKind};
use crate::observe::Metrics;
use crate::origin::library::{self, Filled, Progress};
use crate::transcode::Client;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// For the sidecar to start.
const START_TIME_MAX: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Films looked into at once, where fewer segments than that are made at once.
const AT_ONCE_MIN: usize = 2;

/// What became of one library.
#[derive(Debug)]
pub struct Scanned {
    pub origin: String,
    pub filled: Filled,
    /// Nothing is kept of it: it has no index.
    pub forgets: bool,
    /// Films were looked into: there was a sidecar.
    pub looked: bool,
}

/// Scans the libraries of a configuration, or one of them; `tell` gets the origin's name and how far it is.
///
/// # Errors
/// There is no such library, or nothing can be started.
pub fn scan(config: &Config, only: Option<&str>, tell: impl Fn(&str, Progress)) -> Result<Vec<Scanned>, String> {
    let libraries = config.origins.iter().filter(|origin| only.is_none_or(|only| only == origin.name));
    let libraries: Vec<(&str, &LibraryOrigin)> = libraries
        .filter_map(|origin| match &origin.kind {
            OriginKind::Library(settings) => Some((origin.name.as_str(), settings)),
            OriginKind::Http(_) => None,
        })
        .collect();
    if libraries.is_empty() {
        return Err(match only {
            Some(name) => format!("no origin `{name}` of kind: library in {}", config.file.display()),
            None => format!("no origin of kind: library in {}", config.file.display()),
        });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let scanned = runtime.block_on(async {
        let metrics = Arc::new(Metrics::new());
        let folder = build::runtime_folder().map_err(|error| error.to_string())?;
        let (end, ends) = watch::channel(false);
        let transcoder = build::transcoder(config, folder.path(), &metrics, &ends);
        if let Some(transcoder) = &transcoder {
            started(transcoder).await?;
        }
        let jobs = config.transcode.as_ref().map_or(0, |transcode| transcode.jobs.into());
        let mut all = Vec::new();
        for (name, settings) in libraries {
            let told = |progress| tell(name, progress);
            let at_once = AT_ONCE_MIN.max(jobs);
            let filled = library::fill(name, settings, metrics.clone(), transcoder.clone(), at_once, told).await;
            let (forgets, looked) = (settings.index.is_none(), transcoder.is_some());
            all.push(Scanned { origin: name.to_owned(), filled, forgets, looked });
        }
        // Nobody listening any more is as good.
        let _ = end.send(true);
        Ok(all)
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    scanned
}

async fn started(transcoder: &Client) -> Result<(), String> {
    let deadline = Instant::now() + START_TIME_MAX;
    while !transcoder.is_healthy().await {
        if Instant::now() > deadline {
            return Err("no transcoder answers: look with `reelgate check --online`, or run reelgate-transcoder by hand to see why".to_owned());
        }
        sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}
