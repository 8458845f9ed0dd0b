//! One segment file: reading verified pieces of it, and writing the one that is open.
//!
//! Invariants: what is read is what was written for that key and version, or an error; a record is written once, from front to
//! back; [`OpenSegment::rewind`] takes the segment back to the last committed record, so a failed write leaves no trace that
//! could be believed.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::BODY_CHUNK_BYTES;
use super::device::Device;
use super::format::{
    BLOCK_BYTES, ENTRY_BYTES, Entry, FRAME_HEADER_BYTES, Footer, Kind, RECORD_HEADER_BYTES, RecordHeader,
    SegmentHeader, encode_entries, encode_removals, frame_place, is_frame, push_frame, record_bytes, to_blocks,
};
use super::index::{Located, Place};

/// Writes are gathered up to this size.
const STAGED_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) sequence: u32,
    /// Of the whole file.
    pub(super) bytes: u64,
    pub(super) device: Arc<dyn Device>,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is damaged on disk"))
}

impl Segment {
    /// The same, for reads that never wait ([`Device::at_once`]).
    pub(super) fn at_once(&self) -> Option<Self> {
        Some(Self { device: self.device.at_once()?, ..*self })
    }

    /// The header and the head of the record at `block`, if they are unharmed.
    pub(super) fn read_record_head(&self, block: u32) -> io::Result<(RecordHeader, Vec<u8>, u32)> {
        let offset = u64::from(block) * BLOCK_BYTES;
        // One read for a head of common size.
        let mut bytes = vec![0; BLOCK_BYTES.min(self.bytes.saturating_sub(offset)) as usize];
        self.device.read_at(&mut bytes, offset)?;
        let header = RecordHeader::decode(&bytes).ok_or_else(|| damaged("a record's header"))?;
        if header.sequence != self.sequence || header.offset != offset {
            return Err(damaged("a record's place"));
        }
        let chain = RecordHeader::chain_of(&bytes[..RECORD_HEADER_BYTES]);
        let end = RECORD_HEADER_BYTES + header.head_bytes as usize;
        if end > bytes.len() {
            bytes.resize(end, 0);
            let read = BLOCK_BYTES as usize;
            self.device.read_at(&mut bytes[read..], offset + BLOCK_BYTES)?;
        }
        bytes.truncate(end);
        let head = bytes.split_off(RECORD_HEADER_BYTES);
        if crc32fast::hash(&head) != header.head_checksum {
            return Err(damaged("a head"));
        }
        Ok((header, head, chain))
    }

    /// The head at `place`, of this version of the object.
    pub(super) fn read_head(&self, key: u128, version: u64, place: Place) -> io::Result<Vec<u8>> {
        let (header, head, _) = self.read_record_head(place.block)?;
        let ours = header.key == key && header.version == version && matches!(header.kind, Kind::Object | Kind::Head);
        if ours { Ok(head) } else { Err(damaged("a record's key")) }
    }

    /// The head in force and the first chunk of the body, verified: where in `buffer`, of at least [`beginning_bytes`], they are. The
    /// head lies in `with_head`; where it is the record's own, all of it is one read.
    pub(super) fn read_beginning(
        &self,
        with_head: &Self,
        key: u128,
        object: &Located,
        buffer: &mut [u8],
    ) -> io::Result<(Range<usize>, Range<usize>)> {
        let head_end = RECORD_HEADER_BYTES + object.head_bytes as usize;
        let end = beginning_bytes(object);
        let head_place = u64::from(object.head.block) * BLOCK_BYTES;
        let in_one = object.head == object.record && object.head_bytes == object.record_head_bytes;
        with_head.device.read_at(&mut buffer[..if in_one { end } else { head_end }], head_place)?;
        let header = RecordHeader::decode(buffer).ok_or_else(|| damaged("a record's header"))?;
        let is_there = header.sequence == with_head.sequence && header.offset == head_place;
        let is_ours = header.key == key && header.version == object.version && header.head_bytes == object.head_bytes;
        if !is_there || !is_ours || !matches!(header.kind, Kind::Object | Kind::Head) {
            return Err(damaged("a record's place"));
        }
        if crc32fast::hash(&buffer[RECORD_HEADER_BYTES..head_end]) != header.head_checksum {
            return Err(damaged("a head"));
        }
        let head = RECORD_HEADER_BYTES..head_end;
        if object.body_bytes == 0 {
            return Ok((head, end..end));
        }
        let frame = &mut buffer[head_end..end];
        if !in_one {
            self.device.read_at(frame, frame_offset(object, 0).0)?;
        }
        if !is_frame(frame, key, object.version, 0) {
            return Err(damaged("a piece of a body"));
        }
        Ok((head, head_end + FRAME_HEADER_BYTES..end))
    }

    /// Chunk `index` of the body, verified: where in `buffer`, which has room for it and a frame's header, it is.
    pub(super) fn read_chunk(
        &self,
        key: u128,
        object: &Located,
        index: u64,
        buffer: &mut [u8],
    ) -> io::Result<Range<usize>> {
        let (offset, bytes) = frame_offset(object, index);
        let frame = &mut buffer[..bytes];
        self.device.read_at(frame, offset)?;
        if is_frame(frame, key, object.version, index as u32) {
            Ok(FRAME_HEADER_BYTES..bytes)
        } else {
            Err(damaged("a piece of a body"))
        }
    }

    /// Frame `index` of the body, header and data, verified.
    pub(super) fn read_frame(&self, key: u128, object: &Located, index: u64) -> io::Result<Vec<u8>> {
        let mut frame = buffer_for_frame(object.body_bytes, index);
        self.read_frame_into(&mut frame, key, object, index).map(|()| frame)
    }

    fn read_frame_into(&self, frame: &mut Vec<u8>, key: u128, object: &Located, index: u64) -> io::Result<()> {
        let (offset, bytes) = frame_offset(object, index);
        frame.clear();
        frame.reserve_exact(bytes);
        self.device.read_into(frame, bytes, offset)?;
        if is_frame(frame, key, object.version, index as u32) { Ok(()) } else { Err(damaged("a piece of a body")) }
    }

    /// The body from `offset` on, to the end of its chunk, at most `bytes_max` bytes. `frame`: [`buffer_for_frame`].
    pub(super) fn read_body(
        &self,
        frame: &mut Vec<u8>,
        key: u128,
        object: &Located,
        offset: u64,
        bytes_max: usize,
    ) -> io::Result<Bytes> {
        self.read_frame_into(frame, key, object, offset / BODY_CHUNK_BYTES)?;
        let frame = Bytes::from(std::mem::take(frame));
        let start = FRAME_HEADER_BYTES + (offset % BODY_CHUNK_BYTES) as usize;
        let end = frame.len().min(start.saturating_add(bytes_max));
        Ok(frame.slice(start..end))
    }
}

/// Where in its segment's file a frame lies, and how many bytes it takes.
fn frame_offset(object: &Located, index: u64) -> (u64, usize) {
    let (offset, data_bytes) = frame_place(object.record_head_bytes, object.body_bytes, index);
    (u64::from(object.record.block) * BLOCK_BYTES + offset, FRAME_HEADER_BYTES + data_bytes)
}

/// What [`Segment::read_beginning`] needs.
pub(super) fn beginning_bytes(object: &Located) -> usize {
    let frame_bytes = if object.body_bytes == 0 { 0 } else { frame_offset(object, 0).1 };
    RECORD_HEADER_BYTES + object.head_bytes as usize + frame_bytes
}

/// For [`Segment::read_body`], empty. Made by whoever will drop it: each of the many threads that read would keep for itself what
/// it allocated and another thread freed, and their sum has no bound.
pub(super) fn buffer_for_frame(body_bytes: u64, index: u64) -> Vec<u8> {
    Vec::with_capacity(FRAME_HEADER_BYTES + frame_place(0, body_bytes, index).1)
}

/// What an object's or a head's record says of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject {
    pub(super) key: u128,
    pub(super) version: u64,
    pub(super) ban_number: u64,
}

/// Up to where everything is on the disk.
#[derive(Debug, Clone, Copy)]
struct Committed {
    end: u64,
    chain: u32,
    entries: usize,
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub(super) segment: Arc<Segment>,
    epoch: u64,
    entries: Vec<Entry>,
    chain: u32,
    /// Where `staged` goes.
    written: u64,
    staged: Vec<u8>,
    committed: Committed,
    /// A trailer may be on the disk.
    sealed: bool,
}

impl OpenSegment {
    /// Begins an empty file.
    pub(super) fn create(device: Arc<dyn Device>, header: SegmentHeader) -> io::Result<Self> {
        device.set_len(header.bytes)?;
        device.write_at(&header.encode(), 0)?;
        let segment = Arc::new(Segment { sequence: header.sequence, bytes: header.bytes, device });
        Ok(Self::resume(segment, header.epoch, Vec::new(), header.chain(), BLOCK_BYTES))
    }

    /// Goes on behind `end`. A trailer, if there is one, must be gone from the disk.
    pub(super) fn resume(segment: Arc<Segment>, epoch: u64, entries: Vec<Entry>, chain: u32, end: u64) -> Self {
        let committed = Committed { end, chain, entries: entries.len() };
        Self { segment, epoch, entries, chain, written: end, staged: Vec::new(), committed, sealed: false }
    }

    fn position(&self) -> u64 {
        self.written + self.staged.len() as u64
    }

    /// Whether a record of so many bytes, which adds so many entries, leaves room for the end record and the trailer.
    pub(super) fn fits(&self, record_bytes: u64, entries: usize) -> bool {
        let trailer = to_blocks(((self.entries.len() + entries) * ENTRY_BYTES) as u64) + BLOCK_BYTES;
        self.position() + record_bytes + BLOCK_BYTES + trailer <= self.segment.bytes
    }

    /// The largest record an empty segment of `segment_bytes` takes.
    pub(super) fn record_bytes_max(segment_bytes: u64) -> u64 {
        segment_bytes.saturating_sub(4 * BLOCK_BYTES)
    }

    pub(super) fn uncommitted_bytes(&self) -> u64 {
        self.position() - self.committed.end
    }

    fn begin(&mut self, kind: Kind, subject: Subject, head: &[u8], body_bytes: u64) -> Place {
        let offset = self.position();
        let header = RecordHeader {
            kind,
            sequence: self.segment.sequence,
            chain: self.chain,
            offset,
            epoch: self.epoch,
            key: subject.key,
            version: subject.version,
            ban_number: subject.ban_number,
            head_bytes: head.len() as u32,
            head_checksum: crc32fast::hash(head),
            body_bytes,
        };
        let encoded = header.encode();
        self.chain = RecordHeader::chain_of(&encoded);
        self.staged.extend(encoded);
        self.staged.extend(head);
        Place { segment: self.segment.sequence, block: (offset / BLOCK_BYTES) as u32 }
    }

    fn end(&mut self) {
        let padding = to_blocks(self.position()) - self.position();
        self.staged.resize(self.staged.len() + padding as usize, 0);
    }

    fn enter(&mut self, kind: Kind, place: Place, subject: Subject, head_bytes: usize, body_bytes: u64) {
        let Subject { key, version, ban_number } = subject;
        let head_bytes = head_bytes as u32;
        self.entries.push(Entry { kind, block: place.block, key, version, ban_number, head_bytes, body_bytes });
    }

    /// An object whose body comes in pieces of any length.
    pub(super) fn append_object(&mut self, subject: Subject, head: &[u8], body: &[Bytes]) -> io::Result<Place> {
        let body_bytes = body.iter().map(|piece| piece.len() as u64).sum();
        let place = self.begin(Kind::Object, subject, head, body_bytes);
        let mut rest = body.iter().map(|piece| &piece[..]).filter(|piece| !piece.is_empty()).collect::<Vec<_>>();
        rest.reverse();
        for index in 0..body_bytes.div_ceil(BODY_CHUNK_BYTES) {
            let (mut room, mut pieces) = (BODY_CHUNK_BYTES as usize, Vec::new());
            while room > 0
                && let Some(piece) = rest.pop()
            {
                let (now, later) = piece.split_at(piece.len().min(room));
                room -= now.len();
                pieces.push(now);
                if !later.is_empty() {
                    rest.push(later);
                }
            }
            push_frame(&mut self.staged, subject.key, subject.version, index as u32, &pieces);
            self.write_if_large()?;
        }
        self.end();
        self.enter(Kind::Object, place, subject, head.len(), body_bytes);
        Ok(place)
    }

    /// An object again, from an older segment, with the head in force.
    pub(super) fn append_copy(
        &mut self,
        key: u128,
        object: &Located,
        head: &[u8],
        from: &Segment,
    ) -> io::Result<Place> {
        let subject = Subject { key, version: object.version, ban_number: object.ban_number };
        let place = self.begin(Kind::Object, subject, head, object.body_bytes);
        for index in 0..object.body_bytes.div_ceil(BODY_CHUNK_BYTES) {
            let frame = from.read_frame(key, object, index)?;
            self.staged.extend(frame);
            self.write_if_large()?;
        }
        self.end();
        self.enter(Kind::Object, place, subject, head.len(), object.body_bytes);
        Ok(place)
    }

    pub(super) fn append_head(&mut self, subject: Subject, head: &[u8]) -> io::Result<Place> {
        let place = self.begin(Kind::Head, subject, head, 0);
        self.end();
        self.enter(Kind::Head, place, subject, head.len(), 0);
        self.write_if_large().map(|()| place)
    }

    pub(super) fn append_removals(&mut self, removals: &[(u128, u64)]) -> io::Result<()> {
        let head = encode_removals(removals);
        let place = self.begin(Kind::Removals, Subject { key: 0, version: 0, ban_number: u64::MAX }, &head, 0);
        self.end();
        for (key, version) in removals {
            let subject = Subject { key: *key, version: *version, ban_number: u64::MAX };
            self.enter(Kind::Removals, place, subject, head.len(), 0);
        }
        self.write_if_large()
    }

    fn write_if_large(&mut self) -> io::Result<()> {
        if self.staged.len() >= STAGED_BYTES_MAX { self.write_staged() } else { Ok(()) }
    }

    fn write_staged(&mut self) -> io::Result<()> {
        self.segment.device.write_at(&self.staged, self.written)?;
        self.written += self.staged.len() as u64;
        self.staged.clear();
        Ok(())
    }

    /// Everything appended is in the file.
    pub(super) fn commit(&mut self) -> io::Result<()> {
        if !self.staged.is_empty() {
            self.write_staged()?;
        }
        self.committed = Committed { end: self.written, chain: self.chain, entries: self.entries.len() };
        Ok(())
    }

    /// Forgets what was appended since the last commit.
    pub(super) fn rewind(&mut self) {
        self.staged.clear();
        self.written = self.committed.end;
        self.chain = self.committed.chain;
        self.entries.truncate(self.committed.entries);
    }

    /// Ends the segment: its trailer says what is in it, and all of it is synced. Where that fails it may be done again, or
    /// [`Self::reopen`] undoes it before anything more is appended.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        self.commit()?;
        self.sealed = true;
        let (before, device) = (self.committed, Arc::clone(&self.segment.device));
        self.begin(Kind::End, Subject { key: 0, version: 0, ban_number: u64::MAX }, &[], 0);
        self.end();
        let end_record = std::mem::take(&mut self.staged);
        self.chain = before.chain;
        device.write_at(&end_record, before.end)?;
        let entries = encode_entries(&self.entries);
        let footer = Footer {
            sequence: self.segment.sequence,
            entries: self.entries.len() as u32,
            entries_checksum: crc32fast::hash(&entries),
        };
        let offset = Footer::entries_offset(self.entries.len(), self.segment.bytes);
        let offset = offset.filter(|offset| *offset >= before.end).ok_or_else(|| damaged("a segment's room"))?;
        device.write_at(&entries, offset)?;
        // The trailer vouches for the records: it must not reach the disk before them.
        device.sync()?;
        device.write_at(&footer.encode(), self.segment.bytes - BLOCK_BYTES)?;
        device.sync()
    }

    /// After a failure: no trailer is left that could hide what comes.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if self.sealed {
            Self::unseal(&self.segment)?;
            self.sealed = false;
        }
        Ok(())
    }

    /// Takes the trailer away, so that it cannot hide what comes now.
    pub(super) fn unseal(segment: &Segment) -> io::Result<()> {
        segment.device.write_at(&[0; BLOCK_BYTES as usize], segment.bytes - BLOCK_BYTES)?;
        segment.device.sync()
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.segment.device.sync()
    }
}

/// What [`OpenSegment::fits`] is asked for an object.
pub(super) fn object_record_bytes(head_bytes: usize, body_bytes: u64) -> u64 {
    record_bytes(head_bytes as u64, body_bytes)
}
