//! A stamp as bytes that mean the same after a restart.
//!
//! Little-endian: version 1 (1 byte), name of the bans' identity (8), flags (1: it has a URL, has more tags, has aliases,
//! the URL is cut), key (16),
//! number of the bytes (8), of the head (8), then the URL's length (2) and text, the tags' count (2) and hashes (8 each).
//!
//! No secret in a URL reaches the disk: the URL ends before its first (`http::redact`), and bans of prefixes then reach whatever
//! agrees with what is left, so they purge more, never less. Bans of URLs go by the key, and stay exact.
//!
//! It carries no sum: whoever keeps it has one over the whole object. What was judged since is not kept: the bans that are left
//! are asked again.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::super::Bans;
use super::super::bytes::Reader;
use super::Stamp;
use crate::http::redact;
use crate::http::tags::TAGS_MAX;

const VERSION: u8 = 1;
const HAS_URL: u8 = 1;
const MORE_TAGS: u8 = 2;
const HAS_ALIASES: u8 = 4;
const URL_IS_CUT: u8 = 8;
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
        let whole = self.url.as_deref().unwrap_or_default();
        let clear = redact::clear_beginning(whole);
        let url = &clear.as_bytes()[..clear.floor_char_boundary(URL_BYTES_MAX)];
        let tags = &self.tags[..self.tags.len().min(TAGS_MAX)];
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.url.is_some(), HAS_URL)
            | flag(self.more_tags || tags.len() < self.tags.len(), MORE_TAGS)
            | flag(self.has_aliases, HAS_ALIASES)
            | flag(self.url_is_cut || clear.len() < whole.len(), URL_IS_CUT);
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
    if flags & !(HAS_URL | MORE_TAGS | HAS_ALIASES | URL_IS_CUT) != 0 {
        return None;
    }
    let (key, hard_from, soft_from) = (fields.u128()?, fields.u64()?, fields.u64()?);
    let url_bytes = fields.u16()?;
    let url = std::str::from_utf8(fields.take(usize::from(url_bytes))?).ok()?;
    let has_url = flags & HAS_URL != 0;
    let url_is_cut = flags & URL_IS_CUT != 0;
    if !has_url && (url_is_cut || !url.is_empty()) {
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
        url_is_cut,
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

    use std::time::SystemTime;

    use super::super::super::{Ban, Selector, Verdict, key_hash};
    use super::*;
    use crate::observe::Metrics;

    fn bans() -> Bans {
        Bans::new(Arc::new(Metrics::new()))
    }

    fn stamps() -> impl Strategy<Value = Stamp> {
        let tags = prop::collection::vec(any::<u64>(), 0..20);
        let flags = (any::<bool>(), any::<bool>(), any::<bool>());
        // No URL that would be cut: see `no_secret_of_a_url_is_written`.
        let url = prop::option::of("[a-zA-Z0-9 /?&ä]{0,40}");
        (any::<u128>(), url, tags, flags).prop_map(|(key, url, tags, (more_tags, has_aliases, url_is_cut))| Stamp {
            key,
            url_is_cut: url_is_cut && url.is_some(),
            url: url.map(Arc::from),
            tags: tags.into(),
            more_tags,
            has_aliases,
            hard_from: 0,
            soft_from: 0,
            cleared_through: AtomicU64::new(0),
        })
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
            url_is_cut: false,
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

    fn filled(bans: &Bans, url: &str) -> Stamp {
        let stamp = Stamp {
            key: key_hash(url),
            url: Some(url.into()),
            url_is_cut: false,
            tags: Box::default(),
            more_tags: false,
            has_aliases: false,
            hard_from: 0,
            soft_from: 0,
            cleared_through: AtomicU64::new(0),
        };
        let bytes = stamp.to_bytes(bans);
        assert!(!bytes.windows(6).any(|bytes| bytes == b"SECRET"), "{url}");
        let read = Stamp::from_bytes(bans, &bytes).expect("a stamp");
        // And it is as it was when it goes back to the disk once more.
        assert_eq!(bytes, read.to_bytes(bans));
        read
    }

    #[test]
    fn no_secret_of_a_url_is_written_and_every_ban_that_reached_it_still_does() {
        let url = "site h /film?a=1&api_key=SECRET&x=1";
        let prefixes = (0..=url.len()).map(|end| Selector::Prefixes(vec![url[..end].to_owned()]));
        for selector in prefixes.chain([Selector::Key(url.to_owned()), Selector::All]) {
            for soft in [false, true] {
                let bans = bans();
                let stamp = filled(&bans, url);
                bans.add(&Ban { selector: selector.clone(), soft, at: SystemTime::UNIX_EPOCH });
                let purged = if soft { Verdict::Stale(SystemTime::UNIX_EPOCH) } else { Verdict::Gone };
                assert_eq!(bans.verdict(&stamp), purged, "{selector:?}");
            }
        }
    }

    #[test]
    fn bans_that_part_from_a_cut_url_before_the_cut_do_not_reach_it() {
        let bans = bans();
        let stamp = filled(&bans, "site h /film?a=1&api_key=SECRET&x=1");
        let others = ["site h /films", "site h /film?a=2", "site h /film?a=1&b", "site h /film?a=1&api_key2", "site i"];
        for other in others {
            let selector = Selector::Prefixes(vec![other.to_owned()]);
            bans.add(&Ban { selector, soft: false, at: SystemTime::UNIX_EPOCH });
        }
        let key = Selector::Key("site h /film?a=1&api_key=OTHER&x=1".to_owned());
        bans.add(&Ban { selector: key, soft: false, at: SystemTime::UNIX_EPOCH });
        assert_eq!(bans.verdict(&stamp), Verdict::Clear);
    }
}
