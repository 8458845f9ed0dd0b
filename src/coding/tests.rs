//! Every coding there and back, in pieces; hostile bodies.

use super::*;
use crate::http::content_coding::Coding;
use bytes::Bytes;
use proptest::prelude::*;

const NO_BOUND: u64 = u64::MAX;
const WINDOWS: [Window; 4] = [Window::Small, Window::Large, Window::Of(0), Window::Of(40_000)];

fn encode(coding: Coding, level: u32, window: Window, body: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(coding, level, window);
    let mut out = encoder.write(body).to_vec();
    out.extend(encoder.finish());
    out
}

fn decode(coding: Coding, coded: &[u8], bytes_max: u64) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = Decoder::new(coding, bytes_max);
    let mut out = decoder.write(coded)?.to_vec();
    out.extend(decoder.finish()?);
    Ok(out)
}

/// Some of it repeats, near and far; some of it does not.
fn body(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut out: Vec<u8> = Vec::with_capacity(bytes + 64);
    while out.len() < bytes {
        match random.u8(0..3) {
            0 => out.extend(b"#EXTINF:6.006,\nsegment-"),
            1 => {
                let count = random.usize(1..40);
                out.extend(std::iter::repeat_with(|| random.u8(..)).take(count));
            }
            _ => {
                let from = random.usize(0..=out.len());
                let to = (from + random.usize(0..60)).min(out.len());
                out.extend_from_within(from..to);
            }
        }
    }
    out.truncate(bytes);
    out
}

#[test]
fn every_level_comes_back() {
    let body = body(20_000, 7);
    for (coding, levels) in [
        (Coding::Brotli, &[0, 1, 2, 5, 9, 11, 99][..]),
        (Coding::Zstd, &[0, 1, 6, 8, 10, 15, 19, 99]),
        (Coding::Gzip, &[0, 1, 6, 9, 99]),
    ] {
        for level in levels {
            for window in WINDOWS {
                let coded = encode(coding, *level, window, &body);
                assert!(coded.len() < body.len(), "{coding} {level} {window:?}");
                assert_eq!(decode(coding, &coded, NO_BOUND).as_ref(), Ok(&body), "{coding} {level} {window:?}");
                assert_eq!(decode(coding, &encode(coding, *level, window, b""), 0), Ok(Vec::new()));
            }
        }
    }
}

#[test]
fn a_coder_may_wait_in_a_task() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Encoder>();
    is_send_and_sync::<Decoder>();
}

#[test]
fn rfc9659_no_zstd_window_is_larger_than_clients_accept() {
    for level in 1..=19 {
        for window in WINDOWS.into_iter().chain([Window::Of(1 << 20), Window::Of(1 << 40)]) {
            let mut encoder = Encoder::new(Coding::Zstd, level, window);
            let start = [encoder.write(b"x"), encoder.flush()].concat();
            // RFC 8878 §3.1.1.1: the descriptor, then, of a frame that is not a single segment, the window: exponent and mantissa.
            assert_eq!(start[4] & 0b10_0000, 0, "no single segment: its size was not said");
            let (exponent, mantissa) = (u32::from(start[5] >> 3), u64::from(start[5] & 7));
            let window_bytes = (1u64 << (10 + exponent)) / 8 * (8 + mantissa);
            assert!(window_bytes <= 8 << 20, "{level} {window:?}: {window_bytes}");
            assert!(window != Window::Small || window_bytes <= 256 << 10);
        }
    }
}

#[test]
fn bodies_cut_short_longer_or_changed_are_errors() {
    let body = body(5000, 3);
    for coding in Coding::ALL {
        let coded = encode(coding, 5, Window::Large, &body);
        for cut in [0, 1, 3, 4, 10, coded.len() / 2, coded.len() - 1] {
            let found = decode(coding, &coded[..cut], NO_BOUND);
            assert_eq!(found, Err(DecodeError::Truncated(coding)), "{cut}");
        }
        for more in [&b"x"[..], b"garbage", b"\0\0\0\0\0\0\0\0"] {
            let found = decode(coding, &[&coded, more].concat(), NO_BOUND);
            assert!(found.is_err(), "{coding}: {more:?}");
        }
        let mut decoder = Decoder::new(coding, NO_BOUND);
        assert_eq!(decoder.write(&coded).unwrap(), body);
        assert_eq!(decoder.write(b""), Ok(Bytes::new()));
        let late = decoder.write(b"garbage").unwrap_err();
        assert_eq!(late, DecodeError::Malformed(coding));
        assert_eq!(decoder.write(&coded), Err(late), "and stays so");
        assert_eq!(decoder.finish(), Err(late));
    }
    // These two carry checksums, in their last bytes.
    for (coding, back) in [(Coding::Zstd, 1), (Coding::Gzip, 5)] {
        let mut coded = encode(coding, 5, Window::Large, &body);
        let at = coded.len() - back;
        coded[at] ^= 1;
        assert_eq!(decode(coding, &coded, NO_BOUND), Err(DecodeError::Malformed(coding)));
    }
}

#[test]
fn bombs_are_cut_off() {
    let zeros = vec![0; 20 << 20];
    for coding in Coding::ALL {
        let coded = encode(coding, 1, Window::Small, &zeros);
        assert_eq!(decode(coding, &coded, NO_BOUND), Err(DecodeError::TooLarge(coding)), "too much at once");
        let pieces = |bytes_max| {
            let mut decoder = Decoder::new(coding, bytes_max);
            let mut bytes = 0u64;
            for piece in coded.chunks(16) {
                bytes += decoder.write(piece)?.len() as u64;
                assert!(bytes <= bytes_max);
            }
            decoder.finish().map(|_| bytes)
        };
        assert_eq!(pieces(20 << 20), Ok(20 << 20));
        assert_eq!(pieces((20 << 20) - 1), Err(DecodeError::TooLarge(coding)));
    }
}

#[test]
fn rfc1952_2_2_and_rfc8878_3_members_and_frames_in_a_row_are_one_body() {
    for coding in [Coding::Zstd, Coding::Gzip] {
        let two = [encode(coding, 3, Window::Small, b"one, "), encode(coding, 9, Window::Large, b"two")].concat();
        assert_eq!(decode(coding, &two, NO_BOUND).unwrap(), b"one, two");
        let mut decoder = Decoder::new(coding, 8);
        let pieces: Vec<Bytes> = two.chunks(1).map(|byte| decoder.write(byte).unwrap()).collect();
        assert_eq!(pieces.concat(), b"one, two");
        assert_eq!(decoder.finish(), Ok(Bytes::new()));
    }
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &encode(Coding::Zstd, 3, Window::Small, b"x")];
    assert_eq!(decode(Coding::Zstd, &skippable.concat(), NO_BOUND).unwrap(), b"x");
}

#[test]
fn zstd_with_a_window_no_client_accepts_and_from_before_its_rfc_is_refused() {
    let mut encoder = Encoder::new(Coding::Zstd, 1, Window::Small);
    let mut frame = [encoder.write(b"hello"), encoder.flush()].concat();
    frame[5] = 14 << 3; // 16 MiB
    assert_eq!(Decoder::new(Coding::Zstd, NO_BOUND).write(&frame), Err(DecodeError::Malformed(Coding::Zstd)));
    frame[5] = 13 << 3; // 8 MiB
    assert_eq!(Decoder::new(Coding::Zstd, NO_BOUND).write(&frame).unwrap(), "hello");
    for version in 0x22..=0x27 {
        let old = [version, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0];
        assert_eq!(Decoder::new(Coding::Zstd, NO_BOUND).write(&old), Err(DecodeError::Malformed(Coding::Zstd)));
    }
}

fn coding() -> impl Strategy<Value = Coding> {
    proptest::sample::select(&Coding::ALL[..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_pieces_come_back_and_a_flush_gives_everything(
        coding in coding(),
        level in 0u32..=9,
        window in proptest::sample::select(&WINDOWS[..]),
        bytes in 0usize..60_000,
        seed: u64,
        cuts in proptest::collection::vec((0usize..20_000, any::<bool>()), 0..12),
        piece in 1usize..5000,
    ) {
        let body = body(bytes, seed);
        let mut encoder = Encoder::new(coding, level, window);
        let mut decoder = Decoder::new(coding, bytes as u64);
        let (mut rest, mut back, mut written) = (&body[..], Vec::new(), 0);
        let mut coded = Vec::new();
        for (cut, flush) in cuts {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            rest = later;
            written += now.len();
            let mut ready = encoder.write(now).to_vec();
            if flush {
                ready.extend(encoder.flush());
            }
            for piece in ready.chunks(piece) {
                back.extend(decoder.write(piece).unwrap());
            }
            coded.extend(ready);
            prop_assert!(!flush || back.len() == written);
        }
        let end = [encoder.write(rest), encoder.finish()].concat();
        for piece in end.chunks(piece) {
            back.extend(decoder.write(piece).unwrap());
        }
        coded.extend(end);
        prop_assert_eq!(decoder.finish(), Ok(Bytes::new()));
        prop_assert!(back == body);
        prop_assert!(coded.len() <= bytes + bytes / 64 + 2000, "little is lost on what does not compress");
    }

}

proptest! {
    // Cheap, and what an origin sends is not trusted: many.
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_panic_or_give_more_than_allowed(
        coding in coding(),
        seed: u64,
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..40),
        piece in 1usize..600,
        bytes_max in 0u64..4000,
    ) {
        let mut coded = encode(coding, 4, Window::Small, &body(3000, seed));
        for (at, byte) in flips {
            let at = at.index(coded.len());
            coded[at] = byte;
        }
        coded.extend(tail);
        let mut decoder = Decoder::new(coding, bytes_max);
        let mut bytes = 0;
        for piece in coded.chunks(piece) {
            bytes += decoder.write(piece).map_or(0, |out| out.len() as u64);
        }
        prop_assert!(bytes <= bytes_max);
        let _ = decoder.finish();
    }

    #[test]
    fn no_garbage_panics(coding in coding(), garbage in proptest::collection::vec(any::<u8>(), 0..300), real_start: bool) {
        let start: &[u8] = match coding {
            _ if !real_start => b"",
            Coding::Brotli => b"\x1b",
            Coding::Zstd => b"\x28\xb5\x2f\xfd",
            Coding::Gzip => b"\x1f\x8b\x08",
        };
        let mut decoder = Decoder::new(coding, 1 << 20);
        let given = decoder.write(&[start, &garbage].concat()).map_or(0, |out| out.len());
        prop_assert!(given <= 1 << 20);
        let _ = decoder.finish();
    }
}
