//! WebVTT (W3C, "WebVTT: The Web Video Text Tracks Format"): read strictly, written plainly. What a film's subtitles become is shown by
//! browsers, so nothing of them goes out that this module has not understood.
//!
//! Invariants: no panic on any text; what is written is read back the same; a cue's text has no blank line, no arrow, no tag but
//! those of §4.2.2, and no character reference that is none; style sheets, regions and comments are left out; cues and bytes
//! are bounded.

use std::fmt::Write as _;

/// Cues of one file: a talkative film has about three thousand.
pub const CUES_MAX: usize = 50_000;
/// Bytes of one cue's text.
const CUE_BYTES_MAX: usize = 4096;
/// And of what it is made of: lines that begin beyond are not looked at.
const RAW_BYTES_MAX: usize = 16 * CUE_BYTES_MAX;
const TAG_BYTES_MAX: usize = 200;
const HOURS_MAX: u64 = 1000;

/// Text, and when it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cue {
    pub start_ms: u64,
    /// After the start.
    pub end_ms: u64,
    /// Where it stands (§4.4): known settings only, one space between them.
    pub settings: String,
    pub text: String,
}

/// Why a file is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It does not begin as a WebVTT file does.
    NotWebVtt,
    /// A line with an arrow is no cue's times.
    Times,
    /// More cues than allowed.
    TooMany,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotWebVtt => "the subtitles are no WebVTT",
            Self::Times => "a subtitle has no times that can be read",
            Self::TooMany => "there are too many subtitles",
        })
    }
}

/// The cues of a file, in its order. Cues that last no time or have no text are left out. A block without times belongs to the cue before
/// it: some programs write a cue's empty lines as they are.
pub fn parse(file: &str) -> Result<Vec<Cue>, Wrong> {
    let file = file.strip_prefix('\u{feff}').unwrap_or(file);
    let mut lines = file.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).peekable();
    let signature = lines.next().and_then(|line| line.strip_prefix("WEBVTT"));
    if !signature.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t'])) {
        return Err(Wrong::NotWebVtt);
    }
    // The header's own lines.
    while lines.next_if(|line| !line.is_empty() && !line.contains("-->")).is_some() {}
    let mut cues: Vec<Cue> = Vec::new();
    // The text of the last cue, as the file has it.
    let mut raw = String::new();
    let mut block: Vec<&str> = Vec::new();
    for line in lines.chain([""]) {
        if !line.is_empty() {
            block.push(line);
            continue;
        }
        match block.as_slice() {
            [] => {}
            [times, text @ ..] | [_, times, text @ ..] if times.contains("-->") => {
                if cues.len() == CUES_MAX {
                    return Err(Wrong::TooMany);
                }
                let (start_ms, end_ms, settings) = times_of(times).ok_or(Wrong::Times)?;
                if let Some(cue) = cues.last_mut() {
                    cue.text = clean(&raw);
                }
                raw.clear();
                gather(&mut raw, text);
                cues.push(Cue { start_ms, end_ms, settings, text: String::new() });
            }
            [kind, ..] if ["NOTE", "STYLE", "REGION"].iter().any(|known| is_block(kind, known)) => {}
            text => gather(&mut raw, text),
        }
        block.clear();
    }
    if let Some(cue) = cues.last_mut() {
        cue.text = clean(&raw);
    }
    cues.retain(|cue| cue.end_ms > cue.start_ms && !cue.text.is_empty());
    Ok(cues)
}

fn gather(raw: &mut String, lines: &[&str]) {
    for line in lines {
        if raw.len() > RAW_BYTES_MAX {
            return;
        }
        raw.push_str(line);
        raw.push('\n');
    }
}

fn is_block(line: &str, kind: &str) -> bool {
    line.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

/// `00:01.000 --> 00:02.000 line:0`
fn times_of(line: &str) -> Option<(u64, u64, String)> {
    let (start, rest) = line.split_once("-->")?;
    let rest = rest.trim_start_matches([' ', '\t']);
    let (end, settings) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    let known = settings.split_ascii_whitespace().filter(|setting| is_setting(setting));
    Some((time_of(start.trim_matches([' ', '\t']))?, time_of(end)?, known.collect::<Vec<_>>().join(" ")))
}

/// §4.4: the settings that say where a cue stands; a region's name means nothing without its region.
fn is_setting(setting: &str) -> bool {
    let Some((name, value)) = setting.split_once(':') else { return false };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".,%-".contains(&byte);
    matches!(name, "vertical" | "line" | "position" | "size" | "align")
        && (1..=32).contains(&value.len())
        && value.bytes().all(plain)
}

/// Milliseconds of a timestamp (§4.1): hours are optional.
fn time_of(text: &str) -> Option<u64> {
    let number = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        let plain = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|_| plain)
    };
    let (clock, thousandths) = text.split_once('.')?;
    let parts: Vec<&str> = clock.split(':').collect();
    let (hours, minutes, seconds) = match parts.as_slice() {
        [hours, minutes, seconds] => (number(hours, 2..=4)?, minutes, seconds),
        [minutes, seconds] => (0, minutes, seconds),
        _ => return None,
    };
    let (minutes, seconds) = (number(minutes, 2..=2)?, number(seconds, 2..=2)?);
    let fits = hours <= HOURS_MAX && minutes < 60 && seconds < 60;
    fits.then_some(((hours * 60 + minutes) * 60 + seconds) * 1000 + number(thousandths, 3..=3)?)
}

/// A cue's text with nothing in it that a reader could take for something else.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let mut taken = character.len_utf8();
        match character {
            '<' => match tag_end(rest).filter(|end| looks_like_a_tag(&rest[1..*end])) {
                Some(end) => {
                    if is_tag(&rest[1..end]) {
                        out.push_str(&rest[..=end]);
                    }
                    taken = end + 1;
                }
                None => out.push_str("&lt;"),
            },
            '>' => out.push_str("&gt;"),
            '&' => match reference(rest) {
                Some(reference) => {
                    out.push_str(reference);
                    taken = reference.len();
                }
                None => out.push_str("&amp;"),
            },
            '\n' => out.push('\n'),
            '\t' => out.push(' '),
            control if control.is_control() => {}
            other => out.push(other),
        }
        rest = &rest[taken..];
        if out.len() > CUE_BYTES_MAX {
            break;
        }
    }
    let lines = out.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// Where the next `>` is, if it may be a tag's.
fn tag_end(text: &str) -> Option<usize> {
    text.bytes().take(TAG_BYTES_MAX + 1).position(|byte| byte == b'>')
}

/// Whether a reader would take it for a tag; `1 < 2 > 0` is arithmetic.
fn looks_like_a_tag(inside: &str) -> bool {
    !inside.contains('<')
        && (inside.starts_with(|c: char| c.is_ascii_alphabetic() || "/!?".contains(c)) || time_of(inside).is_some())
}

/// What may stand between `<` and `>` (§4.2.2), but for times inside a cue: they would have to move with it.
fn is_tag(inside: &str) -> bool {
    if let Some(end) = inside.strip_prefix('/') {
        return matches!(end, "i" | "b" | "u" | "c" | "v" | "lang" | "ruby" | "rt");
    }
    let (start, note) = inside.split_once(' ').unwrap_or((inside, ""));
    let mut parts = start.split('.');
    let name = parts.next().unwrap_or_default();
    let class =
        |class: &str| !class.is_empty() && class.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let plain = !note.contains(['<', '&']) && !note.contains(char::is_control) && !note.ends_with('-');
    let noted = !note.is_empty() && plain;
    let named = match name {
        "i" | "b" | "u" | "c" | "ruby" | "rt" => !inside.contains(' '),
        "v" | "lang" => noted,
        _ => false,
    };
    named && parts.all(class)
}

/// The character reference a text begins with (HTML, §13.5): those of WebVTT, and numbers.
fn reference(text: &str) -> Option<&str> {
    let end = text.bytes().take(10).position(|byte| byte == b';')?;
    let name = &text[1..end];
    let number = name.strip_prefix('#').and_then(|number| match number.strip_prefix('x') {
        Some(digits) => u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')),
        None => number.parse::<u32>().ok().filter(|_| !number.starts_with('+')),
    });
    let shown = number.and_then(char::from_u32).is_some_and(|character| !character.is_control());
    (shown || matches!(name, "amp" | "lt" | "gt" | "lrm" | "rlm" | "nbsp")).then(|| &text[..=end])
}

/// The cues that are shown at any time from `from_ms` on and before `to_ms`.
pub fn between(cues: &[Cue], from_ms: u64, to_ms: u64) -> Vec<Cue> {
    cues.iter().filter(|cue| cue.end_ms > from_ms && cue.start_ms < to_ms).cloned().collect()
}

/// Cues `offset_ms` earlier; those that would end before zero are left out.
pub fn earlier(cues: Vec<Cue>, offset_ms: i64) -> Vec<Cue> {
    let moved = cues.into_iter().filter_map(|cue| {
        let at = |time: u64| u64::try_from(i64::try_from(time).ok()?.checked_sub(offset_ms)?.max(0)).ok();
        let (start_ms, end_ms) = (at(cue.start_ms)?, at(cue.end_ms)?);
        (end_ms > start_ms).then_some(Cue { start_ms, end_ms, ..cue })
    });
    moved.collect()
}

/// A segment. RFC 8216 §3.5: time 0 of it is time 0 of the other renditions.
pub fn write(cues: &[Cue]) -> String {
    let mut file = String::from("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n");
    for cue in cues {
        let space = if cue.settings.is_empty() { "" } else { " " };
        let (start, end) = (clock(cue.start_ms), clock(cue.end_ms));
        let _ = writeln!(file, "\n{start} --> {end}{space}{}\n{}", cue.settings, cue.text);
    }
    file
}

pub(super) fn clock(time_ms: u64) -> String {
    let seconds = time_ms / 1000;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, time_ms % 1000)
}

#[cfg(test)]
mod tests;
