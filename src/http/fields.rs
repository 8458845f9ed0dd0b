//! What every field parser here shares: a view of header fields, and list syntax (RFC 9110 §5.6).
//!
//! Values are bytes: a peer may send anything, and no parser may panic on it. Each field line is parsed on its own, so a
//! quote left open in one line never swallows the next. Holds no knowledge of any particular field.

/// Header fields as a decision needs them: all values of a name, in the order received.
pub trait HeaderView {
    /// The values of `name` (case-insensitive), one per field line.
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]>;

    /// The first value of `name`.
    fn first<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Whether `name` is present, even empty.
    fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }
}

/// Names of a head that are compared one by one sooner than a text is parsed and hashed for a look-up.
const FEW: usize = 12;

impl HeaderView for http::HeaderMap {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let absent = self.keys_len() <= FEW && !self.keys().any(|field| field.as_str().eq_ignore_ascii_case(name));
        let found = (!absent).then(|| self.get_all(name).iter().map(http::HeaderValue::as_bytes));
        found.into_iter().flatten()
    }
}

/// Splits at `separator` outside quoted strings, trims optional whitespace and skips empty members (RFC 9110 §5.6.1.2).
pub fn split_outside_quotes(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(move |&byte| {
            if escaped {
                escaped = false;
                return false;
            }
            match byte {
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ => {}
            }
            byte == separator && !quoted
        })
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// The members of a comma-separated field over all its lines.
pub fn list<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    values.flat_map(|value| split_outside_quotes(value, b','))
}

/// Splits `name=value`; the value keeps its quotes. Both are trimmed.
pub fn name_and_value(member: &[u8]) -> (&[u8], Option<&[u8]>) {
    match member.iter().position(|&byte| byte == b'=') {
        Some(at) => (member[..at].trim_ascii(), Some(member[at + 1..].trim_ascii())),
        None => (member.trim_ascii(), None),
    }
}

/// The text of a token or quoted-string, as ASCII (RFC 9110 §5.6.4). None where a quote is not closed, or bytes are left
/// over, or anything but visible ASCII, space and tab stands in it.
pub fn unquote(value: &[u8]) -> Option<String> {
    let text = |bytes: &mut dyn Iterator<Item = u8>| -> Option<String> {
        bytes.map(|byte| matches!(byte, b'\t' | b' '..=b'~').then_some(char::from(byte))).collect()
    };
    let Some(inner) = value.strip_prefix(b"\"") else {
        return if value.contains(&b'"') { None } else { text(&mut value.iter().copied()) };
    };
    let mut unescaped = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    loop {
        match bytes.next()? {
            b'"' => break,
            b'\\' => unescaped.push(bytes.next()?),
            byte => unescaped.push(byte),
        }
    }
    if bytes.next().is_some() { None } else { text(&mut unescaped.into_iter()) }
}

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether `value` is a token: not empty, token bytes only.
pub fn is_token(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|&byte| is_token_byte(byte))
}

/// Joins the members received and one of ours into one value of at most `bytes_max` bytes. What would swallow ours is left
/// out (a quote left open, bytes no field may carry), then the oldest members: ours always survives.
pub fn join_and_append<'a>(received: impl Iterator<Item = &'a [u8]>, own: &str, bytes_max: usize) -> String {
    let visible = |member: &&[u8]| member.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    let members = list(received).filter(visible).filter(|member| is_closed(member));
    let members: Vec<&str> = members.filter_map(|member| std::str::from_utf8(member).ok()).collect();
    let mut room = bytes_max.saturating_sub(own.len());
    let mut first_kept = members.len();
    for member in members.iter().rev() {
        let Some(left) = room.checked_sub(member.len() + ", ".len()) else { break };
        room = left;
        first_kept -= 1;
    }
    let mut value = String::with_capacity(bytes_max.min(256));
    for member in &members[first_kept..] {
        value.push_str(member);
        value.push_str(", ");
    }
    value.push_str(own);
    value
}

/// Whether every quote of a member is closed within it.
fn is_closed(member: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for byte in member {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    !quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(value: &str) -> Vec<&str> {
        list([value.as_bytes()].into_iter()).map(|member| std::str::from_utf8(member).unwrap()).collect()
    }

    #[test]
    fn rfc9110_5_6_1_lists_skip_empty_members_and_respect_quotes() {
        assert_eq!(members(", a ,,b=\"x, y\" ,\tc "), ["a", "b=\"x, y\"", "c"]);
        assert_eq!(members(r#"a="\",b", c"#), [r#"a="\",b""#, "c"]);
    }

    #[test]
    fn an_open_quote_ends_with_its_line() {
        let lines = [b"a=\"x, y".as_slice(), b"no-store"];
        assert_eq!(list(lines.into_iter()).collect::<Vec<_>>(), [b"a=\"x, y".as_slice(), b"no-store"]);
    }

    #[test]
    fn rfc9110_5_6_4_quoted_strings() {
        assert_eq!(unquote(b"abc").as_deref(), Some("abc"));
        assert_eq!(unquote(br#""a\"b""#).as_deref(), Some("a\"b"));
        assert_eq!(unquote(b"\"open"), None);
        assert_eq!(unquote(b"\"a\"b"), None);
        assert_eq!(unquote(b"\"\x01\""), None);
    }

    #[test]
    fn joining_keeps_our_member_when_the_rest_is_too_long() {
        let long = vec![b'x'; 100];
        let lines = [long.as_slice(), b"far-too-far-away-to-fit, near"];
        assert_eq!(join_and_append(lines.into_iter(), "own", 20), "near, own");
        assert_eq!(join_and_append([b"\xff".as_slice()].into_iter(), "own", 40), "own");
    }

    #[test]
    fn an_open_quote_does_not_swallow_our_member() {
        assert_eq!(join_and_append([b"a, b=\"x".as_slice()].into_iter(), "own", 40), "a, own");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(value in proptest::collection::vec(any::<u8>(), 0..64), max in 0usize..64) {
            for member in list([value.as_slice()].into_iter()) {
                prop_assert!(!member.is_empty());
                let (_, value) = name_and_value(member);
                value.map(unquote);
            }
            let joined = join_and_append([value.as_slice()].into_iter(), "own", max);
            prop_assert!(joined.ends_with("own") && joined.len() <= max.max(3));
        }
    }
}
