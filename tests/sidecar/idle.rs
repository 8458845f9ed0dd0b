//! What is made when there is nothing else to do: it waits for nothing to run, and gives way to whoever asks.

use super::batches::{segment, with_film};
use super::sidecar;
use crate::streams::children;
use crate::support::{patience, runtime, wait_for};
use reelgate::transcode::Error;
use reelgate::transcode::protocol::Ahead;
use std::time::Duration;

#[test]
fn what_was_made_with_nothing_else_to_do_is_what_is_asked_for_then() {
    let (sidecar, job) = with_film("exec $FFMPEG \"$@\"", &["--jobs", "2"]);
    let alone = sidecar.made(&segment(&job, 5));
    sidecar.expect_counts(&[("run", 1), ("segment", 1)]);
    let ahead = Ahead { job: segment(&job, 2), segments: 100 };
    wait_for("nothing else is to be done", || match runtime().block_on(sidecar.client.ahead(&ahead)) {
        Ok(()) => Some(()),
        Err(Error::Busy) => None,
        Err(error) => panic!("{error}"),
    });
    sidecar.expect_counts(&[("run", 2), ("segment_ahead", 3)]);
    runtime().block_on(async {
        for at in 2..5 {
            let body = sidecar.client.unwatched(&segment(&job, at)).await.expect("an answer");
            http_body_util::BodyExt::collect(body.0).await.expect("the whole segment");
        }
    });
    // Nobody watched, so nothing more was made.
    sidecar.expect_counts(&[("run", 2), ("ahead_used", 3)]);
    assert_eq!(sidecar.made(&segment(&job, 5)), alone);
}

#[test]
fn whoever_asks_takes_the_place_of_what_nobody_waits_for_which_was_nice_before() {
    let sidecar = sidecar("exec sleep 600", &["--jobs", "1"]);
    runtime().block_on(async {
        let client = &sidecar.client;
        let ahead = Ahead { job: sidecar.job(2), segments: 4 };
        let mut idle = std::pin::pin!(client.ahead(&ahead));
        let begun = tokio::time::timeout(Duration::from_millis(500), &mut idle).await;
        assert!(begun.is_err(), "it is being made");
        let encoder = children(sidecar.process.id()).pop().expect("an encoder");
        let stat = std::fs::read_to_string(format!("/proc/{encoder}/stat")).expect("a process");
        let nice = stat.rsplit(") ").next().and_then(|fields| fields.split(' ').nth(16));
        let ours = std::fs::read_to_string("/proc/self/stat").expect("a process");
        let ours = ours.rsplit(") ").next().and_then(|fields| fields.split(' ').nth(16)).expect("19 fields");
        let expected = (ours.parse::<i32>().expect("a number") + 15).min(19).to_string();
        assert_eq!(nice, Some(&*expected), "{stat}");
        assert_eq!(client.ahead(&Ahead { job: sidecar.job(20), segments: 1 }).await, Err(Error::Busy), "one at a time");

        let job = sidecar.job(9);
        let mut asked = std::pin::pin!(client.segment(&job));
        let given_up = tokio::time::timeout(patience(), async {
            tokio::select! {
                given_up = &mut idle => given_up,
                _ = &mut asked => panic!("its encoder sleeps"),
            }
        });
        assert_eq!(given_up.await, Ok(Err(Error::Busy)));
        let status = client.report().await;
        assert_eq!(status.counts["stop"], 1);
        let jobs: Vec<_> = status.jobs.iter().map(|of| &of.job).collect();
        let running: Vec<_> = jobs.iter().filter(|job| job.state == "running").collect();
        assert_eq!((running.len(), running[0].segments), (1, [9, 9]), "{status:?}");
        assert!(jobs.iter().any(|job| job.state == "stopped" && job.priority == "background"), "{status:?}");
    });
}
