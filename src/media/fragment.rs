//! Fragmented MP4 (ISO/IEC 14496-12) as an encoder writes it: cut into pieces while it streams, and looked at before anybody
//! else sees it.
//!
//! Invariants: no panic on any bytes; at most the bytes allowed are held; what is not exactly where the grid wants it is an error.

use std::ops::Range;

/// What a stream of boxes is cut into.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// `ftyp` and `moov`.
    Init(Vec<u8>),
    /// One `moof` and its `mdat`.
    Fragment(Vec<u8>),
}

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
        if found.decode_ticks != self.next_ticks || found.ticks != found.frames * self.frame_ticks {
            return Err(Wrong::OffGrid);
        }
        if !self.begun && (!found.first_is_sync || found.first_offset != 0) {
            return Err(Wrong::NotIndependent);
        }
        self.begun = true;
        self.frames_left = self.frames_left.checked_sub(found.frames).ok_or(Wrong::FrameCount)?;
        self.next_ticks += found.ticks;
        Ok(())
    }

    /// Whether all frames came.
    pub fn finish(&self) -> Result<(), Wrong> {
        if self.frames_left == 0 { Ok(()) } else { Err(Wrong::FrameCount) }
    }
}

/// Profile, constraints and level of an H.264 track (`avcC`, ISO/IEC 14496-15 §5.3.3.1).
pub fn avc_profile(init: &[u8]) -> Option<[u8; 3]> {
    let mut inner = child(init, b"moov")?;
    for kind in [b"trak", b"mdia", b"minf", b"stbl", b"stsd"] {
        inner = child(inner, kind)?;
    }
    // §8.5.2: version, flags and count; then the entry, with 78 bytes of its own before its boxes (§12.1.3).
    let entry = child(inner.get(8..)?, b"avc1")?;
    let configuration = child(entry.get(78..)?, b"avcC")?;
    configuration.get(1..4)?.try_into().ok()
}

struct Found {
    decode_ticks: u64,
    frames: u64,
    ticks: u64,
    first_is_sync: bool,
    first_offset: i32,
}

/// What a `moof` with one track says (§8.8.7, §8.8.8, §8.8.12).
fn read(bytes: &[u8]) -> Option<Found> {
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
    let _size = field(0x10, 4)?;
    let default_flags = field(0x20, 4)?;
    let time = child(track, b"tfdt")?;
    let decode_ticks = number(time, 4, if *time.first()? == 1 { 8 } else { 4 })?;

    let run = child(track, b"trun")?;
    let flags = number(run, 1, 3)?;
    let frames = number(run, 4, 4)?;
    let mut at = 8 + if flags & 0x1 != 0 { 4 } else { 0 };
    let mut first_flags = default_flags;
    if flags & 0x4 != 0 {
        first_flags = Some(number(run, at, 4)?);
        at += 4;
    }
    let present = |flag: u64| if flags & flag != 0 { 4 } else { 0 };
    let (duration, size, sample_flags, offset) = (present(0x100), present(0x200), present(0x400), present(0x800));
    let each = duration + size + sample_flags + offset;
    let mut found = Found { decode_ticks, frames, ticks: 0, first_is_sync: false, first_offset: 0 };
    if duration == 0 {
        found.ticks = default_ticks?.checked_mul(frames)?;
    } else {
        for frame in 0..usize::try_from(frames).ok()? {
            found.ticks += number(run, at + frame.checked_mul(each)?, 4)?;
        }
    }
    if sample_flags != 0 && flags & 0x4 == 0 {
        first_flags = Some(number(run, at + duration + size, 4)?);
    }
    if offset != 0 && frames > 0 {
        found.first_offset = i32::from_be_bytes(run.get(at + each - 4..at + each)?.try_into().ok()?);
    }
    // §8.8.3.1: sample_is_non_sync_sample.
    found.first_is_sync = first_flags? & 0x1_0000 == 0;
    Some(found)
}

/// The payload of the first box of that kind.
fn child<'a>(mut boxes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
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

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests;
