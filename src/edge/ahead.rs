//! What is there of what a request asks for, before it is decided how it goes on.
//!
//! Three decisions come before Pingora's look-up: whether parts are asked for, whether a range passes by the cache, and whether an HTTP/2
//! client's answer is fetched by a request of our own. What lies in RAM can be asked at once. Of what lies on a disk only, nobody knows
//! whether it is fresh, or reached by a purge, before its head was read; so it is looked up here, once, and Pingora's look-up gets
//! what was found.

use super::Edge;
use super::context::Context;
use super::keep::kept;
use super::lookup::{filling, variance_of};
use crate::cache::{Ahead, Held, Looked, Verdict};
use crate::http::reuse::{self, Reuse, Stored};
use http::header::{ETAG, LAST_MODIFIED};
use http::{Method, Version};
use pingora_cache::{CacheKey, CacheMeta, HitHandler};
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::SystemTime;

/// What was found under a request's key, and under that of its variant where it is another.
pub struct Found {
    object: Looked,
    variant: Option<Looked>,
    verdict: Option<Reuse>,
}

impl Found {
    /// For Pingora's look-ups of this key.
    pub(super) fn give_to(self, key: &mut CacheKey) {
        key.extensions.insert(Arc::new(Ahead::of([self.object].into_iter().chain(self.variant))));
    }

    /// How much of it is there that is of use: what is stale and cannot be validated is fetched anew.
    pub(super) fn held(&self) -> Option<Held> {
        let headers = self.object.meta.headers();
        let is_of_use = is_usable(self.verdict) || headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
        is_of_use.then(|| self.object.held())
    }
}

fn is_usable(verdict: Option<Reuse>) -> bool {
    matches!(verdict, Some(Reuse::Fresh | Reuse::Stale | Reuse::StaleWhileRevalidate))
}

impl Edge {
    /// Looks up what has to be looked at before Pingora does.
    pub(super) async fn look_ahead(&self, session: &mut Session, ctx: &mut Context) {
        let Some(site) = ctx.site.clone() else { return };
        let request = session.req_header();
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        if !reads || !site.cache.enabled || ctx.long_lived || ctx.part.is_some() || !session.is_body_empty() {
            return;
        }
        let Ok(key) = self.cache_key(session, ctx) else { return };
        let request = session.req_header();
        if site.cache.honor_request_directives {
            ctx.cache.asked = reuse::request_directives(&request.headers);
        }
        ctx.cache.filling = filling(request, &ctx.cache.asked);
        let may_follow = request.version == Version::HTTP_2 && request.method == Method::GET && !ctx.is_ours();
        if may_follow || self.store.lies_below(&key) {
            self.look_up(ctx, &key).await;
        }
        ctx.cache.key = Some(key);
    }

    async fn look_up(&self, ctx: &mut Context, key: &CacheKey) {
        let found = self.store.look_ahead(key).await.ok().flatten();
        ctx.cache.ahead = found.map(|object| {
            let verdict = self.reuse(&object.meta, &object.hit, ctx, SystemTime::now());
            Found { object, variant: None, verdict }
        });
    }

    /// How much of what is asked for is there.
    pub(super) fn held(&self, ctx: &Context, key: &CacheKey) -> Option<Held> {
        match &ctx.cache.ahead {
            Some(found) => found.held(),
            None => self.store.held(&key.to_compact()),
        }
    }

    /// Whether what is found can be given to this request without asking the origin, in the variant that it selects.
    pub(super) async fn has_for(&self, session: &Session, ctx: &mut Context, key: &CacheKey) -> bool {
        if ctx.cache.ahead.is_none() && self.store.held(&key.to_compact()).is_some() {
            // It came meanwhile.
            self.look_up(ctx, key).await;
        }
        let Some(found) = &ctx.cache.ahead else { return false };
        let Some(variance) = variance_of(&found.object.meta, session.req_header()) else {
            return is_usable(found.verdict);
        };
        if found.object.meta.variance() == Some(variance) {
            return is_usable(found.verdict);
        }
        let mut key = key.clone();
        key.set_variance_key(variance);
        let variant = self.store.look_ahead(&key).await.ok().flatten();
        let Some(found) = &mut ctx.cache.ahead else { return false };
        // Pingora takes no variant that is older than what lies under the key itself.
        let since = found.object.meta.provenance();
        found.variant = variant.filter(|variant| variant.meta.created() >= since);
        let Some(found) = &ctx.cache.ahead else { return false };
        let now = SystemTime::now();
        found.variant.as_ref().is_some_and(|variant| is_usable(self.reuse(&variant.meta, &variant.hit, ctx, now)))
    }

    /// Whether what was found answers this request (RFC 9111 §4). None: it is no answer at all, or a purge has taken it.
    pub(super) fn reuse(&self, meta: &CacheMeta, hit: &HitHandler, ctx: &Context, now: SystemTime) -> Option<Reuse> {
        let kept = kept(meta)?;
        let fresh_until = match self.verdict_on_url(hit, ctx) {
            Verdict::Clear => meta.fresh_until(),
            Verdict::Stale(at) => meta.fresh_until().min(at),
            Verdict::Gone => return None,
        };
        let age = now.duration_since(meta.epoch()).unwrap_or_default();
        Some(reuse::decide(&Stored { kept: &kept, age, fresh_until }, &ctx.cache.asked, now))
    }
}
