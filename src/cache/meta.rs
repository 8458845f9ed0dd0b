//! What the store knows of a response's head: how long its body must be, what it costs, which version it belongs to.
//!
//! `CacheMeta` is kept parsed. It has no `Clone`, and Pingora wants one of its own per hit, so [`copy`] builds one from its
//! parts: one `HeaderMap` clone (values are reference-counted), nothing parsed or serialised.

use std::time::SystemTime;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora_cache::CacheMeta;

/// Bookkeeping per object: slot, policy entry, ghost, fill, and the fixed part of the metadata.
const OBJECT_OVERHEAD_BYTES: u64 = 1024;
/// Per header field beyond its name and value: the slots in both header maps.
const FIELD_OVERHEAD_BYTES: u64 = 128;

/// Which fill an answer's bytes come from; in the extensions of every `CacheMeta` a lookup returns. Pingora merges these into
/// the metadata it writes back after a 304, so [`super::MemoryStore`] can tell whose metadata that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub u64);

/// The body length a head promises (RFC 9110, section 8.6).
pub(super) fn promised_bytes(meta: &CacheMeta) -> Option<u64> {
    meta.headers().get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// What a head costs in memory, bookkeeping included (an estimate: allocators do not tell).
pub(super) fn bytes(meta: &CacheMeta) -> u64 {
    let fields = meta.headers().iter();
    fields.fold(OBJECT_OVERHEAD_BYTES, |sum, (name, value)| {
        sum + FIELD_OVERHEAD_BYTES + name.as_str().len() as u64 + value.len() as u64
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
    let created = created(meta);
    let mut copy = CacheMeta::new(
        meta.fresh_until(),
        created,
        meta.stale_while_revalidate_sec(),
        meta.stale_if_error_sec(),
        meta.response_header_copy(),
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

    use pingora_http::ResponseHeader;

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
    fn the_cost_grows_with_the_fields() {
        assert!(bytes(&meta(&[("a", "0123456789")])) > bytes(&meta(&[])) + 10);
    }
}
