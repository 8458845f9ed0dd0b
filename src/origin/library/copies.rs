//! Which films are offered with their own packets, beside the rungs that are encoded. To know it, the sidecar reads the film from end
//! to end: behind the back of the first who asks for its playlist, one film at a time, and once for each version of the file: what was
//! found is kept in the index.
//!
//! Invariants: nobody waits for that longer than [`PATIENCE`]; until it is known the film's playlists are as if it were unfit, and
//! the segments that others name are the same either way. At most [`FILMS_MAX`] are remembered in memory and [`WAITING_MAX`] wait; a film
//! that found no place is tried again at its next playlist.

use super::films::{FILMS_MAX, Films};
use super::index::COPIED;
use crate::media::codec::Codec;
use crate::media::ladder::{Copied, Rung, SOURCE, with_source};
use crate::source::Stamp;
use crate::transcode::protocol::{Film, FilmFile, Source};
use crate::transcode::{Client, Error};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// Short films, and most of those that do not fit, are known within this.
const PATIENCE: Duration = Duration::from_millis(300);
const WAITING_MAX: usize = 64;

/// Which films' own packets fall on the grid; see the module.
#[derive(Debug)]
pub struct Copies {
    client: Arc<Client>,
    kept: Arc<Films>,
    /// By title.
    films: Mutex<HashMap<String, Known>>,
    one: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
struct Known {
    stamp: Stamp,
    /// None while it is being read.
    found: watch::Receiver<Option<Found>>,
}

/// Its packets, or that they do not fit.
type Found = Option<Copied>;

impl Copies {
    pub fn new(client: Arc<Client>, kept: Arc<Films>) -> Arc<Self> {
        Arc::new(Self { client, kept, films: Mutex::default(), one: Arc::new(Semaphore::new(1)) })
    }

    /// The rungs to offer: a film's own packets among them, where they are known to fit.
    pub async fn offer(self: &Arc<Self>, title: &str, whole: impl FnOnce() -> FilmFile, rungs: Vec<Rung>) -> Vec<Rung> {
        let whole = whole();
        if !whole.film.picture.plain {
            return rungs;
        }
        let (width, height) = (whole.film.width, whole.film.height);
        let Some(mut found) = self.known_or_begun(title, whole) else { return rungs };
        let known = timeout(PATIENCE, found.wait_for(Option::is_some)).await;
        match known.ok().and_then(Result::ok).and_then(|found| *found) {
            Some(Some(copied)) => with_source(rungs, width, height, copied),
            _ => rungs,
        }
    }

    /// The rung by its name alone, where a playlist may have offered it: it is not known to be unfit. After a restart, players still
    /// ask for its files.
    pub fn rung_of(&self, title: &str, source: &Source, film: &Film) -> Option<Rung> {
        let films = self.films.lock();
        let known = films.get(title).filter(|known| known.stamp == source.stamp);
        let may_be = film.picture.plain && known.is_none_or(|known| *known.found.borrow() != Some(None));
        may_be.then_some(Rung {
            name: SOURCE.to_owned(),
            codec: Codec::H264,
            width: film.width,
            height: film.height,
            bits_per_s: 0,
            level: 0,
            copied: None,
            aim: None,
        })
    }

    fn known_or_begun(self: &Arc<Self>, title: &str, whole: FilmFile) -> Option<watch::Receiver<Option<Found>>> {
        let mut films = self.films.lock();
        let stamp = whole.source.stamp;
        // Whoever read it and got no answer is gone, and it is tried again.
        let ended = |known: &Known| known.found.has_changed().is_err() && known.found.borrow().is_none();
        if let Some(known) = films.get(title).filter(|known| known.stamp == stamp && !ended(known)) {
            return Some(known.found.clone());
        }
        films.retain(|_, known| !ended(known));
        if films.values().filter(|known| known.found.borrow().is_none()).count() >= WAITING_MAX {
            return None;
        }
        if films.len() >= FILMS_MAX {
            let other = films.keys().next().cloned();
            other.and_then(|other| films.remove(&other));
        }
        let (tell, found) = watch::channel(None);
        films.insert(title.to_owned(), Known { stamp, found: found.clone() });
        drop(films);
        let (one, client, kept) = (Arc::clone(&self.one), Arc::clone(&self.client), Arc::clone(&self.kept));
        let reading = Reading { copies: Arc::downgrade(self), one, client, kept };
        tokio::spawn(reading.read(title.to_owned(), whole, tell));
        Some(found)
    }
}

/// A film's turn. It does not keep a library alive that is gone.
struct Reading {
    copies: Weak<Copies>,
    one: Arc<Semaphore>,
    client: Arc<Client>,
    kept: Arc<Films>,
}

impl Reading {
    async fn read(self, title: String, whole: FilmFile, tell: watch::Sender<Option<Found>>) {
        let stamp = whole.source.stamp;
        if let Some(finding) = self.kept.findings().find::<Copied>(&title, COPIED, &stamp).await {
            let _ = tell.send(Some(finding.ok()));
            return;
        }
        let Ok(_one) = self.one.acquire().await else { return };
        if self.copies.strong_count() == 0 {
            return;
        }
        let finding = match self.client.copied(&whole).await {
            Ok(copied) => Ok(copied),
            Err(Error::Unfit(reason)) => {
                tracing::debug!(title, reason, "library: a film's own packets are not offered");
                Err(reason)
            }
            // Nothing is known: the next playlist asks again.
            Err(error) => return tracing::debug!(title, %error, "library: a film was not read"),
        };
        let _ = tell.send(Some(finding.as_ref().ok().copied()));
        self.kept.findings().keep(&title, COPIED, &stamp, &finding).await;
    }
}
