//! Asking the origin for parts of an object: by requests of our own, on behalf of the client that wants them.
//!
//! Each goes through the proxy like any request (pool, retries, breaker, limits), but past the cache: what comes back is written
//! into the store by [`fetch`]. The request is written as an HTTP/1.1 head, because Pingora cannot make one from a client's HTTP/2
//! session. Nothing here waits for that client.

use super::super::Edge;
use super::super::context::Context;
use super::super::refresh;
use super::super::subrequests::{self, Incoming};
use super::known::{Known, Note};
use crate::cache::{Fetch, FillTime, Run, Slices};
use crate::http::byte_range::ByteRange;
use crate::http::forwarded::Client;
use crate::http::slicing::{self, Validator, Verdict};
use crate::observe::Metrics;
use crate::transport::Connection;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;
use pingora_http::ResponseHeader;
use pingora_proxy::{Session, SubrequestSpawner, subrequest};
use std::sync::Arc;
use std::time::Duration;

/// All that is needed to ask the origin for parts of one object.
pub(in crate::edge) struct Order {
    spawner: Arc<SubrequestSpawner>,
    target: String,
    authority: String,
    pub(super) headers: HeaderMap,
    client: Client,
    connection: Option<Arc<Connection>>,
    pub(super) slices: &'static Slices,
    pub(super) known: Arc<Known>,
    pub(in crate::edge) metrics: Arc<Metrics>,
    /// Of the object, in [`Known`].
    pub(super) key: u128,
}

/// In the context of a request of ours: whom it is for, and what the proxy learns of the answer.
pub struct Part {
    pub(in crate::edge) client: Client,
    pub(in crate::edge) connection: Option<Arc<Connection>>,
    answered: Arc<Mutex<Option<Answered>>>,
}

/// When the origin was asked, and how long it took.
#[derive(Debug, Clone)]
pub(in crate::edge) struct Answered {
    pub time: Option<FillTime>,
    pub elapsed: Duration,
}

/// An answer whose body is still coming.
pub(in crate::edge) struct Answer {
    pub header: Box<ResponseHeader>,
    /// None: the answer is our own, because the origin gave none.
    pub answered: Option<Answered>,
    body: Incoming,
}

impl Order {
    /// None: this request may have no requests of its own.
    pub(in crate::edge) fn new(edge: &Edge, session: &mut Session, ctx: &Context, key: u128) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            authority: ctx.authority.clone()?,
            spawner: subrequests::spawner(session, ctx)?,
            target: ctx.target.clone(),
            headers: session.req_header().headers.clone(),
            client: ctx.client.clone(),
            connection: ctx.connection.clone(),
            slices: edge.slices.store,
            known: edge.slices.known.clone(),
            metrics: edge.metrics.clone(),
            key,
        }))
    }

    /// Asks for a range, under a condition. None: no answer, not even one of our own.
    pub(in crate::edge) async fn ask(&self, range: ByteRange, condition: Option<(HeaderName, &str)>) -> Option<Answer> {
        let range = format!("bytes={}-{}", range.first, range.last);
        let fields = [(RANGE, range.as_str()), (ACCEPT_ENCODING, "identity")];
        let fields: Vec<_> = fields.into_iter().chain(condition).collect();
        let head = refresh::head(&self.target, &self.authority, &self.headers, &fields);
        let answered = Arc::new(Mutex::new(None));
        let part: subrequest::UserCtx = Box::new(Some(Part {
            client: self.client.clone(),
            connection: self.connection.clone(),
            answered: answered.clone(),
        }));
        let mut body = subrequests::start(&self.spawner, head, part).await?;
        let header = body.final_head().await?;
        Some(Answer { header, answered: answered.lock().take(), body })
    }
}

impl Answer {
    /// The next bytes of the body; None: there are no more, for whatever reason.
    pub(in crate::edge) async fn next(&mut self) -> Option<Bytes> {
        self.body.bytes().await
    }

    /// The body came to its end, and was not broken off.
    pub(in crate::edge) fn is_whole(&self) -> bool {
        self.body.is_whole()
    }

    /// Writes the body into the store.
    pub(super) async fn write_into(mut self, run: &mut Run, metrics: &Metrics) {
        // To the very end: a connection that was read to its end is used again.
        while let Some(bytes) = self.next().await {
            metrics.slice_origin_bytes.inc_by(bytes.len() as u64);
            if run.write(bytes).await.is_err() {
                return;
            }
        }
    }
}

impl Fetch for Arc<Order> {
    fn fetch(&self, run: Run) {
        tokio::spawn(fetch(Arc::clone(self), run));
    }
}

async fn fetch(order: Arc<Order>, mut run: Run) {
    let title = run.title().clone();
    let condition = (IF_RANGE, title.validator().as_str());
    let answer = order.ask(run.asked(), Some(condition)).await;
    let outcome = match answer.filter(|answer| answer.answered.is_some()) {
        None => "refused",
        Some(answer) => {
            let header = &answer.header;
            let asked = run.asked();
            match slicing::judge(header.status, &header.headers, asked, title.complete(), title.validator()) {
                Verdict::Same(_) => {
                    answer.write_into(&mut run, &order.metrics).await;
                    if run.is_complete() { "complete" } else { "short" }
                }
                Verdict::Changed => {
                    if Validator::strong(&header.headers).as_ref() == Some(title.validator()) {
                        // The same version, but no part of it: it answers ranges no more.
                        order.known.note(order.key, Note::Ordinary);
                    }
                    order.slices.changed(&title);
                    "changed"
                }
                Verdict::Refused => "refused",
            }
        }
    };
    order.metrics.slice_runs.with_label_values(&[outcome]).inc();
}

/// The request for a part that a request is, if it is one.
pub(in crate::edge) fn of(session: &mut Session) -> Option<Part> {
    let given = session.subrequest_ctx.as_mut()?.user_ctx_mut()?;
    given.downcast_mut::<Option<Part>>()?.take()
}

impl Part {
    /// The origin's answer is on its way to whoever asked for the part, as it came.
    pub(in crate::edge) fn answered(&self, ctx: &Context) {
        let elapsed = ctx.origin.elapsed.unwrap_or_default();
        *self.answered.lock() = Some(Answered { time: ctx.origin.time.clone(), elapsed });
    }
}
