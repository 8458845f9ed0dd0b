//! Subtitles: WebVTT on standard output.

use super::super::super::protocol::{Film, TextFormat};
use super::{INPUT, input, input_as, seek, words};
use std::ops::Range;

/// Seconds read before a segment, at least and at most: a cue that began earlier and is still shown is missed.
const LOOK_BACK_S_MIN: f64 = 30.0;
const LOOK_BACK_S_MAX: f64 = 600.0;
/// Between these, as far back as so many bytes of the film reach: most of what is read is pictures.
const LOOK_BACK_BYTES: f64 = 64e6;

/// How far back it is worth reading in a film of so many bytes.
pub fn look_back_s(film: &Film, bytes: u64) -> f64 {
    let seconds = film.grid.time_of(film.grid.frames).as_f64();
    (LOOK_BACK_BYTES / (bytes as f64 / seconds)).clamp(LOOK_BACK_S_MIN, LOOK_BACK_S_MAX)
}

/// Cues from before some frames, and between them a line for each packet of video (the `framecrc` muxer's): a clock. ffmpeg would read
/// the whole film to find the next cue; who reads this ends the run when the clock has passed the last frame.
pub fn text(film: &Film, stream: u32, frames: &Range<u64>, look_back_s: f64) -> Vec<String> {
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error"]);
    arguments.extend(input(film.demuxer));
    arguments.extend(seek(film, frames.start > 0, film.grid.time_of(frames.start).as_f64() - look_back_s));
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
        let line = text(&film, 4, &(1800..1801), 30.0).join(" ");
        assert_eq!(
            line,
            format!(
                "-nostdin -hide_banner -v error {FENCES} -ss 30.080000 -copyts -i file:/proc/self/fd/0 -map 0:4 -c:s webvtt \
                 -flush_packets 1 -avoid_negative_ts disabled -f webvtt pipe:1 -map 0:1 -c:v copy -flush_packets 1 \
                 -avoid_negative_ts disabled -f framecrc pipe:1"
            )
        );
        let seconds = film.grid.time_of(film.grid.frames).as_f64();
        let of_rate = |bytes_per_s: f64| look_back_s(&film, (bytes_per_s * seconds) as u64).round();
        assert_eq!([of_rate(4e6), of_rate(640e3), of_rate(1e4)], [30.0, 100.0, 600.0]);
        assert_eq!(look_back_s(&film, 0), 600.0);
        assert_eq!(
            text_file(TextFormat::SubRip, true).join(" "),
            "-nostdin -hide_banner -v error -protocol_whitelist file -format_whitelist srt -max_pixels 67108864 \
             -sub_charenc WINDOWS-1252 -f srt -i file:/proc/self/fd/0 -map 0:0 -c:s webvtt -f webvtt pipe:1"
        );
    }
}
