//! A segment of fragmented MP4 (ISO/IEC 14496-12) with one track of video: its frames are found, and others written at their times; and
//! the head of such segments, with another description of the picture. Samples of other tracks (sound) stay as they are, in fragments of
//! their own (`beside`).
//!
//! The edit list of the origin's head stays, and so do decode times: a player that goes from one rung to the other sees one timeline.
//! Left alone, as [`Unfit`]: encryption, several tracks of video, boxes over 4 GiB.
//!
//! Invariant: a segment's boxes are gone through once, and so many at most; what is made of it goes by what was found then. Whatever the
//! bytes are, the work is in proportion to their number.

use super::super::fragment::{boxed, child, number};
use super::Unfit;

mod beside;
mod segment;

pub use segment::Segment;

/// Ticks a second: more would not leave room for minutes in 32 bits.
const TIMESCALE_MAX: u32 = 20_000_000;
/// Tracks of a head; of a dozen languages.
const TRACKS_MAX: usize = 64;

/// The head of segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'a> {
    bytes: &'a [u8],
    pub timescale: u32,
    /// Of the video: its number, and its place among the tracks.
    track: u32,
    place: usize,
    /// At most [`TRACKS_MAX`].
    defaults: Vec<Defaults>,
}

/// What samples of a track are that say nothing of their own: `trex` (§8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Defaults {
    track: u32,
    ticks: u32,
    size: u32,
    flags: u32,
}

/// Reads `ftyp` and `moov`.
pub fn head(bytes: &[u8]) -> Result<Head<'_>, Unfit> {
    let unreadable = || Unfit::Unreadable;
    let movie = child(bytes, b"moov").ok_or_else(unreadable)?;
    let mut found = None;
    for (place, track) in of_kind(movie, b"trak").enumerate() {
        if place >= TRACKS_MAX {
            return Err(Unfit::TooLong);
        }
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
    let timescale = wide(header).and_then(|wide| word(header, 12 + wide)).ok_or_else(unreadable)?;
    let timescale = Some(timescale).filter(|scale| (1..=TIMESCALE_MAX).contains(scale)).ok_or_else(unreadable)?;
    let header = child(track, b"tkhd").ok_or_else(unreadable)?;
    let track = wide(header).and_then(|wide| word(header, 12 + wide)).ok_or_else(unreadable)?;
    if !matches!(entry(media), Some(b"avc1" | b"avc3" | b"hvc1" | b"hev1")) {
        return Err(Unfit::Streams);
    }
    let extends = child(movie, b"mvex").ok_or_else(unreadable)?;
    let mut defaults = Vec::new();
    for extends in of_kind(extends, b"trex") {
        if defaults.len() >= TRACKS_MAX {
            return Err(Unfit::TooLong);
        }
        let field = |at: usize| word(extends, at).ok_or(Unfit::Unreadable);
        defaults.push(Defaults { track: field(4)?, ticks: field(12)?, size: field(16)?, flags: field(20)? });
    }
    Ok(Head { bytes, timescale, track, place, defaults })
}

/// What the samples of a track are.
fn entry(media: &[u8]) -> Option<&[u8]> {
    [b"minf", b"stbl", b"stsd"].iter().try_fold(media, |inner, kind| child(inner, kind))?.get(12..16)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    number(bytes, at, 4).and_then(|number| u32::try_from(number).ok())
}

/// The payloads of the boxes of a kind.
fn of_kind<'a>(bytes: &'a [u8], kind: &'a [u8; 4]) -> impl Iterator<Item = &'a [u8]> {
    boxes(bytes).map_while(Result::ok).filter(move |(found, _)| found == kind).map(|(_, whole)| &whole[8..])
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

    fn default(&self, track: u32) -> Option<Defaults> {
        self.defaults.iter().find(|defaults| defaults.track == track).copied()
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

#[cfg(test)]
mod tests;
