//! Fragments as our own writer makes them, cut at any place and damaged.

use super::*;
use crate::media::aac::{self, Layout};
use proptest::prelude::*;

fn stream() -> Vec<u8> {
    let frames = [&[1_u8; 9][..], &[2; 7], &[3; 5]];
    [aac::init(Layout::Stereo), aac::fragment(10, &frames), aac::fragment(13, &frames[..2])].concat()
}

fn cut(bytes: &[u8], at: usize) -> Result<Vec<Piece>, Wrong> {
    let mut splitter = Splitter::new(bytes.len());
    let mut pieces = Vec::new();
    for part in bytes.chunks(at) {
        pieces.extend(splitter.push(part)?);
    }
    splitter.finish().map(|()| pieces)
}

#[test]
fn a_stream_is_cut_the_same_wherever_its_reads_end() {
    let whole = cut(&stream(), usize::MAX).unwrap();
    assert!(matches!(&whole[..], [Piece::Init(_), Piece::Fragment(_), Piece::Fragment(_)]));
    for at in 1..60 {
        assert_eq!(cut(&stream(), at).unwrap(), whole);
    }
}

#[test]
fn what_is_no_whole_stream_is_refused() {
    let bytes = stream();
    assert_eq!(cut(&bytes[..bytes.len() - 1], 64), Err(Wrong::NotFragmented), "truncated");
    assert_eq!(cut(b"Hello, I am no film at all", 64), Err(Wrong::NotFragmented));
    assert_eq!(cut(b"", 64), Err(Wrong::NotFragmented));
    assert_eq!(Splitter::new(10).push(&bytes), Err(Wrong::TooLong));
}

#[test]
fn a_segment_is_where_its_frames_belong() {
    let Ok([_, Piece::Fragment(first), Piece::Fragment(second)]) = <[Piece; 3]>::try_from(cut(&stream(), 99).unwrap())
    else {
        panic!("an init and two fragments");
    };
    let mut check = Check::new(&(10..15), 1024);
    assert_eq!(check.fragment(&first), Ok(()));
    assert_eq!(check.finish(), Err(Wrong::FrameCount), "one fragment is missing");
    assert_eq!(check.fragment(&second), Ok(()));
    assert_eq!(check.finish(), Ok(()));
    assert_eq!(check.fragment(&second), Err(Wrong::OffGrid), "twice");
    assert_eq!(Check::new(&(11..16), 1024).fragment(&first), Err(Wrong::OffGrid));
    assert_eq!(Check::new(&(10..15), 1000).fragment(&first), Err(Wrong::OffGrid));
    assert_eq!(Check::new(&(10..12), 1024).fragment(&first), Err(Wrong::FrameCount));
}

#[test]
fn an_audio_init_says_nothing_of_video() {
    assert_eq!(coded(&aac::init(Layout::Stereo)), None);
}

/// A head with one sample entry, of which only that is there.
fn head(entry: &[u8; 4], kind: &[u8; 4], configuration: &[u8]) -> Vec<u8> {
    let entry = boxed(entry, &[&[0; 78], &boxed(kind, &[configuration])]);
    let mut inner = boxed(b"stsd", &[&[0; 8], &entry]);
    for kind in [b"stbl", b"minf", b"mdia", b"trak", b"moov"] {
        inner = boxed(kind, &[&inner]);
    }
    inner
}

#[test]
fn a_head_says_codec_profile_level_tier_and_depth() {
    // As libx264, libx265 and SVT-AV1 write them.
    let avc = [1, 100, 0, 31, 0xff];
    let hevc = [1, 0x01, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 90, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8];
    let av1 = [0x81, 0x04, 0x0d, 0];
    for (init, promised) in [
        (head(b"avc1", b"avcC", &avc), Coded::promised(Codec::H264, 31)),
        (head(b"hvc1", b"hvcC", &hevc), Coded::promised(Codec::Hevc, 30)),
        (head(b"av01", b"av1C", &av1), Coded::promised(Codec::Av1, 30)),
    ] {
        assert_eq!(coded(&init), Some(promised));
    }
    let ten_bits = Coded { depth: 10, high_tier: true, ..Coded::promised(Codec::Av1, 51) };
    assert_eq!(coded(&head(b"av01", b"av1C", &[0x81, 0x0d, 0xcd, 0])), Some(ten_bits));
    assert_eq!(coded(&head(b"hvc1", b"hvcC", &hevc[..12])), None, "cut off");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 1_usize..50) {
        let _ = (cut(&bytes, at), read(&bytes), coded(&bytes));
    }

    #[test]
    fn a_damaged_stream_is_read_without_panic(at in 0_usize..2000, byte in any::<u8>()) {
        let mut bytes = stream();
        let length = bytes.len();
        bytes[at % length] = byte;
        for piece in cut(&bytes, 100).unwrap_or_default() {
            match piece {
                Piece::Init(init) => { coded(&init); }
                Piece::Fragment(fragment) => { let _ = Check::new(&(10..15), 1024).fragment(&fragment); }
            }
        }
    }
}
