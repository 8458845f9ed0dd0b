//! One segment of audio: AAC frames put into boxes of our own.

use super::super::arguments::{self, WARM_UP_FRAMES};
use super::super::child::{Failure, Kill, run};
use super::{Sink, Tools};
use crate::media::aac;
use crate::media::fragment::Wrong;
use crate::media::playlist::AUDIO_BITS_PER_S;
use crate::transcode::protocol::Film;
use std::fs::File;

pub fn make(tools: &Tools, film: &Film, segment: u64, file: File, kill: &Kill, sink: &Sink) -> Result<(), Failure> {
    let failed = |why: &str| Failure::Failed(why.to_owned());
    let beyond = || failed("the title has no such segment");
    let frames = film.grid.audio_frames_of(segment).ok_or_else(beyond)?;
    let audio = film.audio.as_ref().ok_or_else(beyond)?;
    let wanted = usize::try_from(frames.end - frames.start).map_err(|_| beyond())?;
    let skipped = WARM_UP_FRAMES as usize + 1;
    let bytes_max = (wanted + skipped + 2) * (AUDIO_BITS_PER_S as usize / 8);
    let mut adts = Vec::new();
    run(&tools.ffmpeg, &arguments::audio(film, audio, &frames), file, kill, |bytes| {
        adts.extend_from_slice(bytes);
        if adts.len() > bytes_max { Err(Wrong::TooLong.to_string()) } else { Ok(()) }
    })?;
    let all = aac::adts_frames(&adts).ok_or_else(|| failed("the output is no AAC as asked for"))?;
    let kept = all.get(skipped..skipped + wanted).ok_or_else(|| failed(&Wrong::FrameCount.to_string()))?;
    sink.fragment(aac::fragment(frames.start, kept));
    Ok(())
}
