//! A stamp as bytes that mean the same after a restart.
//!
//! Little-endian: version 1 (1 byte), name of the bans' identity (8), flags (1: it has a URL, has more tags, has aliases), key (16),
//! number of the bytes (8), of the head (8), then the URL's length (2) and text, the tags' count (2) and hashes (8 each).
//!
//! It carries no sum: whoever keeps it has one over the whole object. What was judged since is not kept: the bans that are left
//! are asked again.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::super::Bans;
use super::super::bytes::Reader;
use super::Stamp;
use crate::http::tags::TAGS_MAX;

const VERSION: u8 = 1;
const HAS_URL: u8 = 1;
const MORE_TAGS: u8 = 2;
const HAS_ALIASES: u8 = 4;
/// Longer than any key; of a longer URL the beginning is kept, and no ban's prefix is longer than this.
const URL_BYTES_MAX: usize = u16::MAX as usize;
const _: () = assert!(TAGS_MAX <= u16::MAX as usize);

/// Why bytes are no stamp that these bans can be compared with; what carried them cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StampError {
    /// Of another version, cut, or no stamp at all.
    Malformed,
    /// It was counted by other bans: their log is lost, or was replaced because it was damaged.
    OtherBans,
    /// It was asked for after a ban that these bans do not know.
    FromTheFuture,
}

impl std::fmt::Display for StampError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "no stamp of version 1",
            Self::OtherBans => "of another log of bans",
            Self::FromTheFuture => "from after a ban that the log has lost",
        })
    }
}

impl std::error::Error for StampError {}

impl Stamp {
    /// At most about 74 KiB; 46 bytes and the URL where there are no tags.
    pub fn to_bytes(&self, bans: &Bans) -> Vec<u8> {
        let url = self.url.as_deref().unwrap_or_default().as_bytes();
        let url = &url[..self.url.as_deref().unwrap_or_default().floor_char_boundary(URL_BYTES_MAX.min(url.len()))];
        let tags = &self.tags[..self.tags.len().min(TAGS_MAX)];
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.url.is_some(), HAS_URL)
            | flag(self.more_tags || tags.len() < self.tags.len(), MORE_TAGS)
            | flag(self.has_aliases, HAS_ALIASES);
        let mut bytes = Vec::with_capacity(46 + url.len() + 8 * tags.len());
        bytes.push(VERSION);
        bytes.extend(bans.identity.name.to_le_bytes());
        bytes.push(flags);
        bytes.extend(self.key.to_le_bytes());
        bytes.extend(self.hard_from.to_le_bytes());
        bytes.extend(self.soft_from.to_le_bytes());
        bytes.extend((url.len() as u16).to_le_bytes());
        bytes.extend(url);
        bytes.extend((tags.len() as u16).to_le_bytes());
        tags.iter().for_each(|tag| bytes.extend(tag.to_le_bytes()));
        bytes
    }

    /// What [`Self::to_bytes`] gave, in this process or in one before it with the same log.
    ///
    /// # Errors
    /// What carried them must be treated as purged.
    pub fn from_bytes(bans: &Bans, bytes: &[u8]) -> Result<Self, StampError> {
        let (stamp, name) = read(bytes).ok_or(StampError::Malformed)?;
        if name != bans.identity.name {
            return Err(StampError::OtherBans);
        }
        if [stamp.hard_from, stamp.soft_from].into_iter().all(|number| bans.has_counted(number)) {
            Ok(stamp)
        } else {
            Err(StampError::FromTheFuture)
        }
    }
}

fn read(bytes: &[u8]) -> Option<(Stamp, u64)> {
    let mut fields = Reader(bytes);
    if fields.u8()? != VERSION {
        return None;
    }
    let name = fields.u64()?;
    let flags = fields.u8()?;
    if flags & !(HAS_URL | MORE_TAGS | HAS_ALIASES) != 0 {
        return None;
    }
    let (key, hard_from, soft_from) = (fields.u128()?, fields.u64()?, fields.u64()?);
    let url_bytes = fields.u16()?;
    let url = std::str::from_utf8(fields.take(usize::from(url_bytes))?).ok()?;
    let has_url = flags & HAS_URL != 0;
    if !has_url && !url.is_empty() {
        return None;
    }
    let count = usize::from(fields.u16()?);
    if count > TAGS_MAX {
        return None;
    }
    let tags = (0..count).map(|_| fields.u64()).collect::<Option<Box<[u64]>>>()?;
    fields.end()?;
    let stamp = Stamp {
        key,
        url: has_url.then(|| Arc::from(url)),
        tags,
        more_tags: flags & MORE_TAGS != 0,
        has_aliases: flags & HAS_ALIASES != 0,
        hard_from,
        soft_from,
        cleared_through: AtomicU64::new(hard_from.min(soft_from)),
    };
    Some((stamp, name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::Metrics;

    fn bans() -> Bans {
        Bans::new(Arc::new(Metrics::new()))
    }

    fn stamps() -> impl Strategy<Value = Stamp> {
        let tags = prop::collection::vec(any::<u64>(), 0..20);
        (any::<u128>(), prop::option::of(".{0,40}"), tags, any::<bool>(), any::<bool>()).prop_map(
            |(key, url, tags, more_tags, has_aliases)| Stamp {
                key,
                url: url.map(Arc::from),
                tags: tags.into(),
                more_tags,
                has_aliases,
                hard_from: 0,
                soft_from: 0,
                cleared_through: AtomicU64::new(0),
            },
        )
    }

    proptest! {
        #[test]
        fn a_stamp_comes_back_as_it_was(stamp in stamps()) {
            let bans = bans();
            let read = Stamp::from_bytes(&bans, &stamp.to_bytes(&bans)).expect("a stamp");
            prop_assert_eq!(format!("{read:?}"), format!("{stamp:?}"));
            prop_assert_eq!(Stamp::from_bytes(&self::bans(), &stamp.to_bytes(&bans)).err(), Some(StampError::OtherBans));
        }

        #[test]
        fn cut_longer_and_strange_bytes_are_no_stamp(stamp in stamps(), cut in any::<prop::sample::Index>(), more in any::<u8>()) {
            let bans = bans();
            let mut bytes = stamp.to_bytes(&bans);
            prop_assert!(Stamp::from_bytes(&bans, &bytes[..cut.index(bytes.len())]).is_err());
            bytes.push(more);
            prop_assert_eq!(Stamp::from_bytes(&bans, &bytes).err(), Some(StampError::Malformed));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Stamp::from_bytes(&bans(), &bytes).is_err());
        }
    }

    #[test]
    fn what_is_too_long_is_kept_so_that_more_is_purged() {
        let bans = bans();
        let stamp = Stamp {
            key: 1,
            url: Some("ä".repeat(40_000).into()),
            tags: vec![7; TAGS_MAX + 1].into(),
            more_tags: false,
            has_aliases: false,
            hard_from: 0,
            soft_from: 0,
            cleared_through: AtomicU64::new(0),
        };
        let read = Stamp::from_bytes(&bans, &stamp.to_bytes(&bans)).expect("a stamp");
        assert!(read.more_tags && read.tags.len() == TAGS_MAX);
        assert_eq!(read.url.as_deref().map(str::len), Some(URL_BYTES_MAX - 1));
    }
}
