//! What starts requests of our own on behalf of a client's. Pingora gives each request one spawner, which can be taken once; several things
//! may need it in turn: parts, a refresh, the rest of a body, another rung's source.

use super::context::Context;
use pingora_proxy::{Session, SubrequestSpawner};
use std::sync::Arc;

/// None: this request may have no requests of its own.
pub(super) fn spawner(session: &mut Session, ctx: &Context) -> Option<Arc<SubrequestSpawner>> {
    if let Some(spawner) = session.subrequest_spawner.take() {
        // Taken once, so it is set once.
        let _ = ctx.spawner.set(Arc::new(spawner));
    }
    ctx.spawner.get().cloned()
}
