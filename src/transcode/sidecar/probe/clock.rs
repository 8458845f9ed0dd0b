//! Whether a film's clock goes on from its start to its end: looked at here and there, for a film is long.

use super::super::child::Kill;
use crate::media::clock::{self, program_time, transport_time};
use crate::media::demuxer::Demuxer;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Places of a film that are looked at.
const PLACES: u64 = 48;
/// Bytes read at one, piece by piece, until it says a time.
const PLACE_BYTES_MAX: usize = 2 << 20;
const PIECE_BYTES: usize = 128 << 10;

/// `stream`: that of the video, as ffprobe names it. What says no time anywhere goes on.
pub fn goes_on(demuxer: Demuxer, stream: Option<&str>, film: &File, kill: &Kill) -> io::Result<bool> {
    let stream = stream.and_then(|id| u16::from_str_radix(id.strip_prefix("0x")?, 16).ok());
    let bytes = film.metadata()?.len();
    let mut times = Vec::new();
    for place in 0..PLACES {
        if kill.was_used() {
            break;
        }
        times.extend(time_at(
            film,
            u128::from(bytes) * u128::from(place) / u128::from(PLACES),
            |piece| match demuxer {
                Demuxer::MpegTs => transport_time(piece, stream?),
                _ => program_time(piece),
            },
        )?);
    }
    Ok(clock::goes_on(&times))
}

fn time_at(film: &File, at: u128, read: impl Fn(&[u8]) -> Option<i64>) -> io::Result<Option<i64>> {
    let at = u64::try_from(at).map_err(io::Error::other)?;
    let mut piece = Vec::new();
    while piece.len() < PLACE_BYTES_MAX {
        let held = piece.len();
        piece.resize(held + PIECE_BYTES, 0);
        let length = film.read_at(&mut piece[held..], at + held as u64)?;
        piece.truncate(held + length);
        let time = read(&piece);
        if time.is_some() || length == 0 {
            return Ok(time);
        }
    }
    Ok(None)
}
