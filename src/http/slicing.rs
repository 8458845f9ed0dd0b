//! Objects kept in parts: what may be kept so, where its granules lie, and how far ahead of a reader the origin is asked.
//!
//! A *granule* is [`GRANULE_BYTES`] of a representation, from a multiple of that size on (the last one may be shorter); a *run* is a
//! contiguous row of granules, fetched by one request. Granules are small, so that an unaligned read costs little more than
//! itself: a range of a MiB touches at most 17, which is 1.0625 times what was asked for.
//!
//! Invariant: granules of two versions are never told as one: a version is its length and a strong validator (RFC 9110 §8.8.1).
//! Absences: no store, no request, no time but what is given.

use super::byte_range::ByteRange;
use super::fields::HeaderView;
use http::StatusCode;
use std::ops::Range;
use std::time::Duration;

/// Part of the stored keys: another size would find none of what is stored.
pub const GRANULE_BYTES: u64 = 64 << 10;
/// A longer object is a lie, and would not leave room to count its granules.
const COMPLETE_MAX: u64 = i64::MAX as u64;
/// The first run for a reader whose end is not known: about what a player reads to find its index.
const FIRST_WINDOW_BYTES: u64 = 512 << 10;
/// The bounds of a run.
const RUN_BYTES_MIN: u64 = 256 << 10;
const RUN_BYTES_MAX: u64 = 4 << 20;
/// How long before the `Date` of its answer a modification date must lie to tell versions apart. RFC 9110 §8.8.2.2 wants a second by the same
/// clock, or so much that clocks do not matter; whether the origin has one clock is not known here.
const MODIFIED_STRONG_AFTER: Duration = Duration::from_secs(60);

/// `Content-Range` (RFC 9110 §14.4) of a single part in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentRange {
    /// `bytes first-last/complete`
    Part { range: ByteRange, complete: u64 },
    /// `bytes */complete`
    Unsatisfied { complete: u64 },
}

impl ContentRange {
    /// None: another unit, malformed, out of bounds, or of unknown complete length, or one that no file has.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (unit, rest) = std::str::from_utf8(value).ok()?.trim().split_once(' ')?;
        let (range, complete) = rest.trim().split_once('/')?;
        let complete = number(complete).filter(|complete| *complete <= COMPLETE_MAX)?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        if range == "*" {
            return Some(Self::Unsatisfied { complete });
        }
        let (first, last) = range.split_once('-')?;
        let range = ByteRange { first: number(first)?, last: number(last)? };
        (range.first <= range.last && range.last < complete).then_some(Self::Part { range, complete })
    }

    /// Of an answer; one that has several says nothing.
    pub fn of(headers: &impl HeaderView) -> Option<Self> {
        let mut values = headers.all("content-range");
        let value = values.next()?;
        if values.next().is_some() { None } else { Self::parse(value) }
    }
}

fn number(digits: &str) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// What tells one version of an object from another beyond doubt, as the origin wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validator {
    /// A strong entity-tag, with its quotes.
    Tag(String),
    /// A modification date that is strong by RFC 9110 §8.8.2.2, and the entity-tag beside it, which is not: one that differs is of another
    /// version all the same.
    Modified { date: String, tag: Option<String> },
}

impl Validator {
    /// The strong validator of an answer as it came with its bytes. (A 304 brings a later `Date`, which says nothing of when they came:
    /// see [`crate::http::freshness::Storable::strong_date`].)
    pub fn strong(headers: &impl HeaderView) -> Option<Self> {
        let tag = single(headers, "etag");
        if let Some(tag) = tag {
            let bytes = tag.as_bytes();
            let inner = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            if bytes.len() >= 2 && inner.is_some_and(|inner| !inner.contains(['"', ' '])) {
                return Some(Self::Tag(tag.to_owned()));
            }
        }
        let date = strong_date(headers)?.to_owned();
        Some(Self::Modified { date, tag: tag.map(str::to_owned) })
    }

    /// As `If-Range` carries it (RFC 9110 §13.1.5).
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tag(text) | Self::Modified { date: text, .. } => text,
        }
    }

    /// All that tells this version from others, as text.
    pub fn version(&self) -> String {
        match self {
            Self::Tag(text) | Self::Modified { date: text, tag: None } => text.clone(),
            Self::Modified { date, tag: Some(tag) } => format!("{date} {}", opaque(tag)),
        }
    }

    /// It counts only where the answer was dated late enough.
    pub fn is_date(&self) -> bool {
        matches!(self, Self::Modified { .. })
    }

    /// Whether a 206 to a request with `If-Range` is of this version. It must carry an entity-tag where the whole answer
    /// would (RFC 9110 §15.3.7), but may leave out a modification date.
    fn is_of(&self, headers: &impl HeaderView) -> bool {
        let named = single(headers, "etag");
        match self {
            Self::Tag(tag) => named == Some(tag),
            Self::Modified { date, tag } => {
                let differs = tag.as_ref().zip(named).is_some_and(|(tag, named)| opaque(tag) != opaque(named));
                !differs && single(headers, "last-modified").is_none_or(|named| named == date)
            }
        }
    }
}

/// Entity-tags are compared weakly by this (RFC 9110 §8.8.3.2).
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// The modification date of an answer as it came, where that is strong.
pub fn strong_date(headers: &impl HeaderView) -> Option<&str> {
    let text = single(headers, "last-modified")?;
    let modified = httpdate::parse_http_date(text).ok()?;
    let date = httpdate::parse_http_date(single(headers, "date")?).ok()?;
    date.duration_since(modified).is_ok_and(|age| age >= MODIFIED_STRONG_AFTER).then_some(text)
}

fn single<'a>(headers: &'a impl HeaderView, name: &'a str) -> Option<&'a str> {
    let mut values = headers.all(name);
    let value = values.next()?;
    if values.next().is_some() { None } else { std::str::from_utf8(value).ok().map(str::trim) }
}

/// The validator by which the rest of a body that began with this head can be asked for: it tells versions apart, the bytes are the
/// identity form, and the origin does not say that it knows no ranges.
pub fn resumable(headers: &impl HeaderView) -> Option<Validator> {
    let refused = super::fields::list(headers.all("accept-ranges")).any(|unit| unit.eq_ignore_ascii_case(b"none"));
    if refused || is_coded(headers) { None } else { Validator::strong(headers) }
}

/// What the answer to a first request for a part says about the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// It can be kept in parts; this one came.
    Sliced { complete: u64, validator: Validator, part: ByteRange },
    /// All of it came, and it is of known length.
    Whole { complete: u64 },
    /// Too small to be kept in parts, and only this much of it came.
    Small,
    /// Nothing of the range exists; how long the object is.
    Beyond { complete: u64 },
    /// It cannot be kept in parts: coded, without a strong validator, or the range was not understood.
    Ordinary,
}

/// Reads the answer to a request for one range of an object nothing is known of.
pub fn shape(status: StatusCode, headers: &impl HeaderView, bytes_min: u64) -> Shape {
    let length = single(headers, "content-length").and_then(number);
    match (status.as_u16(), ContentRange::of(headers)) {
        (200, _) => length.map_or(Shape::Ordinary, |complete| Shape::Whole { complete }),
        (416, Some(ContentRange::Unsatisfied { complete })) => Shape::Beyond { complete },
        (206, Some(ContentRange::Part { range, complete })) => {
            if length.is_some_and(|length| length != range.length()) {
                return Shape::Ordinary;
            }
            if complete < bytes_min {
                return if range.length() == complete { Shape::Whole { complete } } else { Shape::Small };
            }
            match Validator::strong(headers) {
                Some(validator) if !is_coded(headers) => Shape::Sliced { complete, validator, part: range },
                _ => Shape::Ordinary,
            }
        }
        _ => Shape::Ordinary,
    }
}

/// Whether the bytes are another than the identity form: parts of those mean nothing by themselves.
fn is_coded(headers: &impl HeaderView) -> bool {
    super::fields::list(headers.all("content-encoding")).any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// What the answer to a run's request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// These bytes of the expected version.
    Same(ByteRange),
    /// The origin has another version, or none.
    Changed,
    /// No bytes, and no word about the version.
    Refused,
}

/// Reads the answer to a request for `asked` of this version, guarded by `If-Range`.
pub fn judge(
    status: StatusCode,
    headers: &impl HeaderView,
    asked: ByteRange,
    complete: u64,
    validator: &Validator,
) -> Verdict {
    match status.as_u16() {
        206 => match ContentRange::of(headers) {
            Some(ContentRange::Part { range, complete: now }) => {
                if now != complete || !validator.is_of(headers) || is_coded(headers) {
                    Verdict::Changed
                } else if range.first != asked.first || range.last > asked.last {
                    Verdict::Refused
                } else {
                    Verdict::Same(range)
                }
            }
            _ => Verdict::Refused,
        },
        200 | 404 | 410 | 412 | 416 => Verdict::Changed,
        _ => Verdict::Refused,
    }
}

/// The granules that a range touches.
pub fn granules(range: ByteRange) -> Range<u64> {
    range.first / GRANULE_BYTES..range.last / GRANULE_BYTES + 1
}

/// The bytes of these granules, of an object this long. None: beyond its end.
pub fn bytes_of(granules: Range<u64>, complete: u64) -> Option<ByteRange> {
    let first = granules.start.checked_mul(GRANULE_BYTES)?;
    let end = granules.end.saturating_mul(GRANULE_BYTES).min(complete);
    (first < end).then(|| ByteRange { first, last: end - 1 })
}

/// How far ahead of one reader the origin is asked.
///
/// The window doubles when the reader had to wait although it had been read ahead, so a slow client keeps a small one and a fast
/// client of a slow origin gets several runs at once.
#[derive(Debug, Clone, Copy)]
pub struct ReadAhead {
    window_bytes: u64,
    bytes_max: u64,
    /// Where the window last grew: it grows once for each half of it that was read.
    grown_at: u64,
}

impl ReadAhead {
    /// `bounded_bytes`: how much the reader asked for by name, 0 where it may stop anywhere.
    pub fn new(position: u64, bounded_bytes: u64, bytes_max: u64) -> Self {
        let window_bytes = FIRST_WINDOW_BYTES.max(bounded_bytes.min(RUN_BYTES_MAX)).min(bytes_max);
        Self { window_bytes, bytes_max, grown_at: position }
    }

    /// The reader at `position` had to wait for the origin.
    pub fn waited(&mut self, position: u64) {
        if position.saturating_sub(self.grown_at) >= self.window_bytes / 2 {
            self.window_bytes = (2 * self.window_bytes).min(self.bytes_max);
            self.grown_at = position;
        }
    }

    /// How many bytes to ask for from `asked_to` on, when the reader is at `position` and ends at `end`. None: enough is on its
    /// way. `bounded`: the reader wants everything up to `end`.
    pub fn next_run(&self, position: u64, asked_to: u64, end: u64, bounded: bool) -> Option<u64> {
        let left = end.checked_sub(asked_to).filter(|left| *left > 0)?;
        let ahead = asked_to.saturating_sub(position);
        let run = if ahead == 0 && bounded { self.window_bytes } else { self.window_bytes / 4 };
        let run = run.clamp(RUN_BYTES_MIN, RUN_BYTES_MAX).min(left);
        (ahead == 0 || ahead + run <= self.window_bytes).then_some(run)
    }
}

#[cfg(test)]
mod tests;
