//! A record as one line. Everything a client or an origin chose is redacted, cut and escaped here, and nowhere else.

use super::AccessRecord;
use crate::http::redact::{redact_header, redact_target};
use std::borrow::Cow;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// Longest target written, and longest of every other text; what is cut ends with `…`.
const TARGET_BYTES_MAX: usize = 4096;
const TEXT_BYTES_MAX: usize = 512;

/// One JSON object, keys in a fixed order, absent values left out. Durations are seconds.
pub fn json(record: &AccessRecord) -> String {
    let mut line = String::with_capacity(640);
    let mut fields = Fields { line: &mut line };
    fields.text("time", &timestamp(record.time));
    fields.optional("client", record.client.map(|address| address.to_string()).as_deref());
    fields.text("method", &short(&record.method));
    fields.text("scheme", record.scheme);
    fields.text("host", &short(&redact_target(&record.host)));
    fields.text("target", &target(record));
    fields.text("protocol", record.protocol);
    fields.number("status", record.status);
    fields.number("bytes_sent", record.bytes_sent);
    fields.number("bytes_received", record.bytes_received);
    fields.seconds("duration_s", Some(record.duration));
    fields.seconds("first_byte_s", record.first_byte);
    fields.optional("site", record.site.as_deref());
    fields.text("class", record.class);
    fields.text("cache", record.cache);
    if let Some(origin) = &record.origin {
        fields.text("origin", &origin.name);
        fields.optional("origin_server", origin.server.as_deref());
        if let Some(status) = origin.status {
            fields.number("origin_status", status);
        }
        fields.seconds("origin_s", origin.time);
    }
    fields.text("trace_id", &short(&record.trace_id));
    fields.optional("user_agent", header("user-agent", record.user_agent.as_deref()).as_deref());
    fields.optional("referer", header("referer", record.referer.as_deref()).as_deref());
    fields.optional("error", record.error.as_deref().map(|e| short(&redact_target(e)).into_owned()).as_deref());
    line.push('}');
    line
}

/// One line for people: when, what came out, for whom, and what the origin did.
pub fn human(record: &AccessRecord) -> String {
    let mut line = String::with_capacity(320);
    let client = record.client.map_or_else(|| "-".to_owned(), |address| address.to_string());
    let _ = write!(
        line,
        "{} {} {} {} {} {}://{}{} {} {}B {}",
        timestamp(record.time),
        client,
        record.status,
        record.cache,
        word(&record.method),
        record.scheme,
        word(&redact_target(&record.host)),
        word(&target(record)),
        record.protocol,
        record.bytes_sent,
        milliseconds(record.duration),
    );
    if let Some(first_byte) = record.first_byte {
        let _ = write!(line, " first_byte={}", milliseconds(first_byte));
    }
    if let Some(site) = &record.site {
        let _ = write!(line, " site={} class={}", word(site), record.class);
    }
    if let Some(origin) = &record.origin {
        let _ = write!(line, " origin={}", word(&origin.name));
        if let Some(server) = &origin.server {
            let _ = write!(line, "/{}", word(server));
        }
        match origin.status {
            Some(status) => _ = write!(line, ":{status}"),
            None => line.push_str(":-"),
        }
        if let Some(time) = origin.time {
            let _ = write!(line, " origin_time={}", milliseconds(time));
        }
    }
    let _ = write!(line, " trace={}", word(&record.trace_id));
    if let Some(agent) = header("user-agent", record.user_agent.as_deref()) {
        let _ = write!(line, " agent={}", quoted(&agent));
    }
    if let Some(referer) = header("referer", record.referer.as_deref()) {
        let _ = write!(line, " referer={}", quoted(&referer));
    }
    if let Some(error) = &record.error {
        let _ = write!(line, " error={}", quoted(&short(&redact_target(error))));
    }
    line
}

/// Writes a JSON object's fields without building the object.
struct Fields<'a> {
    line: &'a mut String,
}

impl Fields<'_> {
    fn name(&mut self, name: &str) {
        self.line.push(if self.line.is_empty() { '{' } else { ',' });
        let _ = write!(self.line, "\"{name}\":");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.line.push_str(&quoted(value));
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn number(&mut self, name: &str, value: impl std::fmt::Display) {
        self.name(name);
        let _ = write!(self.line, "{value}");
    }

    fn seconds(&mut self, name: &str, value: Option<Duration>) {
        if let Some(value) = value {
            self.number(name, format_args!("{:.6}", value.as_secs_f64()));
        }
    }
}

fn target(record: &AccessRecord) -> String {
    cut(&redact_target(&record.target), TARGET_BYTES_MAX).into_owned()
}

fn header(name: &str, value: Option<&str>) -> Option<String> {
    value.map(|value| short(&redact_header(name, value)).into_owned())
}

fn short(text: &str) -> Cow<'_, str> {
    cut(text, TEXT_BYTES_MAX)
}

/// Always after redaction: half a token would not be recognised, and is still a secret.
fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let end = (0..=bytes_max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// Whether a character could break a line, drive a terminal, or reorder what is shown.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A JSON string, quotes included.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_unsafe(c) => _ = write!(out, "\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A word of the human format: quoted where it could be taken for several.
fn word(text: &str) -> Cow<'_, str> {
    let plain = !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c == '"' || is_unsafe(c));
    if plain { Cow::Borrowed(text) } else { Cow::Owned(quoted(text)) }
}

/// RFC 3339, UTC, milliseconds.
pub fn timestamp(time: SystemTime) -> String {
    let t = time::OffsetDateTime::from(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second(),
        t.millisecond()
    )
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1}ms", duration.as_secs_f64() * 1000.0)
}
