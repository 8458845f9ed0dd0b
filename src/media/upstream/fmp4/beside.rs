//! What lies beside the picture in a segment: each fragment's other tracks, as a fragment of their own with only their samples.
//!
//! Invariant: no byte of a sample is changed, nor any time; only where samples lie is written anew.

use super::super::super::fragment::{boxed, child, number};
use super::{Head, Segment, boxes, track_of};

impl Segment<'_> {
    /// Writes it after the picture. None: it is not where it should be.
    pub(super) fn beside(&self, head: &Head<'_>, written: &mut Vec<u8>) -> Option<()> {
        let mut at = 0;
        for found in boxes(self.bytes) {
            let (kind, whole) = found.ok()?;
            if kind == b"moof" {
                fragment(head, self.bytes.get(at..)?, whole, written)?;
            }
            at += whole.len();
        }
        Some(())
    }
}

/// `from`: the segment from this `moof` on, where the places of samples count from.
fn fragment(head: &Head<'_>, from: &[u8], moof: &[u8], written: &mut Vec<u8>) -> Option<()> {
    let boxes_of = |bytes| boxes(bytes).collect::<Result<Vec<_>, _>>().ok();
    let others = boxes_of(moof.get(8..)?)?.into_iter().filter(|(kind, _)| *kind == b"traf").map(|(_, whole)| whole);
    let others: Vec<&[u8]> = others.filter(|track| track_of(&track[8..]) != Some(head.track.into())).collect();
    if others.is_empty() {
        return Some(());
    }
    let sequence = boxed(b"mfhd", &[child(moof.get(8..)?, b"mfhd")?]);
    let length = 8 + sequence.len() + others.iter().map(|track| track.len()).sum::<usize>();
    let (mut tracks, mut data) = (Vec::new(), Vec::new());
    for track in others {
        let inner = track.get(8..)?;
        let header = child(inner, b"tfhd")?;
        let flags = number(header, 1, 3)?;
        // §8.8.7.1: places count from the `moof`.
        if flags & 1 != 0 || flags & 0x2_0000 == 0 {
            return None;
        }
        let before =
            8 + [(2, 4), (8, 4)].iter().filter(|(flag, _)| flags & flag != 0).map(|(_, bytes)| bytes).sum::<usize>();
        let size = if flags & 0x10 != 0 { number(header, before, 4) } else { head.default(track_of(inner)?, 16) };
        let mut at = tracks.len() + 8;
        tracks.extend_from_slice(track);
        for (kind, whole) in boxes_of(inner)? {
            if kind == b"trun" {
                let (place, bytes) = samples(&whole[8..], size)?;
                let moved = u32::try_from(length + 8 + data.len()).ok()?;
                tracks.get_mut(at + 16..at + 20)?.copy_from_slice(&moved.to_be_bytes());
                data.extend_from_slice(from.get(place..place.checked_add(bytes)?)?);
            }
            at += whole.len();
        }
    }
    written.extend_from_slice(&boxed(b"moof", &[&sequence, &tracks]));
    written.extend_from_slice(&boxed(b"mdat", &[&data]));
    Some(())
}

/// Where the samples of a run lie (§8.8.8), and how many bytes they have together.
fn samples(run: &[u8], size: Option<u64>) -> Option<(usize, usize)> {
    let flags = number(run, 1, 3).filter(|flags| flags & 1 != 0)?;
    let count = usize::try_from(number(run, 4, 4)?).ok()?;
    let place = usize::try_from(number(run, 8, 4)?).ok()?;
    let fields = [0x100, 0x200, 0x400, 0x800].map(|flag| if flags & flag != 0 { 4 } else { 0 });
    let (each, start) = (fields.iter().sum::<usize>(), 12 + if flags & 4 != 0 { 4 } else { 0 });
    let bytes = match flags & 0x200 {
        0 => size?.checked_mul(count as u64)?,
        _ if count > run.len() => return None,
        _ => (0..count).try_fold(0_u64, |sum, index| Some(sum + number(run, start + index * each + fields[0], 4)?))?,
    };
    Some((place, usize::try_from(bytes).ok()?))
}
