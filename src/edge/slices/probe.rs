//! The first request for an object nothing is known of, and the one that validates a head: what it is decides the answer.
//!
//! It asks for a range. What comes is kept in any case: as granules where the object can be sliced, as a whole object where all of
//! it came. Many clients that want the same object at once share one such request; it goes on when they leave.

use super::super::Edge;
use super::super::compression::is_codable;
use super::super::context::Context;
use super::super::keep::{self, kept};
use super::super::purge;
use super::known::Note;
use super::order::{Answer, Order};
use crate::cache::{AskedFor, Asker, Head};
use crate::config::Site;
use crate::http::byte_range::ByteRange;
use crate::http::freshness::{self, Storable};
use crate::http::slicing::{self, GRANULE_BYTES, Shape, Validator};
use crate::http::update;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, COOKIE, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, SET_COOKIE,
};
use http::{HeaderName, Method, StatusCode};
use parking_lot::Mutex;
use pingora_cache::key::CacheHashKey;
use pingora_cache::trace::Span;
use pingora_cache::{CacheKey, CacheMeta, Storage};
use pingora_http::ResponseHeader;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{oneshot, watch};

/// How the RFC calls the digest of what was sent rather than of the object (RFC 9530 §2).
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// What asking came to.
#[derive(Clone)]
pub(super) enum Probed {
    /// It is sliced; `validated`: it is the version that was known.
    Sliced { head: Head, validated: bool },
    /// It is not: the ordinary path.
    Ordinary,
    /// It is not, and came whole: the ordinary path finds it in the store.
    Stored,
    /// No answer that says anything; the status is the origin's, or our own where it gave none.
    Failed { status: StatusCode, own: bool },
}

/// Requests of this kind that run, by object.
#[derive(Default)]
pub(super) struct Probes(Mutex<HashMap<u128, watch::Receiver<Option<Probed>>>>);

/// A request that others of the same object may wait for.
pub(super) struct Probe {
    pub order: Arc<Order>,
    pub key: CacheKey,
    pub site: Arc<Site>,
    /// Path towards the origin.
    pub path: String,
    pub asker: Asker,
    pub range: ByteRange,
    /// What is to be validated.
    pub known: Option<Head>,
    /// Smaller objects are kept whole.
    pub bytes_min: u64,
    pub object_bytes_max: u64,
    /// Takes the answer where it is of no use to anybody else.
    pub relay: Option<oneshot::Sender<Answer>>,
}

impl Edge {
    /// Starts a probe, or joins the one that runs. The flag: joined.
    pub(super) fn probe(&self, probe: Probe) -> (watch::Receiver<Option<Probed>>, bool) {
        let id = u128::from_be_bytes(probe.key.primary_bin());
        let mut running = self.slices.probes.0.lock();
        if let Some(running) = running.get(&id) {
            return (running.clone(), true);
        }
        let (sender, receiver) = watch::channel(None);
        running.insert(id, receiver.clone());
        drop(running);
        let probes = self.slices.probes.clone();
        let store = self.store;
        tokio::spawn(async move {
            let guard = Running { id, probes, sender };
            probe.run(store, &guard).await;
        });
        (receiver, false)
    }
}

/// Takes the probe out of the table, whatever becomes of it.
struct Running {
    id: u128,
    probes: Arc<Probes>,
    sender: watch::Sender<Option<Probed>>,
}

impl Running {
    /// Everyone who waits goes on; who comes later finds what is stored.
    fn tell(&self, probed: Probed) {
        self.probes.0.lock().remove(&self.id);
        self.sender.send_replace(Some(probed));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once told, the entry may be of the next probe.
        if self.sender.borrow().is_none() {
            self.tell(Probed::Ordinary);
        }
    }
}

impl Probe {
    async fn run(mut self, store: &'static crate::cache::MemoryStore, running: &Running) {
        let condition = self.known.as_ref().map(|head| match head.title().validator() {
            Validator::Tag(tag) => (IF_NONE_MATCH, tag.as_str()),
            Validator::Modified { date, .. } => (IF_MODIFIED_SINCE, date.as_str()),
        });
        let mut asked = self.range;
        let Some(mut answer) = self.order.ask(asked, condition).await else { return };
        if answer.answered.is_some()
            && let Shape::Beyond { complete } = self.shape(&answer, asked)
            && complete >= self.bytes_min
            && self.range.first > 0
        {
            // Of an object that ends before the range begins, its beginning tells the rest.
            asked = ByteRange { first: 0, last: GRANULE_BYTES - 1 };
            drop(answer);
            let Some(second) = self.order.ask(asked, None).await else { return };
            answer = second;
        }
        let status = answer.header.status;
        if answer.answered.is_none() || status.is_server_error() {
            let own = answer.answered.is_none();
            if !own {
                self.hand_over(answer);
            }
            return running.tell(Probed::Failed { status, own });
        }
        if let (StatusCode::NOT_MODIFIED, Some(known)) = (status, &self.known) {
            return running.tell(self.validated(known, &answer).await);
        }
        match self.shape(&answer, asked) {
            Shape::Sliced { complete, part, .. } => self.sliced(answer, complete, part, running).await,
            Shape::Whole { complete } if self.fits(complete) => self.whole(store, answer, complete, running).await,
            shape => {
                self.drop_known();
                self.note(if shape == Shape::Small { Note::Small } else { Note::Ordinary });
                self.hand_over(answer);
                running.tell(Probed::Ordinary);
            }
        }
    }

    /// A part of something else than was asked for is none. Of an origin that never gives a whole granule, no granule would ever be
    /// stored.
    fn shape(&self, answer: &Answer, asked: ByteRange) -> Shape {
        match slicing::shape(answer.header.status, &answer.header.headers, self.bytes_min) {
            Shape::Sliced { part, .. } if part.first != asked.first || part.last > asked.last => Shape::Ordinary,
            Shape::Sliced { part, complete, .. }
                if part.last < asked.last.min(complete - 1) && part.length() < GRANULE_BYTES =>
            {
                Shape::Ordinary
            }
            shape => shape,
        }
    }

    /// Whether all of an object is kept as one. Where the client's range had a condition, it is not certain what a 200 is the
    /// whole of.
    fn fits(&self, complete: u64) -> bool {
        complete <= self.object_bytes_max && !self.order.headers.contains_key(IF_RANGE)
    }

    /// Whoever asked first gets the answer, unless it is gone.
    fn hand_over(&mut self, answer: Answer) {
        if let Some(relay) = self.relay.take() {
            let _ = relay.send(answer);
        }
    }

    fn note(&self, note: Note) {
        // What one client was answered because of who it is does not decide for others.
        if !self.order.headers.contains_key(AUTHORIZATION) {
            self.order.known.note(self.order.key, note);
        }
    }

    fn drop_known(&self) {
        if let Some(known) = &self.known {
            self.order.slices.changed(known.title());
        }
    }

    async fn sliced(mut self, answer: Answer, complete: u64, part: ByteRange, running: &Running) {
        let meta = self.meta(&answer, complete).filter(|meta| kept(meta).is_some_and(|kept| kept.vary.is_empty()));
        let Some(meta) = meta else {
            self.drop_known();
            self.note(Note::Ordinary);
            self.hand_over(answer);
            return running.tell(Probed::Ordinary);
        };
        let of_known = |head: &Head| self.known.as_ref().is_some_and(|known| known.title().is_version(head.title()));
        let head = match self.order.slices.keep_head(&self.key, &meta).await {
            Some(head) if of_known(&head) => head,
            Some(head) => {
                if self.known.is_some() {
                    // That took the new head with it.
                    self.drop_known();
                    let _ = self.order.slices.keep_head(&self.key, &meta).await;
                }
                head
            }
            None => return running.tell(Probed::Ordinary),
        };
        let mut run = self.order.slices.claim_answer(head.title(), &self.asker, part).await;
        running.tell(Probed::Sliced { head, validated: false });
        answer.write_into(&mut run, &self.order.metrics).await;
        let outcome = if run.is_complete() { "complete" } else { "short" };
        self.order.metrics.slice_runs.with_label_values(&[outcome]).inc();
    }

    /// All of a small object came: it is stored as if it had been asked for so.
    async fn whole(
        mut self,
        store: &'static crate::cache::MemoryStore,
        mut answer: Answer,
        complete: u64,
        running: &Running,
    ) {
        self.drop_known();
        self.note(if answer.header.status == StatusCode::OK { Note::Ordinary } else { Note::Small });
        let meta = self.meta(&answer, complete).filter(|meta| kept(meta).is_some_and(|kept| kept.vary.is_empty()));
        let meta = meta.map(|meta| self.codable(meta));
        // What is not fresh would be asked for again at once.
        let meta = meta.filter(|meta| meta.is_fresh(SystemTime::now()));
        let writer = match &meta {
            Some(meta) => store.get_miss_handler(&self.key, meta, &Span::inactive().handle()).await.ok(),
            None => None,
        };
        let Some(mut writer) = writer else {
            self.hand_over(answer);
            return running.tell(Probed::Ordinary);
        };
        running.tell(Probed::Stored);
        let mut written = 0;
        while let Some(bytes) = answer.next().await {
            written += bytes.len() as u64;
            if writer.write_body(bytes, written == complete).await.is_err() {
                return;
            }
        }
        // Dropped, it fails whoever follows it.
        if written == complete
            && let Err(error) = writer.finish().await
        {
            tracing::debug!(%error, "a whole answer was not stored");
        }
    }

    /// A whole object may be coded, which parts never are.
    fn codable(&self, mut meta: CacheMeta) -> CacheMeta {
        let settings = &self.site.compression;
        if let Some(kept) = kept(&meta).filter(|_| settings.enabled && is_codable(settings, meta.response_header())) {
            meta.extensions_mut().insert(Arc::new(Storable { codable: true, ..(*kept).clone() }));
        }
        meta
    }

    async fn validated(&self, known: &Head, answer: &Answer) -> Probed {
        let old = known.meta();
        if !update::is_of(old.headers(), &answer.header.headers) {
            self.drop_known();
            return Probed::Ordinary;
        }
        let head = keep::merged(old, &answer.header.headers).ok();
        let head = head.and_then(|header| self.meta_of(header, answer, Some(old)));
        let Some(meta) = head.filter(|meta| kept(meta).is_some_and(|kept| kept.vary.is_empty())) else {
            // It was validated, so this answer may be given; what comes later asks again.
            drop(self.order.slices.forget(&self.key));
            return Probed::Sliced { head: known.clone(), validated: true };
        };
        let head = self.order.slices.keep_head(&self.key, &meta).await.unwrap_or_else(|| known.clone());
        Probed::Sliced { head, validated: true }
    }

    /// The head of the whole object, that an answer with a part of it has; None: it is not to be kept.
    fn meta(&self, answer: &Answer, complete: u64) -> Option<CacheMeta> {
        let mut header = keep::without_case(&answer.header);
        header.set_status(StatusCode::OK).ok()?;
        header.remove_header(&CONTENT_RANGE);
        header.remove_header(&CONTENT_DIGEST);
        header.insert_header(CONTENT_LENGTH, complete).ok()?;
        self.meta_of(header, answer, None)
    }

    /// `validated`: of the head that the answer, a 304, is about.
    fn meta_of(&self, mut header: ResponseHeader, answer: &Answer, validated: Option<&CacheMeta>) -> Option<CacheMeta> {
        let answered = answer.answered.as_ref()?;
        let now = SystemTime::now();
        let mut storable = freshness::decide(&freshness::Exchange {
            method: &Method::GET,
            request_authorized: self.order.headers.contains_key(AUTHORIZATION),
            request_has_cookie: self.order.headers.contains_key(COOKIE),
            request_no_store: false,
            status: header.status,
            headers: &header.headers,
            strip_set_cookie: self.site.cache.strip_set_cookie,
            site_ttl: self.site.cache.site_ttl(&self.path, header.status.as_u16()),
            response_delay: answered.elapsed,
            now,
        })
        .ok()
        .filter(|storable: &Storable| storable.withheld.is_empty())?;
        validated.iter().for_each(|old| keep::keep_date(&mut storable, old));
        // It is always asked for uncoded, and every client gets it so.
        storable.vary.retain(|name| name != "accept-encoding");
        if self.site.cache.strip_set_cookie {
            header.remove_header(&SET_COOKIE);
        }
        let mut meta = keep::meta_of(storable, header, self.site.cache.stale_if_unreachable, now);
        if let Some(time) = answered.time.clone() {
            let (url, has_aliases) = (self.asker.url.clone(), self.asker.has_aliases);
            meta.extensions_mut().insert(AskedFor { time, url, has_aliases });
        }
        Some(meta)
    }
}

/// Who reads, as far as purges care.
pub(super) fn asker(edge: &Edge, ctx: &Context) -> Asker {
    let url = purge::url_as_asked(ctx).unwrap_or_default().into();
    Asker { url, has_aliases: purge::has_aliases(ctx), begun: edge.store.begun() }
}
