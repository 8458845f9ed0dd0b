//! What can encode: each encoder that is known, and what it is told. Pure.
//!
//! Invariants: a film's segments are made by the encoders that it was looked at with (`Film::encoders`); another one makes other
//! bytes. Software makes the same bytes each time, alone as in a batch.

use super::arguments::words;
use super::careful;
use crate::media::codec::Codec;
use crate::media::ladder::Rung;
use std::collections::{BTreeMap, HashSet};

/// A choice of encoder: what it is called, and what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoder {
    /// As ffmpeg calls it.
    pub name: &'static str,
    pub codec: Codec,
    options: &'static [&'static str],
}

/// Every encoder known; of a codec, the first that is there is the one used.
pub const ENCODERS: [Encoder; 3] = [
    // Its two threads share each frame: with a frame each, it makes other bytes each time.
    Encoder {
        name: "libx264",
        codec: Codec::H264,
        options: &["-preset", "veryfast", "-profile:v", "high", "-bf", "2", "-sc_threshold", "0", "-threads", "2"],
    },
    // Players want `hvc1`; with `hev1` Apple's do not begin.
    Encoder {
        name: "libx265",
        codec: Codec::Hevc,
        options: &["-preset", "veryfast", "-profile:v", "main", "-bf", "2", "-forced-idr", "1", "-tag:v", "hvc1"],
    },
    // Under a target rate it makes other bytes each time with more than one thread (1.4 and 4.2 do).
    Encoder { name: "libsvtav1", codec: Codec::Av1, options: &["-preset", "9"] },
];

/// By its name; None: it is not known here.
pub fn named(name: &str) -> Option<&'static Encoder> {
    ENCODERS.iter().find(|encoder| encoder.name == name)
}

/// Of each codec the first encoder there is; `there` names those that ffmpeg has.
pub fn choice(there: &HashSet<String>) -> BTreeMap<Codec, String> {
    let all = ENCODERS.iter().rev().filter(|encoder| there.contains(encoder.name));
    all.map(|encoder| (encoder.codec, encoder.name.to_owned())).collect()
}

impl Encoder {
    /// From its name to what is done to its packets; `gop` is the frames of a segment.
    pub fn arguments(&self, rung: &Rung, gop: u64) -> Vec<String> {
        if let Some(aim) = &rung.aim {
            return careful::arguments(rung, aim, gop);
        }
        let level = format!("{}.{}", rung.level / 10, rung.level % 10);
        let mut arguments = words(&["-c:v", self.name]);
        arguments.extend(words(self.options));
        match self.codec {
            Codec::H264 => arguments.extend(words(&["-x264-params", "sliced-threads=1", "-level", &level])),
            // One frame at a time, its rows by two threads; keyframes are closed; no text about itself in each segment.
            Codec::Hevc => arguments.extend(words(&[
                "-x265-params",
                &format!(
                    "pools=2:frame-threads=1:wpp=1:open-gop=0:scenecut=0:level-idc={level}:high-tier=0:info=0:log-level=error"
                ),
            ])),
            Codec::Av1 => {
                arguments.extend(words(&["-svtav1-params", &format!("rc=1:lp=1:level={}:tier=0", rung.level)]))
            }
        }
        let gop = gop.to_string();
        arguments.extend(words(&["-g", &gop]));
        if self.codec != Codec::Av1 {
            arguments.extend(words(&["-keyint_min", &gop]));
        }
        arguments.extend(words(&["-force_key_frames", &format!("expr:eq(mod(n,{gop}),0)")]));
        arguments.extend(words(&["-b:v", &rung.bits_per_s.to_string()]));
        // SVT-AV1 knows a highest rate only beside a constant quality.
        if self.codec != Codec::Av1 {
            arguments.extend(words(&["-maxrate", &rung.bits_per_s_max().to_string()]));
            arguments.extend(words(&["-bufsize", &rung.buffer_bits().to_string()]));
            // AV1's keyframes begin with their parameters anyway.
            arguments.extend(words(&["-bsf:v", "dump_extra=freq=keyframe"]));
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::fraction::Fraction;
    use crate::media::grid::Grid;
    use crate::media::ladder::ladder;

    #[test]
    fn golden() {
        let grid = Grid { frame_rate: Fraction::parse("25").unwrap(), frames: 1000 };
        let rung = ladder(640, 360, &grid).pop().unwrap();
        let keys = "-force_key_frames expr:eq(mod(n,100),0) -b:v 800000";
        let rate = format!("{keys} -maxrate 960000 -bufsize 1600000 -bsf:v dump_extra=freq=keyframe");
        for (name, expected) in [
            (
                "libx264",
                format!(
                    "-preset veryfast -profile:v high -bf 2 -sc_threshold 0 -threads 2 -x264-params sliced-threads=1 \
                     -level 3.0 -g 100 -keyint_min 100 {rate}"
                ),
            ),
            (
                "libx265",
                format!(
                    "-preset veryfast -profile:v main -bf 2 -forced-idr 1 -tag:v hvc1 -x265-params \
                     pools=2:frame-threads=1:wpp=1:open-gop=0:scenecut=0:level-idc=3.0:high-tier=0:info=0:log-level=error \
                     -g 100 -keyint_min 100 {rate}"
                ),
            ),
            ("libsvtav1", format!("-preset 9 -svtav1-params rc=1:lp=1:level=30:tier=0 -g 100 {keys}")),
        ] {
            assert_eq!(named(name).unwrap().arguments(&rung, 100).join(" "), format!("-c:v {name} {expected}"));
        }
    }

    #[test]
    fn of_each_codec_the_first_that_is_there() {
        let there = |names: &[&str]| choice(&names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(there(&["libx264", "libsvtav1", "ffv1"]).into_keys().collect::<Vec<_>>(), [Codec::H264, Codec::Av1]);
        assert!(there(&[]).is_empty());
    }
}
