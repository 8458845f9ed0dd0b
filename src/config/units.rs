//! Quantities as people write them: sizes (`512MiB`, `1GB`, `4096`) and durations (`30s`, `1m30s`, `250ms`), and
//! write budgets (`500GiB` a day, `20MiB/s`, `0.5dwpd`).
//!
//! Invariants: integer arithmetic only, so nothing is rounded; what [`ByteSize`] and [`TimeSpan`] print, they read back
//! to the same value. A duration without a unit is refused: nobody knows whether `30` means seconds or milliseconds.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A number of bytes, up to 2⁶³ − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A length of time in whole milliseconds, up to ten years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(pub Duration);

/// How much may be written to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteBudget {
    BytesPerDay(u64),
    BytesPerSecond(u64),
    /// Thousandths of the disk's size a day.
    MilliDrivesPerDay(u64),
}

/// Longest accepted duration: ten years. More is a slip, and some timers overflow.
const SPAN_MS_MAX: u64 = 3650 * 86_400_000;

/// Name in lower case and bytes; the binary ones first from the largest, as they are printed.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("B", 1),
];

/// Name and milliseconds, from the largest.
const SPAN_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl ByteSize {
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// Reads a size.
    ///
    /// # Errors
    /// Says what is wrong and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        const HOW: &str = "write a whole number of bytes or with a unit, like 512MiB or 20GB";
        let text = text.trim();
        if text.starts_with('-') {
            return Err(format!("a size cannot be negative; {HOW}"));
        }
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let unit = unit.trim();
        if digits.is_empty() {
            return Err(format!("not a size; {HOW}"));
        }
        if unit.starts_with(['.', ',']) {
            return Err("sizes are whole numbers; use a smaller unit, like 1536MiB instead of 1.5GiB".to_owned());
        }
        let factor = if unit.is_empty() {
            1
        } else if let Some((_, factor)) = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
            *factor
        } else if let [letter] = unit.as_bytes()
            && b"kmgtKMGT".contains(letter)
        {
            let letter = letter.to_ascii_uppercase() as char;
            return Err(format!("`{unit}` is ambiguous; write {letter}iB (1024-based) or {letter}B (1000-based)"));
        } else {
            return Err(format!("unknown size unit `{}`; use B, KiB, MiB, GiB, TiB, KB, MB, GB or TB", excerpt(unit)));
        };
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        match bytes {
            Some(bytes) if i64::try_from(bytes).is_ok() => Ok(Self(bytes)),
            _ => Err("this size is too large; the most is 8388607TiB".to_owned()),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS.iter().find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        match unit {
            Some((name, factor)) if *factor > 1 => write!(f, "{}{name}", self.0 / factor),
            _ => write!(f, "{}B", self.0),
        }
    }
}

impl TimeSpan {
    pub const fn secs(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }

    /// Reads a duration.
    ///
    /// # Errors
    /// Says what is wrong and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        const HOW: &str = "write a number with a unit (ms, s, m, h, d), like 30s, 1m30s or 250ms";
        let mut rest = text.trim();
        if rest.starts_with('-') {
            return Err(format!("a duration cannot be negative; {HOW}"));
        }
        if rest.is_empty() {
            return Err(format!("not a duration; {HOW}"));
        }
        let too_long = || "this duration is too long; the most is 3650d".to_owned();
        let mut total_ms = 0u64;
        let mut unit_before = u64::MAX;
        while !rest.is_empty() {
            let digits_end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (digits, tail) = rest.split_at(digits_end);
            let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            if digits.is_empty() {
                return Err(format!("not a duration; {HOW}"));
            }
            if unit.is_empty() {
                return Err(if tail.starts_with(['.', ',']) {
                    "durations are whole numbers; use a smaller unit, like 1500ms instead of 1.5s".to_owned()
                } else if rest == text.trim() {
                    format!("a duration needs a unit; did you mean {digits}s?")
                } else {
                    format!("`{digits}` has no unit; {HOW}")
                });
            }
            let Some((_, factor)) = SPAN_UNITS.iter().find(|(name, _)| *name == unit) else {
                return Err(format!("unknown duration unit `{}`; use ms, s, m, h or d", excerpt(unit)));
            };
            if *factor >= unit_before {
                return Err("write the units from large to small, each once, like 1h30m".to_owned());
            }
            unit_before = *factor;
            let part = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
            total_ms = part.and_then(|part| total_ms.checked_add(part)).ok_or_else(too_long)?;
            rest = tail;
        }
        if total_ms > SPAN_MS_MAX { Err(too_long()) } else { Ok(Self(Duration::from_millis(total_ms))) }
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, factor) in SPAN_UNITS {
            if rest >= factor {
                write!(f, "{}{name}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

impl WriteBudget {
    /// Reads a budget.
    ///
    /// # Errors
    /// Says what is wrong and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        const HOW: &str = "write bytes a day (500GiB), bytes a second (20MiB/s) or drive writes per day (0.5dwpd)";
        let text = text.trim();
        if let Some(drives) = text.strip_suffix("dwpd") {
            let (whole, part) = drives.trim().split_once('.').unwrap_or((drives.trim(), "0"));
            let digits = |text: &str| !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
            if !digits(whole) || !digits(part) || part.len() > 3 {
                return Err(format!("`{}` is not a number of drive writes; {HOW}", excerpt(drives)));
            }
            let thousandths = format!("{whole}{part:0<3}").parse::<u64>().map_err(|_| HOW.to_owned())?;
            return nonzero(thousandths).map(Self::MilliDrivesPerDay);
        }
        let (size, rate) = match text.rsplit_once('/') {
            Some((size, "s")) => (size, true),
            Some((size, "d" | "day")) => (size, false),
            Some((_, unit)) => return Err(format!("unknown unit of time `{}`; {HOW}", excerpt(unit))),
            None => (text, false),
        };
        let bytes = nonzero(ByteSize::parse(size)?.0)?;
        Ok(if rate { Self::BytesPerSecond(bytes) } else { Self::BytesPerDay(bytes) })
    }
}

fn nonzero(budget: u64) -> Result<u64, String> {
    if budget == 0 {
        Err("a budget of nothing writes nothing; leave the disk out instead".to_owned())
    } else {
        Ok(budget)
    }
}

impl fmt::Display for WriteBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BytesPerDay(bytes) => write!(f, "{}", ByteSize(*bytes)),
            Self::BytesPerSecond(bytes) => write!(f, "{}/s", ByteSize(*bytes)),
            Self::MilliDrivesPerDay(drives) => write!(f, "{}.{:03}dwpd", drives / 1000, drives % 1000),
        }
    }
}

/// The first characters of a value, for messages.
pub(super) fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    if text.chars().count() <= CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(CHARS_MAX).chain(['…']).collect()
}

macro_rules! quantity {
    ($type:ident, $schema:expr) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

quantity!(
    ByteSize,
    json_schema!({
        "type": ["string", "integer"],
        "format": "byte-size",
        "pattern": r"^\s*[0-9]+\s*([KkMmGgTt]?[Ii]?[Bb])?\s*$|\$\{",
    })
);
quantity!(
    TimeSpan,
    json_schema!({
        "type": "string",
        "format": "time-span",
        "pattern": r"^([0-9]+(ms|s|m|h|d))+$|\$\{",
    })
);
quantity!(
    WriteBudget,
    json_schema!({
        "type": ["string", "integer"],
        "format": "write-budget",
        "pattern": r"^\s*([0-9]+\s*([KkMmGgTt]?[Ii]?[Bb])?(/(s|d|day))?|[0-9]+(\.[0-9]{1,3})?\s*dwpd)\s*$|\$\{",
    })
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn budgets_by_the_day_the_second_and_the_drive() {
        for (text, budget) in [
            ("500GiB", WriteBudget::BytesPerDay(500 << 30)),
            ("1TB/d", WriteBudget::BytesPerDay(1_000_000_000_000)),
            ("20MiB/s", WriteBudget::BytesPerSecond(20 << 20)),
            ("0.5dwpd", WriteBudget::MilliDrivesPerDay(500)),
            ("3 dwpd", WriteBudget::MilliDrivesPerDay(3000)),
        ] {
            assert_eq!(WriteBudget::parse(text), Ok(budget), "{text}");
            assert_eq!(WriteBudget::parse(&budget.to_string()), Ok(budget), "{text}");
        }
        for (text, advice) in [("5GiB/h", "20MiB/s"), ("0", "leave"), ("0.0001dwpd", "0.5dwpd"), ("xdwpd", "0.5dwpd")] {
            let error = WriteBudget::parse(text).unwrap_err();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_with_and_without_units() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("20GiB", 20 << 30),
            ("1GB", 1_000_000_000),
            ("4096", 4096),
            ("16 kib", 16 << 10),
            ("7b", 7),
        ] {
            assert_eq!(ByteSize::parse(text), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn bad_sizes_come_with_advice() {
        for (text, advice) in [
            ("-1MiB", "negative"),
            ("512M", "MiB"),
            ("1.5GiB", "1536MiB"),
            ("99999999999TiB", "too large"),
            ("99999999999999999999", "too large"),
            ("five", "512MiB"),
            ("3 parsecs", "GiB"),
            ("", "512MiB"),
        ] {
            let error = ByteSize::parse(text).unwrap_err();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }

    #[test]
    fn durations_with_units() {
        for (text, ms) in
            [("30s", 30_000), ("1m30s", 90_000), ("250ms", 250), ("2h", 7_200_000), ("1d", 86_400_000), ("0s", 0)]
        {
            assert_eq!(TimeSpan::parse(text), Ok(TimeSpan(Duration::from_millis(ms))), "{text}");
        }
    }

    #[test]
    fn bad_durations_come_with_advice() {
        for (text, advice) in [
            ("30", "30s"),
            ("-5s", "negative"),
            ("1.5s", "1500ms"),
            ("5 minutes", "unit"),
            ("5min", "ms, s, m, h or d"),
            ("30s1m", "large to small"),
            ("1s1s", "each once"),
            ("1m30", "no unit"),
            ("99999999999999999999s", "too long"),
            ("4000d", "too long"),
            ("", "1m30s"),
        ] {
            let error = TimeSpan::parse(text).unwrap_err();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bytes in 0..=i64::MAX as u64, ms in 0..=SPAN_MS_MAX) {
            let size = ByteSize(bytes);
            prop_assert_eq!(ByteSize::parse(&size.to_string()), Ok(size));
            let span = TimeSpan(Duration::from_millis(ms));
            prop_assert_eq!(TimeSpan::parse(&span.to_string()), Ok(span));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = ByteSize::parse(&text);
            let _ = TimeSpan::parse(&text);
            let _ = WriteBudget::parse(&text);
        }
    }
}
