//! Content codings between origin, store and client (RFC 9110 §8.4): which coding an origin is asked for, and which form of an
//! answer a client gets.
//!
//! The store keeps identity and, beside it, the forms made of it (`cache`). Answers that are not stored, and those whose length
//! is not known until their fill ends, are coded on their way by [`OnTheWay`]; what an origin coded on our behalf is undone
//! by [`FromOrigin`]. What may be coded at all is decided in `http::content_coding`, once per stored answer.
//!
//! Never codes a part of a body: a request with `Range` is one for the identity, whatever else it accepts.

use super::Edge;
use super::context::Context;
use super::keep::kept;
use crate::cache::{Given, Wanted};
use crate::coding::{Decoder, Encoder, Window};
use crate::config::{Compression, OriginCoding};
use crate::http::content_coding::{self, Accepts, BodyCoding, Choice, Coding, rules};
use crate::http::freshness::Storable;
use crate::observe::Metrics;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, RANGE, TRANSFER_ENCODING, VARY,
};
use http::{HeaderValue, Method, StatusCode};
use pingora_cache::CachePhase;
use pingora_core::modules::http::{HttpModule, HttpModuleBuilder, HttpModules, Module};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::any::Any;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Answers coded on their way at once: each takes about a MiB.
pub const ON_THE_WAY_MAX: usize = 32;
/// The highest levels for answers coded on their way, by [`Coding::index`]: fast ones, since each client pays for its own.
const ON_THE_WAY_LEVELS_MAX: [u32; 3] = [3, 2, 3];
/// Decoded bytes of one body, all together: only pieces are bounded, since none is kept here.
const DECODED_BYTES_MAX: u64 = u64::MAX;

/// What we ask an origin for where all of it is undone.
const DECODABLE: HeaderValue = HeaderValue::from_static("br, zstd, gzip");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

impl Edge {
    /// A part of a body is a part of its identity. A client that refuses that one gets a coded whole, where there is one.
    pub(super) fn settle_range_coding(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        if !session.req_header().headers.contains_key(RANGE) {
            return Ok(());
        }
        ctx.cache.refuses_identity = !Accepts::of(&session.req_header().headers).allows_identity();
        if !ctx.cache.refuses_identity {
            session.req_header_mut().insert_header(ACCEPT_ENCODING, IDENTITY)?;
        }
        Ok(())
    }

    /// What the origin is asked for, by `compression.origin`; only for what may be stored.
    pub(super) fn ask_for_coding(
        &self,
        session: &Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let Some(site) = ctx.site.as_ref().filter(|site| site.compression.enabled) else { return Ok(()) };
        ctx.origin.coding_is_ours = session.cache.enabled() && site.compression.origin != OriginCoding::Pass;
        if ctx.origin.coding_is_ours {
            let recode = site.compression.origin == OriginCoding::Recode && !request.headers.contains_key(RANGE);
            request.insert_header(ACCEPT_ENCODING, if recode { DECODABLE } else { IDENTITY })?;
        }
        Ok(())
    }

    /// Undoes the coding of an answer that was coded because we asked for it.
    pub(super) fn undo_coding(&self, session: &mut Session, response: &ResponseHeader, ctx: &Context) {
        let BodyCoding::One(coding) = content_coding::of_body(&response.headers) else { return };
        if !ctx.origin.coding_is_ours || !rules::has_whole_body(response.status.as_u16(), &response.headers) {
            return;
        }
        // Not to be touched; but what the client cannot read is of no use to it.
        let accepts = Accepts::of(&session.req_header().headers);
        if rules::forbids_transforms(&response.headers) && accepts.allows(coding) {
            return;
        }
        if let Some(module) = session.upstream_modules_ctx.get_mut::<FromOrigin>() {
            module.begin(coding, &self.metrics);
        }
    }

    /// What storing has to know: whether the answer may be coded, and what of its `Vary` is settled by asking for what we like.
    pub(super) fn note_codable(&self, response: &ResponseHeader, kept: &mut Storable, ctx: &Context) {
        let Some(site) = ctx.site.as_ref().filter(|site| site.compression.enabled) else { return };
        kept.codable = is_codable(&site.compression, response);
        if !ctx.origin.coding_is_ours {
            return;
        }
        let name = ACCEPT_ENCODING.as_str();
        kept.vary.retain(|field| field != name);
        // Still coded, so we could not undo it: it is for clients that ask alike.
        if content_coding::of_body(&response.headers) != BodyCoding::None {
            let at = kept.vary.partition_point(|field| field.as_str() < name);
            kept.vary.insert(at, name.to_owned());
        }
    }

    /// Whether this answer must be coded though a range of it was asked for: the client refuses the identity.
    pub(super) fn is_coded_whole(&self, session: &Session, response: &ResponseHeader, ctx: &Context) -> bool {
        let Some(site) = ctx.site.as_ref().filter(|_| ctx.cache.refuses_identity) else { return false };
        let codings = &site.compression.codings;
        let must = matches!(Accepts::of(&session.req_header().headers).choose(codings), Choice::Must(_));
        must && site.compression.enabled && is_codable(&site.compression, response)
    }

    /// Gives the client the form of the answer that it likes best, as far as there is one.
    pub(super) fn encode(&self, session: &mut Session, response: &mut ResponseHeader, ctx: &Context) -> Result<()> {
        let Some(site) = ctx.site.as_ref().filter(|site| site.compression.enabled && !ctx.long_lived) else {
            return Ok(());
        };
        let settings = &site.compression;
        let not_modified = response.status == StatusCode::NOT_MODIFIED;
        let stored = session.cache.maybe_cache_meta().map(|meta| (kept(meta), meta.response_header().status));
        let codable = match stored {
            // A range of it, or the refusal of one, is not coded.
            Some((Some(kept), status)) => kept.codable && (not_modified || response.status == status),
            _ => settings.uncached && is_codable(settings, response),
        };
        if !codable {
            return Ok(());
        }
        if rules::vary_lacks_accept_encoding(&response.headers) {
            response.append_header(VARY, HeaderValue::from_static("Accept-Encoding"))?;
        }
        let accepts = Accepts::of(&session.req_header().headers);
        let (coding, bytes_min) = match accepts.choose(&settings.codings) {
            Choice::Identity => return Ok(()),
            Choice::Coded(coding) => (coding, settings.min_bytes),
            Choice::Must(coding) => (coding, 0),
        };
        let make = !not_modified && session.req_header().method != Method::HEAD;
        let given = self.form(session, response, settings, coding, bytes_min, make);
        let bytes = match given {
            Given::Form { bytes } => bytes,
            Given::Identity => return Ok(()),
            Given::NoForm if !make => None,
            Given::NoForm => match self.code_on_the_way(session, settings, coding) {
                true => None,
                false => return Ok(()),
            },
        };
        if let Some(tag) = response.headers.get(ETAG).and_then(|tag| rules::weak_etag(tag.to_str().ok()?)) {
            response.insert_header(ETAG, tag)?;
        }
        if not_modified {
            return Ok(());
        }
        for name in rules::UNTRUE_AFTER_CODING {
            response.remove_header(name);
        }
        response.insert_header(CONTENT_ENCODING, HeaderValue::from_static(coding.token()))?;
        match bytes {
            Some(bytes) => {
                response.remove_header(&TRANSFER_ENCODING);
                response.insert_header(CONTENT_LENGTH, bytes)?;
            }
            None if make => response.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?,
            None => {}
        }
        Ok(())
    }

    /// The stored form, where the answer comes from the store.
    fn form(
        &self,
        session: &mut Session,
        response: &ResponseHeader,
        settings: &Compression,
        coding: Coding,
        bytes_min: u64,
        make: bool,
    ) -> Given {
        let wanted = Wanted {
            coding,
            level: settings.levels[coding.index()],
            popular_after: settings.popular_after,
            popular_level: settings.popular_levels[coding.index()],
            bytes_min,
            bytes_max: settings.max_bytes,
            make,
        };
        let hit = match session.cache.phase() {
            CachePhase::Hit
            | CachePhase::Stale
            | CachePhase::StaleUpdating
            | CachePhase::Revalidated
            | CachePhase::RevalidatedNoCache(_) => Some(session.cache.hit_handler()),
            _ => session.cache.miss_body_reader(),
        };
        match hit {
            Some(hit) => self.store.code(hit, &wanted),
            None if content_length(response).is_some_and(|bytes| bytes < bytes_min) => Given::Identity,
            None => Given::NoForm,
        }
    }

    /// False: too many are under way.
    fn code_on_the_way(&self, session: &mut Session, settings: &Compression, coding: Coding) -> bool {
        let Ok(permit) = Arc::clone(&self.on_the_way).try_acquire_owned() else {
            self.metrics.limits_reached.with_label_values(&["coded_on_the_way"]).inc();
            return false;
        };
        let level = settings.levels[coding.index()].min(ON_THE_WAY_LEVELS_MAX[coding.index()]);
        let Some(module) = session.downstream_modules_ctx.get_mut::<OnTheWay>() else { return false };
        let encoder = Encoder::new(coding, level, Window::Small);
        module.0 =
            Some(Box::new(Coded { encoder, _permit: permit, tally: Tally::new(coding, "passing", &self.metrics) }));
        true
    }
}

/// Whether an answer may be coded and is of a type that is worth it. Its size is looked at by whoever has it.
pub(super) fn is_codable(settings: &Compression, response: &ResponseHeader) -> bool {
    let content_type = response.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| settings.types.matches(content_type))
        && rules::may_be_coded(response.status.as_u16(), &response.headers)
}

fn content_length(response: &ResponseHeader) -> Option<u64> {
    response.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What went through a coder.
struct Tally {
    coding: Coding,
    kind: &'static str,
    input_bytes: u64,
    output_bytes: u64,
    done: bool,
    metrics: Arc<Metrics>,
}

impl Tally {
    fn new(coding: Coding, kind: &'static str, metrics: &Arc<Metrics>) -> Self {
        Self { coding, kind, input_bytes: 0, output_bytes: 0, done: false, metrics: Arc::clone(metrics) }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let labels = [self.coding.token(), self.kind];
        let outcome = if self.done { &self.metrics.compression_runs } else { &self.metrics.compression_failures };
        outcome.with_label_values(&labels).inc();
        self.metrics.compression_input_bytes.with_label_values(&labels).inc_by(self.input_bytes);
        self.metrics.compression_output_bytes.with_label_values(&labels).inc_by(self.output_bytes);
    }
}

/// Codes one answer on its way to its client. Pingora tells modules, and only them, of every end a body can have.
#[derive(Default)]
struct OnTheWay(Option<Box<Coded>>);

struct Coded {
    encoder: Encoder,
    _permit: OwnedSemaphorePermit,
    tally: Tally,
}

impl OnTheWay {
    fn end(&mut self) -> Option<Bytes> {
        let Coded { encoder, mut tally, .. } = *self.0.take()?;
        let end = encoder.finish();
        tally.output_bytes += end.len() as u64;
        tally.done = true;
        Some(end)
    }
}

#[async_trait]
impl HttpModule for OnTheWay {
    fn response_body_filter(&mut self, body: &mut Option<Bytes>, end_of_stream: bool) -> Result<()> {
        let Some(coded) = &mut self.0 else { return Ok(()) };
        let input = body.take().unwrap_or_default();
        coded.tally.input_bytes += input.len() as u64;
        let mut output = coded.encoder.write(&input).to_vec();
        if end_of_stream {
            output.extend_from_slice(&self.end().unwrap_or_default());
        } else {
            // What the origin sent by itself should arrive by itself.
            output.extend_from_slice(&coded.encoder.flush());
            coded.tally.output_bytes += output.len() as u64;
        }
        *body = Some(Bytes::from(output));
        Ok(())
    }

    fn response_done_filter(&mut self) -> Result<Option<Bytes>> {
        Ok(self.end())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Undoes the coding of an origin's answer before anything else sees its body.
#[derive(Default)]
struct FromOrigin(Option<Box<Decoded>>);

struct Decoded {
    decoder: Decoder,
    tally: Tally,
}

impl FromOrigin {
    fn begin(&mut self, coding: Coding, metrics: &Arc<Metrics>) {
        let decoder = Decoder::new(coding, DECODED_BYTES_MAX);
        self.0 = Some(Box::new(Decoded { decoder, tally: Tally::new(coding, "decoded", metrics) }));
    }

    /// An error where the coded body was cut short.
    fn end(&mut self) -> Result<Option<Bytes>> {
        let Some(decoded) = self.0.take() else { return Ok(None) };
        let Decoded { decoder, mut tally } = *decoded;
        if tally.input_bytes == 0 {
            return Ok(None); // not even a coded nothing: an empty body
        }
        let end = decoder.finish().map_err(refused)?;
        tally.output_bytes += end.len() as u64;
        tally.done = true;
        Ok(Some(end))
    }
}

#[async_trait]
impl HttpModule for FromOrigin {
    async fn response_header_filter(&mut self, response: &mut ResponseHeader, end_of_stream: bool) -> Result<()> {
        if self.0.is_none() || response.status.is_informational() {
            return Ok(());
        }
        if end_of_stream {
            self.0 = None;
        }
        if let Some(tag) = response.headers.get(ETAG).and_then(|tag| rules::weak_etag(tag.to_str().ok()?)) {
            response.insert_header(ETAG, tag)?;
        }
        response.remove_header(&CONTENT_ENCODING);
        for name in rules::UNTRUE_AFTER_CODING {
            response.remove_header(name);
        }
        Ok(())
    }

    fn response_body_filter(&mut self, body: &mut Option<Bytes>, end_of_stream: bool) -> Result<()> {
        let Some(decoded) = &mut self.0 else { return Ok(()) };
        let input = body.take().unwrap_or_default();
        decoded.tally.input_bytes += input.len() as u64;
        let mut output = decoded.decoder.write(&input).map_err(refused)?;
        decoded.tally.output_bytes += output.len() as u64;
        if end_of_stream && let Some(end) = self.end()? {
            output = if output.is_empty() { end } else { [output, end].concat().into() };
        }
        *body = Some(output);
        Ok(())
    }

    fn response_done_filter(&mut self) -> Result<Option<Bytes>> {
        self.end()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

fn refused(error: crate::coding::DecodeError) -> Box<Error> {
    tracing::debug!(%error, "an origin's coded body refused");
    Error::explain(ErrorType::InvalidHTTPHeader, error.to_string()).into_up()
}

/// Makes one module of a kind for each request.
struct Make<M>(fn() -> M);

impl<M: HttpModule + Send + Sync + 'static> HttpModuleBuilder for Make<M> {
    fn init(&self) -> Module {
        Box::new((self.0)())
    }
}

pub(super) fn add_on_the_way(modules: &mut HttpModules) {
    modules.add_module(Box::new(Make(OnTheWay::default)));
}

pub(super) fn add_from_origin(modules: &mut HttpModules) {
    modules.add_module(Box::new(Make(FromOrigin::default)));
}

/// Slots for [`ON_THE_WAY_MAX`] answers.
pub fn on_the_way() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ON_THE_WAY_MAX))
}
