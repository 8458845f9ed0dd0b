//! A segment: its boxes found in one pass, its frames, and the segment with others in their places.

use super::super::super::fragment::number;
use super::super::{Frame, Unfit, shown};
use super::{Head, boxed, boxes, word};

/// Boxes of a segment that say something about it, and are copied; an index (`sidx`) would be wrong.
const COPIED: [&[u8; 4]; 3] = [b"styp", b"emsg", b"prft"];
/// Frames of a segment.
const FRAMES_MAX: usize = 1 << 13;
/// Boxes of a segment, those within others too: half a minute with a fragment for each frame and each packet of sound has half as many.
pub(super) const BOXES_MAX: usize = 1 << 16;

/// A segment, and the frames in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment<'a> {
    pub(super) bytes: &'a [u8],
    /// In decoding order; ticks of the title.
    pub frames: Vec<Frame>,
    durations: Vec<u32>,
    copied: Vec<&'a [u8]>,
    pub(super) fragments: Vec<Fragment<'a>>,
}

/// A `moof`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    /// Where it begins.
    pub at: usize,
    /// The payload of `mfhd`.
    pub sequence: &'a [u8],
    pub tracks: Vec<Track<'a>>,
}

/// A `traf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Track<'a> {
    pub whole: &'a [u8],
    pub id: u32,
    /// Of `tfhd`, and its payload.
    pub flags: u64,
    header: &'a [u8],
    /// The payload of `tfdt`, and where it begins in the segment.
    time: Option<(usize, &'a [u8])>,
    /// Of `trun`, and where it begins in `whole`.
    pub runs: Vec<(usize, &'a [u8])>,
}

impl Track<'_> {
    /// What samples have that say nothing of their own (§8.8.7): a field by its flag, where it is there.
    pub fn field(&self, flag: u64) -> Option<u32> {
        let before = [1, 2, 8, 0x10].into_iter().filter(|before| *before < flag && self.flags & before != 0);
        let at = 8 + before.map(|before| if before == 1 { 8 } else { 4 }).sum::<usize>();
        (self.flags & flag != 0).then(|| word(self.header, at)).flatten()
    }
}

/// Goes through boxes, and counts them.
#[derive(Debug)]
pub(super) struct Steps {
    left: usize,
}

impl Steps {
    pub fn new(most: usize) -> Self {
        Self { left: most }
    }

    #[cfg(test)]
    pub fn left(&self) -> usize {
        self.left
    }

    /// Kinds, whole boxes, and where they begin.
    fn each<'a>(
        &mut self,
        bytes: &'a [u8],
        mut take: impl FnMut(&mut Self, &'a [u8], &'a [u8], usize) -> Result<(), Unfit>,
    ) -> Result<(), Unfit> {
        let mut at = 0;
        for found in boxes(bytes) {
            let (kind, whole) = found?;
            self.take(1)?;
            take(self, kind, whole, at)?;
            at += whole.len();
        }
        Ok(())
    }

    fn take(&mut self, steps: usize) -> Result<(), Unfit> {
        self.left = self.left.checked_sub(steps).ok_or(Unfit::TooLong)?;
        Ok(())
    }
}

impl Head<'_> {
    /// Reads a segment of this head.
    pub fn segment<'b>(&self, bytes: &'b [u8]) -> Result<Segment<'b>, Unfit> {
        self.segment_within(bytes, &mut Steps::new(BOXES_MAX))
    }

    pub(super) fn segment_within<'b>(&self, bytes: &'b [u8], steps: &mut Steps) -> Result<Segment<'b>, Unfit> {
        let (mut copied, mut fragments) = (Vec::new(), Vec::new());
        steps.each(bytes, |steps, kind, whole, at| {
            if kind == b"moof" {
                fragments.push(fragment(steps, whole, at)?);
            } else if COPIED.iter().any(|copied| kind == *copied) {
                copied.push(whole);
            }
            Ok(())
        })?;
        let (mut frames, mut durations) = (Vec::new(), Vec::new());
        for fragment in &fragments {
            let mut ours = fragment.tracks.iter().filter(|track| track.id == self.track);
            let Some(track) = ours.next() else { continue };
            if ours.next().is_some() {
                return Err(Unfit::Streams);
            }
            self.frames(track, &mut frames, &mut durations)?;
        }
        let ordered = frames.windows(2).all(|pair: &[Frame]| pair[0].decode < pair[1].decode);
        if frames.is_empty() || !ordered {
            return Err(Unfit::Unreadable);
        }
        Ok(Segment { bytes, frames, durations, copied, fragments })
    }

    fn frames(&self, track: &Track<'_>, frames: &mut Vec<Frame>, durations: &mut Vec<u32>) -> Result<(), Unfit> {
        let unreadable = || Unfit::Unreadable;
        let default = self.default(track.id);
        let ticks = track.field(8).or(default.map(|default| default.ticks)).ok_or_else(unreadable)?;
        let default_flags = track.field(0x20).or(default.map(|default| default.flags)).ok_or_else(unreadable)?;
        let (_, time) = track.time.ok_or_else(unreadable)?;
        let decode = number(time, 4, if time.first() == Some(&1) { 8 } else { 4 }).ok_or_else(unreadable)?;
        let mut decode = i64::try_from(decode).map_err(|_| unreadable())?;
        for (_, run) in &track.runs {
            let flags = number(run, 1, 3).ok_or_else(unreadable)?;
            let count = number(run, 4, 4).and_then(|count| usize::try_from(count).ok()).ok_or_else(unreadable)?;
            if frames.len() + count.min(FRAMES_MAX + 1) > FRAMES_MAX {
                return Err(Unfit::TooLong);
            }
            let mut at = 8 + if flags & 1 != 0 { 4 } else { 0 };
            let mut next = |flag: u64| {
                let value = if flags & flag != 0 { word(run, at).map(Some) } else { Some(None) };
                at += if flags & flag != 0 { 4 } else { 0 };
                value.ok_or(Unfit::Unreadable)
            };
            let mut first_flags = next(4)?;
            for _ in 0..count {
                let ticks = next(0x100)?.unwrap_or(ticks);
                let _size = next(0x200)?;
                let own = next(0x400)?;
                let offset = i64::from(next(0x800)?.unwrap_or(0).cast_signed());
                let flags = first_flags.take().or(own).unwrap_or(default_flags);
                let shown = decode.checked_add(offset).ok_or_else(unreadable)?;
                frames.push(Frame { decode, shown, is_key: flags & 0x1_0000 == 0 });
                durations.push(ticks);
                decode = decode.checked_add(i64::from(ticks)).ok_or_else(unreadable)?;
            }
        }
        Ok(())
    }
}

fn fragment<'a>(steps: &mut Steps, moof: &'a [u8], at: usize) -> Result<Fragment<'a>, Unfit> {
    let mut found = Fragment { at, ..Fragment::default() };
    steps.each(&moof[8..], |steps, kind, whole, inner| {
        match kind {
            b"mfhd" if found.sequence.is_empty() => found.sequence = &whole[8..],
            b"traf" => found.tracks.push(track(steps, whole, at + 8 + inner)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}

fn track<'a>(steps: &mut Steps, traf: &'a [u8], at: usize) -> Result<Track<'a>, Unfit> {
    let (mut header, mut time, mut runs) = (None, None, Vec::new());
    steps.each(&traf[8..], |_, kind, whole, inner| {
        let payload = &whole[8..];
        match kind {
            b"senc" | b"saiz" => return Err(Unfit::Encrypted),
            b"tfhd" => header = header.or(Some(payload)),
            b"tfdt" => time = time.or(Some((at + 16 + inner, payload))),
            b"trun" => runs.push((8 + inner, payload)),
            _ => {}
        }
        Ok(())
    })?;
    let header: &[u8] = header.ok_or(Unfit::Unreadable)?;
    let flags = number(header, 1, 3).ok_or(Unfit::Unreadable)?;
    let id = word(header, 4).ok_or(Unfit::Unreadable)?;
    Ok(Track { whole: traf, id, flags, header, time, runs })
}

impl Segment<'_> {
    /// The segment with its first frame decoded at `start_s`.
    pub fn video_from(&self, head: &Head<'_>, start_s: u32) -> Option<Vec<u8>> {
        let base = self.frames.first()?.decode;
        let mut written = self.bytes.to_vec();
        let tracks = self.fragments.iter().flat_map(|fragment| &fragment.tracks);
        for track in tracks.filter(|track| track.id == head.track) {
            let (at, time) = track.time?;
            let wide = *time.first()? == 1;
            let moved = i64::try_from(number(time, 4, if wide { 8 } else { 4 })?).ok()?;
            let moved = moved.checked_sub(base)?.checked_add(i64::from(start_s) * i64::from(head.timescale))?;
            match wide {
                true => written.get_mut(at + 4..at + 12)?.copy_from_slice(&moved.to_be_bytes()),
                false => written.get_mut(at + 4..at + 8)?.copy_from_slice(&u32::try_from(moved).ok()?.to_be_bytes()),
            }
        }
        Some(written)
    }

    /// A segment with other frames, in the order shown, each with the times of the one in its place; the first is a keyframe. `frames`:
    /// as they lie in MP4. None: not as many.
    pub fn with(&self, head: &Head<'_>, frames: &[Vec<u8>]) -> Option<Vec<u8>> {
        let shown = shown(&self.frames).filter(|shown| shown.len() == frames.len())?;
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
            let track = [boxed(b"tfhd", &[&header]), boxed(b"tfdt", &[&time]), boxed(b"trun", &[&run])].concat();
            Some(boxed(b"moof", &[&boxed(b"mfhd", &[&[0, 0, 0, 0, 0, 0, 0, 1]]), &boxed(b"traf", &[&track])]))
        };
        let length = moof(0)?.len();
        let mut written = self.copied.concat();
        written.extend_from_slice(&moof(length + 8)?);
        written.extend_from_slice(&word(frames.iter().map(Vec::len).sum::<usize>() + 8)?);
        written.extend_from_slice(b"mdat");
        frames.iter().for_each(|frame| written.extend_from_slice(frame));
        self.beside(head, &mut written)?;
        Some(written)
    }
}
