//! What encoders are told for optimised titles: a constant quality below a highest rate, and time to find it. Pure.
//!
//! Most of such a title is made before anybody asks; what was not, or was given up by the cache, is made while somebody waits. So these are
//! the slowest arguments with which a machine that plays a title can still make it at about the speed of playing
//! (`benches/quality` has what they cost). Always software: it gives the fewest bits, and all machines have the same.
//!
//! Invariant: the same bytes each time, as of all software (`encoders`): x265 needs `const-vbv` for that under a highest rate, SVT-AV1
//! under constant quality nothing.

use super::arguments::words;
use crate::media::codec::Codec;
use crate::media::ladder::Rung;
use crate::media::quality::Aim;

/// From the encoder's name to what is done to its packets; `gop` is the frames of a segment.
pub fn arguments(rung: &Rung, aim: &Aim, gop: u64) -> Vec<String> {
    let (level, gop) = (format!("{}.{}", rung.level / 10, rung.level % 10), gop.to_string());
    let mut arguments = match rung.codec {
        Codec::H264 => words(&[
            "-c:v",
            "libx264",
            "-preset",
            "medium",
            "-profile:v",
            "high",
            "-bf",
            "3",
            "-sc_threshold",
            "0",
            "-threads",
            "2",
            "-x264-params",
            "sliced-threads=1",
            "-level",
            &level,
        ]),
        Codec::Hevc => {
            let own = format!(
                "pools=2:frame-threads=1:wpp=1:const-vbv=1:open-gop=0:scenecut=0:level-idc={level}:high-tier=0:info=0:log-level=error"
            );
            words(&["-c:v", "libx265", "-preset", "slow", "-profile:v", "main", "-forced-idr", "1", "-tag:v", "hvc1"])
                .into_iter()
                .chain(words(&["-x265-params", &own]))
                .collect()
        }
        Codec::Av1 => {
            let own = format!("lp=2:level={}:tier=0", rung.level);
            words(&["-c:v", "libsvtav1", "-preset", "5", "-svtav1-params", &own])
        }
    };
    arguments.extend(words(&["-g", &gop]));
    if rung.codec != Codec::Av1 {
        arguments.extend(words(&["-keyint_min", &gop, "-bsf:v", "dump_extra=freq=keyframe"]));
    }
    arguments.extend(words(&["-force_key_frames", &format!("expr:eq(mod(n,{gop}),0)")]));
    arguments.extend(words(&["-crf", &aim.crf.to_string(), "-maxrate", &rung.bits_per_s_max().to_string()]));
    arguments.extend(words(&["-bufsize", &rung.buffer_bits().to_string()]));
    arguments
}

#[cfg(test)]
mod tests {
    use super::super::encoders;
    use super::*;
    use crate::media::fraction::Fraction;
    use crate::media::grid::Grid;
    use crate::media::ladder::rungs;
    use crate::media::quality::{Measure, Plan};

    #[test]
    fn golden() {
        let grid = Grid { frame_rate: Fraction::parse("25").unwrap(), frames: 1000 };
        let aim = |codec| Aim {
            size: "360p".into(),
            codec,
            crf: 29,
            bits_per_s: 200_000,
            bits_per_s_max: 400_000,
            score_milli: 90_000,
        };
        let plan = Plan {
            policy: 1,
            measure: Measure::Vmaf,
            saved_permille: 0,
            saved_h264_permille: 0,
            aims: Codec::ALL.map(aim).into(),
        };
        let keys = "-force_key_frames expr:eq(mod(n,100),0) -crf 29 -maxrate 400000 -bufsize 666665";
        let closed = "-g 100 -keyint_min 100 -bsf:v dump_extra=freq=keyframe";
        let expected = [
            format!(
                "-c:v libx264 -preset medium -profile:v high -bf 3 -sc_threshold 0 -threads 2 -x264-params sliced-threads=1 \
                 -level 3.0 {closed} {keys}"
            ),
            format!(
                "-c:v libx265 -preset slow -profile:v main -forced-idr 1 -tag:v hvc1 -x265-params pools=2:frame-threads=1:wpp=1:\
                 const-vbv=1:open-gop=0:scenecut=0:level-idc=2.1:high-tier=0:info=0:log-level=error {closed} {keys}"
            ),
            format!("-c:v libsvtav1 -preset 5 -svtav1-params lp=2:level=21:tier=0 -g 100 {keys}"),
        ];
        let rungs = rungs(640, 360, &grid, &Codec::ALL, Some(&plan));
        assert_eq!(rungs.iter().map(|rung| rung.name.as_str()).collect::<Vec<_>>(), ["360p", "360p-hevc", "360p-av1"]);
        for (rung, expected) in rungs.iter().zip(expected) {
            assert_eq!(arguments(rung, rung.aim.as_ref().unwrap(), 100).join(" "), expected);
            assert!(expected.contains(&format!("-c:v {} ", encoders::software(rung.codec).name)));
        }
    }
}
