//! The head of an object as it lies on a disk: everything about it but its bytes.
//!
//! ```text
//! format (1) · status (2) · of HTTP/1.0 (1) · times and windows · variance · header fields (`fields`) · what was decided when it was
//! stored (`decided`) · length of its stamp for bans (4) and the stamp
//! ```
//! All numbers are little-endian; an optional part has a byte before it that says whether it is there. It says what [`super::meta::copy`]
//! would, so a hit from a disk answers as one from RAM does. Read at each hit that comes from a disk: nothing in it is compressed or text
//! to be parsed, and field values are slices of one piece of memory. Nothing here is trusted: what cannot be read is no head. The disk
//! compares checksums; this compares meanings.

mod decided;
mod fields;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{StatusCode, Version};
use pingora_cache::CacheMeta;
use pingora_http::ResponseHeader;

use super::bans::Reader;
use super::meta;
use crate::http::freshness::Storable;

/// Heads of another format are misses.
const FORMAT: u8 = 3;

/// A head read back.
#[derive(Debug)]
pub(super) struct Head {
    /// With what was decided when it was stored in its extensions.
    pub(super) meta: CacheMeta,
    /// For [`super::bans`].
    pub(super) stamp: Bytes,
}

/// `stamp`: as [`super::bans`] writes it. None for a head that cannot be written, and is therefore not kept.
pub(super) fn to_bytes(meta: &CacheMeta, stamp: &[u8]) -> Option<Vec<u8>> {
    let header = meta.response_header();
    let mut bytes = Vec::with_capacity(1024);
    bytes.push(FORMAT);
    bytes.extend(header.status.as_u16().to_le_bytes());
    bytes.push(u8::from(header.version == Version::HTTP_10));
    let created = meta::created(meta);
    for time in [meta.fresh_until(), created, meta.epoch()] {
        put_time(&mut bytes, time);
    }
    bytes.extend(meta.stale_while_revalidate_sec().to_le_bytes());
    bytes.extend(meta.stale_if_error_sec().to_le_bytes());
    bytes.push(u8::from(meta.variance().is_some()));
    bytes.extend(meta.variance().into_iter().flatten());
    fields::put(&mut bytes, &header.headers)?;
    let decided = meta.extensions().get::<Arc<Storable>>();
    bytes.push(u8::from(decided.is_some()));
    if let Some(decided) = decided {
        decided::put(&mut bytes, decided)?;
    }
    bytes.extend(u32::try_from(stamp.len()).ok()?.to_le_bytes());
    bytes.extend(stamp);
    Some(bytes)
}

/// None: this is no head.
pub(super) fn from_bytes(bytes: &Bytes) -> Option<Head> {
    let mut fields = Reader(bytes);
    if fields.u8()? != FORMAT {
        return None;
    }
    let (status, is_http_10) = (fields.u16()?, take_flag(&mut fields)?);
    let (fresh_until, created, epoch) = (take_time(&mut fields)?, take_time(&mut fields)?, take_time(&mut fields)?);
    let (stale_while_revalidate_s, stale_if_error_s) = (fields.u32()?, fields.u32()?);
    let variance = if take_flag(&mut fields)? { Some(fields.array::<16>()?) } else { None };
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(status).ok()?;
    parts.version = if is_http_10 { Version::HTTP_10 } else { Version::HTTP_11 };
    parts.headers = fields::take(bytes, &mut fields)?;
    let header = ResponseHeader::from(parts);
    let decided = if take_flag(&mut fields)? { Some(decided::take(&mut fields)?) } else { None };
    let stamp_bytes = fields.u32()?;
    let stamp = bytes.slice_ref(fields.take(stamp_bytes as usize)?);
    fields.end()?;
    let mut meta = CacheMeta::new(fresh_until, created, stale_while_revalidate_s, stale_if_error_s, header);
    if epoch != created {
        meta.set_epoch_override(epoch);
    }
    if let Some(variance) = variance {
        meta.set_variance(variance);
    }
    if let Some(decided) = decided {
        meta.extensions_mut().insert(Arc::new(decided));
    }
    Some(Head { meta, stamp })
}

/// Whole seconds since 1970 and nanoseconds beyond them. Before that there was no HTTP.
fn put_time(bytes: &mut Vec<u8>, time: SystemTime) {
    put_duration(bytes, time.duration_since(UNIX_EPOCH).unwrap_or_default());
}

fn take_time(fields: &mut Reader<'_>) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(take_duration(fields)?)
}

fn put_duration(bytes: &mut Vec<u8>, duration: Duration) {
    bytes.extend(duration.as_secs().to_le_bytes());
    bytes.extend(duration.subsec_nanos().to_le_bytes());
}

fn take_duration(fields: &mut Reader<'_>) -> Option<Duration> {
    let (seconds, nanoseconds) = (fields.u64()?, fields.u32()?);
    (nanoseconds < 1_000_000_000).then(|| Duration::new(seconds, nanoseconds))
}

fn take_flag(fields: &mut Reader<'_>) -> Option<bool> {
    match fields.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use pingora_http::ResponseHeader;
    use proptest::prelude::*;

    use super::*;
    use crate::http::freshness::TtlSource;

    fn meta() -> CacheMeta {
        let mut header = ResponseHeader::build_no_case(404, None).expect("valid status");
        for (name, value) in [("etag", "\"a\""), ("set-x", "1"), ("set-x", "2"), ("x-bytes", "caf\u{e9}")] {
            header.append_header(name, value).expect("valid field");
        }
        let now = SystemTime::now();
        let mut meta = CacheMeta::new(now + Duration::from_secs(60), now, 7, 9, header);
        meta.set_variance([3; 16]);
        meta.set_epoch_override(now - Duration::from_secs(30));
        let decided = Storable {
            fresh_for: Duration::from_millis(60_500),
            source: TtlSource::SMaxage,
            vary: vec!["accept".to_owned()],
            no_stale: true,
            codable: true,
            modified: now - Duration::from_secs(5),
            ..Storable::default()
        };
        meta.extensions_mut().insert(Arc::new(decided));
        meta
    }

    #[test]
    fn a_head_comes_back_as_it_was() {
        let before = meta();
        let head = from_bytes(&to_bytes(&before, b"stamp").expect("written").into()).expect("a head");
        let after = head.meta;
        assert_eq!(&head.stamp[..], b"stamp");
        assert_eq!(after.headers(), before.headers());
        assert_eq!(after.response_header().status, before.response_header().status);
        assert_eq!(
            (after.fresh_until(), after.epoch(), after.created(), after.variance()),
            (before.fresh_until(), before.epoch(), before.created(), before.variance())
        );
        assert_eq!((after.stale_while_revalidate_sec(), after.stale_if_error_sec()), (7, 9));
        let decided = |meta: &CacheMeta| meta.extensions().get::<Arc<Storable>>().cloned();
        assert_eq!(decided(&after), decided(&before));
    }

    proptest! {
        #[test]
        fn damaged_heads_are_no_heads_and_never_panic(at in 0_usize..2_000, byte in any::<u8>(), cut in 0_usize..2_000) {
            let mut bytes = to_bytes(&meta(), b"stamp").expect("written");
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = from_bytes(&bytes.clone().into());
            bytes.truncate(cut % bytes.len());
            prop_assert!(from_bytes(&bytes.into()).is_none(), "a head is whole or none");
        }
    }
}
