//! The head of an object as it lies on a disk: everything about it but its bytes.
//!
//! ```text
//! format (1 byte) · four parts, each as its length (u32, little-endian) and its bytes:
//! Pingora's times and variance · the header fields · what was decided when it was stored (JSON) · its stamp for bans
//! ```
//! Written once when an object goes to a disk, read once when it comes back: a hit in memory reads none of it. Nothing here is
//! trusted: what cannot be read is no head. The disk compares checksums; this compares meanings.

use std::sync::Arc;

use pingora_cache::CacheMeta;

use crate::http::freshness::Storable;

/// Heads of another format are misses.
const FORMAT: u8 = 1;
const PARTS: usize = 4;

/// A head read back.
#[derive(Debug)]
pub(super) struct Head {
    /// With what was decided when it was stored in its extensions.
    pub(super) meta: CacheMeta,
    /// For [`super::bans`].
    pub(super) stamp: Vec<u8>,
}

/// `stamp`: as [`super::bans`] writes it. None for a head that cannot be written, and is therefore not kept.
pub(super) fn to_bytes(meta: &CacheMeta, stamp: &[u8]) -> Option<Vec<u8>> {
    let (times, fields) = meta.serialize().ok()?;
    let decided = match meta.extensions().get::<Arc<Storable>>() {
        Some(decided) => serde_json::to_vec(&**decided).ok()?,
        None => Vec::new(),
    };
    let mut bytes = vec![FORMAT];
    for part in [&times[..], &fields, &decided, stamp] {
        bytes.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(part);
    }
    Some(bytes)
}

/// None: this is no head.
pub(super) fn from_bytes(bytes: &[u8]) -> Option<Head> {
    let mut rest = bytes.strip_prefix(&[FORMAT])?;
    let mut parts = [&[][..]; PARTS];
    for part in &mut parts {
        let (length, after) = rest.split_first_chunk::<4>()?;
        (*part, rest) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    }
    let [times, fields, decided, stamp] = parts;
    if !rest.is_empty() {
        return None;
    }
    let mut meta = CacheMeta::deserialize(times, fields).ok()?;
    if !decided.is_empty() {
        let decided: Storable = serde_json::from_slice(decided).ok()?;
        meta.extensions_mut().insert(Arc::new(decided));
    }
    Some(Head { meta, stamp: stamp.to_vec() })
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
        let head = from_bytes(&to_bytes(&before, b"stamp").expect("written")).expect("a head");
        let after = head.meta;
        assert_eq!(head.stamp, b"stamp");
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
            let _ = from_bytes(&bytes);
            bytes.truncate(cut % bytes.len());
            prop_assert!(from_bytes(&bytes).is_none(), "a head is whole or none");
        }
    }
}
