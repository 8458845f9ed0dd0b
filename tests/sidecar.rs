//! `reelgate-transcoder` by itself, over its socket: slots, queue, and what happens to jobs nobody waits for; what it makes ahead;
//! what it survives.

mod added;
mod batches;
mod devices;
mod faults;
mod idle;
mod remote;

use crate::streams::{children, kill, script};
use crate::support::{eventually, patience, runtime, wait_for};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reelgate::media::demuxer::Demuxer;
use reelgate::media::fraction::Fraction;
use reelgate::media::grid::Grid;
use reelgate::source::Stamp;
use reelgate::transcode::protocol::{Colours, Film, Job, Picture, Source, Wanted};
use reelgate::transcode::{Client, Error};
use std::path::Path;
use std::process::Command;

/// A sidecar by itself, with the encoder of a test.
struct Sidecar {
    process: std::process::Child,
    client: Client,
    folder: tempfile::TempDir,
    /// Of the test's encoder.
    build: String,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn sidecar(ffmpeg: &str, arguments: &[&str]) -> Sidecar {
    // Its children are counted: nothing else is to be tried.
    sidecar_that_looks(ffmpeg, &[&["--look-every", "0"], arguments].concat())
}

fn sidecar_that_looks(ffmpeg: &str, arguments: &[&str]) -> Sidecar {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("Film.mp4"), "a film").expect("a film");
    script(folder.path(), "ffmpeg", &format!("#!/bin/sh\n[ \"$1\" = -version ] && exec echo a test\n{ffmpeg}\n"));
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a PATH"));
    let socket = folder.path().join("socket");
    let process = Command::new(env!("CARGO_BIN_EXE_reelgate-transcoder"))
        .arg("--socket")
        .arg(&socket)
        .args(arguments)
        .env("PATH", path)
        .spawn()
        .expect("the sidecar's binary runs");
    let client = Client::new(socket);
    let build = wait_for("it says what it is", || runtime().block_on(client.build()).ok());
    Sidecar { process, client, folder, build }
}

impl Sidecar {
    fn job(&self, segment: u64) -> Job {
        let path = Path::new("Film.mp4");
        let file = std::fs::File::open(self.folder.path().join(path)).expect("the film");
        let second = Fraction::parse("0").expect("a number");
        let film = Film {
            video_stream: 0,
            codec: "h264".into(),
            demuxer: Demuxer::Indexed,
            lead_ms: 0,
            width: 320,
            height: 180,
            start: second,
            sound_start: second,
            file_start: second,
            grid: Grid { frame_rate: Fraction::parse("25").expect("a number"), frames: 1000 },
            picture: Picture {
                colours: Colours::Bt709,
                interlaced: false,
                turned: false,
                quarter_turns: 0,
                transparent: false,
                plain: false,
            },
            audio: vec![],
            text: vec![],
            left_out: vec![],
            encoders: [(reelgate::media::codec::Codec::H264, "libx264".to_owned())].into(),
            build: self.build.clone(),
            plan: None,
        };
        let stamp = Stamp::of(&file).expect("its stamp");
        let source = Source { folder: self.folder.path().to_owned(), path: path.to_owned(), stamp };
        Job { title: "film".into(), source, film, wanted: Wanted::Video { rung: "240p".into(), segment } }
    }

    fn encoders(&self) -> usize {
        children(self.process.id()).len()
    }
}

#[test]
fn identical_jobs_are_one_the_queue_ends_and_nobody_waiting_ends_a_job() {
    let sidecar = sidecar("exec sleep 600", &["--jobs", "1", "--queue", "1", "--ahead", "0"]);
    runtime().block_on(async {
        let client = &sidecar.client;
        let deadline = std::time::Instant::now() + patience();
        while !client.is_healthy().await {
            assert!(std::time::Instant::now() < deadline, "the sidecar is ready");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        // Two jobs, however many ask for them: one has the encoder, the other its place in the queue.
        let jobs = [0, 0, 0, 1, 1].map(|segment| sidecar.job(segment));
        let mut asked: FuturesUnordered<_> = jobs.iter().map(|job| client.segment(job)).collect();
        let early = tokio::time::timeout(std::time::Duration::from_millis(500), asked.next()).await;
        assert!(early.is_err(), "{:?}", early.map(|answer| answer.map(|answer| answer.err())));
        assert_eq!(sidecar.encoders(), 1);
        assert_eq!(client.segment(&sidecar.job(2)).await.err(), Some(Error::Busy), "a third job has no place");
    });
    // All who waited are gone.
    eventually("no encoder is left", || sidecar.encoders() == 0);
    // A slot is free again.
    runtime().block_on(async {
        let job = sidecar.job(3);
        let asked = sidecar.client.segment(&job);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(300), asked).await.is_err(), "it is being made");
    });
    assert_eq!(sidecar.encoders(), 1);
}

#[test]
fn a_sidecar_that_is_killed_takes_its_encoders_with_it() {
    let sidecar = sidecar("exec sleep 600", &[]);
    eventually("it listens", || std::os::unix::net::UnixStream::connect(sidecar.folder.path().join("socket")).is_ok());
    let encoders = runtime().block_on(async {
        let job = sidecar.job(0);
        let _asked = tokio::time::timeout(std::time::Duration::from_millis(500), sidecar.client.segment(&job)).await;
        children(sidecar.process.id())
    });
    assert_eq!(encoders.len(), 1);
    kill(&sidecar.process.id().to_string());
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", encoders[0])).unwrap_or_default();
    eventually("so does its encoder", || state().is_empty() || state().contains(") Z "));
}

#[test]
fn a_sidecar_that_is_told_to_end_takes_its_encoders_with_it() {
    let mut sidecar = sidecar("exec sleep 600", &[]);
    eventually("it listens", || std::os::unix::net::UnixStream::connect(sidecar.folder.path().join("socket")).is_ok());
    let encoders = runtime().block_on(async {
        let job = sidecar.job(0);
        let _asked = tokio::time::timeout(std::time::Duration::from_millis(500), sidecar.client.segment(&job)).await;
        children(sidecar.process.id())
    });
    assert_eq!(encoders.len(), 1);
    let told = Command::new("kill").arg(sidecar.process.id().to_string()).status();
    assert!(told.is_ok_and(|status| status.success()));
    let ended = wait_for("it ends", || sidecar.process.try_wait().expect("a child"));
    assert!(ended.success(), "{ended}");
    eventually("so does its encoder", || !Path::new(&format!("/proc/{}", encoders[0])).exists());
}
