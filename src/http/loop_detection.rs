//! CDN-Loop (RFC 8586) and Via (RFC 9110 §7.6.3): has this request been here before?
//!
//! An edge calls itself `reelgate;id=…`, with an id of its own: a chain of several Reelgates is no loop until one sees
//! itself. A chain of more than [`PASSES_MAX`] of them is one all the same. Both fields are
//! only ever appended to; where they grow too long the members of those farthest away go first.

use super::fields::{is_token, join_and_append, list, name_and_value, split_outside_quotes, unquote};
use http::Version;

/// Reelgates in a chain, at most.
pub const PASSES_MAX: usize = 16;

/// The name in CDN-Loop and Via.
const NAME: &str = "reelgate";

/// Longest value sent.
const FIELD_BYTES_MAX: usize = 4096;

/// Who this edge is in CDN-Loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopId(String);

impl LoopId {
    /// Takes a token of 1 to 64 bytes that no other edge of the same chain has; random by process will do.
    pub fn new(id: &str) -> Option<Self> {
        (is_token(id.as_bytes()) && id.len() <= 64).then(|| Self(id.to_owned()))
    }

    /// Whether a request is to be answered with 508: this edge is named already, or too many others are.
    pub fn is_loop<'a>(&self, received: impl Iterator<Item = &'a [u8]>) -> bool {
        let (mut passes, mut own) = (0, false);
        for id in reelgates(received) {
            passes += 1;
            own |= id.as_deref() == Some(self.0.as_str());
        }
        own || passes >= PASSES_MAX
    }

    /// CDN-Loop towards the origin: what was received, and this edge.
    pub fn append_to<'a>(&self, received: impl Iterator<Item = &'a [u8]>) -> String {
        join_and_append(received, &format!("{NAME};id={}", self.0), FIELD_BYTES_MAX)
    }
}

/// The `id` of every Reelgate in the list; None for one without.
fn reelgates<'a>(received: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = Option<String>> {
    list(received).filter_map(|member| {
        let mut parts = split_outside_quotes(member, b';');
        parts.next().filter(|name| name.eq_ignore_ascii_case(NAME.as_bytes()))?;
        let id = parts.map(name_and_value).find(|(name, _)| name.eq_ignore_ascii_case(b"id"));
        Some(id.and_then(|(_, value)| unquote(value?)))
    })
}

/// Via with this edge appended. `version`: of the message received.
pub fn append_via<'a>(received: impl Iterator<Item = &'a [u8]>, version: Version) -> String {
    let protocol = match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    };
    join_and_append(received, &format!("{protocol} {NAME}"), FIELD_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> LoopId {
        LoopId::new("a1").unwrap()
    }

    fn is_loop(value: &str) -> bool {
        id().is_loop([value.as_bytes()].into_iter())
    }

    #[test]
    fn rfc8586_2_this_edge_twice_is_a_loop() {
        for (value, expected) in [
            ("reelgate;id=a1", true),
            ("foo123.foocdn.example, Reelgate ; x=y ; ID=\"a1\"", true),
            ("barcdn.example; trace=\"abcdef, reelgate;id=a1\"", false),
            ("reelgate;id=b2, reelgate", false),
            ("reelgate;id=A1", false),
            ("other;id=a1", false),
            ("", false),
        ] {
            assert_eq!(is_loop(value), expected, "{value}");
        }
    }

    #[test]
    fn a_chain_of_too_many_others_is_a_loop() {
        assert!(!is_loop(&vec!["reelgate;id=b"; PASSES_MAX - 1].join(",")));
        assert!(is_loop(&vec!["reelgate"; PASSES_MAX].join(",")));
    }

    #[test]
    fn rfc8586_2_we_append_and_never_replace() {
        let lines = [b"AnotherCDN".as_slice(), b"third; x=\"y\""];
        assert_eq!(id().append_to(lines.into_iter()), "AnotherCDN, third; x=\"y\", reelgate;id=a1");
        assert_eq!(id().append_to(std::iter::empty()), "reelgate;id=a1");
    }

    #[test]
    fn ids_are_tokens() {
        for bad in ["", "a b", "a;b", "a\"", &"x".repeat(65)] {
            assert_eq!(LoopId::new(bad), None, "{bad}");
        }
    }

    #[test]
    fn rfc9110_7_6_3_via() {
        assert_eq!(append_via([b"1.0 fred".as_slice()].into_iter(), Version::HTTP_11), "1.0 fred, 1.1 reelgate");
        assert_eq!(append_via(std::iter::empty(), Version::HTTP_2), "2 reelgate");
        assert_eq!(append_via(std::iter::empty(), Version::HTTP_3), "3 reelgate");
    }

    proptest! {
        #[test]
        fn what_we_append_is_found_again_whatever_stood_before(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let sent = id().append_to([value.as_slice()].into_iter());
            prop_assert!(is_loop(&sent));
            prop_assert!(sent.len() <= FIELD_BYTES_MAX);
        }
    }
}
