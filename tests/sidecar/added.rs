//! Rungs added to an origin's ladder take the same slots as films' segments, and wait in the same queue.

use super::sidecar;
use crate::support::{eventually, runtime};
use bytes::Bytes;
use reelgate::media::upstream::Container;
use reelgate::transcode::Error;
use reelgate::transcode::protocol::{AddedPart, JobStatus, Part, RenditionJob};
use std::pin::pin;

/// A job of bytes that are no segment.
fn garbage(segment: u64) -> (RenditionJob, [Bytes; 3]) {
    let bytes = Bytes::from(format!("no segment {segment}"));
    let wanted = AddedPart {
        container: Container::MpegTs,
        part: Part::Segment,
        width: 426,
        height: 240,
        source_height: 360,
        bits_per_s: 300_000,
        bits_per_s_max: 360_000,
        buffer_bits: 600_000,
        level: 21,
        head_bytes: 0,
        before_bytes: 0,
    };
    let job = RenditionJob { title: "origin 1234".into(), rung: "240p".into(), segment, wanted };
    (job, [Bytes::new(), Bytes::new(), bytes])
}

#[test]
fn an_added_rung_waits_for_the_slot_of_a_film_and_counts_in_its_queue() {
    let sidecar = sidecar("exec sleep 600", &["--jobs", "1", "--queue", "1", "--ahead", "0"]);
    let (client, build) = (&sidecar.client, sidecar.build.as_str());
    let listed =
        || -> Vec<JobStatus> { runtime().block_on(client.report()).jobs.into_iter().map(|of| of.job).collect() };
    let (film, (added, bytes), (other, more)) = (sidecar.job(7), garbage(3), garbage(9));
    std::thread::scope(|scope| {
        let (gone, is_gone) = tokio::sync::oneshot::channel::<()>();
        let (film, added) = (&film, &added);
        scope.spawn(move || {
            runtime().block_on(async {
                let _ = tokio::select! {
                    _ = client.segment(film) => panic!("its encoder sleeps"),
                    gone = is_gone => gone,
                };
            });
        });
        eventually("the film has the slot", || sidecar.encoders() == 1);
        let waits = scope.spawn(move || runtime().block_on(client.rendition(added, build, bytes)).err());
        eventually("it waits, and is told of", || {
            let jobs = listed();
            let told = |job: &JobStatus| {
                (job.title.as_str(), job.rendition.as_str(), job.segments) == ("origin 1234", "240p", [3, 3])
                    && (job.state.as_str(), job.priority.as_str(), job.device.as_str()) == ("waiting", "seek", "cpu")
                    && job.waiters == 1
            };
            jobs.len() == 2 && jobs.iter().any(told)
        });
        let refused = runtime().block_on(client.rendition(&other, &sidecar.build, more)).err();
        assert_eq!(refused, Some(Error::Busy), "the queue is the same one");
        gone.send(()).expect("it waits");
        let made = waits.join().expect("an answer");
        assert!(matches!(made, Some(Error::Unfit(_))), "its turn came: {made:?}");
    });
    assert!(listed().iter().any(|job| job.title == "origin 1234" && job.state == "failed"));
}

#[test]
fn an_added_rung_that_nobody_waits_for_gives_its_place_up() {
    let sidecar = sidecar("exec sleep 600", &["--jobs", "1", "--queue", "1", "--ahead", "0"]);
    runtime().block_on(async {
        let (client, film) = (&sidecar.client, sidecar.job(0));
        let mut film = pin!(client.segment(&film));
        let early = tokio::time::timeout(std::time::Duration::from_millis(500), &mut film).await;
        assert!(early.is_err(), "it has the slot");
        for number in 0..3 {
            let (job, bytes) = garbage(number);
            let waits = client.rendition(&job, &sidecar.build, bytes);
            let early = tokio::time::timeout(std::time::Duration::from_millis(300), waits).await;
            assert!(early.is_err(), "there is room for it, for the one before has left");
            let deadline = std::time::Instant::now() + crate::support::patience();
            while client.report().await.jobs.len() > 1 {
                assert!(std::time::Instant::now() < deadline, "it leaves");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    });
}
