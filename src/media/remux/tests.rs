//! Packets by hand: an avcC, units, frames in decoding order.

use super::*;
use crate::media::fraction::Fraction;
use crate::media::fragment::{Check, Piece, Splitter};
use proptest::prelude::*;

const SPS: [u8; 4] = [0x67, 77, 0x40, 31];
const PPS: [u8; 2] = [0x68, 1];

fn head() -> Head {
    Head { avc: [77, 0x40, 31], length_bytes: 4, sets: vec![SPS.to_vec(), PPS.to_vec()] }
}

fn units(units: &[&[u8]]) -> Vec<u8> {
    units.iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes()[..], unit].concat()).collect()
}

fn grid(frames: u64) -> Grid {
    Grid { frame_rate: Fraction::parse("25").unwrap(), frames }
}

/// Walks frames (by number, in decoding order) with an IDR picture at each of `idrs`.
fn walk(frames: u64, order: impl IntoIterator<Item = i64>, idrs: &[i64]) -> Result<Vec<Placed>, Misfit> {
    let mut walk = Walk::new(&grid(frames), head(), 1000, 0, false).unwrap();
    let mut placed = Vec::new();
    for frame in order {
        let first = if idrs.contains(&frame) { 0x65 } else { 0x41 };
        let bytes = units(&[&[first, 9, 9]]);
        placed.extend(walk.place(Packet { shown: 1000 + frame * 400 + 20, bytes: &bytes })?);
    }
    walk.finish().map(|()| placed)
}

#[test]
fn closed_groups_on_segments_fit() {
    let order = [0, 2, 1].into_iter().chain(3..100).chain([100, 103, 101, 102]).chain(104..150);
    let placed = walk(150, order, &[0, 50, 100]).unwrap();
    assert_eq!(placed.len(), 150);
    let of = |index: usize| (placed[index].segment, placed[index].idr, placed[index].offset);
    assert_eq!((of(0), of(1), of(2)), ((0, true, 0), (0, false, 1), (0, false, -1)));
    assert_eq!((of(50), of(100), of(101)), ((0, true, 0), (1, true, 0), (1, false, 2)));
}

#[test]
fn what_does_not_fit_says_why() {
    let zero = &[0, 100][..];
    assert_eq!(walk(150, 0..150, &[0, 99]).err(), Some(Misfit::Groups), "no IDR picture at the second segment");
    let leading = (0..98).chain([100, 98, 99]).chain(101..150);
    assert_eq!(walk(150, leading, zero).err(), Some(Misfit::Groups), "frames shown before the keyframe they follow");
    assert_eq!(walk(150, (0..149).chain([105]), zero).err(), Some(Misfit::OffGrid), "a frame twice");
    assert_eq!(walk(150, 0..149, zero).err(), Some(Misfit::FrameCount));
    assert_eq!(walk(150, 0..151, zero).err(), Some(Misfit::FrameCount));
    assert_eq!(walk(150, -1..150, zero).err(), Some(Misfit::Groups), "cut in the middle by an edit list");
    let mut off = Walk::new(&grid(9), head(), 0, 0, false).unwrap();
    let idr = units(&[&[0x65, 1]]);
    assert_eq!(off.place(Packet { shown: 150, bytes: &idr }).err(), Some(Misfit::OffGrid));
    assert_eq!(off.place(Packet { shown: i64::MIN, bytes: &idr }).err(), Some(Misfit::OffGrid));
    assert!(Walk::new(&grid(9), head(), 0, 1, false).is_none());
}

#[test]
fn packets_before_a_segment_are_passed_over() {
    let mut walk = Walk::new(&grid(150), head(), 0, 1, true).unwrap();
    for frame in 98..100 {
        assert_eq!(walk.place(Packet { shown: frame * 400, bytes: &units(&[&[0x41]]) }), Ok(None));
    }
    assert!(walk.place(Packet { shown: 40_000, bytes: &units(&[&[0x65]]) }).unwrap().is_some());
    assert!(!walk.segment_is_whole());
}

#[test]
fn units_of_a_packet() {
    let idr = |packet: &[u8]| head().idr(packet);
    assert_eq!(idr(&units(&[&[9, 16], &SPS, &PPS, &[6, 1], &[0x65], &[0x65]])), Ok(true));
    assert_eq!(idr(&units(&[&[0x41]])), Ok(false));
    assert_eq!(idr(&units(&[&[0x67, 100, 0, 31], &[0x65]])), Err(Misfit::Parameters));
    for wrong in [&b""[..], &[0, 0, 0], &[0, 0, 0, 9, 0x65], &units(&[&[6, 1]]), &units(&[&[0x62]]), &units(&[&[]])] {
        assert_eq!(idr(wrong), Err(Misfit::Unreadable), "{wrong:?}");
    }
    for (avc, fit) in [
        ([100, 0, 40], true),
        ([77, 0x40, 31], true),
        ([66, 0xc0, 30], true),
        ([66, 0, 30], false),
        ([110, 0, 40], false),
        ([100, 0, 60], false),
    ] {
        assert_eq!(Head { avc, ..head() }.is_fit().is_ok(), fit, "{avc:?}");
    }
}

#[test]
fn a_segment_written_is_a_segment_as_checked() {
    let order = [0, 2, 1].into_iter().chain(3..100).chain([100, 102, 101]).chain(103..110);
    let placed = walk(110, order, &[0, 100]).unwrap();
    let second: Vec<Placed> = placed[100..].to_vec();
    let bytes = fragment(&grid(110), 100, &second).unwrap();
    let mut check = Check::new(&(100..110), 400);
    check.fragment(&bytes).unwrap();
    check.finish().unwrap();
    let read = packets(&bytes).unwrap();
    let shown: Vec<i64> = read.iter().map(|packet| packet.shown / 400).collect();
    assert_eq!(shown, [100, 102, 101, 103, 104, 105, 106, 107, 108, 109]);
    assert_eq!(read[0].bytes, second[0].bytes);
    let mut splitter = Splitter::new(usize::MAX);
    let init = [b"\0\0\0\x08ftyp".as_slice(), b"\0\0\0\x08moov"].concat();
    let pieces = splitter.push(&[init, bytes.clone()].concat()).unwrap();
    assert_eq!(pieces[1], Piece::Fragment(bytes));
}

proptest! {
    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200), shown in any::<i64>()) {
        let _ = (Head::read(&bytes), packets(&bytes), head().idr(&bytes));
        let mut walk = Walk::new(&grid(120), head(), shown, 0, true).unwrap();
        let _ = walk.place(Packet { shown: 0, bytes: &bytes });
    }

    #[test]
    fn a_damaged_segment_is_read_without_panic(at in any::<usize>(), byte in any::<u8>()) {
        let mut bytes = fragment(&grid(3), 0, &walk(3, 0..3, &[0]).unwrap()).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(packets) = packets(&bytes) {
            prop_assert!(packets.iter().all(|packet| packet.bytes.len() <= bytes.len()));
        }
    }
}
