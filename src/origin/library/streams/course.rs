//! The files of one rendition in a row, for whoever has them made when there is time.

use super::offer::{Asked, Found, Offer, TextFrom};
use super::{Streams, subtitles};
use crate::media::ladder::SOURCE;
use crate::origin::library::catalog::Title;
use crate::origin::library::films;
use crate::transcode::Error;
use crate::transcode::protocol::{Ahead, Job, Source, Wanted};

/// Bytes of a minute of text; more than most are.
const TEXT_BYTES: u64 = 16 << 10;

/// See the module. It holds for one version of a film.
#[derive(Debug)]
pub struct Course {
    rendition: String,
    version: String,
    extension: &'static str,
    has_init: bool,
    /// How many segments there are, but for the head of all.
    pub segments: u64,
    /// Of one segment, about.
    pub segment_bytes: u64,
    /// Several are made at once; else each by itself.
    pub in_batches: bool,
    /// Its first segment.
    job: Job,
}

impl Course {
    /// Below the title's address: the head of all segments, where there is one, then they.
    pub fn files(&self) -> u64 {
        self.segments + u64::from(self.has_init)
    }

    /// The name of a file, counted as in [`Self::files`].
    pub fn file(&self, at: u64) -> String {
        let Self { rendition, version, extension, .. } = self;
        match at.checked_sub(self.has_init.into()) {
            None => format!("{rendition}/{version}/init.mp4"),
            Some(segment) => format!("{rendition}/{version}/{segment}.{extension}"),
        }
    }

    /// What the files from `at` on, so many of them, are made of.
    fn ahead(&self, at: u64, files: u64) -> Ahead {
        let first = at.saturating_sub(self.has_init.into());
        let head_too = u64::from(self.has_init && at == 0);
        let mut job = self.job.clone();
        if let Wanted::Video { segment, .. } | Wanted::Audio { segment, .. } | Wanted::Text { segment, .. } =
            &mut job.wanted
        {
            *segment = first;
        }
        Ahead { job, segments: files.saturating_sub(head_too).max(1) }
    }
}

impl Streams {
    /// A rendition by its name; None: the title has none of that name (any more).
    pub async fn course(&self, title: &Title, rendition: &str) -> Result<Option<Course>, Error> {
        let Some(source) = films::source(title) else { return Ok(None) };
        let film = self.films.film(title, &source).await?;
        let files = if rendition.starts_with("text-") { subtitles::beside(title).await } else { Vec::new() };
        let mut offer = Offer::new(&film, &source.stamp, self.codecs.as_deref(), files);
        if rendition == SOURCE {
            offer.rungs.extend(self.copies.rung_of(&title.id, &source, &film));
        }
        let Some(found) = offer.find(rendition) else { return Ok(None) };
        let extension = if matches!(found, Found::Text(..)) { "vtt" } else { "m4s" };
        let Some(Asked::Of(wanted)) = offer.asked(&found, &format!("0.{extension}")) else { return Ok(None) };
        let segment_s = offer.grid.time_of(offer.grid.segment_frames()).as_f64();
        let bytes = |bits_per_s: u32| (f64::from(bits_per_s) / 8.0 * segment_s) as u64;
        let segments = match &found {
            Found::Text(text, _) if text.whole => 1,
            Found::Text(..) => offer.grid.text_segments(),
            _ => offer.grid.segments(),
        };
        let segment_bytes = match &found {
            Found::Video(rung) if rung.bits_per_s == 0 => source.stamp.bytes / segments.max(1),
            Found::Video(rung) => bytes(rung.bits_per_s),
            Found::Audio(audio, _) => bytes(audio.layout.bits_per_s()),
            Found::Text(..) => TEXT_BYTES,
        };
        let source = match &found {
            Found::Text(_, TextFrom::File(file)) => {
                Source { path: file.path(&source.path), stamp: file.stamp, ..source }
            }
            _ => source,
        };
        Ok(Some(Course {
            rendition: rendition.to_owned(),
            version: offer.version_of(&found).to_owned(),
            extension,
            has_init: extension == "m4s",
            segments,
            segment_bytes,
            in_batches: matches!(found, Found::Video(_)),
            job: Job { title: title.id.clone(), source, film: film.as_ref().clone(), wanted },
        }))
    }

    /// Has files made, to be asked for soon; only where the sidecar has nothing else to do.
    pub async fn make_ahead(&self, course: &Course, at: u64, files: u64) -> Result<(), Error> {
        let made = self.client.ahead(&course.ahead(at, files)).await;
        if made == Err(Error::Changed) {
            self.films.forget(&course.job.title);
        }
        made
    }
}
