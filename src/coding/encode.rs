//! The encoder. Never fails: it refuses no input, and memory it cannot have ends the process as anywhere in Rust.

use super::{CHUNK_BYTES, GZIP_WINDOW_LOG};
use crate::http::content_coding::Coding;
use brotli::enc::StandardAlloc;
use brotli::enc::encode::{
    BrotliEncoderCompressStream, BrotliEncoderCreateInstance, BrotliEncoderHasMoreOutput, BrotliEncoderIsFinished,
    BrotliEncoderOperation, BrotliEncoderParameter, BrotliEncoderSetParameter, BrotliEncoderStateStruct,
};
use bytes::Bytes;
use flate2::{Compress, FlushCompress, Status};
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

/// How far back an encoder looks for what repeats, and with it the memory it needs. For gzip there is only one window.
///
/// Measured, release build, MiB at the peak (text that compresses to about a quarter):
///
/// | | small | large, 8 MiB body | of 64 KiB | of 1 MiB |
/// |---|---|---|---|---|
/// | br 5 | 4 | 54 | 2.6 | – |
/// | br 11 | – | 94 (16 MiB) | 5.7 | 29 |
/// | zstd 6 | 3.6 | 5.5 | 1 | 4 |
/// | zstd 19 | – | 91 (16 MiB) | 2.5 | 27 |
/// | gzip | 0.5 | 0.5 | 0.5 | 0.5 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// 256 KiB: for answers coded on the way, of which there are many at once.
    Small,
    /// What the level makes best use of: 4 MiB for br, up to 8 MiB for zstd.
    Large,
    /// As [`Window::Large`], for a body of this many bytes: no larger than that, so short bodies cost little memory and time. A
    /// body that turns out longer is coded all the same.
    Of(u64),
}

/// Codes one body.
pub struct Encoder(Inner);

// One encoder lives long and moves seldom: boxed, so that it costs its owner a pointer.
enum Inner {
    Brotli(Box<BrotliEncoderStateStruct<StandardAlloc>>),
    Zstd(CCtx<'static>),
    Gzip(Compress),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Write,
    Flush,
    Finish,
}

impl Encoder {
    /// Levels as in configuration: br 0 to 11, zstd 1 to 19, gzip 1 to 9; others count as the nearest of these.
    pub fn new(coding: Coding, level: u32, window: Window) -> Self {
        Self(match coding {
            Coding::Brotli => Inner::Brotli(Box::new(brotli(level.min(11), window))),
            Coding::Zstd => Inner::Zstd(zstd(level.clamp(1, 19), window)),
            Coding::Gzip => {
                Inner::Gzip(Compress::new_gzip(flate2::Compression::new(level.clamp(1, 9)), GZIP_WINDOW_LOG))
            }
        })
    }

    /// Takes a piece of the body, and gives what is ready of the coded form: often nothing.
    pub fn write(&mut self, input: &[u8]) -> Bytes {
        self.step(input, Step::Write)
    }

    /// Gives out everything so far, so that the other side can decode all that was written. Each one costs some bytes.
    pub fn flush(&mut self) -> Bytes {
        self.step(&[], Step::Flush)
    }

    /// Gives the rest.
    pub fn finish(mut self) -> Bytes {
        self.step(&[], Step::Finish)
    }

    fn step(&mut self, input: &[u8], step: Step) -> Bytes {
        let mut out = Vec::new();
        match &mut self.0 {
            Inner::Brotli(state) => brotli_step(state, input, step, &mut out),
            Inner::Zstd(context) => zstd_step(context, input, step, &mut out),
            Inner::Gzip(state) => gzip_step(state, input, step, &mut out),
        }
        // Bodies are kept: no room that nothing stands in.
        out.shrink_to_fit();
        out.into()
    }
}

/// log2 of the smallest window that holds `bytes`.
fn window_log(bytes: u64) -> u32 {
    // Brotli's window is 16 bytes short of the power of two.
    bytes.saturating_add(16).checked_next_power_of_two().map_or(63, u64::ilog2)
}

fn brotli(level: u32, window: Window) -> BrotliEncoderStateStruct<StandardAlloc> {
    let mut state = BrotliEncoderCreateInstance(StandardAlloc::default());
    let log = match window {
        Window::Small => 18,
        Window::Large => 22,
        Window::Of(bytes) => window_log(bytes).clamp(10, 22),
    };
    BrotliEncoderSetParameter(&mut state, BrotliEncoderParameter::BROTLI_PARAM_QUALITY, level);
    BrotliEncoderSetParameter(&mut state, BrotliEncoderParameter::BROTLI_PARAM_LGWIN, log);
    if let Window::Of(bytes) = window {
        let hint = u32::try_from(bytes).unwrap_or(u32::MAX).min(1 << 30);
        BrotliEncoderSetParameter(&mut state, BrotliEncoderParameter::BROTLI_PARAM_SIZE_HINT, hint);
    }
    state
}

fn brotli_step(state: &mut BrotliEncoderStateStruct<StandardAlloc>, input: &[u8], step: Step, out: &mut Vec<u8>) {
    let operation = || match step {
        Step::Write => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
        Step::Flush => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
        Step::Finish => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
    };
    let (mut left, mut taken) = (input.len(), 0);
    loop {
        let start = out.len();
        out.resize(start + CHUNK_BYTES, 0);
        let (mut room, mut written) = (CHUNK_BYTES, 0);
        let accepted = BrotliEncoderCompressStream(
            state,
            operation(),
            &mut left,
            input,
            &mut taken,
            &mut room,
            &mut out[start..],
            &mut written,
            &mut None,
            &mut |_, _, _, _| (),
        );
        out.truncate(start + written);
        assert!(accepted > 0, "brotli refuses only operations out of order");
        let done = match step {
            Step::Write => left == 0 && BrotliEncoderHasMoreOutput(state) == 0,
            Step::Flush => BrotliEncoderHasMoreOutput(state) == 0,
            Step::Finish => BrotliEncoderIsFinished(state) != 0,
        };
        if done {
            return;
        }
    }
}

fn zstd(level: u32, window: Window) -> CCtx<'static> {
    let mut context = CCtx::create();
    // In range by the clamp in `new`, so the cast is exact.
    let mut parameters = vec![CParameter::CompressionLevel(level as i32), CParameter::ChecksumFlag(true)];
    match window {
        Window::Small => parameters.push(CParameter::WindowLog(18)),
        // Levels to 19 stay within ZSTD_WINDOW_LOG_MAX.
        Window::Large => {}
        Window::Of(bytes) => parameters.extend(zstd_tables(level, window_log(bytes).max(10))),
    }
    for parameter in parameters {
        context.set_parameter(parameter).expect("zstd takes parameters within its ranges");
    }
    context
}

/// Tables no larger than a body of 2^`log` bytes can fill: of a window alone zstd concludes nothing, and at level 19 it clears
/// 80 MiB for a body of any size. The bounds are the level's own tables, rounded up.
fn zstd_tables(level: u32, log: u32) -> Vec<CParameter> {
    // At the largest of the levels' windows there is nothing to save; below it no level is given more than it asks for itself.
    if log > 21 {
        return Vec::new();
    }
    let (chain, hash) = match level {
        0..=4 => return vec![CParameter::WindowLog(log)],
        5..=6 => (18, 19),
        7..=8 => (19, 20),
        9..=12 => (21, 22),
        _ => (24, 22),
    };
    vec![CParameter::WindowLog(log), CParameter::ChainLog((log + 1).min(chain)), CParameter::HashLog(log.min(hash))]
}

fn zstd_step(context: &mut CCtx<'_>, input: &[u8], step: Step, out: &mut Vec<u8>) {
    let directive = match step {
        Step::Write => ZSTD_EndDirective::ZSTD_e_continue,
        Step::Flush => ZSTD_EndDirective::ZSTD_e_flush,
        Step::Finish => ZSTD_EndDirective::ZSTD_e_end,
    };
    let mut source = InBuffer::around(input);
    loop {
        reserve(out);
        let start = out.len();
        let left = context
            .compress_stream2(&mut OutBuffer::around_pos(out, start), &mut source, directive)
            .expect("zstd fails only without memory");
        let done = match step {
            Step::Write => source.pos() == input.len(),
            Step::Flush | Step::Finish => left == 0,
        };
        if done {
            return;
        }
    }
}

fn gzip_step(state: &mut Compress, input: &[u8], step: Step, out: &mut Vec<u8>) {
    let flush = match step {
        Step::Write => FlushCompress::None,
        Step::Flush => FlushCompress::Sync,
        Step::Finish => FlushCompress::Finish,
    };
    let mut rest = input;
    loop {
        reserve(out);
        let before = state.total_in();
        let status = state.compress_vec(rest, out, flush).expect("deflate refuses only operations out of order");
        // No more than `rest` was taken, so it fits.
        rest = &rest[(state.total_in() - before) as usize..];
        let done = match step {
            Step::Finish => status == Status::StreamEnd,
            // Room left over: nothing waits for it (zlib's manual, `deflate`).
            Step::Write | Step::Flush => rest.is_empty() && out.len() < out.capacity(),
        };
        if done {
            return;
        }
    }
}

/// Room for more; never so little that a flush's mark would be cut.
fn reserve(out: &mut Vec<u8>) {
    if out.capacity() - out.len() < CHUNK_BYTES / 4 {
        out.reserve(CHUNK_BYTES);
    }
}
