//! Fragmented MP4 (ISO/IEC 14496-12) as an encoder writes it: cut into pieces while it streams, and looked at before anybody
//! else sees it.
//!
//! Invariants: no panic on any bytes; at most the bytes allowed are held; what is not exactly where the grid wants it is an error.

use super::codec::Codec;
use super::level::Coded;
use std::ops::Range;

/// What a stream of boxes is cut into.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// `ftyp` and `moov`.
    Init(Vec<u8>),
    /// One `moof` and its `mdat`.
    Fragment(Vec<u8>),
}

/// Why an output is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Not the boxes a fragmented MP4 has, or not in their order.
    NotFragmented,
    /// More bytes than allowed.
    TooLong,
    /// A fragment that is not where its frames belong.
    OffGrid,
    /// It does not begin with a frame that can be decoded by itself.
    NotIndependent,
    /// Fewer or more frames than promised.
    FrameCount,
    /// Another profile or level than the playlist says.
    Profile,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotFragmented => "the output is no fragmented MP4",
            Self::TooLong => "the output is longer than allowed",
            Self::OffGrid => "a fragment is not on the frame grid",
            Self::NotIndependent => "the segment does not begin with a keyframe",
            Self::FrameCount => "the segment has another number of frames",
            Self::Profile => "the encoder chose another profile or level",
        })
    }
}

/// Frames of one fragment; far more than any has.
const SAMPLES_MAX: usize = 1 << 17;

/// Cuts a stream of boxes into pieces.
#[derive(Debug)]
pub struct Splitter {
    held: Vec<u8>,
    bytes_left: usize,
    began: bool,
}

impl Splitter {
    pub fn new(bytes_max: usize) -> Self {
        Self { held: Vec::new(), bytes_left: bytes_max, began: false }
    }

    /// Takes more of the stream; the pieces that are whole now.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Piece>, Wrong> {
        self.bytes_left = self.bytes_left.checked_sub(bytes.len()).ok_or(Wrong::TooLong)?;
        self.held.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        loop {
            let (first, second) = if self.began { (b"moof", b"mdat") } else { (b"ftyp", b"moov") };
            let Some(middle) = self.whole_box(0, first)? else { break };
            let Some(end) = self.whole_box(middle, second)? else { break };
            let rest = self.held.split_off(end);
            let piece = std::mem::replace(&mut self.held, rest);
            pieces.push(if self.began { Piece::Fragment(piece) } else { Piece::Init(piece) });
            self.began = true;
        }
        Ok(pieces)
    }

    /// Allows so many bytes from here on: what came was let go.
    pub fn allow(&mut self, bytes: usize) {
        self.bytes_left = bytes;
    }

    /// At the stream's end: nothing may be left over.
    pub fn finish(self) -> Result<(), Wrong> {
        if self.began && self.held.is_empty() { Ok(()) } else { Err(Wrong::NotFragmented) }
    }

    /// Where the box at `start` ends, once it is there; an error where it is another one.
    fn whole_box(&self, start: usize, kind: &[u8; 4]) -> Result<Option<usize>, Wrong> {
        let Some(head) = self.held.get(start..start + 8) else { return Ok(None) };
        let size = number(head, 0, 4).ok_or(Wrong::NotFragmented)?;
        if &head[4..] != kind || size < 8 {
            return Err(Wrong::NotFragmented);
        }
        let end = usize::try_from(size).ok().and_then(|size| start.checked_add(size)).ok_or(Wrong::NotFragmented)?;
        Ok((end <= self.held.len()).then_some(end))
    }
}

/// Looks at the fragments of one segment, in order.
#[derive(Debug)]
pub struct Check {
    next_ticks: u64,
    frames_left: u64,
    frame_ticks: u64,
    begun: bool,
}

impl Check {
    /// `frames` of the title, each lasting `frame_ticks`.
    pub fn new(frames: &Range<u64>, frame_ticks: u32) -> Self {
        let frame_ticks = u64::from(frame_ticks);
        Self {
            next_ticks: frames.start * frame_ticks,
            frames_left: frames.end - frames.start,
            frame_ticks,
            begun: false,
        }
    }

    pub fn fragment(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        let found = read(bytes).ok_or(Wrong::NotFragmented)?;
        let each = self.frame_ticks;
        if found.decode_ticks != self.next_ticks || found.samples.iter().any(|sample| u64::from(sample.ticks) != each) {
            return Err(Wrong::OffGrid);
        }
        let first = found.samples.first().ok_or(Wrong::FrameCount)?;
        if !self.begun && (!first.is_sync || first.offset != 0) {
            return Err(Wrong::NotIndependent);
        }
        self.begun = true;
        let frames = found.samples.len() as u64;
        self.frames_left = self.frames_left.checked_sub(frames).ok_or(Wrong::FrameCount)?;
        self.next_ticks += frames * each;
        Ok(())
    }

    /// Whether all frames came.
    pub fn finish(&self) -> Result<(), Wrong> {
        if self.frames_left == 0 { Ok(()) } else { Err(Wrong::FrameCount) }
    }
}

/// What a head says of its track of video.
pub fn coded(init: &[u8]) -> Option<Coded> {
    let of = |codec, profile, level, high_tier, depth| Some(Coded { codec, profile, level, high_tier, depth });
    if let Some(avc) = avc_configuration(init) {
        // Where it matters, the depth follows (ISO/IEC 14496-15 §5.3.3.1): only profiles we do not make have another one.
        return of(Codec::H264, *avc.get(1)?, *avc.get(3)?, false, 8);
    }
    if let Some(hevc) = configuration(init, b"hvc1", b"hvcC") {
        // ISO/IEC 14496-15 §8.3.3.1.
        let (general, level, depth) = (*hevc.get(1)?, *hevc.get(12)?, *hevc.get(17)?);
        return of(Codec::Hevc, general & 0x1f, level / 3, general & 0x20 != 0, (depth & 7) + 8);
    }
    // AV1 binding §2.3.3.
    let av1 = configuration(init, b"av01", b"av1C")?;
    let (second, third) = (*av1.get(1)?, *av1.get(2)?);
    let index = second & 0x1f;
    let depth = match (third & 0x40 != 0, third & 0x20 != 0) {
        (false, _) => 8,
        (true, false) => 10,
        (true, true) => 12,
    };
    of(Codec::Av1, second >> 5, (index / 4 + 2) * 10 + index % 4, third & 0x80 != 0, depth)
}

/// What decoders are told of an H.264 track (`avcC`, ISO/IEC 14496-15 §5.3.3.1).
pub fn avc_configuration(init: &[u8]) -> Option<&[u8]> {
    configuration(init, b"avc1", b"avcC")
}

fn configuration<'a>(init: &'a [u8], entry: &[u8; 4], kind: &[u8; 4]) -> Option<&'a [u8]> {
    let mut inner = child(init, b"moov")?;
    for kind in [b"trak", b"mdia", b"minf", b"stbl", b"stsd"] {
        inner = child(inner, kind)?;
    }
    // §8.5.2: version, flags and count; then the entry, with 78 bytes of its own before its boxes (§12.1.3).
    let entry = child(inner.get(8..)?, entry)?;
    child(entry.get(78..)?, kind)
}

/// The frames of a fragment, in decoding order.
#[derive(Debug)]
pub struct Run<'a> {
    /// Of the first frame.
    pub decode_ticks: u64,
    pub samples: Vec<Sample>,
    /// Their bytes, one after another.
    pub data: &'a [u8],
}

/// One frame of a run, in its track's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub ticks: u32,
    pub bytes: u32,
    /// §8.8.3.1.
    pub is_sync: bool,
    /// From its turn to be decoded until it is shown.
    pub offset: i32,
}

/// What a `moof` with one track and one run says (§8.8.7, §8.8.8, §8.8.12), and the `mdat` after it.
pub fn read(bytes: &[u8]) -> Option<Run<'_>> {
    let track = child(child(bytes, b"moof")?, b"traf")?;
    let header = child(track, b"tfhd")?;
    let flags = number(header, 1, 3)?;
    // Optional fields, in their order: which flag, how many bytes.
    let mut at = 8;
    let mut field = |flag: u64, length: usize| {
        let value = if flags & flag != 0 { number(header, at, length).map(Some) } else { Some(None) };
        at += if flags & flag != 0 { length } else { 0 };
        value
    };
    let _base = field(0x1, 8)?;
    let _description = field(0x2, 4)?;
    let default_ticks = field(0x8, 4)?;
    let default_bytes = field(0x10, 4)?;
    let default_flags = field(0x20, 4)?;
    let time = child(track, b"tfdt")?;
    let decode_ticks = number(time, 4, if *time.first()? == 1 { 8 } else { 4 })?;

    let run = child(track, b"trun")?;
    let flags = number(run, 1, 3)?;
    let count = usize::try_from(number(run, 4, 4)?).ok().filter(|count| *count <= SAMPLES_MAX)?;
    let mut at = 8;
    let mut next = |present: bool| {
        let value = if present { number(run, at, 4).map(Some) } else { Some(None) };
        at += if present { 4 } else { 0 };
        value
    };
    let data = child(bytes, b"mdat")?;
    let data_offset = next(flags & 0x1 != 0)?;
    let moof_bytes = number(bytes, 0, 4)?;
    if data_offset.is_some_and(|offset| offset != moof_bytes + 8) {
        return None;
    }
    let mut first_flags = next(flags & 0x4 != 0)?;
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let ticks = next(flags & 0x100 != 0)?.or(default_ticks)?;
        let bytes = next(flags & 0x200 != 0)?.or(default_bytes)?;
        let own_flags = next(flags & 0x400 != 0)?;
        let offset = next(flags & 0x800 != 0)?.unwrap_or(0);
        let flags = first_flags.take().or(own_flags).or(default_flags)?;
        samples.push(Sample {
            ticks: u32::try_from(ticks).ok()?,
            bytes: u32::try_from(bytes).ok()?,
            is_sync: flags & 0x1_0000 == 0,
            offset: u32::try_from(offset).ok()?.cast_signed(),
        });
    }
    Some(Run { decode_ticks, samples, data })
}

/// The payload of the first box of that kind.
pub(super) fn child<'a>(mut boxes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    loop {
        let size = usize::try_from(number(boxes, 0, 4)?).ok()?;
        let found = boxes.get(4..8)?;
        if size < 8 || size > boxes.len() {
            return None;
        }
        if found == kind {
            return boxes.get(8..size);
        }
        boxes = &boxes[size..];
    }
}

pub(super) fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// A box (§4.2), its payload in parts.
pub(super) fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let length = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(kind);
    for part in parts {
        bytes.extend(*part);
    }
    bytes
}

#[cfg(test)]
mod tests;
