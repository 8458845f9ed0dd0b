//! One segment, made and checked: nothing leaves that is not exactly on the title's grid. Blocking.

use super::super::protocol::{Film, Job, Source, Wanted};
use super::arguments::{self, Approach, Means};
use super::batch;
use super::child::{Failure, Kill, run_split};
use super::encoders::{self, Encoder, Family};
use super::output::Sink;
use super::remux;
use super::tools::Tools;
use crate::media::fragment::{Check, Piece, Splitter, Wrong, coded};
use crate::media::ladder::{Rung, SOURCE};
use crate::media::level::Coded;
use crate::source::{Folder, Stamp};
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

mod audio;
mod text;

/// Bytes of a segment beside its peak rate: boxes, and what rate control misses on the hardest pictures.
const SPARE_BYTES: usize = 1 << 20;

/// Opens a film's file, or one beside it, if it is still the version that is meant.
pub fn open(source: &Source) -> Result<File, Failure> {
    let opened = Folder::new(&source.folder).open(&source.path).and_then(|file| Ok((Stamp::of(&file)?, file)));
    match opened {
        Ok((stamp, file)) if stamp == source.stamp => Ok(file),
        Ok(_) => Err(Failure::Mismatch("the file has changed".to_owned())),
        Err(error) => Err(Failure::Mismatch(format!("the file cannot be opened: {}", error.kind()))),
    }
}

/// Makes a segment and, of video, as many of the next ones as there are sinks for. What is whole, and on the grid, is published at
/// once, whatever becomes of the rest. `means`: what encodes video; None: software.
pub fn make(tools: &Tools, job: &Job, means: Option<&Means>, kill: &Kill, sinks: &[Sink]) -> Result<(), Failure> {
    let failed = |why: &str| Failure::Failed(why.to_owned());
    tools.expect_makes(&job.film)?;
    let film = open(&job.source)?;
    let first = || sinks.first().ok_or_else(|| failed("nobody takes it"));
    match &job.wanted {
        Wanted::Init { rung } => video(tools, &job.film, (rung, 0), means, film, kill, sinks),
        Wanted::Video { rung, segment } => video(tools, &job.film, (rung, *segment), means, film, kill, sinks),
        Wanted::Audio { stream, layout, segment } => {
            audio::make(tools, &job.film, (*stream, *layout), *segment, film, kill, first()?)
        }
        Wanted::Text { stream, segment } => text::make(tools, &job.film, *stream, *segment, film, kill, first()?),
        Wanted::TextFile { format } => text::file(tools, &job.film, *format, film, kill, first()?),
    }
}

/// What a film was to be encoded by; None: nothing is encoded, or by nothing that is known here.
pub fn encoder_of(job: &Job) -> Option<&'static Encoder> {
    let (Wanted::Init { rung } | Wanted::Video { rung, .. }) = &job.wanted else { return None };
    chosen(&job.film, &job.film.rung(rung)?)
}

fn chosen(film: &Film, rung: &Rung) -> Option<&'static Encoder> {
    match rung.aim {
        Some(_) => Some(encoders::software(rung.codec)),
        None => film.encoders.get(&rung.codec).and_then(|name| encoders::named(name)),
    }
}

fn video(
    tools: &Tools,
    film: &Film,
    (name, segment): (&str, u64),
    means: Option<&Means>,
    file: File,
    kill: &Kill,
    sinks: &[Sink],
) -> Result<(), Failure> {
    let again = || file.try_clone().map_err(|error| Failure::Machine(format!("the film: {error}")));
    if name == SOURCE {
        return (segment..)
            .zip(sinks)
            .try_for_each(|(segment, sink)| remux::segment(tools, film, segment, again()?, kill, sink));
    }
    let missing = || Failure::Mismatch("the title has no such segment".to_owned());
    let rung = film.rung(name).ok_or_else(missing)?;
    chosen(film, &rung).ok_or_else(|| Failure::Mismatch("this encoder is not here".to_owned()))?;
    let software = Means::software(rung.codec);
    let means = means.filter(|means| means.encoder.codec == rung.codec && rung.aim.is_none()).unwrap_or(&software);
    encode(tools, film, (&rung, segment), means, file, kill, sinks)
}

/// Segments of a rung, from one on: as many as there are sinks.
pub fn encode(
    tools: &Tools,
    film: &Film,
    (rung, segment): (&Rung, u64),
    means: &Means,
    file: File,
    kill: &Kill,
    sinks: &[Sink],
) -> Result<(), Failure> {
    let missing = || Failure::Mismatch("the title has no such segment".to_owned());
    let again = || file.try_clone().map_err(|error| Failure::Machine(format!("the film: {error}")));
    let first = film.grid.frames_of(segment).ok_or_else(missing)?;
    let made_by = made_by(means.encoder);
    sinks.iter().for_each(|sink| sink.begin(&made_by));
    for approach in arguments::approaches(film, &first) {
        match encode_from(tools, film, (rung, segment), (means, approach), again()?, kill, sinks) {
            Err(Failure::Failed(reason)) if reason == NOTHING => {}
            ended => return ended,
        }
    }
    Err(Failure::Failed("no frame of it can be decoded".to_owned()))
}

/// No keyframe was met before the first frame.
const NOTHING: &str = "nothing came out";

fn encode_from(
    tools: &Tools,
    film: &Film,
    (rung, segment): (&Rung, u64),
    (means, approach): (&Means, Approach),
    file: File,
    kill: &Kill,
    sinks: &[Sink],
) -> Result<(), Failure> {
    let missing = || Failure::Mismatch("the title has no such segment".to_owned());
    let again = || file.try_clone().map_err(|error| Failure::Machine(format!("the film: {error}")));
    let each = (segment..).zip(sinks).map(|(segment, sink)| Shaping::new(film, rung, segment, sink));
    let mut each = each.collect::<Option<Vec<_>>>().ok_or_else(missing)?;
    let (Some(first), Some(last)) = (each.first(), each.last()) else { return Err(missing()) };
    let line = arguments::video(film, rung, &(first.frames.start..last.frames.end), means, approach);

    let ranges: Vec<_> = each.iter().map(|shaping| shaping.frames.clone()).collect();
    let parts = |descriptors: &[i32]| ranges.iter().cloned().zip(descriptors.iter().copied()).collect::<Vec<_>>();
    if each.len() > 1 && batch::split(&line, &parts(&vec![1; each.len()])).is_none() {
        // Not to be had from one run: one after the other.
        return (segment..).zip(sinks).try_for_each(|(segment, sink)| {
            encode(tools, film, (rung, segment), means, again()?, kill, std::slice::from_ref(sink))
        });
    }
    let lines = |descriptors: &[i32]| match descriptors.len() {
        1 => line.clone(),
        _ => batch::split(&line, &parts(descriptors)).unwrap_or_default(),
    };
    let on_device = means.encoder.family != Family::Software;
    each.iter_mut().for_each(|shaping| shaping.holds_init = approach.sure);
    let ran =
        run_split(&tools.ffmpeg, (ranges.len(), on_device), lines, file, kill, |which, bytes| each[which].push(bytes));
    let nothing = approach.sure && each.iter().all(|shaping| !shaping.began);
    match ran {
        // However it ended: an encoder that got no frame may call that an error.
        Ok(()) | Err(Failure::Failed(_)) if nothing => return Err(Failure::Failed(NOTHING.to_owned())),
        ran => ran?,
    }
    each.into_iter().try_for_each(|shaping| shaping.finish().map_err(Failure::Failed))
}

/// Software makes the same bytes each time. Of devices nobody knows, least of two that are not the same: each run of one is told apart,
/// and so are the entity-tags of what it makes.
fn made_by(encoder: &Encoder) -> Arc<str> {
    if encoder.family == Family::Software {
        return encoder.name.into();
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{:x}", encoder.name, since.as_nanos()).into()
}

/// About how many bytes a segment will have; of video.
pub fn bytes_expected(film: &Film, rendition: &str) -> Option<u64> {
    let rung = film.rung(rendition)?;
    let seconds = film.grid.time_of(film.grid.segment_frames()).as_f64();
    Some((f64::from(rung.peak_bits_per_s()) / 8.0 * seconds) as u64)
}

/// One segment of video on its way from the encoder to those who wait.
struct Shaping<'a> {
    frames: Range<u64>,
    promised: Coded,
    splitter: Splitter,
    check: Check,
    sink: &'a Sink,
    /// The head waits for a fragment: a run may come to nothing, and begin again.
    holds_init: bool,
    init: Option<Vec<u8>>,
    /// A fragment came.
    began: bool,
}

impl<'a> Shaping<'a> {
    /// None: the title has no such segment.
    fn new(film: &Film, rung: &Rung, segment: u64, sink: &'a Sink) -> Option<Self> {
        let frames = film.grid.frames_of(segment)?;
        let seconds = film.grid.time_of(frames.end - frames.start).as_f64();
        let bytes_max = (f64::from(rung.peak_bits_per_s()) / 8.0 * seconds * 2.0) as usize + SPARE_BYTES;
        let check = Check::new(&frames, film.grid.frame_ticks());
        let (promised, splitter) = (rung.promised(), Splitter::new(bytes_max));
        Some(Self { frames, promised, splitter, check, sink, holds_init: false, init: None, began: false })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        for piece in self.splitter.push(bytes).map_err(|wrong| wrong.to_string())? {
            match piece {
                Piece::Init(init) => {
                    // The playlist has said so before anything was encoded.
                    if !coded(&init).is_some_and(|coded| coded.keeps(&self.promised)) {
                        return Err(Wrong::Profile.to_string());
                    }
                    if self.holds_init {
                        self.init = Some(init);
                    } else {
                        self.sink.init(init);
                    }
                }
                Piece::Fragment(fragment) => {
                    self.began = true;
                    self.init.take().into_iter().for_each(|init| self.sink.init(init));
                    self.check.fragment(&fragment).map_err(|wrong| wrong.to_string())?;
                    self.sink.fragment(fragment);
                    if self.check.finish().is_ok() {
                        self.sink.end(Ok(()));
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(), String> {
        self.splitter.finish().and_then(|()| self.check.finish()).map_err(|wrong| wrong.to_string())
    }
}
