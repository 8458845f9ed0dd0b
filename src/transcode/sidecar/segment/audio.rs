//! One segment of audio: AAC frames put into boxes of our own.

use super::super::arguments::{self, WARM_UP_FRAMES};
use super::super::child::{Failure, Kill, run};
use super::{Sink, Tools};
use crate::media::aac::{self, Layout};
use crate::media::fragment::Wrong;
use crate::media::grid::AUDIO_FRAME_SAMPLES;
use crate::transcode::protocol::Film;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{Seek, Write};
use std::ops::Range;

/// Of a sample of one channel.
const SAMPLE_BYTES: usize = 4;
/// Where a track changes, packets before and after it may overlap, or leave a gap.
const OVERLAP_SAMPLES_MAX: usize = 4096;
/// As many changes in one segment are read.
const CHANGES_MAX: usize = 6;

/// `track`: which stream, and how.
pub fn make(
    tools: &Tools,
    film: &Film,
    track: (u32, Layout),
    segment: u64,
    file: File,
    kill: &Kill,
    sink: &Sink,
) -> Result<(), Failure> {
    let failed = |why: &str| Failure::Failed(why.to_owned());
    let beyond = || Failure::Mismatch("the title has no such segment".to_owned());
    let (stream, layout) = track;
    let frames = film.grid.audio_frames_of(segment).ok_or_else(beyond)?;
    let audio = film.audio.iter().find(|audio| audio.stream == stream).ok_or_else(beyond)?;
    let wanted = usize::try_from(frames.end - frames.start).map_err(|_| beyond())?;
    let skipped = WARM_UP_FRAMES as usize + 1;
    let bytes_max = (wanted + skipped + 2) * (layout.bits_per_s() as usize / 8);
    let encode = |arguments: &[String], file| {
        let mut adts = Vec::new();
        run(&tools.ffmpeg, arguments, file, kill, |bytes| {
            adts.extend_from_slice(bytes);
            if adts.len() > bytes_max { Err(Wrong::TooLong.to_string()) } else { Ok(()) }
        })?;
        Ok(adts)
    };
    let again = file.try_clone().map_err(|error| Failure::Machine(format!("the film: {error}")))?;
    let mut adts = encode(&arguments::audio(film, audio, layout, &frames), file)?;
    // The encoder's own frame, and one that may be begun.
    let most = (arguments::span(&frames).1 / i128::from(AUDIO_FRAME_SAMPLES)) as usize + 2;
    if aac::adts_frames(&adts, layout).is_some_and(|all| all.len() > most) {
        let joined = joined(tools, &arguments::samples(film, audio, layout, &frames), layout, &frames, again, kill)?;
        adts = encode(&arguments::encoded(layout), joined)?;
    }
    if adts.is_empty() {
        // The track has ended before this segment: there is nothing that could be padded.
        let nothing = File::open("/dev/null").map_err(|error| Failure::Machine(format!("/dev/null: {error}")))?;
        adts = encode(&arguments::silence(layout, &frames), nothing)?;
    }
    let all = aac::adts_frames(&adts, layout).ok_or_else(|| failed("the output is no AAC as asked for"))?;
    let kept = all.get(skipped..skipped + wanted).ok_or_else(|| failed(&Wrong::FrameCount.to_string()))?;
    sink.fragment(aac::fragment(frames.start, kept));
    Ok(())
}

/// Samples of a segment in which the track changes: other channels, another rate, or bytes that only looked like sound. ffmpeg filters
/// what comes after that anew, as if the segment began there: it pads the time before with silence, again. So what came last is as long as the
/// segment, and right from the change on; what came first is right up to it.
fn joined(
    tools: &Tools,
    line: &[String],
    layout: Layout,
    frames: &Range<u64>,
    file: File,
    kill: &Kill,
) -> Result<File, Failure> {
    let wanted = arguments::span(frames).1 as usize * layout.channels() as usize * SAMPLE_BYTES;
    let mut samples = Vec::new();
    run(&tools.ffmpeg, line, file, kill, |bytes| {
        samples.extend_from_slice(bytes);
        if samples.len() > wanted * CHANGES_MAX { Err(Wrong::TooLong.to_string()) } else { Ok(()) }
    })?;
    let more = samples.len().checked_sub(wanted).ok_or_else(|| Failure::Failed(Wrong::FrameCount.to_string()))?;
    let mut last = samples.split_off(more);
    let sample = layout.channels() as usize * SAMPLE_BYTES;
    let padded = last.chunks_exact(sample).take_while(|sample| sample.iter().all(|byte| *byte == 0)).count() * sample;
    // As much came before the change as was padded after it, about: there was one, and the rest is known not to be moved.
    if padded.abs_diff(more) <= OVERLAP_SAMPLES_MAX * sample {
        let kept = padded.min(more);
        last[..kept].copy_from_slice(&samples[..kept]);
    }
    let machine = |error: std::io::Error| Failure::Machine(format!("there is no memory: {error}"));
    let mut held = File::from(memfd_create("samples", MemfdFlags::CLOEXEC).map_err(|error| machine(error.into()))?);
    held.write_all(&last).and_then(|()| held.rewind()).map_err(machine)?;
    Ok(held)
}
