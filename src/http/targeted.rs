//! `CDN-Cache-Control` (RFC 9213): Cache-Control for caches like this one, as a Dictionary of Structured Fields (RFC 9651).
//!
//! Where it is there, valid and not empty, `Cache-Control` and `Expires` do not count at all (§2.1); where it is not, it counts
//! as absent, never as half of it. It passes on to clients: a cache in front of this one may want it too.

use super::cache_control::{DELTA_SECONDS_MAX, ResponseCacheControl, Scope, widen};

/// The one targeted field this cache obeys.
pub const FIELD: &str = "cdn-cache-control";

/// Members of a field, at most: more, and the field counts as absent.
const MEMBERS_MAX: usize = 64;

/// The directives of all lines of the field; None where it is absent, empty or no Dictionary.
pub fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<ResponseCacheControl> {
    let mut text = Vec::new();
    for line in lines {
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(line);
    }
    let members = Reader(text.trim_ascii_start()).dictionary()?;
    if members.is_empty() {
        return None;
    }
    let mut directives = ResponseCacheControl::default();
    for (name, value) in &members {
        let on = *value == Value::Boolean(true);
        match name.as_str() {
            "no-store" => directives.no_store = on,
            "public" => directives.public = on,
            "must-revalidate" => directives.must_revalidate = on,
            "proxy-revalidate" => directives.proxy_revalidate = on,
            "must-understand" => directives.must_understand = on,
            "no-transform" => directives.no_transform = on,
            "immutable" => directives.immutable = on,
            "no-cache" => scope(&mut directives.no_cache, value),
            "private" => scope(&mut directives.private, value),
            "max-age" => directives.max_age_s = Some(seconds(value)),
            "s-maxage" => directives.s_maxage_s = Some(seconds(value)),
            "stale-while-revalidate" => directives.stale_while_revalidate_s = Some(seconds(value)),
            "stale-if-error" => directives.stale_if_error_s = Some(seconds(value)),
            _ => {}
        }
    }
    Some(directives)
}

/// Anything but a whole number is a lifetime of none.
fn seconds(value: &Value) -> u64 {
    match value {
        Value::Integer(number) => u64::try_from(*number).unwrap_or(0).min(DELTA_SECONDS_MAX),
        _ => 0,
    }
}

fn scope(slot: &mut Option<Scope>, value: &Value) {
    match value {
        Value::Boolean(false) => {}
        Value::Text(fields) => widen(slot, Some(fields.as_bytes())),
        _ => *slot = Some(Scope::All),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Boolean(bool),
    Integer(i64),
    /// A String or a Token.
    Text(String),
    /// Of a type no directive has; it was valid, and that is all that counts.
    Other,
}

/// What is left to read. Every method leaves it behind what it read; None: not valid (RFC 9651 §4.2).
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn dictionary(&mut self) -> Option<Vec<(String, Value)>> {
        let mut members: Vec<(String, Value)> = Vec::new();
        while !self.0.is_empty() {
            let name = self.key()?;
            let value = if self.take(b'=') {
                if self.0.first() == Some(&b'(') { self.inner_list()? } else { self.bare_item()? }
            } else {
                Value::Boolean(true)
            };
            self.parameters()?;
            // A key that repeats: the last one counts, in the place of the first.
            match members.iter().position(|(known, _)| *known == name) {
                Some(at) => members[at].1 = value,
                None if members.len() == MEMBERS_MAX => return None,
                None => members.push((name, value)),
            }
            self.blanks();
            if self.0.is_empty() {
                break;
            }
            self.take(b',').then_some(())?;
            self.blanks();
            (!self.0.is_empty()).then_some(())?;
        }
        Some(members)
    }

    fn parameters(&mut self) -> Option<()> {
        while self.take(b';') {
            while self.take(b' ') {}
            self.key()?;
            if self.take(b'=') {
                self.bare_item()?;
            }
        }
        Some(())
    }

    fn inner_list(&mut self) -> Option<Value> {
        self.take(b'(').then_some(())?;
        loop {
            while self.take(b' ') {}
            if self.take(b')') {
                return Some(Value::Other);
            }
            self.bare_item()?;
            self.parameters()?;
            matches!(self.0.first(), Some(b' ' | b')')).then_some(())?;
        }
    }

    fn bare_item(&mut self) -> Option<Value> {
        match *self.0.first()? {
            b'"' => self.string(),
            b'?' => {
                self.take(b'?');
                let value = *self.0.first()?;
                matches!(value, b'0' | b'1').then_some(())?;
                self.0 = &self.0[1..];
                Some(Value::Boolean(value == b'1'))
            }
            b':' => {
                self.take(b':');
                let end = self.0.iter().position(|byte| *byte == b':')?;
                let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
                self.0[..end].iter().all(valid).then_some(())?;
                self.0 = &self.0[end + 1..];
                Some(Value::Other)
            }
            b'@' => {
                self.take(b'@');
                matches!(self.number()?, Value::Integer(_)).then_some(Value::Other)
            }
            b'-' | b'0'..=b'9' => self.number(),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                let token = |byte: u8| super::fields::is_token_byte(byte) || matches!(byte, b':' | b'/');
                Some(Value::Text(self.run(token)))
            }
            _ => None,
        }
    }

    /// An Integer has at most 15 digits, a Decimal 12 and 3.
    fn number(&mut self) -> Option<Value> {
        let negative = self.take(b'-');
        let whole = self.run(|byte| byte.is_ascii_digit());
        if self.take(b'.') {
            let fraction = self.run(|byte| byte.is_ascii_digit());
            let valid = (1..=12).contains(&whole.len()) && (1..=3).contains(&fraction.len());
            return valid.then_some(Value::Other);
        }
        (1..=15).contains(&whole.len()).then_some(())?;
        let number: i64 = whole.parse().ok()?;
        Some(Value::Integer(if negative { -number } else { number }))
    }

    fn string(&mut self) -> Option<Value> {
        self.take(b'"').then_some(())?;
        let mut text = String::new();
        loop {
            let byte = *self.0.first()?;
            self.0 = &self.0[1..];
            match byte {
                b'"' => return Some(Value::Text(text)),
                b'\\' => {
                    let escaped = *self.0.first()?;
                    matches!(escaped, b'"' | b'\\').then_some(())?;
                    self.0 = &self.0[1..];
                    text.push(char::from(escaped));
                }
                b' '..=b'~' => text.push(char::from(byte)),
                _ => return None,
            }
        }
    }

    fn key(&mut self) -> Option<String> {
        matches!(self.0.first()?, b'a'..=b'z' | b'*').then_some(())?;
        Some(self.run(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*')))
    }

    fn run(&mut self, takes: impl Fn(u8) -> bool) -> String {
        let end = self.0.iter().position(|byte| !takes(*byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        String::from_utf8_lossy(taken).into_owned()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.0.first() == Some(&byte);
        if found {
            self.0 = &self.0[1..];
        }
        found
    }

    fn blanks(&mut self) {
        while self.take(b' ') || self.take(b'\t') {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(value: &str) -> Option<ResponseCacheControl> {
        parse([value.as_bytes()].into_iter())
    }

    #[test]
    fn rfc9213_2_1_directives_are_members_of_a_dictionary() {
        let expected = ResponseCacheControl { max_age_s: Some(60), must_revalidate: true, ..Default::default() };
        assert_eq!(of("max-age=60, must-revalidate"), Some(expected.clone()));
        assert_eq!(of("  max-age=60;x=\"y\" ,\tmust-revalidate;z, foo=(1 2;a), bar=:AA==:, baz=1.5"), Some(expected));
        assert_eq!(of("max-age=1, max-age=60").unwrap().max_age_s, Some(60), "the last one counts");
        assert_eq!(of("private=\"x-a, x-b\"").unwrap().private, Some(Scope::Fields(vec!["x-a".into(), "x-b".into()])));
        assert!(!of("no-store=?0, max-age=1").unwrap().no_store);
        assert_eq!(parse([b"max-age=6".as_slice(), b"no-store"].into_iter()).map(|d| d.no_store), Some(true));
    }

    #[test]
    fn rfc9213_2_1_what_is_no_dictionary_is_absent() {
        for value in [
            "",
            " ",
            "max-age=60,",
            "MAX-AGE=60",
            "max-age=",
            "max-age =60",
            "max-age=60 no-store",
            "a=\"open",
            "&",
            "a=@x",
        ] {
            assert_eq!(of(value), None, "{value}");
        }
        assert_eq!(parse(std::iter::empty()), None);
    }

    #[test]
    fn rfc9213_2_1_a_value_of_another_type_is_no_lifetime() {
        for value in ["max-age=\"60\"", "max-age=60.0", "max-age", "max-age=-1", "max-age=a"] {
            assert_eq!(of(value).unwrap().max_age_s, Some(0), "{value}");
        }
        assert_eq!(of("max-age=999999999999999").unwrap().max_age_s, Some(DELTA_SECONDS_MAX));
        assert_eq!(of("max-age=9999999999999999"), None, "RFC 9651 §3.3.1: too long for an Integer");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            parse([value.as_slice()].into_iter());
        }

        #[test]
        fn what_is_written_is_read(seconds in 0u64..1 << 31, name in "[a-z][a-z0-9_.*-]{0,8}") {
            let value = format!("x-{name}=?1, max-age={seconds}, y-{name}=\"a\\\"b\"");
            prop_assert_eq!(of(&value).unwrap().max_age_s, Some(seconds));
        }
    }
}
