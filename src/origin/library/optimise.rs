//! "Optimise this title": finds out by trials which quality each of its rungs needs (`media::quality`), keeps that, and offers the title so
//! from then on. For whoever asks, a person or something that knows what is popular.
//!
//! Invariants: one title at a time, one trial at a time, and begun only while nobody waits for a segment; a trial that somebody comes in
//! the way of is given up and made again, but not for ever. At most [`WAITING_MAX`] wait, and the last [`TOLD_MAX`] are told of. What was
//! found is in the index, and in force at once; a title that could not be optimised stays as it was.

use super::catalog::{Catalog, Kind, Title};
use super::films::{self, Films};
use super::index::{Index, PLAN};
use super::{Library, State};
use crate::media::codec::Codec;
use crate::media::ladder::{Rung, ladder, rungs};
use crate::media::quality::{Chosen, Measure, POLICY, Plan, Search, Trial, plan, samples, score_milli};
use crate::observe::Metrics;
use crate::transcode::protocol::{Film, Source, TrialJob, Tried};
use crate::transcode::{Client, Error};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Segments that stand for a title.
const SAMPLES: u64 = 4;
const WAITING_MAX: usize = 256;
const TOLD_MAX: usize = 512;
/// So long nobody must have waited for a segment.
const QUIET: Duration = Duration::from_secs(2);
/// A trial that was given up so often is made to its end whoever waits.
const GIVEN_UP_MAX: u32 = 5;
/// A sidecar that is away or busy is asked so often.
const TRIES_MAX: u32 = 20;
const PAUSE: Duration = Duration::from_secs(3);

/// How far a title is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Optimisation {
    /// The library's name.
    pub origin: String,
    pub title: String,
    pub name: String,
    /// `waiting`, `running`, `done` or `failed`.
    pub state: &'static str,
    /// Rungs tried, and all to try; 0: not known yet.
    pub done: usize,
    pub rungs: usize,
    /// Per cent of the fixed ladder's bits that are saved, for players that take every codec, and in H.264 alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_h264_percent: Option<f64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Optimisation {
    fn is_open(&self) -> bool {
        matches!(self.state, "waiting" | "running")
    }
}

/// Why a title is not optimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No film has this id, or this name, or several have.
    NoSuchTitle,
    NoSidecar,
    TooMany,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoSuchTitle => "no film, or more than one, has this id or name: see /titles.json of its library",
            Self::NoSidecar => "no streams are made here: `transcode` is off, or ffmpeg is missing",
            Self::TooMany => "256 titles wait already: try again later",
        })
    }
}

/// Titles that are to be optimised, one at a time, and those that were.
#[derive(Debug)]
pub struct Optimiser {
    client: Arc<Client>,
    films: Arc<Films>,
    origin: String,
    metrics: Arc<Metrics>,
    /// The latest last.
    told: Mutex<VecDeque<Optimisation>>,
    /// Titles that were optimised: parts of the bits saved, with every codec.
    saved: Mutex<HashMap<String, f64>>,
    one: Semaphore,
    stop: CancellationToken,
}

impl Library {
    /// Begins to optimise a title, by its id or its whole name; where it waits or runs already, that one. Whatever it was optimised to
    /// before is found out anew. Needs a runtime.
    pub fn optimise(&self, title: &str) -> Result<Optimisation, Refused> {
        let optimiser = self.state.sidecar.as_ref().map(|sidecar| &sidecar.optimiser).ok_or(Refused::NoSidecar)?;
        let found = self.state.catalog.borrow().as_ref().and_then(|catalog| find(catalog, title));
        let begun = optimiser.begin(&found.ok_or(Refused::NoSuchTitle)?)?;
        Ok(begun)
    }

    /// Whether a title is being optimised, or waits for that.
    pub fn is_optimising(&self) -> bool {
        let is = |sidecar: &super::Sidecar| sidecar.optimiser.told.lock().iter().any(Optimisation::is_open);
        self.state.sidecar.as_ref().is_some_and(is)
    }

    /// Whether a title was optimised, as far as is known here.
    pub fn is_optimised(&self, title: &str) -> bool {
        self.state.sidecar.as_ref().is_some_and(|sidecar| sidecar.optimiser.saved(title).is_some())
    }

    /// What was asked for lately.
    pub fn optimisations(&self) -> Vec<Optimisation> {
        let told = |sidecar: &super::Sidecar| sidecar.optimiser.told.lock().iter().cloned().collect();
        self.state.sidecar.as_ref().map(told).unwrap_or_default()
    }
}

fn find(catalog: &Catalog, wanted: &str) -> Option<Arc<Title>> {
    let films = || catalog.titles().iter().filter(|title| title.kind == Kind::File);
    if let Some(title) = films().find(|title| title.id == wanted) {
        return Some(Arc::clone(title));
    }
    let mut named = films().filter(|title| title.name == wanted);
    named.next().filter(|_| named.next().is_none()).cloned()
}

/// Says which titles the index knows as optimised.
pub fn recall(state: &State, index: &Index) {
    let Some(sidecar) = &state.sidecar else { return };
    let plans = index.all_found(PLAN).into_iter().filter_map(|(id, said)| {
        let plan: Plan = serde_json::from_str(&said).ok()?;
        (plan.policy == POLICY).then(|| (id, f64::from(plan.saved_permille) / 1000.0))
    });
    sidecar.optimiser.saved.lock().extend(plans);
    sidecar.optimiser.count();
}

impl Optimiser {
    pub fn new(client: Arc<Client>, films: Arc<Films>, origin: &str, metrics: Arc<Metrics>) -> Arc<Self> {
        let (told, saved) = (Mutex::default(), Mutex::default());
        Arc::new(Self {
            client,
            films,
            origin: origin.to_owned(),
            metrics,
            told,
            saved,
            one: Semaphore::new(1),
            stop: CancellationToken::new(),
        })
    }

    /// The part of a title's bits that is saved, where it was optimised.
    pub fn saved(&self, title: &str) -> Option<f64> {
        self.saved.lock().get(title).copied()
    }

    fn begin(self: &Arc<Self>, title: &Arc<Title>) -> Result<Optimisation, Refused> {
        let mut told = self.told.lock();
        if let Some(there) = told.iter().find(|told| told.title == title.id && told.is_open()) {
            return Ok(there.clone());
        }
        if told.iter().filter(|told| told.is_open()).count() >= WAITING_MAX {
            return Err(Refused::TooMany);
        }
        told.retain(|told| told.title != title.id);
        if told.len() >= TOLD_MAX
            && let Some(oldest) = told.iter().position(|told| !told.is_open())
        {
            told.remove(oldest);
        }
        let begun = Optimisation {
            origin: self.origin.clone(),
            title: title.id.clone(),
            name: title.name.clone(),
            state: "waiting",
            done: 0,
            rungs: 0,
            saved_percent: None,
            saved_h264_percent: None,
            reason: None,
        };
        told.push_back(begun.clone());
        drop(told);
        let (optimiser, title) = (Arc::clone(self), Arc::clone(title));
        tokio::spawn(async move { optimiser.stop.run_until_cancelled(optimiser.run(&title)).await });
        Ok(begun)
    }

    fn tell(&self, title: &str, change: impl FnOnce(&mut Optimisation)) {
        if let Some(told) = self.told.lock().iter_mut().find(|told| told.title == title) {
            change(told);
        }
    }

    /// Its library is gone.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    async fn run(&self, title: &Title) {
        let Ok(_one) = self.one.acquire().await else { return };
        self.tell(&title.id, |told| told.state = "running");
        match self.optimised(title).await {
            Ok(plan) => {
                let percent = |permille: u32| Some(f64::from(permille) / 10.0);
                self.tell(&title.id, |told| {
                    told.state = "done";
                    told.saved_percent = percent(plan.saved_permille);
                    told.saved_h264_percent = percent(plan.saved_h264_permille);
                });
                self.saved.lock().insert(title.id.clone(), f64::from(plan.saved_permille) / 1000.0);
                self.count();
                tracing::info!(
                    origin = self.origin,
                    title = title.id,
                    saved_permille = plan.saved_permille,
                    "library: a title was optimised"
                );
            }
            Err(error) => {
                tracing::warn!(origin = self.origin, title = title.id, %error, "library: a title could not be optimised");
                self.tell(&title.id, |told| {
                    told.state = "failed";
                    told.reason = Some(error.to_string());
                });
            }
        }
    }

    fn count(&self) {
        let saved = self.saved.lock();
        let mean = saved.values().sum::<f64>() / saved.len().max(1) as f64;
        let labels = [self.origin.as_str()];
        let titles = i64::try_from(saved.len()).unwrap_or(i64::MAX);
        self.metrics.transcode_optimised_titles.with_label_values(&labels).set(titles);
        self.metrics.transcode_optimised_saved_ratio.with_label_values(&labels).set(mean);
    }

    async fn optimised(&self, title: &Title) -> Result<Plan, Error> {
        let source = films::source(title).ok_or_else(|| Error::Unfit("it is no film file".to_owned()))?;
        let film = self.films.film(title, &source).await?;
        let film = Film { plan: None, ..film.as_ref().clone() };
        let codecs: Vec<Codec> = film.encoders.keys().copied().collect();
        let all = rungs(film.width, film.height, &film.grid, &codecs, None);
        self.tell(&title.id, |told| told.rungs = all.len());
        let mut chosen = Vec::new();
        let mut measure = None;
        for rung in &all {
            match self.searched(&source, &film, rung).await {
                Ok((by, found)) => {
                    measure = Some(by);
                    chosen.push(found);
                }
                // Software lacks this codec here. Of H.264 it cannot be.
                Err(Error::Unfit(reason)) if rung.codec != Codec::H264 => {
                    tracing::debug!(title = title.id, rung = rung.name, reason, "library: a rung is left out");
                }
                Err(error) => return Err(error),
            }
            self.tell(&title.id, |told| told.done += 1);
        }
        let measure = measure.ok_or_else(|| Error::Unfit("nothing of it could be tried".to_owned()))?;
        let plan = plan(measure, &chosen);
        self.films.planned(title, &source, &film, plan.clone()).await;
        Ok(plan)
    }

    async fn searched(&self, source: &Source, film: &Film, rung: &Rung) -> Result<(Measure, Chosen), Error> {
        let mut search: Option<Search> = None;
        let mut crf = Some(Search::first(rung.codec));
        let mut by = None;
        // Ends: a search allows so many trials.
        while let Some(trying) = crf {
            let (mut bytes, mut peak, mut seconds, mut scores) = (0, 0.0_f64, 0.0, Vec::new());
            for segment in samples(film.grid.segments(), SAMPLES) {
                let tried = self.tried(source, film, rung, segment, trying).await?;
                let frames = film.grid.frames_of(segment).unwrap_or_default();
                let segment_s = film.grid.time_of(frames.end - frames.start).as_f64();
                bytes += tried.bytes;
                seconds += segment_s;
                peak = peak.max(tried.bytes as f64 * 8.0 / segment_s);
                scores.push(tried.score_milli);
                by = Some(tried.measure);
            }
            let nothing = || Error::Unfit("it has no segments".to_owned());
            let measure = by.ok_or_else(nothing)?;
            let search = search.get_or_insert_with(|| {
                Search::new(rung.codec, measure, measure.target_milli(rung.height), rung.bits_per_s)
            });
            search.add(Trial {
                crf: trying,
                bits_per_s: (bytes as f64 * 8.0 / seconds) as u32,
                peak_bits_per_s: peak as u32,
                score_milli: score_milli(measure, &scores).ok_or_else(nothing)?,
            });
            crf = search.next();
        }
        let trial = search.and_then(|search| search.chosen());
        let (Some(measure), Some(trial)) = (by, trial) else {
            return Err(Error::Failed("no trial says anything".to_owned()));
        };
        let size = rung.size().to_owned();
        let h264 = ladder(film.width, film.height, &film.grid).into_iter().find(|other| other.name == size);
        let fixed_h264_bits_per_s = h264.map_or(rung.bits_per_s, |other| other.bits_per_s);
        let fixed_bits_per_s = rung.bits_per_s;
        Ok((measure, Chosen { size, codec: rung.codec, fixed_bits_per_s, fixed_h264_bits_per_s, trial }))
    }

    /// One trial, when it is quiet.
    async fn tried(&self, source: &Source, film: &Film, rung: &Rung, segment: u64, crf: u8) -> Result<Tried, Error> {
        let job = TrialJob { source: source.clone(), film: film.clone(), rung: rung.name.clone(), segment, crf };
        let (mut given_up, mut tries) = (0, 0);
        loop {
            if given_up < GIVEN_UP_MAX {
                self.films.quiet(QUIET).await;
            }
            let tried = tokio::select! {
                tried = self.client.tried(&job) => self.films.counted("trial", tried),
                () = self.films.disturbed(), if given_up < GIVEN_UP_MAX => {
                    given_up += 1;
                    continue;
                }
            };
            match tried {
                Err(Error::Away(_) | Error::Busy) if tries < TRIES_MAX => {
                    tries += 1;
                    sleep(PAUSE).await;
                }
                other => return other,
            }
        }
    }
}
