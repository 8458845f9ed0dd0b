//! A request's path made safe to look up in a folder: decoded once, checked, in segments. It knows no file system, so it
//! cannot see symbolic links: whoever opens the file must still stay beneath its folder.
//!
//! Invariant: joined to any folder, a [`SafePath`] names something inside it (proved by property below).

use std::path::{Path, PathBuf};

/// Longest path taken, in bytes as sent: Linux's `PATH_MAX`.
pub const PATH_BYTES_MAX: usize = 4096;
/// Longest segment, in bytes decoded: the `NAME_MAX` of common file systems.
pub const SEGMENT_BYTES_MAX: usize = 255;
/// Deepest path.
pub const SEGMENTS_MAX: usize = 64;

/// Why a path was refused. All of them are the client's error: answer 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// It does not start with `/`.
    Relative,
    /// It is longer or deeper than the limits above.
    TooLong,
    /// An empty segment: `//`, or a `/` at the end.
    EmptySegment,
    /// `.` or `..`, plain or encoded.
    DotSegment,
    /// `%` without two hexadecimal digits (RFC 3986 §2.1).
    Encoding,
    /// Decoded, it is not UTF-8.
    NotUtf8,
    /// A slash that was encoded, a backslash, NUL or another control character.
    Forbidden,
}

impl std::fmt::Display for PathError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Relative => "the path does not start with a slash",
            Self::TooLong => "the path is too long or too deep",
            Self::EmptySegment => "the path has an empty segment",
            Self::DotSegment => "the path has a dot segment",
            Self::Encoding => "the path has an invalid percent encoding",
            Self::NotUtf8 => "the path is not UTF-8",
            Self::Forbidden => "the path has a character that no file name may have",
        })
    }
}

impl std::error::Error for PathError {}

/// A decoded path: segments that are neither empty nor `.` nor `..` and hold no slash, backslash or control character.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SafePath {
    segments: Vec<String>,
}

impl SafePath {
    /// Decodes and checks the path of a request target (RFC 9112 §3.2.1), without its query. `/` has no segments.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        if path.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        let relative = path.strip_prefix('/').ok_or(PathError::Relative)?;
        if relative.is_empty() {
            return Ok(Self::default());
        }
        if relative.split('/').count() > SEGMENTS_MAX {
            return Err(PathError::TooLong);
        }
        let segments = relative.split('/').map(segment).collect::<Result<_, _>>()?;
        Ok(Self { segments })
    }

    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The path in a folder. Links on the way are the caller's to refuse.
    pub fn under(&self, folder: &Path) -> PathBuf {
        let mut path = folder.to_path_buf();
        path.extend(&self.segments);
        path
    }
}

fn segment(raw: &str) -> Result<String, PathError> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(PathError::Encoding),
            },
            byte => byte,
        });
    }
    let decoded = String::from_utf8(decoded).map_err(|_| PathError::NotUtf8)?;
    match decoded.as_str() {
        "" => Err(PathError::EmptySegment),
        "." | ".." => Err(PathError::DotSegment),
        _ if decoded.len() > SEGMENT_BYTES_MAX => Err(PathError::TooLong),
        _ if decoded.contains(|c: char| matches!(c, '/' | '\\') || c.is_control()) => Err(PathError::Forbidden),
        _ => Ok(decoded),
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    fn parsed(path: &str) -> Result<Vec<String>, PathError> {
        SafePath::parse(path).map(|path| path.segments().to_vec())
    }

    #[test]
    fn segments_are_decoded_once() {
        assert_eq!(parsed("/"), Ok(vec![]));
        assert_eq!(parsed("/t/a%20b/%C3%A9.ts"), Ok(vec!["t".into(), "a b".into(), "é.ts".into()]));
        assert_eq!(parsed("/%252e%252e"), Ok(vec!["%2e%2e".into()]));
        assert_eq!(parsed("/a+b...c/..."), Ok(vec!["a+b...c".into(), "...".into()]));
    }

    #[test]
    fn ways_out_are_refused() {
        for (path, error) in [
            ("", PathError::Relative),
            ("a", PathError::Relative),
            ("/a/../b", PathError::DotSegment),
            ("/%2e%2E/b", PathError::DotSegment),
            ("/.%2e", PathError::DotSegment),
            ("/a/./b", PathError::DotSegment),
            ("/a//b", PathError::EmptySegment),
            ("/a/", PathError::EmptySegment),
            ("//", PathError::EmptySegment),
            ("/a%2fb", PathError::Forbidden),
            ("/..%2f..", PathError::Forbidden),
            ("/a%5Cb", PathError::Forbidden),
            ("/a\\b", PathError::Forbidden),
            ("/a%00.mp4", PathError::Forbidden),
            ("/a%0ab", PathError::Forbidden),
            ("/a%7f", PathError::Forbidden),
            ("/a%", PathError::Encoding),
            ("/a%2", PathError::Encoding),
            ("/a%zz", PathError::Encoding),
            ("/a%+1", PathError::Encoding),
            ("/%c0%af", PathError::NotUtf8),
            ("/%c0%ae%c0%ae", PathError::NotUtf8),
        ] {
            assert_eq!(parsed(path), Err(error), "{path}");
        }
    }

    #[test]
    fn limits_hold() {
        assert!(parsed(&format!("/{}", "a".repeat(SEGMENT_BYTES_MAX))).is_ok());
        assert_eq!(parsed(&format!("/{}", "a".repeat(SEGMENT_BYTES_MAX + 1))), Err(PathError::TooLong));
        assert!(parsed(&"/a".repeat(SEGMENTS_MAX)).is_ok());
        assert_eq!(parsed(&"/a".repeat(SEGMENTS_MAX + 1)), Err(PathError::TooLong));
        assert_eq!(parsed(&format!("/{}", "a".repeat(PATH_BYTES_MAX))), Err(PathError::TooLong));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_stays_under_its_folder(
            path in prop_oneof![any::<String>(), "/(\\.|%2e|%2E|/|%2f|\\\\|%5c|%00|%|a|é){0,24}"]
        ) {
            let folder = Path::new("/films");
            if let Ok(safe) = SafePath::parse(&path) {
                let joined = safe.under(folder);
                let below = joined.strip_prefix(folder).unwrap();
                prop_assert!(below.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert_eq!(below.components().count(), safe.segments().len());
            }
        }
    }
}
