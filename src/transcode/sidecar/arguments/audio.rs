//! Audio: AAC of a few seconds of a title, exactly where its frames belong.

use super::super::super::protocol::{Audio, Film};
use super::{INPUT, input, input_as, seek, words};
use crate::media::aac::Layout;
use crate::media::fraction::Fraction;
use crate::media::grid::{AUDIO_FRAME_SAMPLES, AUDIO_RATE};
use std::ops::Range;

/// AAC frames encoded before the first one kept: the encoder's state has to settle, or each boundary clicks.
pub const WARM_UP_FRAMES: u64 = 4;
/// Seconds of a title that are read from the same place where times are uncertain.
const TOGETHER_S: f64 = 60.0;

/// Seconds read before the first sample; where a seek is not exact, sound may lie some way behind its pictures in the file.
const LEAD_S: f64 = 0.5;
const UNINDEXED_LEAD_S: f64 = 1.5;

/// AAC frames of a title, with [`WARM_UP_FRAMES`] and the encoder's own priming frame before them: ADTS on standard output.
pub fn audio(film: &Film, audio: &Audio, layout: Layout, frames: &Range<u64>) -> Vec<String> {
    let mut arguments = decoded(film, audio, layout, frames);
    arguments.extend(output(layout));
    arguments
}

/// What would be encoded: samples of 32 bits on standard output, channel by channel.
pub fn samples(film: &Film, audio: &Audio, layout: Layout, frames: &Range<u64>) -> Vec<String> {
    let mut arguments = decoded(film, audio, layout, frames);
    arguments.extend(words(&["-c:a", SAMPLES, "-f", "f32le", "-flush_packets", "1", "pipe:1"]));
    arguments
}

const SAMPLES: &str = "pcm_f32le";

/// AAC of such samples, which are the input.
pub fn encoded(layout: Layout) -> Vec<String> {
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error"]);
    arguments.extend(input_as("f32le"));
    arguments.extend(words(&["-threads", "1", "-f", "f32le", "-ar", &AUDIO_RATE.to_string()]));
    arguments.extend(words(&["-ac", &layout.channels().to_string(), "-i", INPUT, "-af"]));
    arguments.push(format!("aformat=sample_fmts=fltp:channel_layouts={}", channels(layout)));
    arguments.extend(output(layout));
    arguments
}

fn decoded(film: &Film, audio: &Audio, layout: Layout, frames: &Range<u64>) -> Vec<String> {
    let (first, length) = span(frames);
    // Two resamplers: `first_pts` counts samples of what comes in, so the rate has to be ours by then.
    let filter = format!(
        "asetpts={},aresample={AUDIO_RATE},aresample={AUDIO_RATE}:async=1:first_pts={first},apad=whole_len={length},\
         atrim=end_sample={length},aformat=sample_fmts=fltp:channel_layouts={}",
        times(film, audio),
        channels(layout),
    );
    let first_s = Fraction::new(first, AUDIO_RATE).map_or(0.0, Fraction::as_f64);
    // Where nothing says exactly where packets begin, a minute is read from one place: all its segments are off by as much.
    let from = if audio.uncertain { (first_s / TOGETHER_S).floor() * TOGETHER_S } else { first_s };
    let from = from - if film.demuxer.finds_keyframes() { LEAD_S } else { UNINDEXED_LEAD_S };
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error"]);
    arguments.extend(input(film.demuxer));
    // Without accurate seeking: it would cut the first packet, which then could not be counted. What comes too early is dropped
    // by the resampler.
    arguments.extend(words(&["-threads", "1", "-noaccurate_seek"]));
    arguments.extend(seek(film, from > 0.0, from));
    let stream = format!("0:{}", audio.stream);
    arguments.extend(words(&["-copyts", "-i", INPUT, "-map", &stream, "-vn", "-sn", "-dn", "-af", &filter]));
    arguments
}

/// As many frames of silence: for what comes after the end of a track.
pub fn silence(layout: Layout, frames: &Range<u64>) -> Vec<String> {
    let (_, length) = span(frames);
    let source = format!("anullsrc=r={AUDIO_RATE}:cl={},atrim=end_sample={length}", channels(layout));
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error", "-threads", "1", "-f", "lavfi"]);
    arguments.extend(words(&["-i", &source]));
    arguments.extend(output(layout));
    arguments
}

fn output(layout: Layout) -> Vec<String> {
    words(&["-c:a", "aac", "-b:a", &layout.bits_per_s().to_string(), "-f", "adts", "pipe:1"])
}

/// The first sample encoded, and how many.
pub fn span(frames: &Range<u64>) -> (i128, i128) {
    let samples = |frames: u64| i128::from(frames) * i128::from(AUDIO_FRAME_SAMPLES);
    (samples(frames.start) - samples(WARM_UP_FRAMES), samples(frames.end - frames.start + WARM_UP_FRAMES + 2))
}

/// Times from the title's start. Where packets are counted, each is put where a whole number of them ends, if it is nearly there: Matroska
/// says times in milliseconds, so that segments made apart would begin up to 48 samples off, and their boundaries would click.
fn times(film: &Film, audio: &Audio) -> String {
    let start = film.sound_start;
    match audio.counted_from {
        None => format!("PTS-({start})/TB"),
        Some(first) => format!(
            "'st(0,round((PTS*TB-({first}))*SR/NB_SAMPLES)*NB_SAMPLES/SR+({first}));\
             round((if(lte(abs(PTS*TB-ld(0)),0.002),ld(0),PTS*TB)-({start}))/TB)'"
        ),
    }
}

fn channels(layout: Layout) -> &'static str {
    match layout {
        Layout::Stereo => "stereo",
        Layout::Surround => "5.1",
        Layout::LargeSurround => "7.1",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FENCES, film};
    use super::*;

    fn track(counted_from: Option<&str>) -> Audio {
        Audio {
            stream: 2,
            codec: "ac3".into(),
            language: "eng".into(),
            title: String::new(),
            channels: 6,
            default: true,
            commentary: false,
            descriptive: false,
            counted_from: counted_from.and_then(Fraction::parse),
            uncertain: false,
        }
    }

    #[test]
    fn audio_golden() {
        let film = film();
        let line = |segment| {
            audio(&film, &track(None), Layout::Stereo, &film.grid.audio_frames_of(segment).unwrap()).join(" ")
        };
        let expected = |seek: &str, first: i32, length: u32| {
            format!(
                "-nostdin -hide_banner -v error {FENCES} -threads 1 -noaccurate_seek {seek}-copyts -i file:/proc/self/fd/0 -map 0:2 -vn -sn -dn \
                 -af asetpts=PTS-(23/1000)/TB,aresample=48000,aresample=48000:async=1:first_pts={first},apad=whole_len={length},\
                 atrim=end_sample={length},aformat=sample_fmts=fltp:channel_layouts=stereo -c:a aac -b:a 128000 -f adts pipe:1"
            )
        };
        assert_eq!(line(0), expected("", -4096, 198_656));
        assert_eq!(line(1), expected("-ss 3.445333 ", 188_416, 198_656));
    }

    #[test]
    fn counted_packets_and_surround_golden() {
        let film = film();
        let frames = film.grid.audio_frames_of(1).unwrap();
        let line = audio(&film, &track(Some("7/1000")), Layout::Surround, &frames).join(" ");
        assert!(line.contains(
            "asetpts='st(0,round((PTS*TB-(7/1000))*SR/NB_SAMPLES)*NB_SAMPLES/SR+(7/1000));\
             round((if(lte(abs(PTS*TB-ld(0)),0.002),ld(0),PTS*TB)-(23/1000))/TB)',aresample"
        ));
        assert!(line.ends_with("channel_layouts=5.1 -c:a aac -b:a 384000 -f adts pipe:1"), "{line}");
        assert_eq!(
            silence(Layout::LargeSurround, &frames).join(" "),
            "-nostdin -hide_banner -v error -threads 1 -f lavfi -i anullsrc=r=48000:cl=7.1,atrim=end_sample=198656 \
             -c:a aac -b:a 512000 -f adts pipe:1"
        );
    }

    #[test]
    fn samples_and_their_encoding_golden() {
        let film = Film { demuxer: crate::media::demuxer::Demuxer::Avi, ..film() };
        let frames = film.grid.audio_frames_of(1).unwrap();
        let line = samples(&film, &track(None), Layout::Stereo, &frames).join(" ");
        // Further back where nobody knows exactly where a seek ends.
        assert!(line.contains("-format_whitelist avi ") && line.contains("-noaccurate_seek -ss 2.445333 "), "{line}");
        assert!(line.ends_with("channel_layouts=stereo -c:a pcm_f32le -f f32le -flush_packets 1 pipe:1"), "{line}");
        assert_eq!(
            encoded(Layout::Surround).join(" "),
            "-nostdin -hide_banner -v error -protocol_whitelist file -format_whitelist f32le -max_pixels 67108864 -threads 1 \
             -f f32le -ar 48000 -ac 6 -i file:/proc/self/fd/0 -af aformat=sample_fmts=fltp:channel_layouts=5.1 \
             -c:a aac -b:a 384000 -f adts pipe:1"
        );
    }

    #[test]
    fn an_uncertain_minute_is_read_from_one_place() {
        let film = Film { grid: crate::media::grid::Grid { frames: 10_000, ..film().grid }, ..film() };
        let uncertain = Audio { uncertain: true, ..track(None) };
        let from = |segment| {
            let frames = film.grid.audio_frames_of(segment).unwrap();
            let line = audio(&film, &uncertain, Layout::Stereo, &frames);
            line.iter().position(|word| word == "-ss").map(|at| line[at + 1].clone())
        };
        assert_eq!((from(0), from(14)), (None, None));
        assert_eq!((from(16), from(29)), (Some("59.520000".into()), Some("59.520000".into())));
    }
}
