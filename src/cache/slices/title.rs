//! One version of a sliced object, its head, and the keys of its entries.
//!
//! The stored head is told from every other entry by its status, 206, with `Content-Range: bytes */length` and no body: all that
//! is needed is in ordinary fields, so whatever keeps entries keeps heads. The version (*generation*) is a hash of length and
//! validator: a head that was lost finds its granules again, and an object that changes back finds its old ones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_cache::key::{CacheHashKey, HashBinary, hash_key};
use pingora_cache::{CacheKey, CacheMeta};
use pingora_error::Result;
use pingora_http::ResponseHeader;

use super::super::bans::AskedFor;
use super::super::meta;
use crate::http::byte_range::unsatisfied_content_range;
use crate::http::slicing::{self, ContentRange, GRANULE_BYTES, Validator};

/// A granule is as fresh as its head; by itself it never ages.
const GRANULE_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// What purges by tag look at.
const TAG_FIELDS: [&str; 2] = ["cache-tag", "surrogate-key"];

/// One version of an object. It holds no bytes.
#[derive(Debug)]
pub struct Title {
    primary: HashBinary,
    generation: HashBinary,
    complete: u64,
    validator: Validator,
    tags: Vec<(HeaderName, HeaderValue)>,
    ended: AtomicBool,
}

impl Title {
    fn new(key: &CacheKey, complete: u64, validator: Validator, headers: &HeaderMap) -> Self {
        let fields = TAG_FIELDS
            .iter()
            .flat_map(|name| headers.get_all(*name).iter().map(|value| (HeaderName::from_static(name), own(value))));
        Self {
            primary: key.primary_bin(),
            generation: hash_key(format!("slices {GRANULE_BYTES} {complete} {}", validator.version())),
            tags: fields.collect(),
            complete,
            validator,
            ended: AtomicBool::new(false),
        }
    }

    /// By the fields that a head is kept with. None: it is no head.
    pub(super) fn of_stored(key: &CacheKey, headers: &HeaderMap) -> Option<Self> {
        let Some(ContentRange::Unsatisfied { complete }) = ContentRange::of(headers) else { return None };
        Some(Self::new(key, complete, Validator::strong(headers)?, headers))
    }

    /// Length of the whole object in bytes.
    pub fn complete(&self) -> u64 {
        self.complete
    }

    pub fn validator(&self) -> &Validator {
        &self.validator
    }

    pub fn is_version(&self, other: &Self) -> bool {
        self.generation == other.generation
    }

    /// The origin has another version by now.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// False: it had ended already.
    pub(super) fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }

    pub(super) fn granules(&self) -> u64 {
        self.complete.div_ceil(GRANULE_BYTES)
    }

    pub(super) fn head_key(&self) -> CacheKey {
        variant(self.primary, *HEAD_VARIANCE)
    }

    pub(super) fn granule_key(&self, index: u64) -> CacheKey {
        let mut variance = self.generation;
        for (byte, of_index) in variance[8..].iter_mut().zip(index.to_be_bytes()) {
            *byte ^= of_index;
        }
        variant(self.primary, variance)
    }

    pub(super) fn granule_meta(&self, index: u64, asked_for: AskedFor) -> Result<CacheMeta> {
        let bytes = slicing::bytes_of(index..index + 1, self.complete).map_or(0, |range| range.length());
        let mut header = ResponseHeader::build_no_case(StatusCode::PARTIAL_CONTENT, Some(1 + self.tags.len()))?;
        header.insert_header(CONTENT_LENGTH, bytes)?;
        for (name, value) in &self.tags {
            header.append_header(name.clone(), value.clone())?;
        }
        let now = SystemTime::now();
        let mut meta = CacheMeta::new(now + GRANULE_LIFETIME, now, 0, 0, header);
        meta.extensions_mut().insert(asked_for);
        Ok(meta)
    }
}

/// Not a slice of what was read with it, which it would keep in memory.
fn own(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone())
}

/// A variant of the object's key: purges of the object reach it.
fn variant(primary: HashBinary, variance: HashBinary) -> CacheKey {
    let mut key = CacheKey::new(Vec::new(), "");
    key.set_primary_bin_override(primary);
    key.set_variance_key(variance);
    key
}

/// What tells the head from the granules.
static HEAD_VARIANCE: LazyLock<HashBinary> = LazyLock::new(|| hash_key("slices head"));

/// Where the head of a sliced object is kept, by the key of the object.
pub fn head_key(key: &CacheKey) -> CacheKey {
    let mut head_key = variant(key.primary_bin(), *HEAD_VARIANCE);
    head_key.extensions = key.extensions.clone();
    head_key
}

/// A version with its header fields, as a 200 with the whole object would have them.
#[derive(Clone)]
pub struct Head {
    title: Arc<Title>,
    meta: Arc<CacheMeta>,
}

impl Head {
    pub fn title(&self) -> &Arc<Title> {
        &self.title
    }

    pub fn meta(&self) -> &CacheMeta {
        &self.meta
    }

    /// None: no length, or no strong validator.
    pub(super) fn of_whole(key: &CacheKey, meta: &CacheMeta) -> Option<Self> {
        let complete = meta::promised_bytes(meta)?;
        let validator = Validator::strong(meta.headers())?;
        let title = Arc::new(Title::new(key, complete, validator, meta.headers()));
        Some(Self { title, meta: Arc::new(meta::copy(meta)) })
    }

    /// None: it is no head.
    pub(super) fn of_stored(key: &CacheKey, mut meta: CacheMeta) -> Option<Self> {
        let title = match meta.extensions().get::<Arc<Title>>() {
            Some(title) => Arc::clone(title),
            None => Arc::new(Title::of_stored(key, meta.headers())?),
        };
        let header = meta.response_header_mut();
        header.set_status(StatusCode::OK).ok()?;
        header.remove_header(&CONTENT_RANGE);
        header.insert_header(CONTENT_LENGTH, title.complete).ok()?;
        Some(Self { title, meta: Arc::new(meta) })
    }

    /// As it is kept.
    pub(super) fn stored(&self) -> CacheMeta {
        let mut meta = meta::copy(&self.meta);
        meta.extensions_mut().insert(Arc::clone(&self.title));
        let header = meta.response_header_mut();
        // Statuses, lengths and ranges are always valid.
        let _ = header.set_status(StatusCode::PARTIAL_CONTENT);
        let _ = header.insert_header(CONTENT_LENGTH, 0);
        let _ = header.insert_header(CONTENT_RANGE, unsatisfied_content_range(self.title.complete));
        header.remove_header(&ACCEPT_RANGES); // said by whoever answers
        meta
    }
}
