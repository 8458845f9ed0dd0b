//! Looks into films that nobody has played yet, so that lists say what they are, broken ones are known, and playing begins at once.
//!
//! Invariants: one film at a time, and only while nobody waits for a segment: the sidecar has a second place for who plays. A film
//! is looked into once for each version of its file; what fails for the machine's sake is tried again later, and none is waited for
//! without end.

use super::State;
use super::catalog::{Catalog, Kind, Title};
use super::films::Films;
use super::index::now_s;
use crate::transcode::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// So long nobody must have asked for a segment.
const QUIET: Duration = Duration::from_secs(3);
/// The first pause where the sidecar has no time; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// So often a film is asked for in a row: one that ends the sidecar, or hangs it, must not keep all others waiting.
const TRIES_MAX: u32 = 5;
/// Between two lines of progress in the log.
const TELL_INTERVAL: Duration = Duration::from_secs(30);
/// Between two counts for the metrics.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// Until `stop`.
pub async fn keep_looking(state: Arc<State>, films: Arc<Films>, stop: CancellationToken) {
    stop.run_until_cancelled(run(&state, &films)).await;
}

async fn run(state: &State, films: &Films) {
    let mut catalogs = state.catalog.subscribe();
    loop {
        let catalog = catalogs.borrow_and_update().clone();
        if let Some(catalog) = catalog {
            look_into(state, films, &catalog).await;
        }
        if catalogs.changed().await.is_err() {
            return;
        }
    }
}

/// Films of a catalog that somebody should look into.
pub async fn due(films: &Films, catalog: &Catalog) -> Vec<Arc<Title>> {
    let (build, now_s) = (films.build().await, now_s());
    let due = |title: &&Arc<Title>| title.kind == Kind::File && title.known.load().is_due(build.as_deref(), now_s);
    catalog.titles().iter().filter(due).cloned().collect()
}

async fn look_into(state: &State, films: &Films, catalog: &Catalog) {
    films.quiet(QUIET).await;
    let due = due(films, catalog).await;
    let build = films.build().await;
    let (mut told, mut counted) = (Instant::now(), Instant::now());
    for (done, title) in due.iter().enumerate() {
        // Somebody may have played it meanwhile.
        if title.known.load().is_due(build.as_deref(), now_s()) {
            patiently(films, title).await;
        }
        if counted.elapsed() >= COUNT_INTERVAL {
            state.count();
            counted = Instant::now();
        }
        if told.elapsed() >= TELL_INTERVAL {
            let left = due.len() - done - 1;
            tracing::info!(origin = state.name, done, left, "library: looking into films");
            told = Instant::now();
        }
    }
    if !due.is_empty() {
        let counts = state.count();
        tracing::info!(
            origin = state.name,
            looked_into = due.len(),
            broken = counts.broken,
            "library: looked into films"
        );
    }
}

/// Between the tries of one film.
fn pauses() -> impl Iterator<Item = Duration> {
    (0..TRIES_MAX - 1).map(|tries| PAUSE * 2_u32.pow(tries))
}

/// One film, as soon as the sidecar has time; after some tries it is left for the next scan.
async fn patiently(films: &Films, title: &Title) {
    let mut pauses = pauses();
    loop {
        films.quiet(QUIET).await;
        match films.look_into(title).await {
            Err(error @ (Error::Away(_) | Error::Busy)) => {
                let Some(pause) = pauses.next() else {
                    tracing::debug!(title = title.id, %error, "library: a film is left for the next scan");
                    return;
                };
                sleep(pause).await;
            }
            // Changed: the next scan finds the new version. Failed: the next one tries again.
            Ok(()) | Err(Error::Changed | Error::Unfit(_) | Error::Failed(_)) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_film_is_tried_for_some_seconds_and_then_left() {
        assert_eq!(pauses().count() + 1, TRIES_MAX as usize);
        let all: Duration = pauses().sum();
        assert!((Duration::from_secs(5)..Duration::from_secs(20)).contains(&all), "{all:?}");
    }
}
