//! What a request has to do with purges: when its fill began, for which URL, and whether a purge hides what it found.

use super::Edge;
use super::context::Context;
use crate::cache::{AskedFor, Verdict, verdict_on_alias};
use crate::http::key;
use pingora_cache::{CacheKey, CacheMeta, HitHandler};

impl Edge {
    /// A request that waits for a fill may take it though it is purged meanwhile. (Later than the request's true beginning is
    /// stricter.)
    pub(super) fn note_begin(&self, key: &mut CacheKey) {
        key.extensions.insert(self.store.begun());
    }

    /// Just before the origin is asked: a purge from now on reaches the answer.
    pub(super) fn asking_origin(&self, ctx: &mut Context) {
        ctx.origin.time = Some(self.store.bans().now());
    }

    /// Says of an answer that will be stored when and for which URL it was asked for.
    pub(super) fn stamp(&self, meta: &mut CacheMeta, ctx: &Context) {
        let Some(time) = ctx.origin.time.clone() else { return };
        let url = url_as_asked(ctx).unwrap_or_default().into();
        meta.extensions_mut().insert(AskedFor { time, url, has_aliases: has_aliases(ctx) });
    }

    /// The store knows purges by the URL an object was filled for; where a site's rewrites lead several URLs to it, a prefix may
    /// have been purged that only this one has.
    pub(super) fn verdict_on_url(&self, hit: &HitHandler, ctx: &Context) -> Verdict {
        if !has_aliases(ctx) || !self.store.bans().has_prefixes() {
            return Verdict::Clear;
        }
        url_as_asked(ctx).map_or(Verdict::Clear, |url| verdict_on_alias(self.store.bans(), hit, &url))
    }
}

pub(super) fn has_aliases(ctx: &Context) -> bool {
    ctx.site.as_ref().is_some_and(|site| !site.rewrites.is_empty())
}

/// A content key but for the site's rewrites. None: too long to be one.
pub(super) fn url_as_asked(ctx: &Context) -> Option<String> {
    let site = ctx.site.as_ref()?;
    let host = ctx.host.as_deref().filter(|_| site.host_in_key);
    let target = key::normalise_path_and_query(&ctx.target).ok()?;
    key::content_key(&site.name, host, &site.cache.key.apply(&target)).ok()
}
