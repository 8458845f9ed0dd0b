//! What lies in a segment file: pure encoding and decoding, no IO.
//!
//! ```text
//! block 0                segment header: magic, format, sequence, file size, epoch, checksum
//! block 1 …              records, each from a block's start:
//!                          header (96 bytes) · head · body frames · zeros to the block's end
//! after the last record  end record: the segment was sealed here
//! before the last block  trailer entries, one for each record and each removal
//! last block             footer: magic, sequence, number of entries, their checksum, its own
//! ```
//! All numbers are little-endian, all checksums CRC-32 (IEEE). A body lies in frames of up to 256 KiB, each with its key, its
//! version, its place in the body and a checksum over these and the bytes: any range is verified without the rest, and
//! says by itself whose it is. A record's header names the checksum of the header before it (`chain`), so what is
//! left of an earlier, torn write is never taken for what follows a newer one.
//!
//! Invariant: decoding trusts no byte: a length is bounded before it is used, a checksum compared before a field is believed.

use super::{BODY_CHUNK_BYTES, HEAD_BYTES_MAX};

pub(super) const BLOCK_BYTES: u64 = 4096;
pub(super) const RECORD_HEADER_BYTES: usize = 96;
pub(super) const FRAME_HEADER_BYTES: usize = 48;
pub(super) const ENTRY_BYTES: usize = 52;
pub(super) const REMOVAL_BYTES: usize = 24;
/// Removals written as one record: it fills one block.
pub(super) const REMOVALS_PER_RECORD_MAX: usize = (BLOCK_BYTES as usize - RECORD_HEADER_BYTES) / REMOVAL_BYTES;

const FORMAT: u32 = 1;
const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"rgsegmnt");
const FOOTER_MAGIC: u64 = u64::from_le_bytes(*b"rgfooter");
const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"rgrc");
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"rgfr");
const SEGMENT_HEADER_BYTES: usize = 36;
const FOOTER_BYTES: usize = 24;

pub(super) fn to_blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

/// How many bytes a record takes, from block to block.
pub(super) fn record_bytes(head_bytes: u64, body_bytes: u64) -> u64 {
    let frames = body_bytes.div_ceil(BODY_CHUNK_BYTES);
    to_blocks(RECORD_HEADER_BYTES as u64 + head_bytes + body_bytes + frames * FRAME_HEADER_BYTES as u64)
}

/// Where a frame begins in its record, and how many bytes of the body it holds.
pub(super) fn frame_place(head_bytes: u32, body_bytes: u64, index: u64) -> (u64, usize) {
    let frames_before = index * (BODY_CHUNK_BYTES + FRAME_HEADER_BYTES as u64);
    let data_bytes = (body_bytes - index * BODY_CHUNK_BYTES).min(BODY_CHUNK_BYTES);
    (RECORD_HEADER_BYTES as u64 + u64::from(head_bytes) + frames_before, data_bytes as usize)
}

/// Takes fields one after the other; past the end there are zeros, which no checksum fits.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *field
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn u128(&mut self) -> u128 {
        u128::from_le_bytes(self.take())
    }
}

/// `fields` with their checksum behind them.
fn with_checksum(mut fields: Vec<u8>) -> Vec<u8> {
    fields.extend(crc32fast::hash(&fields).to_le_bytes());
    fields
}

/// The first `bytes` bytes without their checksum, if it fits.
fn checked(from: &[u8], bytes: usize) -> Option<Fields<'_>> {
    let (fields, checksum) = from.get(..bytes)?.split_last_chunk::<4>()?;
    (crc32fast::hash(fields) == u32::from_le_bytes(*checksum)).then_some(Fields(fields))
}

/// The first block of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) sequence: u32,
    /// Of the whole file.
    pub(super) bytes: u64,
    pub(super) epoch: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::with_capacity(BLOCK_BYTES as usize);
        fields.extend(SEGMENT_MAGIC.to_le_bytes());
        fields.extend(FORMAT.to_le_bytes());
        fields.extend(self.sequence.to_le_bytes());
        fields.extend(self.bytes.to_le_bytes());
        fields.extend(self.epoch.to_le_bytes());
        let mut block = with_checksum(fields);
        block.resize(BLOCK_BYTES as usize, 0);
        block
    }

    pub(super) fn decode(block: &[u8]) -> Option<Self> {
        let mut fields = checked(block, SEGMENT_HEADER_BYTES)?;
        let ours = fields.u64() == SEGMENT_MAGIC && fields.u32() == FORMAT;
        let header = Self { sequence: fields.u32(), bytes: fields.u64(), epoch: fields.u64() };
        ours.then_some(header)
    }

    /// What the first record names as the header before it.
    pub(super) fn chain(&self) -> u32 {
        crc32fast::hash(&self.encode())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A head and a body.
    Object,
    /// Another head for an object of the same version.
    Head,
    /// Its head is a list of removals.
    Removals,
    /// Nothing comes after it.
    End,
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Self::Object => 1,
            Self::Head => 2,
            Self::Removals => 3,
            Self::End => 4,
        }
    }

    fn of(number: u32) -> Option<Self> {
        [Self::Object, Self::Head, Self::Removals, Self::End].into_iter().find(|kind| kind.number() == number)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) kind: Kind,
    pub(super) sequence: u32,
    /// Checksum of the header before it in the segment.
    pub(super) chain: u32,
    /// Where the record begins in its file.
    pub(super) offset: u64,
    pub(super) epoch: u64,
    pub(super) key: u128,
    pub(super) version: u64,
    pub(super) ban_number: u64,
    pub(super) head_bytes: u32,
    pub(super) head_checksum: u32,
    pub(super) body_bytes: u64,
}

impl RecordHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::with_capacity(RECORD_HEADER_BYTES);
        fields.extend(RECORD_MAGIC.to_le_bytes());
        fields.extend(self.kind.number().to_le_bytes());
        fields.extend(self.sequence.to_le_bytes());
        fields.extend(self.chain.to_le_bytes());
        fields.extend(self.offset.to_le_bytes());
        fields.extend(self.epoch.to_le_bytes());
        fields.extend(self.key.to_le_bytes());
        fields.extend(self.version.to_le_bytes());
        fields.extend(self.ban_number.to_le_bytes());
        fields.extend(self.head_bytes.to_le_bytes());
        fields.extend(self.head_checksum.to_le_bytes());
        fields.extend(self.body_bytes.to_le_bytes());
        fields.resize(RECORD_HEADER_BYTES - 4, 0);
        with_checksum(fields)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = checked(bytes, RECORD_HEADER_BYTES)?;
        let ours = fields.u32() == RECORD_MAGIC;
        let header = Self {
            kind: Kind::of(fields.u32())?,
            sequence: fields.u32(),
            chain: fields.u32(),
            offset: fields.u64(),
            epoch: fields.u64(),
            key: fields.u128(),
            version: fields.u64(),
            ban_number: fields.u64(),
            head_bytes: fields.u32(),
            head_checksum: fields.u32(),
            body_bytes: fields.u64(),
        };
        (ours && header.head_bytes <= HEAD_BYTES_MAX && header.body_bytes < 1 << 48).then_some(header)
    }

    /// What the next header names.
    pub(super) fn chain_of(encoded: &[u8]) -> u32 {
        crc32fast::hash(encoded)
    }
}

/// Appends a frame with `data` in several pieces.
pub(super) fn push_frame(out: &mut Vec<u8>, key: u128, version: u64, index: u32, pieces: &[&[u8]]) {
    let data_bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
    let start = out.len();
    out.extend(FRAME_MAGIC.to_le_bytes());
    out.extend(index.to_le_bytes());
    out.extend(key.to_le_bytes());
    out.extend(version.to_le_bytes());
    out.extend((data_bytes as u32).to_le_bytes());
    out.extend([0; 8]);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&out[start..]);
    pieces.iter().for_each(|piece| hasher.update(piece));
    out.extend(hasher.finalize().to_le_bytes());
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
}

/// Whether `frame` is this frame, whole and unharmed.
pub(super) fn is_frame(frame: &[u8], key: u128, version: u64, index: u32) -> bool {
    let Some((header, data)) = frame.split_at_checked(FRAME_HEADER_BYTES) else { return false };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..FRAME_HEADER_BYTES - 4]);
    hasher.update(data);
    let mut fields = Fields(header);
    let named = fields.u32() == FRAME_MAGIC && fields.u32() == index && fields.u128() == key && fields.u64() == version;
    let same_length = fields.u32() as usize == data.len();
    let _reserved: [u8; 8] = fields.take();
    named && same_length && fields.u32() == hasher.finalize()
}

/// `(key, version)`: everything of the key up to this version is gone.
pub(super) fn encode_removals(removals: &[(u128, u64)]) -> Vec<u8> {
    let mut head = Vec::with_capacity(removals.len() * REMOVAL_BYTES);
    for (key, version) in removals {
        head.extend(key.to_le_bytes());
        head.extend(version.to_le_bytes());
    }
    head
}

pub(super) fn decode_removals(head: &[u8]) -> Vec<(u128, u64)> {
    let read = |removal: &[u8]| {
        let mut fields = Fields(removal);
        (fields.u128(), fields.u64())
    };
    head.chunks_exact(REMOVAL_BYTES).map(read).collect()
}

/// One line of a segment's trailer. A record of removals has one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) block: u32,
    pub(super) key: u128,
    pub(super) version: u64,
    pub(super) ban_number: u64,
    pub(super) head_bytes: u32,
    pub(super) body_bytes: u64,
}

pub(super) fn encode_entries(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        out.extend(entry.kind.number().to_le_bytes());
        out.extend(entry.block.to_le_bytes());
        out.extend(entry.key.to_le_bytes());
        out.extend(entry.version.to_le_bytes());
        out.extend(entry.ban_number.to_le_bytes());
        out.extend(entry.head_bytes.to_le_bytes());
        out.extend(entry.body_bytes.to_le_bytes());
    }
    out
}

/// The entries, if each of them lies within a file of `file_bytes`.
pub(super) fn decode_entries(bytes: &[u8], file_bytes: u64) -> Option<Vec<Entry>> {
    let read = |entry: &[u8]| {
        let mut fields = Fields(entry);
        let entry = Entry {
            kind: Kind::of(fields.u32())?,
            block: fields.u32(),
            key: fields.u128(),
            version: fields.u64(),
            ban_number: fields.u64(),
            head_bytes: fields.u32(),
            body_bytes: fields.u64(),
        };
        let bounded = entry.head_bytes <= HEAD_BYTES_MAX && entry.body_bytes <= file_bytes;
        let end = u64::from(entry.block) * BLOCK_BYTES;
        (bounded && end + record_bytes(u64::from(entry.head_bytes), entry.body_bytes) <= file_bytes).then_some(entry)
    };
    bytes.chunks_exact(ENTRY_BYTES).map(read).collect()
}

/// The last block of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) sequence: u32,
    pub(super) entries: u32,
    pub(super) entries_checksum: u32,
}

impl Footer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::with_capacity(BLOCK_BYTES as usize);
        fields.extend(FOOTER_MAGIC.to_le_bytes());
        fields.extend(self.sequence.to_le_bytes());
        fields.extend(self.entries.to_le_bytes());
        fields.extend(self.entries_checksum.to_le_bytes());
        let mut block = with_checksum(fields);
        block.resize(BLOCK_BYTES as usize, 0);
        block
    }

    pub(super) fn decode(block: &[u8]) -> Option<Self> {
        let mut fields = checked(block, FOOTER_BYTES)?;
        let ours = fields.u64() == FOOTER_MAGIC;
        let footer = Self { sequence: fields.u32(), entries: fields.u32(), entries_checksum: fields.u32() };
        ours.then_some(footer)
    }

    /// Where the entries begin in a file of `file_bytes`.
    pub(super) fn entries_offset(entries: usize, file_bytes: u64) -> Option<u64> {
        file_bytes.checked_sub(BLOCK_BYTES + to_blocks((entries * ENTRY_BYTES) as u64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> RecordHeader {
        RecordHeader {
            kind: Kind::Object,
            sequence: 7,
            chain: 3,
            offset: 8192,
            epoch: 2,
            key: u128::MAX - 5,
            version: 11,
            ban_number: 4,
            head_bytes: 100,
            head_checksum: 9,
            body_bytes: 1 << 20,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(RecordHeader::decode(&header().encode()), Some(header()));
        let segment = SegmentHeader { sequence: 5, bytes: 1 << 20, epoch: 3 };
        assert_eq!(SegmentHeader::decode(&segment.encode()), Some(segment));
        let footer = Footer { sequence: 5, entries: 9, entries_checksum: 8 };
        assert_eq!(Footer::decode(&footer.encode()), Some(footer));
        let removals = vec![(1, 2), (u128::MAX, u64::MAX)];
        assert_eq!(decode_removals(&encode_removals(&removals)), removals);
        let entry =
            Entry { kind: Kind::Head, block: 3, key: 4, version: 5, ban_number: 6, head_bytes: 7, body_bytes: 0 };
        assert_eq!(decode_entries(&encode_entries(&[entry, entry]), 1 << 20), Some(vec![entry, entry]));
        assert_eq!(decode_entries(&encode_entries(&[entry]), 2 * BLOCK_BYTES), None, "it would end behind the file");
    }

    #[test]
    fn a_frame_says_whose_it_is() {
        let mut frame = Vec::new();
        push_frame(&mut frame, 1, 2, 3, &[b"by", b"tes"]);
        assert!(is_frame(&frame, 1, 2, 3));
        assert!(!is_frame(&frame, 9, 2, 3) && !is_frame(&frame, 1, 9, 3) && !is_frame(&frame, 1, 2, 9));
        assert!(!is_frame(&frame[..frame.len() - 1], 1, 2, 3));
        assert_eq!(&frame[FRAME_HEADER_BYTES..], b"bytes");
    }

    #[test]
    fn a_record_has_room_for_all_its_frames() {
        for body_bytes in [0, 1, BODY_CHUNK_BYTES - 1, BODY_CHUNK_BYTES, BODY_CHUNK_BYTES + 1, 10 * BODY_CHUNK_BYTES] {
            let frames = body_bytes.div_ceil(BODY_CHUNK_BYTES);
            if let Some(last) = frames.checked_sub(1) {
                let (offset, data_bytes) = frame_place(10, body_bytes, last);
                let end = offset + (FRAME_HEADER_BYTES + data_bytes) as u64;
                assert_eq!(to_blocks(end), record_bytes(10, body_bytes), "{body_bytes}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_seen(bit in 0..RECORD_HEADER_BYTES * 8, frame_bit in 0..(FRAME_HEADER_BYTES + 64) * 8) {
            let mut bytes = header().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(RecordHeader::decode(&bytes), None);
            let mut frame = Vec::new();
            push_frame(&mut frame, 1, 2, 3, &[&[7; 64]]);
            frame[frame_bit / 8] ^= 1 << (frame_bit % 8);
            prop_assert!(!is_frame(&frame, 1, 2, 3));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = RecordHeader::decode(&bytes);
            let _ = SegmentHeader::decode(&bytes);
            let _ = Footer::decode(&bytes);
            let _ = decode_entries(&bytes, 1 << 20);
            let _ = decode_removals(&bytes);
            let _ = is_frame(&bytes, 1, 2, 3);
        }
    }
}
