//! What is wrong with a file and where: every message has a file, line, column, the line itself and advice.
//!
//! Invariants: a list never grows beyond the first hundred; a snippet never shows a credential (its characters become
//! stars, so that the caret stays where it was); rendering needs no terminal, colour is the caller's choice.

use serde::Serialize;
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

/// More than this are only counted: nobody reads them, and a hostile file could ask for a million.
pub const DIAGNOSTICS_MAX: usize = 100;
/// Longer source lines are cut around the caret.
const SNIPPET_CHARS_MAX: usize = 160;

/// An error refuses the file, a warning does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// A place in the source; lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    pub line: usize,
    pub column: usize,
    /// Characters to underline; at least one is.
    pub length: usize,
}

/// One mistake, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// 0: the file as a whole.
    pub line: usize,
    pub column: usize,
    pub length: usize,
    /// The source line, credentials starred out.
    pub snippet: String,
}

/// Everything found in one file, in source order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    pub file: PathBuf,
    pub list: Vec<Diagnostic>,
    /// How many more there were beyond the first hundred.
    pub omitted: usize,
}

impl Diagnostics {
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), list: Vec::new(), omitted: 0 }
    }

    /// One error about the file as a whole.
    pub fn whole_file(file: &Path, message: impl Into<String>, advice: Option<&str>) -> Self {
        let mut diagnostics = Self::new(file);
        diagnostics.push(Severity::Error, Place::default(), "", message.into(), advice.map(str::to_owned));
        diagnostics
    }

    /// Adds one, unless the same was said of the same place. `source` is the whole text.
    pub fn push(&mut self, severity: Severity, place: Place, source: &str, message: String, advice: Option<String>) {
        if self.list.len() >= DIAGNOSTICS_MAX {
            self.omitted += 1;
            return;
        }
        let line = place.line.checked_sub(1).and_then(|index| source.lines().nth(index)).unwrap_or_default();
        let found = Diagnostic {
            severity,
            message,
            advice,
            line: place.line,
            column: place.column,
            length: place.length,
            snippet: star_out_credentials(line),
        };
        if !self.list.contains(&found) {
            self.list.push(found);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|found| found.severity == Severity::Error)
    }

    pub fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|found| found.severity == severity).count()
    }

    /// In source order, for reading from top to bottom.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|found| (found.line, found.column));
    }

    /// For people: one block each. With `colour`, ANSI colours.
    pub fn render(&self, colour: bool) -> String {
        let mut out = String::new();
        for found in &self.list {
            // Writing to a String cannot fail.
            let _ = found.render(&self.file, colour, &mut out);
        }
        if self.omitted > 0 {
            let _ = writeln!(out, "… and {} more", self.omitted);
        }
        out
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Diagnostics {}

impl Diagnostic {
    fn render(&self, file: &Path, colour: bool, out: &mut String) -> fmt::Result {
        let paint = |code: &'static str| if colour { code } else { "" };
        let (bold, blue, plain) = (paint("\x1b[1m"), paint("\x1b[1;34m"), paint("\x1b[0m"));
        let (word, tint) = match self.severity {
            Severity::Error => ("error", paint("\x1b[1;31m")),
            Severity::Warning => ("warning", paint("\x1b[1;33m")),
        };
        writeln!(out, "{tint}{word}{plain}{bold}: {}{plain}", self.message)?;
        let file = file.display();
        if self.line == 0 {
            writeln!(out, "  {blue}-->{plain} {file}")?;
        } else {
            let (snippet, caret_at) = self.window();
            let number = self.line.to_string();
            let gutter = " ".repeat(number.len());
            let room = snippet.chars().count().saturating_sub(caret_at).max(1);
            let carets = "^".repeat(self.length.clamp(1, room));
            let pad = " ".repeat(caret_at);
            writeln!(out, "{gutter} {blue}-->{plain} {file}:{}:{}", self.line, self.column)?;
            writeln!(out, "{gutter} {blue}|{plain}")?;
            writeln!(out, "{blue}{number} |{plain} {snippet}")?;
            writeln!(out, "{gutter} {blue}|{plain} {pad}{tint}{carets}{plain}")?;
        }
        if let Some(advice) = &self.advice {
            writeln!(out, "  {blue}={plain} help: {advice}")?;
        }
        writeln!(out)
    }

    /// The snippet, cut where it is too long, and the caret's offset in it.
    fn window(&self) -> (String, usize) {
        let at = self.column.saturating_sub(1);
        let skip = if at + 40 > SNIPPET_CHARS_MAX { at.saturating_sub(SNIPPET_CHARS_MAX / 2) } else { 0 };
        let text = self.snippet.chars().skip(skip).take(SNIPPET_CHARS_MAX);
        // Control characters of the file never reach the terminal; a tab would move the caret.
        let text = text.map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        let at = (at - skip).min(text.chars().count());
        (text, at)
    }
}

/// Stars instead of what follows a key that holds a credential, and of the user part of a URL.
pub(super) fn star_out_credentials(line: &str) -> String {
    let mut out = line.to_owned();
    let lower = line.to_ascii_lowercase();
    for word in super::show::CREDENTIAL_WORDS {
        for (at, _) in lower.match_indices(word) {
            let after = at + word.len();
            if line[..at].ends_with('_') {
                continue; // `set_cookie` is a key of ours, and no secret.
            }
            let Some(colon) = line[after..].find(':').filter(|gap| *gap <= 32) else { continue };
            star_out(&mut out, after + colon + 1);
        }
    }
    for (at, _) in line.match_indices("://") {
        let start = at + 3;
        let end = line[start..].find(['/', ' ', ',', '}']).map_or(line.len(), |length| start + length);
        if let Some(user) = line[start..end].rfind('@') {
            out.replace_range(start..start + user, &stars(&line[start..start + user]));
        }
    }
    out
}

/// Stars out one value that starts at byte `from`: to the end of the line, or of a flow mapping's entry.
fn star_out(line: &mut String, from: usize) {
    let start = from + line[from..].len() - line[from..].trim_start().len();
    let value = &line[start..];
    if value.starts_with("${") && !value.contains(":-") {
        return;
    }
    let end = if value.starts_with(['"', '\'']) { None } else { value.find([',', '}']) };
    let end = end.map_or(line.len(), |length| start + length);
    let masked = stars(&line[start..end]);
    line.replace_range(start..end, &masked);
}

/// As many stars as there were characters, in as many bytes as there were, so that offsets hold: a star is one byte and
/// wider characters become several.
fn stars(text: &str) -> String {
    "*".repeat(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendered_error_has_file_line_column_snippet_caret_and_advice() {
        let mut found = Diagnostics::new(Path::new("edge.yaml"));
        let place = Place { line: 2, column: 3, length: 4 };
        found.push(Severity::Error, place, "a:\n  memry: 1\n", "unknown key `memry`".into(), Some("memory?".into()));
        assert_eq!(
            found.render(false),
            "error: unknown key `memry`\n  --> edge.yaml:2:3\n  |\n2 |   memry: 1\n  |   ^^^^\n  = help: memory?\n\n"
        );
    }

    #[test]
    fn a_snippet_never_shows_a_credential() {
        for line in [
            "  token: hunter2",
            "admin: { address: 0.0.0.0:1, token: hunter2 }",
            "servers: [http://bob:hunter2@films:80]",
            "  Authorization: Bearer hunter2",
            "  X-Api-Key: \"hunter2, still\"",
            "  token: ${T:-hunter2}",
        ] {
            let shown = star_out_credentials(line);
            assert!(!shown.contains("hunter2"), "{shown}");
            assert_eq!(shown.len(), line.len());
        }
    }

    proptest::proptest! {
        #[test]
        fn starring_out_never_panics_and_keeps_the_length(
            words in proptest::collection::vec("token|Authorization|://|@|:|\\$\\{|:-|é|[a-z{},\"' ]", 0..12),
        ) {
            let line = words.concat();
            proptest::prop_assert_eq!(star_out_credentials(&line).len(), line.len());
        }
    }

    #[test]
    fn a_flood_is_counted_not_kept() {
        let mut found = Diagnostics::new(Path::new("x"));
        for line in 0..1000 {
            found.push(Severity::Error, Place { line, column: 1, length: 1 }, "", "x".into(), None);
        }
        assert_eq!((found.list.len(), found.omitted), (DIAGNOSTICS_MAX, 1000 - DIAGNOSTICS_MAX));
    }
}
