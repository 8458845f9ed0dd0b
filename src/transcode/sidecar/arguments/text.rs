//! Subtitles: WebVTT on standard output.

use super::super::super::protocol::{Film, TextFormat};
use super::{INPUT, input, input_as, seek, words};
use std::ops::Range;

/// Seconds read before a segment: a cue that began earlier and is still shown is missed.
const LOOK_BACK_S: f64 = 30.0;

/// Cues from before some frames, and between them a line for each packet of video (the `framecrc` muxer's): a clock. ffmpeg would read
/// the whole film to find the next cue; who reads this ends the run when the clock has passed the last frame.
pub fn text(film: &Film, stream: u32, frames: &Range<u64>) -> Vec<String> {
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error"]);
    arguments.extend(input());
    arguments.extend(seek(film, frames.start > 0, film.grid.time_of(frames.start).as_f64() - LOOK_BACK_S));
    let (cues, clock) = (format!("0:{stream}"), format!("0:{}", film.video_stream));
    arguments.extend(words(&["-copyts", "-i", INPUT, "-map", &cues, "-c:s", "webvtt", "-flush_packets", "1"]));
    arguments.extend(words(&["-avoid_negative_ts", "disabled", "-f", "webvtt", "pipe:1"]));
    arguments.extend(words(&["-map", &clock, "-c:v", "copy", "-flush_packets", "1"]));
    arguments.extend(words(&["-avoid_negative_ts", "disabled", "-f", "framecrc", "pipe:1"]));
    arguments
}

/// A file of subtitles. `latin`: it is no UTF-8, so it is taken for what most others are (Windows-1252).
pub fn text_file(format: TextFormat, latin: bool) -> Vec<String> {
    let demuxer = match format {
        TextFormat::SubRip => "srt",
        TextFormat::WebVtt => "webvtt",
    };
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error"]);
    arguments.extend(input_as(demuxer));
    if latin {
        arguments.extend(words(&["-sub_charenc", "WINDOWS-1252"]));
    }
    arguments.extend(words(&["-f", demuxer, "-i", INPUT, "-map", "0:0", "-c:s", "webvtt", "-f", "webvtt", "pipe:1"]));
    arguments
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FENCES, film};
    use super::*;

    #[test]
    fn text_golden() {
        let film = film();
        let line = text(&film, 4, &(1800..1801)).join(" ");
        assert_eq!(
            line,
            format!(
                "-nostdin -hide_banner -v error {FENCES} -ss 30.080000 -copyts -i file:/proc/self/fd/0 -map 0:4 -c:s webvtt \
                 -flush_packets 1 -avoid_negative_ts disabled -f webvtt pipe:1 -map 0:1 -c:v copy -flush_packets 1 \
                 -avoid_negative_ts disabled -f framecrc pipe:1"
            )
        );
        assert_eq!(
            text_file(TextFormat::SubRip, true).join(" "),
            "-nostdin -hide_banner -v error -protocol_whitelist file -format_whitelist srt -max_pixels 67108864 \
             -sub_charenc WINDOWS-1252 -f srt -i file:/proc/self/fd/0 -map 0:0 -c:s webvtt -f webvtt pipe:1"
        );
    }
}
