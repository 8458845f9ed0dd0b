//! A server for one request: a task of ours at the other end of a pair of sockets. To Pingora it is like any other.

use super::super::Edge;
use super::super::admit::refusal;
use super::super::context::Context;
use super::make::Order;
use super::source::Sources;
use async_trait::async_trait;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use pingora_core::connectors::l4;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, OrErr, Result};
use pingora_proxy::Session;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// Nothing is there: connections are made by [`InProcess`].
const ADDRESS: &str = "/nowhere/renditions";
/// Of an origin's name.
const NAME_CHARS_MAX: usize = 20;
/// Until the answer's head: the origin is asked, and a segment made.
const TIME_MAX: Duration = Duration::from_secs(240);

struct InProcess(Mutex<Option<Order>>);

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InProcess")
    }
}

#[async_trait]
impl l4::Connect for InProcess {
    async fn connect(&self, _: &SocketAddr) -> Result<Stream> {
        let order = self.0.lock().take();
        let order = order.ok_or_else(|| Error::explain(ErrorType::ConnectError, "it was made already"))?;
        let (ours, theirs) = UnixStream::pair().or_err(ErrorType::SocketError, "a pair of sockets")?;
        tokio::spawn(async move {
            let order = Arc::new(order);
            let service = service_fn(move |request| {
                let order = Arc::clone(&order);
                async move { Ok::<_, Infallible>(order.answer(request.into_parts().0).await) }
            });
            // Where it ends early, nobody waits any more.
            let _ = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(theirs), service).await;
        });
        Ok(ours.into())
    }
}

impl Edge {
    /// Where a URL of ours is answered.
    pub(in crate::edge) fn rendition_server(&self, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        let (Some(asked), Some(sources)) = (ctx.rendition.clone(), Sources::new(session, ctx)) else {
            return Err(refusal(ctx, 502, "The rendition could not be made."));
        };
        let Some(sidecar) = self.renditions.sidecar.clone() else {
            return Err(refusal(ctx, 503, "Nobody makes renditions here."));
        };
        let keyed = ctx.site.as_ref().is_some_and(|site| site.cache.key.apply(&ctx.target) == ctx.target.as_str());
        let origin =
            ctx.site.as_ref().map_or_else(String::new, |site| site.origin.name.chars().take(NAME_CHARS_MAX).collect());
        let order = Order { asked, sources, sidecar, metrics: self.metrics.clone(), origin, keyed };
        let mut peer = HttpPeer::new_uds(ADDRESS, false, String::new())?;
        peer.options.custom_l4 = Some(Arc::new(InProcess(Mutex::new(Some(order)))));
        peer.options.read_timeout = Some(TIME_MAX);
        ctx.origin.asked = Some(Instant::now());
        Ok(Box::new(peer))
    }
}
