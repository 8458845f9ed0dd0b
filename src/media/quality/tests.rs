//! Searches over made-up films, and what is left of their ladders.

use super::*;
use proptest::prelude::*;

/// A film to encode: its bits halve every `half` steps of quality from `bits` at 26, its score falls from `best` ever faster.
#[derive(Debug, Clone, Copy)]
struct Content {
    bits: f64,
    half: f64,
    best: f64,
    fall: f64,
}

impl Content {
    fn trial(self, crf: u8) -> Trial {
        let bits_per_s = (self.bits * 0.5_f64.powf((f64::from(crf) - 26.0) / self.half)) as u32;
        let score = (self.best - self.fall * f64::from(crf).powi(2) / 100.0).max(0.0);
        Trial { crf, bits_per_s, peak_bits_per_s: bits_per_s / 2 * 3, score_milli: (score * 1000.0) as u32 }
    }

    fn searched(self, codec: Codec, target_milli: u32, fixed: u32) -> (Search, Trial) {
        let mut search = Search::new(codec, Measure::Vmaf, target_milli, fixed);
        while let Some(crf) = search.next() {
            search.add(self.trial(crf));
        }
        let chosen = search.chosen().expect("something was tried");
        (search, chosen)
    }
}

#[test]
fn an_easy_film_gets_fewer_bits_and_a_hard_one_what_there_is() {
    let easy = Content { bits: 400_000.0, half: 6.0, best: 100.0, fall: 0.9 };
    let (search, chosen) = easy.searched(Codec::H264, 93_000, 2_800_000);
    assert!(search.tried.len() <= TRIALS_MAX && chosen.score_milli >= 93_000 && chosen.score_milli < 93_600);
    assert!((chosen.bits_per_s) < 400_000, "{chosen:?}");
    let hard = Content { bits: 20_000_000.0, half: 6.0, best: 99.0, fall: 1.5 };
    let (_, chosen) = hard.searched(Codec::H264, 93_000, 2_800_000);
    assert!(chosen.bits_per_s > 2_000_000 && chosen.score_milli < 93_000, "{chosen:?}");
}

#[test]
fn samples_are_spread() {
    assert_eq!(samples(3, 5), [0, 1, 2]);
    assert_eq!(samples(100, 4), [12, 37, 62, 87]);
    assert_eq!(samples(0, 4), [] as [u64; 0]);
}

#[test]
fn a_bad_sample_counts() {
    assert_eq!(score_milli(Measure::Vmaf, &[95_000, 94_000, 96_000]), Some(95_000));
    assert_eq!(score_milli(Measure::Vmaf, &[99_000, 99_000, 70_000]), Some(75_000));
    assert_eq!(score_milli(Measure::Ssim, &[]), None);
}

fn chosen(size: &str, codec: Codec, fixed: u32, bits_per_s: u32) -> Chosen {
    let trial = Trial { crf: 30, bits_per_s, peak_bits_per_s: bits_per_s, score_milli: 93_000 };
    Chosen { size: size.into(), codec, fixed_bits_per_s: fixed, fixed_h264_bits_per_s: fixed, trial }
}

#[test]
fn what_is_not_worth_having_is_left_out() {
    let all = [
        chosen("360p", Codec::H264, 800_000, 300_000),
        chosen("720p", Codec::H264, 2_800_000, 700_000),
        chosen("1080p", Codec::H264, 5_000_000, 750_000),
        chosen("720p", Codec::Hevc, 2_000_000, 680_000),
        chosen("1080p", Codec::Hevc, 4_000_000, 740_000),
        chosen("360p", Codec::Av1, 400_000, 120_000),
        chosen("1080p", Codec::Av1, 2_500_000, 380_000),
    ];
    let plan = plan(Measure::Vmaf, &all);
    let left: Vec<_> = plan.aims.iter().map(|aim| (aim.size.as_str(), aim.codec)).collect();
    // A cartoon: 1080p costs what 720p does. HEVC saves nothing here.
    let expected = [("360p", Codec::H264), ("1080p", Codec::H264), ("360p", Codec::Av1), ("1080p", Codec::Av1)];
    assert_eq!(left, expected);
    assert_eq!((plan.saved_h264_permille, plan.saved_permille), (819, 914));
    assert_eq!(plan.aim("1080p", Codec::Av1).unwrap().bits_per_s_max, 760_000);
}

proptest! {
    #[test]
    fn a_choice_is_within_its_bounds(
        bits in 10_000.0_f64..30_000_000.0, half in 3.0_f64..12.0, best in 60.0_f64..100.0, fall in 0.0_f64..4.0,
        codec in 0_usize..3, fixed in 100_000_u32..20_000_000, target in 80_000_u32..97_000,
    ) {
        let codec = Codec::ALL[codec];
        let content = Content { bits, half, best, fall };
        let (search, found) = content.searched(codec, target, fixed);
        let (lowest, highest, _) = range(codec, Measure::Vmaf);
        prop_assert!(search.tried.len() <= TRIALS_MAX && (lowest..=highest).contains(&found.crf));
        // Good enough unless that takes more than there is, or is beyond what is tried.
        let affordable = content.trial(lowest);
        let reached = found.score_milli >= target;
        prop_assert!(reached || affordable.score_milli < target || affordable.bits_per_s > fixed, "{found:?} {search:?}");
    }

    #[test]
    fn a_plan_rises_with_its_sizes_and_keeps_the_largest(bits in proptest::collection::vec(1_000_u32..20_000_000, 1..8), other in 1_000_u32..9_000_000) {
        let sizes = ["240p", "360p", "480p", "720p", "1080p", "1440p", "2160p"];
        let mut all: Vec<Chosen> = bits.iter().zip(sizes).enumerate()
            .map(|(index, (bits, size))| chosen(size, Codec::H264, 400_000 << index.min(5), *bits)).collect();
        all.push(chosen(sizes[bits.len() - 1], Codec::Av1, 1_000_000, other));
        let plan = plan(Measure::Ssim, &all);
        let h264: Vec<&Aim> = plan.aims.iter().filter(|aim| aim.codec == Codec::H264).collect();
        prop_assert_eq!(&h264.last().unwrap().size, sizes[bits.len() - 1]);
        prop_assert!(h264.windows(2).all(|pair| pair[0].bits_per_s < pair[1].bits_per_s));
        for aim in &plan.aims {
            let fixed = all.iter().find(|chosen| chosen.size == aim.size && chosen.codec == aim.codec).unwrap().fixed_bits_per_s;
            prop_assert!(aim.bits_per_s <= fixed && aim.bits_per_s_max >= aim.bits_per_s && aim.bits_per_s_max <= fixed / 5 * 6);
        }
        prop_assert!(plan.saved_h264_permille <= plan.saved_permille && plan.saved_permille <= 1000);
    }
}
