//! Common Media Client Data (CTA-5004 and its version 2): only where its `nor` (next object request) begins and ends.
//!
//! `nor` is masked whole instead of searched: it is a URL with the tokens of its playlist, and the keys around it are worth
//! keeping in a log.

use super::MASK;
use std::borrow::Cow;

/// Whether this query parameter is CMCD's.
pub(super) fn is_named_in(piece: &str) -> bool {
    piece.as_bytes().windows(4).any(|w| w.eq_ignore_ascii_case(b"cmcd"))
}

/// Masks every `nor`: a string (version 1) or an inner list of strings (version 2). What has no end is masked to the end.
pub(super) fn mask_next_objects(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut written = 0;
    while let Some(value_at) = next_object(text, written) {
        let value = &text[value_at..];
        let length = match value.as_bytes().first() {
            Some(b'"') => string_length(value),
            Some(b'(') => list_length(value),
            _ => value.find(',').unwrap_or(value.len()),
        };
        if &value[..length] == MASK {
            out.push_str(&text[written..value_at + length]);
        } else {
            out.push_str(&text[written..value_at]);
            out.push_str(MASK);
        }
        written = value_at + length;
    }
    if out.is_empty() || out == text[..written] {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[written..]);
    Cow::Owned(out)
}

/// Where the value of the next `nor=` begins, at or after `from`.
fn next_object(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    (from..bytes.len().saturating_sub(3)).find_map(|at| {
        let begins = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        (begins && bytes[at..at + 4].eq_ignore_ascii_case(b"nor=")).then_some(at + 4)
    })
}

/// Length of a quoted string with its quotes; `\` escapes (RFC 9651, section 3.3.3).
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of an inner list with its parentheses (RFC 9651, section 3.1.1).
fn list_length(text: &str) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text.as_bytes()[at] {
            b')' => return at + 1,
            b'"' => at += string_length(&text[at..]),
            _ => at += 1,
        }
    }
    text.len()
}
