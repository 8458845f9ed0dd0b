//! The bytes of the log of bans: pure, no file.
//!
//! All numbers little-endian. The file is a header and records:
//!
//! | header | bytes |
//! |---|---|
//! | `RGBANLOG` | 8 |
//! | version of the format, 1 | 4 |
//! | name and hash key of the log ([`Identity`]) | 8 + 16 |
//! | floor: no number up to it will be given to a ban again | 8 |
//! | sum of the above | 8 |
//!
//! | record | bytes |
//! |---|---|
//! | length of the body | 4 |
//! | sum of the chain and the length, its lower half | 4 |
//! | body: number 8, nanoseconds since 1970 8, soft 1, kind 1, and what it reaches: nothing, a key 16, a tag's hash 8, a prefix | 18 and more |
//! | sum of the chain and the body | 8 |
//!
//! A sum is the identity's hash; the chain is the sum before it, the header's at first. So a record cannot be left out, doubled or
//! moved unnoticed, and a length that was changed is not taken for one that the file ends too early for. There is no text of a key
//! and no tag in it, only of prefixes, as they were asked for.
//!
//! Invariant: a file that ends within a record is torn (the record was never acknowledged); anything else that is wrong is
//! damage, and nothing behind it is believed.

use std::time::{Duration, SystemTime};

use super::super::bytes::Reader;
use super::super::identity::Identity;
use super::super::table::{PREFIX_BYTES_MAX, Reach, Record};

const MAGIC: [u8; 8] = *b"RGBANLOG";
const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 8 + 4 + Identity::BYTES + 8 + 8;
/// A record's bytes around its body.
const FRAME_BYTES: usize = 4 + 4 + 8;
/// A body's bytes before what it reaches.
const FACTS_BYTES: usize = 8 + 8 + 1 + 1;
const BODY_BYTES_MAX: usize = FACTS_BYTES + PREFIX_BYTES_MAX;

/// What a log holds.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) identity: Identity,
    /// The largest number ever given to a ban, as far as the log knows.
    pub(super) latest: u64,
    pub(super) records: Vec<Record>,
    /// The last record is not whole.
    pub(super) torn: bool,
}

/// A log that cannot be believed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) what: &'static str,
    /// The byte of the file at which reading ended.
    pub(super) at: usize,
    /// The largest number seen before.
    pub(super) latest: u64,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// Writes a log, header first.
#[derive(Debug)]
pub(super) struct Encoder {
    identity: Identity,
    chain: u64,
    /// What was encoded and not yet taken.
    pub(super) bytes: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(identity: Identity, floor: u64) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(identity.to_bytes());
        bytes.extend(floor.to_le_bytes());
        let chain = identity.hash(&[&bytes]);
        bytes.extend(chain.to_le_bytes());
        Self { identity, chain, bytes }
    }

    pub(super) fn push(&mut self, record: &Record) {
        let mut body = Vec::with_capacity(FACTS_BYTES + 16);
        body.extend(record.number.to_le_bytes());
        body.extend(nanoseconds(record.at).to_le_bytes());
        body.push(u8::from(record.soft));
        match &record.reach {
            Reach::All => body.push(0),
            Reach::Key(key) => {
                body.push(1);
                body.extend(key.to_le_bytes());
            }
            Reach::Tag(tag) => {
                body.push(2);
                body.extend(tag.to_le_bytes());
            }
            Reach::Prefix(prefix) => {
                body.push(3);
                body.extend(prefix.iter());
            }
        }
        let chain = self.chain.to_le_bytes();
        let length = u32::try_from(body.len()).expect("prefixes are short").to_le_bytes();
        self.bytes.extend(length);
        self.bytes.extend((self.identity.hash(&[&chain, &length]) as u32).to_le_bytes());
        self.chain = self.identity.hash(&[&chain, &body]);
        self.bytes.extend(body);
        self.bytes.extend(self.chain.to_le_bytes());
    }
}

/// How many bytes a record takes.
pub(super) fn record_bytes(record: &Record) -> u64 {
    let reach = match &record.reach {
        Reach::All => 0,
        Reach::Key(_) => 16,
        Reach::Tag(_) => 8,
        Reach::Prefix(prefix) => prefix.len(),
    };
    (FRAME_BYTES + FACTS_BYTES + reach) as u64
}

/// Reads a whole log.
pub(super) fn read(file: &[u8]) -> Result<Contents, Damage> {
    let mut rest = Reader(file);
    let damage = |what, rest: Reader<'_>, latest| Damage { what, at: file.len() - rest.0.len(), latest };
    let Some((identity, latest, mut chain)) = read_header(&mut rest) else {
        return Err(damage("no header of version 1", rest, 0));
    };
    let mut contents = Contents { identity, latest, records: Vec::new(), torn: false };
    while !rest.0.is_empty() {
        let at = rest;
        let (Some(length), Some(check)) = (rest.array::<4>(), rest.u32()) else {
            contents.torn = true;
            break;
        };
        if identity.hash(&[&chain.to_le_bytes(), &length]) as u32 != check {
            return Err(damage("a record whose length is not what was written", at, contents.latest));
        }
        let length = u32::from_le_bytes(length) as usize;
        if !(FACTS_BYTES..=BODY_BYTES_MAX).contains(&length) {
            return Err(damage("a record of a length none has", at, contents.latest));
        }
        let (Some(body), Some(sum)) = (rest.take(length), rest.u64()) else {
            contents.torn = true;
            break;
        };
        if identity.hash(&[&chain.to_le_bytes(), body]) != sum {
            return Err(damage("a record that is not what was written", at, contents.latest));
        }
        chain = sum;
        let Some(record) = read_body(body) else {
            return Err(damage("a record of no known kind", at, contents.latest));
        };
        contents.latest = contents.latest.max(record.number);
        contents.records.push(record);
    }
    Ok(contents)
}

fn read_header(rest: &mut Reader<'_>) -> Option<(Identity, u64, u64)> {
    let header = rest.take(HEADER_BYTES)?;
    let mut fields = Reader(header);
    if fields.array()? != MAGIC || fields.u32()? != VERSION {
        return None;
    }
    let identity = Identity::from_bytes(&fields.array()?);
    let floor = fields.u64()?;
    let sum = fields.u64()?;
    (identity.hash(&[&header[..HEADER_BYTES - 8]]) == sum).then_some((identity, floor, sum))
}

fn read_body(body: &[u8]) -> Option<Record> {
    let mut fields = Reader(body);
    let (number, at, soft, kind) = (fields.u64()?, fields.u64()?, fields.u8()?, fields.u8()?);
    let reach = match kind {
        0 => Reach::All,
        1 => Reach::Key(fields.u128()?),
        2 => Reach::Tag(fields.u64()?),
        3 => Reach::Prefix(fields.take(fields.0.len())?.into()),
        _ => return None,
    };
    fields.end()?;
    let soft = match soft {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(Record { number, soft, at: SystemTime::UNIX_EPOCH + Duration::from_nanos(at), reach })
}

/// Before 1970 and after 2554 is no time of a purge.
fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
