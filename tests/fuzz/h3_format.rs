//! Where the streams of HTTP/3 have their seams, and what to change there: frames, and the parts of field sections. Its integers are read
//! and written here anew, so that a mistake in the edge's own does not hide itself.

use super::mutate::Format;

/// The integer at the start, and its length (RFC 9000, section 16).
pub fn varint(input: &[u8]) -> Option<(u64, usize)> {
    let length = 1 << (input.first()? >> 6);
    let mut bytes = [0; 8];
    bytes[8 - length..].copy_from_slice(input.get(..length)?);
    bytes[8 - length] &= 0x3f;
    Some((u64::from_be_bytes(bytes), length))
}

/// In its shortest form; what is too large, without its highest bits.
pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    let value = value & ((1 << 62) - 1);
    let power = (0..3).find(|power| value < 1 << ((8 << power) - 2)).unwrap_or(3);
    let coded = value | (power << 62) >> (64 - (8 << power));
    out.extend(&coded.to_be_bytes()[8 - (1 << power)..]);
}

pub const HTTP3: Format = Format {
    seams: frame_seams,
    pieces: &[
        // Empty DATA, DATA, empty HEADERS, reserved types, SETTINGS, PUSH_PROMISE, frames of HTTP/2.
        &[0x00, 0x00],
        &[0x00, 0x03, 0x61, 0x62, 0x63],
        &[0x01, 0x02, 0x00, 0x00],
        &[0x21, 0x00],
        &[0x40, 0x5f, 0x01, 0x00],
        &[0x04, 0x00],
        &[0x04, 0x04, 0x06, 0x44, 0x00, 0x33],
        &[0x05, 0x01, 0x00],
        &[0x06, 0x08, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x07, 0x01, 0x04],
        &[0x0d, 0x01, 0x08],
        &[0x80, 0x0f, 0x07, 0x00, 0x04, 0x00, 0x75, 0x3d, 0x31],
        // Lengths: a HEADERS frame of 2^62 - 1, a DATA frame of 2^30, in more bytes than needed.
        &[0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x00, 0x80, 0x00, 0x00, 0x00],
        &[0xc0, 0, 0, 0, 0, 0, 0, 0x01, 0x40, 0x02],
        // Parts of sections: indexed fields, literals with and without a name of the table, coded strings, integers without an end.
        &[0xc1],
        &[0xd1],
        &[0xd7],
        &[0x50, 0x01, 0x61],
        &[0x54, 0x01, 0x35],
        &[0x54, 0x81, 0x1f],
        &[0x23, b't', b'e', b'-', 0x00],
        &[0x22, b't', b'e', 0x08, b't', b'r', b'a', b'i', b'l', b'e', b'r', b's'],
        &[0x27, 0x03, b'c', b'o', b'n', b'n', b'e', b'c', b't', b'i', b'o', b'n', 0x00],
        &[0x24, b'h', b'o', b's', b't', 0x09, b'l', b'o', b'c', b'a', b'l', b'h', b'o', b's', b't'],
        &[0x21, b'a', 0x04, b'\r', b'\n', b'b', b':'],
        &[0x29, 0x1f],
        &[0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x10],
        &[0x80],
    ],
    change,
};

/// Frames that are whole: where each begins, where its length does, its content, its end.
fn frames(input: &[u8]) -> Vec<[usize; 4]> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some((_, kind)) = varint(&input[at..])
        && let Some((length, bytes)) = varint(&input[at + kind..])
        && let Some(end) = usize::try_from(length).ok().and_then(|length| length.checked_add(at + kind + bytes))
        && end <= input.len()
    {
        frames.push([at, at + kind, at + kind + bytes, end]);
        at = end;
    }
    frames
}

fn frame_seams(input: &[u8]) -> Vec<usize> {
    let frames = frames(input);
    frames.iter().flat_map(|frame| frame[..3].to_vec()).chain([frames.last().map_or(0, |frame| frame[3])]).collect()
}

fn change(random: &mut fastrand::Rng, input: &mut Vec<u8>) {
    if random.bool() { change_a_content(random, input) } else { change_an_integer(random, input) }
}

/// Fields of a frame are left out, doubled or put in, and its length is right again.
fn change_a_content(random: &mut fastrand::Rng, input: &mut Vec<u8>) {
    let frames = frames(input);
    let Some([_, length, content, end]) = frames.get(random.usize(..frames.len().max(1))).copied() else { return };
    let mut changed = input[content..end].to_vec();
    let (one, other) = (random.usize(..=changed.len()), random.usize(..=changed.len()));
    let part = one.min(other)..one.max(other);
    let new = match random.u8(..3) {
        0 => Vec::new(),
        1 => changed[part.clone()].repeat(random.usize(2..40)),
        _ => [&changed[part.clone()], HTTP3.pieces[random.usize(..HTTP3.pieces.len())]].concat(),
    };
    drop(changed.splice(part, new));
    let mut put = Vec::new();
    put_varint(&mut put, changed.len() as u64);
    put.extend(changed);
    drop(input.splice(length..end, put));
}

/// A frame's type or length becomes another, or is written in more bytes.
fn change_an_integer(random: &mut fastrand::Rng, input: &mut Vec<u8>) {
    let seams = frame_seams(input);
    let at = seams[random.usize(..seams.len())];
    let Some((value, length)) = varint(&input[at..]) else { return };
    let mut put = Vec::new();
    match random.u8(..6) {
        0 => put_varint(&mut put, value + 1),
        1 => put_varint(&mut put, value.saturating_sub(1)),
        2 => put_varint(&mut put, random.u64(..1 << 62)),
        3 => put_varint(&mut put, (input.len() - at - length) as u64),
        4 => put.extend((0xc000_0000_0000_0000 | value).to_be_bytes()),
        _ => put_varint(&mut put, random.u64(..16)),
    }
    drop(input.splice(at..at + length, put));
}
