//! One segment, made and checked: nothing leaves that is not exactly on the title's grid. Blocking.

use super::super::find_program;
use super::super::protocol::{Film, Job, Source, Wanted};
use super::arguments::{self, ENCODERS, Encoder};
use super::child::{Failure, Kill, run};
use super::jobs::Output;
use super::remux;
use crate::media::fragment::{Check, Piece, Splitter, Wrong, avc_profile};
use crate::media::ladder::{Rung, SOURCE, ladder};
use crate::source::{Folder, Stamp};
use bytes::Bytes;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tokio::sync::watch;

mod audio;
mod text;

/// Bytes of a segment beside its peak rate: boxes, and what rate control misses on the hardest pictures.
const SPARE_BYTES: usize = 1 << 20;

/// The list of codecs has about fifty thousand.
const SAID_BYTES_MAX: usize = 1 << 20;

/// The programs.
#[derive(Debug)]
pub struct Tools {
    pub ffmpeg: PathBuf,
    pub ffprobe: PathBuf,
    /// What ffmpeg says it is.
    pub build: String,
    /// Whether it can turn HDR into SDR; asked when the first such film comes.
    pub maps_tones: OnceLock<bool>,
    /// Names of the codecs that it decodes; None where it did not say.
    pub decodable: Option<HashSet<String>>,
}

impl Tools {
    /// Finds the programs, and asks ffmpeg what it is.
    pub fn find() -> Result<Self, String> {
        let tool = |name| find_program(name).ok_or(format!("{name} is not in PATH: install ffmpeg"));
        let (ffmpeg, ffprobe) = (tool("ffmpeg")?, tool("ffprobe")?);
        let said = said_by(&ffmpeg, "-version").map_err(|why| format!("ffmpeg does not run: {why}"))?;
        let build = said.lines().next().unwrap_or_default().chars().take(100).collect();
        let decodable = said_by(&ffprobe, "-codecs").ok().map(|said| decodable(&said)).filter(|all| !all.is_empty());
        Ok(Self { ffmpeg, ffprobe, build, decodable, maps_tones: OnceLock::new() })
    }
}

/// What a program answers to a question about itself.
fn said_by(program: &Path, question: &str) -> Result<String, String> {
    let nothing = File::open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
    let mut said = Vec::new();
    run(program, &[question.to_owned()], nothing, &Kill::default(), |bytes| {
        said.extend_from_slice(bytes);
        if said.len() > SAID_BYTES_MAX { Err("it says too much".into()) } else { Ok(()) }
    })
    .map_err(|failure| format!("{failure:?}"))?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// ` DEA.L. aac    AAC (Advanced Audio Coding)`: D for decodable.
fn decodable(said: &str) -> HashSet<String> {
    let lines = said.lines().filter_map(|line| line.strip_prefix(" D")).filter(|rest| !rest.contains(" = "));
    lines.filter_map(|rest| rest.split_ascii_whitespace().nth(1)).map(str::to_owned).collect()
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
    match &job.wanted {
        Wanted::Init { rung } => video(tools, &job.film, rung, 0, film, kill, sink),
        Wanted::Video { rung, segment } => video(tools, &job.film, rung, *segment, film, kill, sink),
        Wanted::Audio { stream, layout, segment } => {
            audio::make(tools, &job.film, (*stream, *layout), *segment, film, kill, sink)
        }
        Wanted::Text { stream, segment } => text::make(tools, &job.film, *stream, *segment, film, kill, sink),
        Wanted::TextFile { format } => text::file(tools, &job.film, *format, film, kill, sink),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_that_can_be_decoded_are_known_by_name() {
        let said = "Codecs:\n D..... = Decoding supported\n -------\n D.VI.S 012v   Uncompressed 4:2:2 10-bit\n .EVIL. a64  x\n DEAIL. aac   AAC\n";
        assert_eq!(decodable(said), ["012v", "aac"].map(str::to_owned).into());
    }
}
