//! Coders: br (RFC 7932), zstd (RFC 8878), gzip (RFC 1952), as streams. Bytes in, bytes out.
//!
//! - [`Encoder`]: makes a coded body. What it needs in memory depends on the coding, the level and the [`Window`].
//! - [`Decoder`]: undoes one. Its input comes from an origin and is not trusted.
//!
//! Invariants: what a coder holds is bounded, whatever passes through it; a decoder gives out no byte beyond its bounds and ends a
//! body that is not whole with an error. No IO and no threads: a call takes CPU time in proportion to its input, at high levels
//! much of it, so callers keep the pieces small or call from a thread that may block. Knows no header field: which answers are
//! coded is decided in [`crate::http::content_coding`].

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{DecodeError, Decoder, WRITE_BYTES_MAX};
pub use encode::{Encoder, Window};

/// log2 of the largest zstd window: 8 MiB, beyond which no client has to go (RFC 9659 §3) and browsers do not.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The window of deflate, log2: 32 KiB, the only one there is in practice.
const GZIP_WINDOW_LOG: u8 = 15;

/// How output grows, at a time.
const CHUNK_BYTES: usize = 16 << 10;
