//! What lies beside the picture in a segment: each fragment's other tracks, as a fragment of their own with only their samples.
//!
//! Invariants: no byte of a sample is changed, nor any time; only where samples lie is written anew. All samples together have no more
//! bytes than the segment, however often it names the same ones.

use super::super::super::fragment::number;
use super::segment::{Fragment, Track};
use super::{Head, Segment, boxed};

impl Segment<'_> {
    /// Writes it after the picture. None: it is not where it should be.
    pub(super) fn beside(&self, head: &Head<'_>, written: &mut Vec<u8>) -> Option<()> {
        let mut bytes_left = self.bytes.len();
        for found in &self.fragments {
            fragment(head, self.bytes.get(found.at..)?, found, &mut bytes_left, written)?;
        }
        Some(())
    }
}

/// `from`: the segment from this `moof` on, where the places of samples count from.
fn fragment(
    head: &Head<'_>,
    from: &[u8],
    found: &Fragment<'_>,
    bytes_left: &mut usize,
    written: &mut Vec<u8>,
) -> Option<()> {
    let others: Vec<&Track<'_>> = found.tracks.iter().filter(|track| track.id != head.track).collect();
    if others.is_empty() {
        return Some(());
    }
    let sequence = boxed(b"mfhd", &[found.sequence]);
    let length = 8 + sequence.len() + others.iter().map(|track| track.whole.len()).sum::<usize>();
    let (mut tracks, mut data) = (Vec::new(), Vec::new());
    for track in others {
        // §8.8.7.1: places count from the `moof`.
        if track.flags & 1 != 0 || track.flags & 0x2_0000 == 0 {
            return None;
        }
        let size = track.field(0x10).or_else(|| head.default(track.id).map(|default| default.size));
        let at = tracks.len();
        tracks.extend_from_slice(track.whole);
        for (place_of_run, run) in &track.runs {
            let (place, bytes) = samples(run, size)?;
            *bytes_left = bytes_left.checked_sub(bytes)?;
            let moved = u32::try_from(length + 8 + data.len()).ok()?;
            let at = at + place_of_run;
            tracks.get_mut(at + 16..at + 20)?.copy_from_slice(&moved.to_be_bytes());
            data.extend_from_slice(from.get(place..place.checked_add(bytes)?)?);
        }
    }
    written.extend_from_slice(&boxed(b"moof", &[&sequence, &tracks]));
    written.extend_from_slice(&boxed(b"mdat", &[&data]));
    Some(())
}

/// Where the samples of a run lie (§8.8.8), and how many bytes they have together.
fn samples(run: &[u8], size: Option<u32>) -> Option<(usize, usize)> {
    let flags = number(run, 1, 3).filter(|flags| flags & 1 != 0)?;
    let count = usize::try_from(number(run, 4, 4)?).ok()?;
    let place = usize::try_from(number(run, 8, 4)?).ok()?;
    let fields = [0x100, 0x200, 0x400, 0x800].map(|flag| if flags & flag != 0 { 4 } else { 0 });
    let (each, start) = (fields.iter().sum::<usize>(), 12 + if flags & 4 != 0 { 4 } else { 0 });
    let bytes = match flags & 0x200 {
        0 => u64::from(size?).checked_mul(count as u64)?,
        _ if count > run.len() => return None,
        _ => (0..count).try_fold(0_u64, |sum, index| Some(sum + number(run, start + index * each + fields[0], 4)?))?,
    };
    Some((place, usize::try_from(bytes).ok()?))
}
