//! Rebuilding the index when a log is opened: newest segment first, so what is found while it runs is already right.
//!
//! A sealed segment is read from its trailer, or from its records if the trailer is damaged and they lead to the end record.
//! The newest may be unsealed: its records count as far as one follows the other. Where neither works, or a segment is
//! missing, removals may have been lost with it: the segment and all that are *older* are let go, because
//! a cold cache is better than an object that somebody removed. (In the unsealed one, damage cannot be told
//! from what a power loss left unwritten; there, what came after the last sync is not promised.)

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::disks::epoch_of;
use super::format::{
    BLOCK_BYTES, ENTRY_BYTES, Entry, Footer, Kind, SegmentHeader, decode_entries, decode_removals, record_bytes,
};
use super::index::{Located, Place};
use super::segment::{OpenSegment, Segment};
use super::state::Shared;

/// How far back the bodies of an unsealed segment are read through: more was never left unsynced.
const VERIFIED_TAIL_BYTES: u64 = super::writer::UNSYNCED_BYTES_MAX + (8 << 20);

type ByKey<T> = HashMap<u128, T, ahash::RandomState>;

/// What newer records say of older ones.
#[derive(Default)]
struct Known {
    removed: ByKey<u64>,
    heads: ByKey<(u64, u64, Place, u32)>,
}

/// Fills the index, and gives the segment to go on with, if there is one.
pub(super) fn recover(shared: &Shared) -> Option<OpenSegment> {
    let mut files = match shared.folder.list() {
        Ok(files) => files,
        Err(error) => {
            shared.counters.error("recover");
            tracing::error!(disk = shared.settings.name, %error, "the disk store's folder cannot be read");
            return None;
        }
    };
    // A smaller size than before: the oldest go, before anything else is done.
    let mut bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    let excess = files.iter().take_while(|(_, file_bytes)| {
        let over = bytes > shared.settings.size_bytes;
        bytes -= if over { *file_bytes } else { 0 };
        over
    });
    let excess = excess.count();
    files.drain(..excess).for_each(|(sequence, _)| remove(shared, sequence));

    let mut known = Known::default();
    let (mut open, mut expected) = (None, None);
    while let Some((sequence, file_bytes)) = files.pop() {
        if shared.queue.is_abandoned() {
            return None;
        }
        let newest = expected.is_none();
        if newest && is_unused(shared, sequence) {
            remove(shared, sequence);
            continue;
        }
        let in_order = expected.is_none_or(|expected| expected == sequence);
        let loaded = if in_order { load(shared, sequence, file_bytes, newest) } else { None };
        let Some((segment, entries, resumed)) = loaded else {
            shared.counters.error("recover");
            let disk = &shared.settings.name;
            tracing::warn!(disk, sequence, "a segment is missing or damaged; it and all older ones are let go");
            files.iter().map(|(older, _)| *older).chain([sequence]).for_each(|sequence| remove(shared, sequence));
            break;
        };
        shared.segments.write().insert(sequence, Arc::clone(&segment));
        entries.iter().rev().for_each(|entry| apply(shared, &mut known, &segment, entry));
        if newest {
            open = resumed;
        }
        expected = sequence.checked_sub(1);
        if expected.is_none() {
            break;
        }
    }
    open
}

fn remove(shared: &Shared, sequence: u32) {
    if let Err(error) = shared.folder.remove(sequence) {
        shared.counters.error("remove");
        tracing::warn!(disk = shared.settings.name, sequence, %error, "a segment cannot be removed");
    }
}

/// The process ended between creating the file and writing to it.
fn is_unused(shared: &Shared, sequence: u32) -> bool {
    let mut blocks = vec![0; 2 * BLOCK_BYTES as usize];
    let read = shared.folder.open(sequence).and_then(|device| device.read_at(&mut blocks, 0));
    match read {
        Ok(()) => blocks.iter().all(|byte| *byte == 0),
        Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
    }
}

type Loaded = (Arc<Segment>, Vec<Entry>, Option<OpenSegment>);

fn load(shared: &Shared, sequence: u32, file_bytes: u64, newest: bool) -> Option<Loaded> {
    let device = shared.folder.open(sequence).ok()?;
    let mut block = vec![0; BLOCK_BYTES as usize];
    device.read_at(&mut block, 0).ok()?;
    let header = SegmentHeader::decode(&block).filter(|header| header.sequence == sequence)?;
    if header.bytes != file_bytes {
        return None;
    }
    let segment = Arc::new(Segment { sequence, bytes: file_bytes, device });
    if !newest {
        let entries = entries(&segment)?;
        return Some((segment, entries, None));
    }
    let mut walk = Walk::of(&segment, header.chain());
    if !walk.sealed {
        if let Some(entries) = trailer(&segment) {
            return Some((segment, entries, None));
        }
        walk.doubt_bodies(&segment);
    }
    // Where the trailer cannot be taken away, the segment stays as it is and another will be begun.
    let unsealed = OpenSegment::unseal(&segment).inspect_err(|_| shared.counters.error("write")).is_ok();
    let entries = walk.entries.clone();
    let resume = || OpenSegment::resume(Arc::clone(&segment), shared.epoch, walk.entries, walk.chain, walk.end);
    let open = unsealed.then(resume);
    Some((segment, entries, open))
}

/// What lies in a sealed segment; `None` if that cannot be known for certain.
pub(super) fn entries(segment: &Segment) -> Option<Vec<Entry>> {
    trailer(segment).or_else(|| {
        let mut block = vec![0; BLOCK_BYTES as usize];
        segment.device.read_at(&mut block, 0).ok()?;
        let walk = Walk::of(segment, SegmentHeader::decode(&block)?.chain());
        walk.sealed.then_some(walk.entries)
    })
}

fn trailer(segment: &Segment) -> Option<Vec<Entry>> {
    let mut block = vec![0; BLOCK_BYTES as usize];
    segment.device.read_at(&mut block, segment.bytes.checked_sub(BLOCK_BYTES)?).ok()?;
    let footer = Footer::decode(&block).filter(|footer| footer.sequence == segment.sequence)?;
    let offset = Footer::entries_offset(footer.entries as usize, segment.bytes)?;
    let mut bytes = vec![0; footer.entries as usize * ENTRY_BYTES];
    segment.device.read_at(&mut bytes, offset).ok()?;
    if crc32fast::hash(&bytes) != footer.entries_checksum {
        return None;
    }
    decode_entries(&bytes, segment.bytes)
}

/// A segment read record by record.
struct Walk {
    entries: Vec<Entry>,
    end: u64,
    chain: u32,
    sealed: bool,
}

impl Walk {
    fn of(segment: &Segment, chain: u32) -> Self {
        let mut walk = Self { entries: Vec::new(), end: BLOCK_BYTES, chain, sealed: false };
        while walk.end + BLOCK_BYTES <= segment.bytes
            && let Ok((header, head, chain)) = segment.read_record_head((walk.end / BLOCK_BYTES) as u32)
        {
            let bytes = record_bytes(u64::from(header.head_bytes), header.body_bytes);
            if header.chain != walk.chain || walk.end + bytes > segment.bytes {
                break;
            }
            if header.kind == Kind::End {
                walk.sealed = true;
                break;
            }
            let entry = Entry {
                kind: header.kind,
                block: (walk.end / BLOCK_BYTES) as u32,
                key: header.key,
                version: header.version,
                ban_number: header.ban_number,
                head_bytes: header.head_bytes,
                body_bytes: header.body_bytes,
            };
            match header.kind {
                Kind::Removals => {
                    let removals = decode_removals(&head).into_iter();
                    walk.entries.extend(removals.map(|(key, version)| Entry { key, version, ..entry }));
                }
                _ => walk.entries.push(entry),
            }
            walk.chain = chain;
            walk.end += bytes;
        }
        walk
    }

    /// A body that is not whole is as good as removed: what it replaced must not come back. (A killed process leaves at most the
    /// last one so.)
    fn doubt_bodies(&mut self, segment: &Segment) {
        let from = self.end.saturating_sub(VERIFIED_TAIL_BYTES) / BLOCK_BYTES;
        for entry in &mut self.entries {
            if entry.kind == Kind::Object && u64::from(entry.block) >= from && !is_whole(segment, entry) {
                entry.kind = Kind::Removals;
            }
        }
    }
}

fn is_whole(segment: &Segment, entry: &Entry) -> bool {
    let object = located(segment, entry);
    let frames = entry.body_bytes.div_ceil(super::BODY_CHUNK_BYTES);
    (0..frames).all(|index| segment.read_frame(entry.key, &object, index).is_ok())
}

fn located(segment: &Segment, entry: &Entry) -> Located {
    let place = Place { segment: segment.sequence, block: entry.block };
    Located {
        version: entry.version,
        ban_number: entry.ban_number,
        body_bytes: entry.body_bytes,
        record: place,
        head: place,
        record_head_bytes: entry.head_bytes,
        head_bytes: entry.head_bytes,
    }
}

/// One entry; all newer ones came before it.
fn apply(shared: &Shared, known: &mut Known, segment: &Segment, entry: &Entry) {
    let object = located(segment, entry);
    match entry.kind {
        Kind::Removals => {
            let removed = known.removed.entry(entry.key).or_insert(entry.version);
            *removed = entry.version.max(*removed);
        }
        Kind::Head => {
            let newest = known.heads.get(&entry.key).map(|(version, ..)| *version);
            if newest.is_none_or(|newest| newest < entry.version) {
                let head = (entry.version, entry.ban_number, object.head, entry.head_bytes);
                known.heads.insert(entry.key, head);
            }
        }
        Kind::Object => {
            if known.removed.get(&entry.key).is_some_and(|removed| *removed >= entry.version) {
                return;
            }
            if shared.late.epochs_foreign.contains(&epoch_of(entry.version)) {
                // And nothing older in its place.
                known.removed.insert(entry.key, entry.version);
                return;
            }
            if shared.index.publish(entry.key, object)
                && let Some((version, ban_number, head, head_bytes)) = known.heads.remove(&entry.key)
            {
                shared.index.replace_head(entry.key, version, ban_number, head, head_bytes);
            }
        }
        Kind::End => {}
    }
}
