//! What is made before it is asked for, by a real encoder: the same bytes, within bounds, and out of the way of who waits.

use super::{Sidecar, sidecar, sidecar_that_looks};
use crate::streams::{film, tool};
use crate::support::{patience, runtime, wait_for};
use http_body_util::BodyExt;
use reelgate::source::Stamp;
use reelgate::transcode::protocol::{Job, Source, Wanted};
use std::path::Path;

/// A sidecar with a film of six segments, and ffmpeg as `what` has it (`$FFMPEG` is the real one); and the film's job.
pub fn with_film(what: &str, arguments: &[&str]) -> (Sidecar, Job) {
    // Noise: rate control has to work.
    with(sidecar, what, arguments, |path| film(path, "25", "24", &["-g", "50", "-vf", "noise=alls=12:allf=t"]))
}

/// The same, of a sidecar that looks for devices.
pub fn with_film_and_devices(what: &str, arguments: &[&str]) -> (Sidecar, Job) {
    with(sidecar_that_looks, what, arguments, |path| {
        film(path, "25", "24", &["-g", "50", "-vf", "noise=alls=12:allf=t"])
    })
}

fn with(
    start: impl Fn(&str, &[&str]) -> Sidecar,
    what: &str,
    arguments: &[&str],
    make: impl Fn(&Path),
) -> (Sidecar, Job) {
    let real = std::env::split_paths(&std::env::var_os("PATH").expect("a PATH"))
        .map(|folder| folder.join("ffmpeg"))
        .find(|path| path.is_file())
        .expect("tests/run installs ffmpeg");
    let sidecar = start(&format!("FFMPEG={}\n{what}", real.display()), arguments);
    let path = sidecar.folder.path().join("Film.mp4");
    make(&path);
    let stamp = Stamp::of(&std::fs::File::open(&path).expect("the film")).expect("its stamp");
    let source = Source { folder: sidecar.folder.path().to_owned(), path: "Film.mp4".into(), stamp };
    let film = wait_for("the film is known", || runtime().block_on(sidecar.client.probe(&source)).ok());
    let job = Job { title: "film".into(), source, film, wanted: Wanted::Init { rung: "240p".into() } };
    (sidecar, job)
}

/// The same title's segment.
pub fn segment(job: &Job, segment: u64) -> Job {
    Job { wanted: Wanted::Video { rung: "240p".into(), segment }, ..job.clone() }
}

impl Sidecar {
    /// A segment's bytes.
    #[track_caller]
    pub fn made(&self, job: &Job) -> Vec<u8> {
        runtime().block_on(async {
            let made = async {
                let (body, _) = self.client.segment(job).await.expect("an answer");
                body.collect().await.expect("the whole segment").to_bytes().to_vec()
            };
            tokio::time::timeout(patience(), made).await.expect("in time")
        })
    }

    /// A run is counted when its process has ended, a moment after its segments are whole.
    #[track_caller]
    pub fn expect_counts(&self, expected: &[(&str, u64)]) {
        wait_for(&format!("{expected:?}"), || {
            let counts = runtime().block_on(self.client.report()).counts;
            expected.iter().all(|(event, count)| counts[*event] == *count).then_some(())
        });
    }

    #[track_caller]
    pub fn count(&self, event: &str) -> u64 {
        runtime().block_on(self.client.report()).counts[event]
    }
}

#[test]
fn a_segment_has_the_same_bytes_alone_and_in_a_batch() {
    let (alone, job) = with_film("exec $FFMPEG \"$@\"", &["--ahead", "0"]);
    let expected: Vec<_> = (0..6).map(|n| alone.made(&segment(&job, n))).collect();
    alone.expect_counts(&[("segment", 6), ("run", 6), ("segment_ahead", 0)]);

    let (ahead, job) = with_film("exec $FFMPEG \"$@\"", &["--jobs", "2"]);
    assert!(ahead.made(&segment(&job, 0)) == expected[0]);
    assert!(ahead.made(&segment(&job, 1)) == expected[1]);
    ahead.expect_counts(&[("segment_ahead", 4)]);
    let status = runtime().block_on(ahead.client.report());
    assert!(status.ahead_bytes > 0, "{status:?}");
    for n in (2..6).rev() {
        assert!(ahead.made(&segment(&job, n)) == expected[n as usize], "segment {n}");
    }
    // One run for four.
    ahead.expect_counts(&[("segment", 2), ("ahead_used", 4), ("run", 3), ("failure", 0), ("retry", 0)]);
    let told = runtime().block_on(ahead.client.report()).jobs;
    let told: Vec<_> = told.iter().map(|of| &of.job).collect();
    let batch = told.iter().find(|job| job.segments == [2, 5]).expect("the batch is told of");
    assert_eq!((batch.state.as_str(), batch.percent, batch.priority.as_str()), ("done", 100.0, "prefetch"));
    assert!(told.iter().all(|job| job.title == "film" && job.rendition == "240p"), "{told:?}");
}

#[test]
fn who_jumps_takes_the_place_of_what_is_made_ahead() {
    let only_one_slot = ["--jobs", "1"];
    let batches_hang = "case \"$*\" in *filter_complex*) exec sleep 600;; esac\nexec $FFMPEG \"$@\"";
    let (sidecar, job) = with_film(batches_hang, &only_one_slot);
    sidecar.made(&segment(&job, 0));
    sidecar.made(&segment(&job, 1));
    sidecar.expect_counts(&[("run", 3)]);
    // Not of the batch: a version of the film on its own.
    let elsewhere = Job { title: "another".into(), ..segment(&job, 5) };
    sidecar.made(&elsewhere);
    sidecar.expect_counts(&[("stop", 1), ("failure", 0)]);
}

#[test]
fn five_hundred_at_once_for_fifty_segments_are_each_made_once() {
    let (sidecar, job) = with(sidecar, "exec $FFMPEG \"$@\"", &["--jobs", "4", "--queue", "64"], |path| {
        let path = path.display().to_string();
        tool(
            "ffmpeg",
            &["-y", "-f", "lavfi", "-i", "testsrc=s=192x108:r=10:d=200", "-preset", "ultrafast", "-g", "40", &path],
        );
    });
    assert_eq!(job.film.grid.segments(), 50);
    let asked: Vec<_> = (0..500).map(|n| segment(&job, n * 7 % 50)).collect();
    let bytes = runtime().block_on(async {
        let made = asked.iter().map(async |job| {
            let (body, _) = sidecar.client.segment(job).await.expect("an answer");
            (job.wanted.segment(), body.collect().await.expect("the whole segment").to_bytes())
        });
        futures_util::future::join_all(made).await
    });
    for (n, made) in &bytes {
        let first = bytes.iter().find(|(other, _)| other == n).map(|(_, first)| first);
        assert!(first == Some(made), "segment {n}");
    }
    wait_for("all runs have ended", || {
        let jobs = runtime().block_on(sidecar.client.report()).jobs;
        jobs.iter().all(|of| of.job.state == "done").then_some(())
    });
    assert_eq!(sidecar.count("segment") + sidecar.count("segment_ahead"), 50, "each is made once");
    sidecar.expect_counts(&[("refusal", 0), ("failure", 0), ("stop", 0)]);
}
