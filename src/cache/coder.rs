//! Making coded forms: once per body and coding, behind the answers that want them, and once more and better for what proves
//! popular.
//!
//! A form is a `Flow` like a fill: whoever wants it while it is made follows it. It is paid for in whole before it begins, so
//! it never fails for want of room. The work is done on blocking threads, a few at once; where there are no more to be had,
//! the caller codes on the way or not at all. Never codes per hit, and decides neither types nor sizes: that is the edge's.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use pingora_cache::HitHandler;
use pingora_cache::storage::HandleHit;
use pingora_error::{ErrorType, OrErr, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::budget::Charge;
use super::fill::Body;
use super::flow::{CHUNK_BYTES, Failure, Flow, Room};
use super::forms::{Form, Forms, Slot};
use super::hit::{Source, StoreHit};
use super::store::MemoryStore;
use crate::coding::{Encoder, Window};
use crate::http::content_coding::Coding;

/// Forms made at once, beside one that is made better: each takes some MiB for its window and tables.
const RUNS_MAX: usize = 2;
/// The largest window of a form: beyond it text gains little, and the best levels take thirty times as much memory.
const WINDOW_BYTES_MAX: u64 = 1 << 20;
/// Coded in one go: what a follower waits for at most, before it gets something.
const PIECE_BYTES: usize = 128 << 10;
/// So little is coded where it is, rather than on another thread.
const SMALL_BYTES: usize = 4 << 10;

/// How a body is to be given.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub coding: Coding,
    pub level: u32,
    /// Hits of a form after which it is made anew at `popular_level`; 0: never.
    pub popular_after: u32,
    pub popular_level: u32,
    /// A smaller or larger body is given as it is.
    pub bytes_min: u64,
    pub bytes_max: u64,
    /// False: only to tell what there is (HEAD, 304).
    pub make: bool,
}

/// In the extensions of a request's `CacheKey`: it accepts codings, so a body that may be coded is better had in RAM, where its forms
/// lie.
#[derive(Debug, Clone, Copy)]
pub struct AcceptsCodings;

/// What a hit gives now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// The coded form, of this length where it is known.
    Form { bytes: Option<u64> },
    /// The body as it is: it has no smaller form.
    Identity,
    /// The body as it is: no form can be made of it, or not now.
    NoForm,
}

/// Who may make forms, and how many at once.
#[derive(Debug)]
pub(super) struct Coders {
    first: Arc<Semaphore>,
    better: Arc<Semaphore>,
}

impl Default for Coders {
    fn default() -> Self {
        Self { first: Arc::new(Semaphore::new(RUNS_MAX)), better: Arc::new(Semaphore::new(1)) }
    }
}

impl MemoryStore {
    /// Makes `hit` give its body in a coding, making the form where there is none yet. Only for a reader that has read nothing.
    pub fn code(&'static self, hit: &mut HitHandler, wanted: &Wanted) -> Given {
        match hit.as_any_mut().downcast_mut::<StoreHit>() {
            Some(hit) => self.code_hit(hit, wanted),
            None => Given::NoForm,
        }
    }

    fn code_hit(&'static self, hit: &mut StoreHit, wanted: &Wanted) -> Given {
        let (key, version, forms, bytes) = match &hit.source {
            _ if hit.position > 0 => return Given::NoForm,
            Source::Object(body) => (body.key, body.version, &body.forms, Some(body.content.bytes)),
            Source::Fill { fill, .. } => (fill.key, fill.version, &fill.forms, fill.flow.promised_bytes),
            Source::Flow { .. } | Source::Content(_) | Source::Disk(_) | Source::Origin { .. } => return Given::NoForm,
        };
        match forms.get(wanted.coding) {
            Slot::Whole(form) => {
                if form.hit(wanted.popular_after)
                    && let Source::Object(body) = &hit.source
                {
                    self.code_better(Arc::clone(body), Arc::clone(&form), wanted);
                }
                hit.give(Arc::clone(&form.content));
                return Given::Form { bytes: Some(form.content.bytes) };
            }
            Slot::Running(flow) => {
                hit.follow(flow);
                return Given::Form { bytes: None };
            }
            Slot::Useless => return Given::Identity,
            Slot::Empty => {}
        }
        let Some(bytes) = bytes else { return Given::NoForm };
        if bytes < wanted.bytes_min || bytes > wanted.bytes_max {
            return Given::Identity;
        }
        if !wanted.make {
            return Given::Form { bytes: None };
        }
        let Ok(permit) = Arc::clone(&self.coders().first).try_acquire_owned() else { return Given::NoForm };
        let (Some(charge), Some(reader)) = (self.reserve(capacity_max(bytes)), hit.again()) else {
            return Given::NoForm;
        };
        let flow = Arc::new(Flow::new(None));
        if !forms.begin(wanted.coding, &flow) {
            return self.code_hit(hit, wanted); // another was faster
        }
        let run = Run { store: self, key, version, forms: Arc::clone(forms), coding: wanted.coding, flow, done: false };
        hit.follow(Arc::clone(&run.flow));
        tokio::spawn(run.make(reader, bytes, wanted.level, charge, permit));
        Given::Form { bytes: None }
    }

    /// In the background, one at a time.
    fn code_better(&'static self, body: Arc<Body>, form: Arc<Form>, wanted: &Wanted) {
        let Ok(permit) = Arc::clone(&self.coders().better).try_acquire_owned() else { return };
        let Some(mut charge) = self.reserve(capacity_max(form.content.bytes)) else { return };
        let (coding, level) = (wanted.coding, wanted.popular_level);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut encoder = Encoder::new(coding, level, window(body.content.bytes));
            let flow = Flow::new(None);
            let mut position = 0;
            while position < body.content.bytes {
                let Some(piece) = body.content.read(position, PIECE_BYTES as u64) else { return };
                position += piece.len() as u64;
                append(&flow, encoder.write(&piece), &mut charge);
                if flow.written() >= form.content.bytes {
                    self.count(coding, "popular", position, flow.written());
                    return form.is_best();
                }
            }
            let end = encoder.finish();
            let written = flow.written() + end.len() as u64;
            if written >= form.content.bytes {
                self.count(coding, "popular", position, written);
                return form.is_best();
            }
            append(&flow, end, &mut charge);
            self.count(coding, "popular", body.content.bytes, flow.written());
            let better = flow.complete(&mut charge);
            body.forms.set(coding, Slot::Whole(Form::new(Arc::clone(&better), true)));
            self.left_behind(&form.content);
            self.forms_changed(body.key, body.version, Some(&better));
        });
    }

    fn count(&self, coding: Coding, kind: &str, input_bytes: u64, output_bytes: u64) {
        let labels = [coding.token(), kind];
        let metrics = self.metrics();
        metrics.compression_runs.with_label_values(&labels).inc();
        metrics.compression_input_bytes.with_label_values(&labels).inc_by(input_bytes);
        metrics.compression_output_bytes.with_label_values(&labels).inc_by(output_bytes);
    }
}

/// One form in the making. Dropped before it is done, it leaves none.
struct Run {
    store: &'static MemoryStore,
    key: u128,
    version: u64,
    forms: Arc<Forms>,
    coding: Coding,
    flow: Arc<Flow>,
    done: bool,
}

impl Run {
    async fn make(
        mut self,
        reader: StoreHit,
        body_bytes: u64,
        level: u32,
        mut charge: Charge,
        _permit: OwnedSemaphorePermit,
    ) {
        let encoder = Encoder::new(self.coding, level, window(body_bytes));
        if let Err(error) = self.encode(reader, encoder, &mut charge).await {
            tracing::debug!(%error, "a coded form was not made");
            self.store.metrics().compression_failures.with_label_values(&[self.coding.token(), "stored"]).inc();
            return;
        }
        let content = self.flow.complete(&mut charge);
        self.store.count(self.coding, "stored", body_bytes, content.bytes);
        self.done = true;
        if content.bytes < body_bytes {
            self.forms.set(self.coding, Slot::Whole(Form::new(Arc::clone(&content), false)));
            self.store.forms_changed(self.key, self.version, Some(&content));
        } else {
            self.forms.set(self.coding, Slot::Useless);
            self.store.left_behind(&content);
        }
    }

    async fn encode(&self, mut reader: StoreHit, mut encoder: Encoder, charge: &mut Charge) -> Result<()> {
        loop {
            let ready = reader.read_body().now_or_never();
            let piece = match ready {
                Some(piece) => piece?,
                None => {
                    // The rest is not there yet: what there is should reach the clients.
                    append(&self.flow, encoder.flush(), charge);
                    reader.read_body().await?
                }
            };
            let Some(mut piece) = piece else { break };
            while !piece.is_empty() {
                let next = piece.split_to(piece.len().min(PIECE_BYTES));
                let output;
                (encoder, output) = write(encoder, next).await?;
                append(&self.flow, output, charge);
            }
        }
        append(&self.flow, encoder.finish(), charge);
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.done {
            self.forms.set(self.coding, Slot::Empty);
            self.flow.fail(Failure::Cancelled);
        }
    }
}

fn window(body_bytes: u64) -> Window {
    Window::Of(body_bytes.min(WINDOW_BYTES_MAX))
}

async fn write(mut encoder: Encoder, piece: Bytes) -> Result<(Encoder, Bytes)> {
    if piece.len() <= SMALL_BYTES {
        let output = encoder.write(&piece);
        return Ok((encoder, output));
    }
    let coded = tokio::task::spawn_blocking(move || {
        let output = encoder.write(&piece);
        (encoder, output)
    });
    coded.await.or_err(ErrorType::InternalError, "coding a piece")
}

/// The room was paid for before: see [`capacity_max`].
fn append(flow: &Flow, mut output: Bytes, charge: &mut Charge) {
    while !output.is_empty() {
        match flow.room(output.len()) {
            Room::Ready(bytes) => flow.append(&output.split_to(bytes), charge),
            Room::Grow(bytes) => flow.grow(bytes),
        }
    }
}

/// What a flow of up to `bytes` coded bytes may take: codings add a little to what they cannot make smaller, and chunks are
/// taken in powers of two.
fn capacity_max(bytes: u64) -> u64 {
    let coded = bytes + bytes / 16 + 4096;
    let chunk = CHUNK_BYTES as u64;
    if coded < chunk { coded.next_power_of_two() } else { coded.next_multiple_of(chunk) }
}
