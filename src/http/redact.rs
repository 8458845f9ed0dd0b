//! Takes credentials out of anything that is about to be written: request targets, header values, error texts.
//!
//! Media servers put tokens where a generic proxy does not look: in queries (`api_key`, `ApiKey`, `X-Plex-Token`), inside
//! URLs that are themselves query values (Plex's `url=` of `/photo/:/transcode`), and in CMCD's `nor`, which names a sibling
//! segment together with its token (CTA-5004).
//!
//! The rule: a text is cut at `&`; in each piece everything behind the first secret name and its `=` is masked; a piece that
//! holds percent-escapes is decoded and looked at again, five times, and masked whole if it is encoded deeper than
//! that. So it errs towards masking too much. A text without secrets comes back borrowed and unchanged.
//!
//! What it does not see: a secret that is a path segment (no supported origin has one), and one under an encoding other than
//! percent-encoding.

mod cmcd;
mod names;
#[cfg(test)]
mod tests;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;

pub use names::is_secret_name;

/// What stands for a secret.
pub const MASK: &str = "***";

/// How many layers of percent-encoding are looked through.
const DEPTH_MAX: usize = 5;

/// A decoded piece is written back with only what would change its meaning encoded, so that logs stay readable.
const REWRITTEN: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'>');

/// A request target (path and query, or an absolute URL), or any text that may hold one.
pub fn redact_target(target: &str) -> Cow<'_, str> {
    redact_text(target, DEPTH_MAX)
}

/// What of a target may be kept where nobody reads it back as a target: its beginning, up to its first secret. All of it where
/// there is none.
pub fn clear_beginning(target: &str) -> &str {
    match redact_target(target) {
        Cow::Borrowed(_) => target,
        Cow::Owned(redacted) => {
            let common = redacted.bytes().zip(target.bytes()).take_while(|(a, b)| a == b).count();
            &target[..target.floor_char_boundary(common)]
        }
    }
}

/// A header's value. `Authorization` and its kin keep a known scheme only; cookies and tokens keep nothing; every other value is
/// treated as [`redact_target`] treats a target (`Referer`, `Location`, `Link`), CMCD headers lose `nor`.
pub fn redact_header<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if names::is_authorization(name) {
        return match value.split_once(' ') {
            Some((scheme, _)) if names::is_scheme(scheme) => Cow::Owned(format!("{scheme} {MASK}")),
            _ => Cow::Borrowed(MASK),
        };
    }
    if is_secret_name(name) {
        return Cow::Borrowed(MASK);
    }
    if name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("cmcd")) {
        return match cmcd::mask_next_objects(value) {
            Cow::Borrowed(value) => redact_target(value),
            Cow::Owned(masked) => Cow::Owned(redact_target(&masked).into_owned()),
        };
    }
    redact_target(value)
}

fn redact_text(text: &str, depth: usize) -> Cow<'_, str> {
    if !text.bytes().any(|b| matches!(b, b'=' | b'%' | b'@' | b':')) {
        return Cow::Borrowed(text);
    }
    match mask_userinfo(text) {
        Cow::Borrowed(text) => redact_pieces(text, depth),
        Cow::Owned(masked) => Cow::Owned(redact_pieces(&masked, depth).into_owned()),
    }
}

fn redact_pieces(text: &str, depth: usize) -> Cow<'_, str> {
    let mut changed = false;
    let pieces: Vec<Cow<'_, str>> = text
        .split('&')
        .map(|piece| {
            let piece = redact_piece(piece, depth);
            changed |= matches!(piece, Cow::Owned(_));
            piece
        })
        .collect();
    if changed { Cow::Owned(pieces.join("&")) } else { Cow::Borrowed(text) }
}

fn redact_piece(piece: &str, depth: usize) -> Cow<'_, str> {
    if cmcd::is_named_in(piece)
        && let Cow::Owned(masked) = cmcd::mask_next_objects(piece)
    {
        return Cow::Owned(redact_parameter(&masked, depth).into_owned());
    }
    redact_parameter(piece, depth)
}

/// One parameter: masked behind its first secret name, and in what is encoded before that.
fn redact_parameter(piece: &str, depth: usize) -> Cow<'_, str> {
    let Some(value_at) = first_secret(piece) else {
        return redact_encoded(piece, depth);
    };
    let (name, assigned) = piece.split_at(value_at - 1);
    match redact_encoded(name, depth) {
        Cow::Borrowed(_) if &assigned[1..] == MASK => Cow::Borrowed(piece),
        name => Cow::Owned(format!("{name}{}{MASK}", &assigned[..1])),
    }
}

/// Where the value of the first secret name begins. Names end with `=`, with `":` as in JSON, or
/// with `: ` as a header in an error message.
fn first_secret(piece: &str) -> Option<usize> {
    let bytes = piece.as_bytes();
    let mut name_from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let quoted_before = at > 0 && bytes[at - 1] == b'"';
        let space_after = bytes.get(at + 1) == Some(&b' ');
        let assigns = byte == b'=' || (byte == b':' && (quoted_before || space_after));
        if assigns {
            if ends_in_secret_name(&piece[name_from..at]) {
                return Some(at + 1);
            }
            name_from = at + 1;
        }
    }
    None
}

/// Whether the last word of the text, behind any path or separators and however encoded, is a secret name.
fn ends_in_secret_name(text: &str) -> bool {
    let mut name = Cow::Borrowed(text);
    for _ in 0..DEPTH_MAX {
        if !has_escapes(&name) {
            break;
        }
        name = Cow::Owned(percent_decode_str(&name).decode_utf8_lossy().into_owned());
    }
    if has_escapes(&name) {
        return true;
    }
    let not_name = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let name = name.trim_end_matches(not_name);
    is_secret_name(name.rsplit(not_name).next().unwrap_or(name))
}

/// Looks one layer of percent-encoding deeper.
fn redact_encoded(text: &str, depth: usize) -> Cow<'_, str> {
    if !has_escapes(text) {
        return Cow::Borrowed(text);
    }
    if depth == 0 {
        let name = text.split_once('=').map(|(name, _)| name).filter(|name| !has_escapes(name));
        return Cow::Owned(name.map_or_else(|| MASK.to_owned(), |name| format!("{name}={MASK}")));
    }
    let decoded = percent_decode_str(text).decode_utf8_lossy();
    match redact_text(&decoded, depth - 1) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(redacted) => Cow::Owned(utf8_percent_encode(&redacted, REWRITTEN).to_string()),
    }
}

fn has_escapes(text: &str) -> bool {
    text.as_bytes().windows(3).any(|w| w[0] == b'%' && w[1].is_ascii_hexdigit() && w[2].is_ascii_hexdigit())
}

/// `scheme://user:password@host` and `//user@host` (RFC 3986, section 3.2.1).
fn mask_userinfo(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut written = 0;
    let mut from = 0;
    while let Some(slashes) = text[from..].find("//").map(|at| from + at) {
        let authority_at = slashes + 2;
        from = authority_at;
        // Inside a path `//` is an empty segment, and `@` an ordinary character.
        let in_path =
            text[..slashes].ends_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.'));
        if in_path {
            continue;
        }
        let end = text[authority_at..].find(['/', '?', '#', '"', ' ']).map_or(text.len(), |at| authority_at + at);
        if let Some(at) = text[authority_at..end].rfind('@')
            && &text[authority_at..authority_at + at] != MASK
        {
            out.push_str(&text[written..authority_at]);
            out.push_str(MASK);
            written = authority_at + at;
        }
        from = end;
    }
    if written == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[written..]);
    Cow::Owned(out)
}
