//! One picture of a film, for lists: the key frame at or before a tenth of it, small, as JPEG.
//!
//! Only a key frame is decoded, and what comes out is small, so it costs about as much as a probe.

use super::super::protocol::{Film, PICTURE_BYTES_MAX};
use super::arguments::{input, words};
use super::child::{Failure, Kill, LOOK_CPU_S_MAX, run_within};
use super::tools::Tools;
use std::fs::File;

/// The longer side, in pixels.
const SIDE: u32 = 480;
/// JPEG begins so (ISO/IEC 10918-1: SOI and the next marker's first byte).
const MAGIC: [u8; 3] = [0xff, 0xd8, 0xff];

/// `open` opens the film anew for each run.
pub fn still(
    tools: &Tools,
    film: &Film,
    open: impl Fn() -> std::io::Result<File>,
    kill: &Kill,
) -> Result<Vec<u8>, Failure> {
    let made = shot(tools, &arguments(film, true), &open, kill)?;
    if made.starts_with(&MAGIC) {
        return Ok(made);
    }
    // It cannot be searched, or has no key frame where one should be: its first picture.
    let made = shot(tools, &arguments(film, false), &open, kill)?;
    if made.starts_with(&MAGIC) {
        Ok(made)
    } else {
        Err(Failure::Failed("it has no picture that can be decoded".into()))
    }
}

fn shot(
    tools: &Tools,
    arguments: &[String],
    open: impl Fn() -> std::io::Result<File>,
    kill: &Kill,
) -> Result<Vec<u8>, Failure> {
    let film = open().map_err(|error| Failure::Mismatch(format!("the film cannot be opened: {}", error.kind())))?;
    let mut jpeg = Vec::new();
    run_within(LOOK_CPU_S_MAX, &tools.ffmpeg, arguments, film, kill, |bytes| {
        jpeg.extend_from_slice(bytes);
        if jpeg.len() > PICTURE_BYTES_MAX { Err("its picture is too long".into()) } else { Ok(()) }
    })?;
    Ok(jpeg)
}

fn arguments(film: &Film, seek: bool) -> Vec<String> {
    let (width, height) = size(film.width, film.height);
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error"]);
    arguments.extend(input());
    arguments.extend(words(&["-threads", "1"]));
    if seek {
        let tenth_s =
            film.grid.time_of(film.grid.frames / 10).as_f64() + film.start.as_f64() - film.file_start.as_f64();
        arguments.extend(words(&[
            "-skip_frame",
            "nokey",
            "-noaccurate_seek",
            "-ss",
            &format!("{:.3}", tenth_s.max(0.0)),
        ]));
    }
    let stream = format!("0:{}", film.video_stream);
    arguments.extend(words(&["-i", super::arguments::INPUT, "-map", &stream, "-an", "-sn", "-dn"]));
    arguments.extend(words(&["-map_metadata", "-1", "-frames:v", "1"]));
    arguments.extend(words(&["-vf", &format!("scale={width}:{height}:flags=bicubic,setsar=1,format=yuvj420p")]));
    arguments.extend(words(&["-c:v", "mjpeg", "-q:v", "4", "-threads", "1", "-f", "image2pipe", "pipe:1"]));
    arguments
}

/// Of the picture: never larger than the film, of its shape, and even.
fn size(width: u32, height: u32) -> (u32, u32) {
    let longer = u64::from(width.max(height)).max(1);
    let side = |side: u32| {
        let scaled = if longer > u64::from(SIDE) { u64::from(side) * u64::from(SIDE) / longer } else { side.into() };
        u32::try_from(scaled).unwrap_or(SIDE).max(2) & !1
    };
    (side(width), side(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_the_films_shape() {
        for (film, picture) in [
            ((1920, 1080), (480, 270)),
            ((1080, 1920), (270, 480)),
            ((320, 180), (320, 180)),
            ((63, 1), (62, 2)),
            ((8192, 2), (480, 2)),
        ] {
            assert_eq!(size(film.0, film.1), picture);
        }
    }
}
