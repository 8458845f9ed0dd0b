//! H.264 packets put on the frame grid as they are: what a muxer wrote of a film's packets is read, each packet finds its frame,
//! and segments are written from them without encoding anything.
//!
//! - [`Head`]: what the track says of all packets (`avcC`).
//! - [`packets`]: the packets of a fragment.
//! - [`Walk`]: frame by frame along the grid; the first packet that does not fit ends it.
//! - [`fragment`]: a segment.
//!
//! Invariants: no panic on any bytes; a segment begins with an IDR picture and holds exactly its frames, so nothing in it refers to
//! another (ITU-T H.264 §7.4.1.2.4); parameter sets are those of the head. Bytes of packets are never changed.

use super::fragment::{Run, avc_configuration, boxed, read};
use super::grid::Grid;
use std::ops::Range;

/// Bytes of one segment.
pub const SEGMENT_BYTES_MAX: usize = 64 << 20;

/// Why packets cannot be used as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// Not the boxes or the units that were asked for.
    Unreadable,
    /// Another profile or level than browsers play.
    Profile,
    /// A frame between two of the grid, or one twice.
    OffGrid,
    /// A segment that would not begin with an IDR picture, or that lacks frames shown in it.
    Groups,
    /// Parameter sets other than the head's.
    Parameters,
    FrameCount,
    TooLong,
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "its packets are no H.264 as expected",
            Self::Profile => "its profile or level is none that browsers play",
            Self::OffGrid => "its frames are not at a constant rate",
            Self::Groups => "its keyframes do not fall on segments",
            Self::Parameters => "its parameters change on the way",
            Self::FrameCount => "it has another number of frames than it seems",
            Self::TooLong => "its segments are too large",
        })
    }
}

/// `avcC` (ISO/IEC 14496-15 §5.3.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Profile, constraints, level.
    pub avc: [u8; 3],
    /// Bytes of a unit's length.
    length_bytes: usize,
    /// Sequence and picture parameter sets, whole.
    sets: Vec<Vec<u8>>,
}

impl Head {
    /// From the head of a fragmented MP4.
    pub fn read(init: &[u8]) -> Option<Self> {
        let record = avc_configuration(init)?;
        let avc = record.get(1..4)?.try_into().ok()?;
        let length_bytes = usize::from(record.get(4)? & 3) + 1;
        let mut sets = Vec::new();
        let mut at = 5;
        for mask in [0x1f, 0xff] {
            let count = *record.get(at)? & mask;
            at += 1;
            for _ in 0..count {
                let length = usize::from(u16::from_be_bytes(record.get(at..at + 2)?.try_into().ok()?));
                sets.push(record.get(at + 2..at + 2 + length)?.to_vec());
                at += 2 + length;
            }
        }
        Some(Self { avc, length_bytes, sets })
    }

    /// Baseline, Main or High, up to level 5.2.
    pub fn is_fit(&self) -> Result<(), Misfit> {
        let [profile, constraints, level] = self.avc;
        // Plain Baseline has tools that nobody decodes; with the second constraint it has none of them.
        let known = matches!(profile, 77 | 100) || profile == 66 && constraints & 0x40 != 0;
        if known && (10..=52).contains(&level) { Ok(()) } else { Err(Misfit::Profile) }
    }

    /// Whether a packet is an IDR picture.
    fn idr(&self, packet: &[u8]) -> Result<bool, Misfit> {
        let mut rest = packet;
        let (mut pictures, mut idrs) = (0, 0);
        while !rest.is_empty() {
            let length = rest.get(..self.length_bytes).ok_or(Misfit::Unreadable)?;
            let length = length.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
            let unit = rest.get(self.length_bytes..self.length_bytes + length).ok_or(Misfit::Unreadable)?;
            // §7.4.1, table 7-1: nal_unit_type.
            match unit.first().map(|first| first & 31) {
                Some(1) => pictures += 1,
                Some(5) => (pictures, idrs) = (pictures + 1, idrs + 1),
                Some(7 | 8) if !self.sets.iter().any(|set| set == unit) => return Err(Misfit::Parameters),
                // Data partitions, and what only other profiles have.
                Some(2..=4 | 14..=31) => return Err(Misfit::Unreadable),
                _ => {}
            }
            rest = &rest[self.length_bytes + length..];
        }
        if pictures == 0 || idrs != 0 && idrs != pictures {
            return Err(Misfit::Unreadable);
        }
        Ok(idrs > 0)
    }
}

/// One packet of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Ticks.
    pub shown: i64,
    pub bytes: &'a [u8],
}

/// In decoding order. The fragment has one run, and its data in one box after it.
pub fn packets(fragment: &[u8]) -> Result<Vec<Packet<'_>>, Misfit> {
    let Run { decode_ticks, samples, data } = read(fragment).ok_or(Misfit::Unreadable)?;
    let mut decode_ticks = i64::try_from(decode_ticks).map_err(|_| Misfit::Unreadable)?;
    let mut rest = data;
    let mut packets = Vec::with_capacity(samples.len());
    for sample in samples {
        let size = usize::try_from(sample.bytes).map_err(|_| Misfit::Unreadable)?;
        let bytes = rest.get(..size).ok_or(Misfit::Unreadable)?;
        rest = &rest[size..];
        let shown = decode_ticks.checked_add(i64::from(sample.offset)).ok_or(Misfit::Unreadable)?;
        packets.push(Packet { shown, bytes });
        decode_ticks = decode_ticks.checked_add(i64::from(sample.ticks)).ok_or(Misfit::Unreadable)?;
    }
    Ok(packets)
}

/// A packet that found its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub segment: u64,
    pub bytes: Vec<u8>,
    pub idr: bool,
    /// Frames it is shown after its turn to be decoded; before, where negative.
    pub offset: i32,
}

/// Goes along the grid with packets in decoding order.
#[derive(Debug)]
pub struct Walk {
    grid: Grid,
    head: Head,
    /// Ticks at which frame 0 is shown.
    origin: i64,
    segment: u64,
    frames: Range<u64>,
    /// Of the segment: which frames came.
    seen: Vec<bool>,
    came: u64,
    /// Packets before the first one of the segment are passed over.
    skipping: bool,
}

impl Walk {
    /// From a segment's first frame; what is before it is passed over where `skipping`. None: there is no such segment.
    pub fn new(grid: &Grid, head: Head, origin: i64, segment: u64, skipping: bool) -> Option<Self> {
        let frames = grid.frames_of(segment)?;
        let seen = vec![false; usize::try_from(frames.end - frames.start).ok()?];
        Some(Self { grid: *grid, head, origin, segment, frames, seen, came: 0, skipping })
    }

    /// Where the next packet belongs; None where it is passed over.
    pub fn place(&mut self, packet: Packet<'_>) -> Result<Option<Placed>, Misfit> {
        let ticks = i64::from(self.grid.frame_ticks());
        let since = packet.shown.checked_sub(self.origin).ok_or(Misfit::OffGrid)?;
        let near = since.saturating_add(ticks / 2);
        let frame = near.div_euclid(ticks);
        // Containers round to their own clock: a quarter of a frame is more than any of them needs.
        if (near.rem_euclid(ticks) - ticks / 2).abs() * 4 > ticks {
            return Err(Misfit::OffGrid);
        }
        if self.came == self.seen.len() as u64 {
            self.segment += 1;
            self.frames = self.grid.frames_of(self.segment).ok_or(Misfit::FrameCount)?;
            self.seen.clear();
            self.seen.resize(usize::try_from(self.frames.end - self.frames.start).unwrap_or(0), false);
            self.came = 0;
        }
        let frame = u64::try_from(frame).ok();
        if self.skipping && frame.is_none_or(|frame| frame < self.frames.start) {
            return Ok(None);
        }
        self.skipping = false;
        let within = frame.and_then(|frame| frame.checked_sub(self.frames.start)).ok_or(Misfit::Groups)?;
        let idr = self.head.idr(packet.bytes)?;
        if self.came == 0 && !(idr && within == 0) {
            return Err(Misfit::Groups);
        }
        let seen = usize::try_from(within).ok().and_then(|within| self.seen.get_mut(within)).ok_or(Misfit::Groups)?;
        if std::mem::replace(seen, true) {
            return Err(Misfit::OffGrid);
        }
        let offset = i64::try_from(within).unwrap_or(0) - i64::try_from(self.came).unwrap_or(0);
        self.came += 1;
        let offset = i32::try_from(offset).map_err(|_| Misfit::OffGrid)?;
        Ok(Some(Placed { segment: self.segment, bytes: packet.bytes.to_vec(), idr, offset }))
    }

    /// Whether the segment being walked has all its frames.
    pub fn segment_is_whole(&self) -> bool {
        self.came == self.seen.len() as u64
    }

    /// Whether the title has all its frames.
    pub fn finish(&self) -> Result<(), Misfit> {
        let last = self.frames.end == self.grid.frames;
        if last && self.segment_is_whole() { Ok(()) } else { Err(Misfit::FrameCount) }
    }
}

/// One segment: `moof` and `mdat` (ISO/IEC 14496-12 §8.8), from its first frame on.
pub fn fragment(grid: &Grid, first_frame: u64, packets: &[Placed]) -> Result<Vec<u8>, Misfit> {
    let data: usize = packets.iter().map(|packet| packet.bytes.len()).sum();
    if data > SEGMENT_BYTES_MAX {
        return Err(Misfit::TooLong);
    }
    let ticks = grid.frame_ticks();
    let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    let moof = |data_offset: usize| {
        // Sizes, flags and offsets for each sample; offsets are signed (version 1).
        let mut run =
            [&0x0100_0e01_u32.to_be_bytes(), &word(packets.len()), &word(data_offset)].map(|b| &b[..]).concat();
        for packet in packets {
            // §8.8.3.1: depends on none, or on others and is no sync sample.
            let flags: u32 = if packet.idr { 0x0200_0000 } else { 0x0101_0000 };
            let offset = packet.offset.saturating_mul(i32::try_from(ticks).unwrap_or(i32::MAX));
            run.extend_from_slice(&word(packet.bytes.len()));
            run.extend_from_slice(&flags.to_be_bytes());
            run.extend_from_slice(&offset.to_be_bytes());
        }
        // default-base-is-moof and a default duration.
        let header = [0x0002_0008_u32, 1, ticks].map(u32::to_be_bytes).concat();
        let time = [&0x0100_0000_u32.to_be_bytes()[..], &(first_frame * u64::from(ticks)).to_be_bytes()].concat();
        let sequence = u32::try_from(first_frame / grid.segment_frames()).unwrap_or(0).wrapping_add(1);
        let sequence = boxed(b"mfhd", &[&[0; 4], &sequence.to_be_bytes()]);
        let track = boxed(b"traf", &[&boxed(b"tfhd", &[&header]), &boxed(b"tfdt", &[&time]), &boxed(b"trun", &[&run])]);
        boxed(b"moof", &[&sequence, &track])
    };
    let length = moof(0).len();
    let mut bytes = moof(length + 8);
    bytes.reserve(data + 8);
    bytes.extend_from_slice(&word(data + 8));
    bytes.extend_from_slice(b"mdat");
    for packet in packets {
        bytes.extend_from_slice(&packet.bytes);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
