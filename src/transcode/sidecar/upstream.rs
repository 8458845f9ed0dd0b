//! Segments of rungs that an HLS origin lacks, made from segments of its best one. Nothing is read from anywhere: the bytes come with
//! the request, and stay in memory.
//!
//! What ffmpeg gives is only frames. They are put where the origin's were, with the origin's times ([`crate::media::upstream`]), and
//! only where they are as many, and as far from one another, as those: so nothing leaves that does not fit.
//!
//! Invariants: identical requests are one run, which ends when nobody waits for it; so many run at once and so many wait, never more.

use super::super::protocol::{Part, RENDITION_BYTES_MAX, RenditionJob};
use super::arguments::upstream::{BEFORE_S, SEGMENT_S, rendition};
use super::child::{Failure, Kill, KillOnDrop, run};
use super::memory;
use super::tools::{Toolbox, Tools};
use crate::media::fragment::{self, Splitter};
use crate::media::remux;
use crate::media::upstream::{Container, Frame, Unfit, fmp4, mpegts, shown};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, WeakShared};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// From the start of a run to its end.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Of what ffmpeg gives, beside twice the highest rate over half a minute.
const SPARE_BYTES: usize = 1 << 20;
const SECONDS_MAX: usize = 30;

type Made = Result<Bytes, Failure>;

/// Runs, and who waits for them.
#[derive(Debug)]
pub struct RenditionRuns {
    tools: Arc<Toolbox>,
    slots: Arc<Semaphore>,
    waiting_max: Arc<Semaphore>,
    under_way: Mutex<HashMap<[u8; 32], WeakShared<BoxFuture<'static, Made>>>>,
}

/// All slots and the queue are full.
#[derive(Debug)]
pub struct Busy;

impl RenditionRuns {
    pub fn new(tools: Arc<Toolbox>, slots: usize, queue: usize) -> Self {
        Self {
            tools,
            slots: Arc::new(Semaphore::new(slots)),
            waiting_max: Arc::new(Semaphore::new(slots + queue)),
            under_way: Mutex::default(),
        }
    }

    /// Makes what is wanted of the head, the segment before and the segment, one after the other.
    pub async fn make(&self, wanted: RenditionJob, bytes: Bytes) -> Result<Made, Busy> {
        let mut hash = Sha256::new();
        hash.update(serde_json::to_vec(&wanted).unwrap_or_default());
        hash.update(&bytes);
        let key: [u8; 32] = hash.finalize().into();
        let run = {
            let mut under_way = self.under_way.lock();
            match under_way.get(&key).and_then(WeakShared::upgrade) {
                Some(run) => run,
                None => {
                    under_way.retain(|_, run| run.upgrade().is_some());
                    let room = Arc::clone(&self.waiting_max).try_acquire_owned().map_err(|_| Busy)?;
                    let (tools, slots) = (Arc::clone(&self.tools), Arc::clone(&self.slots));
                    let run = async move {
                        let _room = room;
                        let _slot = slots.acquire_owned().await;
                        let kill = KillOnDrop::default();
                        let killing = kill.share();
                        let work = tokio::task::spawn_blocking(move || make(&*tools.now()?, &wanted, &bytes, &killing));
                        match timeout(TIME_MAX, work).await {
                            Ok(made) => made.unwrap_or_else(|_| Err(Failure::Machine("making it panicked".to_owned()))),
                            Err(_) => Err(Failure::Machine("it took too long".to_owned())),
                        }
                    };
                    let run = run.boxed().shared();
                    under_way.extend(run.downgrade().map(|run| (key, run)));
                    run
                }
            }
        };
        Ok(run.await)
    }
}

fn unfit(why: Unfit) -> Failure {
    Failure::Failed(format!("the origin's segment: {why}"))
}

/// Blocking.
fn make(tools: &Tools, wanted: &RenditionJob, bytes: &[u8], kill: &Kill) -> Made {
    let short = || Failure::Failed("the request is shorter than it says".to_owned());
    let (head, rest) = bytes.split_at_checked(wanted.head_bytes).ok_or_else(short)?;
    let (before, segment) = rest.split_at_checked(wanted.before_bytes).ok_or_else(short)?;
    let unplaced = || Failure::Failed("the frames do not fit the segment".to_owned());
    match wanted.container {
        Container::MpegTs => {
            let source = mpegts::read(segment).map_err(unfit)?;
            let before = match before {
                [] => Vec::new(),
                before => mpegts::read(before).map_err(unfit)?.video_from(BEFORE_S),
            };
            let input = [before, source.video_from(SEGMENT_S)].concat();
            let encoded = encode(tools, wanted, mpegts::TIMESCALE, &input, &source.frames, kill)?;
            let frames: Option<Vec<_>> = encoded.frames.iter().map(|frame| with_start_codes(frame)).collect();
            Ok(source.with(&frames.ok_or_else(unplaced)?).ok_or_else(unplaced)?.into())
        }
        Container::Fmp4 => {
            let head = fmp4::head(head).map_err(unfit)?;
            let source = head.segment(segment).map_err(unfit)?;
            let moved = |segment: &fmp4::Segment<'_>, start_s| segment.video_from(&head, start_s).ok_or_else(unplaced);
            let before = match before {
                [] => Vec::new(),
                before => moved(&head.segment(before).map_err(unfit)?, BEFORE_S)?,
            };
            let input = [head.bytes(), &before, &moved(&source, SEGMENT_S)?].concat();
            let encoded = encode(tools, wanted, head.timescale, &input, &source.frames, kill)?;
            let made = match wanted.part {
                Part::Head => head.with(&encoded.head, (wanted.width, wanted.height)),
                Part::Segment => source.with(&head, &encoded.frames),
            };
            Ok(made.ok_or_else(unplaced)?.into())
        }
    }
}

/// What ffmpeg gave.
#[derive(Debug)]
struct Encoded {
    head: Vec<u8>,
    /// In the order shown, as they lie in MP4.
    frames: Vec<Vec<u8>>,
}

/// Encodes what lies from [`SEGMENT_S`] on, and compares it with the frames it should be: of a head, only the first.
fn encode(
    tools: &Tools,
    wanted: &RenditionJob,
    timescale: u32,
    input: &[u8],
    source: &[Frame],
    kill: &Kill,
) -> Result<Encoded, Failure> {
    let failed = |why: &str| Failure::Failed(why.to_owned());
    let expected = shown(source).ok_or_else(|| failed("two frames are shown at once"))?;
    let bytes_max = wanted.bits_per_s_max as usize / 8 * SECONDS_MAX * 2 + SPARE_BYTES;
    let mut splitter = Splitter::new(bytes_max);
    let mut pieces = Vec::new();
    run(&tools.ffmpeg, &rendition(wanted, timescale), memory::file([input])?, kill, |bytes| {
        pieces.extend(splitter.push(bytes).map_err(|wrong| wrong.to_string())?);
        Ok(())
    })?;
    splitter.finish().map_err(|wrong| failed(&wrong.to_string()))?;
    let (mut head, mut frames, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        match piece {
            fragment::Piece::Init(init) => head = init,
            fragment::Piece::Fragment(bytes) => {
                let found = fragment::read(&bytes).ok_or_else(|| failed("the output cannot be read"))?;
                if frames.is_empty() && !found.samples.first().is_some_and(|sample| sample.is_sync) {
                    return Err(failed("the segment does not begin with a keyframe"));
                }
                for packet in remux::packets(&bytes).map_err(|_| failed("the output cannot be read"))? {
                    times.push(packet.shown);
                    frames.push(packet.bytes.to_vec());
                }
            }
        }
    }
    // The playlist has said so.
    if remux::Head::read(&head).map(|head| head.avc) != Some([100, 0, wanted.level]) {
        return Err(failed("the encoder chose another profile or level"));
    }
    let expected = if wanted.part == Part::Head { &expected[..1.min(expected.len())] } else { &expected[..] };
    let since_first = |times: &[i64]| times.iter().map(|time| time - times[0]).collect::<Vec<_>>();
    if since_first(&times) != since_first(expected) {
        return Err(failed("its frames are not those of the origin's segment"));
    }
    Ok(Encoded { head, frames })
}

/// From lengths of four bytes (ISO/IEC 14496-15 §5.3.3) to start codes (ITU-T H.264 annex B).
fn with_start_codes(mut packet: &[u8]) -> Option<Vec<u8>> {
    let mut written = Vec::with_capacity(packet.len());
    while !packet.is_empty() {
        let (length, rest) = packet.split_first_chunk::<4>()?;
        let (unit, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        written.extend_from_slice(&[0, 0, 0, 1]);
        written.extend_from_slice(unit);
        packet = rest;
    }
    Some(written)
}

/// A request's body: one line of JSON, then bytes.
pub fn read(body: &Bytes) -> Option<(RenditionJob, Bytes)> {
    let end = body.iter().take(RENDITION_BYTES_MAX).position(|byte| *byte == b'\n')?;
    Some((serde_json::from_slice(&body[..end]).ok()?, body.slice(end + 1..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_become_start_codes() {
        assert_eq!(with_start_codes(&[0, 0, 0, 1, 7, 0, 0, 0, 2, 8, 9]), Some(vec![0, 0, 0, 1, 7, 0, 0, 0, 1, 8, 9]));
        assert_eq!(with_start_codes(&[0, 0, 0, 9, 7]), None);
        assert_eq!(with_start_codes(&[0, 0]), None);
    }
}
