//! Segments of rungs that an HLS origin lacks, made from segments of its best one. Nothing is read from anywhere: the bytes come with
//! the request, and stay in memory.
//!
//! What ffmpeg gives is only frames. They are put where the origin's were, with the origin's times ([`crate::media::upstream`]), and
//! only where they are as many, and as far from one another, as those: so nothing leaves that does not fit.
//!
//! Invariants: identical requests are one run, which ends when nobody waits for it; they wait and run among the jobs ([`super::jobs`]), and
//! the bytes of all of them together are bounded.

use super::super::protocol::{AddedPart, NAME_BYTES_MAX, Part, RENDITION_BYTES_MAX, RenditionJob};
use super::arguments::upstream::{BEFORE_S, SEGMENT_S, rendition};
use super::child::{Failure, Kill, run};
use super::jobs::{About, Busy, Jobs, Progress};
use super::memory;
use super::tools::{Toolbox, Tools};
use crate::media::fragment::{self, Splitter};
use crate::media::remux;
use crate::media::upstream::{Container, Frame, Unfit, fmp4, mpegts, shown};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, WeakShared};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// From the start of a run to its end.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Of what ffmpeg gives, beside twice the highest rate over half a minute.
const SPARE_BYTES: usize = 1 << 20;
const SECONDS_MAX: usize = 30;
/// Of requests that wait or run, and of answers on their way: two of the longest, or many of the usual ones.
const BYTES_HELD_MAX: usize = 2 * RENDITION_BYTES_MAX;
/// For that.
const ROOM_TIME_MAX: Duration = Duration::from_secs(10);
/// For the bytes of a segment to come in.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// Of a request's first line.
const LINE_BYTES_MAX: usize = 4096;

type Made = Result<Bytes, Failure>;

/// A run, as long as somebody waits for it, and who does.
type UnderWay = (WeakShared<BoxFuture<'static, Made>>, Arc<Progress>);

/// Runs, and who waits for them.
#[derive(Debug)]
pub struct RenditionRuns {
    tools: Arc<Toolbox>,
    jobs: Arc<Jobs>,
    room: Arc<Semaphore>,
    under_way: Mutex<HashMap<[u8; 32], UnderWay>>,
}

/// A request's bytes, and the room they take.
#[derive(Debug)]
pub struct Given {
    bytes: Bytes,
    room: OwnedSemaphorePermit,
}

/// Why a request is not taken.
#[derive(Debug)]
pub enum Refused {
    /// The memory for requests, or the queue, is full.
    Busy,
    NotAsAgreed(&'static str),
}

/// What was made, and the room that it keeps until it is sent.
struct Kept {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// One who waits, as told of.
struct Waits(Arc<Progress>);

impl Waits {
    fn of(progress: &Arc<Progress>) -> Self {
        progress.waiters.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(progress))
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RenditionRuns {
    pub fn new(tools: Arc<Toolbox>, jobs: Arc<Jobs>) -> Self {
        Self { tools, jobs, room: Arc::new(Semaphore::new(BYTES_HELD_MAX)), under_way: Mutex::default() }
    }

    /// Takes a request's body: one line of JSON, then bytes. Nothing of it is held before there is room for all.
    pub async fn take(&self, mut body: Incoming) -> Result<(RenditionJob, Given), Refused> {
        let length = body.size_hint().exact().and_then(|length| u32::try_from(length).ok());
        let length = length.filter(|length| *length as usize <= RENDITION_BYTES_MAX);
        let length = length.ok_or(Refused::NotAsAgreed("the request is long, or does not say how long"))?;
        let room = timeout(ROOM_TIME_MAX, Arc::clone(&self.room).acquire_many_owned(length)).await;
        let reading = async {
            let mut bytes = BytesMut::with_capacity(if room.is_ok() { length as usize } else { 0 });
            while let Some(frame) = body.frame().await {
                // Where there is no room it is let go as it comes: who does not send all of it does not hear the answer.
                let piece = frame.ok()?.into_data().ok().filter(|_| room.is_ok());
                bytes.extend_from_slice(piece.as_deref().unwrap_or_default());
            }
            Some(bytes.freeze())
        };
        let bytes = timeout(BODY_TIME_MAX, reading).await.ok().flatten();
        let room = room.ok().and_then(Result::ok).ok_or(Refused::Busy)?;
        let bytes = bytes.ok_or(Refused::NotAsAgreed("the request is cut off, or slow"))?;
        let (job, bytes) = read(bytes).ok_or(Refused::NotAsAgreed("the request is not as agreed"))?;
        Ok((job, Given { bytes, room }))
    }

    /// Makes what is wanted of the head, the segment before and the segment, one after the other.
    pub async fn make(&self, job: RenditionJob, given: Given) -> Result<Made, Busy> {
        let hashing = tokio::task::spawn_blocking(move || {
            let mut hash = Sha256::new();
            hash.update(serde_json::to_vec(&job.wanted).unwrap_or_default());
            hash.update(&given.bytes);
            (<[u8; 32]>::from(hash.finalize()), job, given)
        });
        let Ok((key, job, given)) = hashing.await else {
            return Ok(Err(Failure::Machine("hashing panicked".to_owned())));
        };
        let (run, _waits) = {
            let mut under_way = self.under_way.lock();
            let there = under_way.get(&key).and_then(|(run, progress)| Some((run.upgrade()?, Waits::of(progress))));
            match there {
                Some(there) => there,
                None => {
                    under_way.retain(|_, (run, _)| run.upgrade().is_some());
                    let progress = Arc::<Progress>::default();
                    let run = self.begin(job, given, &progress)?.boxed().shared();
                    let waits = Waits::of(&progress);
                    under_way.extend(run.downgrade().map(|run| (key, (run, progress))));
                    (run, waits)
                }
            }
        };
        Ok(run.await)
    }

    /// A run, from its place in the queue on; dropped, it gives that up.
    fn begin(
        &self,
        job: RenditionJob,
        given: Given,
        progress: &Arc<Progress>,
    ) -> Result<impl Future<Output = Made> + Send + 'static, Busy> {
        let RenditionJob { title, rung, segment, wanted } = job;
        let about = About { title, rendition: rung, segment, only_head: wanted.part == Part::Head };
        let mut place = self.jobs.line_up(about, Arc::clone(progress))?;
        let (tools, progress) = (Arc::clone(&self.tools), Arc::clone(progress));
        Ok(async move {
            place.turn().await?;
            let killing = place.kill();
            // What it holds is paid for until it has ended, whoever waits.
            let work = tokio::task::spawn_blocking(move || {
                let Given { bytes, mut room } = given;
                let made = make(&*tools.now()?, &wanted, &bytes, &progress, &killing)?;
                // Who takes it slowly holds only what is left to take.
                drop(room.split(room.num_permits().saturating_sub(made.len())));
                Ok(Bytes::from_owner(Kept { bytes: made, _room: room }))
            });
            let made = match timeout(TIME_MAX, work).await {
                Ok(made) => made.unwrap_or_else(|_| Err(Failure::Machine("making it panicked".to_owned()))),
                // An origin's segment says nothing of who encodes it.
                Err(_) => Err(Failure::Failed("it took too long".to_owned())),
            };
            place.end(made.as_ref().map(drop).map_err(Clone::clone));
            made
        })
    }
}

fn unfit(why: Unfit) -> Failure {
    Failure::Failed(format!("the origin's segment: {why}"))
}

/// Blocking.
fn make(tools: &Tools, wanted: &AddedPart, bytes: &[u8], progress: &Progress, kill: &Kill) -> Made {
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
            let input = memory::file([&before[..], &source.video_from(SEGMENT_S)])?;
            drop(before);
            let encoded = encode(tools, wanted, mpegts::TIMESCALE, input, &source.frames, (progress, kill))?;
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
            let input = memory::file([head.bytes(), &before, &moved(&source, SEGMENT_S)?])?;
            drop(before);
            let encoded = encode(tools, wanted, head.timescale, input, &source.frames, (progress, kill))?;
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
    wanted: &AddedPart,
    timescale: u32,
    input: File,
    source: &[Frame],
    (progress, kill): (&Progress, &Kill),
) -> Result<Encoded, Failure> {
    let failed = |why: &str| Failure::Failed(why.to_owned());
    let expected = shown(source).ok_or_else(|| failed("two frames are shown at once"))?;
    let all = if wanted.part == Part::Head { 1 } else { expected.len() as u64 };
    let span = expected.first().zip(expected.last()).map_or(0, |(first, last)| last - first);
    progress.frames.store(all, Ordering::Relaxed);
    progress.milliseconds.store(span.unsigned_abs() * 1000 / u64::from(timescale.max(1)), Ordering::Relaxed);
    let bytes_max = wanted.bits_per_s_max as usize / 8 * SECONDS_MAX * 2 + SPARE_BYTES;
    let mut splitter = Splitter::new(bytes_max);
    let mut pieces = Vec::new();
    run(&tools.ffmpeg, &rendition(wanted, timescale), input, kill, |bytes| {
        for piece in splitter.push(bytes).map_err(|wrong| wrong.to_string())? {
            if let fragment::Piece::Fragment(bytes) = &piece {
                let made = fragment::read(bytes).map_or(0, |found| found.samples.len());
                progress.made.fetch_add(made as u64, Ordering::Relaxed);
            }
            pieces.push(piece);
        }
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

/// A request: one line of JSON, then bytes.
fn read(mut body: Bytes) -> Option<(RenditionJob, Bytes)> {
    let end = body.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n')?;
    let job: RenditionJob = serde_json::from_slice(&body[..end]).ok()?;
    body.advance(end + 1);
    let named = [&job.title, &job.rung].iter().all(|name| name.len() <= NAME_BYTES_MAX);
    named.then_some((job, body))
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
