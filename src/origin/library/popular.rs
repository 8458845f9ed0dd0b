//! What is popular, and making it before it is asked for: the library's part of it. Whoever has a cache asks for what is made here,
//! like any client; the library knows of no cache.
//!
//! Invariant: nothing is made here that somebody did not ask for to be made.

use super::index::now_s;
use super::streams::Course;
use super::watched::Place;
use super::{Library, State};
use crate::transcode::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// So long nobody must have waited for a segment.
const QUIET: Duration = Duration::from_secs(3);
/// Between two times that what was noted goes into the index; as much is lost where the process is killed.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// A title that is watched these days.
#[derive(Debug, Clone, PartialEq)]
pub struct Popular {
    pub title: String,
    /// Where it was asked for last: the host, with its port, and the path before `/t/`.
    pub host: String,
    pub prefix: String,
    /// Those that are watched, pictures first.
    pub renditions: Vec<String>,
}

impl Popular {
    /// The path of a file, see [`Course::file`].
    pub fn path(&self, file: &str) -> String {
        format!("{}/t/{}/{file}", self.prefix, self.title)
    }
}

impl Library {
    /// Somebody was given what lies at `path`, as they asked for it, and may have watched it.
    pub fn watched(&self, host: &str, path: &str) {
        let Some(place) = Place::read(path) else { return };
        let is_known = |title| self.state.catalog.borrow().as_ref().is_some_and(|catalog| catalog.get(title).is_some());
        if self.state.sidecar.is_some() && is_known(place.title) {
            self.state.watched.lock().note(host, place, now_s());
        }
    }

    /// Titles of which at least so many segments were watched lately, the most watched first.
    pub fn popular(&self, segments_min: f64, titles_max: usize) -> Vec<Popular> {
        let most = self.state.watched.lock().most(segments_min, titles_max, now_s());
        let popular = most.into_iter().map(|(title, entry)| {
            let renditions = entry.renditions().into_iter().map(str::to_owned).collect();
            Popular { title, host: entry.host, prefix: entry.prefix, renditions }
        });
        popular.collect()
    }

    /// Whether nobody has waited for a segment for some seconds.
    pub fn is_quiet(&self) -> bool {
        self.state.sidecar.as_ref().is_some_and(|sidecar| sidecar.films.is_quiet(QUIET))
    }

    /// A rendition's files; None: there are none (any more).
    pub async fn course(&self, title: &str, rendition: &str) -> Result<Option<Course>, Error> {
        let catalog = self.state.catalog.borrow().clone();
        let title = catalog.as_ref().and_then(|catalog| catalog.get(title));
        let (Some(sidecar), Some(title)) = (&self.state.sidecar, title) else { return Ok(None) };
        sidecar.streams.course(title, rendition).await
    }

    /// Has files made, from `at` on and so many of them, as long as there is nothing else to do ([`Error::Busy`]). They are there for
    /// whoever asks within two minutes.
    pub async fn make_ahead(&self, course: &Course, at: u64, files: u64) -> Result<(), Error> {
        let Some(sidecar) = &self.state.sidecar else { return Err(Error::Away("there is no transcoder".to_owned())) };
        sidecar.streams.make_ahead(course, at, files).await
    }
}

/// Recalls what was watched before a restart, and keeps what is watched.
pub async fn keep_watched(state: Arc<State>, stop: CancellationToken) {
    let recalled = stop.run_until_cancelled(async {
        // By then the index is open.
        state.catalog().await;
        let index = Arc::clone(&state.index);
        let before = tokio::task::spawn_blocking(move || index.watched()).await.unwrap_or_default();
        state.watched.lock().recall(before, now_s());
    });
    if recalled.await.is_none() {
        return;
    }
    while stop.run_until_cancelled(sleep(SAVE_INTERVAL)).await.is_some() {
        save(&state).await;
    }
    save(&state).await;
}

async fn save(state: &Arc<State>) {
    let changes = state.watched.lock().take_changes();
    if changes.is_empty() {
        return;
    }
    let index = Arc::clone(&state.index);
    // What becomes of it the index says itself.
    let _ = tokio::task::spawn_blocking(move || index.keep_watched(&changes)).await;
}
