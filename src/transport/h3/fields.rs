//! Messages and their fields (RFC 9114, section 4): a section becomes a request, or is refused; an answer becomes a section. Pure.
//!
//! Checked here is what makes a message malformed in HTTP/3 itself; what else no edge should pass on is the edge's affair, as for
//! the other protocols.

use super::qpack::{self, Unreadable};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, HeaderName, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, request};
use pingora_http::ResponseHeader;

/// Why a section is no request we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// QPACK cannot read it: the connection ends.
    Unreadable,
    /// Larger than we said we take: 431.
    TooLarge,
    /// H3_MESSAGE_ERROR (RFC 9114, section 4.1.2), and in a few words why.
    Malformed(&'static str),
}

/// Fields of one connection (RFC 9114, section 4.2); `te` may say `trailers`.
const CONNECTION_FIELDS: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

#[derive(Default)]
struct Message {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    fields: HeaderMap,
    wrong: Option<&'static str>,
}

/// A request's head; its target as HTTP/2's: scheme, authority and path.
pub fn request(section: &[u8], bytes_max: usize) -> Result<request::Parts, Refused> {
    let mut message = Message::default();
    read(section, bytes_max, |name, value| {
        if message.wrong.is_none() {
            message.wrong = message.add(name, value).err();
        }
    })?;
    message.finish().map_err(Refused::Malformed)
}

/// Trailers are checked, and go no further: Pingora has no way for them.
pub fn trailers(section: &[u8], bytes_max: usize) -> Result<(), Refused> {
    let mut wrong = None;
    read(section, bytes_max, |name, value| {
        if HeaderName::from_lowercase(name).is_err() || HeaderValue::from_bytes(value).is_err() {
            wrong = Some("a trailer that is no field");
        }
    })?;
    wrong.map_or(Ok(()), |wrong| Err(Refused::Malformed(wrong)))
}

fn read(section: &[u8], bytes_max: usize, take: impl FnMut(&[u8], &[u8])) -> Result<(), Refused> {
    qpack::decode(section, bytes_max, take).map_err(|unreadable| match unreadable {
        Unreadable::Malformed => Refused::Unreadable,
        Unreadable::TooLarge => Refused::TooLarge,
    })
}

impl Message {
    fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.first() != Some(&b':') {
            let name = HeaderName::from_lowercase(name).map_err(|_| "a name that is no field's")?;
            let value = HeaderValue::from_bytes(value).map_err(|_| "a value that is no field's")?;
            if CONNECTION_FIELDS.contains(&name.as_str()) {
                return Err("a field of the connection");
            }
            if name == TE && value != "trailers" {
                return Err("te other than trailers");
            }
            if (name == HOST || name == CONTENT_LENGTH) && self.fields.contains_key(&name) {
                return Err("host or content-length twice");
            }
            self.fields.append(name, value);
            return Ok(());
        }
        if !self.fields.is_empty() {
            return Err("a pseudo-header field after others");
        }
        let wrong = |_| "a pseudo-header field's value";
        match name {
            b":method" => once(&mut self.method, Method::from_bytes(value).map_err(|_| "a method that is no token")?),
            b":scheme" => once(&mut self.scheme, Scheme::try_from(value).map_err(wrong)?),
            b":authority" => {
                if value.contains(&b'@') {
                    return Err("user information in the authority");
                }
                once(&mut self.authority, Authority::try_from(value).map_err(wrong)?)
            }
            b":path" => {
                // The type would cut a fragment off.
                if !matches!(value.first(), Some(b'/' | b'*')) || value.contains(&b'#') {
                    return Err("a path that is none");
                }
                once(&mut self.path, PathAndQuery::try_from(value).map_err(wrong)?)
            }
            _ => Err("an unknown pseudo-header field"),
        }
    }

    fn finish(self) -> Result<request::Parts, &'static str> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let method = self.method.ok_or("no method")?;
        let host = self.fields.get(HOST);
        match (&self.authority, host) {
            (Some(authority), Some(host)) if authority.as_str().as_bytes() != host.as_bytes() => {
                return Err("host and authority differ");
            }
            (None, None) => return Err("neither host nor authority"),
            (_, Some(host)) if host.is_empty() => return Err("an empty host"),
            _ => {}
        }
        if self.fields.get(CONTENT_LENGTH).is_some_and(|length| number(length).is_none()) {
            return Err("a content-length that is no number");
        }
        let (request, ()) = Request::new(()).into_parts();
        let mut uri = Uri::default().into_parts();
        uri.path_and_query = None;
        if method == Method::CONNECT {
            // RFC 9114, section 4.4.
            if self.scheme.is_some() || self.path.is_some() {
                return Err("CONNECT with a scheme or a path");
            }
            uri.authority = Some(self.authority.ok_or("CONNECT without an authority")?);
        } else {
            let path = self.path.ok_or("no path")?;
            if path.as_str() == "*" && method != Method::OPTIONS {
                return Err("a path that is none");
            }
            let scheme = self.scheme.ok_or("no scheme")?;
            // A target has all three or the path alone.
            if let Some(authority) = self.authority {
                (uri.scheme, uri.authority) = (Some(scheme), Some(authority));
            }
            uri.path_and_query = Some(path);
        }
        let uri = Uri::from_parts(uri).map_err(|_| "a target that is none")?;
        let mut request = request;
        (request.method, request.uri, request.version, request.headers) = (method, uri, Version::HTTP_3, self.fields);
        Ok(request)
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err("a pseudo-header field twice"),
    }
}

/// A Content-Length's number; None: it is none.
pub fn number(length: &HeaderValue) -> Option<u64> {
    let text = length.to_str().ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// An answer's section. Fields of a connection are left out.
pub fn response(answer: &ResponseHeader) -> Bytes {
    let mut section = BytesMut::with_capacity(512);
    qpack::begin(&mut section);
    qpack::put(&mut section, ":status", answer.status.as_str().as_bytes());
    put_all(&mut section, &answer.headers);
    section.freeze()
}

/// A trailer section.
pub fn trailer_section(fields: &HeaderMap) -> Bytes {
    let mut section = BytesMut::with_capacity(64);
    qpack::begin(&mut section);
    put_all(&mut section, fields);
    section.freeze()
}

fn put_all(section: &mut BytesMut, fields: &HeaderMap) {
    for (name, value) in fields {
        if !CONNECTION_FIELDS.contains(&name.as_str()) {
            qpack::put(section, name.as_str(), value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
