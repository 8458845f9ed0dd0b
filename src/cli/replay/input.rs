//! Opening a log: a file or standard input, unpacked, counted into a progress bar.

use crate::replay::HEAD_BYTES_MAX;
use indicatif::ProgressBar;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Result};
use std::path::Path;

const BUFFER_BYTES: usize = 256 * 1024;

/// How a stream is packed, from its first bytes: RFC 1952, section 2.3.1, with deflate, and RFC 8878, section 3.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Opens `path` (`-`: standard input) and unpacks it: a file by its name, standard input by its first bytes. `bar` counts
/// packed bytes.
pub(super) fn open(path: &Path, bar: &ProgressBar) -> Result<Box<dyn BufRead>> {
    let raw: Box<dyn Read> = if is_stdin(path) { Box::new(std::io::stdin()) } else { Box::new(File::open(path)?) };
    let mut input: Box<dyn BufRead> = Box::new(BufReader::with_capacity(BUFFER_BYTES, bar.wrap_read(raw)));
    let packing = match path.extension().and_then(|extension| extension.to_str()) {
        _ if is_stdin(path) => packing_of(head(&mut *input)?),
        Some("gz") => Packing::Gzip,
        Some("zst") => Packing::Zstd,
        _ => Packing::None,
    };
    Ok(match packing {
        Packing::None => input,
        Packing::Gzip => buffered(flate2::bufread::MultiGzDecoder::new(input)),
        Packing::Zstd => buffered(zstd::Decoder::with_buffer(input)?),
    })
}

/// The first bytes of an input, still to be read: at most [`HEAD_BYTES_MAX`]; of a pipe what comes first.
pub(super) fn head(input: &mut dyn BufRead) -> Result<&[u8]> {
    let head = input.fill_buf()?;
    Ok(&head[..head.len().min(HEAD_BYTES_MAX)])
}

/// A file's length, for its progress; zero where there is none.
pub(super) fn bytes(path: &Path) -> u64 {
    if is_stdin(path) { 0 } else { std::fs::metadata(path).map_or(0, |metadata| metadata.len()) }
}

/// A file's name without the ending that says how it is packed.
pub(super) fn plain_name(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst"));
    plain.map_or(name.clone(), str::to_owned)
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn packing_of(head: &[u8]) -> Packing {
    if head.starts_with(&GZIP) {
        Packing::Gzip
    } else if head.starts_with(&ZSTD) {
        Packing::Zstd
    } else {
        Packing::None
    }
}

fn buffered(input: impl Read + 'static) -> Box<dyn BufRead> {
    Box::new(BufReader::with_capacity(BUFFER_BYTES, input))
}
