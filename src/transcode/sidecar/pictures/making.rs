//! Runs of ffmpeg that make pictures, one or several, and what comes of them. Blocking.
//!
//! Invariant: what is made of a job does not depend on the jobs beside it.

use super::super::super::protocol::{Film, PICTURE_BYTES_MAX, PictureJob, PictureOf};
use super::super::child::{Failure, Kill, run_pictures};
use super::super::segment::open;
use super::super::tools::{Toolbox, Tools};
use super::Made;
use super::arguments::{self, Shot};
use super::encoders::{PictureEncoder, encoder};
use std::fs::File;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;

/// A file with a picture that is longer than this is not read.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// That tell what kind of picture it is.
const MAGIC_BYTES: usize = 12;

/// One for each job, in their order; or one failure for all.
pub fn produce(toolbox: &Toolbox, jobs: &[PictureJob], kill: &Kill) -> Vec<Made> {
    let tools = match toolbox.now() {
        Ok(tools) => tools,
        Err(failure) => return vec![Err(failure)],
    };
    // What is not right after a run for several is made alone: one bad place of a film must not cost the others their pictures.
    let mut together = if jobs.len() > 1 { together(&tools, jobs, kill).unwrap_or_default() } else { Vec::new() };
    if kill.was_used() {
        return vec![Err(Failure::Killed)];
    }
    together.resize(jobs.len(), None);
    jobs.iter().zip(together).map(|(job, made)| made.map_or_else(|| alone(&tools, job, kill), Ok)).collect()
}

fn together(tools: &Tools, jobs: &[PictureJob], kill: &Kill) -> Result<Vec<Option<bytes::Bytes>>, Failure> {
    let Some((first, PictureOf::Frame { film, .. })) = jobs.first().map(|job| (job, &job.of)) else {
        return Ok(Vec::new());
    };
    let source = opened(tools, first)?;
    let encoders: Vec<PictureEncoder> =
        jobs.iter().map(|job| encoder(tools, job.format, kill)).collect::<Result<_, _>>()?;
    let shots: Vec<Shot> = jobs.iter().zip(&encoders).filter_map(|(job, encoder)| shot(job, encoder)).collect();
    if shots.len() != jobs.len() {
        return Ok(Vec::new());
    }
    let written = run(tools, jobs.len(), source, kill, |outputs| arguments::frames(film, &shots, outputs))?;
    Ok(encoders.iter().zip(written).map(|(encoder, written)| encoder.finish(written)).collect())
}

fn shot<'a>(job: &PictureJob, encoder: &'a PictureEncoder) -> Option<Shot<'a>> {
    match job.of {
        PictureOf::Frame { at_ms, .. } => Some(Shot { at_ms: Some(at_ms), size: job.size, encoder }),
        PictureOf::File | PictureOf::Sheet { .. } => None,
    }
}

fn alone(tools: &Tools, job: &PictureJob, kill: &Kill) -> Made {
    let encoder = encoder(tools, job.format, kill)?;
    let none = || Failure::Failed("it has no picture that can be decoded".to_owned());
    let once = |source: File, line: &dyn Fn(&[String]) -> Vec<String>| {
        let mut written = run(tools, 1, source, kill, line)?;
        Ok(written.pop().and_then(|written| encoder.finish(written)))
    };
    match &job.of {
        PictureOf::File => {
            let source = opened(tools, job)?;
            let line = line_of_file(&source, job.size, &encoder)?;
            once(source, &|_| line.clone())?.ok_or_else(none)
        }
        PictureOf::Sheet { film, sheet } => {
            once(opened(tools, job)?, &|_| arguments::sheet(film, *sheet, job.size, &encoder))?.ok_or_else(none)
        }
        PictureOf::Frame { film, at_ms } => {
            let shot = |at_ms| Shot { at_ms, size: job.size, encoder: &encoder };
            let line = |film: &Film, at_ms, outputs: &[String]| arguments::frames(film, &[shot(at_ms)], outputs);
            if let Some(made) = once(opened(tools, job)?, &|outputs| line(film, Some(*at_ms), outputs))? {
                return Ok(made);
            }
            // It cannot be searched, or has no keyframe where one should be.
            once(opened(tools, job)?, &|outputs| line(film, None, outputs))?.ok_or_else(none)
        }
    }
}

fn line_of_file(source: &File, size: (u32, u32), encoder: &PictureEncoder) -> Result<Vec<String>, Failure> {
    let unread = |error: std::io::Error| Failure::Machine(format!("the picture cannot be read: {}", error.kind()));
    if source.metadata().map_err(unread)?.len() > FILE_BYTES_MAX {
        return Err(Failure::Failed("the picture's file is too long".to_owned()));
    }
    let mut begins = [0; MAGIC_BYTES];
    let read = source.read_at(&mut begins, 0).map_err(unread)?;
    let line = arguments::file(&begins[..read], size, encoder);
    line.ok_or_else(|| Failure::Failed("the picture is neither JPEG nor PNG nor WebP".to_owned()))
}

/// The file of a job, where both it and what makes pictures are what the job is about.
fn opened(tools: &Tools, job: &PictureJob) -> Result<File, Failure> {
    if !tools.is_of(&job.build) {
        return Err(Failure::Mismatch("what makes pictures is another one by now".to_owned()));
    }
    open(&job.source)
}

/// What each output got.
fn run(
    tools: &Tools,
    outputs: usize,
    source: File,
    kill: &Kill,
    line: impl FnOnce(&[String]) -> Vec<String>,
) -> Result<Vec<Vec<u8>>, Failure> {
    let mut written = vec![Vec::new(); outputs];
    let named = |descriptors: &[RawFd]| line(&descriptors.iter().map(|to| format!("pipe:{to}")).collect::<Vec<_>>());
    run_pictures(&tools.ffmpeg, outputs, named, source, kill, |which, bytes| {
        let picture: &mut Vec<u8> = &mut written[which];
        picture.extend_from_slice(bytes);
        if picture.len() > PICTURE_BYTES_MAX { Err("its picture is too long".into()) } else { Ok(()) }
    })?;
    Ok(written)
}
