//! Sliced objects: whether a request is answered from parts, and what is asked for first.
//!
//! All is decided before Pingora's cache begins, so that what it sees is a hit that can be sought ([`crate::cache::View`]), or nothing
//! of this: then the ordinary path goes on as if slices did not exist. `probe` asks what an object is and whether it is still the
//! same; `order` asks for its parts; `known` remembers what is not to be sliced.
//!
//! Invariant: a request that may fill nothing (`no-store`, `only-if-cached`, `If-Match`) is answered from parts only where all it
//! wants is there.

mod known;
mod order;
mod probe;
mod relay;
mod wanted;

pub(super) use order::{Answer, Order, Part, of};

use super::Edge;
use super::admit::refusal;
use super::context::{Context, Filling};
use super::keep::kept;
use super::lookup::{holds_here, is_far, seconds_until};
use crate::cache::disk::Ticket;
use crate::cache::{Head, Held, Verdict, View};
use crate::http::byte_range::ByteRange;
use crate::http::cache_status::Fwd;
use crate::http::content_coding::Accepts;
use crate::http::fields::{HeaderView, list};
use crate::http::reuse::{self, Reuse, Stored, Trouble};
use crate::http::slicing::{self, GRANULE_BYTES, Validator};
use crate::media::class::Class;
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, Method, StatusCode};
use known::{Known, Note};
use pingora_cache::CacheKey;
use pingora_cache::key::CacheHashKey;
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::{RangeType, Session};
use probe::{Probe, Probed, Probes};
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{oneshot, watch};
use wanted::{FIRST, first_range, wanted_of};

/// The edge's side of slices.
pub struct SlicedObjects {
    store: &'static crate::cache::Slices,
    known: Arc<Known>,
    probes: Arc<Probes>,
}

impl SlicedObjects {
    pub fn new(store: &'static crate::cache::Slices) -> Self {
        Self { store, known: Arc::default(), probes: Arc::default() }
    }

    pub(super) fn forget(&self, key: &CacheKey) -> Option<Ticket> {
        self.store.forget(key)
    }
}

/// How a request goes on.
enum Opened {
    Sliced(Head, Arc<Order>),
    Ordinary,
    /// It has been answered.
    Answered,
}

/// What a request has to do with slices.
#[derive(Default)]
pub struct SliceNotes {
    /// Until Pingora's cache begins.
    view: Option<Arc<View>>,
    /// The answer comes from this.
    shown: Option<Arc<View>>,
    /// The parts of the answer; None: all.
    ranges: Option<Vec<ByteRange>>,
    /// It is known to be small: a range is no reason not to fetch it whole.
    pub(super) small: bool,
    /// Why the origin was asked before Pingora's cache began, and its answer.
    pub(super) fwd: Option<Fwd>,
    pub(super) fwd_status: Option<u16>,
    /// What the origin said of the parts that are given, for the log.
    pub(super) origin_status: Option<u16>,
}

impl Edge {
    /// Before the cache is asked: finds or makes the head of a sliced object. True: the request has been answered.
    pub(super) async fn open_slices(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let Some(site) = ctx.site.clone() else { return Ok(false) };
        let settings = ctx.generation.config.cache.slices;
        let request = session.req_header();
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        if !settings.enabled || !site.cache.enabled || !reads || ctx.long_lived || ctx.is_ours() {
            return Ok(false);
        }
        if !session.is_body_empty() {
            return Ok(false);
        }
        let Some(key) = ctx.cache.key.take() else { return Ok(false) };
        // What most requests are for, and the way of most of them: it is kept whole.
        if self.held(ctx, &key) == Some(Held::Whole) {
            ctx.cache.key = Some(key);
            return Ok(false);
        }
        // Parts are never coded.
        if !Accepts::of(&session.req_header().headers).allows_identity() {
            ctx.cache.key = Some(key);
            return Ok(false);
        }
        let opened = match self.known_head(session, ctx, &key).await {
            Some((head, verdict)) => self.open_known(session, ctx, &key, head, verdict).await?,
            None => self.open_unknown(session, ctx, &key).await?,
        };
        if let Opened::Answered = opened {
            return Ok(true);
        }
        if let Opened::Sliced(head, order) = opened {
            let asker = probe::asker(self, ctx);
            let read_ahead_bytes_max = settings.read_ahead_bytes_max;
            ctx.cache.ttl_s = Some(seconds_until(head.meta().fresh_until(), SystemTime::now()));
            ctx.slices.view = Some(Arc::new(View { head, asker, fetch: Arc::new(order), read_ahead_bytes_max }));
        }
        ctx.cache.key = Some(key);
        Ok(false)
    }

    /// The head that is kept, and whether it may be used. None: there is none, or a purge has taken it.
    async fn known_head(&self, session: &Session, ctx: &mut Context, key: &CacheKey) -> Option<(Head, Reuse)> {
        let (head, hit) = self.slices.store.head(key).await?;
        let fresh_until = match self.verdict_on_url(&hit, ctx) {
            Verdict::Clear => head.meta().fresh_until(),
            Verdict::Stale(at) => head.meta().fresh_until().min(at),
            Verdict::Gone => return None,
        };
        let kept = kept(head.meta())?;
        let stored = Stored { kept: &kept, age: head.meta().age(), fresh_until };
        let mut verdict = reuse::decide(&stored, &ctx.cache.asked, SystemTime::now());
        if ctx.cache.filling == Filling::Never && !holds_here(session.req_header(), head.meta(), kept.modified) {
            verdict = Reuse::ValidateOnRequest;
        }
        Some((head, verdict))
    }

    async fn open_known(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        key: &CacheKey,
        head: Head,
        verdict: Reuse,
    ) -> Result<Opened> {
        let fills = ctx.cache.filling != Filling::Never;
        let usable = matches!(verdict, Reuse::Fresh | Reuse::Stale | Reuse::StaleWhileRevalidate);
        if !fills {
            let request = session.req_header();
            let title = head.title();
            let wanted = wanted_of(request.method == Method::HEAD, &request.headers, title.complete());
            if !usable || !self.slices.store.has_all(title, &wanted) {
                return Ok(Opened::Ordinary);
            }
        }
        let Some(order) = Order::new(self, session, ctx, id(key)) else { return Ok(Opened::Ordinary) };
        match verdict {
            Reuse::Fresh => return Ok(Opened::Sliced(head, order)),
            Reuse::Stale => {
                ctx.cache.detail = Some("max-stale");
                return Ok(Opened::Sliced(head, order));
            }
            Reuse::StaleWhileRevalidate => {
                ctx.cache.detail = Some("stale-while-revalidate");
                if fills {
                    self.ask_what_it_is(session, ctx, key, &order, Some(head.clone()), None);
                }
                return Ok(Opened::Sliced(head, order));
            }
            Reuse::Validate => ctx.slices.fwd = Some(Fwd::Stale),
            Reuse::ValidateOnRequest => ctx.slices.fwd = Some(Fwd::Request),
        }
        let (probed, _) = self.what_it_is(session, ctx, key, &order, Some(head.clone())).await;
        match probed {
            Probed::Sliced { head, validated } => {
                ctx.slices.fwd_status = Some(if validated { 304 } else { 206 });
                ctx.slices.origin_status = ctx.slices.fwd_status;
                Ok(Opened::Sliced(head, order))
            }
            Probed::Ordinary | Probed::Stored => {
                ctx.slices.fwd = None;
                Ok(Opened::Ordinary)
            }
            Probed::Failed { status, own } => {
                let trouble = if own { Trouble::Unreachable } else { Trouble::ServerError };
                let speaks = own || matches!(status.as_u16(), 500 | 502 | 503 | 504);
                let longest = ctx.site.as_ref().map(|site| site.cache.stale_if_unreachable).unwrap_or_default();
                let kept = kept(head.meta());
                let stands_in = speaks
                    && kept.is_some_and(|kept| {
                        let (age, fresh_until) = (head.meta().age(), head.meta().fresh_until());
                        let stored = Stored { kept: &kept, age, fresh_until };
                        reuse::may_stand_in(&stored, &ctx.cache.asked, trouble, longest, SystemTime::now())
                    });
                if stands_in {
                    ctx.cache.detail = Some("stale-if-error");
                    ctx.slices.fwd_status = (!own).then_some(status.as_u16());
                    return Ok(Opened::Sliced(head, order));
                }
                self.failed(ctx, status, own)
            }
        }
    }

    async fn open_unknown(&self, session: &mut Session, ctx: &mut Context, key: &CacheKey) -> Result<Opened> {
        if ctx.cache.filling != Filling::Allowed || !self.is_worth_asking(session, ctx, key) {
            return Ok(Opened::Ordinary);
        }
        let Some(order) = Order::new(self, session, ctx, id(key)) else { return Ok(Opened::Ordinary) };
        let (probed, answer) = self.what_it_is(session, ctx, key, &order, None).await;
        match (probed, answer) {
            (Probed::Sliced { head, .. }, _) => {
                ctx.slices.fwd = Some(Fwd::UriMiss);
                ctx.slices.origin_status = Some(206);
                return Ok(Opened::Sliced(head, order));
            }
            // A hit, but only because it was fetched just now.
            (Probed::Stored, _) => ctx.slices.fwd = Some(Fwd::UriMiss),
            (Probed::Failed { status, own: true }, _) => return self.failed(ctx, status, true),
            (Probed::Ordinary | Probed::Failed { .. }, answer) => {
                // A fill that is followed no longer is held no longer.
                ctx.cache.ahead = None;
                if let Some(answer) = answer
                    && self.relay(session, ctx, answer).await?
                {
                    return Ok(Opened::Answered);
                }
                ctx.slices.small = self.slices.known.of(id(key)) == Some(Note::Small);
            }
        }
        Ok(Opened::Ordinary)
    }

    /// The origin has failed: the client is told so; where it has answered, it is asked again for its very answer.
    fn failed(&self, ctx: &mut Context, status: StatusCode, own: bool) -> Result<Opened> {
        ctx.slices.fwd = None;
        if own && matches!(status.as_u16(), 502..=504) {
            return Err(refusal(ctx, status.as_u16(), "The origin did not answer."));
        }
        Ok(Opened::Ordinary)
    }

    /// Whether an object of which nothing is stored is asked for in parts: for a range, for a film, and for what turned out too
    /// large before.
    fn is_worth_asking(&self, session: &Session, ctx: &mut Context, key: &CacheKey) -> bool {
        let headers = &session.req_header().headers;
        // The origin is not told of these, and what it answers would be no answer to them.
        if headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE) {
            return false;
        }
        let known = self.slices.known.of(id(key));
        match known {
            Some(Note::Ordinary) => return false,
            Some(Note::Small) => {
                ctx.slices.small = true;
                return false;
            }
            Some(Note::Large) | None => {}
        }
        let held = self.held(ctx, key);
        if held.is_some() {
            // There, or on its way, unless what is wanted is far from what has come.
            return headers.contains_key(RANGE) && is_far(headers, held, true);
        }
        headers.contains_key(RANGE) || ctx.class == Class::Film || known == Some(Note::Large)
    }

    fn ask_what_it_is(
        &self,
        session: &Session,
        ctx: &Context,
        key: &CacheKey,
        order: &Arc<Order>,
        known: Option<Head>,
        relay: Option<oneshot::Sender<Answer>>,
    ) -> Option<(watch::Receiver<Option<Probed>>, bool)> {
        let settings = ctx.generation.config.cache.slices;
        let headers = &session.req_header().headers;
        let range = match &known {
            Some(head) => wanted_of(false, headers, head.title().complete()).first().map_or(FIRST, |wanted| {
                let index = wanted.first / GRANULE_BYTES;
                slicing::bytes_of(index..index + 1, head.title().complete()).unwrap_or(FIRST)
            }),
            None => first_range(headers, settings.bytes_min),
        };
        Some(self.probe(Probe {
            order: order.clone(),
            key: key.clone(),
            site: ctx.site.clone()?,
            path: session.req_header().uri.path().to_owned(),
            asker: probe::asker(self, ctx),
            range,
            known,
            bytes_min: settings.bytes_min,
            object_bytes_max: ctx.generation.config.cache.object_bytes_max,
            relay,
        }))
    }

    async fn what_it_is(
        &self,
        session: &Session,
        ctx: &mut Context,
        key: &CacheKey,
        order: &Arc<Order>,
        known: Option<Head>,
    ) -> (Probed, Option<Answer>) {
        let (relay, mut relayed) = oneshot::channel();
        let Some((mut told, joined)) = self.ask_what_it_is(session, ctx, key, order, known, Some(relay)) else {
            return (Probed::Ordinary, None);
        };
        ctx.cache.collapsed = joined;
        let told = async { told.wait_for(Option::is_some).await.ok().and_then(|probed| probed.clone()) };
        let probed = match joined {
            false => told.await,
            true => {
                let longest = ctx.generation.config.cache.collapse_timeout;
                tokio::time::timeout(longest, told).await.ok().flatten()
            }
        };
        (probed.unwrap_or(Probed::Ordinary), relayed.try_recv().ok())
    }

    /// The ordinary path met an object too large to keep whole: the next request asks for parts of it, where it has any.
    pub(super) fn note_large(&self, session: &Session, header: &ResponseHeader) {
        let takes_ranges = list(header.headers.all("accept-ranges")).any(|unit| unit.eq_ignore_ascii_case(b"bytes"));
        if takes_ranges && header.status == StatusCode::OK && Validator::strong(&header.headers).is_some() {
            self.slices.known.note(id(session.cache.cache_key()), Note::Large);
        }
    }

    /// Gives Pingora's cache the view, if this request has one.
    pub(super) fn show_slices(&self, session: &mut Session, ctx: &mut Context) -> bool {
        let (Some(view), Some(key)) = (ctx.slices.view.take(), ctx.cache.key.as_mut()) else { return false };
        key.extensions.insert(view.clone());
        ctx.slices.shown = Some(view);
        session.cache.enable(self.slices.store, None, None, None, None);
        true
    }

    /// Notes what of a sliced object the answer is made of.
    pub(super) fn note_ranges(&self, asked: &RangeType, ctx: &mut Context) {
        let wide = |range: &Range<usize>| {
            let last = (range.end as u64).checked_sub(1)?;
            Some(ByteRange { first: range.start as u64, last })
        };
        ctx.slices.ranges = match asked {
            RangeType::None => None,
            RangeType::Single(range) => Some(wide(range).into_iter().collect()),
            RangeType::Multi(several) => Some(several.ranges.iter().filter_map(wide).collect()),
            RangeType::Invalid => Some(Vec::new()),
        };
    }

    /// Whether a part of the answer is still to be fetched, just before it begins.
    pub(super) fn note_missing(&self, session: &Session, response: &ResponseHeader, ctx: &mut Context) {
        let Some(view) = &ctx.slices.shown else { return };
        let has_body = session.req_header().method == Method::GET
            && matches!(response.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
        if ctx.slices.fwd.is_some() || !has_body {
            return;
        }
        let title = view.head.title();
        let all = wanted_of(false, &HeaderMap::new(), title.complete());
        if !self.slices.store.has_all(title, ctx.slices.ranges.as_ref().unwrap_or(&all)) {
            ctx.slices.fwd = Some(Fwd::Partial);
        }
    }
}

impl SliceNotes {
    /// The request will be answered from parts.
    pub(super) fn is_opened(&self) -> bool {
        self.view.is_some()
    }

    pub(super) fn is_shown(&self) -> bool {
        self.shown.is_some()
    }
}

pub(super) fn id(key: &CacheKey) -> u128 {
    u128::from_be_bytes(key.primary_bin())
}
