//! What the store knows of a response's head: how long its body must be, what it costs, which version it belongs to.
//!
//! `CacheMeta` is kept parsed. It has no `Clone`, and Pingora wants one of its own per hit, so [`copy`] builds one from its
//! parts: one `HeaderMap` clone (values are reference-counted), nothing parsed or serialised. What is kept is [`compact`], and its price
//! is all that its object takes: `cache.memory` is a bound on the process, also where objects are tiny.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use pingora_cache::CacheMeta;
use pingora_http::ResponseHeader;

/// What an object takes beside its bytes, its fields and its stamp, each rounded up as an allocator does: the fixed part of the
/// metadata (about 550) and what was decided when it was stored (about 450); body, content, chunk and forms (about 400); its slot, its
/// place in the policy and a ghost (about 400, in tables that are half empty when they have just doubled).
const OBJECT_OVERHEAD_BYTES: u64 = 1792;
/// Per header field beyond its name and value: an entry of 104 bytes, its index, and a name of its own where it is no common one.
const FIELD_OVERHEAD_BYTES: u64 = 144;
/// Per header field of a head that keeps how names were written, beyond the name: an entry of 96 bytes and its index.
const CASE_OVERHEAD_BYTES: u64 = 112;

/// Which fill an answer's bytes come from; in the extensions of every `CacheMeta` a lookup returns. Pingora merges these into
/// the metadata it writes back after a 304, so [`super::MemoryStore`] can tell whose metadata that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub u64);

/// The body length a head promises (RFC 9110, section 8.6).
pub(super) fn promised_bytes(meta: &CacheMeta) -> Option<u64> {
    meta.headers().get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// What a head that is kept ([`compact`]) costs in memory, bookkeeping included (an estimate: allocators do not tell).
pub(super) fn bytes(meta: &CacheMeta) -> u64 {
    let has_case = meta.response_header().has_case();
    meta.headers().iter().fold(OBJECT_OVERHEAD_BYTES, |sum, (name, value)| {
        let name_bytes = name.as_str().len() as u64;
        let case = if has_case { CASE_OVERHEAD_BYTES + name_bytes } else { 0 };
        sum + FIELD_OVERHEAD_BYTES + name_bytes + case + value.len() as u64
    })
}

/// When what [`copy`] gives says that it was created.
pub(super) fn created(meta: &CacheMeta) -> SystemTime {
    if meta.variance().is_some() { meta.provenance() } else { meta.created() }
}

/// A copy that answers like the original, but for two times Pingora does not let us set:
/// - `updated()` reads as `created()`; `epoch()`, `age()` and `fresh_sec()` are exact, through the epoch override;
/// - `provenance()` and `created()` are one. Pingora compares them only to tell whether a `Vary` variant is older than its
///   family, so a varied copy takes the provenance: then no variant is ever taken for younger than it is.
pub(super) fn copy(meta: &CacheMeta) -> CacheMeta {
    with_header(meta, meta.response_header_copy())
}

/// A [`copy`] to be kept. The names and values of a head as it came are slices of what was read with it, 4 KiB at the least, and keep
/// all of that in memory; here they are slices of one piece of just their size.
pub(super) fn compact(meta: &CacheMeta) -> CacheMeta {
    let header = meta.response_header();
    with_header(meta, compact_header(header).unwrap_or_else(|| header.clone()))
}

/// None: its maps do not agree.
fn compact_header(header: &ResponseHeader) -> Option<ResponseHeader> {
    let (fields, has_case) = (header.headers.len(), header.has_case());
    let values = header.headers.values().map(HeaderValue::as_bytes);
    let names = header.case_header_iter().map(|(name, _)| name.as_slice());
    let whole = Bytes::from(values.chain(names).collect::<Vec<_>>().concat());
    let mut begin = 0;
    let mut slice = |bytes: usize| {
        begin += bytes;
        whole.slice(begin - bytes..begin)
    };
    let values = header.headers.values().map(|value| {
        let mut own = HeaderValue::from_maybe_shared(slice(value.len())).unwrap_or_else(|_| value.clone());
        own.set_sensitive(value.is_sensitive());
        own
    });
    let values: Vec<HeaderValue> = values.collect();
    let mut compact = if has_case {
        let mut compact = ResponseHeader::build(header.status, Some(fields)).ok()?;
        for ((name, _), value) in header.case_header_iter().zip(values) {
            compact.append_header(slice(name.as_slice().len()), value).ok()?;
        }
        compact
    } else {
        let mut compact = ResponseHeader::build_no_case(header.status, Some(fields)).ok()?;
        for (name, value) in header.headers.iter().map(|(name, _)| name).zip(values) {
            compact.append_header(name, value).ok()?;
        }
        compact
    };
    compact.set_version(header.version);
    compact.set_reason_phrase(header.get_reason_phrase()).ok()?;
    *compact.extensions_mut() = header.extensions.clone();
    // The maps of a clone have no room to grow.
    (compact.headers.len() == fields).then(|| compact.clone())
}

fn with_header(meta: &CacheMeta, header: ResponseHeader) -> CacheMeta {
    let created = created(meta);
    let mut copy = CacheMeta::new(
        meta.fresh_until(),
        created,
        meta.stale_while_revalidate_sec(),
        meta.stale_if_error_sec(),
        header,
    );
    if meta.epoch() != created {
        copy.set_epoch_override(meta.epoch());
    }
    if let Some(variance) = meta.variance() {
        copy.set_variance(variance);
    }
    *copy.extensions_mut() = meta.extensions().clone();
    copy
}

/// A copy for an answer from `version`.
pub(super) fn copy_of_version(meta: &CacheMeta, version: u64) -> CacheMeta {
    let mut copy = copy(meta);
    copy.extensions_mut().insert(Version(version));
    copy
}

/// The head of a whole body: a length the origin did not announce is known now, so hits can carry it and be ranged.
pub(super) fn complete(meta: &CacheMeta, body_bytes: u64, expired_at: Option<SystemTime>) -> CacheMeta {
    let mut copy = copy(meta);
    let status = copy.response_header().status;
    let header = copy.response_header_mut();
    if status.is_success() && status != http::StatusCode::NO_CONTENT && !header.headers.contains_key(CONTENT_LENGTH) {
        header.remove_header(&TRANSFER_ENCODING);
        // A number is always a valid field value.
        let _ = header.insert_header(CONTENT_LENGTH, body_bytes);
    }
    if let Some(expired_at) = expired_at {
        copy.expire_at(expired_at);
    }
    copy
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn meta(fields: &[(&'static str, &'static str)]) -> CacheMeta {
        let mut header = ResponseHeader::build(200, None).expect("valid status");
        for (name, value) in fields {
            header.append_header(*name, *value).expect("valid field");
        }
        let now = SystemTime::now();
        CacheMeta::new(now + Duration::from_secs(60), now, 7, 9, header)
    }

    #[test]
    fn a_copy_keeps_freshness_age_variance_and_fields() {
        let mut original = meta(&[("etag", "\"a\""), ("x", "1"), ("x", "2")]);
        original.set_variance([3; 16]);
        original.set_epoch_override(SystemTime::now() - Duration::from_secs(30));
        original.extensions_mut().insert(5_u8);
        let copied = copy(&original);
        assert_eq!(copied.fresh_until(), original.fresh_until());
        assert_eq!(copied.epoch(), original.epoch());
        assert_eq!(copied.created(), original.created());
        assert_eq!((copied.stale_while_revalidate_sec(), copied.stale_if_error_sec()), (7, 9));
        assert_eq!(copied.variance(), Some([3; 16]));
        assert_eq!(copied.headers(), original.headers());
        assert_eq!(copied.extensions().get::<u8>(), Some(&5));
    }

    #[test]
    fn age_after_a_revalidation_counts_from_the_revalidation() {
        let mut original = meta(&[]);
        original.update_freshness(original.fresh_until() + Duration::from_secs(5), 1, 1);
        assert_eq!(copy(&original).epoch(), original.updated());
        assert_eq!(copy(&copy(&original)).fresh_sec(), original.fresh_sec());
    }

    #[test]
    fn an_unannounced_length_is_added_and_an_announced_one_kept() {
        let chunked = complete(&meta(&[("transfer-encoding", "chunked")]), 12, None);
        assert_eq!(promised_bytes(&chunked), Some(12));
        assert!(!chunked.headers().contains_key("transfer-encoding"));
        let known = complete(&meta(&[("content-length", "5")]), 5, None);
        assert_eq!(promised_bytes(&known), Some(5));
    }

    #[test]
    fn a_compact_head_is_written_alike_and_holds_nothing_of_what_was_read_with_it() {
        let read = Bytes::from(vec![b'v'; 4096]);
        let mut header = ResponseHeader::build(404, None).expect("valid status");
        header.set_reason_phrase(Some("Gone fishing")).expect("valid phrase");
        for (name, value) in [("ETag", read.slice(..4)), ("x-CASE", read.slice(9..9)), ("Via", read.slice(8..16))] {
            header.append_header(name, HeaderValue::from_maybe_shared(value).expect("valid value")).expect("valid");
        }
        header.append_header("VIA", HeaderValue::from_maybe_shared(read.slice(..100)).expect("valid")).expect("valid");
        let mut no_case = ResponseHeader::build_no_case(200, None).expect("valid status");
        no_case.append_header("x-tag", HeaderValue::from_static("a")).expect("valid field");
        let now = SystemTime::now();
        let kept = [header, no_case].map(|header| {
            let kept = compact(&CacheMeta::new(now, now, 0, 0, header.clone()));
            let (mut before, mut after) = (Vec::new(), Vec::new());
            header.header_to_h1_wire(&mut before);
            kept.response_header().header_to_h1_wire(&mut after);
            assert_eq!(String::from_utf8_lossy(&before), String::from_utf8_lossy(&after));
            assert_eq!(kept.response_header().get_reason_phrase(), header.get_reason_phrase());
            assert_eq!((kept.response_header().status, kept.headers()), (header.status, &header.headers));
            kept
        });
        assert!(read.is_unique(), "{kept:?}");
    }

    #[test]
    fn the_cost_grows_with_the_fields() {
        assert!(bytes(&meta(&[("a", "0123456789")])) > bytes(&meta(&[])) + 10);
    }
}
