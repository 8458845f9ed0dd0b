//! What is kept with an object, and with a running fill, so that bans can be compared with it. `bytes`: the same on the disk.

mod bytes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pingora_cache::CacheMeta;
use pingora_cache::key::CacheHashKey;

use super::table::Subject;
use super::{AskedFor, Bans, FillTime};
use crate::http::tags;
pub use bytes::StampError;

/// The fixed part of a stamp in memory.
const STAMP_OVERHEAD_BYTES: u64 = 128;

/// An object that comes back from the disk, in the extensions of its `CacheMeta`: it keeps the times it had.
#[derive(Debug, Clone)]
pub struct Restored {
    pub(super) stamp: Arc<Stamp>,
    pub(super) time: FillTime,
}

impl Restored {
    /// To be held while it is being filled.
    pub(in crate::cache) fn time(&self) -> FillTime {
        self.time.clone()
    }
}

/// Times, key, URL and tags of one version of one object.
#[derive(Debug)]
pub struct Stamp {
    key: u128,
    /// None where nobody said: only bans of the key, of its tags and of everything reach it.
    url: Option<Arc<str>>,
    /// It came from the disk, and more had followed on `url` there (`bytes`).
    url_is_cut: bool,
    tags: Box<[u64]>,
    more_tags: bool,
    has_aliases: bool,
    hard_from: u64,
    soft_from: u64,
    /// No ban up to this number reaches it.
    cleared_through: AtomicU64,
}

impl Stamp {
    /// Of a fill with this head: as it was asked for ([`AskedFor`]), or as it was brought back ([`Restored`]).
    pub fn new(bans: &Bans, key: &impl CacheHashKey, meta: &CacheMeta) -> Self {
        if let Some(restored) = meta.extensions().get::<Restored>() {
            return restored.stamp.settled(0);
        }
        let asked_for = meta.extensions().get::<AskedFor>();
        let time = asked_for.map_or(0, |asked_for| *asked_for.time.0);
        let tags = tags::of(meta.headers());
        Self {
            key: u128::from_be_bytes(key.primary_bin()),
            url: asked_for.map(|asked_for| Arc::clone(&asked_for.url)),
            url_is_cut: false,
            tags: tags.list.iter().map(|tag| bans.identity.tag_hash(tag)).collect(),
            more_tags: !tags.complete,
            has_aliases: asked_for.is_some_and(|asked_for| asked_for.has_aliases),
            hard_from: time,
            soft_from: time,
            cleared_through: AtomicU64::new(time),
        }
    }

    /// After a revalidation: the bytes keep their time and their URL. What was cleared was cleared for the tags there were, and
    /// for a soft ban that came while the origin was asked, this head is too old again.
    pub(in crate::cache) fn revalidated(self, before: &Self) -> Self {
        let cleared_through = AtomicU64::new(before.cleared_through().min(self.soft_from));
        let (url, url_is_cut) = (before.url.clone(), before.url_is_cut);
        Self { url, url_is_cut, hard_from: before.hard_from, cleared_through, ..self }
    }

    /// Of an object that was marked stale for the soft bans up to `number`: they need not be kept for it.
    pub(in crate::cache) fn settled(&self, number: u64) -> Self {
        Self {
            key: self.key,
            url: self.url.clone(),
            tags: self.tags.clone(),
            cleared_through: AtomicU64::new(self.cleared_through().max(number)),
            ..*self
        }
    }

    /// Both its bytes and its head were asked for after this ban.
    pub(super) fn is_from(&self, number: u64) -> bool {
        self.hard_from.min(self.soft_from) >= number
    }

    /// In memory.
    pub(in crate::cache) fn bytes(&self) -> u64 {
        STAMP_OVERHEAD_BYTES + self.url.as_ref().map_or(0, |url| url.len() as u64) + 8 * self.tags.len() as u64
    }

    /// The time from which bans of prefixes must be kept for it, because it may be asked for under URLs nobody has seen yet.
    pub(in crate::cache) fn aliases_from(&self) -> Option<u64> {
        self.has_aliases.then_some(self.hard_from)
    }

    /// Bans up to this number need not be kept for it.
    pub fn oldest(&self) -> u64 {
        let judged = self.hard_from.min(self.soft_from).max(self.cleared_through());
        self.aliases_from().map_or(judged, |aliases_from| aliases_from.min(judged))
    }

    pub(super) fn cleared_through(&self) -> u64 {
        self.cleared_through.load(Ordering::Acquire)
    }

    pub(super) fn clear_through(&self, number: u64) {
        self.cleared_through.fetch_max(number, Ordering::AcqRel);
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        let cleared = self.cleared_through();
        Subject {
            key: self.key,
            url: self.url.as_deref().unwrap_or_default().as_bytes(),
            url_is_cut: self.url_is_cut,
            tags: &self.tags,
            more_tags: self.more_tags,
            hard_from: self.hard_from.max(cleared),
            soft_from: self.soft_from.max(cleared),
        }
    }

    /// Under another URL: what was cleared was not cleared for this one.
    pub(super) fn subject_of_alias<'a>(&'a self, url: &'a [u8]) -> Subject<'a> {
        Subject { url, url_is_cut: false, hard_from: self.hard_from, soft_from: self.soft_from, ..self.subject() }
    }
}
