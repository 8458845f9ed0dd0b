//! Audio: AAC of a few seconds of a title, exactly where its frames belong.

use super::super::super::protocol::{Audio, Film};
use super::{INPUT, input, seek, words};
use crate::media::fraction::Fraction;
use crate::media::grid::{AUDIO_FRAME_SAMPLES, AUDIO_RATE};
use crate::media::playlist::AUDIO_BITS_PER_S;
use std::ops::Range;

/// AAC frames encoded before the first one kept: the encoder's state has to settle, or each boundary clicks.
pub const WARM_UP_FRAMES: u64 = 4;

/// AAC frames of a title, with [`WARM_UP_FRAMES`] and the encoder's own priming frame before them: ADTS on standard output.
pub fn audio(film: &Film, audio: &Audio, frames: &Range<u64>) -> Vec<String> {
    let samples = |frames: u64| i128::from(frames) * i128::from(AUDIO_FRAME_SAMPLES);
    let first = samples(frames.start) - samples(WARM_UP_FRAMES);
    let length = samples(frames.end - frames.start + WARM_UP_FRAMES + 2);
    let filter = format!(
        "asetpts=PTS-({})/TB,aresample={AUDIO_RATE}:async=1:first_pts={first},apad=whole_len={length},\
         atrim=end_sample={length},aformat=sample_fmts=fltp:channel_layouts=stereo",
        film.start,
    );
    let from = Fraction::new(first, AUDIO_RATE).map_or(0.0, Fraction::as_f64) - 0.5;
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error"]);
    arguments.extend(input());
    arguments.extend(words(&["-threads", "1"]));
    arguments.extend(seek(film, first > 0, from));
    let stream = format!("0:{}", audio.stream);
    arguments.extend(words(&["-copyts", "-i", INPUT, "-map", &stream, "-vn", "-sn", "-dn", "-af", &filter]));
    arguments.extend(words(&["-c:a", "aac", "-b:a", &AUDIO_BITS_PER_S.to_string(), "-f", "adts", "pipe:1"]));
    arguments
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FENCES, film};
    use super::*;

    #[test]
    fn audio_golden() {
        let film = film();
        let sound = film.audio.clone().unwrap();
        let line = |segment| audio(&film, &sound, &film.grid.audio_frames_of(segment).unwrap()).join(" ");
        let expected = |seek: &str, first: i32, length: u32| {
            format!(
                "-nostdin -hide_banner -v error {FENCES} -threads 1 {seek}-copyts -i file:/proc/self/fd/0 -map 0:2 -vn -sn -dn \
                 -af asetpts=PTS-(23/1000)/TB,aresample=48000:async=1:first_pts={first},apad=whole_len={length},\
                 atrim=end_sample={length},aformat=sample_fmts=fltp:channel_layouts=stereo -c:a aac -b:a 128000 -f adts pipe:1"
            )
        };
        assert_eq!(line(0), expected("", -4096, 198_656));
        assert_eq!(line(1), expected("-ss 3.445333 ", 188_416, 198_656));
    }
}
