//! A whole input into a trace. A line that is wrong is counted and skipped, until there are too many to believe the format.

use std::io::{BufRead, Read};

use super::format::Format;
use super::oracle_general::{self, RECORD_BYTES};
use super::reference::{KeyRules, Parsed};
use super::trace::TraceBuilder;
use super::{combined, csv, json};

/// How much of an input's beginning is enough to guess its format.
pub const HEAD_BYTES_MAX: usize = 4096;
/// The longest line looked at; ours are shorter than 16 KiB.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// From this many wrong lines on, more than one in ten is too many.
const WRONG_LINES_MIN: u64 = 1000;

/// What was in an input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records, or lines that are not empty.
    pub lines: u64,
    /// Understood, but no request of a cache.
    pub not_cached: u64,
    pub wrong: u64,
    /// The number of the first wrong line, from one, and what is wrong with it.
    pub first_wrong: Option<(u64, &'static str)>,
}

/// Why an input could not be used.
#[derive(Debug)]
pub enum ReadError {
    Io(std::io::Error),
    /// Too many wrong lines, or no good one.
    Wrong {
        format: Format,
        counts: Counts,
    },
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Wrong { format, counts } => {
                let (line, what) = counts.first_wrong.unwrap_or_default();
                let (wrong, lines) = (counts.wrong, counts.lines);
                write!(f, "line {line}: {what}; {wrong} of {lines} lines are no {}: give --format", format.name())
            }
        }
    }
}

impl std::error::Error for ReadError {}

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl Counts {
    fn wrong(&mut self, number: u64, what: &'static str) {
        self.wrong += 1;
        self.first_wrong.get_or_insert((number, what));
    }
}

/// Reads `input` to its end into `trace`.
///
/// # Errors
/// The input cannot be read, or is not of this format.
pub fn read(
    input: &mut dyn BufRead,
    format: Format,
    keys: &KeyRules<'_>,
    trace: &mut TraceBuilder,
) -> Result<Counts, ReadError> {
    let mut counts = Counts::default();
    if format == Format::OracleGeneral {
        read_records(input, trace, &mut counts)?;
    } else {
        read_lines(input, format, keys, trace, &mut counts)?;
    }
    if counts.wrong > 0 && counts.wrong == counts.lines {
        return Err(ReadError::Wrong { format, counts });
    }
    Ok(counts)
}

fn read_lines(
    input: &mut dyn BufRead,
    format: Format,
    keys: &KeyRules<'_>,
    trace: &mut TraceBuilder,
    counts: &mut Counts,
) -> Result<(), ReadError> {
    let mut line = Vec::new();
    let mut number = 0;
    while let Some(is_whole) = next_line(input, &mut line)? {
        let text = line.trim_ascii();
        number += 1;
        if text.is_empty() || (format == Format::Csv && number == 1 && csv::is_header(text)) {
            continue;
        }
        counts.lines += 1;
        let parsed: Parsed = match format {
            _ if !is_whole => Err("the line is too long"),
            Format::Json => json::parse(text, keys),
            Format::Combined => combined::parse(text),
            Format::Csv | Format::OracleGeneral => csv::parse(text),
        };
        match parsed {
            Ok(Some(reference)) => trace.add(reference),
            Ok(None) => counts.not_cached += 1,
            Err(what) => counts.wrong(number, what),
        }
        if counts.wrong > WRONG_LINES_MIN && counts.wrong > counts.lines / 10 {
            return Err(ReadError::Wrong { format, counts: *counts });
        }
    }
    Ok(())
}

/// The next line, newline included; None at the end, false if it was too long (the rest of it is skipped).
fn next_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> std::io::Result<Option<bool>> {
    let bounded = |input: &mut dyn BufRead, line: &mut Vec<u8>| {
        line.clear();
        input.take(LINE_BYTES_MAX as u64).read_until(b'\n', line)
    };
    if bounded(input, line)? == 0 {
        return Ok(None);
    }
    if line.len() < LINE_BYTES_MAX || line.ends_with(b"\n") {
        return Ok(Some(true));
    }
    while bounded(input, line)? > 0 && !line.ends_with(b"\n") {}
    // Not to be mistaken for an empty line.
    line.clear();
    line.push(b'?');
    Ok(Some(false))
}

fn read_records(input: &mut dyn BufRead, trace: &mut TraceBuilder, counts: &mut Counts) -> Result<(), ReadError> {
    let mut record = [0; RECORD_BYTES];
    loop {
        let mut got = 0;
        while got < RECORD_BYTES {
            match input.read(&mut record[got..]) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if got == 0 {
            return Ok(());
        }
        counts.lines += 1;
        if got == RECORD_BYTES {
            trace.add(oracle_general::parse(&record));
        } else {
            counts.wrong(counts.lines, "the last record is cut short");
        }
    }
}
