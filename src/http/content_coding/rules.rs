//! Whether a response may be coded by us, and what of it is untrue once its coding changed.

use super::super::cache_control::ResponseCacheControl;
use super::super::fields::{HeaderView, list};
use super::super::precondition::EntityTag;
use super::{BodyCoding, of_body};
use ::http::HeaderName;
use ::http::header::{ACCEPT_RANGES, CONTENT_LENGTH};

/// Fields to drop when a body's coding changes, either way; names parsed once, for every coded hit asks for them. They speak of the
/// bytes as they were:
/// - `accept-ranges`: ranges of bytes that another run may make differently;
/// - `content-digest`, `digest`, `repr-digest` (RFC 9530 §2, §3; `digest` is RFC 3230's) and `content-md5` cover coded bytes.
///
/// The entity-tag stays, weakened ([`weak_etag`]). `unencoded-digest` stays true.
pub static UNTRUE_AFTER_CODING: [HeaderName; 6] = [
    ACCEPT_RANGES,
    HeaderName::from_static("content-digest"),
    CONTENT_LENGTH,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

/// Whether we may code a response: it has a whole body, nobody has coded it, and nobody forbids it.
pub fn may_be_coded<H: HeaderView>(status: u16, headers: &H) -> bool {
    has_whole_body(status, headers) && of_body(headers) == BodyCoding::None && !forbids_transforms(headers)
}

/// Whether a response has a body and the whole of it: not 1xx, 204, 205, 206, 304, nor anything with `Content-Range`. Whether the
/// request was HEAD is for the caller to know.
pub fn has_whole_body<H: HeaderView>(status: u16, headers: &H) -> bool {
    !matches!(status, 0..=199 | 204 | 205 | 206 | 304) && !headers.has("content-range")
}

/// `no-transform` (RFC 9111 §5.2.2.6)
pub fn forbids_transforms<H: HeaderView>(headers: &H) -> bool {
    ResponseCacheControl::parse(headers.all("cache-control")).no_transform
}

/// The entity-tag of the same content in other bytes (RFC 9110 §8.8.1, §8.8.3.3): weak. None: this is no entity-tag.
pub fn weak_etag(tag: &str) -> Option<String> {
    EntityTag::of(tag).map(|parsed| if parsed.weak { tag.to_owned() } else { format!("W/{tag}") })
}

/// Whether a response chosen by `Accept-Encoding` has yet to say so in `Vary` (RFC 9110 §12.5.5).
pub fn vary_lacks_accept_encoding<H: HeaderView>(headers: &H) -> bool {
    !list(headers.all("vary")).any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"))
}
