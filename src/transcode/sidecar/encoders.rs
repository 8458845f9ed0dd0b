//! What can encode: each encoder that is known, and what it is told. Pure.
//!
//! Hardware chooses a level of its own, or fails when it is told one; what players were promised is written over it in its
//! parameter sets. AV1 has no filter for that: there a lower level stays. Hardware has no B-frames here, and `-g` beside the forced
//! keyframes, without which some of them make none. `dump_extra` puts the parameter sets before each keyframe: segments of two
//! encoders play under one head.
//!
//! Invariants: a film's segments are made by the encoders that it was looked at with (`Film::encoders`), or say that they are not;
//! another one makes other bytes. Software makes the same bytes each time, alone as in a batch.

use super::arguments::words;
use super::careful;
use crate::media::codec::Codec;
pub use crate::media::codec::Family;
use crate::media::ladder::Rung;
use std::collections::{BTreeMap, HashSet};

/// A choice of encoder: what it is called, and what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoder {
    /// As ffmpeg calls it.
    pub name: &'static str,
    pub codec: Codec,
    pub family: Family,
    options: &'static str,
}

const fn encoder(name: &'static str, codec: Codec, family: Family, options: &'static str) -> Encoder {
    Encoder { name, codec, family, options }
}

/// Every encoder known, in the order of [`Family::ALL`].
pub const ENCODERS: [Encoder; 15] = {
    use Codec::{Av1, H264, Hevc};
    use Family::{Amf, Nvenc, Qsv, Software, Vaapi};
    [
        encoder(
            "h264_nvenc",
            H264,
            Nvenc,
            "-preset p3 -tune hq -rc vbr -profile:v high -bf 0 -forced-idr 1 -no-scenecut 1",
        ),
        // Players want `hvc1`; with `hev1` Apple's do not begin.
        encoder(
            "hevc_nvenc",
            Hevc,
            Nvenc,
            "-preset p3 -tune hq -rc vbr -profile:v main -tier main -bf 0 -forced-idr 1 -no-scenecut 1 -tag:v hvc1",
        ),
        encoder("av1_nvenc", Av1, Nvenc, "-preset p3 -tune hq -rc vbr -tier 0 -bf 0 -forced-idr 1 -no-scenecut 1"),
        encoder(
            "h264_qsv",
            H264,
            Qsv,
            "-preset veryfast -profile:v high -bf 0 -look_ahead 0 -forced_idr 1 -idr_interval 0",
        ),
        encoder(
            "hevc_qsv",
            Hevc,
            Qsv,
            "-preset veryfast -profile:v main -bf 0 -forced_idr 1 -idr_interval 0 -tag:v hvc1",
        ),
        encoder("av1_qsv", Av1, Qsv, "-preset veryfast -profile:v main -bf 0 -forced_idr 1"),
        encoder(
            "h264_amf",
            H264,
            Amf,
            "-usage transcoding -quality speed -rc vbr_peak -profile:v high -bf 0 -forced_idr 1",
        ),
        encoder(
            "hevc_amf",
            Hevc,
            Amf,
            "-usage transcoding -quality speed -rc vbr_peak -profile:v main -profile_tier main -forced_idr 1 -gops_per_idr 1 -tag:v hvc1",
        ),
        encoder("av1_amf", Av1, Amf, "-usage transcoding -quality speed -rc vbr_peak -bf 0 -forced_idr 1"),
        encoder("h264_vaapi", H264, Vaapi, "-rc_mode VBR -profile:v high -bf 0 -idr_interval 0 -sei 0"),
        encoder(
            "hevc_vaapi",
            Hevc,
            Vaapi,
            "-rc_mode VBR -profile:v main -tier main -bf 0 -idr_interval 0 -sei 0 -tag:v hvc1",
        ),
        encoder("av1_vaapi", Av1, Vaapi, "-rc_mode VBR -profile:v main -tier main -bf 0 -idr_interval 0"),
        // Its two threads share each frame: with a frame each, it makes other bytes each time.
        encoder("libx264", H264, Software, "-preset veryfast -profile:v high -bf 2 -sc_threshold 0 -threads 2"),
        encoder("libx265", Hevc, Software, "-preset veryfast -profile:v main -bf 2 -forced-idr 1 -tag:v hvc1"),
        // Under a target rate it makes other bytes each time with more than one thread (1.4 and 4.2 do).
        encoder("libsvtav1", Av1, Software, "-preset 9"),
    ]
};

/// By its name; None: it is not known here.
pub fn named(name: &str) -> Option<&'static Encoder> {
    ENCODERS.iter().find(|encoder| encoder.name == name)
}

/// What makes a codec without any device.
pub fn software(codec: Codec) -> &'static Encoder {
    let mut all = ENCODERS.iter().filter(|encoder| encoder.family == Family::Software);
    all.find(|encoder| encoder.codec == codec).expect("every codec has software")
}

/// Of each codec the encoder that is used: the first family that has one which `works`.
pub fn choice(order: &[Family], works: impl Fn(&Encoder) -> bool) -> BTreeMap<Codec, String> {
    let best = |codec: Codec| {
        let of = |family: &Family| ENCODERS.iter().find(|encoder| (encoder.codec, encoder.family) == (codec, *family));
        order.iter().filter_map(of).find(|encoder| works(encoder))
    };
    Codec::ALL.into_iter().filter_map(|codec| Some((codec, best(codec)?.name.to_owned()))).collect()
}

/// What ffmpeg was built with may be used; whether a device is there is another question.
pub fn is_among(there: &HashSet<String>) -> impl Fn(&Encoder) -> bool {
    |encoder| there.contains(encoder.name)
}

impl Encoder {
    /// From its name to what is done to its packets; `gop` is the frames of a segment.
    pub fn arguments(&self, rung: &Rung, gop: u64) -> Vec<String> {
        if let Some(aim) = &rung.aim {
            return careful::arguments(rung, aim, gop);
        }
        let level = format!("{}.{}", rung.level / 10, rung.level % 10);
        let mut arguments = words(&["-c:v", self.name]);
        arguments.extend(self.options.split(' ').map(str::to_owned));
        let is_software = self.family == Family::Software;
        match self.codec {
            _ if !is_software => {}
            Codec::H264 => arguments.extend(words(&["-x264-params", "sliced-threads=1", "-level", &level])),
            // One frame at a time, its rows by two threads, whose order must not matter to the highest rate; keyframes are closed; no
            // text about itself in each segment.
            Codec::Hevc => arguments.extend(words(&[
                "-x265-params",
                &format!(
                    "pools=2:frame-threads=1:wpp=1:const-vbv=1:open-gop=0:scenecut=0:level-idc={level}:high-tier=0:info=0:log-level=error"
                ),
            ])),
            Codec::Av1 => {
                arguments.extend(words(&["-svtav1-params", &format!("rc=1:lp=1:level={}:tier=0", rung.level)]))
            }
        }
        let gop = gop.to_string();
        arguments.extend(words(&["-g", &gop]));
        // Hardware takes no notice of it.
        if is_software && self.codec != Codec::Av1 {
            arguments.extend(words(&["-keyint_min", &gop]));
        }
        arguments.extend(words(&["-force_key_frames", &format!("expr:eq(mod(n,{gop}),0)")]));
        arguments.extend(words(&["-b:v", &rung.bits_per_s.to_string()]));
        // SVT-AV1 knows a highest rate only beside a constant quality.
        if self.name != "libsvtav1" {
            arguments.extend(words(&["-maxrate", &rung.bits_per_s_max().to_string()]));
            arguments.extend(words(&["-bufsize", &rung.buffer_bits().to_string()]));
        }
        if let Some(filters) = self.packet_filters(rung.level) {
            arguments.extend(words(&["-bsf:v", &filters]));
        }
        arguments
    }

    fn packet_filters(&self, level: u8) -> Option<String> {
        const DUMP: &str = "dump_extra=freq=keyframe";
        match (self.family, self.codec) {
            // Its keyframes begin with their parameters anyway.
            (Family::Software, Codec::Av1) => None,
            (Family::Software, _) | (_, Codec::Av1) => Some(DUMP.to_owned()),
            (_, Codec::H264) => Some(format!("h264_metadata=level={level},{DUMP}")),
            (_, Codec::Hevc) => Some(format!("hevc_metadata=level={},{DUMP}", u32::from(level) * 3)),
        }
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
        let rate = format!("{keys} -maxrate 960000 -bufsize 1600000");
        let dump = "-bsf:v dump_extra=freq=keyframe";
        let h264 = format!("-g 100 {rate} -bsf:v h264_metadata=level=30,dump_extra=freq=keyframe");
        let hevc = format!("-tag:v hvc1 -g 100 {rate} -bsf:v hevc_metadata=level=90,dump_extra=freq=keyframe");
        let av1 = format!("-g 100 {rate} {dump}");
        let nvenc = "-preset p3 -tune hq -rc vbr";
        let amf = "-usage transcoding -quality speed -rc vbr_peak";
        let expected = [
            ("h264_nvenc", format!("{nvenc} -profile:v high -bf 0 -forced-idr 1 -no-scenecut 1 {h264}")),
            ("hevc_nvenc", format!("{nvenc} -profile:v main -tier main -bf 0 -forced-idr 1 -no-scenecut 1 {hevc}")),
            ("av1_nvenc", format!("{nvenc} -tier 0 -bf 0 -forced-idr 1 -no-scenecut 1 {av1}")),
            (
                "h264_qsv",
                format!("-preset veryfast -profile:v high -bf 0 -look_ahead 0 -forced_idr 1 -idr_interval 0 {h264}"),
            ),
            ("hevc_qsv", format!("-preset veryfast -profile:v main -bf 0 -forced_idr 1 -idr_interval 0 {hevc}")),
            ("av1_qsv", format!("-preset veryfast -profile:v main -bf 0 -forced_idr 1 {av1}")),
            ("h264_amf", format!("{amf} -profile:v high -bf 0 -forced_idr 1 {h264}")),
            ("hevc_amf", format!("{amf} -profile:v main -profile_tier main -forced_idr 1 -gops_per_idr 1 {hevc}")),
            ("av1_amf", format!("{amf} -bf 0 -forced_idr 1 {av1}")),
            ("h264_vaapi", format!("-rc_mode VBR -profile:v high -bf 0 -idr_interval 0 -sei 0 {h264}")),
            ("hevc_vaapi", format!("-rc_mode VBR -profile:v main -tier main -bf 0 -idr_interval 0 -sei 0 {hevc}")),
            ("av1_vaapi", format!("-rc_mode VBR -profile:v main -tier main -bf 0 -idr_interval 0 {av1}")),
            (
                "libx264",
                format!(
                    "-preset veryfast -profile:v high -bf 2 -sc_threshold 0 -threads 2 -x264-params sliced-threads=1 \
                     -level 3.0 -g 100 -keyint_min 100 {rate} {dump}"
                ),
            ),
            (
                "libx265",
                format!(
                    "-preset veryfast -profile:v main -bf 2 -forced-idr 1 -tag:v hvc1 -x265-params \
                     pools=2:frame-threads=1:wpp=1:const-vbv=1:open-gop=0:scenecut=0:level-idc=3.0:high-tier=0:info=0:log-level=error \
                     -g 100 -keyint_min 100 {rate} {dump}"
                ),
            ),
            ("libsvtav1", format!("-preset 9 -svtav1-params rc=1:lp=1:level=30:tier=0 -g 100 {keys}")),
        ];
        assert_eq!(ENCODERS.map(|encoder| encoder.name), expected.each_ref().map(|(name, _)| *name));
        for (name, expected) in expected {
            assert_eq!(named(name).unwrap().arguments(&rung, 100).join(" "), format!("-c:v {name} {expected}"));
        }
    }

    #[test]
    fn of_each_codec_the_first_that_works_in_the_order_asked_for() {
        let chosen = |order: &[Family], works: &[&str]| {
            let chosen = choice(order, |encoder| works.contains(&encoder.name));
            chosen.into_values().collect::<Vec<_>>().join(" ")
        };
        let works = ["libx264", "libx265", "libsvtav1", "h264_vaapi", "h264_qsv", "hevc_nvenc"];
        assert_eq!(chosen(&Family::ALL, &works), "h264_qsv hevc_nvenc libsvtav1");
        assert_eq!(chosen(&[Family::Vaapi, Family::Software], &works), "h264_vaapi libx265 libsvtav1");
        assert_eq!(chosen(&[Family::Software], &["libx264", "h264_nvenc"]), "libx264");
        assert_eq!(chosen(&Family::ALL, &[]), "");
        for codec in Codec::ALL {
            assert_eq!((software(codec).codec, software(codec).family), (codec, Family::Software));
        }
    }
}
