//! Whose numbers and hashes these are: a log of bans, or one process where there is none.
//!
//! Numbers and hashed tags mean something only together with the bans they were counted and hashed for. So both carry the
//! identity's name, and what carries another one is not compared with these bans at all. Hashes are SipHash-1-3 with a random
//! key, which is fixed for all versions of this program: they lie on disk.

use std::hash::{BuildHasher, Hasher, RandomState};

use siphasher::sip::SipHasher13;

/// A random name and the key of the hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) name: u64,
    pub(super) key: [u8; 16],
}

impl Identity {
    pub(super) const BYTES: usize = 24;

    pub(super) fn random() -> Self {
        // Each state of the standard library has keys of the operating system's randomness.
        let random = RandomState::new();
        let (low, high) = (random.hash_one(1), random.hash_one(2));
        let mut key = [0; 16];
        key[..8].copy_from_slice(&low.to_le_bytes());
        key[8..].copy_from_slice(&high.to_le_bytes());
        Self { name: random.hash_one(0), key }
    }

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.name.to_le_bytes());
        bytes[8..].copy_from_slice(&self.key);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (mut name, mut key) = ([0; 8], [0; 16]);
        name.copy_from_slice(&bytes[..8]);
        key.copy_from_slice(&bytes[8..]);
        Self { name: u64::from_le_bytes(name), key }
    }

    /// A tag as bans and stamps keep it.
    pub(super) fn tag_hash(&self, tag: &[u8]) -> u64 {
        self.hash(&[tag])
    }

    /// Of the parts one after another.
    pub(super) fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        parts.iter().for_each(|part| hasher.write(part));
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_on_disk_are_those_of_every_version() {
        let identity = Identity { name: 7, key: std::array::from_fn(|at| at as u8) };
        // The reference implementation's vector for SipHash-1-3 of no bytes with this key.
        assert_eq!(identity.hash(&[]), 0xabac_0158_050f_c4dc);
        assert_eq!(identity.hash(&[b"film", b" 1"]), identity.tag_hash(b"film 1"));
        assert_eq!(Identity::from_bytes(&identity.to_bytes()), identity);
        assert_ne!(Identity::random(), Identity::random());
    }
}
