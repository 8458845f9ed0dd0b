//! The video codecs that renditions are made in, and what makes them.
//!
//! Invariant: H.264 comes first and every title has it; the others are for players that say that they take them.

use serde::{Deserialize, Serialize};

/// A video codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// ITU-T H.264, ISO/IEC 14496-10.
    H264,
    /// ITU-T H.265, ISO/IEC 23008-2.
    Hevc,
    /// AV1 Bitstream & Decoding Process Specification.
    Av1,
}

impl Codec {
    pub const ALL: [Self; 3] = [Self::H264, Self::Hevc, Self::Av1];

    /// As in messages, metrics and the names of renditions.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::Hevc => "hevc",
            Self::Av1 => "av1",
        }
    }
}

/// What an encoder runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// NVIDIA.
    Nvenc,
    /// Intel Quick Sync Video.
    Qsv,
    /// AMD's Advanced Media Framework.
    Amf,
    /// The Video Acceleration API of Linux.
    Vaapi,
    Software,
}

impl Family {
    /// In the order in which they are preferred, where nobody says otherwise.
    pub const ALL: [Self; 5] = [Self::Nvenc, Self::Qsv, Self::Amf, Self::Vaapi, Self::Software];

    /// As in configuration and arguments.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nvenc => "nvenc",
            Self::Qsv => "qsv",
            Self::Amf => "amf",
            Self::Vaapi => "vaapi",
            Self::Software => "software",
        }
    }

    /// By its name; None: it is none.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }

    /// Whether its pictures can stay on the device from the decoder to the encoder.
    pub fn keeps_frames(self) -> bool {
        matches!(self, Self::Nvenc | Self::Vaapi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_found_by_its_name() {
        assert!(Family::ALL.iter().all(|family| Family::named(family.name()) == Some(*family)));
        assert_eq!(Family::named("cuda"), None);
    }
}
