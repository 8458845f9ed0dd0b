//! Rungs that an HLS origin's ladder lacks, made from its best one: what is read of its playlists and segments, and what is written
//! from them.
//!
//! - [`address`]: URLs of what is added, beside the origin's own; nothing but the same host is ever named.
//! - [`multivariant`]: variants read, a source and rungs chosen, lines inserted.
//! - [`playlist`]: a media playlist read and written again with other URLs.
//! - [`mpegts`], [`fmp4`]: the frames of a segment, and the segment with other frames in their places and at their times.
//!
//! Invariants: pure; no panic on any bytes; an origin's own lines are never changed; a segment that is written has exactly the times of
//! the one it was made from, frame by frame.

pub mod address;
pub mod fmp4;
pub mod mpegts;
pub mod multivariant;
pub mod playlist;

use serde::{Deserialize, Serialize};

/// What segments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Container {
    MpegTs,
    Fmp4,
}

impl Container {
    /// Of the names of segments.
    pub fn extension(self) -> &'static str {
        match self {
            Self::MpegTs => "ts",
            Self::Fmp4 => "m4s",
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::MpegTs => "video/mp2t",
            Self::Fmp4 => "video/mp4",
        }
    }
}

/// Why nothing is made from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Not what it should be.
    Unreadable,
    Encrypted,
    /// Byte ranges, parts, variables, keyframes only, pathways.
    Feature,
    /// Longer than is worth making.
    TooLong,
    /// It points to another host, or to what was added.
    Elsewhere,
    /// Other streams than one of video that can be decoded, and sound beside it.
    Streams,
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "it cannot be read",
            Self::Encrypted => "it is encrypted",
            Self::Feature => "it has a feature that is not supported",
            Self::TooLong => "it is too long",
            Self::Elsewhere => "it points elsewhere",
            Self::Streams => "its streams are not supported",
        })
    }
}

/// A frame of a segment, in decoding order. Ticks of the segment's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    pub decode: i64,
    pub shown: i64,
    pub is_key: bool,
}

/// Whether frames can be decoded without those of the segment before: they begin with a keyframe, and none is shown before it.
pub fn is_independent(frames: &[Frame]) -> bool {
    let Some(first) = frames.first() else { return false };
    first.is_key && frames.iter().all(|frame| frame.shown >= first.shown)
}

/// The times at which frames are shown, in that order. None: two at once.
pub fn shown(frames: &[Frame]) -> Option<Vec<i64>> {
    let mut times: Vec<i64> = frames.iter().map(|frame| frame.shown).collect();
    times.sort_unstable();
    times.windows(2).all(|pair| pair[0] < pair[1]).then_some(times)
}
