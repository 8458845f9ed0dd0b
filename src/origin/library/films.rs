//! What films are: asked of the sidecar once for each version of a file, kept in the index, and remembered in memory for those
//! that are played.
//!
//! Invariants: whoever plays comes first: the background (see `look`) waits while segments are asked for; a stored answer is used only
//! if it is for this version of the file, was found by the tools that are there now, and says all that the sidecar would say today.

use super::catalog::Title;
use super::facts::{Facts, Known};
use super::index::{FILM, Index, Stored, now_s};
use crate::observe::Metrics;
use crate::source::Stamp;
use crate::transcode::protocol::{Film, Source};
use crate::transcode::{Client, Error};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, timeout};

/// Films remembered in memory; one takes a few hundred bytes, and reading it from the index again a millisecond.
const FILMS_MAX: usize = 4096;
/// Pictures made at once, and how long a request waits for its turn: a page of posters must not keep films from playing.
const PICTURES: usize = 1;
const PICTURE_WAIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Films {
    client: Arc<Client>,
    index: Arc<Index>,
    /// The library's name: a metric label.
    origin: String,
    metrics: Arc<Metrics>,
    /// By title.
    remembered: Mutex<HashMap<String, Remembered>>,
    /// Of the sidecar's tools, as far as it has said.
    build: Mutex<Option<Arc<str>>>,
    /// When somebody who plays last asked for something; the start counts too, for everybody begins then.
    asked: Mutex<Instant>,
    pictures: Semaphore,
}

/// Why a film cannot be streamed, or what it is.
type Answer = Result<Arc<Film>, String>;

#[derive(Debug, Clone)]
struct Remembered {
    stamp: Stamp,
    /// Empty until the first who asked got an answer.
    film: Arc<OnceCell<Answer>>,
}

/// What to ask the sidecar of. None: it is no film file.
pub fn source(title: &Title) -> Option<Source> {
    Some(Source { folder: title.folder.path().to_owned(), path: title.path.clone(), stamp: title.stamp? })
}

impl Films {
    pub fn new(client: Arc<Client>, index: Arc<Index>, origin: &str, metrics: Arc<Metrics>) -> Self {
        Self {
            client,
            index,
            origin: origin.to_owned(),
            metrics,
            remembered: Mutex::default(),
            build: Mutex::default(),
            asked: Mutex::new(Instant::now()),
            pictures: Semaphore::new(PICTURES),
        }
    }

    /// Somebody plays.
    pub fn viewer_asks(&self) {
        *self.asked.lock() = Instant::now();
    }

    /// Whether nobody has asked for a segment for so long.
    pub fn is_quiet(&self, time: Duration) -> bool {
        self.asked.lock().elapsed() >= time
    }

    /// What the sidecar's tools are; None: it does not say now, nor did before.
    pub async fn build(&self) -> Option<Arc<str>> {
        let known = self.build.lock().clone();
        if known.is_some() {
            return known;
        }
        let said: Arc<str> = self.client.build().await.ok()?.into();
        Some(Arc::clone(self.build.lock().get_or_insert(said)))
    }

    /// What a film is: found out once for each version of the file, however many want to know.
    pub async fn film(&self, title: &Title, source: &Source) -> Result<Arc<Film>, Error> {
        let known = {
            let mut films = self.remembered.lock();
            match films.get(&title.id).filter(|known| known.stamp == source.stamp) {
                Some(known) => known.clone(),
                None => {
                    let other = if films.len() >= FILMS_MAX { films.keys().next().cloned() } else { None };
                    other.and_then(|other| films.remove(&other));
                    let known = Remembered { stamp: source.stamp, film: Arc::default() };
                    films.insert(title.id.clone(), known.clone());
                    known
                }
            }
        };
        let asked = known.film.get_or_try_init(async || match self.stored(title, &source.stamp).await {
            Some(stored) => Ok(stored),
            None => self.probe(title, source).await,
        });
        asked.await?.clone().map_err(Error::Unfit)
    }

    /// From the index, if it still holds.
    async fn stored(&self, title: &Title, stamp: &Stamp) -> Option<Answer> {
        let (index, id, stamp) = (Arc::clone(&self.index), title.id.clone(), *stamp);
        let stored = tokio::task::spawn_blocking(move || index.found(&id, FILM, &stamp)).await.ok()??;
        let build = self.build().await;
        match stored.said {
            Ok(text) => {
                let film = read(&text)?;
                build.is_none_or(|build| *build == *film.build).then(|| Ok(Arc::new(film)))
            }
            Err(reason) => {
                let known = Known::Broken { reason: reason.clone(), build: stored.build.into(), at_s: stored.at_s };
                (!known.is_due(build.as_deref(), now_s())).then_some(Err(reason))
            }
        }
    }

    /// Asks the sidecar, and keeps what it says.
    async fn probe(&self, title: &Title, source: &Source) -> Result<Answer, Error> {
        let probed = match source.stamp.bytes {
            0 => Err(Error::Unfit("the file is empty".to_owned())),
            _ => self.counted("probe", self.client.probe(source).await),
        };
        let (answer, text) = match probed {
            Ok(film) => {
                let text = serde_json::to_string(&film).map_err(|error| Error::Failed(error.to_string()))?;
                *self.build.lock() = Some(film.build.as_str().into());
                (Ok(Arc::new(film)), Ok(text))
            }
            Err(Error::Unfit(reason)) => {
                let origin = &self.origin;
                tracing::warn!(origin, title = title.id, reason, "library: a film cannot be streamed");
                (Err(reason.clone()), Err(reason))
            }
            Err(error) => return Err(error),
        };
        let build = self.build().await.unwrap_or_default();
        let at_s = now_s();
        title.known.store(Arc::new(match &text {
            Ok(text) => match serde_json::from_str(text).ok().and_then(|film| Facts::read(&film)) {
                Some(facts) => Known::Film { facts, build: Arc::clone(&build) },
                None => Known::Nothing,
            },
            Err(reason) => Known::Broken { reason: reason.clone(), build: Arc::clone(&build), at_s },
        }));
        let stored = Stored { said: text, build: build.to_string(), at_s };
        let (index, id, stamp) = (Arc::clone(&self.index), title.id.clone(), source.stamp);
        // What becomes of it the index says itself.
        let _ = tokio::task::spawn_blocking(move || index.keep(&id, FILM, &stamp, &stored)).await;
        Ok(answer)
    }

    /// Looks into a film that nobody waits for.
    pub async fn look_into(&self, title: &Title) -> Result<(), Error> {
        let Some(source) = source(title) else { return Ok(()) };
        // That it is broken is an answer too, and kept.
        let _ = self.probe(title, &source).await?;
        // What was remembered of it may be older.
        self.remembered.lock().remove(&title.id);
        Ok(())
    }

    /// A picture of a film: JPEG.
    pub async fn picture(&self, title: &Title, source: &Source) -> Result<Bytes, Error> {
        let film = self.film(title, source).await?;
        let turn = timeout(PICTURE_WAIT, self.pictures.acquire()).await;
        let _turn = turn.ok().and_then(Result::ok).ok_or(Error::Busy)?;
        self.counted("picture", self.client.picture(source, &film).await)
    }

    /// Counts an answer of the sidecar, and logs what an operator should know.
    pub fn counted<T>(&self, kind: &str, result: Result<T, Error>) -> Result<T, Error> {
        let outcome = match &result {
            Ok(_) => "made",
            Err(Error::Away(_)) => "away",
            Err(Error::Busy) => "busy",
            Err(Error::Changed) => "changed",
            Err(Error::Unfit(_)) => "unfit",
            Err(Error::Failed(_)) => "failed",
        };
        self.metrics.transcode_answers.with_label_values(&[&self.origin, kind, outcome]).inc();
        if let Err(error @ (Error::Away(_) | Error::Failed(_))) = &result {
            tracing::warn!(origin = self.origin, kind, %error, "library: no stream");
        }
        result
    }
}

/// What was kept, if it says neither less nor more than would be said today.
fn read(text: &str) -> Option<Film> {
    let film: Film = serde_json::from_str(text).ok()?;
    let said: serde_json::Value = serde_json::from_str(text).ok()?;
    (serde_json::to_value(&film).ok()? == said).then_some(film)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_by_another_reelgate_is_found_out_again() {
        let text = r#"{"video_stream":0,"width":64,"height":48,"start":[0,1],"file_start":[0,1],
            "grid":{"frame_rate":[25,1],"frames":50},"audio":null,"encoder":"libx264","build":"5.1"}"#;
        let film: Film = serde_json::from_str(text).unwrap();
        assert_eq!(read(&serde_json::to_string(&film).unwrap()), Some(film.clone()));
        let more = serde_json::to_string(&film).unwrap().replacen('{', r#"{"later":1,"#, 1);
        assert_eq!(read(&more), None, "a field that is not known here");
        let less = serde_json::to_string(&film).unwrap().replace(r#""audio":null,"#, "");
        assert_eq!(read(&less), None, "a field that was not known there");
        assert_eq!(read("{}"), None);
    }
}
