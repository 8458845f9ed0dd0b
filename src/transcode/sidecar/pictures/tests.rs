//! The real ffmpeg: pictures made together are those made alone, identical jobs are one, and nobody's picture is made.

use super::super::super::protocol::{Film, Format, PictureJob, PictureOf, Source};
use super::super::child::{Failure, Kill};
use super::super::probe::probe;
use super::super::segment::open;
use super::super::tools::{Toolbox, Tools};
use super::making::produce;
use super::{Busy, FRAMES_MAX, PICTURES_MAX, Pictures, SHEETS_MAX};
use crate::source::Stamp;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

struct World {
    _folder: tempfile::TempDir,
    source: Source,
    film: Film,
    tools: Arc<Toolbox>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("film.mp4");
        let arguments = "-v error -f lavfi -i testsrc2=s=160x90:r=10:d=200 -c:v libx264 -preset ultrafast -g 20";
        let made = Command::new("ffmpeg").args(arguments.split(' ')).arg(&path).status().unwrap();
        assert!(made.success(), "ffmpeg is installed");
        let stamp = Stamp::of(&File::open(&path).unwrap()).unwrap();
        let source = Source { folder: folder.path().to_owned(), path: Path::new("film.mp4").to_owned(), stamp };
        let tools = Tools::find().unwrap();
        let film = probe(&tools, || open(&source), &Kill::default()).unwrap();
        Self { _folder: folder, source, film, tools: Arc::new(Toolbox::new(tools)) }
    }

    fn job(&self, of: PictureOf, format: Format) -> PictureJob {
        PictureJob { source: self.source.clone(), of, build: self.film.build.clone(), size: (160, 90), format }
    }

    fn frame(&self, second: u64, format: Format) -> PictureJob {
        self.job(PictureOf::Frame { film: self.film.clone(), at_ms: second * 1000 }, format)
    }

    fn sheet(&self, sheet: u64) -> PictureJob {
        self.job(PictureOf::Sheet { film: self.film.clone(), sheet }, Format::Jpeg)
    }

    fn counted(&self, pictures: &Pictures, name: &str) -> u64 {
        pictures.counts().find(|(known, _)| known == name).unwrap().1
    }
}

#[test]
fn pictures_made_together_have_the_bytes_of_those_made_alone() {
    let world = World::new();
    let jobs: Vec<PictureJob> = (0..FRAMES_MAX as u64)
        .map(|at| world.frame(at * 20, [Format::Jpeg, Format::Webp, Format::Avif][at as usize % 3]))
        .collect();
    let together = produce(&world.tools, &jobs, &Kill::default());
    assert_eq!(together.len(), jobs.len());
    for (job, made) in jobs.iter().zip(&together) {
        let made = made.as_ref().unwrap();
        assert!(job.format.begins(made), "{job:?}");
        assert_eq!(produce(&world.tools, std::slice::from_ref(job), &Kill::default()), [Ok(made.clone())]);
    }
    assert_ne!(together[0], together[3]);
    // A place that has no picture costs the others nothing; another build makes none.
    let other = PictureJob { build: "another".to_owned(), ..jobs[0].clone() };
    assert!(matches!(produce(&world.tools, &[other], &Kill::default())[..], [Err(Failure::Mismatch(_))]));
}

#[tokio::test(flavor = "multi_thread")]
async fn identical_jobs_are_one_and_those_of_a_film_share_runs() {
    let world = World::new();
    let pictures = Pictures::new(Arc::clone(&world.tools), 1);
    let asked = (0..40).map(|n| {
        tokio::spawn({
            let (pictures, job) = (Arc::clone(&pictures), world.frame(n % 20 * 10, Format::Jpeg));
            async move { pictures.make(job).await.unwrap().unwrap() }
        })
    });
    let made = futures_util::future::join_all(asked).await;
    assert_eq!(made[3].as_ref().unwrap(), made[23].as_ref().unwrap());
    assert_eq!(world.counted(&pictures, "picture"), 20);
    let runs = world.counted(&pictures, "picture_run");
    assert!(runs <= 8, "{runs} runs");
    assert_eq!(world.counted(&pictures, "picture_failure"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_beyond_the_queue_is_refused_and_what_nobody_waits_for_makes_room() {
    let world = World::new();
    let pictures = Pictures::new(Arc::clone(&world.tools), 1);
    let mut waiting = Vec::new();
    for sheet in 0..SHEETS_MAX as u64 {
        waiting.push(pictures.join(world.sheet(sheet)).unwrap());
    }
    assert!(matches!(pictures.join(world.sheet(99)), Err(Busy)));
    for at in 0..(PICTURES_MAX - SHEETS_MAX) as u64 {
        waiting.push(pictures.join(world.frame(at, Format::Jpeg)).unwrap());
    }
    assert!(matches!(pictures.join(world.frame(9999, Format::Jpeg)), Err(Busy)));
    assert_eq!(world.counted(&pictures, "picture_refusal"), 2);
    // One that is there is joined though it is full. At most one sheet runs while frames wait.
    let mut last = pictures.join(world.frame(7, Format::Jpeg)).unwrap();
    assert!(pictures.state.lock().sheets_running <= 1);
    drop(waiting);
    last.wait_for(Option::is_some).await.unwrap();
    assert!(pictures.make(world.frame(9999, Format::Jpeg)).await.unwrap().is_ok());
    assert!(pictures.state.lock().known.len() < PICTURES_MAX);
}
