//! Cache-Status (RFC 9211): what the cache did with a request, as one member of the list.

use super::fields::join_and_append;
use std::fmt;

/// Longest value sent; what caches farthest away said goes first.
const FIELD_BYTES_MAX: usize = 4096;

/// Our member of the list. Only `Default` and public fields: it is filled in as a request goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Satisfied without going forward (§2.1). `fwd` and what belongs to it is then left out: both at once is no statement.
    pub hit: bool,
    /// Why the request went forward (§2.2).
    pub fwd: Option<Fwd>,
    /// The status received from there (§2.3).
    pub fwd_status: Option<u16>,
    /// The answer was stored (§2.5).
    pub stored: bool,
    /// The request was answered by a fill already running (§2.6).
    pub collapsed: bool,
    /// Remaining freshness in seconds, negative when stale (§2.4).
    pub ttl: Option<i64>,
    /// A token or a short text in visible ASCII (§2.8).
    pub detail: Option<&'static str>,
}

/// Why a request went forward (RFC 9211 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fwd {
    /// The cache was not to handle this request.
    Bypass,
    /// The method's semantics require it.
    Method,
    /// Nothing is stored under this key.
    UriMiss,
    /// Something is stored, but for other values of the fields in Vary.
    VaryMiss,
    /// Nothing fits, for a reason not told apart.
    Miss,
    /// A fresh answer was stored, but the request's directives forbade it.
    Request,
    /// What is stored is stale.
    Stale,
    /// Only a part is stored.
    Partial,
}

impl Fwd {
    /// The token on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reelgate")?;
        if self.hit {
            f.write_str("; hit")?;
        } else if let Some(fwd) = self.fwd {
            write!(f, "; fwd={}", fwd.as_str())?;
            if let Some(status) = self.fwd_status {
                write!(f, "; fwd-status={status}")?;
            }
            if self.stored {
                f.write_str("; stored")?;
            }
            if self.collapsed {
                f.write_str("; collapsed")?;
            }
        }
        if let Some(ttl) = self.ttl {
            // The largest integer of Structured Fields has 15 digits (RFC 9651 §3.3.1).
            write!(f, "; ttl={}", ttl.clamp(-999_999_999_999_999, 999_999_999_999_999))?;
        }
        match self.detail {
            Some(detail) => write_detail(f, detail),
            None => Ok(()),
        }
    }
}

/// As a token where it is one, else as a string (RFC 9651 §3.3.3, §3.3.4).
fn write_detail(f: &mut fmt::Formatter<'_>, detail: &str) -> fmt::Result {
    let token_byte = |byte: u8| super::fields::is_token_byte(byte) || matches!(byte, b':' | b'/');
    let starts = detail.starts_with(|first: char| first.is_ascii_alphabetic() || first == '*');
    if starts && detail.bytes().all(token_byte) {
        return write!(f, "; detail={detail}");
    }
    f.write_str("; detail=\"")?;
    for character in detail.chars().filter(|character| matches!(character, ' '..='~')) {
        if matches!(character, '"' | '\\') {
            f.write_str("\\")?;
        }
        write!(f, "{character}")?;
    }
    f.write_str("\"")
}

impl CacheStatus {
    /// The whole field: what caches nearer to the origin said, then our member (§2: each cache appends).
    pub fn append_to<'a>(&self, received: impl Iterator<Item = &'a [u8]>) -> String {
        join_and_append(received, &self.to_string(), FIELD_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::{name_and_value, split_outside_quotes, unquote};
    use proptest::prelude::*;

    /// Reads one member back: a small reader of Structured Fields that refuses what RFC 9651 refuses.
    fn parameters(member: &str) -> Option<Vec<(String, String)>> {
        let mut parts = split_outside_quotes(member.as_bytes(), b';');
        (parts.next()? == b"reelgate").then_some(())?;
        parts
            .map(|part| {
                let (name, value) = name_and_value(part);
                let name = std::str::from_utf8(name).ok()?;
                name.starts_with(|c: char| c.is_ascii_lowercase()).then_some(())?;
                name.chars().all(|c| c.is_ascii_lowercase() || c == '-').then_some(())?;
                let value = value.map_or(Some("?1".to_owned()), unquote)?;
                Some((name.to_owned(), value))
            })
            .collect()
    }

    #[test]
    fn rfc9211_examples() {
        let hit = CacheStatus { hit: true, ttl: Some(30), ..Default::default() };
        assert_eq!(hit.to_string(), "reelgate; hit; ttl=30");
        let stale = CacheStatus { hit: true, ttl: Some(-412), ..Default::default() };
        assert_eq!(stale.to_string(), "reelgate; hit; ttl=-412");
        let miss = CacheStatus {
            fwd: Some(Fwd::UriMiss),
            fwd_status: Some(200),
            stored: true,
            collapsed: true,
            ttl: Some(60),
            detail: Some("no-store"),
            ..Default::default()
        };
        assert_eq!(
            miss.to_string(),
            "reelgate; fwd=uri-miss; fwd-status=200; stored; collapsed; ttl=60; detail=no-store"
        );
    }

    #[test]
    fn rfc9211_2_1_hit_and_fwd_exclude_each_other() {
        let both = CacheStatus { hit: true, fwd: Some(Fwd::Stale), stored: true, ..Default::default() };
        assert_eq!(both.to_string(), "reelgate; hit");
    }

    #[test]
    fn rfc9211_2_appended_after_caches_nearer_to_the_origin() {
        let hit = CacheStatus { hit: true, ..Default::default() };
        let received = [b"Origin; hit".as_slice(), b"Shield; fwd=stale"];
        assert_eq!(hit.append_to(received.into_iter()), "Origin; hit, Shield; fwd=stale, reelgate; hit");
    }

    proptest! {
        #[test]
        fn always_a_valid_structured_field(
            hit: bool, stored: bool, collapsed: bool, ttl: Option<i64>, status in proptest::option::of(100u16..1000),
            detail in "\\PC{0,20}", fwd in 0usize..8,
        ) {
            let fwd = [
                Fwd::Bypass, Fwd::Method, Fwd::UriMiss, Fwd::VaryMiss, Fwd::Miss, Fwd::Request, Fwd::Stale, Fwd::Partial,
            ][fwd];
            let detail: &'static str = Box::leak(detail.into_boxed_str());
            let text = CacheStatus {
                hit, fwd: Some(fwd), fwd_status: status, stored, collapsed, ttl, detail: Some(detail),
            }.to_string();
            let read = parameters(&text).expect("valid");
            let has = |name: &str| read.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            prop_assert_eq!(has("hit").is_some(), hit);
            prop_assert_eq!(has("fwd"), (!hit).then(|| fwd.as_str().to_owned()));
            let visible: String = detail.chars().filter(|c| matches!(c, ' '..='~')).collect();
            prop_assert_eq!(has("detail"), Some(visible));
        }
    }
}
