//! One segment of a rung at one quality, made as an optimised title's is, and compared with the film: how many bytes it takes, and how
//! good it looks. Blocking.
//!
//! The film is decoded a second time and scaled to the rung's size, as before encoding: what is measured is what encoding did. Nothing is
//! written to a disk: what was made lies in memory, and ffmpeg gets it as a descriptor beside the film.
//!
//! Invariant: what ffmpeg says of the comparison is bounded, and read as numbers between those that a score can be.

use super::super::protocol::{Film, TrialJob, Tried};
use super::arguments::{self, INPUT, Means, words};
use super::child::{Failure, Kill, run_beside};
use super::encoders::software;
use super::memory;
use super::output::{Output, Sink};
use super::picture;
use super::segment::encode;
use super::tools::Tools;
use crate::media::demuxer::Demuxer;
use crate::media::ladder::Rung;
use crate::media::quality::{Aim, Measure};
use std::fs::File;
use std::ops::Range;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Of what a comparison says: a line or an object for each frame.
const SAID_BYTES_MAX: usize = 1 << 20;
/// What the cache has not got is made while somebody waits, within a minute for each run.
const ENCODE_TIME_MAX: Duration = Duration::from_secs(40);
/// Decibels of a picture that is the same.
const SAME_DB: f64 = 60.0;

/// `open` opens the film anew for each run.
pub fn trial(
    tools: &Tools,
    job: &TrialJob,
    open: &dyn Fn() -> Result<File, Failure>,
    kill: &Kill,
) -> Result<Tried, Failure> {
    let film = Film { plan: None, ..job.film.clone() };
    tools.expect_makes(&film)?;
    let missing = || Failure::Mismatch("the title has no such segment".to_owned());
    let fixed = film.rung(&job.rung).ok_or_else(missing)?;
    let frames = film.grid.frames_of(job.segment).ok_or_else(missing)?;
    if !tools.encoders().is_ok_and(|encoders| encoders.contains(software(fixed.codec).name)) {
        return Err(Failure::Failed("software cannot encode it here".to_owned()));
    }
    let aim = Aim {
        size: fixed.size().to_owned(),
        codec: fixed.codec,
        crf: job.crf,
        bits_per_s: fixed.bits_per_s,
        bits_per_s_max: fixed.bits_per_s_max(),
        score_milli: 0,
    };
    let rung = Rung { aim: Some(aim), ..fixed };

    let (output, started) = (watch::Sender::new(Output::default()), Instant::now());
    let (means, sinks) = (Means::software(rung.codec), [Sink::new(&output)]);
    encode(tools, &film, (&rung, job.segment), &means, open()?, kill, &sinks)?;
    if started.elapsed() > ENCODE_TIME_MAX {
        return Err(Failure::Failed("it takes too long here to be made while somebody waits".to_owned()));
    }
    let output = output.borrow();
    let made = memory::file(output.init.iter().chain(&output.fragments).map(|piece| &piece[..]))?;

    let measure = if tools.filters()?.contains("libvmaf") { Measure::Vmaf } else { Measure::Ssim };
    let line = |made: RawFd| comparison(&film, &rung, &frames, measure, made);
    let mut said = Vec::new();
    run_beside(&tools.ffmpeg, line, open()?, made.into(), kill, |bytes| {
        said.extend_from_slice(bytes);
        if said.len() > SAID_BYTES_MAX { Err("the comparison says too much".into()) } else { Ok(()) }
    })?;
    let score = score(measure, &said).ok_or_else(|| Failure::Failed("the comparison says no score".to_owned()))?;
    Ok(Tried { measure, bytes: output.bytes(), score_milli: (score * 1000.0).round() as u32 })
}

/// Compares what is at a descriptor with the frames it was made of, and says so on standard output.
fn comparison(film: &Film, rung: &Rung, frames: &Range<u64>, measure: Measure, made: RawFd) -> Vec<String> {
    // Frame by frame, whatever their times.
    let count = "settb=AVTB,setpts=N*1000";
    let compare = match measure {
        Measure::Vmaf => "libvmaf=n_threads=1:log_fmt=json:log_path=/proc/self/fd/1",
        Measure::Ssim => "ssim=stats_file=-",
    };
    let graph = format!(
        "[0:{}]{},{count}[film];[1:v]format=yuv420p,{count}[made];[made][film]{compare}[out]",
        film.video_stream,
        picture::filter(film, rung, frames),
    );
    let mut line = words(&["-nostdin", "-hide_banner", "-v", "error"]);
    line.extend(arguments::input(film.demuxer));
    line.extend(words(&["-threads", "2"]));
    // Where nobody knows of a keyframe, from as far as one may be: who encoded has met one.
    let approach = arguments::approaches(film, frames).pop();
    line.extend(approach.map_or_else(Vec::new, |approach| arguments::from_frame(film, frames, approach)));
    line.extend(words(picture::input_options(&film.picture)));
    line.extend(words(&["-copyts", "-i", INPUT]));
    line.extend(arguments::input(Demuxer::Indexed));
    line.extend(words(&["-i", &format!("file:/proc/self/fd/{made}"), "-filter_complex", &graph]));
    line.extend(words(&["-map", "[out]", "-f", "null", "-"]));
    line
}

/// The mean over all frames, from what a comparison said.
fn score(measure: Measure, said: &[u8]) -> Option<f64> {
    let (score, most) = match measure {
        Measure::Vmaf => {
            let said: serde_json::Value = serde_json::from_slice(said).ok()?;
            (said["pooled_metrics"]["vmaf"]["mean"].as_f64()?, 100.0)
        }
        Measure::Ssim => {
            // `n:1 Y:0.98 U:0.99 V:0.99 All:0.984 (18.1)`
            let said = std::str::from_utf8(said).ok()?;
            let each = said.lines().map(|line| line.split_whitespace().find_map(|word| word.strip_prefix("All:")));
            let each: Vec<f64> = each.map(|all| all?.parse().ok()).collect::<Option<_>>()?;
            if each.is_empty() {
                return None;
            }
            let mean = each.iter().sum::<f64>() / each.len() as f64;
            (if mean < 1.0 { (-10.0 * (1.0 - mean).log10()).min(SAME_DB) } else { SAME_DB }, SAME_DB)
        }
    };
    (score.is_finite() && score <= most).then_some(score.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::super::arguments::tests::{FENCES, film};
    use super::*;
    use crate::media::ladder::ladder;
    use proptest::prelude::*;

    #[test]
    fn golden() {
        let film = film();
        let rung = ladder(640, 360, &film.grid).pop().unwrap();
        let expected = |compare: &str| {
            format!(
                "-nostdin -hide_banner -v error {FENCES} -threads 2 -noaccurate_seek -ss 32.065347 -reinit_filter 0 -copyts \
                 -i file:/proc/self/fd/0 {FENCES} -i file:/proc/self/fd/9 -filter_complex \
                 [0:1]{},settb=AVTB,setpts=N*1000[film];[1:v]format=yuv420p,settb=AVTB,setpts=N*1000[made];[made][film]{compare}[out] \
                 -map [out] -f null -",
                picture::filter(&film, &rung, &(960..1000)),
            )
        };
        let line = |measure| comparison(&film, &rung, &(960..1000), measure, 9).join(" ");
        assert_eq!(line(Measure::Vmaf), expected("libvmaf=n_threads=1:log_fmt=json:log_path=/proc/self/fd/1"));
        assert_eq!(line(Measure::Ssim), expected("ssim=stats_file=-"));
    }

    #[test]
    fn scores_are_read_from_what_ffmpeg_says() {
        let vmaf = br#"{"version": "3.0.0", "frames": [{"frameNum": 0}], "pooled_metrics": {"vmaf": {"min": 80.1, "mean": 93.25}}}"#;
        assert_eq!(score(Measure::Vmaf, vmaf), Some(93.25));
        let ssim = b"n:1 Y:0.98 U:0.99 V:0.99 All:0.980000 (16.99)\nn:2 Y:1 U:1 V:1 All:1.000000 (inf)\n";
        assert_eq!(score(Measure::Ssim, ssim).map(|score| (score * 100.0).round()), Some(2000.0));
        assert_eq!(score(Measure::Ssim, b"n:1 Y:1 All:1.0 (inf)\n"), Some(SAME_DB));
        for nothing in
            [&b""[..], b"{}", b"n:1 Y:0.98\n", b"n:1 All:x\n", br#"{"pooled_metrics":{"vmaf":{"mean":1e9}}}"#]
        {
            assert_eq!((score(Measure::Vmaf, nothing), score(Measure::Ssim, nothing)), (None, None));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_said_a_score_is_one(said in "(n:[0-9]{1,3} All:[-0-9.e]{0,9} \\PC{0,4}\n){0,4}|\\PC{0,40}") {
            for measure in [Measure::Vmaf, Measure::Ssim] {
                prop_assert!(score(measure, said.as_bytes()).is_none_or(|score| (0.0..=100.0).contains(&score)));
            }
        }
    }
}
