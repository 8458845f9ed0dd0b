//! Which of several media types a request gets (RFC 9110 §12.5.1), for answers that say what there is to choose from
//! (`Avail-Format`, draft-ietf-httpbis-availability-hints).
//!
//! Clients write `Accept` in hundreds of ways, and an answer that varies by it would be stored once for each. Where the answer names
//! what there is, what tells its variants apart is the choice, not the text: there are as many as there are formats.
//!
//! Invariant: who makes the answer and who stores it choose by the same function, so they agree.

use super::content_coding::qvalue;
use super::fields::{HeaderView, is_token, list, split_outside_quotes};

/// `Avail-Format: image/avif, image/webp, image/jpeg;d`: media types, the best first; `d` marks the one for who names none.
pub const AVAIL_FORMAT: &str = "avail-format";
/// Formats of one answer; with more, the hint is not followed.
const FORMATS_MAX: usize = 8;
/// More members of `Accept` than this are not read.
const MEMBERS_MAX: usize = 64;
/// q=1, in thousandths.
const Q_MAX: u16 = 1000;

/// What there is, as an answer's field says it: media types in lower case, and the place of the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Available {
    formats: Vec<String>,
    default: usize,
}

impl Available {
    /// The last is the default. None: no format, or too many.
    pub fn new<'a>(formats: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let formats: Vec<String> = formats.into_iter().map(str::to_ascii_lowercase).collect();
        let default = formats.len().checked_sub(1)?;
        (formats.len() <= FORMATS_MAX).then_some(Self { formats, default })
    }

    /// Reads an answer's hint. None: there is none that can be followed.
    pub fn of<H: HeaderView>(headers: &H) -> Option<Self> {
        let (mut formats, mut default) = (Vec::new(), None);
        for member in list(headers.all(AVAIL_FORMAT)) {
            let mut parts = split_outside_quotes(member, b';');
            let name = parts.next().filter(|name| is_media_type(name))?;
            if parts.any(|parameter| parameter == b"d" || parameter == b"d=?1") {
                default = default.or(Some(formats.len()));
            }
            formats.push(String::from_utf8_lossy(name).to_ascii_lowercase());
        }
        let default = default.or(formats.len().checked_sub(1))?;
        (formats.len() <= FORMATS_MAX).then_some(Self { formats, default })
    }

    /// The value of the field.
    pub fn field(&self) -> String {
        let mark = |at: usize| if at == self.default { ";d" } else { "" };
        let members = self.formats.iter().enumerate().map(|(at, format)| format!("{format}{}", mark(at)));
        members.collect::<Vec<_>>().join(", ")
    }

    /// What a request gets: of the formats it names, the one with the highest weight, among equals the first. A wildcard speaks for
    /// the default only: programs that send `*/*` have not heard of newer formats. Where nothing fits it is the default: a picture
    /// that may not be shown is better than none.
    pub fn choose<H: HeaderView>(&self, request: &H) -> &str {
        let mut named: [Option<u16>; FORMATS_MAX] = [None; FORMATS_MAX];
        let (mut of_kind, mut any) = (None, None);
        let kind = self.formats[self.default].split('/').next().unwrap_or_default();
        for member in list(request.all("accept")).take(MEMBERS_MAX) {
            let Some((range, q)) = weighted(member) else { continue };
            let slot = if range == "*/*" {
                &mut any
            } else if range.strip_suffix("/*") == Some(kind) {
                &mut of_kind
            } else if let Some(at) = self.formats.iter().position(|format| *format == range) {
                &mut named[at]
            } else {
                continue;
            };
            // What was refused once is not sent.
            *slot = Some(slot.map_or(q, |known: u16| known.min(q)));
        }
        named[self.default] = named[self.default].or(of_kind).or(any);
        let mut best = (self.default, 0);
        for (at, q) in named.into_iter().enumerate().take(self.formats.len()) {
            if q.unwrap_or(0) > best.1 {
                best = (at, q.unwrap_or(0));
            }
        }
        &self.formats[best.0]
    }
}

/// What tells variants of a stored answer apart that says what there is. None: it does not say.
pub fn selected<A: HeaderView, R: HeaderView>(answer: &A, request: &R) -> Option<Vec<u8>> {
    Some(Available::of(answer)?.choose(request).as_bytes().to_vec())
}

/// `type/subtype`, each a token.
fn is_media_type(text: &[u8]) -> bool {
    let mut parts = text.split(|byte| *byte == b'/');
    parts.next().is_some_and(is_token) && parts.next().is_some_and(is_token) && parts.next().is_none()
}

/// A media range in lower case and its weight. None where it has parameters of its own (there are none for pictures), or is no range.
fn weighted(member: &[u8]) -> Option<(String, u16)> {
    let mut parts = split_outside_quotes(member, b';');
    let range = parts.next().filter(|range| is_media_type(range))?;
    let mut q = Q_MAX;
    for parameter in parts {
        match parameter {
            [b'q' | b'Q', b'=', value @ ..] => q = qvalue(value)?,
            _ => return None,
        }
    }
    Some((String::from_utf8_lossy(range).to_ascii_lowercase(), q))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn map(name: &'static str, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn pictures() -> Available {
        Available::new(["image/avif", "image/webp", "image/jpeg"]).unwrap()
    }

    #[test]
    fn what_browsers_and_programs_send_is_understood() {
        for (accept, expected) in [
            (&["image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"][..], "image/avif"),
            (&["image/webp,*/*"], "image/webp"),
            (&["IMAGE/WebP ; q=1", "*/*;q=0.1"], "image/webp"),
            (&["image/avif;q=0.5, image/webp;q=0.9"], "image/webp"),
            (&["image/avif;q=0.5, */*;q=0.8"], "image/jpeg"),
            (&["image/avif;q=0, image/*"], "image/jpeg"),
            (&["image/avif, image/avif;q=0"], "image/jpeg"),
            (&["*/*"], "image/jpeg"),
            (&["image/*"], "image/jpeg"),
            (&["text/html"], "image/jpeg"),
            (&["image/jpeg;q=0"], "image/jpeg"),
            (&["image/avif;q=2, image/webp;level=1, ;;,"], "image/jpeg"),
            (&[""], "image/jpeg"),
            (&[], "image/jpeg"),
        ] {
            assert_eq!(pictures().choose(&map("accept", accept)), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_hint_is_read_back_and_what_is_none_is_not_followed() {
        assert_eq!(pictures().field(), "image/avif, image/webp, image/jpeg;d");
        let read = |values: &[&str]| Available::of(&map(AVAIL_FORMAT, values));
        assert_eq!(read(&[&pictures().field()]), Some(pictures()));
        assert_eq!(read(&["image/png;d, Image/GIF"]).unwrap().field(), "image/png;d, image/gif");
        let many = ["image/x"; FORMATS_MAX + 1].join(", ");
        for wrong in ["", "image", "image/a/b", "a b/c", many.as_str()] {
            assert_eq!(read(&[wrong]), None, "{wrong}");
        }
        assert_eq!(Available::new([]), None);
    }

    proptest! {
        #[test]
        fn whatever_is_sent_there_are_no_more_variants_than_formats(
            value in proptest::collection::vec(prop_oneof![Just(b','), Just(b'/'), Just(b';'), 0x20_u8..0x7f, 0x80_u8..], 0..64),
            known in "((image/(avif|webp|jpeg|\\*)|\\*/\\*)(;q=[01](\\.[0-9]{0,3})?)?,? ?){0,6}",
        ) {
            let answer = map(AVAIL_FORMAT, &[&pictures().field()]);
            for value in [HeaderValue::from_bytes(&value).unwrap(), HeaderValue::from_str(&known).unwrap()] {
                let request = HeaderMap::from_iter([(http::header::ACCEPT, value.clone())]);
                let selected = selected(&answer, &request).unwrap();
                prop_assert!(["image/avif", "image/webp", "image/jpeg"].iter().any(|format| format.as_bytes() == selected));
                let _ = Available::of(&HeaderMap::from_iter([(HeaderName::from_static(AVAIL_FORMAT), value)]));
            }
        }
    }
}
