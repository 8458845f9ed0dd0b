//! What tells a version of a file from another: enough to notice a file that was replaced, appended to or edited.

use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

/// Inode, time of change and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    pub inode: u64,
    pub modified_s: i64,
    pub modified_ns: i64,
    pub bytes: u64,
}

impl Stamp {
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            inode: metadata.ino(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
            bytes: metadata.size(),
        })
    }

    /// All of it, for hashing: an inode number is nobody's business.
    pub fn to_bytes(&self) -> [u8; 32] {
        let parts = [self.inode, self.modified_s.cast_unsigned(), self.modified_ns.cast_unsigned(), self.bytes];
        let mut bytes = [0; 32];
        for (place, part) in bytes.chunks_exact_mut(8).zip(parts) {
            place.copy_from_slice(&part.to_be_bytes());
        }
        bytes
    }

    /// What [`Self::to_bytes`] gave; None: it did not.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 32] = bytes.try_into().ok()?;
        let mut parts = [0; 4];
        for (part, place) in parts.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *part = u64::from_be_bytes(*place);
        }
        let [inode, modified_s, modified_ns, bytes] = parts;
        Some(Self { inode, modified_s: modified_s.cast_signed(), modified_ns: modified_ns.cast_signed(), bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_goes_through_bytes() {
        let stamp = Stamp { inode: u64::MAX, modified_s: -1, modified_ns: 999_999_999, bytes: 7 };
        assert_eq!(Stamp::from_bytes(&stamp.to_bytes()), Some(stamp));
        assert_eq!(Stamp::from_bytes(&[0; 31]), None);
    }
}
