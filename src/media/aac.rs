//! AAC-LC, 48 kHz, stereo or surround: read as ADTS (ISO/IEC 14496-3 §1.A.2), written as fragmented MP4. We write the boxes
//! ourselves: a muxer counts from its own first frame, and ours have to lie on the title's grid.
//!
//! Invariants: no panic on any bytes; frames go out as they came in; a layout's init is the same for every title.

use super::fragment::boxed;
use super::grid::{AUDIO_FRAME_SAMPLES, AUDIO_RATE};
use serde::{Deserialize, Serialize};

/// Which channels there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Layout {
    Stereo,
    /// 5.1
    Surround,
    /// 7.1, with pairs at the sides and at the back.
    LargeSurround,
}

impl Layout {
    /// The surround that a source with so many channels keeps; None where stereo keeps it well enough.
    pub fn surround_of(channels: u32) -> Option<Self> {
        match channels {
            0..=5 => None,
            6 | 7 => Some(Self::Surround),
            _ => Some(Self::LargeSurround),
        }
    }

    pub fn channels(self) -> u8 {
        match self {
            Self::Stereo => 2,
            Self::Surround => 6,
            Self::LargeSurround => 8,
        }
    }

    /// What the encoder is told.
    pub fn bits_per_s(self) -> u32 {
        match self {
            Self::Stereo => 128_000,
            Self::Surround => 384_000,
            Self::LargeSurround => 512_000,
        }
    }

    /// Bits a second of its segments: a tenth more than the nominal rate holds the encoder's wavering and the boxes.
    pub fn peak_bits_per_s(self) -> u32 {
        self.bits_per_s() / 10 * 11
    }

    /// Channel configuration (ISO/IEC 14496-3 table 1.19) as encoders write it into ADTS, which has three bits for it.
    fn adts_configuration(self) -> u8 {
        match self {
            Self::Stereo => 2,
            Self::Surround => 6,
            Self::LargeSurround => 7,
        }
    }

    /// And as it is: 7 would be a second pair in front, 12 is one at the back.
    pub fn configuration(self) -> u8 {
        match self {
            Self::LargeSurround => 12,
            other => other.adts_configuration(),
        }
    }
}

/// The raw frames of an ADTS stream; None where it is none, cut off, or not as asked for.
pub fn adts_frames(mut bytes: &[u8], layout: Layout) -> Option<Vec<&[u8]>> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let header: &[u8; 7] = bytes.first_chunk()?;
        let (length, header_bytes) = adts_header(header, layout)?;
        frames.push(bytes.get(header_bytes..length)?);
        bytes = &bytes[length..];
    }
    Some(frames)
}

/// Bytes of the whole frame, and of its header.
fn adts_header(header: &[u8; 7], layout: Layout) -> Option<(usize, usize)> {
    let [sync, layer, kind, channels, length, rest, _] = *header;
    let synced = sync == 0xff && layer & 0xf6 == 0xf0;
    // Profile LC (1), 48 kHz (index 3).
    let configuration = (kind & 1) << 2 | channels >> 6;
    let ours = kind >> 6 == 1 && kind >> 2 & 0xf == 3 && configuration == layout.adts_configuration();
    let length = usize::from(channels & 3) << 11 | usize::from(length) << 3 | usize::from(rest >> 5);
    let header_bytes = if layer & 1 == 0 { 9 } else { 7 };
    (synced && ours && length >= header_bytes).then_some((length, header_bytes))
}

/// ISO/IEC 14496-1 §7.2.6: ES descriptor, decoder configuration (AAC, audio stream), LC at 48 kHz, MP4 file.
fn descriptors(layout: Layout) -> Vec<u8> {
    let rate = layout.bits_per_s().to_be_bytes();
    // ISO/IEC 14496-3 §1.6.2.1: object type 2 in five bits, frequency 3 in four, the channels in four.
    let specific = (2_u16 << 11 | 3 << 7 | u16::from(layout.configuration()) << 3).to_be_bytes();
    let head = [0, 0, 0, 0, 3, 25, 0, 1, 0, 4, 17, 0x40, 0x15, 0, 0, 0];
    [&head[..], &rate, &rate, &[5, 2], &specific, &[6, 1, 2]].concat()
}

/// `ftyp` and `moov` of an audio rendition.
pub fn init(layout: Layout) -> Vec<u8> {
    let movie = boxed(b"mvhd", &[full(0), &[0; 8], &1000_u32.to_be_bytes(), &[0; 4], &MOVIE, &2_u32.to_be_bytes()]);
    let track = boxed(b"tkhd", &[full(7), &[0; 8], &1_u32.to_be_bytes(), &[0; 20], &[1, 0, 0, 0], &MATRIX, &[0; 8]]);
    let media = boxed(b"mdhd", &[full(0), &[0; 8], &AUDIO_RATE.to_be_bytes(), &[0; 4], &[0x55, 0xc4, 0, 0]]);
    let handler = boxed(b"hdlr", &[full(0), &[0; 4], b"soun", &[0; 12], b"Audio\0"]);
    let reference = boxed(b"dref", &[full(0), &1_u32.to_be_bytes(), &boxed(b"url ", &[full(1)])]);
    let entry = boxed(
        b"mp4a",
        &[
            &[0; 6],
            &1_u16.to_be_bytes(),
            &[0; 8],
            &[0, layout.channels(), 0, 16, 0, 0, 0, 0],
            &(AUDIO_RATE << 16).to_be_bytes(),
            &boxed(b"esds", &[&descriptors(layout)]),
        ],
    );
    let table = boxed(
        b"stbl",
        &[
            &boxed(b"stsd", &[full(0), &1_u32.to_be_bytes(), &entry]),
            &boxed(b"stts", &[full(0), &[0; 4]]),
            &boxed(b"stsc", &[full(0), &[0; 4]]),
            &boxed(b"stsz", &[full(0), &[0; 8]]),
            &boxed(b"stco", &[full(0), &[0; 4]]),
        ],
    );
    let information = boxed(b"minf", &[&boxed(b"smhd", &[full(0), &[0; 4]]), &boxed(b"dinf", &[&reference]), &table]);
    let track = boxed(b"trak", &[&track, &boxed(b"mdia", &[&media, &handler, &information])]);
    let extends = boxed(b"trex", &[full(0), &1_u32.to_be_bytes(), &1_u32.to_be_bytes(), &[0; 12]]);
    let movie = boxed(b"moov", &[&movie, &track, &boxed(b"mvex", &[&extends])]);
    [boxed(b"ftyp", &[b"iso6", &[0; 4], b"iso6mp41cmfc"]), movie].concat()
}

/// `moof` and `mdat` of frames that begin with `first` of the title.
pub fn fragment(first: u64, frames: &[&[u8]]) -> Vec<u8> {
    let count = u32::try_from(frames.len()).unwrap_or(u32::MAX);
    let sizes: Vec<u8> = frames.iter().flat_map(|frame| (frame.len() as u32).to_be_bytes()).collect();
    // Default base is moof; duration and flags (each frame stands by itself) are the same for all.
    let header =
        boxed(b"tfhd", &[&[0, 2, 0, 0x28], &1_u32.to_be_bytes(), &AUDIO_FRAME_SAMPLES.to_be_bytes(), &[2, 0, 0, 0]]);
    let ticks = first.saturating_mul(u64::from(AUDIO_FRAME_SAMPLES));
    let time = boxed(b"tfdt", &[&[1, 0, 0, 0], &ticks.to_be_bytes()]);
    let sequence = boxed(b"mfhd", &[full(0), &1_u32.to_be_bytes()]);
    let movie = |data_at: u32| {
        let run = boxed(b"trun", &[&[0, 0, 2, 1], &count.to_be_bytes(), &data_at.to_be_bytes(), &sizes]);
        boxed(b"moof", &[&sequence, &boxed(b"traf", &[&header, &time, &run])])
    };
    let data_at = movie(0).len() as u32 + 8;
    let parts: Vec<&[u8]> = frames.to_vec();
    [movie(data_at), boxed(b"mdat", &parts)].concat()
}

const MATRIX: [u8; 36] = {
    let mut matrix = [0; 36];
    matrix[1] = 1;
    matrix[17] = 1;
    matrix[32] = 0x40;
    matrix
};

/// Rate and volume 1, the matrix, and what is reserved around them (ISO/IEC 14496-12 §8.2.2).
const MOVIE: [u8; 76] = {
    let mut fields = [0; 76];
    fields[1] = 1;
    fields[4] = 1;
    let mut at = 0;
    while at < 36 {
        fields[16 + at] = MATRIX[at];
        at += 1;
    }
    fields
};

/// Version 0 and flags.
const fn full(flags: u8) -> &'static [u8] {
    match flags {
        0 => &[0, 0, 0, 0],
        1 => &[0, 0, 0, 1],
        _ => &[0, 0, 0, 7],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn adts(payload: &[u8]) -> Vec<u8> {
        let length = payload.len() + 7;
        let header =
            [0xff, 0xf1, 0x4c, 0x80 | (length >> 11) as u8, (length >> 3) as u8, (length << 5) as u8 | 0x1f, 0xfc];
        [&header, payload].concat()
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let stream = [adts(&[1; 300]), adts(&[]), adts(&[2; 5])].concat();
        assert_eq!(adts_frames(&stream, Layout::Stereo).unwrap(), [&[1; 300][..], &[], &[2; 5]]);
        assert_eq!(adts_frames(b"", Layout::Stereo).unwrap().len(), 0);
        assert_eq!(adts_frames(&stream[..stream.len() - 1], Layout::Stereo), None, "cut off");
        assert_eq!(adts_frames(&[0; 20], Layout::Stereo), None);
        let mut mono = adts(&[1]);
        mono[3] = 0x40;
        assert_eq!(adts_frames(&mono, Layout::Stereo), None, "one channel");
    }

    #[test]
    fn an_init_says_which_channels_there_are() {
        for (layout, channels, specific) in [
            (Layout::Stereo, 2, [0x11, 0x90]),
            (Layout::Surround, 6, [0x11, 0xb0]),
            (Layout::LargeSurround, 8, [0x11, 0xe0]),
        ] {
            let init = init(layout);
            let at = |kind: &[u8; 4]| init.windows(4).position(|found| found == kind).unwrap();
            assert_eq!(init[at(b"mp4a") + 4 + 17], channels);
            let descriptors = &init[at(b"esds") + 4..][..31];
            assert_eq!((descriptors[24], &descriptors[26..28]), (5, &specific[..]));
            assert_eq!(descriptors.len(), 4 + 2 + usize::from(descriptors[5]));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let _ = adts_frames(&bytes, Layout::Stereo);
            let _ = adts_frames(&[adts(&bytes), bytes].concat(), Layout::Surround);
        }
    }
}
