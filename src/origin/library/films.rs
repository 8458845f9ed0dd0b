//! What films are: asked of the sidecar once for each version of a file, kept (see `findings`), and remembered in memory for those
//! that are played.
//!
//! Invariant: whoever plays comes first: the background (see `look`) waits while segments are asked for.

use super::catalog::Title;
use super::facts::{Facts, Known};
use super::findings::{Finding, Findings};
use super::index::{FILM, PLAN, now_s};
use crate::media::codec::Codec;
use crate::media::quality::{POLICY, Plan};
use crate::observe::Metrics;
use crate::source::Stamp;
use crate::transcode::protocol::{Film, Source, encodes, moved, sees_more};
use crate::transcode::{Client, Error};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

/// Films remembered in memory; one takes a few hundred bytes, and reading it from the index again a millisecond.
pub const FILMS_MAX: usize = 4096;
/// Nobody plays a film that was not asked about for so long.
const IDLE_TIME: Duration = Duration::from_secs(600);
/// Between looks whether it is quiet.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What films are; see the module.
#[derive(Debug)]
pub struct Films {
    client: Arc<Client>,
    findings: Findings,
    /// The library's name: a metric label.
    origin: String,
    metrics: Arc<Metrics>,
    /// By title.
    remembered: Mutex<HashMap<String, Remembered>>,
    viewers: Mutex<Viewers>,
}

/// Those who wait for a segment.
#[derive(Debug)]
struct Viewers {
    waiting: usize,
    /// When one of them came or went last; the start counts too, for everybody begins then.
    changed: Instant,
}

/// Somebody who waits for a segment.
#[derive(Debug)]
pub struct Viewer<'a>(&'a Films);

impl Drop for Viewer<'_> {
    fn drop(&mut self) {
        let mut viewers = self.0.viewers.lock();
        viewers.waiting -= 1;
        viewers.changed = Instant::now();
    }
}

#[derive(Debug, Clone)]
struct Remembered {
    stamp: Stamp,
    asked: Instant,
    /// Empty until the first who asked got an answer.
    film: Arc<OnceCell<Finding<Arc<Film>>>>,
}

/// What to ask the sidecar of. None: it is no film file.
pub fn source(title: &Title) -> Option<Source> {
    Some(Source { folder: title.folder.path().to_owned(), path: title.path.clone(), stamp: title.stamp? })
}

impl Films {
    pub fn new(client: Arc<Client>, findings: Findings, origin: &str, metrics: Arc<Metrics>) -> Self {
        Self {
            client,
            findings,
            origin: origin.to_owned(),
            metrics,
            remembered: Mutex::default(),
            viewers: Mutex::new(Viewers { waiting: 0, changed: Instant::now() }),
        }
    }

    /// What else was found out about films, kept.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Somebody waits for a segment, as long as this is held.
    pub fn viewer(&self) -> Viewer<'_> {
        let mut viewers = self.viewers.lock();
        viewers.waiting += 1;
        viewers.changed = Instant::now();
        Viewer(self)
    }

    /// Whether nobody has waited for a segment for so long.
    pub fn is_quiet(&self, time: Duration) -> bool {
        let viewers = self.viewers.lock();
        viewers.waiting == 0 && viewers.changed.elapsed() >= time
    }

    /// Until nobody has waited for a segment for so long.
    pub async fn quiet(&self, time: Duration) {
        while !self.is_quiet(time) {
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Until somebody waits for a segment.
    pub async fn disturbed(&self) {
        while self.is_quiet(Duration::ZERO) {
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// See [`Findings::build`].
    pub async fn build(&self) -> Option<Arc<str>> {
        self.findings.build().await
    }

    /// What a film is: found out once for each version of the file, however many want to know.
    pub async fn film(&self, title: &Title, source: &Source) -> Result<Arc<Film>, Error> {
        let known = {
            let mut films = self.remembered.lock();
            let good = |known: &&mut Remembered| known.stamp == source.stamp && !self.is_outdated(known);
            match films.get_mut(&title.id).filter(good) {
                Some(known) => {
                    known.asked = Instant::now();
                    known.clone()
                }
                None => {
                    let other = if films.len() >= FILMS_MAX { films.keys().next().cloned() } else { None };
                    other.and_then(|other| films.remove(&other));
                    let known = Remembered { stamp: source.stamp, asked: Instant::now(), film: Arc::default() };
                    films.insert(title.id.clone(), known.clone());
                    known
                }
            }
        };
        let asked = known.film.get_or_try_init(|| self.find_out(title, source));
        asked.await?.clone().map_err(Error::Unfit)
    }

    /// Made by others by now than those who looked into it.
    fn is_outdated(&self, known: &Remembered) -> bool {
        let is_idle = known.asked.elapsed() >= IDLE_TIME;
        matches!(known.film.get(), Some(Ok(film)) if self.client.is_outdated(film, is_idle))
    }

    /// What was kept, else what the sidecar says; and how it is encoded, where it was optimised.
    async fn find_out(&self, title: &Title, source: &Source) -> Result<Finding<Arc<Film>>, Error> {
        let build = self.build().await;
        let holds = |film: &Film| build.as_ref().is_none_or(|build| !sees_more(&film.build, build));
        let finding = match self.findings.find::<Film>(&title.id, FILM, &source.stamp).await {
            Some(finding) if finding.as_ref().map_or(true, |film| self.client.makes(film) && holds(film)) => {
                let finding = match &build {
                    Some(now) => finding.map(|film| here(film, now)),
                    None => finding,
                };
                self.told(title, &finding).await;
                finding
            }
            _ => self.probe(title, source).await?,
        };
        let Ok(film) = finding else { return Ok(finding.map(Arc::new)) };
        let plan = self.findings.find::<Plan>(&title.id, PLAN, &source.stamp).await.and_then(Result::ok);
        let plan = plan.filter(|plan| plan.policy == POLICY);
        Ok(Ok(Arc::new(Film { plan, ..film })))
    }

    /// Keeps how a title is encoded from now on.
    pub async fn planned(&self, title: &Title, source: &Source, film: &Film, plan: Plan) {
        self.findings.keep(&title.id, PLAN, &source.stamp, &Ok(plan.clone())).await;
        let film = Ok(Arc::new(Film { plan: Some(plan), ..film.clone() }));
        let known =
            Remembered { stamp: source.stamp, film: Arc::new(OnceCell::new_with(Some(film))), asked: Instant::now() };
        self.remembered.lock().insert(title.id.clone(), known);
    }

    /// Lists say so from now on.
    async fn told(&self, title: &Title, finding: &Finding<Film>) {
        let build = self.build().await.unwrap_or_default();
        title.known.store(Arc::new(match finding {
            Ok(film) => match serde_json::to_value(film).ok().and_then(|film| Facts::read(&film)) {
                // What encodes it is its own: more may be there by now.
                Some(facts) => Known::Film { facts, build: film.build.as_str().into() },
                None => Known::Nothing,
            },
            Err(reason) => Known::Broken { reason: reason.clone(), build, at_s: now_s() },
        }));
    }

    /// Asks the sidecar, and keeps what it says.
    async fn probe(&self, title: &Title, source: &Source) -> Result<Finding<Film>, Error> {
        let probed = match source.stamp.bytes {
            0 => Err(Error::Unfit("the file is empty".to_owned())),
            _ => self.counted("probe", self.client.probe(source).await),
        };
        let finding = match probed {
            // Kept under another build's name, it would be believed and could not be made.
            Ok(film) if !self.client.makes(&film) => return Err(Error::Changed),
            Ok(film) => {
                self.findings.build_is(&film.build);
                Ok(film)
            }
            Err(Error::Unfit(reason)) => {
                let origin = &self.origin;
                tracing::warn!(origin, title = title.id, reason, "library: a film cannot be streamed");
                Err(reason)
            }
            Err(error) => return Err(error),
        };
        self.told(title, &finding).await;
        // Of one that stood in it is not kept: it would stay that way when the other one is back.
        let stood_in = |film: &Film| self.client.build_in_force().is_some_and(|build| sees_more(&film.build, &build));
        if !finding.as_ref().is_ok_and(stood_in) {
            self.findings.keep(&title.id, FILM, &source.stamp, &finding).await;
        }
        Ok(finding)
    }

    /// The sidecar says that a film is not what it was taken for: another version of it, or made by another build by now. What it is
    /// is found out again by who asks next.
    pub fn forget(&self, title: &str) {
        self.remembered.lock().remove(title);
        self.findings.forget_build();
    }

    /// Looks into a film that nobody waits for.
    pub async fn look_into(&self, title: &Title) -> Result<(), Error> {
        let Some(source) = source(title) else { return Ok(()) };
        // Another process may have found it out meanwhile. That it is broken is an answer too.
        let _ = self.find_out(title, &source).await?;
        // What was remembered of it may be older.
        self.remembered.lock().remove(&title.id);
        Ok(())
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
/// A film as the present build makes it: on its processor, and without the codecs that were worth it only with hardware which has gone. H.264
/// software makes in its place, under the same URLs.
fn here(mut film: Film, now: &str) -> Film {
    film.encoders.retain(|codec, encoder| *codec == Codec::H264 || encodes(now, encoder));
    Film { build: moved(&film.build, now), ..film }
}
