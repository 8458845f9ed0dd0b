//! What a client says beside its requests: on the control stream (RFC 9114, section 6.2.1) and on those of QPACK (RFC 9204,
//! section 4.2). [`Control`] is pure; [`receive`] reads one stream for it.

use super::budget::Budget;
use super::code::Code;
use super::wire::{self, Frames, Part, Place, varint};
use crate::http::priority::{self, Priority};
use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{ReadError, RecvStream};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

/// Types of streams.
const CONTROL: u64 = 0x0;
const PUSH: u64 = 0x1;
const ENCODER: u64 = 0x2;
const DECODER: u64 = 0x3;

/// SETTINGS of HTTP/2 that HTTP/3 has none for (RFC 9114, section 7.2.4.1).
const RESERVED_SETTINGS: [u64; 4] = [0x2, 0x3, 0x4, 0x5];
const MAX_FIELD_SECTION_SIZE: u64 = 0x6;

/// What begins our control stream: its type, and SETTINGS. No dynamic table, so QPACK's streams are not opened.
pub fn opening(fields_bytes_max: usize) -> Bytes {
    let mut settings = Vec::with_capacity(16);
    wire::put_varint(&mut settings, MAX_FIELD_SECTION_SIZE);
    wire::put_varint(&mut settings, fields_bytes_max as u64);
    // RFC 9114, section 7.2.4.1: one nobody knows, so that nobody trips over others.
    wire::put_varint(&mut settings, 0x1f * fastrand::u64(1..1 << 20) + 0x21);
    wire::put_varint(&mut settings, fastrand::u64(..1 << 20));
    let mut out = vec![CONTROL as u8];
    out.extend_from_slice(&wire::frame(wire::SETTINGS, &settings));
    out.into()
}

/// A GOAWAY frame: requests from `stream` on are not served.
pub fn goaway(stream: u64) -> Bytes {
    let mut content = Vec::with_capacity(8);
    wire::put_varint(&mut content, stream);
    wire::frame(wire::GOAWAY, &content)
}

/// What quinn orders streams by: higher first, in turns where it is the same. The more urgent go first (RFC 9218, section 10);
/// among those of the same urgency that are of use only whole, the one that was asked for first, and then those of use in parts,
/// in turns.
pub fn stream_priority(priority: Priority, stream: u64) -> i32 {
    const STREAMS: u64 = 1 << 26;
    let place = if priority.incremental { STREAMS } else { (stream / 4).min(STREAMS - 1) };
    -(i32::from(priority.urgency) << 27) - i32::try_from(place).unwrap_or(0)
}

/// Who says nothing of priorities shares evenly.
pub const UNSAID: Priority = Priority { urgency: 3, incremental: true };

/// The priorities of open requests, as clients change them (RFC 9218, section 7).
#[derive(Debug, Default)]
pub struct Priorities {
    open: Mutex<HashMap<u64, Arc<AtomicI32>, ahash::RandomState>>,
    /// For requests that have not come yet.
    early: Mutex<Vec<(u64, Priority)>>,
}

/// Updates kept for requests that have not come.
const EARLY_MAX: usize = 64;

impl Priorities {
    /// `said`: by the request itself; an update that came before it counts for more.
    pub fn open(&self, stream: u64, said: Option<Priority>) -> Arc<AtomicI32> {
        let mut early = self.early.lock();
        let updated = early.iter().position(|(id, _)| *id == stream).map(|at| early.swap_remove(at).1);
        let priority = stream_priority(updated.or(said).unwrap_or(UNSAID), stream);
        let shared = Arc::new(AtomicI32::new(priority));
        self.open.lock().insert(stream, Arc::clone(&shared));
        shared
    }

    pub fn close(&self, stream: u64) {
        self.open.lock().remove(&stream);
    }

    fn update(&self, stream: u64, priority: Priority, next: u64) {
        if let Some(open) = self.open.lock().get(&stream) {
            open.store(stream_priority(priority, stream), Ordering::Relaxed);
        } else if stream >= next {
            let mut early = self.early.lock();
            early.retain(|(id, _)| *id != stream);
            if early.len() < EARLY_MAX {
                early.push((stream, priority));
            }
        }
    }
}

/// The client's side of a connection's control.
#[derive(Debug)]
pub struct Control {
    pub priorities: Priorities,
    state: Mutex<State>,
}

/// Frames of the control stream at once; an eighth comes back each second. Browsers send some for each request at most.
const FRAMES_MAX: u32 = 2048;

#[derive(Debug)]
struct State {
    budget: Budget,
    /// Streams of which there is one each, by type.
    taken: [bool; 4],
    has_settings: bool,
    goaway: Option<u64>,
    push_max: u64,
    /// The first request's stream that has not come, and where they end.
    next: u64,
    end: u64,
}

impl Control {
    pub fn new(streams_max: u32) -> Self {
        let state = State {
            budget: Budget::new(FRAMES_MAX, Instant::now()),
            taken: [false; 4],
            has_settings: false,
            goaway: None,
            push_max: 0,
            next: 0,
            end: u64::from(streams_max) * 4,
        };
        Self { priorities: Priorities::default(), state: Mutex::new(state) }
    }

    /// A request's stream has come: updates for it and those before it are for open or ended requests.
    pub fn note_request(&self, stream: u64) {
        let mut state = self.state.lock();
        state.next = state.next.max(stream + 4);
        // As many more may come as have.
        state.end += 4;
    }

    fn take(&self, kind: u64) -> Result<(), Code> {
        let taken = std::mem::replace(&mut self.state.lock().taken[kind as usize], true);
        if taken { Err(Code::STREAM_CREATION_ERROR) } else { Ok(()) }
    }

    /// More of the control stream, whose frames `frames` reads.
    pub fn read(&self, frames: &mut Frames, bytes: Bytes) -> Result<(), Code> {
        frames.push(bytes);
        while let Some(part) = frames.next()? {
            if let Part::Frame(kind, content) = part {
                self.frame(kind, &content)?;
            }
        }
        Ok(())
    }

    fn frame(&self, kind: u64, content: &[u8]) -> Result<(), Code> {
        let mut state = self.state.lock();
        if !state.budget.spend(Instant::now()) {
            return Err(Code::EXCESSIVE_LOAD);
        }
        if kind == wire::SETTINGS {
            if std::mem::replace(&mut state.has_settings, true) {
                return Err(Code::FRAME_UNEXPECTED);
            }
            return check_settings(content);
        }
        if !state.has_settings {
            return Err(Code::MISSING_SETTINGS);
        }
        let (id, used) = varint(content).ok_or(Code::FRAME_ERROR)?;
        let whole = used == content.len();
        match kind {
            wire::PRIORITY_UPDATE => {
                if id % 4 != 0 || id >= state.end {
                    return Err(Code::ID_ERROR);
                }
                let next = state.next;
                drop(state);
                self.priorities.update(id, priority::parse(&content[used..]), next);
                Ok(())
            }
            _ if kind != wire::PRIORITY_UPDATE_PUSH && !whole => Err(Code::FRAME_ERROR),
            wire::GOAWAY if state.goaway.is_some_and(|before| id > before) => Err(Code::ID_ERROR),
            wire::GOAWAY => {
                state.goaway = Some(id);
                Ok(())
            }
            wire::MAX_PUSH_ID if id < state.push_max => Err(Code::ID_ERROR),
            wire::MAX_PUSH_ID => {
                state.push_max = id;
                Ok(())
            }
            // Nothing is ever pushed.
            _ => Err(Code::ID_ERROR),
        }
    }
}

fn check_settings(mut content: &[u8]) -> Result<(), Code> {
    let mut seen: Vec<u64> = Vec::new();
    while !content.is_empty() {
        let (id, used) = varint(content).ok_or(Code::FRAME_ERROR)?;
        let (_, more) = varint(&content[used..]).ok_or(Code::FRAME_ERROR)?;
        content = &content[used + more..];
        if RESERVED_SETTINGS.contains(&id) || seen.contains(&id) {
            return Err(Code::SETTINGS_ERROR);
        }
        seen.push(id);
        if seen.len() > SETTINGS_MAX {
            return Err(Code::EXCESSIVE_LOAD);
        }
    }
    Ok(())
}

/// More settings than these are no honest client's.
const SETTINGS_MAX: usize = 128;

/// Reads one of the client's unidirectional streams to its end, and ends the connection if it breaks the rules: before the stream
/// is given up, which the client could take for an offence of ours.
pub async fn receive(mut stream: RecvStream, control: Arc<Control>, connection: quinn::Connection) {
    if let Err(code) = read_all(&mut stream, control).await {
        tracing::debug!(%code, "an HTTP/3 connection closed");
        connection.close(code.into(), b"");
    }
}

async fn read_all(stream: &mut RecvStream, control: Arc<Control>) -> Result<(), Code> {
    let mut head = Vec::new();
    let (kind, used) = loop {
        if let Some(kind) = varint(&head) {
            break kind;
        }
        match read(stream).await {
            Ok(Some(bytes)) => head.extend_from_slice(&bytes),
            // Gone before it said what it was (RFC 9114, section 6.2).
            _ => return Ok(()),
        }
    };
    let rest = Bytes::from(head).split_off(used);
    match kind {
        CONTROL => {
            control.take(kind)?;
            let mut frames = Frames::new(Place::Control);
            critical(stream, rest, |bytes| control.read(&mut frames, bytes)).await
        }
        ENCODER => {
            control.take(kind)?;
            // Only "a table of no bytes" makes sense for a table that may have none.
            let allowed = |bytes: Bytes| match bytes.iter().all(|byte| *byte == 0x20) {
                true => Ok(()),
                false => Err(Code::QPACK_ENCODER_STREAM_ERROR),
            };
            critical(stream, rest, allowed).await
        }
        DECODER => {
            control.take(kind)?;
            let mut cancellations = Cancellations::default();
            critical(stream, rest, |bytes| cancellations.read(&bytes)).await
        }
        PUSH => Err(Code::STREAM_CREATION_ERROR),
        _ => {
            // It may have ended already.
            let _ = stream.stop(Code::STREAM_CREATION_ERROR.into());
            Ok(())
        }
    }
}

/// A stream that must not end (RFC 9114, section 6.2.1).
async fn critical(
    stream: &mut RecvStream,
    first: Bytes,
    mut take: impl FnMut(Bytes) -> Result<(), Code>,
) -> Result<(), Code> {
    take(first)?;
    loop {
        match read(stream).await {
            Ok(Some(bytes)) => take(bytes)?,
            Ok(None) | Err(ReadError::Reset(_)) => return Err(Code::CLOSED_CRITICAL_STREAM),
            Err(_) => return Ok(()),
        }
    }
}

async fn read(stream: &mut RecvStream) -> Result<Option<Bytes>, ReadError> {
    Ok(stream.read_chunk(usize::MAX, true).await?.map(|chunk| chunk.bytes))
}

/// QPACK's decoder stream: our sections refer to no table, so all a client may say is that it reads one no longer.
#[derive(Debug, Default)]
struct Cancellations {
    in_integer: bool,
}

impl Cancellations {
    fn read(&mut self, bytes: &[u8]) -> Result<(), Code> {
        for byte in bytes {
            if self.in_integer {
                self.in_integer = byte & 0x80 != 0;
            } else if byte & 0xc0 == 0x40 {
                self.in_integer = byte & 0x3f == 0x3f;
            } else {
                return Err(Code::QPACK_DECODER_STREAM_ERROR);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Control {
        let control = Control::new(8);
        control.frame(wire::SETTINGS, &[]).unwrap();
        control
    }

    #[test]
    fn settings_come_first_and_once() {
        assert_eq!(Control::new(8).frame(wire::GOAWAY, &[0]), Err(Code::MISSING_SETTINGS));
        assert_eq!(ready().frame(wire::SETTINGS, &[]), Err(Code::FRAME_UNEXPECTED));
        for (content, code) in [
            (&[0x06][..], Code::FRAME_ERROR),
            (&[0x02, 0x01], Code::SETTINGS_ERROR),
            (&[0x06, 0x01, 0x06, 0x02], Code::SETTINGS_ERROR),
        ] {
            assert_eq!(Control::new(8).frame(wire::SETTINGS, content), Err(code), "{content:?}");
        }
        assert_eq!(check_settings(&opening(1 << 16)[3..]), Ok(()), "ours can be read");
    }

    #[test]
    fn ids_neither_grow_nor_shrink_where_they_must_not() {
        let control = ready();
        assert_eq!(control.frame(wire::GOAWAY, &[4]), Ok(()));
        assert_eq!(control.frame(wire::GOAWAY, &[5]), Err(Code::ID_ERROR));
        assert_eq!(control.frame(wire::MAX_PUSH_ID, &[4]), Ok(()));
        assert_eq!(control.frame(wire::MAX_PUSH_ID, &[3]), Err(Code::ID_ERROR));
        assert_eq!(control.frame(wire::CANCEL_PUSH, &[0]), Err(Code::ID_ERROR), "nothing was pushed");
        assert_eq!(control.frame(wire::GOAWAY, &[1, 1]), Err(Code::FRAME_ERROR));
        assert_eq!(control.frame(wire::GOAWAY, &[]), Err(Code::FRAME_ERROR));
    }

    #[test]
    fn priorities_change_before_and_after_a_request_comes() {
        let control = ready();
        assert_eq!(control.frame(wire::PRIORITY_UPDATE, b"\x04u=0"), Ok(()));
        let urgent = control.priorities.open(4, Some(Priority { urgency: 7, incremental: false }));
        let plain = control.priorities.open(0, None);
        assert!(urgent.load(Ordering::Relaxed) > plain.load(Ordering::Relaxed), "the update counts");
        assert_eq!(control.frame(wire::PRIORITY_UPDATE, b"\x00u=0"), Ok(()));
        assert!(plain.load(Ordering::Relaxed) > urgent.load(Ordering::Relaxed), "as urgent, and first asked for");
        assert_eq!(control.frame(wire::PRIORITY_UPDATE, b"\x02u=0"), Err(Code::ID_ERROR), "no request's stream");
        assert_eq!(control.frame(wire::PRIORITY_UPDATE, b"\x20u=0"), Err(Code::ID_ERROR), "beyond what may come");
        control.priorities.close(0);
        control.note_request(4);
        assert_eq!(control.frame(wire::PRIORITY_UPDATE, b"\x00u=0"), Ok(()), "an ended request's is ignored");
        assert!(control.priorities.early.lock().is_empty());
    }

    #[test]
    fn urgency_comes_before_order_and_whole_before_in_parts() {
        let of = |urgency, incremental, stream| stream_priority(Priority { urgency, incremental }, stream);
        assert!(of(0, true, 400) > of(1, false, 0));
        assert!(of(3, false, 0) > of(3, false, 4));
        assert!(of(3, false, u64::MAX) > of(3, true, 0));
        assert_eq!(of(3, true, 0), of(3, true, 4));
        assert!(of(7, true, u64::MAX) < of(6, true, 0), "nothing overflows");
    }

    #[test]
    fn decoders_may_only_cancel() {
        assert_eq!(Cancellations::default().read(&[0x44, 0x7f, 0x81, 0x01, 0x40]), Ok(()));
        assert_eq!(Cancellations::default().read(&[0x80]), Err(Code::QPACK_DECODER_STREAM_ERROR));
        assert_eq!(Cancellations::default().read(&[0x01]), Err(Code::QPACK_DECODER_STREAM_ERROR));
    }
}
