//! How many bits a title needs: for each rung the constant quality (CRF) that just looks good enough, as measured on samples of the title.
//!
//! - [`Search`]: which qualities to try, and what to choose of those tried.
//! - [`plan`]: the choices of all rungs; rungs and codecs that are not worth having are left out.
//!
//! A score compares a rung with the film scaled to the rung's own size: it says what encoding did, not what scaling does, so one target holds
//! for films of every size. It falls a little from size to size: small rungs are for those who have few bits. Whether a rung is worth
//! having is told by its bits alone: who can have the next larger one for little more has no use for it.
//!
//! Invariants: no rung gets more bits than the fixed ladder gives it; within a codec, larger rungs have more bits; the largest is always
//! there; and H.264 is.

use super::codec::Codec;
use serde::{Deserialize, Serialize};

/// Changes with targets and with what is worth having: plans of another one do not hold.
pub const POLICY: u32 = 1;
/// Runs of the encoder for one rung, each over all samples.
pub const TRIALS_MAX: usize = 5;
/// Qualities as near as this are not told apart by another trial.
const NEAR: u8 = 2;
/// A rung is worth having where the next larger one takes this much more.
const STEP_PERCENT: u64 = 15;
/// A codec is worth having where it saves this much of H.264's bits.
const CODEC_SAVES_PERCENT: u64 = 10;
/// What was not sampled may need more than what was: the declared bits are at least this part of the fixed ladder's …
const FLOOR_PARTS: u32 = 16;
/// … and the highest rate this part.
const CAP_PARTS: u32 = 4;

/// What scores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Netflix's VMAF, its default model: 0 to 100.
    Vmaf,
    /// Structural similarity of all planes, in decibels. Where ffmpeg has no VMAF.
    Ssim,
}

impl Measure {
    /// Thousandths: what a picture of so many lines should reach. VMAF 93 is where people begin to see no difference at 1080p (Netflix's
    /// own word); the decibels are what H.264 has there on the clips of `benches/quality`.
    pub fn target_milli(self, height: u32) -> u32 {
        let smaller = match height {
            1000.. => 0,
            700.. => 1,
            460.. => 2,
            _ => 3,
        };
        match self {
            Self::Vmaf => 93_000 - smaller * 1_000,
            Self::Ssim => 15_000 - smaller * 250,
        }
    }
}

/// Samples of one rung at one quality, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    pub crf: u8,
    /// Of all samples, and of the largest.
    pub bits_per_s: u32,
    pub peak_bits_per_s: u32,
    /// See [`score_milli`].
    pub score_milli: u32,
}

/// One score for samples: their mean, or less where the worst is far below it. None: there are none.
pub fn score_milli(measure: Measure, samples: &[u32]) -> Option<u32> {
    let far = match measure {
        Measure::Vmaf => 5_000,
        Measure::Ssim => 1_500,
    };
    let worst = *samples.iter().min()?;
    let mean = samples.iter().map(|score| u64::from(*score)).sum::<u64>() / samples.len() as u64;
    Some(u32::try_from(mean).unwrap_or(u32::MAX).min(worst.saturating_add(far)))
}

/// The segments to look at: spread over a title, none of its first and last, where there are enough.
pub fn samples(segments: u64, count: u64) -> Vec<u64> {
    if segments <= count {
        return (0..segments).collect();
    }
    (0..count).map(|sample| (2 * sample + 1) * segments / (2 * count)).collect()
}

/// Lowest, highest, and first tried. CRF is not the same scale in any two codecs. Decibels say less of what people see, above all of drawn
/// pictures: with them, no quality is tried that would be bad for any film.
fn range(codec: Codec, measure: Measure) -> (u8, u8, u8) {
    let (best, worst, first) = match codec {
        Codec::H264 => (17, 38, 26),
        Codec::Hevc => (17, 40, 27),
        Codec::Av1 => (20, 60, 38),
    };
    match measure {
        Measure::Vmaf => (best, worst, first),
        Measure::Ssim => (best, first + (worst - first) / 3, first),
    }
}

/// The way to one rung's quality.
#[derive(Debug, Clone)]
pub struct Search {
    codec: Codec,
    measure: Measure,
    target_milli: u32,
    fixed_bits_per_s: u32,
    /// By quality, the best first.
    tried: Vec<Trial>,
}

impl Search {
    /// `fixed_bits_per_s`: what the fixed ladder gives this rung.
    pub fn new(codec: Codec, measure: Measure, target_milli: u32, fixed_bits_per_s: u32) -> Self {
        Self { codec, measure, target_milli, fixed_bits_per_s, tried: Vec::new() }
    }

    /// What to try first, however it is measured.
    pub fn first(codec: Codec) -> u8 {
        range(codec, Measure::Vmaf).2
    }

    /// What to try next; None: enough is known.
    pub fn next(&self) -> Option<u8> {
        let (best, worst, first) = range(self.codec, self.measure);
        if self.tried.len() >= TRIALS_MAX {
            return None;
        }
        let (Some(lowest), Some(highest)) = (self.tried.first(), self.tried.last()) else { return Some(first) };
        let (good, bad) = self.around();
        let step = (worst - best) / 4;
        let wanted = match (good, bad) {
            // What would look better would take more than there is.
            (None, _) if lowest.bits_per_s >= self.fixed_bits_per_s => return None,
            (None, _) => lowest.crf.saturating_sub(step).max(best),
            (Some(_), None) => highest.crf.saturating_add(step).min(worst),
            (Some(good), Some(bad)) if bad.crf - good.crf <= NEAR => return None,
            (Some(good), Some(bad)) => {
                let part = between(good.score_milli, bad.score_milli, self.target_milli);
                let at = f64::from(good.crf) + part * f64::from(bad.crf - good.crf);
                (at.round() as u8).clamp(good.crf + 1, bad.crf - 1)
            }
        };
        self.tried.iter().all(|trial| trial.crf != wanted).then_some(wanted)
    }

    /// What came of one that was asked for.
    pub fn add(&mut self, trial: Trial) {
        let at = self.tried.partition_point(|there| there.crf < trial.crf);
        self.tried.insert(at, trial);
    }

    /// The worst quality that is good enough, and the next worse one that is not.
    fn around(&self) -> (Option<&Trial>, Option<&Trial>) {
        let good = self.tried.iter().rposition(|trial| trial.score_milli >= self.target_milli);
        (good.map(|at| &self.tried[at]), self.tried.get(good.map_or(0, |at| at + 1)))
    }

    /// The fewest bits that look good enough; where that is more than there is, what there is. None: nothing was tried.
    pub fn chosen(&self) -> Option<Trial> {
        let (good, bad) = self.around();
        let wanted = match (good, bad) {
            (Some(good), Some(bad)) => self.finest(good, bad, |trial| trial.score_milli >= self.target_milli),
            (good, bad) => *good.or(bad)?,
        };
        if wanted.bits_per_s <= self.fixed_bits_per_s {
            return Some(wanted);
        }
        // The best that there are bits for.
        let dear = self.tried.iter().rposition(|trial| trial.bits_per_s > self.fixed_bits_per_s)?;
        let (dear, cheap) = (&self.tried[dear], self.tried.get(dear + 1));
        let Some(cheap) = cheap else { return Some(*dear) };
        let found = (dear.crf..=cheap.crf).map(|crf| estimate(dear, cheap, crf));
        found.into_iter().find(|trial| trial.bits_per_s <= self.fixed_bits_per_s)
    }

    /// The worst quality between two that is still good enough.
    fn finest(&self, good: &Trial, bad: &Trial, enough: impl Fn(&Trial) -> bool) -> Trial {
        let between = (good.crf..bad.crf).rev().map(|crf| estimate(good, bad, crf));
        between.into_iter().find(enough).unwrap_or(*good)
    }
}

/// How far `at` is from `from` to `to`: 0 to 1.
fn between(from: u32, to: u32, at: u32) -> f64 {
    let length = f64::from(to) - f64::from(from);
    if length == 0.0 { 0.5 } else { ((f64::from(at) - f64::from(from)) / length).clamp(0.0, 1.0) }
}

/// Between two trials: scores go in a straight line, bits by equal factors.
fn estimate(a: &Trial, b: &Trial, crf: u8) -> Trial {
    let part = between(a.crf.into(), b.crf.into(), crf.into());
    let line = |a: u32, b: u32| (f64::from(a) + part * (f64::from(b) - f64::from(a))).round() as u32;
    let factor = |a: u32, b: u32| {
        let (a, b) = (f64::from(a.max(1)), f64::from(b.max(1)));
        (a * (b / a).powf(part)).round() as u32
    };
    Trial {
        crf,
        bits_per_s: factor(a.bits_per_s, b.bits_per_s),
        peak_bits_per_s: factor(a.peak_bits_per_s, b.peak_bits_per_s),
        score_milli: line(a.score_milli, b.score_milli),
    }
}

/// What was chosen for a rung, and what the fixed ladder gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Of the box: `720p`, whatever the codec.
    pub size: String,
    pub codec: Codec,
    pub fixed_bits_per_s: u32,
    /// Of H.264 at this size.
    pub fixed_h264_bits_per_s: u32,
    pub trial: Trial,
}

/// How a title is encoded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// [`POLICY`], as of when it was made.
    pub policy: u32,
    pub measure: Measure,
    /// Thousandths of the fixed ladder's bits in H.264, at the sizes that are left: saved by what needs least, and by H.264 alone.
    pub saved_permille: u32,
    pub saved_h264_permille: u32,
    /// By codec, from the smallest.
    pub aims: Vec<Aim>,
}

/// How one rung is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Aim {
    pub size: String,
    pub codec: Codec,
    pub crf: u8,
    /// About.
    pub bits_per_s: u32,
    pub bits_per_s_max: u32,
    pub score_milli: u32,
}

/// What is worth having of what was chosen: `all` from the smallest size of each codec.
pub fn plan(measure: Measure, all: &[Chosen]) -> Plan {
    let of = |codec| all.iter().filter(move |chosen| chosen.codec == codec);
    let bits_of = |codec| of(codec).map(|chosen| u64::from(chosen.trial.bits_per_s)).sum::<u64>();
    let mut aims = Vec::new();
    for codec in Codec::ALL {
        // Sizes that both have are compared.
        let same = of(Codec::H264).filter(|h264| of(codec).any(|chosen| chosen.size == h264.size));
        let h264: u64 = same.map(|chosen| u64::from(chosen.trial.bits_per_s)).sum();
        if codec != Codec::H264 && bits_of(codec) * 100 > h264 * (100 - CODEC_SAVES_PERCENT) {
            continue;
        }
        let mut kept: Vec<Aim> = Vec::new();
        // From the largest down: one that takes nearly as much as the next larger is pointless.
        for chosen in of(codec).collect::<Vec<_>>().into_iter().rev() {
            let aim = Aim::of(chosen);
            let pointless =
                |larger: &Aim| u64::from(aim.bits_per_s) * (100 + STEP_PERCENT) > u64::from(larger.bits_per_s) * 100;
            if !kept.last().is_some_and(pointless) {
                kept.push(aim);
            }
        }
        aims.extend(kept.into_iter().rev());
    }
    let (all_codecs, h264) = (saved(&aims, all, &Codec::ALL), saved(&aims, all, &[Codec::H264]));
    Plan { policy: POLICY, measure, saved_permille: all_codecs, saved_h264_permille: h264, aims }
}

impl Aim {
    fn of(chosen: &Chosen) -> Self {
        let Chosen { size, codec, fixed_bits_per_s, trial, .. } = chosen;
        let fixed_max = fixed_bits_per_s / 5 * 6;
        let bits_per_s = trial.bits_per_s.clamp(fixed_bits_per_s / FLOOR_PARTS, *fixed_bits_per_s);
        let room = bits_per_s.saturating_mul(2).max(trial.peak_bits_per_s.saturating_mul(3) / 2);
        Self {
            size: size.clone(),
            codec: *codec,
            crf: trial.crf,
            bits_per_s,
            bits_per_s_max: room.clamp(fixed_bits_per_s / CAP_PARTS, fixed_max),
            score_milli: trial.score_milli,
        }
    }
}

impl Plan {
    /// Of a rung, by its size (`360p`) and codec; None: it is not offered.
    pub fn aim(&self, size: &str, codec: Codec) -> Option<&Aim> {
        self.aims.iter().find(|aim| aim.codec == codec && aim.size == size)
    }
}

/// Thousandths of the bits that are saved at the sizes that are left, by whichever of some codecs needs least there.
fn saved(aims: &[Aim], all: &[Chosen], codecs: &[Codec]) -> u32 {
    let (mut before, mut after) = (0_u64, 0_u64);
    for chosen in all.iter().filter(|chosen| chosen.codec == Codec::H264) {
        let left = aims.iter().filter(|aim| aim.size == chosen.size);
        if !left.clone().any(|aim| aim.codec == Codec::H264) {
            continue;
        }
        let least = left.filter(|aim| codecs.contains(&aim.codec)).map(|aim| aim.bits_per_s).min();
        before += u64::from(chosen.fixed_h264_bits_per_s);
        after += u64::from(least.unwrap_or(chosen.fixed_h264_bits_per_s));
    }
    let left = (after * 1000).checked_div(before).unwrap_or(1000);
    u32::try_from(1000_u64.saturating_sub(left)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
