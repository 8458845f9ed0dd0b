//! Segments by hand: times just before they wrap around, clocks, sound beside the picture.

use super::*;
use proptest::prelude::*;

const VIDEO: u16 = 0x100;

fn table(pid: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x47, 0x40 | (pid >> 8) as u8, pid as u8, 0x10, 0];
    packet.extend_from_slice(payload);
    packet.resize(PACKET, 0xff);
    packet
}

/// A segment whose frames have these times, the first of them just before times wrap around; with sound after each.
fn segment(kind: u8, frames: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = table(0, &[0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0, 1, 2, 3, 4]);
    bytes.extend(table(
        0x1000,
        &[2, 0xb0, 23, 0, 1, 0xc1, 0, 0, 0xe1, 0, 0xf0, 0, kind, 0xe1, 0, 0xf0, 0, 15, 0xe1, 1, 0xf0, 0, 1, 2, 3, 4],
    ));
    let mut counter = 3;
    for (index, (shown, decode)) in frames.iter().enumerate() {
        let unit = [&[0, 0, 1, if index == 0 { 0x65 } else { 0x41 }][..], &[7; 400]].concat();
        let clock = [1, 2, 3, 4, 5, 6];
        let data = elementary(shown & TIME_MASK, decode & TIME_MASK, &unit);
        put(&mut bytes, (VIDEO, &mut counter), (index % 2 == 0).then_some(&clock[..]), index == 0, &data);
        bytes.extend(table(0x101, &[index as u8; 9]));
    }
    bytes
}

const NEAR: u64 = TIME_MASK - 4000;

fn frames() -> Vec<(u64, u64)> {
    vec![(NEAR + 6000, NEAR), (NEAR + 12000, NEAR + 3000), (NEAR + 9000, NEAR + 6000)]
}

#[test]
fn frames_are_found_over_the_end_of_time() {
    let bytes = segment(H264, &frames());
    let read = read(&bytes).unwrap();
    assert_eq!(
        read.frames,
        [(0, 6000, true), (3000, 12000, false), (6000, 9000, false)].map(|(decode, shown, is_key)| Frame {
            decode,
            shown,
            is_key
        })
    );
    let again = super::read(&read.video_from(100)).map(|moved| (moved.base, moved.frames)).unwrap();
    assert_eq!(again, (9_000_000, read.frames));
}

#[test]
fn other_frames_take_their_places_and_all_else_stays() {
    let bytes = segment(H264, &frames());
    let source = read(&bytes).unwrap();
    for length in [5, 150, 165, 170, 171, 172, 173, 400, 4000] {
        let units: Vec<Vec<u8>> =
            (0..3).map(|n| [&[0, 0, 1, if n == 0 { 0x65 } else { 0x41 }][..], &vec![n; length]].concat()).collect();
        let made = source.with(&units).unwrap();
        let found = read(&made).unwrap();
        assert_eq!(found.base, source.base);
        let times: Vec<_> = found.frames.iter().map(|frame| (frame.decode, frame.shown)).collect();
        assert_eq!(times, [(0, 6000), (3000, 9000), (6000, 12000)], "{length}");
        let others = |bytes: &[u8]| {
            packets(bytes).map(|p| p.unwrap()).filter(|p| p.pid != VIDEO).map(|p| p.bytes.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(others(&made), others(&bytes));
        let clocks =
            |bytes: &[u8]| packets(bytes).filter_map(|p| p.unwrap().clock.map(<[u8]>::to_vec)).collect::<Vec<_>>();
        assert_eq!(clocks(&made), clocks(&bytes));
        let data: Vec<u8> =
            packets(&made).map(|p| p.unwrap()).filter(|p| p.pid == VIDEO).flat_map(|p| p.payload.to_vec()).collect();
        assert_eq!(data.len(), units.iter().map(|unit| unit.len() + DELIMITER.len() + 19).sum::<usize>(), "{length}");
        let counters: Vec<u8> = packets(&made)
            .map(|p| p.unwrap())
            .filter(|p| p.pid == VIDEO && !p.payload.is_empty())
            .map(|p| p.bytes[3] & 0xf)
            .collect();
        assert!(counters.windows(2).all(|pair| pair[1] == (pair[0] + 1) & 0xf) && counters[0] == 3);
    }
    assert_eq!(source.with(&[vec![1]]), None);
}

#[test]
fn what_is_not_supported_is_said() {
    assert_eq!(read(&segment(0x24, &frames())), Err(Unfit::Streams), "HEVC");
    let mut scrambled = segment(H264, &frames());
    scrambled[3 * PACKET + 3] |= 0x80;
    assert_eq!(read(&scrambled), Err(Unfit::Encrypted));
    assert_eq!(read(b""), Err(Unfit::Streams));
    assert_eq!(read(&[0x47; 100]), Err(Unfit::Unreadable));
    assert_eq!(read(&segment(H264, &[(5, 5), (5, 5)])), Err(Unfit::Unreadable), "two at once");
}

proptest! {
    #[test]
    fn damaged_segments_are_read_without_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9), cut in any::<prop::sample::Index>()) {
        let mut bytes = segment(H264, &frames());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1) / PACKET * PACKET);
        if let Ok(segment) = read(&bytes) {
            let _ = segment.video_from(10);
            let _ = segment.with(&vec![vec![1; 300]; segment.frames.len()]);
        }
    }
}
