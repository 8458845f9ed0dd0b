//! Rungs that an HLS origin lacks (`origins.*.add_renditions`).
//!
//! - this file: multivariant playlists on their way to the client. They are fetched through the cache by a request of our own, and lines
//!   for more variants inserted; what is inserted is decided anew each time, so that variants vanish when the sidecar does.
//! - `exchange`: URLs of ours ([`crate::media::upstream::address`]) go the way of every request, to a server that is a task of ours. So what
//!   it answers is collapsed, kept, validated, purged and logged like an origin's answer.
//! - `make`: what that task does. `memory`: what it may hold at once. `source`: how it asks for what is the origin's: through the cache, as the client would.
//!
//! Invariants: only what may be shared is made into something else; what a client may not have of the origin it does not get here
//! either, unless the cache would have given it; no request leaves the site it came to.

mod exchange;
mod make;
mod memory;
mod source;

pub(super) use source::{Source, of};

use super::Edge;
use super::context::Context;
use crate::config::OriginKind;
use crate::http::fields::{HeaderView, list};
use crate::http::reuse;
use crate::media::upstream::multivariant::{self, Wanted};
use crate::media::upstream::{Container, address, playlist};
use crate::transcode::Client;
use crate::transcode::protocol::software;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, ETAG, RANGE, TRAILER, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode};
use memory::Memory;
use parking_lot::Mutex;
use pingora_cache::key::CacheHashKey;
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use sha2::{Digest, Sha256};
use source::{Fetched, Sources};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Of playlists that list variants; real ones have some kilobytes.
const MULTIVARIANT_BYTES_MAX: usize = 1 << 20;
/// Where variants are left out only for now.
const AWAY_CACHE_CONTROL: HeaderValue = HeaderValue::from_static("max-age=5");
/// Of the origin's fields, those that are true of its own bytes alone.
const MODIFIED_FIELDS_DROPPED: [&str; 6] =
    ["accept-ranges", "content-digest", "content-md5", "digest", "last-modified", "repr-digest"];
/// For how long a playlist is taken for what it was, and for how many.
const REMEMBERED: Duration = Duration::from_secs(600);
const KEYS_MAX: usize = 8192;
/// Heads and segments made at once, waiting ones included.
const AT_ONCE_MAX: usize = 32;
/// For how long the sidecar is taken to be as it was.
const BUILD_FOR: Duration = Duration::from_secs(1);

/// The edge's side of added rungs.
#[derive(Debug)]
pub struct AddedRenditions {
    sidecar: Option<Arc<Sidecar>>,
    others: Others,
}

impl AddedRenditions {
    /// No client: nobody makes segments. `bytes_max`: of the origins' segments that are held at once, at least 32 MiB.
    pub fn new(client: Option<Arc<Client>>, bytes_max: u64) -> Self {
        let room = Semaphore::new(AT_ONCE_MAX);
        let memory = Memory::new(bytes_max);
        let sidecar = client.map(|client| Sidecar { client, room, memory, build: Mutex::new(None) });
        Self { sidecar: sidecar.map(Arc::new), others: Others::default() }
    }
}

/// Who makes segments, and of which build it is.
#[derive(Debug)]
pub(super) struct Sidecar {
    client: Arc<Client>,
    room: Semaphore,
    /// For the bytes of segments.
    memory: Memory,
    build: Mutex<Option<(Instant, Option<Arc<str>>)>>,
}

impl Sidecar {
    /// None: it is away.
    async fn build(&self) -> Option<Arc<str>> {
        let known = self.build.lock().clone();
        if let Some((_, build)) = known.filter(|(at, _)| at.elapsed() < BUILD_FOR) {
            return build;
        }
        let build = self.client.build().await.ok().map(|build| software(&build).into());
        *self.build.lock() = Some((Instant::now(), build.clone()));
        build
    }
}

/// Playlists that are known to list no variants: they go the way of every request.
#[derive(Debug, Default)]
struct Others(Mutex<(HashMap<u128, Instant, ahash::RandomState>, VecDeque<u128>)>);

impl Others {
    fn has(&self, key: u128) -> bool {
        self.0.lock().0.get(&key).is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    fn note(&self, key: u128) {
        let (known, order) = &mut *self.0.lock();
        if known.insert(key, Instant::now()).is_none() {
            order.push_back(key);
        }
        if order.len() > KEYS_MAX
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
    }
}

impl Edge {
    /// What a request has to do with added rungs. True: it has been answered.
    pub(super) async fn open_renditions(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let Some(wanted) = wanted(ctx).cloned() else { return Ok(false) };
        let request = session.req_header();
        if !matches!(request.method, Method::GET | Method::HEAD) || ctx.long_lived || !session.is_body_empty() {
            return Ok(false);
        }
        if address::is_reserved(&ctx.target) {
            let asked = address::read(&ctx.target).filter(|_| ctx.source.is_none());
            let offered = |name: &str| multivariant::rung(name).is_some_and(|(rung, _)| wanted.allows(&rung));
            let Some(asked) = asked.filter(|asked| offered(&asked.rung)) else {
                let detail = "No such rung is added here.";
                self.refuse(session, ctx, StatusCode::NOT_FOUND, detail, None).await?;
                return Ok(true);
            };
            ctx.rendition = Some(asked);
            // A range is cut out of it.
            ctx.slices.small = true;
            return Ok(false);
        }
        let Some(sidecar) = self.renditions.sidecar.clone() else { return Ok(false) };
        let path = session.req_header().uri.path();
        let is_playlist = [".m3u8", ".m3u"].iter().any(|end| path.ends_with(end));
        if ctx.is_ours() || !is_playlist || session.req_header().headers.contains_key(RANGE) {
            return Ok(false);
        }
        let asks = reuse::request_directives(&session.req_header().headers);
        if site_honours(ctx) && (asks.no_store || asks.only_if_cached) {
            return Ok(false);
        }
        let key = u128::from_be_bytes(self.cache_key(session, ctx)?.primary_bin());
        if self.renditions.others.has(key) {
            return Ok(false);
        }
        let Some(sources) = Sources::new(session, ctx) else { return Ok(false) };
        let found = sources.fetch(&ctx.target, MULTIVARIANT_BYTES_MAX).await;
        let Ok(found) = found else {
            // Too long, or nobody answered: the ordinary way does, or says why not.
            return Ok(false);
        };
        let text = std::str::from_utf8(&found.body).ok().filter(|_| found.header.status == StatusCode::OK);
        let listed = text.and_then(|text| Some((text, multivariant::variants(text).ok()?)));
        let Some((text, listed)) = listed else {
            if found.header.status == StatusCode::OK {
                self.renditions.others.note(key);
            }
            return self.give(session, ctx, &found, None).await;
        };
        let (outcome, changed) = self.with_added(&sources, &sidecar, &found, (text, &listed), ctx, &wanted).await;
        self.metrics.renditions.with_label_values(&["variants", outcome]).inc();
        let changed = changed.map(Bytes::from);
        let for_now = matches!(outcome, "away" | "busy");
        let body = changed.or_else(|| for_now.then(|| found.body.clone()));
        self.give(session, ctx, &found, body.map(|body| (body, for_now))).await
    }

    /// The playlist with what is to be added; how that went, as a metric's label.
    async fn with_added(
        &self,
        sources: &Sources,
        sidecar: &Sidecar,
        found: &Fetched,
        (text, listed): (&str, &(Vec<multivariant::Variant<'_>>, usize)),
        ctx: &Context,
        wanted: &Wanted,
    ) -> (&'static str, Option<String>) {
        let unfit = ("unfit", None);
        let Some(best) = multivariant::source(&listed.0) else { return unfit };
        let rungs = multivariant::missing(&listed.0, best, wanted);
        if rungs.is_empty() {
            return ("complete", None);
        }
        let Some(authority) = ctx.authority.as_deref() else { return unfit };
        let Some(target) = address::resolve(&ctx.target, authority, best.uri) else { return unfit };
        if !found.is_kept {
            return ("private", None);
        }
        // RFC 9110 §7.7.
        let directives = list(found.header.headers.all("cache-control"));
        if directives.into_iter().any(|directive| directive.eq_ignore_ascii_case(b"no-transform")) {
            return unfit;
        }
        if sidecar.build().await.is_none() {
            return ("away", None);
        }
        let Ok(_paid) = sidecar.memory.for_list_to_add_to().await else { return ("busy", None) };
        let Ok(media) = sources.fetch(&target, memory::PLAYLIST_BYTES_MAX).await else { return unfit };
        if media.header.status != StatusCode::OK {
            return unfit;
        }
        if !media.is_kept {
            return ("private", None);
        }
        let container =
            std::str::from_utf8(&media.body).ok().and_then(|text| Some(playlist::read(text).ok()?.container));
        let is_fit = match container {
            Some(Container::Fmp4) => true,
            Some(Container::MpegTs) => best.is_avc(),
            None => false,
        };
        if !is_fit {
            return unfit;
        }
        ("added", Some(multivariant::insert(text, listed, best, &rungs)))
    }

    /// Gives what was found to the client, with another body where there is one; `for_now`: not for long.
    async fn give(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        found: &Fetched,
        changed: Option<(Bytes, bool)>,
    ) -> Result<bool> {
        let mut response = ResponseHeader::build(found.header.status, Some(found.header.headers.len() + 4))?;
        for (name, value) in &found.header.headers {
            response.append_header(name.clone(), value.clone())?;
        }
        // It is whole by now, and has a length.
        for name in [TRANSFER_ENCODING, TRAILER] {
            response.remove_header(&name);
        }
        let is_changed = changed.is_some();
        let (body, for_now) = changed.unwrap_or_else(|| (found.body.clone(), false));
        if is_changed {
            for name in MODIFIED_FIELDS_DROPPED {
                response.remove_header(name);
            }
            response.insert_header(ETAG, format!("\"{}\"", hex::encode(&Sha256::digest(&body)[..16])))?;
        }
        if for_now {
            response.insert_header(CACHE_CONTROL, AWAY_CACHE_CONTROL)?;
            response.remove_header("expires");
        }
        if self.is_not_modified(session, &response) {
            response.set_status(StatusCode::NOT_MODIFIED)?;
            response.remove_header(&CONTENT_LENGTH);
        } else {
            response.insert_header(CONTENT_LENGTH, body.len().to_string())?;
        }
        ctx.answered_as = found.label;
        if let Some(status) = &found.cache_status {
            response.insert_header(super::answer::CACHE_STATUS, status)?;
        }
        self.allow_origins(session, &mut response, ctx)?;
        self.decorate(&mut response, ctx)?;
        ctx.first_byte = Some(ctx.started.elapsed());
        let head_only =
            response.status != found.header.status || session.req_header().method == Method::HEAD || body.is_empty();
        session.write_response_header(Box::new(response), head_only).await?;
        if !head_only {
            session.write_response_body(Some(body), true).await?;
        }
        Ok(true)
    }
}

fn site_honours(ctx: &Context) -> bool {
    ctx.site.as_ref().is_some_and(|site| site.cache.honor_request_directives)
}

/// Which rungs the request's site adds; None: none, or it keeps nothing, and all would be made anew for each client.
pub(super) fn wanted(ctx: &Context) -> Option<&Wanted> {
    let site = ctx.site.as_ref().filter(|site| site.cache.enabled)?;
    match &site.origin.kind {
        OriginKind::Http(settings) => settings.add_renditions.as_ref(),
        OriginKind::Library(_) => None,
    }
}
