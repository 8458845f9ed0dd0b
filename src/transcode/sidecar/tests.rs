//! The real ffmpeg, one run at a time: whichever segment a run makes, its head is the same.

use super::super::protocol::{Film, Job, Source, Wanted};
use super::arguments::Means;
use super::child::{Failure, Kill};
use super::output::{Output, Sink};
use super::probe::probe;
use super::segment::{encode, make, open};
use super::tools::Tools;
use crate::media::codec::Codec;
use crate::media::ladder::{Rung, SOURCE, ladder};
use crate::media::level::level;
use crate::source::Stamp;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use tokio::sync::watch;

#[test]
fn another_build_or_encoder_makes_nothing_of_a_film() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mp4");
    let made = Command::new("ffmpeg")
        .args("-v error -f lavfi -i testsrc2=s=64x36:r=25:d=1 -c:v libx264".split(' '))
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success(), "ffmpeg is installed");
    let stamp = Stamp::of(&File::open(&path).unwrap()).unwrap();
    let source = Source { folder: folder.path().to_owned(), path: Path::new("film.mp4").to_owned(), stamp };
    let (tools, kill) = (Tools::find().unwrap(), Kill::default());
    let film = probe(&tools, || open(&source), &kill).unwrap();
    let made = |film: &Film, source: &Source| {
        let output = watch::Sender::new(Output::default());
        let wanted = Wanted::Video { rung: "240p".to_owned(), segment: 0 };
        let job = Job { title: "film".to_owned(), source: source.clone(), film: film.clone(), wanted };
        make(&tools, &job, None, &kill, &[Sink::new(&output)])
    };
    let before = Source { stamp: Stamp { bytes: 1, ..stamp }, ..source.clone() };
    assert_eq!(made(&film, &source), Ok(()));
    for (film, source, why) in [
        (Film { build: "another".to_owned(), ..film.clone() }, &source, "the encoder is another one by now"),
        (
            Film { encoders: [(Codec::H264, "another".to_owned())].into(), ..film.clone() },
            &source,
            "the encoder is another one by now",
        ),
        (film, &before, "the file has changed"),
    ] {
        assert_eq!(made(&film, source), Err(Failure::Mismatch(why.to_owned())));
    }
}

#[test]
fn every_run_of_a_rung_writes_the_same_head() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mp4");
    let arguments =
        "-v error -f lavfi -i testsrc2=s=640x360:r=30000/1001:d=13 -c:v libx264 -preset ultrafast -g 60 -bf 2";
    let made = Command::new("ffmpeg").args(arguments.split(' ')).arg(&path).status().unwrap();
    assert!(made.success(), "ffmpeg is installed");
    let stamp = Stamp::of(&File::open(&path).unwrap()).unwrap();
    let source = Source { folder: folder.path().to_owned(), path: Path::new("film.mp4").to_owned(), stamp };
    let (tools, kill) = (Tools::find().unwrap(), Kill::default());
    let film = probe(&tools, || open(&source), &kill).unwrap();
    assert!(film.picture.plain, "{:?}", film.picture);
    let head = |rung: &str, segment| {
        let output = watch::Sender::new(Output::default());
        let wanted = Wanted::Video { rung: rung.to_owned(), segment };
        let job = Job { title: "film".to_owned(), source: source.clone(), film: film.clone(), wanted };
        make(&tools, &job, None, &kill, &[Sink::new(&output)]).unwrap();
        let output = output.borrow();
        assert!(!output.fragments.is_empty());
        output.init.clone().unwrap()
    };
    for rung in ["240p", "360p", SOURCE] {
        let first = head(rung, 2);
        assert!(head(rung, 0) == first && head(rung, 3) == first, "{rung}");
    }
}

#[test]
fn software_of_every_codec_makes_the_same_bytes_alone_as_in_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mp4");
    let arguments =
        "-v error -f lavfi -i testsrc2=s=320x180:r=25:d=9,noise=alls=20:allf=t -c:v libx264 -preset ultrafast";
    let made = Command::new("ffmpeg").args(arguments.split(' ')).arg(&path).status().unwrap();
    assert!(made.success(), "ffmpeg is installed");
    let stamp = Stamp::of(&File::open(&path).unwrap()).unwrap();
    let source = Source { folder: folder.path().to_owned(), path: Path::new("film.mp4").to_owned(), stamp };
    let (tools, kill) = (Tools::find().unwrap(), Kill::default());
    let film = probe(&tools, || open(&source), &kill).unwrap();
    let lowest = ladder(film.width, film.height, &film.grid).remove(0);
    for codec in film.encoders.keys().copied() {
        let rung = Rung { codec, level: level(codec, lowest.width, lowest.height, 25.0, 1_000_000), ..lowest.clone() };
        let made = |first: u64, segments: usize| {
            let outputs: Vec<_> = (0..segments).map(|_| watch::Sender::new(Output::default())).collect();
            let sinks: Vec<_> = outputs.iter().map(Sink::new).collect();
            let file = open(&source).unwrap();
            encode(&tools, &film, (&rung, first), &Means::software(codec), file, &kill, &sinks).unwrap();
            let each = outputs.iter().map(|output| {
                let output = output.borrow();
                (output.init.clone().unwrap(), output.fragments.concat())
            });
            each.collect::<Vec<_>>()
        };
        let batch = made(0, 3);
        for (segment, expected) in batch.iter().enumerate() {
            for _ in 0..2 {
                let alone = made(segment as u64, 1).remove(0);
                assert!(alone == *expected && alone.0 == batch[0].0, "{codec:?} {segment}");
            }
        }
    }
    assert_eq!(film.encoders.len(), 3, "Debian's ffmpeg has an encoder of each codec");
}
