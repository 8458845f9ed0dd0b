//! The rest of a body for a client that fell behind: what it had not read is no longer in RAM, nor on a disk.
//!
//! The origin is asked for the bytes that are missing, by a request of our own under `If-Range` (RFC 9110 §13.1.5), which passes by the
//! cache and goes at this client's pace. Only where the head it began with has a strong validator and the bytes are the origin's own.
//! An origin that answers with all of the same version is taken at that, and what the client has is passed over. Whatever is not exactly
//! that version (another entity-tag, another length, fewer bytes) ends the answer in an abort.
//!
//! Invariants: nothing is asked for before it is needed, a large hit only carries what that takes; not more than `limits.resumes` go on so
//! at once, and what lies on its way to each is paid for out of `cache.memory`: who finds no place in time is aborted.

use super::Edge;
use super::context::Context;
use super::keep::{content_length, kept};
use super::slices::{Answer, Order, id};
use crate::cache::{self, MemoryStore, OwnersRest, Rest, Resume, Room};
use crate::http::byte_range::ByteRange;
use crate::http::slicing::{self, ContentRange, Validator, Verdict};
use bytes::Bytes;
use http::header::IF_RANGE;
use http::{HeaderMap, Method, StatusCode};
use pingora_cache::{CacheMeta, HitHandler};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

/// A last-byte-pos beyond every body: a server takes it for the end (RFC 9110 §14.1.2).
const TO_THE_END: u64 = i64::MAX as u64;
/// A body of up to so much is one chunk in memory, which its reader has in hand.
const HELD_BYTES: u64 = 1 << 20;

/// How long a reader waits for others that go on from the origin to end.
const PLACE_WAIT_MAX: Duration = Duration::from_secs(10);
/// What lies between the origin and one reader, at most: some 16 pieces of 64 KiB in Pingora's queues and ours, and a window of HTTP/2.
const ON_THE_WAY_BYTES: u64 = 2 << 20;

/// What the rest of one body is asked for with.
#[derive(Clone)]
struct FromOrigin {
    order: Arc<Order>,
    validator: Validator,
    places: Arc<Semaphore>,
    store: &'static MemoryStore,
}

/// Credentials of the client are in there.
impl fmt::Debug for FromOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromOrigin").field("validator", &self.validator).finish_non_exhaustive()
    }
}

impl Resume for FromOrigin {
    fn resume(&self, rest: Rest) -> mpsc::Receiver<Option<Bytes>> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(self.clone().run(rest, sender));
        receiver
    }
}

impl Edge {
    /// A hit that may be let go before its client has it all learns where to go on.
    pub(super) fn let_resume(&self, session: &mut Session, ctx: &Context, meta: &CacheMeta, hit: &mut HitHandler) {
        if session.req_header().method != Method::GET || !cache::may_be_let_go(hit) {
            return;
        }
        let Some(validator) = slicing::resumable(meta.headers()) else { return };
        // The date of a 304 that came since makes none of the bytes stronger.
        if validator.is_date() && !kept(meta).is_some_and(|kept| kept.strong_date) {
            return;
        }
        if let Some(order) = Order::new(self, session, ctx, id(session.cache.cache_key())) {
            cache::resume_by(hit, self.resume_with(ctx, order, validator));
        }
    }

    fn resume_with(&self, ctx: &Context, order: Arc<Order>, validator: Validator) -> Arc<FromOrigin> {
        let places = ctx.generation.resumes.clone();
        Arc::new(FromOrigin { order, validator, places, store: self.store })
    }

    /// As [`Self::let_resume`], for the client whose request fills: before it is decided whether the answer is kept.
    pub(super) fn note_rest(&self, session: &mut Session, response: &ResponseHeader, ctx: &mut Context) {
        let is_large = content_length(&response.headers).is_none_or(|bytes| bytes > HELD_BYTES);
        let is_plain = session.req_header().method == Method::GET && response.status == StatusCode::OK;
        if is_large && is_plain && session.cache.enabled() {
            let key = id(session.cache.cache_key());
            ctx.cache.rest = Order::new(self, session, ctx, key);
        }
    }

    /// For the head an answer is kept with.
    pub(super) fn owners_rest(&self, ctx: &mut Context, headers: &HeaderMap) -> Option<OwnersRest> {
        let (order, validator) = (ctx.cache.rest.take()?, slicing::resumable(headers)?);
        Some(OwnersRest(self.resume_with(ctx, order, validator)))
    }
}

impl FromOrigin {
    /// Gives the rest to a reader, until that is gone.
    async fn run(self, rest: Rest, sender: mpsc::Sender<Option<Bytes>>) {
        let outcomes = &self.order.metrics.cache_readers_let_go;
        let place = tokio::select! {
            place = timeout(PLACE_WAIT_MAX, self.place()) => place.ok().flatten(),
            () = sender.closed() => return,
        };
        // Held until the last byte was handed on.
        let Some(_place) = place else { return outcomes.with_label_values(&["too_many"]).inc() };
        let asked = ByteRange { first: rest.from, last: rest.end.map_or(TO_THE_END, |end| end.saturating_sub(1)) };
        let answer = tokio::select! {
            answer = self.order.ask(asked, Some((IF_RANGE, self.validator.as_str()))) => answer,
            () = sender.closed() => return,
        };
        let judged = answer.ok_or("refused").and_then(|answer| {
            let cut = judge(&answer, asked, rest.complete, &self.validator)?;
            Ok((answer, cut))
        });
        let outcome = judged.as_ref().map_or_else(|outcome| *outcome, |_| "origin");
        outcomes.with_label_values(&[outcome]).inc();
        if let Ok((answer, cut)) = judged {
            give(answer, cut, &sender).await;
        }
    }

    /// A place among those that go on from the origin, and room for what is on its way there. None: there is no room.
    async fn place(&self) -> Option<(OwnedSemaphorePermit, Room)> {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                self.order.metrics.limits_reached.with_label_values(&["resumes"]).inc();
                Arc::clone(&self.places).acquire_owned().await.ok()?
            }
        };
        Some((place, self.store.room_to_pass(ON_THE_WAY_BYTES, PLACE_WAIT_MAX).await?))
    }
}

/// The bytes of an answer that are the rest.
struct Cut {
    skip: u64,
    take: u64,
}

/// Which bytes they are, where they are all that were asked for, of the same version; else what it came to.
fn judge(answer: &Answer, asked: ByteRange, complete: Option<u64>, validator: &Validator) -> Result<Cut, &'static str> {
    let headers = &answer.header.headers;
    if answer.answered.is_none() {
        return Err("refused");
    }
    let complete = complete.or_else(|| match ContentRange::of(headers) {
        Some(ContentRange::Part { complete, .. }) => Some(complete),
        _ => None,
    });
    let complete = complete.unwrap_or(TO_THE_END);
    // It knows no ranges, and has the same version: what the client has is passed over.
    if answer.header.status == StatusCode::OK
        && content_length(headers) == Some(complete)
        && slicing::resumable(headers).as_ref() == Some(validator)
    {
        return Ok(Cut { skip: asked.first, take: (asked.last.min(complete - 1) + 1).saturating_sub(asked.first) });
    }
    match slicing::judge(answer.header.status, headers, asked, complete, validator) {
        Verdict::Same(part) if part.last == asked.last.min(complete - 1) => Ok(Cut { skip: 0, take: part.length() }),
        Verdict::Same(_) | Verdict::Refused => Err("refused"),
        Verdict::Changed => Err("changed"),
    }
}

/// Hands on the bytes, and then that it was all; nothing more where it was not.
async fn give(mut answer: Answer, cut: Cut, sender: &mpsc::Sender<Option<Bytes>>) {
    let Cut { mut skip, take: mut left } = cut;
    loop {
        let next = tokio::select! {
            next = answer.next() => next,
            // To the very end, once it is near: a connection that was read to its end is used again.
            () = sender.closed(), if left > 0 => return,
        };
        let Some(mut bytes) = next else { break };
        let skipped = skip.min(bytes.len() as u64);
        skip -= skipped;
        let _ = bytes.split_to(skipped as usize);
        if bytes.is_empty() {
            continue;
        }
        let came = bytes.len() as u64;
        if came > left || sender.send(Some(bytes)).await.is_err() {
            return;
        }
        left -= came;
    }
    if left == 0 && answer.is_whole() {
        let _ = sender.send(None).await; // who left wants no word
    }
}
