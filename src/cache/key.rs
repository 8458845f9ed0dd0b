//! The key of an object from its content key ([`crate::http::key`]): the first half of its SHA-256 (FIPS 180-4). Pingora would take
//! BLAKE2b, at every use anew, for which processors have no instructions; a hit is cheap enough for that to be seen.
//!
//! Invariant: everyone who names an object by its content key comes through here, also purges.

use pingora_cache::CacheKey;
use pingora_cache::key::HashBinary;
use ring::digest::{SHA256, digest};

/// The key, with its hash at hand.
pub fn key(content_key: impl Into<Vec<u8>>) -> CacheKey {
    let content_key = content_key.into();
    let hash = hash(&content_key);
    let mut key = CacheKey::new(content_key, "");
    key.set_primary_bin_override(hash);
    key
}

pub(super) fn hash(content_key: &[u8]) -> HashBinary {
    let mut half = HashBinary::default();
    half.copy_from_slice(&digest(&SHA256, content_key).as_ref()[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora_cache::key::CacheHashKey;

    #[test]
    fn a_key_is_the_first_half_of_sha_256() {
        // FIPS 180-4, the one-block example.
        let expected = 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223_u128.to_be_bytes();
        assert_eq!((key("abc").primary_bin(), key("abc").combined_bin()), (expected, expected));
    }
}
