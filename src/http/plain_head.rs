//! Request heads that every reader reads alike (RFC 9112 §2–§5): the plainest of those there are, and nothing else.
//!
//! Whoever answers a request before the library has parsed it must not read it otherwise than the library would. So only one spelling
//! is taken: GET or HEAD of a path, HTTP/1.1, one space where one is due, visible ASCII, and fields that are known to ask for nothing
//! but what the usual rules decide ([`is_known`]). A body, a range, an upgrade or a field that nobody here has heard of is none of it.

/// Fields of one head; with more it is not plain.
const FIELDS_MAX: usize = 32;
/// Of the longest name in [`is_known`], and more.
const NAME_BYTES_MAX: usize = 32;

/// A field's name, lower case or as sent, and its value, not empty.
pub type Field<'a> = (&'a str, &'a str);

/// A head, in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainHead<'a> {
    /// HEAD; else GET.
    pub is_head: bool,
    /// Begins with `/`.
    pub target: &'a str,
    fields: [Field<'a>; FIELDS_MAX],
    count: usize,
}

impl<'a> PlainHead<'a> {
    /// Reads `head`, which has to be all of it, with nothing behind. None: not plain.
    pub fn parse(head: &'a [u8]) -> Option<Self> {
        let (is_head, rest) = match head {
            [b'G', b'E', b'T', b' ', rest @ ..] => (false, rest),
            [b'H', b'E', b'A', b'D', b' ', rest @ ..] => (true, rest),
            _ => return None,
        };
        let rest = rest.strip_suffix(b"\r\n\r\n")?;
        let line_bytes = rest.iter().position(|byte| *byte == b'\r').unwrap_or(rest.len());
        let (line, mut rest) = rest.split_at(line_bytes);
        let target = line.strip_suffix(b" HTTP/1.1").filter(|target| target.starts_with(b"/"))?;
        // What a URI may hold, without a fragment (RFC 3986 §2): the library takes more, each byte in its way.
        if !target.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(byte)) {
            return None;
        }
        let mut plain =
            Self { is_head, target: std::str::from_utf8(target).ok()?, fields: [("", ""); FIELDS_MAX], count: 0 };
        while !rest.is_empty() {
            rest = rest.strip_prefix(b"\r\n")?;
            let line_bytes = rest.iter().position(|byte| *byte == b'\r').unwrap_or(rest.len());
            let (line, after) = rest.split_at(line_bytes);
            *plain.fields.get_mut(plain.count)? = field(line)?;
            plain.count += 1;
            rest = after;
        }
        Some(plain)
    }

    /// In the order sent.
    pub fn fields(&self) -> &[Field<'a>] {
        &self.fields[..self.count]
    }
}

fn field(line: &[u8]) -> Option<Field<'_>> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon..].strip_prefix(b": ")?);
    let visible = |byte: &u8| matches!(byte, b' '..=b'~');
    if !value.iter().all(visible) || value.first().is_none_or(|byte| *byte == b' ') || value.ends_with(b" ") {
        return None;
    }
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    if !is_known(lower, value) {
        return None;
    }
    Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
}

/// Whether a field, named in lower case, changes nothing but by the rules that hits go through: who asks, directives, conditions,
/// codings, traces. What varies by a field is not answered here at all.
fn is_known(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"connection" => value.eq_ignore_ascii_case(b"keep-alive"),
        b"accept"
        | b"accept-encoding"
        | b"accept-language"
        | b"authorization"
        | b"cache-control"
        | b"cookie"
        | b"dnt"
        | b"forwarded"
        | b"host"
        | b"icy-metadata"
        | b"if-modified-since"
        | b"if-none-match"
        | b"origin"
        | b"pragma"
        | b"priority"
        | b"referer"
        | b"save-data"
        | b"traceparent"
        | b"tracestate"
        | b"upgrade-insecure-requests"
        | b"user-agent"
        | b"via"
        | b"x-forwarded-for"
        | b"x-forwarded-host"
        | b"x-forwarded-proto"
        | b"x-playback-session-id"
        | b"x-real-ip"
        | b"x-requested-with" => true,
        _ => {
            let rest = name.strip_prefix(b"sec-fetch-").or_else(|| name.strip_prefix(b"sec-ch-"));
            rest.is_some_and(|rest| rest.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'-'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(head: &str) -> Option<PlainHead<'_>> {
        PlainHead::parse(head.as_bytes())
    }

    #[test]
    fn a_plain_head_is_read() {
        let head =
            parsed("HEAD /a?b=%20 HTTP/1.1\r\nHost: x:1\r\nsec-ch-ua-mobile: ?0\r\nAccept: a, b\r\n\r\n").unwrap();
        assert!(head.is_head);
        assert_eq!(head.target, "/a?b=%20");
        assert_eq!(head.fields(), [("Host", "x:1"), ("sec-ch-ua-mobile", "?0"), ("Accept", "a, b")]);
        assert_eq!(parsed("GET / HTTP/1.1\r\n\r\n").unwrap().fields(), []);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        for head in [
            "",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n\r\nG",
            "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: x\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /#a HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /\\a HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /\u{e9} HTTP/1.1\r\nHost: x\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\n\r\n",
            "get / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\nHost: x\n\n",
            "GET / HTTP/1.1\r\nHost: x\n\r\n",
            "GET / HTTP/1.1\r\nHost:x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: \r\n\r\n",
            "GET / HTTP/1.1\r\nHost:  x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x \r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\u{7f}\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nRange: bytes=0-\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, upgrade\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nCDN-Loop: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nX-Of-Somebody: y\r\n\r\n",
        ] {
            assert_eq!(parsed(head), None, "{head:?}");
        }
    }

    #[test]
    fn more_fields_than_are_kept_are_not_plain() {
        let head = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "Accept: a\r\n".repeat(count));
        assert_eq!(parsed(&head(FIELDS_MAX)).unwrap().fields().len(), FIELDS_MAX);
        assert_eq!(parsed(&head(FIELDS_MAX + 1)), None);
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_sent(bytes in prop::collection::vec(any::<u8>(), 0..60), at in 0usize..60) {
            let mut head = b"GET /a/b?c HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n".to_vec();
            let at = at.min(head.len());
            head.splice(at..(at + bytes.len() / 2).min(head.len()), bytes);
            if let Some(plain) = PlainHead::parse(&head) {
                let method = if plain.is_head { "HEAD" } else { "GET" };
                let mut again = format!("{method} {} HTTP/1.1\r\n", plain.target);
                plain.fields().iter().for_each(|(name, value)| again += &format!("{name}: {value}\r\n"));
                prop_assert_eq!((again + "\r\n").into_bytes(), head);
            }
        }
    }
}
