//! The decoder. Its input is hostile: it may lie about its size, end early, go on, or inflate without end.

use super::{CHUNK_BYTES, GZIP_WINDOW_LOG, ZSTD_WINDOW_LOG_MAX};
use crate::http::content_coding::Coding;
use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use std::fmt;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// What one [`Decoder::write`] may give, in bytes. Callers pass pieces of some KiB; what makes so much of one is a bomb.
pub const WRITE_BYTES_MAX: u64 = 16 << 20;

/// Undoes the coding of one body. It holds the window of the coding: 16 MiB at most for br, 8 MiB for zstd, 32 KiB for gzip.
///
/// Several gzip members (RFC 1952 §2.2) or zstd frames (RFC 8878 §3) in a row are one body. After an error it gives the same error
/// again.
pub struct Decoder {
    inner: Inner,
    bytes_max: u64,
    bytes: u64,
    failed: Option<DecodeError>,
}

/// Why a body cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// Not of this coding, a checksum that does not fit, bytes after the end, or a window larger than clients accept.
    Malformed(Coding),
    /// It ended before its end.
    Truncated(Coding),
    /// It gives more bytes than allowed, in all or at once.
    TooLarge(Coding),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(coding) => write!(f, "the body is not valid {coding}, though its Content-Encoding says so"),
            Self::Truncated(coding) => write!(f, "the {coding} body ends before its end"),
            Self::TooLarge(coding) => write!(f, "the {coding} body decodes to more bytes than allowed"),
        }
    }
}

impl std::error::Error for DecodeError {}

enum Inner {
    Brotli { state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>, ended: bool },
    Zstd(Zstd),
    Gzip { state: Decompress, place: Place },
}

/// Where in a row of members or frames.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Inside,
    /// At least one is complete, and no other begun.
    Between,
}

struct Zstd {
    context: DCtx<'static>,
    place: Place,
    /// The first bytes of a frame, as far as they are here: they say whether it is one.
    magic: Vec<u8>,
}

/// What became of a piece of input, besides the bytes it gave.
enum Fault {
    Malformed,
    TooLarge,
}

/// Where decoded bytes go.
struct Sink {
    out: Vec<u8>,
    room: u64,
}

impl Sink {
    fn reserve(&mut self) {
        if self.out.capacity() - self.out.len() < CHUNK_BYTES / 4 {
            self.out.reserve(CHUNK_BYTES);
        }
    }

    fn check(&self) -> Result<(), Fault> {
        if self.out.len() as u64 > self.room { Err(Fault::TooLarge) } else { Ok(()) }
    }

    /// Whether the coder filled all there was, and may have more.
    fn is_full(&self) -> bool {
        self.out.len() == self.out.capacity()
    }
}

impl Decoder {
    /// `bytes_max`: what the whole body may give.
    pub fn new(coding: Coding, bytes_max: u64) -> Self {
        let inner = match coding {
            Coding::Brotli => {
                // Strict: no "large window" brotli, which is another format with windows of up to 1 GiB.
                let alloc = StandardAlloc::default;
                Inner::Brotli { state: Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())), ended: false }
            }
            Coding::Zstd => {
                let mut context = DCtx::create();
                let parameter = DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
                context.set_parameter(parameter).expect("zstd takes parameters within their ranges");
                Inner::Zstd(Zstd { context, place: Place::Start, magic: Vec::with_capacity(4) })
            }
            Coding::Gzip => Inner::Gzip { state: Decompress::new_gzip(GZIP_WINDOW_LOG), place: Place::Start },
        };
        Self { inner, bytes_max, bytes: 0, failed: None }
    }

    /// Takes a piece of the coded body, and gives all it decodes to.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`] and [`DecodeError::TooLarge`].
    pub fn write(&mut self, input: &[u8]) -> Result<Bytes, DecodeError> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let mut sink = Sink { out: Vec::new(), room: (self.bytes_max - self.bytes).min(WRITE_BYTES_MAX) };
        let (coding, result) = match &mut self.inner {
            Inner::Brotli { state, ended } => (Coding::Brotli, brotli(state, ended, input, &mut sink)),
            Inner::Zstd(zstd) => (Coding::Zstd, zstd.decode(input, &mut sink)),
            Inner::Gzip { state, place } => (Coding::Gzip, gzip(state, place, input, &mut sink)),
        };
        match result {
            Ok(()) => {
                self.bytes += sink.out.len() as u64;
                sink.out.shrink_to_fit();
                Ok(sink.out.into())
            }
            Err(fault) => {
                let failed = match fault {
                    Fault::Malformed => DecodeError::Malformed(coding),
                    Fault::TooLarge => DecodeError::TooLarge(coding),
                };
                Err(*self.failed.insert(failed))
            }
        }
    }

    /// The body ends here. [`Decoder::write`] has given everything, so this is empty where it is no error.
    ///
    /// # Errors
    /// The one before, or [`DecodeError::Truncated`]; a body of no bytes at all is truncated too.
    pub fn finish(self) -> Result<Bytes, DecodeError> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let (coding, complete) = match &self.inner {
            Inner::Brotli { ended, .. } => (Coding::Brotli, *ended),
            Inner::Zstd(zstd) => (Coding::Zstd, zstd.place == Place::Between && zstd.magic.is_empty()),
            Inner::Gzip { place, .. } => (Coding::Gzip, *place == Place::Between),
        };
        if complete { Ok(Bytes::new()) } else { Err(DecodeError::Truncated(coding)) }
    }
}

fn brotli(
    state: &mut BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    ended: &mut bool,
    input: &[u8],
    sink: &mut Sink,
) -> Result<(), Fault> {
    if *ended {
        return if input.is_empty() { Ok(()) } else { Err(Fault::Malformed) };
    }
    let (mut left, mut taken) = (input.len(), 0);
    loop {
        let start = sink.out.len();
        sink.out.resize(start + CHUNK_BYTES, 0);
        let (mut room, mut written) = (CHUNK_BYTES, 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut taken,
            input,
            &mut room,
            &mut written,
            &mut sink.out[start..],
            &mut 0,
            state,
        );
        sink.out.truncate(start + written);
        sink.check()?;
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::NeedsMoreInput => return Ok(()),
            BrotliResult::ResultFailure => return Err(Fault::Malformed),
            BrotliResult::ResultSuccess => {
                *ended = true;
                return if left == 0 { Ok(()) } else { Err(Fault::Malformed) };
            }
        }
    }
}

impl Zstd {
    fn decode(&mut self, mut input: &[u8], sink: &mut Sink) -> Result<(), Fault> {
        while !input.is_empty() {
            if self.place != Place::Inside {
                let wanted = (4 - self.magic.len()).min(input.len());
                self.magic.extend_from_slice(&input[..wanted]);
                input = &input[wanted..];
                let Ok(magic) = <[u8; 4]>::try_from(self.magic.as_slice()) else { return Ok(()) };
                if !is_frame(magic) {
                    return Err(Fault::Malformed);
                }
                self.magic.clear();
                self.place = Place::Inside;
                self.run(&magic, sink)?;
            }
            input = self.run(input, sink)?;
        }
        Ok(())
    }

    /// To the end of the input or of the frame; gives what is left of the input.
    fn run<'a>(&mut self, input: &'a [u8], sink: &mut Sink) -> Result<&'a [u8], Fault> {
        let mut source = InBuffer::around(input);
        loop {
            sink.reserve();
            let start = sink.out.len();
            let hint = self
                .context
                .decompress_stream(&mut OutBuffer::around_pos(&mut sink.out, start), &mut source)
                .map_err(|_| Fault::Malformed)?;
            sink.check()?;
            if hint == 0 {
                self.place = Place::Between;
                return Ok(&input[source.pos()..]);
            }
            if source.pos() == input.len() && !sink.is_full() {
                return Ok(&[]);
            }
        }
    }
}

/// A frame or a skippable one (RFC 8878 §3.1). The library also reads formats from before the RFC, and those without its bound on
/// windows.
fn is_frame(magic: [u8; 4]) -> bool {
    let magic = u32::from_le_bytes(magic);
    magic == 0xFD2F_B528 || magic & 0xFFFF_FFF0 == 0x184D_2A50
}

fn gzip(state: &mut Decompress, place: &mut Place, mut input: &[u8], sink: &mut Sink) -> Result<(), Fault> {
    while !input.is_empty() || (*place == Place::Inside && sink.is_full() && !sink.out.is_empty()) {
        if *place == Place::Between {
            *state = Decompress::new_gzip(GZIP_WINDOW_LOG);
        }
        *place = Place::Inside;
        sink.reserve();
        let (taken, given) = (state.total_in(), sink.out.len());
        let status = state.decompress_vec(input, &mut sink.out, FlushDecompress::None).map_err(|_| Fault::Malformed)?;
        let taken = state.total_in() - taken;
        // No more than `input` was taken, so it fits.
        input = &input[taken as usize..];
        sink.check()?;
        if status == Status::StreamEnd {
            *place = Place::Between;
        } else if taken == 0 && sink.out.len() == given {
            // No step forward with room and input: nothing it could wait for. Without input: it waits for more.
            return if input.is_empty() { Ok(()) } else { Err(Fault::Malformed) };
        }
    }
    Ok(())
}
