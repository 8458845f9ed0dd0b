//! One segment, made and checked: nothing leaves that is not exactly on the title's grid. Blocking.

use super::super::find_program;
use super::super::protocol::{Film, Job, Source, Wanted};
use super::arguments::{self, ENCODERS, Encoder, WARM_UP_FRAMES};
use super::child::{Failure, Kill, run};
use super::jobs::Output;
use super::remux;
use crate::media::aac;
use crate::media::fragment::{Check, Piece, Splitter, Wrong, avc_profile};
use crate::media::ladder::{Rung, SOURCE, ladder};
use crate::media::playlist::AUDIO_BITS_PER_S;
use crate::source::{Folder, Stamp};
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use tokio::sync::watch;

/// Bytes of a segment beside its peak rate: boxes, and what rate control misses on the hardest pictures.
const SPARE_BYTES: usize = 1 << 20;

/// The programs.
#[derive(Debug)]
pub struct Tools {
    pub ffmpeg: PathBuf,
    pub ffprobe: PathBuf,
    /// What ffmpeg says it is.
    pub build: String,
    /// Whether it can turn HDR into SDR; asked when the first such film comes.
    pub maps_tones: OnceLock<bool>,
}

impl Tools {
    /// Finds the programs, and asks ffmpeg what it is.
    pub fn find() -> Result<Self, String> {
        let tool = |name| find_program(name).ok_or(format!("{name} is not in PATH: install ffmpeg"));
        let (ffmpeg, ffprobe) = (tool("ffmpeg")?, tool("ffprobe")?);
        let nothing = File::open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
        let mut said = Vec::new();
        let asked = run(&ffmpeg, &["-version".to_owned()], nothing, &Kill::default(), |bytes| {
            said.extend_from_slice(bytes);
            Ok(())
        });
        asked.map_err(|failure| format!("ffmpeg does not run: {failure:?}"))?;
        let said = String::from_utf8_lossy(&said);
        let build = said.lines().next().unwrap_or_default().chars().take(100).collect();
        Ok(Self { ffmpeg, ffprobe, build, maps_tones: OnceLock::new() })
    }
}

/// Where a job's output goes as it is made.
#[derive(Debug)]
pub struct Sink(watch::Sender<Output>);

impl Sink {
    pub fn new(output: &watch::Sender<Output>) -> Self {
        Self(output.clone())
    }

    pub fn init(&self, bytes: Vec<u8>) {
        self.0.send_modify(|output| output.init = Some(Bytes::from(bytes)));
    }

    pub fn fragment(&self, bytes: Vec<u8>) {
        self.0.send_modify(|output| output.fragments.push(Bytes::from(bytes)));
    }
}

/// Opens a film, if it is still the version that is meant.
pub fn open(source: &Source) -> io::Result<Option<File>> {
    let file = Folder::new(&source.folder).open(&source.path)?;
    Ok((Stamp::of(&file)? == source.stamp).then_some(file))
}

pub fn make(tools: &Tools, job: &Job, kill: &Kill, sink: &Sink) -> Result<(), Failure> {
    let failed = |why: &str| Failure::Failed(why.to_owned());
    let film = open(&job.source).map_err(|error| failed(&format!("the film cannot be opened: {}", error.kind())))?;
    let film = film.ok_or_else(|| failed("the film has changed"))?;
    let beyond = || failed("the title has no such segment");
    match &job.wanted {
        Wanted::Init { rung } => video(tools, &job.film, rung, 0, film, kill, sink),
        Wanted::Video { rung, segment } => video(tools, &job.film, rung, *segment, film, kill, sink),
        Wanted::Audio { segment } => {
            let frames = job.film.grid.audio_frames_of(*segment).ok_or_else(beyond)?;
            let audio = job.film.audio.as_ref().ok_or_else(beyond)?;
            let wanted = usize::try_from(frames.end - frames.start).map_err(|_| beyond())?;
            let skipped = WARM_UP_FRAMES as usize + 1;
            let bytes_max = (wanted + skipped + 2) * (AUDIO_BITS_PER_S as usize / 8);
            let mut adts = Vec::new();
            run(&tools.ffmpeg, &arguments::audio(&job.film, audio, &frames), film, kill, |bytes| {
                adts.extend_from_slice(bytes);
                if adts.len() > bytes_max { Err(Wrong::TooLong.to_string()) } else { Ok(()) }
            })?;
            let all = aac::adts_frames(&adts).ok_or_else(|| failed("the output is no AAC as asked for"))?;
            let kept = all.get(skipped..skipped + wanted).ok_or_else(|| failed(&Wrong::FrameCount.to_string()))?;
            sink.fragment(aac::fragment(frames.start, kept));
            Ok(())
        }
    }
}

fn video(
    tools: &Tools,
    film: &Film,
    rung: &str,
    segment: u64,
    file: File,
    kill: &Kill,
    sink: &Sink,
) -> Result<(), Failure> {
    let missing = || Failure::Failed("the title has no such segment".to_owned());
    if rung == SOURCE {
        return remux::segment(tools, film, segment, file, kill, sink);
    }
    let encoder = ENCODERS.iter().find(|encoder| encoder.name == film.encoder);
    let encoder: &Encoder = encoder.ok_or_else(|| Failure::Failed("this encoder is not here".to_owned()))?;
    let rung: Rung =
        ladder(film.width, film.height, &film.grid).into_iter().find(|r| r.name == rung).ok_or_else(missing)?;
    let frames = film.grid.frames_of(segment).ok_or_else(missing)?;

    let seconds = film.grid.time_of(frames.end - frames.start).as_f64();
    let bytes_max = (f64::from(rung.peak_bits_per_s()) / 8.0 * seconds * 2.0) as usize + SPARE_BYTES;
    let mut splitter = Splitter::new(bytes_max);
    let mut check = Check::new(&frames, film.grid.frame_ticks());
    let arguments = arguments::video(film, &rung, &frames, encoder);
    run(&tools.ffmpeg, &arguments, file, kill, |bytes| {
        for piece in splitter.push(bytes).map_err(|wrong| wrong.to_string())? {
            match piece {
                Piece::Init(init) => {
                    // The playlist has said so before anything was encoded.
                    if avc_profile(&init) != Some([100, 0, rung.level]) {
                        return Err(Wrong::Profile.to_string());
                    }
                    sink.init(init);
                }
                Piece::Fragment(fragment) => {
                    check.fragment(&fragment).map_err(|wrong| wrong.to_string())?;
                    sink.fragment(fragment);
                }
            }
        }
        Ok(())
    })?;
    splitter.finish().and_then(|()| check.finish()).map_err(|wrong| Failure::Failed(wrong.to_string()))
}
