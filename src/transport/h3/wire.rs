//! Integers and frames of HTTP/3 (RFC 9000, section 16; RFC 9114, section 7): bytes in, frames out. No IO, no clock; memory is
//! bounded by the longest frame that is kept whole, and frames nobody knows are skipped without being kept.

use super::code::Code;
use bytes::{Buf, BufMut, Bytes, BytesMut};

pub const DATA: u64 = 0x0;
pub const HEADERS: u64 = 0x1;
pub const CANCEL_PUSH: u64 = 0x3;
pub const SETTINGS: u64 = 0x4;
pub const PUSH_PROMISE: u64 = 0x5;
pub const GOAWAY: u64 = 0x7;
pub const MAX_PUSH_ID: u64 = 0xd;
/// RFC 9218, section 7.2: of a request, of a push.
pub const PRIORITY_UPDATE: u64 = 0xf_0700;
pub const PRIORITY_UPDATE_PUSH: u64 = 0xf_0701;
/// HTTP/2's frames that HTTP/3 has none for (RFC 9114, section 7.2.8).
const RESERVED: [u64; 4] = [0x2, 0x6, 0x8, 0x9];

/// Frames of one stream that say nothing (empty DATA, types nobody knows); more are a way to burn our time.
const IDLE_FRAMES_MAX: u32 = 10_000;
/// A frame of the control stream that is longer is no honest one.
const CONTROL_FRAME_BYTES_MAX: u64 = 4096;

/// The integer at the start of `bytes`, and its length; None: it is not whole.
pub fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let length = 1 << (bytes.first()? >> 6);
    let all = bytes.get(..length)?;
    let value = all[1..].iter().fold(u64::from(all[0] & 0x3f), |value, byte| (value << 8) | u64::from(*byte));
    Some((value, length))
}

/// Appends `value`, below 2^62, in its shortest form.
pub fn put_varint(out: &mut impl BufMut, value: u64) {
    match value {
        0..0x40 => out.put_u8(value as u8),
        0x40..0x4000 => out.put_u16(0x4000 | value as u16),
        0x4000..0x4000_0000 => out.put_u32(0x8000_0000 | value as u32),
        _ => out.put_u64(0xc000_0000_0000_0000 | value),
    }
}

/// What is read: a frame's whole content, or a part of a DATA frame's (nothing: of an empty one).
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    Frame(u64, Bytes),
    Data(Bytes),
}

/// The stream frames are read from: each has frames it must not carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// HEADERS frames up to so many bytes.
    Request(u64),
    Control,
}

/// See the module. One per stream.
#[derive(Debug)]
pub struct Frames {
    place: Place,
    input: Bytes,
    /// Type and length, as far as they have come.
    head: BytesMut,
    state: State,
    idle_frames: u32,
}

#[derive(Debug)]
enum State {
    Head,
    Whole { kind: u64, left: usize, content: BytesMut },
    Data { left: u64 },
    Skip { left: u64 },
}

impl Frames {
    pub fn new(place: Place) -> Self {
        Self { place, input: Bytes::new(), head: BytesMut::new(), state: State::Head, idle_frames: 0 }
    }

    /// To be called when [`Self::next`] has no more.
    pub fn push(&mut self, input: Bytes) {
        debug_assert!(self.input.is_empty());
        self.input = input;
    }

    /// Whether the stream may end here (RFC 9114, section 7.1).
    pub fn is_at_boundary(&self) -> bool {
        self.input.is_empty() && self.head.is_empty() && matches!(self.state, State::Head)
    }

    /// Bytes kept, of a frame that is not whole, and not read yet.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        let content = match &self.state {
            State::Whole { content, .. } => content.capacity(),
            _ => 0,
        };
        self.head.len() + self.input.len() + content
    }

    /// The next part; None: more input is needed. An error ends the connection.
    pub fn next(&mut self) -> Result<Option<Part>, Code> {
        loop {
            match &mut self.state {
                State::Head => {
                    let Some((kind, length)) = self.read_head() else { return Ok(None) };
                    self.state = self.begin(kind, length)?;
                    if matches!(self.state, State::Data { left: 0 }) {
                        self.state = State::Head;
                        return Ok(Some(Part::Data(Bytes::new())));
                    }
                }
                State::Whole { kind, left, content } => {
                    let take = (*left).min(self.input.len());
                    *left -= take;
                    // As it lies in the packet, where that has all of it.
                    if *left == 0 && content.is_empty() {
                        let part = Part::Frame(*kind, self.input.split_to(take));
                        self.state = State::Head;
                        return Ok(Some(part));
                    }
                    content.extend_from_slice(&self.input.split_to(take));
                    if *left > 0 {
                        return Ok(None);
                    }
                    let part = Part::Frame(*kind, content.split().freeze());
                    self.state = State::Head;
                    return Ok(Some(part));
                }
                State::Data { left: 0 } | State::Skip { left: 0 } => self.state = State::Head,
                State::Data { left } => {
                    if self.input.is_empty() {
                        return Ok(None);
                    }
                    let take = self.input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= take as u64;
                    return Ok(Some(Part::Data(self.input.split_to(take))));
                }
                State::Skip { left } => {
                    if self.input.is_empty() {
                        return Ok(None);
                    }
                    let take = self.input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= take as u64;
                    self.input.advance(take);
                }
            }
        }
    }

    /// Type and length of the next frame, once they are whole.
    fn read_head(&mut self) -> Option<(u64, u64)> {
        let both = |bytes: &[u8]| {
            let (kind, first) = varint(bytes)?;
            let (length, second) = varint(&bytes[first..])?;
            Some((kind, length, first + second))
        };
        if self.head.is_empty() {
            if let Some((kind, length, used)) = both(&self.input) {
                self.input.advance(used);
                return Some((kind, length));
            }
            // Less than two integers: at most 15 bytes.
            self.head.extend_from_slice(&std::mem::take(&mut self.input));
            return None;
        }
        while self.input.has_remaining() {
            self.head.put_u8(self.input.get_u8());
            if let Some((kind, length, _)) = both(&self.head) {
                self.head.clear();
                return Some((kind, length));
            }
        }
        None
    }

    fn begin(&mut self, kind: u64, length: u64) -> Result<State, Code> {
        let state = self.state_of(kind, length)?;
        if matches!(state, State::Skip { .. } | State::Data { left: 0 }) {
            self.idle_frames += 1;
            if self.idle_frames > IDLE_FRAMES_MAX {
                return Err(Code::EXCESSIVE_LOAD);
            }
        }
        Ok(state)
    }

    fn state_of(&self, kind: u64, length: u64) -> Result<State, Code> {
        let whole = |max: u64| {
            let left = usize::try_from(length).ok().filter(|_| length <= max).ok_or(Code::EXCESSIVE_LOAD)?;
            Ok(State::Whole { kind, left, content: BytesMut::new() })
        };
        match (self.place, kind) {
            (_, kind) if RESERVED.contains(&kind) => Err(Code::FRAME_UNEXPECTED),
            (_, PUSH_PROMISE) => Err(Code::FRAME_UNEXPECTED),
            (Place::Request(_), DATA) => Ok(State::Data { left: length }),
            (Place::Request(max), HEADERS) => whole(max),
            (Place::Control, DATA | HEADERS) => Err(Code::FRAME_UNEXPECTED),
            (place, CANCEL_PUSH | SETTINGS | GOAWAY | MAX_PUSH_ID | PRIORITY_UPDATE | PRIORITY_UPDATE_PUSH) => {
                if place == Place::Control { whole(CONTROL_FRAME_BYTES_MAX) } else { Err(Code::FRAME_UNEXPECTED) }
            }
            _ => Ok(State::Skip { left: length }),
        }
    }
}

/// A whole frame.
pub fn frame(kind: u64, content: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(content.len() + 16);
    put_varint(&mut out, kind);
    put_varint(&mut out, content.len() as u64);
    out.extend_from_slice(content);
    out.freeze()
}

/// What goes before `length` bytes of a body.
pub fn data_head(length: usize) -> Bytes {
    let mut out = BytesMut::with_capacity(9);
    put_varint(&mut out, DATA);
    put_varint(&mut out, length as u64);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Frames by type and content, and whether the stream may end after them.
    type Read = (Vec<(u64, Vec<u8>)>, bool);

    fn all(place: Place, pieces: &[&[u8]]) -> Result<Read, Code> {
        let mut frames = Frames::new(place);
        let mut out: Vec<(u64, Vec<u8>)> = Vec::new();
        for piece in pieces {
            frames.push(Bytes::copy_from_slice(piece));
            while let Some(part) = frames.next()? {
                match part {
                    Part::Frame(kind, content) => out.push((kind, content.to_vec())),
                    Part::Data(data) => match out.last_mut() {
                        Some((DATA, before)) => before.extend_from_slice(&data),
                        _ => out.push((DATA, data.to_vec())),
                    },
                }
            }
        }
        Ok((out, frames.is_at_boundary()))
    }

    #[test]
    fn integers_are_those_of_rfc_9000() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ] {
            assert_eq!(varint(bytes), Some((value, bytes.len())));
            assert_eq!(varint(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn frames_of_other_streams_end_the_connection() {
        for kind in [0x2, 0x6, 0x8, 0x9, PUSH_PROMISE] {
            assert_eq!(all(Place::Request(9), &[&frame(kind, b"")]), Err(Code::FRAME_UNEXPECTED), "{kind}");
            assert_eq!(all(Place::Control, &[&frame(kind, b"")]), Err(Code::FRAME_UNEXPECTED), "{kind}");
        }
        for kind in [SETTINGS, GOAWAY, CANCEL_PUSH, MAX_PUSH_ID, PRIORITY_UPDATE] {
            assert_eq!(all(Place::Request(9), &[&frame(kind, b"")]), Err(Code::FRAME_UNEXPECTED), "{kind}");
        }
        assert_eq!(all(Place::Control, &[&frame(HEADERS, b"")]), Err(Code::FRAME_UNEXPECTED));
    }

    #[test]
    fn a_head_that_is_too_long_is_refused_before_it_comes() {
        let mut bytes = BytesMut::new();
        put_varint(&mut bytes, HEADERS);
        put_varint(&mut bytes, 1 << 40);
        assert_eq!(all(Place::Request(1 << 16), &[&bytes]), Err(Code::EXCESSIVE_LOAD));
    }

    #[test]
    fn what_nobody_knows_is_skipped() {
        let bytes = [frame(0x21, &[7; 100]), frame(HEADERS, b"h"), frame(0x1f * 9 + 0x21, b"")].concat();
        assert_eq!(all(Place::Request(9), &[&bytes]), Ok((vec![(HEADERS, b"h".to_vec())], true)));
    }

    proptest! {
        #[test]
        fn integers_come_back(value in 0_u64..1 << 62) {
            let mut bytes = BytesMut::new();
            put_varint(&mut bytes, value);
            prop_assert_eq!(varint(&bytes), Some((value, bytes.len())));
        }

        #[test]
        fn where_the_input_is_cut_changes_nothing(
            frames in prop::collection::vec((prop::sample::select(vec![DATA, HEADERS, 0x21, 0x7_4021]), prop::collection::vec(any::<u8>(), 0..40)), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, content)| frame(*kind, content).to_vec()).collect();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let place = Place::Request(64);
            prop_assert_eq!(all(place, &pieces), all(place, &[&bytes]));
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for place in [Place::Request(64), Place::Control] {
                let _ = all(place, &[&bytes]);
            }
        }
    }
}
