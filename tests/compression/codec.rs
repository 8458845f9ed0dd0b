//! The three codings as a client and an origin need them: whole, by pieces as they come, and for the origin's bodies. Strict: a
//! body that is cut short, damaged or followed by something is an error.

use parking_lot::Mutex;
use std::io::{Cursor, Read, Write};
use std::sync::Arc;

/// Every coding the edge makes, in its own order of preference.
pub const CODINGS: [&str; 3] = ["br", "zstd", "gzip"];

/// What browsers allow a zstd frame to ask of their memory (RFC 9659): 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Bytes as an origin would code them.
pub fn encode(coding: &str, plain: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(plain).expect("a Vec takes bytes");
            encoder.finish().expect("a Vec takes bytes")
        }
        "br" => {
            let mut coded = Vec::new();
            brotli::CompressorWriter::new(&mut coded, 4096, 3, 20).write_all(plain).expect("a Vec takes bytes");
            coded
        }
        "zstd" => zstd::encode_all(plain, 3).expect("a Vec takes bytes"),
        other => panic!("no coding {other}"),
    }
}

/// The bytes behind a `Content-Encoding` (empty: none).
pub fn decode(coding: &str, coded: &[u8]) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    let mut rest = Cursor::new(coded);
    let read = match coding {
        "" => return Ok(coded.to_vec()),
        "gzip" => flate2::bufread::GzDecoder::new(&mut rest).read_to_end(&mut plain),
        // One byte at a time, so that it takes none beyond its end.
        "br" => brotli::Decompressor::new(&mut rest, 1).read_to_end(&mut plain),
        "zstd" => zstd::stream::read::Decoder::with_buffer(&mut rest).and_then(|decoder| {
            let mut decoder = decoder.single_frame();
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            decoder.read_to_end(&mut plain)
        }),
        other => return Err(format!("no coding {other}")),
    };
    read.map_err(|error| format!("no {coding} body: {error}"))?;
    let left = coded.len() as u64 - rest.position();
    if left > 0 { Err(format!("{left} bytes after the {coding} body")) } else { Ok(plain) }
}

/// What a client has when only the beginning of a coded body has come.
pub struct Beginning {
    decoder: Box<dyn Write>,
    plain: Shared,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Beginning {
    pub fn new(coding: &str) -> Self {
        let plain = Shared::default();
        let into = plain.clone();
        let decoder: Box<dyn Write> = match coding {
            "" => Box::new(into),
            "gzip" => Box::new(flate2::write::GzDecoder::new(into)),
            // Of what outgrows its buffer it holds the last back until more comes: it must not outgrow it.
            "br" => Box::new(brotli::DecompressorWriter::new(into, 1 << 20)),
            "zstd" => Box::new(zstd::stream::write::Decoder::new(into).expect("a decoder")),
            other => panic!("no coding {other}"),
        };
        Self { decoder, plain }
    }

    /// Everything decoded so far.
    pub fn feed(&mut self, coded: &[u8]) -> Result<Vec<u8>, String> {
        let fed = self.decoder.write_all(coded).and_then(|()| self.decoder.flush());
        fed.map_err(|error| error.to_string())?;
        Ok(self.plain.0.lock().clone())
    }
}

#[test]
fn what_is_coded_decodes_and_what_is_broken_does_not() {
    let plain = super::words(1, 20_000);
    for coding in CODINGS {
        let coded = encode(coding, plain.as_bytes());
        assert_eq!(decode(coding, &coded).as_deref(), Ok(plain.as_bytes()), "{coding}");
        assert!(decode(coding, &coded[..coded.len() - 1]).is_err(), "{coding}, cut short");
        assert!(decode(coding, &[&coded[..], b"x"].concat()).is_err(), "{coding}, with something behind");
        let mut beginning = Beginning::new(coding);
        assert_eq!(beginning.feed(&coded).as_deref(), Ok(plain.as_bytes()), "{coding} by pieces");
    }
}
