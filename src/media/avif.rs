//! A picture that an AV1 encoder wrote as fragmented MP4, put into the container browsers read (AVIF: AV1 Image File Format 1.1, which
//! is HEIF, ISO/IEC 23008-12, with AV1). ffmpeg's own writer wants an output it can seek in; ours is a pipe.
//!
//! Invariants: no panic on any bytes; nothing of the encoder's output gets in but the coded picture and what decoders are told of it.

use super::fragment::{Piece, Splitter, boxed, child, number, read};

/// Matrix BT.601, as of JPEG; primaries BT.709, transfer sRGB; full range (ISO/IEC 23091-2).
const COLOURS: [u8; 7] = [0, 1, 0, 13, 0, 6, 0x80];
/// 8 bits in each of three channels.
const BITS: [u8; 4] = [3, 8, 8, 8];

/// The file. None: there is no picture in it, or more than one.
pub fn wrap(mp4: &[u8]) -> Option<Vec<u8>> {
    let mut splitter = Splitter::new(mp4.len());
    let mut pieces = splitter.push(mp4).ok()?.into_iter();
    splitter.finish().ok()?;
    let (Some(Piece::Init(init)), Some(Piece::Fragment(fragment)), None) =
        (pieces.next(), pieces.next(), pieces.next())
    else {
        return None;
    };
    let run = read(&fragment)?;
    let [sample] = run.samples.as_slice() else { return None };
    let data = run.data.get(..usize::try_from(sample.bytes).ok()?).filter(|data| !data.is_empty())?;
    let (width, height, written) = described(&init)?;
    // libaom does not tell ffmpeg of a picture what it tells of a film.
    let read = if written.is_empty() { configuration(data)?.to_vec() } else { written.to_vec() };
    Some(file(width, height, &read, data))
}

/// `av1C` of a picture whose sequence header is the reduced one of stills (AV1 §5.5.1), as libaom writes it: 8 bits, 4:2:0.
fn configuration(data: &[u8]) -> Option<[u8; 4]> {
    // OBU 1, the sequence header, with a size of one byte; then profile (3 bits), still, reduced, level (5 bits).
    let [0x0a, 1..=0x7f, first, second, ..] = *data else { return None };
    let (profile, is_reduced, level) = (first >> 5, first & 0x18 == 0x18, (first & 7) << 2 | second >> 6);
    (profile == 0 && is_reduced).then_some([0x81, level, 0x0c, 0])
}

/// Width, height and `av1C` of the track (AV1 Codec ISO Media File Format Binding §2.2, §2.3).
fn described(init: &[u8]) -> Option<(u16, u16, &[u8])> {
    let mut inner = child(init, b"moov")?;
    for kind in [b"trak", b"mdia", b"minf", b"stbl", b"stsd"] {
        inner = child(inner, kind)?;
    }
    let entry = child(inner.get(8..)?, b"av01")?;
    let side = |at| u16::try_from(number(entry, at, 2)?).ok();
    Some((side(24)?, side(26)?, child(entry.get(78..)?, b"av1C")?))
}

fn file(width: u16, height: u16, configuration: &[u8], data: &[u8]) -> Vec<u8> {
    let size = [u32::from(width).to_be_bytes(), u32::from(height).to_be_bytes()].concat();
    let properties = [
        boxed(b"ispe", &[&[0; 4], &size]),
        boxed(b"pixi", &[&[0; 4], &BITS]),
        boxed(b"av1C", &[configuration]),
        boxed(b"colr", &[b"nclx", &COLOURS]),
    ];
    // Item 1 has all four; who does not know `av1C` must not show it.
    let associations = boxed(b"ipma", &[&[0; 4], &1_u32.to_be_bytes(), &[0, 1, 4, 1, 2, 0x83, 4]]);
    let properties = boxed(b"iprp", &[&boxed(b"ipco", &[&properties.concat()]), &associations]);
    let information = boxed(b"infe", &[&[2, 0, 0, 0], &[0, 1, 0, 0], b"av01", &[0]]);
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes();
    let head = |offset: u32| {
        // Offsets and lengths of four bytes; one item, of one piece.
        let place = [&[0, 0, 0, 0, 0x44, 0, 0, 1, 0, 1, 0, 0, 0, 1], &offset.to_be_bytes()[..], &length].concat();
        let meta = boxed(
            b"meta",
            &[
                &[0; 4],
                &boxed(b"hdlr", &[&[0; 8], b"pict", &[0; 13]]),
                &boxed(b"pitm", &[&[0; 4], &[0, 1]]),
                &boxed(b"iloc", &[&place]),
                &boxed(b"iinf", &[&[0; 4], &[0, 1], &information]),
                &properties,
            ],
        );
        [boxed(b"ftyp", &[b"avif", &[0; 4], b"avifmif1miaf"]), meta].concat()
    };
    let mdat = boxed(b"mdat", &[data]);
    let offset = head(0).len() + mdat.len() - data.len();
    [head(u32::try_from(offset).unwrap_or(0)), mdat].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As an encoder writes it: one sample of five bytes, 64 × 36.
    fn encoded() -> Vec<u8> {
        with(&[0x81, 0, 0x0c, 0], b"coded")
    }

    fn with(configuration: &[u8], data: &[u8; 5]) -> Vec<u8> {
        let mut entry = vec![0; 78];
        entry[24..28].copy_from_slice(&[0, 64, 0, 36]);
        let entry = boxed(b"av01", &[&entry, &boxed(b"av1C", &[configuration])]);
        let mut inner = boxed(b"stsd", &[&[0; 8], &entry]);
        for kind in [b"stbl", b"minf", b"mdia", b"trak", b"moov"] {
            inner = boxed(kind, &[&inner]);
        }
        let run = |offset: u8| {
            let track = [
                boxed(b"tfhd", &[&[0, 2, 0, 0x38], &[0, 0, 0, 1], &[0, 0, 2, 0], &[0, 0, 0, 5], &[2, 0, 0, 0]]),
                boxed(b"tfdt", &[&[0; 8]]),
                boxed(b"trun", &[&[0, 0, 0, 1], &[0, 0, 0, 1], &[0, 0, 0, offset]]),
            ];
            boxed(b"moof", &[&boxed(b"traf", &[&track.concat()])])
        };
        let offset = u8::try_from(run(0).len() + 8).unwrap();
        [boxed(b"ftyp", &[b"iso5"]), inner, run(offset), boxed(b"mdat", &[data])].concat()
    }

    #[test]
    fn a_picture_is_where_its_file_says() {
        let file = wrap(&encoded()).unwrap();
        assert_eq!(&file[..16], b"\0\0\0\x1cftypavif\0\0\0\0");
        let meta = &child(&file, b"meta").unwrap()[4..];
        let place = child(meta, b"iloc").unwrap();
        let (offset, length) = (number(place, 14, 4).unwrap() as usize, number(place, 18, 4).unwrap() as usize);
        assert_eq!(&file[offset..offset + length], b"coded");
        let properties = child(child(meta, b"iprp").unwrap(), b"ipco").unwrap();
        assert_eq!(child(properties, b"av1C").unwrap(), [0x81, 0, 0x0c, 0]);
        assert_eq!(child(properties, b"ispe").unwrap()[4..], [0, 0, 0, 64, 0, 0, 0, 36]);
    }

    #[test]
    fn what_libaom_leaves_out_is_read_from_the_picture() {
        let level_5 = [0x0a, 0x0a, 0x19, 0x40, 0];
        let file = wrap(&with(&[], &level_5)).unwrap();
        assert!(file.windows(12).any(|bytes| bytes == b"\0\0\0\x0cav1C\x81\x05\x0c\0"), "{file:x?}");
        for other in [*b"coded", [0x0a, 0x0a, 0x09, 0, 0], [0x0a, 0x0a, 0x38, 0, 0], [0x12, 0, 0x0a, 0x0a, 0x18]] {
            assert_eq!(wrap(&with(&[], &other)), None, "{other:x?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(at in 0_usize..500, value: u8, cut in 0_usize..500, noise in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = encoded();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = wrap(&bytes);
            bytes.truncate(cut);
            let _ = wrap(&bytes);
            prop_assert_eq!(wrap(&noise), None);
        }
    }
}
