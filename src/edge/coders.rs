//! Coding and decoding of bodies that pass, as modules of Pingora: only modules are told of every end a body can have.
//!
//! [`OnTheWay`] codes an answer towards its client, [`FromOrigin`] undoes what an origin coded. Which of them has something to do is
//! decided in `compression`. A coded body that does not end as its coding wants is an error, never a short body.

use crate::coding::{Decoder, Encoder, Window};
use crate::http::content_coding::{Coding, rules};
use crate::observe::Metrics;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, ETAG};
use pingora_core::modules::http::{HttpModule, HttpModuleBuilder, HttpModules, Module};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use std::any::Any;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Answers coded on their way at once: each takes about a MiB.
const ON_THE_WAY_MAX: usize = 32;
/// Decoded bytes of one body, all together: only pieces are bounded, since none is kept here.
const DECODED_BYTES_MAX: u64 = u64::MAX;

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
pub(super) struct OnTheWay(Option<Box<Coded>>);

struct Coded {
    encoder: Encoder,
    _permit: OwnedSemaphorePermit,
    tally: Tally,
}

impl OnTheWay {
    /// From the first byte of the body on.
    pub(super) fn begin(&mut self, coding: Coding, level: u32, permit: OwnedSemaphorePermit, metrics: &Arc<Metrics>) {
        let (encoder, tally) = (Encoder::new(coding, level, Window::Small), Tally::new(coding, "passing", metrics));
        self.0 = Some(Box::new(Coded { encoder, _permit: permit, tally }));
    }

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
pub(super) struct FromOrigin(Option<Box<Decoded>>);

struct Decoded {
    decoder: Decoder,
    tally: Tally,
}

impl FromOrigin {
    pub(super) fn begin(&mut self, coding: Coding, metrics: &Arc<Metrics>) {
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
        for name in &rules::UNTRUE_AFTER_CODING {
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

/// Room for all answers that are coded on their way.
pub fn on_the_way() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ON_THE_WAY_MAX))
}
