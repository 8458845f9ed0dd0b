//! Segments of a film's own packets: nothing is decoded or encoded, ffmpeg only takes the packets out of the file. Blocking.
//!
//! A film is looked through once, from end to end, before this is offered; the first packet that does not fit ends that, so it is
//! long only for films that do. Each segment is judged again by the same rules when it is cut, so nothing has to be remembered.
//!
//! Segments keep the length of those that are encoded, for all rungs have the same: keyframes every 1, 2 or 4 s fall on them, those
//! every 5 s do not.

use super::super::protocol::{Copied, Film};
use super::arguments::{self, COPY_ORIGIN_S};
use super::child::{Failure, Kill, run, run_within};
use super::output::Sink;
use super::tools::Tools;
use crate::media::fragment::{Piece, Splitter};
use crate::media::remux::{Head, Misfit, Placed, SEGMENT_BYTES_MAX, Walk, fragment, packets};
use std::fs::File;

/// What a segment takes beside its packets: boxes, and an entry of 12 bytes for each frame.
const BOXES_BYTES: usize = 200;
const ENTRY_BYTES: usize = 12;

/// Looks through a film. A reason where its packets cannot be used as they are.
pub fn look(tools: &Tools, film: &Film, file: File, kill: &Kill) -> Result<Copied, Failure> {
    let mut reader = Reader::new(film, 0)?;
    let (mut total, mut largest) = (0_u64, 0.0_f64);
    let (mut segment_bytes, mut segment_frames) = (0, 0);
    let mut end_segment = |bytes: &mut usize, frames: &mut u64| {
        let seconds = film.grid.time_of(*frames).as_f64();
        let bits = (*bytes + BOXES_BYTES) as f64 * 8.0;
        // RFC 8216 §4.1: a peak is that of segments about as long as the others.
        if *frames * 2 >= film.grid.segment_frames().min(film.grid.frames) {
            largest = largest.max(bits / seconds);
        }
        total += (*bytes + BOXES_BYTES) as u64;
        (*bytes, *frames) = (0, 0);
    };
    run_within(cpu_s_max(film), &tools.ffmpeg, &arguments::copy(film, None), file, kill, |bytes| {
        reader.push(
            bytes,
            |_| {},
            |placed, whole| {
                segment_bytes += placed.bytes.len() + ENTRY_BYTES;
                segment_frames += 1;
                if segment_bytes > SEGMENT_BYTES_MAX {
                    return Err(Misfit::TooLong);
                }
                if whole {
                    end_segment(&mut segment_bytes, &mut segment_frames);
                }
                Ok(())
            },
        )
    })?;
    let head = reader.finish().map_err(failed)?;
    let seconds = film.grid.time_of(film.grid.frames).as_f64();
    Ok(Copied {
        avc: head.avc,
        bits_per_s: (total as f64 * 8.0 / seconds).ceil() as u32,
        peak_bits_per_s: largest.ceil() as u32,
    })
}

/// Processor seconds for a film to be read from end to end: half a minute for each quarter of an hour, and no more than it may take by
/// the clock.
fn cpu_s_max(film: &Film) -> u64 {
    let film_s = film.grid.time_of(film.grid.frames).as_f64() as u64;
    (120 + film_s / 30).min(900)
}

/// Cuts one segment.
pub fn segment(tools: &Tools, film: &Film, segment: u64, file: File, kill: &Kill, sink: &Sink) -> Result<(), Failure> {
    let missing = || Failure::Mismatch("the title has no such segment".to_owned());
    let frames = film.grid.frames_of(segment).filter(|_| film.picture.plain).ok_or_else(missing)?;
    let mut reader = Reader::new(film, segment)?;
    let mut kept: Vec<Placed> = Vec::new();
    let (mut bytes_kept, mut done) = (0, false);
    // Half a frame after its first one: the last keyframe until then is that.
    let from = film.grid.time_of(frames.start).as_f64() + 0.5 / film.grid.frame_rate.as_f64();
    let arguments = arguments::copy(film, (segment > 0).then_some(from));
    let ended = run(&tools.ffmpeg, &arguments, file, kill, |bytes| {
        reader.push(
            bytes,
            |init| sink.init(init),
            |placed, whole| {
                if done {
                    return Ok(());
                }
                bytes_kept += placed.bytes.len();
                if bytes_kept > SEGMENT_BYTES_MAX {
                    return Err(Misfit::TooLong);
                }
                kept.push(placed);
                done = whole;
                Ok(())
            },
        )?;
        // The rest of the film is not wanted.
        if done { Err(String::new()) } else { Ok(()) }
    });
    match ended {
        Err(failure) if !done || failure == Failure::Killed => return Err(failure),
        _ if !done => return Err(failed(Misfit::FrameCount)),
        _ => {}
    }
    sink.fragment(fragment(&film.grid, frames.start, &kept).map_err(failed)?);
    Ok(())
}

fn failed(misfit: Misfit) -> Failure {
    Failure::Failed(misfit.to_string())
}

/// Takes what ffmpeg writes, to packets in their places.
struct Reader<'a> {
    film: &'a Film,
    segment: u64,
    splitter: Splitter,
    /// Once the head came.
    walk: Option<(Head, Walk)>,
}

impl<'a> Reader<'a> {
    fn new(film: &'a Film, segment: u64) -> Result<Self, Failure> {
        if !film.picture.plain {
            return Err(Failure::Failed("its pictures are not as browsers show them".to_owned()));
        }
        if !film.demuxer.finds_keyframes() {
            return Err(Failure::Failed("its container does not say where keyframes are".to_owned()));
        }
        Ok(Self { film, segment, splitter: Splitter::new(SEGMENT_BYTES_MAX), walk: None })
    }

    /// `head` gets the first piece; `take` each packet, and whether its segment is whole with it.
    fn push(
        &mut self,
        bytes: &[u8],
        mut head: impl FnMut(Vec<u8>),
        mut take: impl FnMut(Placed, bool) -> Result<(), Misfit>,
    ) -> Result<(), String> {
        let pieces = self.splitter.push(bytes).map_err(|wrong| wrong.to_string())?;
        if !pieces.is_empty() {
            self.splitter.allow(SEGMENT_BYTES_MAX);
        }
        for piece in pieces {
            match piece {
                Piece::Init(init) => {
                    self.walk = Some(self.begin(&init).map_err(|misfit| misfit.to_string())?);
                    head(init);
                }
                Piece::Fragment(fragment) => {
                    let (_, walk) = self.walk.as_mut().ok_or_else(|| Misfit::Unreadable.to_string())?;
                    place_all(walk, &fragment, &mut take).map_err(|misfit| misfit.to_string())?;
                }
            }
        }
        Ok(())
    }

    fn begin(&self, init: &[u8]) -> Result<(Head, Walk), Misfit> {
        let head = Head::read(init).ok_or(Misfit::Unreadable)?;
        head.is_fit()?;
        let origin = i64::from(COPY_ORIGIN_S) * i64::from(self.film.grid.timescale());
        let walk = Walk::new(&self.film.grid, head.clone(), origin, self.segment, self.segment > 0);
        Ok((head, walk.ok_or(Misfit::FrameCount)?))
    }

    /// At the film's end.
    fn finish(self) -> Result<Head, Misfit> {
        let (head, walk) = self.walk.ok_or(Misfit::Unreadable)?;
        walk.finish()?;
        self.splitter.finish().map_err(|_| Misfit::Unreadable)?;
        Ok(head)
    }
}

fn place_all(
    walk: &mut Walk,
    fragment: &[u8],
    take: &mut impl FnMut(Placed, bool) -> Result<(), Misfit>,
) -> Result<(), Misfit> {
    for packet in packets(fragment)? {
        if let Some(placed) = walk.place(packet)? {
            take(placed, walk.segment_is_whole())?;
        }
    }
    Ok(())
}
