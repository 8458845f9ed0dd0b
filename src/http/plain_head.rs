//! Request heads that every reader reads alike (RFC 9112 §2–§5): the plainest of those there are, and nothing else.
//!
//! Whoever answers a request before the library has parsed it must not read it otherwise than the library would. So only one spelling
//! is taken: GET or HEAD of a path, HTTP/1.1, one space where one is due, visible ASCII, and fields that are known to ask for nothing
//! but what the usual rules decide (`is_known`). A body, a range, an upgrade or a field that nobody here has heard of is none of it.

/// Of the longest name in [`is_known`], and more.
const NAME_BYTES_MAX: usize = 32;

/// A field's name as sent and its value, not empty.
pub type Field<'a> = (&'a [u8], &'a [u8]);

/// A head whose lines are yet to be looked at: it is plain if all of [`Self::fields`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainHead<'a> {
    /// HEAD; else GET.
    pub is_head: bool,
    /// Begins with `/`; visible ASCII.
    pub target: &'a [u8],
    /// Each line begins with the end of the one before.
    lines: &'a [u8],
}

impl<'a> PlainHead<'a> {
    /// Reads `head`, which has to be all of it, with nothing behind. None: not plain.
    pub fn parse(head: &'a [u8]) -> Option<Self> {
        let (is_head, rest) = match head {
            [b'G', b'E', b'T', b' ', rest @ ..] => (false, rest),
            [b'H', b'E', b'A', b'D', b' ', rest @ ..] => (true, rest),
            _ => return None,
        };
        let (line, lines) = split_line(rest.strip_suffix(b"\r\n\r\n")?);
        let target = line.strip_suffix(b" HTTP/1.1").filter(|target| target.starts_with(b"/"))?;
        target.iter().all(|byte| IN_TARGETS[usize::from(*byte)]).then_some(Self { is_head, target, lines })
    }

    /// In the order sent; None in place of one that is not plain.
    pub fn fields(&self) -> impl Iterator<Item = Option<Field<'a>>> {
        let mut left = self.lines;
        std::iter::from_fn(move || {
            if left.is_empty() {
                return None;
            }
            let Some(rest) = left.strip_prefix(b"\r\n") else {
                left = b"";
                return Some(None);
            };
            let (line, rest) = split_line(rest);
            left = rest;
            Some(field(line))
        })
    }
}

/// What a URI may hold, without a fragment (RFC 3986 §2): the library takes more, each byte in its way.
const IN_TARGETS: [bool; 256] = {
    let mut table = [false; 256];
    let others = b"-._~!$&'()*+,;=:@/?%";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    let mut byte = 0;
    while byte < table.len() {
        table[byte] |= (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| *byte == b'\r').unwrap_or(bytes.len()))
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
    is_known(lower, value).then_some((name, value))
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

    type Parsed<'a> = (bool, &'a [u8], Vec<Field<'a>>);

    fn parsed(head: &[u8]) -> Option<Parsed<'_>> {
        let plain = PlainHead::parse(head)?;
        Some((plain.is_head, plain.target, plain.fields().collect::<Option<_>>()?))
    }

    #[test]
    fn a_plain_head_is_read() {
        let head = b"HEAD /a?b=%20 HTTP/1.1\r\nHost: x:1\r\nsec-ch-ua-mobile: ?0\r\nAccept: a, b\r\n\r\n";
        let fields: Vec<Field<'_>> = vec![(b"Host", b"x:1"), (b"sec-ch-ua-mobile", b"?0"), (b"Accept", b"a, b")];
        assert_eq!(parsed(head), Some((true, &b"/a?b=%20"[..], fields)));
        assert_eq!(parsed(b"GET / HTTP/1.1\r\n\r\n"), Some((false, &b"/"[..], Vec::new())));
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
            assert_eq!(parsed(head.as_bytes()), None, "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_sent(bytes in prop::collection::vec(any::<u8>(), 0..60), at in 0usize..60) {
            let mut head = b"GET /a/b?c HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n".to_vec();
            let at = at.min(head.len());
            head.splice(at..(at + bytes.len() / 2).min(head.len()), bytes);
            if let Some((is_head, target, fields)) = parsed(&head) {
                let method: &[u8] = if is_head { b"HEAD " } else { b"GET " };
                let mut again = [method, target, b" HTTP/1.1\r\n"].concat();
                fields.iter().for_each(|(name, value)| again.extend([*name, b": ", *value, b"\r\n"].concat()));
                again.extend(b"\r\n");
                prop_assert_eq!(again, head);
            }
        }
    }
}
