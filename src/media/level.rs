//! Levels: what a decoder must be able to do for a track, told by its size, rate and bits. Tables of H.264, HEVC and AV1.
//!
//! Invariant: a level is ten times its number (`3.1` is 31), whatever the codec; where no level is enough it is the highest one.

use super::codec::Codec;

/// What a decoder is told of a track before its first picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coded {
    pub codec: Codec,
    /// `profile_idc`, `general_profile_idc`, `seq_profile`.
    pub profile: u8,
    pub level: u8,
    /// Of HEVC and AV1: more bits than the main tier allows.
    pub high_tier: bool,
    /// Bits of a sample.
    pub depth: u8,
}

/// ITU-T H.264 table A-1: level, macroblocks a second and in a frame, kilobits a second of the High profile.
const H264: [(u8, u64, u64, u64); 10] = [
    (21, 19_800, 792, 5_000),
    (30, 40_500, 1_620, 12_500),
    (31, 108_000, 3_600, 17_500),
    (32, 216_000, 5_120, 25_000),
    (40, 245_760, 8_192, 25_000),
    (41, 245_760, 8_192, 62_500),
    (42, 522_240, 8_704, 62_500),
    (50, 589_824, 22_080, 168_750),
    (51, 983_040, 36_864, 300_000),
    (52, 2_073_600, 36_864, 300_000),
];

/// ITU-T H.265 tables A.8 and A.9, main tier: level, samples a second and in a picture, kilobits a second.
const HEVC: [(u8, u64, u64, u64); 10] = [
    (20, 3_686_400, 122_880, 1_500),
    (21, 7_372_800, 245_760, 3_000),
    (30, 16_588_800, 552_960, 6_000),
    (31, 33_177_600, 983_040, 10_000),
    (40, 66_846_720, 2_228_224, 12_000),
    (41, 133_693_440, 2_228_224, 20_000),
    (50, 267_386_880, 8_912_896, 25_000),
    (51, 534_773_760, 8_912_896, 40_000),
    (52, 1_069_547_520, 8_912_896, 60_000),
    (60, 1_069_547_520, 35_651_584, 60_000),
];

/// AV1 annex A.3, main tier: level, samples shown a second and in a picture, kilobits a second.
const AV1: [(u8, u64, u64, u64); 10] = [
    (20, 4_423_680, 147_456, 1_500),
    (21, 8_363_520, 278_784, 3_000),
    (30, 19_975_680, 665_856, 6_000),
    (31, 31_950_720, 1_065_024, 10_000),
    (40, 70_778_880, 2_359_296, 12_000),
    (41, 141_557_760, 2_359_296, 20_000),
    (50, 267_386_880, 8_912_896, 30_000),
    (51, 534_773_760, 8_912_896, 40_000),
    (52, 1_069_547_520, 8_912_896, 60_000),
    (60, 1_069_547_520, 35_651_584, 60_000),
];

/// The lowest that is enough. `bits_per_s` is the highest rate there may be.
pub fn level(codec: Codec, width: u32, height: u32, frame_rate: f64, bits_per_s: u64) -> u8 {
    // H.264 counts macroblocks; the others samples, of which HEVC has whole blocks of 8.
    let side = |side: u32| match codec {
        Codec::H264 => u64::from(side.div_ceil(16)),
        Codec::Hevc => u64::from(side.div_ceil(8)) * 8,
        Codec::Av1 => u64::from(side),
    };
    let in_frame = side(width) * side(height);
    let per_s = (in_frame as f64 * frame_rate).ceil() as u64;
    let table = match codec {
        Codec::H264 => &H264,
        Codec::Hevc => &HEVC,
        Codec::Av1 => &AV1,
    };
    let fits = |(_, per_s_max, in_frame_max, kbits): &&(u8, u64, u64, u64)| {
        // No side longer than the root of eight times the picture (H.264 A.3.1, H.265 A.4.1); AV1's own bounds are wider.
        let longest = side(width).max(side(height));
        per_s <= *per_s_max
            && in_frame <= *in_frame_max
            && longest * longest <= in_frame_max * 8
            && bits_per_s <= *kbits * 1000
    };
    let highest = table[table.len() - 1].0;
    table.iter().find(fits).map_or(highest, |(level, ..)| *level)
}

impl Coded {
    /// What is promised of a rung of a codec at a level: 8 bits, the main tier, the codec's usual profile.
    pub fn promised(codec: Codec, level: u8) -> Self {
        let profile = match codec {
            Codec::H264 => 100,
            Codec::Hevc => 1,
            Codec::Av1 => 0,
        };
        Self { codec, profile, level, high_tier: false, depth: 8 }
    }

    /// Whether who can decode what was promised can decode this.
    pub fn keeps(&self, promise: &Self) -> bool {
        let Self { codec, profile, level, high_tier, depth } = *self;
        (codec, profile, depth) == (promise.codec, promise.profile, promise.depth)
            && level <= promise.level
            && (!high_tier || promise.high_tier)
    }

    /// RFC 6381: ISO/IEC 14496-15 annex E for H.264 and HEVC, the AV1 binding §5 for AV1. Constraints are those of progressive
    /// pictures, of which HEVC has words.
    pub fn codecs(&self) -> String {
        let Self { profile, level, high_tier, depth, .. } = *self;
        match self.codec {
            Codec::H264 => format!("avc1.{profile:02X}00{level:02X}"),
            Codec::Hevc => {
                // Main is also decodable as Main 10.
                let compatible = if profile == 1 { 6 } else { 1_u32 << profile };
                let tier = if high_tier { 'H' } else { 'L' };
                format!("hvc1.{profile}.{compatible:X}.{tier}{}.90", u32::from(level) * 3)
            }
            Codec::Av1 => {
                let index = (level / 10).saturating_sub(2) * 4 + level % 10;
                let tier = if high_tier { 'H' } else { 'M' };
                format!("av01.{profile}.{index:02}{tier}.{depth:02}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn levels_and_words_of_usual_sizes() {
        for (size, rate, bits_per_s, h264, hevc, av1) in [
            ((640, 360), 25.0, 960_000, "avc1.64001E", "hvc1.1.6.L63.90", "av01.0.01M.08"),
            ((1280, 720), 25.0, 3_360_000, "avc1.64001F", "hvc1.1.6.L93.90", "av01.0.05M.08"),
            ((1920, 1080), 25.0, 6_000_000, "avc1.640028", "hvc1.1.6.L120.90", "av01.0.08M.08"),
            ((3840, 2160), 60.0, 28_800_000, "avc1.640034", "hvc1.1.6.L153.90", "av01.0.13M.08"),
        ] {
            let words =
                Codec::ALL.map(|codec| Coded::promised(codec, level(codec, size.0, size.1, rate, bits_per_s)).codecs());
            assert_eq!(words, [h264, hevc, av1], "{size:?}");
        }
    }

    #[test]
    fn less_than_was_promised_is_kept_and_more_is_not() {
        let promise = Coded::promised(Codec::Hevc, 31);
        assert!(promise.keeps(&promise) && Coded { level: 30, ..promise }.keeps(&promise));
        for other in [
            Coded { level: 40, ..promise },
            Coded { profile: 2, ..promise },
            Coded { depth: 10, ..promise },
            Coded { high_tier: true, ..promise },
            Coded::promised(Codec::H264, 31),
        ] {
            assert!(!other.keeps(&promise), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn a_level_never_falls_where_the_picture_grows(
            width in 2_u32..8192, height in 2_u32..8192, rate in 10.0_f64..60.0, bits_per_s in 1_u64..60_000_000,
        ) {
            for codec in Codec::ALL {
                let small = level(codec, width / 2, height / 2, rate, bits_per_s / 2);
                prop_assert!(small <= level(codec, width, height, rate, bits_per_s));
            }
        }
    }
}
