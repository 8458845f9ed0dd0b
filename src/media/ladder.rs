//! Which renditions a source is offered in: 240p to 2160p, each fitting a 16:9 box, never above the source; in each codec that it is
//! offered in.
//!
//! Invariants: at least one rung; sizes are even and at least 2; bit rates and levels are fixed by the rung and the rate, so
//! that a playlist can be written before anything is encoded. H.264 comes first, and each codec from its lowest rung.

use super::codec::Codec;
use super::grid::Grid;
use super::level::{Coded, level};
use super::quality::{Aim, Plan};
use serde::{Deserialize, Serialize};

/// Longer or wider pictures are refused: they would take gigabytes to decode.
pub const SIDE_MAX: u32 = 8192;

/// A rendition of pictures: a size, a codec and a rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rung {
    /// `360p`, `360p-hevc`: the height of its box, and the codec if it is not H.264; part of URLs.
    pub name: String,
    pub codec: Codec,
    pub width: u32,
    pub height: u32,
    pub bits_per_s: u32,
    /// Of its codec: ten times its number.
    pub level: u8,
    /// Its packets are the film's own.
    pub copied: Option<Copied>,
    /// It has a constant quality, below its rate, and is made with more care.
    pub aim: Option<Aim>,
}

/// The name of the rung whose packets are the film's own.
pub const SOURCE: &str = "source";

/// What is known of a film whose packets can be used as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Copied {
    /// Profile, constraints, level.
    pub avc: [u8; 3],
    pub bits_per_s: u32,
    /// Of its largest segment.
    pub peak_bits_per_s: u32,
}

/// Name, box, bits a second at up to 30 frames a second.
const BOXES: [(&str, u32, u32, u32); 7] = [
    ("240p", 426, 240, 300_000),
    ("360p", 640, 360, 800_000),
    ("480p", 854, 480, 1_400_000),
    ("720p", 1280, 720, 2_800_000),
    ("1080p", 1920, 1080, 5_000_000),
    ("1440p", 2560, 1440, 9_000_000),
    ("2160p", 3840, 2160, 16_000_000),
];

/// What a title has in each of `codecs`; where it was optimised only what its plan says, at the rates found there.
pub fn rungs(width: u32, height: u32, grid: &Grid, codecs: &[Codec], plan: Option<&Plan>) -> Vec<Rung> {
    let fixed = ladder(width, height, grid);
    let all = codecs.iter().flat_map(|codec| fixed.iter().map(|rung| rung.in_codec(*codec, grid)));
    let Some(plan) = plan else { return all.collect() };
    let planned = all.filter_map(|rung| {
        let aim = plan.aim(rung.size(), rung.codec)?.clone();
        Some(Rung { bits_per_s: aim.bits_per_s, aim: Some(aim), ..rung })
    });
    planned.collect()
}

/// In H.264. From the lowest; `width` and `height` as shown: turned, and with square pixels.
pub fn ladder(width: u32, height: u32, grid: &Grid) -> Vec<Rung> {
    let rungs = BOXES.iter().enumerate().filter_map(|(index, (name, box_width, box_height, bits_per_s))| {
        // An upright picture fits an upright box.
        let (across, down) = if width >= height { (*box_width, *box_height) } else { (*box_height, *box_width) };
        let scale = f64::min(f64::from(across) / f64::from(width), f64::from(down) / f64::from(height));
        // A pixel or two short of a box is that box. The lowest rung is there for every source.
        if scale > 1.01 && index > 0 {
            return None;
        }
        let scale = scale.min(1.0);
        let (width, height) = (even(f64::from(width) * scale), even(f64::from(height) * scale));
        let fast = grid.frame_rate.as_f64() > 31.0;
        let bits_per_s = if fast { bits_per_s / 2 * 3 } else { *bits_per_s };
        let level = level(Codec::H264, width, height, grid.frame_rate.as_f64(), u64::from(bits_per_s) * 6 / 5);
        let name = (*name).to_owned();
        Some(Rung { name, codec: Codec::H264, width, height, bits_per_s, level, copied: None, aim: None })
    });
    rungs.collect()
}

/// A ladder with the film's own packets as a rung, `width` by `height`. Where they need at most twice the bits of the rung of that
/// size, they take its place: it would look worse and have to be made.
pub fn with_source(rungs: Vec<Rung>, width: u32, height: u32, copied: Copied) -> Vec<Rung> {
    let source = Rung {
        name: SOURCE.to_owned(),
        codec: Codec::H264,
        width,
        height,
        bits_per_s: copied.bits_per_s,
        level: copied.avc[2],
        copied: Some(copied),
        aim: None,
    };
    let h264 = |rung: &Rung| rung.codec == Codec::H264;
    let replaced = |rung: &Rung| {
        h264(rung)
            && (rung.width, rung.height) == (width, height)
            && copied.peak_bits_per_s / 2 <= rung.peak_bits_per_s()
    };
    let mut rungs: Vec<Rung> = rungs.into_iter().filter(|rung| !replaced(rung)).collect();
    let place = rungs.partition_point(|rung| h264(rung) && rung.peak_bits_per_s() <= source.peak_bits_per_s());
    rungs.insert(place, source);
    rungs
}

/// Per cent of H.264's bits that look as good, cautiously: `benches/quality` has them for segments made on demand.
fn share(codec: Codec) -> u32 {
    match codec {
        Codec::H264 => 100,
        Codec::Hevc => 85,
        Codec::Av1 => 60,
    }
}

impl Rung {
    /// The same of H.264's ladder in another codec.
    fn in_codec(&self, codec: Codec, grid: &Grid) -> Self {
        if codec == Codec::H264 {
            return self.clone();
        }
        let bits_per_s = self.bits_per_s / 100 * share(codec);
        let rung = Self { name: format!("{}-{}", self.name, codec.name()), codec, bits_per_s, ..self.clone() };
        let most = u64::from(rung.bits_per_s_max());
        Self { level: level(codec, rung.width, rung.height, grid.frame_rate.as_f64(), most), ..rung }
    }

    /// The height of its box, whatever the codec: `360p`.
    pub fn size(&self) -> &str {
        self.name.split_once('-').map_or(&self.name, |(size, _)| size)
    }

    /// Bits a second the encoder may not pass for longer than its buffer lasts.
    pub fn bits_per_s_max(&self) -> u32 {
        self.aim.as_ref().map_or(self.bits_per_s / 5 * 6, |aim| aim.bits_per_s_max)
    }

    /// Bits of the encoder's buffer (VBV).
    pub fn buffer_bits(&self) -> u32 {
        self.aim.as_ref().map_or(self.bits_per_s * 2, |aim| aim.bits_per_s_max / 3 * 5)
    }

    /// Bits a second of the largest segment there can be: the highest rate and a whole buffer in four seconds.
    pub fn peak_bits_per_s(&self) -> u32 {
        match self.copied {
            Some(copied) => copied.peak_bits_per_s,
            None => self.bits_per_s_max() + self.buffer_bits() / 4,
        }
    }

    /// RFC 6381: of what is encoded as its codec and level say, of the film's own packets as they are.
    pub fn codec(&self) -> String {
        match self.copied {
            Some(Copied { avc: [profile, constraints, level], .. }) => {
                format!("avc1.{profile:02X}{constraints:02X}{level:02X}")
            }
            None => self.promised().codecs(),
        }
    }

    /// What players are told of it before it is encoded.
    pub fn promised(&self) -> Coded {
        Coded::promised(self.codec, self.level)
    }
}

fn even(side: f64) -> u32 {
    ((side / 2.0).round() as u32 * 2).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::fraction::Fraction;
    use crate::media::quality::Measure;
    use proptest::prelude::*;

    fn shown(width: u32, height: u32, rate: &str) -> Vec<String> {
        let grid = Grid { frame_rate: Fraction::parse(rate).unwrap(), frames: 1 };
        let rungs = ladder(width, height, &grid);
        rungs.iter().map(|r| format!("{} {}x{} {} {}", r.name, r.width, r.height, r.bits_per_s, r.level)).collect()
    }

    #[test]
    fn a_ladder_ends_at_its_source() {
        assert_eq!(
            shown(1920, 1080, "25"),
            [
                "240p 426x240 300000 21",
                "360p 640x360 800000 30",
                "480p 854x480 1400000 30",
                "720p 1280x720 2800000 31",
                "1080p 1920x1080 5000000 40",
            ]
        );
        assert_eq!(shown(3840, 2160, "60").last().unwrap(), "2160p 3840x2160 24000000 52");
        assert_eq!(shown(160, 90, "25"), ["240p 160x90 300000 21"], "smaller than all: as it is");
        assert_eq!(shown(1920, 800, "24").last().unwrap(), "1080p 1920x800 5000000 40", "wider than 16:9");
        assert_eq!(shown(720, 1280, "30").last().unwrap(), "720p 720x1280 2800000 31", "upright");
        assert_eq!(shown(638, 358, "25").last().unwrap(), "360p 638x358 800000 30", "nearly a box");
    }

    #[test]
    fn each_codec_has_its_rungs_and_an_optimised_title_those_of_its_plan() {
        let grid = Grid { frame_rate: Fraction::parse("25").unwrap(), frames: 1 };
        let shown = |plan: Option<&Plan>| {
            let rungs = rungs(1280, 720, &grid, &Codec::ALL, plan);
            let shown =
                rungs.iter().map(|r| format!("{} {} {} {}", r.name, r.codec(), r.bits_per_s, r.peak_bits_per_s()));
            shown.collect::<Vec<_>>()
        };
        let all = shown(None);
        assert_eq!(all.len(), 12);
        assert_eq!(all[3], "720p avc1.64001F 2800000 4760000");
        assert_eq!(all[7], "720p-hevc hvc1.1.6.L93.90 2380000 4046000");
        assert_eq!(all[8], "240p-av1 av01.0.00M.08 180000 306000");
        let aim = |size: &str, codec, bits_per_s| Aim {
            size: size.into(),
            codec,
            crf: 30,
            bits_per_s,
            bits_per_s_max: bits_per_s * 2,
            score_milli: 93_000,
        };
        let aims = vec![
            aim("240p", Codec::H264, 100_000),
            aim("720p", Codec::H264, 900_000),
            aim("720p", Codec::Av1, 300_000),
        ];
        let plan = Plan { policy: 1, measure: Measure::Vmaf, saved_permille: 0, saved_h264_permille: 0, aims };
        assert_eq!(
            shown(Some(&plan)),
            [
                "240p avc1.640015 100000 283332",
                "720p avc1.64001F 900000 2550000",
                "720p-av1 av01.0.05M.08 300000 850000"
            ]
        );
    }

    #[test]
    fn a_films_own_packets_are_a_rung() {
        let grid = Grid { frame_rate: Fraction::parse("25").unwrap(), frames: 1 };
        let names = |peak_bits_per_s| {
            let copied = Copied { avc: [77, 0x40, 31], bits_per_s: peak_bits_per_s / 2, peak_bits_per_s };
            let rungs = with_source(ladder(1280, 720, &grid), 1280, 720, copied);
            let source = rungs.iter().find(|rung| rung.name == SOURCE).unwrap();
            assert_eq!((source.codec().as_str(), source.peak_bits_per_s()), ("avc1.4D401F", peak_bits_per_s));
            rungs.iter().map(|rung| rung.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(4_000_000), ["240p", "360p", "480p", "source"], "instead of 720p");
        assert_eq!(names(20_000_000), ["240p", "360p", "480p", "720p", "source"], "beside it: it needs far more");
        assert_eq!(names(400_000), ["source", "240p", "360p", "480p"], "in the order of bits");
    }

    proptest! {
        #[test]
        fn no_rung_is_above_the_source_or_odd(width in 1_u32..=SIDE_MAX, height in 1_u32..=SIDE_MAX) {
            let grid = Grid { frame_rate: Fraction::parse("25").unwrap(), frames: 1 };
            let rungs = ladder(width, height, &grid);
            prop_assert!(!rungs.is_empty());
            for rung in rungs {
                prop_assert!(rung.width <= width + 1 && rung.height <= height + 1);
                prop_assert!(rung.width % 2 == 0 && rung.height % 2 == 0 && rung.width > 0 && rung.height > 0);
            }
        }
    }
}
