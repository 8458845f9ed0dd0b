//! Invalidation tags: the names an origin gives an answer, so that a purge can reach all answers of one name.
//!
//! `Cache-Tag` splits on commas, `Surrogate-Key` on spaces; a tag is compared byte for byte. Both fields are bounded here: what
//! is beyond the bounds is not kept but reported, so that whoever keeps tags can treat the answer as if it had every tag.

use super::fields::HeaderView;

/// Most tags kept of one answer.
pub const TAGS_MAX: usize = 1024;
/// Longest tag kept, and longest tag to purge, in bytes.
pub const TAG_BYTES_MAX: usize = 1024;

/// The tags of one answer, in the order received; repeated ones stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags<'a> {
    pub list: Vec<&'a [u8]>,
    /// False: a tag was too long or one too many, and is missing from `list`.
    pub complete: bool,
}

/// Reads both fields.
pub fn of(headers: &impl HeaderView) -> Tags<'_> {
    let by_comma = headers.all("cache-tag").flat_map(|value| value.split(|byte| *byte == b','));
    let by_space = headers.all("surrogate-key").flat_map(|value| value.split(u8::is_ascii_whitespace));
    let mut tags = Tags { list: Vec::new(), complete: true };
    for tag in by_comma.chain(by_space).map(<[u8]>::trim_ascii).filter(|tag| !tag.is_empty()) {
        if tag.len() > TAG_BYTES_MAX || tags.list.len() == TAGS_MAX {
            tags.complete = false;
        } else {
            tags.list.push(tag);
        }
    }
    tags
}

/// Why a text is no tag that any answer could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagError {
    Empty,
    TooLong,
    /// A control character, or a comma together with a space: neither field can carry that.
    Character,
}

impl std::fmt::Display for TagError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("the tag is empty"),
            Self::TooLong => write!(f, "the tag is longer than {TAG_BYTES_MAX} bytes"),
            Self::Character => {
                f.write_str("not one tag: give each tag of a list by itself, without control characters")
            }
        }
    }
}

impl std::error::Error for TagError {}

/// A tag as a person or a script names it, without the spaces around it.
pub fn parse(text: &str) -> Result<&str, TagError> {
    let tag = text.trim_ascii();
    if tag.is_empty() {
        Err(TagError::Empty)
    } else if tag.len() > TAG_BYTES_MAX {
        Err(TagError::TooLong)
    } else if tag.contains(|c: char| c.is_ascii_control()) || (tag.contains(',') && tag.contains(' ')) {
        Err(TagError::Character)
    } else {
        Ok(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    fn headers(fields: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value).expect("valid value"));
        }
        headers
    }

    #[test]
    fn one_field_splits_on_commas_and_the_other_on_spaces() {
        let headers = headers(&[
            ("surrogate-key", b"film:1  a,b\tc"),
            ("cache-tag", b" film 2 ,,x , "),
            ("cache-tag", b"\xc3\xa9"),
        ]);
        let tags = of(&headers);
        assert_eq!(tags.list, [&b"film 2"[..], b"x", "é".as_bytes(), b"film:1", b"a,b", b"c"]);
        assert!(tags.complete);
        assert_eq!(of(&HeaderMap::new()), Tags { list: vec![], complete: true });
    }

    #[test]
    fn what_is_beyond_the_bounds_is_reported() {
        let long = vec![b'a'; TAG_BYTES_MAX + 1];
        let too_long = headers(&[("cache-tag", &long), ("cache-tag", b"b")]);
        assert_eq!(of(&too_long), Tags { list: vec![b"b"], complete: false });
        assert!(of(&headers(&[("cache-tag", &long[1..])])).complete);
        let many = "a ".repeat(TAGS_MAX);
        assert!(of(&headers(&[("surrogate-key", many.as_bytes())])).complete);
        let too_many = headers(&[("surrogate-key", many.as_bytes()), ("surrogate-key", b"a")]);
        assert_eq!((of(&too_many).list.len(), of(&too_many).complete), (TAGS_MAX, false));
    }

    #[test]
    fn what_no_field_can_carry_is_no_tag() {
        assert_eq!(parse("  film 1 "), Ok("film 1"));
        assert_eq!(parse("a,b"), Ok("a,b"));
        for (text, error) in [
            (" ", TagError::Empty),
            ("a, b", TagError::Character),
            ("a\nb", TagError::Character),
            (&*"a".repeat(TAG_BYTES_MAX + 1), TagError::TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_tag_that_parses_is_found_in_one_of_the_fields(text in "[ -~]{0,12}") {
            if let Ok(tag) = parse(&text) {
                let by_comma = headers(&[("cache-tag", tag.as_bytes())]);
                let by_space = headers(&[("surrogate-key", tag.as_bytes())]);
                prop_assert!(of(&by_comma).list.contains(&tag.as_bytes()) || of(&by_space).list.contains(&tag.as_bytes()));
            }
        }
    }
}
