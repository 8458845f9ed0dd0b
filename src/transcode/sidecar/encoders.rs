//! What can encode: each encoder that is known, and what it is told beside sizes and rates. Pure.
//!
//! Invariant: a film's segments are made by the encoders that it was looked at with (`Film::encoders`); another one makes other bytes.

use crate::media::codec::Codec;

/// A choice of encoder: what it is called, and what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoder {
    /// As ffmpeg calls it.
    pub name: &'static str,
    pub codec: Codec,
    pub options: &'static [&'static str],
}

/// Every encoder known; the first of a codec is the one used.
pub const ENCODERS: [Encoder; 1] = [Encoder {
    name: "libx264",
    codec: Codec::H264,
    options: &[
        "-preset",
        "veryfast",
        "-profile:v",
        "high",
        "-bf",
        "2",
        "-sc_threshold",
        "0",
        "-threads",
        "2",
        "-x264-params",
        "sliced-threads=1",
    ],
}];

/// By its name; None: it is not known here.
pub fn named(name: &str) -> Option<&'static Encoder> {
    ENCODERS.iter().find(|encoder| encoder.name == name)
}
