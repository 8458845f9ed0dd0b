//! Fills an index ahead of time: one scan, and every film that nobody has looked into. For `reelgate scan`, without a server.

use super::State;
use super::catalog::Title;
use super::films::Films;
use super::look;
use super::rescan::{recall, scan_once};
use super::status::Counts;
use crate::config::LibraryOrigin;
use crate::observe::Metrics;
use crate::transcode::{Client, Error};
use futures_util::StreamExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Between two words about a scan.
const TELL_INTERVAL: Duration = Duration::from_millis(100);
/// A film is asked for so often, with a pause, where the sidecar has no time or is not there.
const TRIES_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Scanning { found: usize },
    LookingInto { done: usize, films: usize },
}

/// What became of filling an index.
#[derive(Debug)]
pub struct Filled {
    pub counts: Counts,
    /// Films that nobody could look into this time.
    pub failed: usize,
    /// Names of films that cannot be streamed, and why, by name.
    pub broken: Vec<(String, String)>,
    /// What else went wrong, for the operator.
    pub trouble: Vec<String>,
}

/// Scans a library's folders and looks into its films, so many at once; without a sidecar into none.
pub async fn fill(
    name: &str,
    settings: &LibraryOrigin,
    metrics: Arc<Metrics>,
    transcoder: Option<Arc<Client>>,
    at_once: usize,
    tell: impl Fn(Progress),
) -> Filled {
    let state = State::new(name, settings, metrics, transcoder);
    recall(&state).await;
    let mut scan = std::pin::pin!(scan_once(&state, CancellationToken::new()));
    loop {
        tokio::select! {
            () = scan.as_mut() => break,
            () = sleep(TELL_INTERVAL) => tell(Progress::Scanning { found: state.found.load(Ordering::Relaxed) }),
        }
    }
    let catalog = state.catalog().await;
    let mut failed = 0;
    if let Some(sidecar) = &state.sidecar {
        let due = look::due(&sidecar.films, &catalog).await;
        let looks = due.iter().map(|title| look_into(&sidecar.films, title));
        let mut looks = futures_util::stream::iter(looks).buffer_unordered(at_once.max(1));
        let mut done = 0;
        tell(Progress::LookingInto { done, films: due.len() });
        while let Some(looked) = looks.next().await {
            done += 1;
            failed += usize::from(!looked);
            tell(Progress::LookingInto { done, films: due.len() });
        }
    }
    let broken = catalog.titles().iter().filter_map(|title| {
        let known = title.known.load();
        known.broken().map(|reason| (title.name.clone(), reason.to_owned()))
    });
    let trouble = [state.trouble.lock().logged.clone(), state.index.trouble().unwrap_or_default()];
    Filled {
        counts: state.count(),
        failed,
        broken: broken.collect(),
        trouble: trouble.into_iter().filter(|trouble| !trouble.is_empty()).collect(),
    }
}

/// Whether that was possible.
async fn look_into(films: &Films, title: &Title) -> bool {
    for _ in 0..TRIES_MAX {
        match films.look_into(title).await {
            Err(Error::Away(_) | Error::Busy) => sleep(PAUSE).await,
            outcome => return outcome.is_ok(),
        }
    }
    false
}
