//! A segment of fragmented MP4 (ISO/IEC 14496-12) with one track of video: its frames are found, and others written at their times; and
//! the head of such segments, with another description of the picture. Samples of other tracks (sound) stay as they are, in fragments of
//! their own (`beside`).
//!
//! The edit list of the origin's head stays, and so do decode times: a player that goes from one rung to the other sees one timeline.
//! Left alone, as [`Unfit`]: encryption, several tracks of video, boxes over 4 GiB.

use super::super::fragment::{boxed, child, number};
use super::{Frame, Unfit};

mod beside;

/// Boxes of a segment that say something about it, and are copied; an index (`sidx`) would be wrong.
const COPIED: [&[u8; 4]; 3] = [b"styp", b"emsg", b"prft"];
const FRAMES_MAX: usize = 1 << 13;
/// Ticks a second: more would not leave room for minutes in 32 bits.
const TIMESCALE_MAX: u32 = 20_000_000;

/// The head of segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'a> {
    bytes: &'a [u8],
    pub timescale: u32,
    /// Of the video: its number, and its place among the tracks.
    track: u32,
    place: usize,
    /// `mvex`: what samples are that say nothing of their own.
    extends: &'a [u8],
}

/// A segment, and the frames in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment<'a> {
    bytes: &'a [u8],
    /// In decoding order; ticks of the title.
    pub frames: Vec<Frame>,
    durations: Vec<u32>,
}

/// Reads `ftyp` and `moov`.
pub fn head(bytes: &[u8]) -> Result<Head<'_>, Unfit> {
    let unreadable = || Unfit::Unreadable;
    let movie = child(bytes, b"moov").ok_or_else(unreadable)?;
    let mut found = None;
    for (place, track) in of_kind(movie, b"trak").enumerate() {
        let media = child(track, b"mdia").ok_or_else(unreadable)?;
        let handler = child(media, b"hdlr").and_then(|handler| handler.get(8..12)).ok_or_else(unreadable)?;
        if entry(media).is_some_and(|entry| entry.starts_with(b"enc")) {
            return Err(Unfit::Encrypted);
        }
        if handler == b"vide" && found.replace((place, track, media)).is_some() {
            return Err(Unfit::Streams);
        }
    }
    let (place, track, media) = found.ok_or(Unfit::Streams)?;
    let wide = |payload: &[u8]| payload.first().map(|version| if *version == 1 { 8 } else { 0 });
    let header = child(media, b"mdhd").ok_or_else(unreadable)?;
    let timescale = wide(header).and_then(|wide| number(header, 12 + wide, 4)).ok_or_else(unreadable)?;
    let timescale =
        u32::try_from(timescale).ok().filter(|scale| (1..=TIMESCALE_MAX).contains(scale)).ok_or_else(unreadable)?;
    let header = child(track, b"tkhd").ok_or_else(unreadable)?;
    let id = wide(header).and_then(|wide| number(header, 12 + wide, 4)).ok_or_else(unreadable)?;
    if !matches!(entry(media), Some(b"avc1" | b"avc3" | b"hvc1" | b"hev1")) {
        return Err(Unfit::Streams);
    }
    let extends = child(movie, b"mvex").ok_or_else(unreadable)?;
    let track = u32::try_from(id).map_err(|_| unreadable())?;
    Ok(Head { bytes, timescale, track, place, extends })
}

/// What the samples of a track are.
fn entry(media: &[u8]) -> Option<&[u8]> {
    [b"minf", b"stbl", b"stsd"].iter().try_fold(media, |inner, kind| child(inner, kind))?.get(12..16)
}

/// The payloads of the boxes of a kind.
fn of_kind<'a>(bytes: &'a [u8], kind: &'a [u8; 4]) -> impl Iterator<Item = &'a [u8]> {
    boxes(bytes).map_while(Result::ok).filter(move |(found, _)| found == kind).map(|(_, whole)| &whole[8..])
}

/// The number of the track of a `traf`.
fn track_of(traf: &[u8]) -> Option<u64> {
    number(child(traf, b"tfhd")?, 4, 4)
}

/// Kinds and bounds of the boxes in a row.
fn boxes(bytes: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Unfit>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let size = number(rest, 0, 4).and_then(|size| usize::try_from(size).ok()).filter(|size| *size >= 8);
        let Some(whole) = size.and_then(|size| rest.get(..size)) else {
            rest = &[];
            return Some(Err(Unfit::Unreadable));
        };
        rest = &rest[whole.len()..];
        Some(Ok((&whole[4..8], whole)))
    })
}

impl Head<'_> {
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Reads a segment of this head.
    pub fn segment<'b>(&self, bytes: &'b [u8]) -> Result<Segment<'b>, Unfit> {
        let (mut frames, mut durations) = (Vec::new(), Vec::new());
        for found in boxes(bytes) {
            let (kind, whole) = found?;
            if kind == b"moof" {
                self.fragment(&whole[8..], &mut frames, &mut durations)?;
            }
        }
        let ordered = frames.windows(2).all(|pair: &[Frame]| pair[0].decode < pair[1].decode);
        if frames.is_empty() || !ordered {
            return Err(Unfit::Unreadable);
        }
        Ok(Segment { bytes, frames, durations })
    }

    fn fragment(&self, moof: &[u8], frames: &mut Vec<Frame>, durations: &mut Vec<u32>) -> Result<(), Unfit> {
        let unreadable = || Unfit::Unreadable;
        if of_kind(moof, b"traf").any(|track| [b"senc", b"saiz"].iter().any(|kind| child(track, kind).is_some())) {
            return Err(Unfit::Encrypted);
        }
        let mut ours = of_kind(moof, b"traf").filter(|track| track_of(track) == Some(self.track.into()));
        let Some(track) = ours.next() else { return Ok(()) };
        if ours.next().is_some() {
            return Err(Unfit::Streams);
        }
        let header = child(track, b"tfhd").ok_or_else(unreadable)?;
        let flags = number(header, 1, 3).ok_or_else(unreadable)?;
        let mut at = 8 + if flags & 1 != 0 { 8 } else { 0 } + if flags & 2 != 0 { 4 } else { 0 };
        let mut field = |flag: u64| {
            let value = (flags & flag != 0).then(|| number(header, at, 4)).flatten();
            at += if flags & flag != 0 { 4 } else { 0 };
            value
        };
        let ticks = field(8).or_else(|| self.default(self.track.into(), 12)).ok_or_else(unreadable)?;
        let _size = field(0x10);
        let default_flags = field(0x20).or_else(|| self.default(self.track.into(), 20)).ok_or_else(unreadable)?;
        let time = child(track, b"tfdt").ok_or_else(unreadable)?;
        let decode = number(time, 4, if time.first() == Some(&1) { 8 } else { 4 }).ok_or_else(unreadable)?;
        let mut decode = i64::try_from(decode).map_err(|_| unreadable())?;
        for found in boxes(track) {
            let (kind, whole) = found?;
            if kind != b"trun" {
                continue;
            }
            let run = &whole[8..];
            let flags = number(run, 1, 3).ok_or_else(unreadable)?;
            let count = number(run, 4, 4).and_then(|count| usize::try_from(count).ok()).ok_or_else(unreadable)?;
            if frames.len() + count.min(FRAMES_MAX + 1) > FRAMES_MAX {
                return Err(Unfit::TooLong);
            }
            let mut at = 8 + if flags & 1 != 0 { 4 } else { 0 };
            let mut next = |flag: u64| {
                let value = if flags & flag != 0 { number(run, at, 4).map(Some) } else { Some(None) };
                at += if flags & flag != 0 { 4 } else { 0 };
                value.ok_or(Unfit::Unreadable)
            };
            let mut first_flags = next(4)?;
            for _ in 0..count {
                let ticks = next(0x100)?.unwrap_or(ticks);
                let _size = next(0x200)?;
                let own = next(0x400)?;
                let offset = next(0x800)?.unwrap_or(0);
                let flags = first_flags.take().or(own).unwrap_or(default_flags);
                let offset = i64::from((offset as u32).cast_signed());
                let shown = decode.checked_add(offset).ok_or_else(unreadable)?;
                frames.push(Frame { decode, shown, is_key: flags & 0x1_0000 == 0 });
                durations.push(u32::try_from(ticks).map_err(|_| unreadable())?);
                decode = decode.checked_add(i64::try_from(ticks).map_err(|_| unreadable())?).ok_or_else(unreadable)?;
            }
        }
        Ok(())
    }

    /// What a track's samples have that say nothing of their own: a field of `trex` (§8.8.3).
    fn default(&self, track: u64, at: usize) -> Option<u64> {
        of_kind(self.extends, b"trex")
            .find(|extends| number(extends, 4, 4) == Some(track))
            .and_then(|e| number(e, at, 4))
    }

    /// The head with the picture of another: its sample descriptions, and its size.
    pub fn with(&self, other: &[u8], (width, height): (u32, u32)) -> Option<Vec<u8>> {
        let inner = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"]
            .iter()
            .try_fold(other, |inner, kind| child(inner, kind))?;
        let track = (b"trak", self.place);
        let path = [(b"moov", 0), track, (b"mdia", 0), (b"minf", 0), (b"stbl", 0), (b"stsd", 0)];
        let described = replaced(self.bytes, &path, &|_| Some(inner.to_vec()))?;
        replaced(&described, &[(b"moov", 0), track, (b"tkhd", 0)], &|payload| {
            let mut payload = payload.to_vec();
            let at = payload.len().checked_sub(8)?;
            payload[at..at + 4].copy_from_slice(&(width << 16).to_be_bytes());
            payload[at + 4..].copy_from_slice(&(height << 16).to_be_bytes());
            Some(payload)
        })
    }
}

/// A box by its kind, and how many of that kind are before it.
type Step<'a> = (&'a [u8; 4], usize);

/// Boxes with the payload of the one at a path exchanged, and the sizes of those around it.
fn replaced(bytes: &[u8], path: &[Step<'_>], exchange: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let ((first, before), rest) = path.split_first()?;
    let mut written = Vec::with_capacity(bytes.len());
    let (mut done, mut seen) = (false, 0);
    for found in boxes(bytes) {
        let (kind, whole) = found.ok()?;
        let is_it = kind == *first && seen == *before && !done;
        seen += usize::from(kind == *first);
        if is_it {
            done = true;
            let payload = if rest.is_empty() { exchange(&whole[8..])? } else { replaced(&whole[8..], rest, exchange)? };
            written.extend_from_slice(&boxed(first, &[&payload]));
        } else {
            written.extend_from_slice(whole);
        }
    }
    done.then_some(written)
}

impl Segment<'_> {
    /// The segment with its first frame decoded at `start_s`.
    pub fn video_from(&self, head: &Head<'_>, start_s: u32) -> Option<Vec<u8>> {
        let base = self.frames.first()?.decode;
        let mut written = Vec::with_capacity(self.bytes.len());
        for found in boxes(self.bytes) {
            let (kind, whole) = found.ok()?;
            let place = of_kind(&whole[8..], b"traf").position(|track| track_of(track) == Some(head.track.into()));
            let Some(place) = place.filter(|_| kind == b"moof") else {
                written.extend_from_slice(whole);
                continue;
            };
            let moved = replaced(whole, &[(b"moof", 0), (b"traf", place), (b"tfdt", 0)], &|payload| {
                let mut payload = payload.to_vec();
                let wide = *payload.first()? == 1;
                let time = i64::try_from(number(&payload, 4, if wide { 8 } else { 4 })?).ok()?;
                let time = time.checked_sub(base)?.checked_add(i64::from(start_s) * i64::from(head.timescale))?;
                match wide {
                    true => payload.get_mut(4..12)?.copy_from_slice(&time.to_be_bytes()),
                    false => payload.get_mut(4..8)?.copy_from_slice(&u32::try_from(time).ok()?.to_be_bytes()),
                }
                Some(payload)
            })?;
            written.extend_from_slice(&moved);
        }
        Some(written)
    }

    /// A segment with other frames, in the order shown, each with the times of the one in its place; the first is a keyframe. `frames`:
    /// as they lie in MP4. None: not as many.
    pub fn with(&self, head: &Head<'_>, frames: &[Vec<u8>]) -> Option<Vec<u8>> {
        let shown = super::shown(&self.frames).filter(|shown| shown.len() == frames.len())?;
        let word = |number: usize| u32::try_from(number).ok().map(u32::to_be_bytes);
        let mut run = Vec::new();
        for (index, frame) in frames.iter().enumerate() {
            // §8.8.3.1: depends on none, or on others and is no sync sample.
            let flags: u32 = if index == 0 { 0x0200_0000 } else { 0x0101_0000 };
            let offset = i32::try_from(shown.get(index)? - self.frames.get(index)?.decode).ok()?;
            run.extend_from_slice(&self.durations.get(index)?.to_be_bytes());
            run.extend_from_slice(&word(frame.len())?);
            run.extend_from_slice(&flags.to_be_bytes());
            run.extend_from_slice(&offset.to_be_bytes());
        }
        let first = u64::try_from(self.frames.first()?.decode).ok()?;
        let moof = |data_offset: usize| {
            let run = [&0x0100_0f01_u32.to_be_bytes()[..], &word(frames.len())?, &word(data_offset)?, &run].concat();
            let header = [0x0002_0000_u32, head.track].map(u32::to_be_bytes).concat();
            let time = [&0x0100_0000_u32.to_be_bytes()[..], &first.to_be_bytes()].concat();
            let track =
                boxed(b"traf", &[&boxed(b"tfhd", &[&header]), &boxed(b"tfdt", &[&time]), &boxed(b"trun", &[&run])]);
            Some(boxed(b"moof", &[&boxed(b"mfhd", &[&[0, 0, 0, 0, 0, 0, 0, 1]]), &track]))
        };
        let length = moof(0)?.len();
        let mut written = Vec::new();
        for (_, whole) in
            boxes(self.bytes).map_while(Result::ok).filter(|(kind, _)| COPIED.iter().any(|copied| kind == *copied))
        {
            written.extend_from_slice(whole);
        }
        written.extend_from_slice(&moof(length + 8)?);
        written.extend_from_slice(&word(frames.iter().map(Vec::len).sum::<usize>() + 8)?);
        written.extend_from_slice(b"mdat");
        frames.iter().for_each(|frame| written.extend_from_slice(frame));
        self.beside(head, &mut written)?;
        Some(written)
    }
}

#[cfg(test)]
mod tests;
