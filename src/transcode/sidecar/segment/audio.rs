//! One segment of audio: AAC frames put into boxes of our own.

use super::super::arguments::{self, WARM_UP_FRAMES};
use super::super::child::{Failure, Kill, run};
use super::{Sink, Tools};
use crate::media::aac::{self, Layout};
use crate::media::fragment::Wrong;
use crate::transcode::protocol::Film;
use std::fs::File;

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
    let mut adts = encode(&arguments::audio(film, audio, layout, &frames), file)?;
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
