//! The clock of an MPEG stream: the times that are read here and there in a file, and whether they go on as they should.
//!
//! Broadcasters set their clocks, and recordings are joined. A title has one time, from its start to its end, and ffmpeg seeks by bisection:
//! where the clock jumps, neither holds. It wraps every 26½ hours, which is no jump.
//!
//! Invariants: no panic on any bytes; times are compared as differences, modulo the wrap.

use super::demuxer::packets_of;

/// Of a clock of 33 bits (ISO/IEC 13818-1 §2.4.3.7).
const WRAP: i64 = 1 << 33;
const TICKS_PER_S: i64 = 90_000;
/// Times are not in order within a group of pictures.
const BACK_TICKS_MAX: i64 = 5 * TICKS_PER_S;
/// Between two places there may be a gap of so much, beside so many times of what usually lies between two.
const GAP_TICKS_MAX: i64 = 60 * TICKS_PER_S;
const USUAL_STEPS_MAX: i64 = 8;

/// The first time of a stream of video in a piece of a transport stream; `pid`: of that stream.
pub fn transport_time(piece: &[u8], pid: u16) -> Option<i64> {
    let (mut at, step) = packets_of(piece)?;
    while let Some(packet) = piece.get(at..at + 188) {
        // Damage: what follows may be in step again, elsewhere.
        if packet[0] != 0x47 {
            let (from, _) = packets_of(&piece[at..])?;
            at += from;
            continue;
        }
        at += step;
        let begins = packet[1] & 0x40 != 0 && u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]) == pid;
        // An adaptation field before the payload.
        let from = if packet[3] & 0x20 != 0 { 5 + usize::from(packet[4]) } else { 4 };
        if let (true, true, Some(payload)) = (begins, packet[3] & 0x10 != 0, packet.get(from..))
            && let Some(time) = presented(payload)
        {
            return Some(time);
        }
    }
    None
}

/// PES: `00 00 01`, the stream, a length, flags, and the time (§2.4.3.6).
fn presented(payload: &[u8]) -> Option<i64> {
    let is_whole = payload.starts_with(&[0, 0, 1]) && payload.get(7)? & 0x80 != 0;
    let time = payload.get(9..14).filter(|time| is_whole && time[0] & 1 == 1)?;
    let bits = |at: usize, mask: u8, shift: u32| i64::from(time[at] & mask) << shift;
    Some(bits(0, 0x0e, 29) | bits(1, 0xff, 22) | bits(2, 0xfe, 14) | bits(3, 0xff, 7) | bits(4, 0xfe, 0) >> 1)
}

/// The first system clock reference in a piece of a program stream, of MPEG-1 or MPEG-2 (§2.5.3.3; ISO/IEC 11172-1 §2.4.3.2).
pub fn program_time(piece: &[u8]) -> Option<i64> {
    let packs = piece.windows(9).filter(|window| window[..4] == [0, 0, 1, 0xba]);
    let mut times = packs.filter_map(|window| {
        let clock = &window[4..];
        let bits = |at: usize, mask: u8, shift: u32| i64::from(clock[at] & mask) << shift;
        match clock[0] >> 4 {
            // `01`, and three parts with a marker after each.
            4..=7 => Some(
                bits(0, 0x38, 27)
                    | bits(0, 3, 28)
                    | bits(1, 0xff, 20)
                    | bits(2, 0xf8, 12)
                    | bits(2, 3, 13)
                    | bits(3, 0xff, 5)
                    | bits(4, 0xf8, 0) >> 3,
            ),
            2 => Some(
                bits(0, 0x0e, 29) | bits(1, 0xff, 22) | bits(2, 0xfe, 14) | bits(3, 0xff, 7) | bits(4, 0xfe, 0) >> 1,
            ),
            _ => None,
        }
    });
    times.next()
}

/// Whether times from a file's beginning to its end are those of one clock.
pub fn goes_on(times: &[i64]) -> bool {
    let mut steps: Vec<i64> = times.windows(2).map(|pair| since(pair[0], pair[1])).collect();
    let back = steps.iter().any(|step| *step < -BACK_TICKS_MAX);
    let most = steps.iter().copied().max().unwrap_or(0);
    steps.sort_unstable();
    let usual = steps.get(steps.len() / 2).copied().unwrap_or(0).max(0);
    !back && most <= GAP_TICKS_MAX + USUAL_STEPS_MAX * usual
}

/// How long after `before` it is, where it is at most half a wrap away.
fn since(before: i64, after: i64) -> i64 {
    (after - before + WRAP / 2).rem_euclid(WRAP) - WRAP / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp(time: i64) -> [u8; 5] {
        let bits = |shift: u32, mask: i64| ((time >> shift) & mask) as u8;
        [0x21 | bits(29, 0x0e), bits(22, 0xff), bits(14, 0xfe) | 1, bits(7, 0xff), (bits(0, 0x7f) << 1) | 1]
    }

    /// A packet that begins a picture of a stream.
    fn packet(pid: u16, time: i64, adapted: bool) -> Vec<u8> {
        let mut packet = vec![0x47, 0x40 | (pid >> 8) as u8, pid as u8, if adapted { 0x30 } else { 0x10 }];
        if adapted {
            packet.extend([3, 0, 0, 0]);
        }
        packet.extend([0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5]);
        packet.extend(stamp(time));
        packet.resize(188, 0xff);
        packet
    }

    #[test]
    fn a_time_is_read_from_the_stream_meant_wherever_the_piece_begins() {
        let other = packet(0x101, 7, false);
        for time in [0, 1, 900_000, WRAP - 1, 0x1_5555_5555] {
            let stream: Vec<u8> =
                [other.clone(), packet(0x100, time, true), other.clone(), other.clone(), other.clone()].concat();
            assert_eq!(transport_time(&stream, 0x100), Some(time));
            let cut = [&other[100..], &other, &stream].concat();
            assert_eq!(transport_time(&cut, 0x100), Some(time));
            let damaged = [&other.repeat(5), &[0; 77][..], &stream].concat();
            assert_eq!(transport_time(&damaged, 0x100), Some(time));
            assert_eq!(transport_time(&stream, 0x102), None);
        }
    }

    #[test]
    fn a_pack_says_the_time() {
        // As ffmpeg writes them: MPEG-2 at 0.5 s, MPEG-1 at 1 s.
        let time = 45_000_i64;
        let clock = [
            0x44 | ((time >> 27) & 0x38) as u8 | ((time >> 28) & 3) as u8,
            (time >> 20) as u8,
            ((time >> 12) & 0xf8) as u8 | 4 | ((time >> 13) & 3) as u8,
            (time >> 5) as u8,
            ((time << 3) & 0xf8) as u8 | 4,
        ];
        assert_eq!(program_time(&[&[9, 9, 0, 0, 1, 0xba][..], &clock, &[0; 9]].concat()), Some(time));
        assert_eq!(program_time(&[&[0, 0, 1, 0xba][..], &stamp(90_000), &[0; 9]].concat()), Some(90_000));
        assert_eq!(program_time(&[0, 0, 1, 0xba, 0xff, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn a_clock_that_wraps_goes_on_and_one_that_was_set_does_not() {
        let every =
            |ticks: i64| (0..20).map(|at| (WRAP - 10 * TICKS_PER_S + at * ticks).rem_euclid(WRAP)).collect::<Vec<_>>();
        assert!(goes_on(&every(TICKS_PER_S)) && goes_on(&every(100 * TICKS_PER_S)) && goes_on(&[]) && goes_on(&[5]));
        let changed = |by: i64| {
            let mut times = every(TICKS_PER_S);
            times[12..].iter_mut().for_each(|time| *time += by);
            times
        };
        assert!(goes_on(&changed(30 * TICKS_PER_S)), "nothing was received");
        assert!(!goes_on(&changed(-10 * TICKS_PER_S)) && !goes_on(&changed(3600 * TICKS_PER_S)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(prop_oneof![Just(0x47), any::<u8>()], 0..2000), times in proptest::collection::vec(any::<u32>(), 0..9)) {
            transport_time(&bytes, 0x100);
            program_time(&bytes);
            goes_on(&times.into_iter().map(i64::from).collect::<Vec<_>>());
        }
    }
}
