//! The frame grid of a title: a constant rate over its whole length, cut into segments of about four seconds. Segment n is
//! always frames [n·F, (n+1)·F), so that segments made apart, in any order, meet without a gap.
//!
//! Invariants: all times are exact; a frame lasts a whole number of ticks of [`Grid::timescale`]; the segments of a grid
//! cover its frames once, in order; the audio frames of its segments follow one another without a gap.

use super::fraction::Fraction;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What a segment should last.
const SEGMENT_S: i64 = 4;
/// Samples a second, and in one AAC frame.
pub const AUDIO_RATE: u32 = 48_000;
pub const AUDIO_FRAME_SAMPLES: u32 = 1024;
/// Segments of video that one of subtitles covers: a minute.
const TEXT_SEGMENT_PARTS: u64 = 15;
/// Ticks a second at least, so that other clocks can be compared with ours.
const TIMESCALE_MIN: i64 = 10_000;

/// Rates films have; anything else is put on the next higher one.
const RATES: [(i64, i64); 14] = [
    (10, 1),
    (12, 1),
    (25, 2),
    (15, 1),
    (20, 1),
    (24_000, 1001),
    (24, 1),
    (25, 1),
    (30_000, 1001),
    (30, 1),
    (48, 1),
    (50, 1),
    (60_000, 1001),
    (60, 1),
];

/// The rate for a source, from the lowest rate all its times fit (ffprobe's `r_frame_rate`) and its average. Where the two agree
/// the rate is constant, and the nearest usual one; else the next usual one from the average upwards, at most 60.
pub fn frame_rate(real: Option<Fraction>, average: Option<Fraction>) -> Fraction {
    let usable = |rate: &Fraction| rate.numerator() > 0;
    let (real, average) = (real.filter(usable), average.filter(usable));
    let rates = || RATES.iter().filter_map(|(numerator, denominator)| Fraction::new(*numerator, *denominator));
    let wanted = average.or(real).map_or(25.0, Fraction::as_f64);
    let constant = real.is_none_or(|real| (real.as_f64() / wanted - 1.0).abs() < 0.01);
    let distance = |rate: &Fraction| (rate.as_f64() / wanted - 1.0).abs();
    let nearest = rates().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    let next = rates().find(|rate| rate.as_f64() >= wanted * 0.999);
    let highest = rates().next_back();
    let found = if constant { nearest.filter(|rate| distance(rate) < 0.002) } else { None };
    found.or(next).or(highest).expect("the table of rates is not empty")
}

/// The frames of a title, at a constant rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grid {
    /// Positive; one of the usual rates.
    pub frame_rate: Fraction,
    /// Of the whole title.
    pub frames: u64,
}

impl Grid {
    /// F: frames of every segment but the last.
    pub fn segment_frames(&self) -> u64 {
        let (numerator, denominator) = (self.frame_rate.numerator(), self.frame_rate.denominator());
        ((2 * SEGMENT_S * numerator + denominator) / (2 * denominator)).max(1).unsigned_abs()
    }

    pub fn segments(&self) -> u64 {
        self.frames.div_ceil(self.segment_frames())
    }

    /// The frames of a segment; None beyond the end.
    pub fn frames_of(&self, segment: u64) -> Option<Range<u64>> {
        let first = segment.checked_mul(self.segment_frames()).filter(|first| *first < self.frames)?;
        Some(first..(first + self.segment_frames()).min(self.frames))
    }

    /// Seconds from the title's start to that of a frame.
    pub fn time_of(&self, frame: u64) -> Fraction {
        let numerator = i128::from(frame) * i128::from(self.frame_rate.denominator());
        Fraction::new(numerator, self.frame_rate.numerator()).expect("a rate is not 0, and frames are counted in hours")
    }

    /// Ticks a second of the video track.
    pub fn timescale(&self) -> u32 {
        let ticks = self.frame_rate.numerator() * self.multiple();
        u32::try_from(ticks).expect("usual rates have small numerators")
    }

    /// Ticks of one frame, a whole number.
    pub fn frame_ticks(&self) -> u32 {
        let ticks = self.frame_rate.denominator() * self.multiple();
        u32::try_from(ticks).expect("usual rates have small denominators")
    }

    fn multiple(&self) -> i64 {
        (TIMESCALE_MIN + self.frame_rate.numerator() - 1) / self.frame_rate.numerator()
    }

    /// The AAC frames of a segment, on the grid of [`AUDIO_FRAME_SAMPLES`] from the title's start; None beyond the end.
    pub fn audio_frames_of(&self, segment: u64) -> Option<Range<u64>> {
        let frames = self.frames_of(segment)?;
        Some(self.first_audio_frame(frames.start)..self.first_audio_frame(frames.end))
    }

    /// Segments of subtitles: each lasts as long as fifteen of video, a minute.
    pub fn text_segments(&self) -> u64 {
        self.segments().div_ceil(TEXT_SEGMENT_PARTS)
    }

    /// The frames a segment of subtitles covers; None beyond the end.
    pub fn text_frames_of(&self, segment: u64) -> Option<Range<u64>> {
        let frames = self.segment_frames() * TEXT_SEGMENT_PARTS;
        let first = segment.checked_mul(frames).filter(|first| *first < self.frames)?;
        Some(first..(first + frames).min(self.frames))
    }

    /// The first AAC frame that begins at a video frame or after it.
    fn first_audio_frame(&self, frame: u64) -> u64 {
        let (numerator, denominator) = (self.frame_rate.numerator(), self.frame_rate.denominator());
        let samples = u128::from(frame) * u128::from(denominator.unsigned_abs()) * u128::from(AUDIO_RATE);
        let audio_frame = samples.div_ceil(u128::from(numerator.unsigned_abs()) * u128::from(AUDIO_FRAME_SAMPLES));
        u64::try_from(audio_frame).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grid(rate: &str, frames: u64) -> Grid {
        Grid { frame_rate: Fraction::parse(rate).unwrap(), frames }
    }

    #[test]
    fn a_constant_rate_stays_and_a_wild_one_goes_to_the_next() {
        for (real, average, rate) in [
            ("25/1", "25/1", "25/1"),
            ("24000/1001", "24000/1001", "24000/1001"),
            ("24/1", "24/1", "24/1"),
            ("30000/1001", "359640/12001", "30000/1001"),
            ("50/1", "25/1", "25/1"),
            ("90000/1", "3700/100", "48/1"),
            ("120/1", "120/1", "60/1"),
            ("1/1", "1/1", "10/1"),
            ("0/0", "0/0", "25/1"),
        ] {
            let found = frame_rate(Fraction::parse(real), Fraction::parse(average));
            assert_eq!(found.to_string(), rate, "{real} {average}");
        }
    }

    #[test]
    fn segments_of_the_usual_rates() {
        for (rate, frames, timescale, ticks) in [
            ("25/1", 100, 10_000, 400),
            ("30000/1001", 120, 30_000, 1001),
            ("24000/1001", 96, 24_000, 1001),
            ("25/2", 50, 10_000, 800),
            ("60000/1001", 240, 60_000, 1001),
        ] {
            let grid = grid(rate, 1000);
            assert_eq!((grid.segment_frames(), grid.timescale(), grid.frame_ticks()), (frames, timescale, ticks));
        }
        let film = grid("25/1", 283);
        assert_eq!((film.segments(), film.frames_of(2), film.frames_of(3)), (3, Some(200..283), None));
        assert_eq!(film.time_of(100).to_string(), "4/1");
        assert_eq!((film.audio_frames_of(0), film.audio_frames_of(1)), (Some(0..188), Some(188..375)));
        assert_eq!(grid("25/1", 0).segments(), 0);
        let hour = grid("25/1", 90_001);
        assert_eq!(
            (hour.text_segments(), hour.text_frames_of(0), hour.text_frames_of(60)),
            (61, Some(0..1500), Some(90_000..90_001))
        );
        assert_eq!((hour.text_frames_of(61), hour.text_frames_of(u64::MAX)), (None, None));
    }

    proptest! {
        #[test]
        fn segments_cover_every_frame_once_and_audio_has_no_gap(
            rate in proptest::sample::select(RATES.to_vec()), frames in 1_u64..20_000,
        ) {
            let grid = Grid { frame_rate: Fraction::new(rate.0, rate.1).unwrap(), frames };
            let (mut next, mut next_audio) = (0, 0);
            for segment in 0..grid.segments() {
                let (video, audio) = (grid.frames_of(segment).unwrap(), grid.audio_frames_of(segment).unwrap());
                prop_assert!(video.start == next && video.end > next);
                prop_assert_eq!(audio.start, next_audio);
                (next, next_audio) = (video.end, audio.end);
            }
            prop_assert_eq!(next, frames);
            prop_assert!(grid.frames_of(grid.segments()).is_none() && grid.frames_of(u64::MAX).is_none());
            let exact = u128::from(grid.timescale()) * u128::from(rate.1.unsigned_abs());
            prop_assert_eq!(exact, u128::from(grid.frame_ticks()) * u128::from(rate.0.unsigned_abs()));
        }
    }
}
