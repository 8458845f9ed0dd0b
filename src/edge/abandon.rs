//! Fills whose client has left (`cache.background_fill`).
//!
//! Invariant: a fill that anybody follows goes on. Parts of sliced objects have no client that could leave, and end within 4 MiB; the
//! cache's own refreshes have none either.

use super::Edge;
use super::context::Context;
use crate::config::BackgroundFill;
use pingora_cache::CachePhase;
use pingora_error::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::sync::atomic::Ordering;

impl Edge {
    /// Before more of a body is taken from the origin.
    ///
    /// # Errors
    /// It is not wanted any more: the exchange with the origin ends, and nothing of it is kept.
    pub(super) fn abandon(&self, session: &mut Session, ctx: &Context) -> Result<()> {
        if !ctx.cache.client_left.load(Ordering::Relaxed) {
            return Ok(());
        }
        let half = match ctx.generation.config.cache.background_fill {
            BackgroundFill::Always => return Ok(()),
            BackgroundFill::Half => true,
            BackgroundFill::Never => false,
        };
        if !matches!(session.cache.phase(), CachePhase::Miss | CachePhase::Expired) {
            return Ok(());
        }
        let version = session.cache.miss_handler().and_then(|miss| miss.entry_id());
        let Some(version) = version else { return Ok(()) };
        let key = session.cache.cache_key().to_compact();
        if self.store.abandon(&key, version.get(), half) {
            return Error::e_explain(ErrorType::ConnectionClosed, "the client left, and nobody else waits")
                .map_err(Error::into_down);
        }
        Ok(())
    }
}
