//! What an object is called: site + host (where a site asks for it) + normalised path and query.
//!
//! The key holds no scheme, port, protocol, method, cookie or credential: what may see an object is decided elsewhere.
//! Two URLs get one key only where RFC 3986 §6.2.2 calls them equivalent (letter case of escapes, escaped unreserved
//! characters, dot segments) or where one of them is no URL at all (a raw space, a lone `%`). The edge routes, forwards
//! and keys by the *same* normalised path: were the raw one forwarded, `/a/%2e%2e/b` could fill the place of `/b`.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::Ipv6Addr;

/// Longest key and longest URL, in bytes. A longer one is passed on uncached.
pub const KEY_BYTES_MAX: usize = 8 * 1024;

/// Longest host name (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// Not a host, with or without port, that could be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostError;

impl std::fmt::Display for HostError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a host name: letters, digits, `-`, `_` and `.`, or an IPv6 address in brackets, is expected")
    }
}

impl std::error::Error for HostError {}

/// Why there is no key or no normalised URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyError {
    Host(HostError),
    /// Beyond [`KEY_BYTES_MAX`].
    TooLong,
    /// The URL does not start with `http://` or `https://`.
    Scheme,
    /// The beginning of a URL ends within an escape.
    CutEscape,
}

impl std::fmt::Display for KeyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(error) => error.fmt(f),
            Self::TooLong => write!(f, "longer than {KEY_BYTES_MAX} bytes"),
            Self::CutEscape => f.write_str("it ends within an escape: write `%` and both digits, or stop before it"),
            Self::Scheme => f.write_str("not an absolute URL: write it as clients ask for it, `https://host/path`"),
        }
    }
}

impl std::error::Error for KeyError {}

impl From<HostError> for KeyError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

/// The cache key: `site host path?query`, the host empty where it is no part of the key. Neither host nor path can hold
/// a space, so different parts never make the same key.
pub fn content_key(site: &str, host: Option<&str>, path_and_query: &str) -> Result<String, KeyError> {
    let host = host.map(normalise_host).transpose()?.unwrap_or_default();
    let path = normalise_path_and_query(path_and_query)?;
    let parts = [site, " ", &host, " ", &path];
    let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
    if bytes > KEY_BYTES_MAX {
        return Err(KeyError::TooLong);
    }
    let mut key = String::with_capacity(bytes);
    key.extend(parts);
    Ok(key)
}

/// An absolute URL as purge and explain compare it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalisedUrl {
    /// Lower case, no port, no trailing dot; IPv6 in brackets.
    pub host: String,
    /// Starts with `/`.
    pub path: String,
    /// Some("") for a URL that ends in `?`: RFC 3986 §6.2.3 does not call it equal to one without.
    pub query: Option<String>,
}

impl NormalisedUrl {
    /// `path?query`, as [`content_key`] takes it.
    pub fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

/// Normalises an absolute `http` or `https` URL. Scheme, port and fragment are dropped; user information is refused.
pub fn normalise_url(url: &str) -> Result<NormalisedUrl, KeyError> {
    if url.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong);
    }
    let (scheme, rest) = url.split_once("://").ok_or(KeyError::Scheme)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(KeyError::Scheme);
    }
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = normalise_host(authority)?.into_owned();
    let normalised = normalise_path_and_query(rest)?;
    let (path, query) = match normalised.split_once('?') {
        Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
        None => (normalised.into_owned(), None),
    };
    Ok(NormalisedUrl { host, path, query })
}

/// Normalises the beginning of an absolute URL, whose host is whole (without a path, all of the host is meant): what it gives
/// begins the normalised form of every URL that begins so. The last segment is not complete yet, so it is no dot segment.
pub fn normalise_url_prefix(prefix: &str) -> Result<NormalisedUrl, KeyError> {
    let prefix = prefix.split('#').next().unwrap_or_default();
    if prefix.bytes().rev().take(2).any(|byte| byte == b'%') {
        return Err(KeyError::CutEscape);
    }
    let segment = prefix.rfind('/').map_or(prefix.len(), |slash| slash + 1);
    let whole_segments = prefix.contains('?') || prefix[..segment].ends_with("://");
    let mut url = normalise_url(if whole_segments { prefix } else { &prefix[..segment] })?;
    if !whole_segments {
        normalise_escapes(&prefix[segment..], &mut url.path);
    }
    Ok(url)
}

/// What a byte is in a host name.
#[derive(Clone, Copy)]
enum HostByte {
    Wrong,
    Plain,
    Upper,
    Dot,
}

const HOST_BYTES: [HostByte; 256] = {
    let mut table = [HostByte::Wrong; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = match byte as u8 {
            b'.' => HostByte::Dot,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => HostByte::Plain,
            b'A'..=b'Z' => HostByte::Upper,
            _ => HostByte::Wrong,
        };
        byte += 1;
    }
    table
};

/// A host as it is compared: lower case, port and trailing dot dropped, IPv6 literals in their shortest form.
pub fn normalise_host(host: &str) -> Result<Cow<'_, str>, HostError> {
    if let Some(literal) = host.strip_prefix('[') {
        let (address, port) = literal.split_once(']').ok_or(HostError)?;
        let address: Ipv6Addr = address.parse().map_err(|_| HostError)?;
        check_port(port)?;
        return Ok(Cow::Owned(format!("[{address}]")));
    }
    let (name, port) = host.split_at(host.bytes().position(|byte| byte == b':').unwrap_or(host.len()));
    check_port(port)?;
    let name = name.strip_suffix('.').unwrap_or(name);
    // One pass: every request's host comes here more than once.
    let (mut label_bytes, mut has_upper) = (0, false);
    for byte in name.bytes() {
        match HOST_BYTES[usize::from(byte)] {
            HostByte::Dot if label_bytes == 0 => return Err(HostError),
            HostByte::Dot => label_bytes = 0,
            HostByte::Plain => label_bytes += 1,
            HostByte::Upper => (label_bytes, has_upper) = (label_bytes + 1, true),
            HostByte::Wrong => return Err(HostError),
        }
    }
    if label_bytes == 0 || name.len() > HOST_BYTES_MAX {
        return Err(HostError);
    }
    Ok(if has_upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) })
}

/// Nothing, or `:` and a port number that may be empty (RFC 3986 §3.2.3).
fn check_port(port: &str) -> Result<(), HostError> {
    let Some(digits) = port.strip_prefix(':') else {
        return if port.is_empty() { Ok(()) } else { Err(HostError) };
    };
    let valid = digits.bytes().all(|byte| byte.is_ascii_digit());
    if valid && (digits.is_empty() || digits.parse::<u16>().is_ok()) { Ok(()) } else { Err(HostError) }
}

/// Normalises a path and its query by RFC 3986 §6.2.2. The result starts with `/` and is visible ASCII without spaces,
/// quotes or backslashes. The query's parameters keep their order.
pub fn normalise_path_and_query(path_and_query: &str) -> Result<Cow<'_, str>, KeyError> {
    if path_and_query.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong);
    }
    if is_plainly_normal(path_and_query) {
        return Ok(Cow::Borrowed(path_and_query));
    }
    let normalised = normalise_each(path_and_query);
    if normalised.len() > KEY_BYTES_MAX { Err(KeyError::TooLong) } else { Ok(Cow::Owned(normalised)) }
}

fn normalise_each(path_and_query: &str) -> String {
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let mut normalised = normalise_path(path);
    if let Some(query) = query {
        normalised.push('?');
        normalise_escapes(query, &mut normalised);
    }
    normalised
}

/// Whether there is nothing to normalise for certain: no escapes, and no segment that begins with a dot.
fn is_plainly_normal(path_and_query: &str) -> bool {
    let mut after_slash = false;
    path_and_query.starts_with('/')
        && path_and_query.bytes().all(|byte| {
            let dot_segment = after_slash && byte == b'.';
            after_slash = byte == b'/';
            is_kept(byte) && !dot_segment
        })
}

/// Normalises a path without query; see [`normalise_path_and_query`].
pub fn normalise_path(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len() + 1);
    normalise_escapes(path, &mut escaped);
    remove_dot_segments(&escaped)
}

/// RFC 3986 §5.2.4. Empty segments stay: `//` and `/` are different paths.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_directory = false;
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        ends_in_directory = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    let mut result = String::with_capacity(path.len() + 1);
    for segment in &kept {
        result.push('/');
        result.push_str(segment);
    }
    if ends_in_directory || result.is_empty() {
        result.push('/');
    }
    result
}

/// Upper-cases escapes, decodes those of unreserved characters, encodes what no URL may hold, a `%` without two digits
/// among it: kept, it could join with what follows into a new escape.
fn normalise_escapes(text: &str, into: &mut String) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte == b'%'
            && let Some(decoded) = bytes.get(at..at + 2).and_then(hex_pair)
        {
            at += 2;
            push(decoded, is_unreserved(decoded), into);
        } else {
            push(byte, is_kept(byte), into);
        }
    }
}

fn push(byte: u8, plain: bool, into: &mut String) {
    if plain {
        into.push(char::from(byte));
    } else {
        // Writing into a String cannot fail.
        let _ = write!(into, "%{byte:02X}");
    }
}

fn hex_pair(digits: &[u8]) -> Option<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(value(digits[0])? * 16 + value(digits[1])?).ok()
}

/// RFC 3986 §2.3
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What stands in a path or query as it is: unreserved and reserved characters (RFC 3986 §2.2, §2.3), but for `#`.
fn is_kept(byte: u8) -> bool {
    is_unreserved(byte) || b":/?[]@!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests;
