//! A segment of MPEG-TS (ISO/IEC 13818-1) with H.264 and whatever lies beside it: its frames are found, and others put in their places.
//! Sound, tables, metadata and clock stay byte by byte.
//!
//! Left alone, as [`Unfit`]: scrambled packets, other codecs, several pictures in one packet of the elementary stream.

use super::{Frame, Unfit};

const PACKET: usize = 188;
const PAYLOAD: usize = PACKET - 4;
/// Ticks a second of all times.
pub const TIMESCALE: u32 = 90_000;
/// Times have 33 bits.
const TIME_MASK: u64 = (1 << 33) - 1;
/// ISO/IEC 13818-1 table 2-34.
const H264: u8 = 0x1b;
const VIDEO_TYPES: [u8; 9] = [0x01, 0x02, 0x10, 0x1b, 0x20, 0x21, 0x24, 0x33, 0xd1];
/// An access unit delimiter: any picture.
const DELIMITER: [u8; 6] = [0, 0, 0, 1, 9, 0xf0];

/// What is known of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment<'a> {
    bytes: &'a [u8],
    tables: u16,
    pid: u16,
    /// In decoding order; ticks since the first one is decoded.
    pub frames: Vec<Frame>,
    /// When the first one is decoded, as written.
    base: u64,
}

#[derive(Clone, Copy)]
struct Packet<'a> {
    bytes: &'a [u8],
    pid: u16,
    starts: bool,
    payload: &'a [u8],
    /// The 6 bytes of a program clock reference.
    clock: Option<&'a [u8]>,
}

fn packet(bytes: &[u8]) -> Result<Packet<'_>, Unfit> {
    let [0x47, second, third, fourth, rest @ ..] = bytes else { return Err(Unfit::Unreadable) };
    if fourth & 0xc0 != 0 {
        return Err(Unfit::Encrypted);
    }
    let pid = u16::from(second & 0x1f) << 8 | u16::from(*third);
    let adaptation = if fourth & 0x20 != 0 {
        let length = usize::from(*rest.first().ok_or(Unfit::Unreadable)?);
        rest.get(1..1 + length).ok_or(Unfit::Unreadable)?
    } else {
        &[]
    };
    let skipped = if fourth & 0x20 != 0 { adaptation.len() + 1 } else { 0 };
    let payload = if fourth & 0x10 != 0 { &rest[skipped..] } else { &[] };
    let clock = adaptation.first().filter(|flags| **flags & 0x10 != 0).and_then(|_| adaptation.get(1..7));
    Ok(Packet { bytes, pid, starts: second & 0x40 != 0, payload, clock })
}

fn packets(bytes: &[u8]) -> impl Iterator<Item = Result<Packet<'_>, Unfit>> {
    bytes.chunks(PACKET).map(|bytes| if bytes.len() == PACKET { packet(bytes) } else { Err(Unfit::Unreadable) })
}

/// The body of a section that begins in a packet, without its checksum.
fn section(payload: &[u8], table: u8) -> Option<&[u8]> {
    let start = 1 + usize::from(*payload.first()?);
    let section = payload.get(start..)?;
    let length = usize::from(*section.get(1)? & 0xf) << 8 | usize::from(*section.get(2)?);
    (*section.first()? == table).then(|| section.get(3..(3 + length).checked_sub(4)?))?
}

/// When a packet of the elementary stream is shown and decoded, and where in the payload these are written.
struct Times {
    shown: u64,
    decode: u64,
    /// Where the elementary stream begins.
    body: usize,
}

fn times(payload: &[u8]) -> Option<Times> {
    let [0, 0, 1, 0xe0..=0xef, _, _, marks, flags, length, ..] = payload else { return None };
    let time = |at: usize| {
        let bytes: &[u8; 5] = payload.get(at..at + 5)?.try_into().ok()?;
        Some(
            u64::from(bytes[0] >> 1 & 7) << 30
                | u64::from(bytes[1]) << 22
                | u64::from(bytes[2] >> 1) << 15
                | u64::from(bytes[3]) << 7
                | u64::from(bytes[4] >> 1),
        )
    };
    if marks & 0xf0 != 0x80 || flags & 0x80 == 0 {
        return None;
    }
    let shown = time(9)?;
    let decode = if flags & 0x40 != 0 { time(14)? } else { shown };
    Some(Times { shown, decode, body: 9 + usize::from(*length) })
}

fn write_time(prefix: u8, time: u64) -> [u8; 5] {
    let part = |shift: u32, mask: u64| (time >> shift & mask) as u8;
    [prefix << 4 | part(30, 7) << 1 | 1, part(22, 0xff), part(15, 0x7f) << 1 | 1, part(7, 0xff), part(0, 0x7f) << 1 | 1]
}

/// From one time to another, the short way around.
fn since(base: u64, time: u64) -> i64 {
    let ahead = time.wrapping_sub(base) & TIME_MASK;
    if ahead > TIME_MASK / 2 { ahead.cast_signed() - (1 << 33) } else { ahead.cast_signed() }
}

/// Reads a segment.
pub fn read(bytes: &[u8]) -> Result<Segment<'_>, Unfit> {
    let (mut tables, mut pid) = (None, None);
    let (mut frames, mut base) = (Vec::new(), 0);
    let mut first = Vec::new();
    for packet in packets(bytes) {
        let packet = packet?;
        if packet.pid == 0 && packet.starts && tables.is_none() {
            let programs = section(packet.payload, 0).and_then(|body| body.get(5..)).ok_or(Unfit::Unreadable)?;
            let program = programs.chunks_exact(4).find(|program| program[..2] != [0, 0]).ok_or(Unfit::Streams)?;
            tables = Some(u16::from(program[2] & 0x1f) << 8 | u16::from(program[3]));
        } else if Some(packet.pid) == tables && packet.starts && pid.is_none() {
            pid = Some(video(section(packet.payload, 2).ok_or(Unfit::Streams)?)?);
        } else if Some(packet.pid) == pid {
            if packet.starts {
                let times = times(packet.payload).ok_or(Unfit::Streams)?;
                if frames.is_empty() {
                    base = times.decode;
                }
                let (decode, shown) = (since(base, times.decode), since(base, times.shown));
                if frames.last().is_some_and(|last: &Frame| decode <= last.decode) || shown < decode {
                    return Err(Unfit::Unreadable);
                }
                frames.push(Frame { decode, shown, is_key: false });
                if frames.len() == 1 {
                    first.extend_from_slice(packet.payload.get(times.body..).unwrap_or_default());
                }
            } else if frames.len() == 1 {
                first.extend_from_slice(packet.payload);
            }
        }
    }
    let (Some(tables), Some(pid), Some(begin)) = (tables, pid, frames.first_mut()) else { return Err(Unfit::Streams) };
    // An instantaneous decoding refresh (ITU-T H.264 §7.4.1, type 5).
    begin.is_key = first.windows(4).any(|unit| unit[..3] == [0, 0, 1] && unit[3] & 31 == 5);
    Ok(Segment { bytes, tables, pid, frames, base })
}

/// The one stream of video of a program.
fn video(table: &[u8]) -> Result<u16, Unfit> {
    let about = table.get(7..9).ok_or(Unfit::Unreadable)?;
    let start = 9 + (usize::from(about[0] & 0xf) << 8 | usize::from(about[1]));
    let mut streams = table.get(start..).ok_or(Unfit::Unreadable)?;
    let mut found = None;
    while let [kind, high, low, length_high, length_low, rest @ ..] = streams {
        if VIDEO_TYPES.contains(kind) {
            if *kind != H264 || found.is_some() {
                return Err(Unfit::Streams);
            }
            found = Some(u16::from(high & 0x1f) << 8 | u16::from(*low));
        }
        let length = usize::from(length_high & 0xf) << 8 | usize::from(*length_low);
        streams = rest.get(length..).ok_or(Unfit::Unreadable)?;
    }
    found.ok_or(Unfit::Streams)
}

impl Segment<'_> {
    /// The tables and the video alone, the first frame decoded at `start_s`: what a decoder needs, far from where times wrap around.
    pub fn video_from(&self, start_s: u32) -> Vec<u8> {
        let mut written = Vec::with_capacity(self.bytes.len());
        let shift = |time: u64| {
            (since(self.base, time) + i64::from(start_s) * i64::from(TIMESCALE)).cast_unsigned() & TIME_MASK
        };
        let mut begun = false;
        for packet in packets(self.bytes).map_while(Result::ok) {
            let is_video = packet.pid == self.pid;
            begun |= is_video && packet.starts;
            if !(packet.pid == 0 || packet.pid == self.tables || is_video && begun) {
                continue;
            }
            let at = written.len();
            written.extend_from_slice(packet.bytes);
            if is_video
                && packet.starts
                && let Some(times) = times(packet.payload)
            {
                let payload = at + PACKET - packet.payload.len();
                let both = packet.payload[7] & 0x40 != 0;
                written[payload + 9..payload + 14]
                    .copy_from_slice(&write_time(if both { 3 } else { 2 }, shift(times.shown)));
                if both {
                    written[payload + 14..payload + 19].copy_from_slice(&write_time(1, shift(times.decode)));
                }
            }
        }
        written
    }

    /// The segment with other frames in the order shown, each with the times of the one in its place. `frames`: H.264 with start
    /// codes, each after one without a delimiter. None: not as many.
    pub fn with(&self, frames: &[Vec<u8>]) -> Option<Vec<u8>> {
        let shown = super::shown(&self.frames).filter(|shown| shown.len() == frames.len())?;
        let times = |index: usize| {
            let of = |ticks: i64| self.base.wrapping_add_signed(ticks) & TIME_MASK;
            Some((of(*shown.get(index)?), of(self.frames.get(index)?.decode)))
        };
        let mut written = Vec::with_capacity(self.bytes.len());
        let (mut next, mut counter) = (0, None);
        for packet in packets(self.bytes).map_while(Result::ok) {
            if packet.pid != self.pid {
                written.extend_from_slice(packet.bytes);
                continue;
            }
            let counter = counter.get_or_insert(packet.bytes[3] & 0xf);
            if packet.starts {
                let (shown, decode) = times(next)?;
                put(
                    &mut written,
                    (self.pid, counter),
                    packet.clock,
                    next == 0,
                    &elementary(shown, decode, frames.get(next)?),
                );
                next += 1;
            } else if let Some(clock) = packet.clock {
                put_clock(&mut written, (self.pid, *counter), clock);
            }
        }
        (next == frames.len()).then_some(written)
    }
}

/// A packet of the elementary stream.
fn elementary(shown: u64, decode: u64, frame: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, 0, 1, 0xe0, 0, 0, 0x84];
    if shown == decode {
        packet.extend_from_slice(&[0x80, 5]);
        packet.extend_from_slice(&write_time(2, shown));
    } else {
        packet.extend_from_slice(&[0xc0, 10]);
        packet.extend_from_slice(&write_time(3, shown));
        packet.extend_from_slice(&write_time(1, decode));
    }
    packet.extend_from_slice(&DELIMITER);
    packet.extend_from_slice(frame);
    packet
}

/// Cuts it into packets of the transport stream.
fn put(
    written: &mut Vec<u8>,
    (pid, counter): (u16, &mut u8),
    clock: Option<&[u8]>,
    random_access: bool,
    mut data: &[u8],
) {
    let mut starts = true;
    while !data.is_empty() {
        let mut adaptation = Vec::new();
        if starts && (clock.is_some() || random_access) {
            adaptation.push(if random_access { 0x40 } else { 0 } | if clock.is_some() { 0x10 } else { 0 });
            adaptation.extend_from_slice(clock.unwrap_or_default());
        }
        let field = if adaptation.is_empty() { 0 } else { adaptation.len() + 1 };
        let taken = data.len().min(PAYLOAD - field);
        let stuffing = PAYLOAD - field - taken;
        let has_field = field > 0 || stuffing > 0;
        let [high, low] = pid.to_be_bytes();
        let control = if has_field { 0x30 } else { 0x10 };
        written.extend_from_slice(&[0x47, if starts { 0x40 } else { 0 } | high, low, control | *counter]);
        if has_field {
            // The length counts what comes after it; the flags are there unless it is 0.
            let length = PAYLOAD - taken - 1;
            written.push(length as u8);
            if adaptation.is_empty() && length > 0 {
                adaptation.push(0);
            }
            written.extend_from_slice(&adaptation);
            written.resize(written.len() + length - adaptation.len(), 0xff);
        }
        written.extend_from_slice(&data[..taken]);
        data = &data[taken..];
        *counter = (*counter + 1) & 0xf;
        starts = false;
    }
}

/// A packet with nothing but a clock reference. It does not count (§2.4.3.3).
fn put_clock(written: &mut Vec<u8>, (pid, counter): (u16, u8), clock: &[u8]) {
    let [high, low] = pid.to_be_bytes();
    written.extend_from_slice(&[0x47, high, low, 0x20 | counter.wrapping_sub(1) & 0xf, (PAYLOAD - 1) as u8, 0x10]);
    written.extend_from_slice(clock);
    written.resize(written.len() + PAYLOAD - 2 - clock.len(), 0xff);
}

#[cfg(test)]
mod tests;
