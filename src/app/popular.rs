//! Makes what popular titles lack in the cache, while nobody waits for a segment: the library has the transcoder make some, and the
//! edge asks itself for them, so that they become ordinary objects.
//!
//! Invariants: what the store holds is neither made nor read again; a rendition is gone through once a day; the renditions that are
//! completed are no more bytes than configured; nobody waits for any of it, for whatever a client wants comes first.

use super::explain;
use super::idle::{Step, Work};
use crate::cache::MemoryStore;
use crate::config::Background;
use crate::edge::{Asker, Generation};
use crate::observe::Metrics;
use crate::origin::library::{Course, Popular};
use crate::transcode::Error;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Media seconds of a segment, about: popularity counts segments.
const SEGMENT_S: f64 = 4.0;
/// Made by one run of an encoder, whose outputs may end together: somebody may want the first of them meanwhile.
const BATCH: u64 = 4;
/// Looks into the store in one step.
const LOOKS_MAX: u64 = 64;
/// A rendition is gone through again after this: what the store has let go since was not wanted by then. So long, too, a title that could
/// not be optimised is left alone.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Renditions remembered as done.
const DONE_MAX: usize = 4096;

/// From how many segments on a title is popular.
pub(super) fn segments_min(settings: &Background) -> f64 {
    settings.watched_min.as_secs_f64() / SEGMENT_S
}

/// See the module.
pub(super) struct PopularTitles {
    pub settings: Background,
    pub generation: Arc<ArcSwap<Generation>>,
    pub store: &'static MemoryStore,
    pub asker: Asker,
    pub metrics: Arc<Metrics>,
    pub under_way: Option<UnderWay>,
    /// By the address of a rendition's first file, which names its version.
    pub done: HashMap<String, Instant>,
}

/// A rendition that is being gone through.
pub(super) struct UnderWay {
    origin: String,
    popular: Popular,
    course: Course,
    /// The first file that was not looked for yet.
    next: u64,
}

impl UnderWay {
    fn url(&self, at: u64) -> String {
        format!("http://{}{}", self.popular.host, self.popular.path(&self.course.file(at)))
    }
}

#[async_trait::async_trait]
impl Work for PopularTitles {
    async fn step(&mut self) -> Step {
        let generation = self.generation.load_full();
        if !generation.origins.all_libraries().iter().all(|(_, library)| library.is_quiet()) {
            return Step::NotNow;
        }
        let under_way = match self.under_way.take() {
            Some(under_way) => Some(under_way),
            None => self.choose(&generation).await,
        };
        let Some(mut under_way) = under_way else { return Step::Nothing };
        let (step, goes_on) = self.go_on(&generation, &mut under_way).await;
        if goes_on {
            self.under_way = Some(under_way);
        } else {
            if self.done.len() >= DONE_MAX {
                self.done.clear();
            }
            self.done.insert(under_way.url(0), Instant::now());
        }
        step
    }
}

impl PopularTitles {
    /// The next rendition, of the most popular title that has one to be gone through.
    async fn choose(&mut self, generation: &Generation) -> Option<UnderWay> {
        self.done.retain(|_, at| at.elapsed() < AGAIN_AFTER);
        let mut bytes_left = self.settings.bytes_max;
        for (origin, library) in generation.origins.all_libraries() {
            for popular in library.popular(segments_min(&self.settings), self.settings.titles_max) {
                for rendition in &popular.renditions {
                    // What cannot be made now is looked for again at the next choice.
                    let Ok(Some(course)) = library.course(&popular.title, rendition).await else { continue };
                    let bytes = course.segments.saturating_mul(course.segment_bytes);
                    let Some(left) = bytes_left.checked_sub(bytes) else { continue };
                    bytes_left = left;
                    let (origin, popular) = (origin.to_owned(), popular.clone());
                    let chosen = UnderWay { origin, popular, course, next: 0 };
                    if !self.done.contains_key(&chosen.url(0)) {
                        return Some(chosen);
                    }
                }
            }
        }
        None
    }

    /// Some files further. Whether there may be more.
    async fn go_on(&self, generation: &Generation, under_way: &mut UnderWay) -> (Step, bool) {
        let files = under_way.course.files();
        let Some(library) = generation.origins.library(&under_way.origin) else { return (Step::Worked, false) };
        let looked_until = files.min(under_way.next + LOOKS_MAX);
        let is_held = async |at| explain::is_held(&generation.config, self.store, &under_way.url(at)).await;
        let mut at = under_way.next;
        while at < looked_until && is_held(at).await {
            at += 1;
        }
        let batch = if under_way.course.in_batches { BATCH } else { 1 };
        let mut missing = 0;
        while missing < batch && at + missing < looked_until && !is_held(at + missing).await {
            missing += 1;
        }
        under_way.next = at;
        if missing == 0 {
            return (Step::Worked, at < files);
        }
        let count = |outcome: &str, files| {
            let counter = self.metrics.background_files.with_label_values(&[under_way.origin.as_str(), outcome]);
            counter.inc_by(files);
        };
        match library.make_ahead(&under_way.course, at, missing).await {
            Ok(()) => {}
            Err(Error::Busy | Error::Away(_)) => {
                count("yielded", missing);
                return (Step::NotNow, true);
            }
            // What it is now is under another address.
            Err(Error::Changed) => return (Step::Worked, false),
            Err(error @ (Error::Unfit(_) | Error::Failed(_))) => {
                count("failed", missing);
                tracing::info!(title = under_way.popular.title, %error, "a popular title is left as it is for a day");
                return (Step::Worked, false);
            }
        }
        let Popular { title, host, .. } = &under_way.popular;
        for at in at..at + missing {
            let inquired = self.asker.ask(host, &under_way.popular.path(&under_way.course.file(at))).await;
            let Some(bytes) = inquired.filter(|got| got.status == 200 && got.whole).map(|got| got.body_bytes) else {
                count("failed", 1);
                tracing::info!(title, ?inquired, "a popular title is left as it is for a day");
                return (Step::Worked, false);
            };
            count("made", 1);
            self.metrics.background_bytes.with_label_values(&[&under_way.origin]).inc_by(bytes);
        }
        under_way.next = at + missing;
        (Step::Worked, under_way.next < files)
    }
}
