//! Which of ffmpeg's demuxers reads a film, by the film's first bytes.
//!
//! One alone may open each film, so that a file is never read as anything it does not look like. None of them opens other files:
//! playlists and lists of files (`hls`, `dash`, `concat`) are not among them, and never will be.
//!
//! A seek in MP4 and Matroska finds the keyframe before a time. In the others it finds about the time, or a packet that nobody can decode
//! without those before ([`Demuxer::finds_keyframes`]).

use serde::{Deserialize, Serialize};

/// First bytes that are enough to know: a few packets of a transport stream that was cut in one.
pub const BEGINS_BYTES: usize = 4096;
/// Transport packets of plain streams, of those with time codes (M2TS), and of those with error correction.
const PACKET_BYTES: [usize; 3] = [188, 192, 204];
/// Sync bytes in a row.
const SYNCS: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Demuxer {
    /// MP4, QuickTime, Matroska, WebM; also what looks like nothing, which they then refuse.
    Indexed,
    MpegTs,
    /// VOB, too.
    MpegPs,
    Avi,
    Flv,
    /// WMV.
    Asf,
    Ogg,
}

impl Demuxer {
    /// By ffmpeg's names.
    pub fn names(self) -> &'static str {
        match self {
            Self::Indexed => "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm",
            Self::MpegTs => "mpegts",
            Self::MpegPs => "mpeg",
            Self::Avi => "avi",
            Self::Flv => "flv",
            Self::Asf => "asf",
            Self::Ogg => "ogg",
        }
    }

    /// Whether a seek ends at a keyframe, at the time asked for or before it.
    pub fn finds_keyframes(self) -> bool {
        self == Self::Indexed
    }

    /// Whether times are those of a broadcaster's clock, which may have been set while it was recorded.
    pub fn has_foreign_clock(self) -> bool {
        matches!(self, Self::MpegTs | Self::MpegPs)
    }

    /// What a file that begins so is read by.
    pub fn of(begins: &[u8]) -> Self {
        match begins {
            [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' ' | 0x19, ..] => Self::Avi,
            [0, 0, 1, 0xba, ..] => Self::MpegPs,
            [b'F', b'L', b'V', 1, ..] => Self::Flv,
            // The header object of ASF (its specification, §10.1).
            [0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11, ..] => Self::Asf,
            [b'O', b'g', b'g', b'S', ..] => Self::Ogg,
            _ if !is_indexed(begins) && packets_of(begins).is_some() => Self::MpegTs,
            _ => Self::Indexed,
        }
    }
}

/// Their first box, or EBML.
fn is_indexed(begins: &[u8]) -> bool {
    let boxed = |kind: &[u8; 4]| begins.get(4..8) == Some(kind);
    begins.starts_with(&[0x1a, 0x45, 0xdf, 0xa3])
        || [b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"].map(boxed).contains(&true)
}

/// Where the first whole transport packet begins, at its sync byte, and how far the packets are apart.
pub fn packets_of(bytes: &[u8]) -> Option<(usize, usize)> {
    let in_step = |at: usize, step: usize| (0..SYNCS).all(|packet| bytes.get(at + packet * step) == Some(&0x47));
    PACKET_BYTES.into_iter().find_map(|step| (0..step).find(|at| in_step(*at, step)).map(|at| (at, step)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Packets of a transport stream, cut `cut` bytes into the first.
    fn stream(step: usize, cut: usize) -> Vec<u8> {
        let sync = step - 188;
        let packet = |_: usize| (0..step).map(move |at| if at == sync % 16 { 0x47 } else { 0xa0 });
        (0..20).flat_map(packet).skip(cut).collect()
    }

    #[test]
    fn a_film_is_read_by_what_it_looks_like() {
        for (begins, expected) in [
            (&b"\0\0\0\x1cftypisom"[..], Demuxer::Indexed),
            (b"\x1a\x45\xdf\xa3\x01", Demuxer::Indexed),
            (b"RIFF\x10\0\0\0AVI LIST", Demuxer::Avi),
            (b"RIFF\x10\0\0\0WAVEfmt ", Demuxer::Indexed),
            (b"\0\0\x01\xba\x44", Demuxer::MpegPs),
            (b"FLV\x01\x05", Demuxer::Flv),
            (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6", Demuxer::Asf),
            (b"OggS\0\x02", Demuxer::Ogg),
            (b"#EXTM3U\n", Demuxer::Indexed),
            (b"ffconcat version 1.0\n", Demuxer::Indexed),
            (b"", Demuxer::Indexed),
        ] {
            assert_eq!(Demuxer::of(begins), expected, "{begins:?}");
        }
        for (step, cut) in [(188, 0), (188, 100), (192, 0), (192, 5), (204, 0)] {
            assert_eq!(Demuxer::of(&stream(step, cut)), Demuxer::MpegTs, "{step} {cut}");
        }
        assert_eq!(packets_of(&stream(188, 100)), Some((88, 188)));
        assert_eq!(Demuxer::of(&stream(188, 0)[..500]), Demuxer::Indexed, "too little to know");
        let disguised = [&b"\0\0\0\x1cftyp"[..], &stream(188, 8)].concat();
        assert_eq!(Demuxer::of(&disguised), Demuxer::Indexed);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_by_something(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(!Demuxer::of(&bytes).names().is_empty());
        }
    }
}
