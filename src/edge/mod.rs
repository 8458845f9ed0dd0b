//! Pingora's phases of a request, one file each: admit → look up → fetch → respond → log. `impl ProxyHttp` only delegates.
//!
//! Beside the phases:
//! - `ahead`: looking up before Pingora does; `slices`, `renditions`: what is answered in parts; rungs added to HLS ladders;
//! - `follow`, `refresh`, `inquiry`, `resume`: requests of our own: for a client on HTTP/2, behind a client's back, for nobody, for what a
//!   slow client has yet to read; `subrequests` starts them; `abandon`: fills whose client has left; `passing`: bodies too large to keep;
//! - `lane`: plain hits, without Pingora;
//! - `compression`, `coders`: codings; `purge`: what purges hide; `limiter`: rates; [`Generation`]: one configuration in force.
//!
//! Invariants: no policy lives here that could be pure (it is in `http`), no bytes are kept here (`cache` does), no server
//! is chosen here (`origin` does). A request keeps the [`Generation`] it started with.

mod abandon;
mod admit;
mod ahead;
mod answer;
mod coders;
mod compression;
mod context;
mod failure;
mod fetch;
mod follow;
mod generation;
mod inquiry;
mod keep;
mod lane;
mod limiter;
mod log;
mod lookup;
mod passing;
mod purge;
mod refresh;
mod renditions;
mod respond;
mod resume;
mod slices;
mod subrequests;

pub use coders::on_the_way;
pub use generation::Generation;
pub use inquiry::{Asker, Inquired};
pub use lane::Lane;
pub use refresh::Refreshes;
pub use renditions::AddedRenditions;
pub use slices::SlicedObjects;

use crate::cache::MemoryStore;
use crate::http::loop_detection::LoopId;
use crate::observe::{AccessLog, Metrics};
use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use bytes::Bytes;
use context::Context;
use pingora_cache::key::HashBinary;
use pingora_cache::lock::CacheKeyLockImpl;
use pingora_cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, RespCacheable};
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::RangeType;
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The proxy: shared parts and the generation in force.
pub struct Edge {
    pub generation: Arc<ArcSwap<Generation>>,
    pub store: &'static MemoryStore,
    pub lock: &'static CacheKeyLockImpl,
    pub metrics: Arc<Metrics>,
    /// None: switched off.
    pub access_log: Arc<ArcSwapOption<AccessLog>>,
    pub refreshes: Refreshes,
    pub slices: SlicedObjects,
    pub renditions: AddedRenditions,
    /// Room for answers that are coded on their way.
    pub on_the_way: Arc<Semaphore>,
    /// Who we are in `CDN-Loop`.
    pub loop_id: LoopId,
}

#[async_trait]
impl ProxyHttp for Edge {
    /// Boxed: Pingora's future of a request holds it by value, and is moved with it.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Box<Context> {
        Box::new(Context::new(self.generation.load_full()))
    }

    /// None of Pingora's: which form an answer has is decided and stored by us.
    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        coders::add_on_the_way(modules);
    }

    fn init_upstream_modules(&self, modules: &mut HttpModules) {
        coders::add_from_origin(modules);
    }

    async fn adjust_upstream_modules(
        &self,
        session: &mut Session,
        response: &ResponseHeader,
        _end_of_stream: bool,
        ctx: &mut Box<Context>,
    ) -> Result<()> {
        self.undo_coding(session, response, ctx);
        Ok(())
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Box<Context>) -> Result<()> {
        self.begin(session, ctx)
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Context>) -> Result<bool> {
        let answered = self.admit(session, ctx).await?;
        if answered {
            return Ok(true);
        }
        if self.open_renditions(session, ctx).await? {
            return Ok(true);
        }
        self.settle_range_coding(session, ctx)?;
        self.look_ahead(session, ctx).await;
        if ctx.rendition.is_none() && self.open_slices(session, ctx).await? {
            return Ok(true);
        }
        self.follow(session, ctx).await
    }

    fn request_cache_filter(&self, session: &mut Session, ctx: &mut Box<Context>) -> Result<()> {
        self.open_cache(session, ctx);
        Ok(())
    }

    fn cache_key_callback(&self, session: &Session, ctx: &mut Box<Context>) -> Result<CacheKey> {
        match ctx.cache.key.take() {
            Some(key) => Ok(key),
            None => self.cache_key(session, ctx),
        }
    }

    fn cache_vary_filter(
        &self,
        meta: &CacheMeta,
        ctx: &mut Box<Context>,
        request: &RequestHeader,
    ) -> Option<HashBinary> {
        self.variance(meta, ctx, request)
    }

    async fn cache_hit_filter(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        hit: &mut HitHandler,
        is_fresh: bool,
        ctx: &mut Box<Context>,
    ) -> Result<Option<ForcedFreshness>> {
        let forced = self.found(session, meta, hit, is_fresh, ctx);
        if !matches!(forced, Some(ForcedFreshness::ForceMiss)) {
            self.let_resume(session, ctx, meta, hit);
        }
        Ok(forced)
    }

    fn cache_miss(&self, session: &mut Session, ctx: &mut Box<Context>) {
        self.missed(session, ctx);
    }

    async fn proxy_upstream_filter(&self, session: &mut Session, ctx: &mut Box<Context>) -> Result<bool> {
        self.may_ask_origin(session, ctx).await
    }

    fn response_cache_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        ctx: &mut Box<Context>,
    ) -> Result<RespCacheable> {
        self.storable(session, response, ctx)
    }

    fn cache_not_modified_filter(
        &self,
        session: &Session,
        response: &ResponseHeader,
        _ctx: &mut Box<Context>,
    ) -> Result<bool> {
        Ok(self.is_not_modified(session, response))
    }

    fn range_header_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Box<Context>,
    ) -> RangeType {
        let asked = match self.range_counts(session, response) && !self.is_coded_whole(session, response, ctx) {
            true => lookup::cut(session.req_header(), response),
            false => RangeType::None,
        };
        self.note_ranges(&asked, ctx);
        asked
    }

    fn should_serve_stale(&self, session: &mut Session, ctx: &mut Box<Context>, error: Option<&Error>) -> bool {
        self.may_serve_stale(session, ctx, error)
    }

    fn allow_spawning_subrequest(&self, _session: &Session, ctx: &Box<Context>) -> bool {
        ctx.part.is_none() && !ctx.inquiry
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Box<Context>) -> Result<Box<HttpPeer>> {
        self.choose_server(session, ctx).await
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Box<Context>,
    ) -> Result<()> {
        self.connected(reused, ctx);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Box<Context>,
    ) -> Result<()> {
        self.prepare_request(session, request, ctx)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Box<Context>,
    ) -> Result<()> {
        self.receive_response(session, response, ctx)?;
        if !ctx.cache.removals.is_empty() {
            self.note_removals(ctx).await;
        }
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Box<Context>,
    ) -> Result<Option<Duration>> {
        if ctx.rendition.is_none() {
            ctx.origin.body_bytes += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        }
        if !end_of_stream {
            self.abandon(session, ctx)?;
        }
        self.pass_on(session, ctx)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Box<Context>,
        error: Box<Error>,
    ) -> Box<Error> {
        self.connect_failed(ctx, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Box<Context>,
        client_reused: bool,
    ) -> Box<Error> {
        self.exchange_failed(session, ctx, error, client_reused)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Box<Context>,
    ) -> Result<()> {
        self.finish_headers(session, response, ctx)?;
        Self::note_head(session, response, ctx);
        Ok(())
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Box<Context>) -> FailToProxy {
        self.answer_failure(session, error, ctx).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Box<Context>) {
        self.log(session, error, ctx);
    }

    /// Ours says the same with redaction; Pingora's lines carry the target with its tokens.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Box<Context>, _error: &Error) -> bool {
        true
    }

    /// The only place where Pingora tells that a client left and its fill goes on.
    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        ctx: &Box<Context>,
        _error: &Error,
        context: ProxyWarnLogContext,
    ) -> bool {
        if matches!(context, ProxyWarnLogContext::DownstreamCache) {
            ctx.cache.client_left.store(true, Ordering::Relaxed);
        }
        true
    }

    fn request_summary(&self, session: &Session, _ctx: &Box<Context>) -> String {
        let request = session.req_header();
        format!("{} {}", request.method, crate::http::redact::redact_target(request.uri.path()))
    }
}
