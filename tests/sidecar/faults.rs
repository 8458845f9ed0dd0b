//! An encoder killed, stopped or broken in the middle of a segment, and a sidecar killed in the middle of one.

use super::Sidecar;
use super::batches::{segment, with_film};
use crate::streams::{children, film, kill, library, rendition, script, title, wait_until_ready};
use crate::support::{eventually, patience, runtime, wait_for};
use http_body_util::BodyExt;
use reelgate::transcode::Error;
use reelgate::transcode::protocol::Job;
use serde_json::json;
use std::process::Command;

/// The first time it gives away the beginning of a segment, and sleeps.
const ONCE: &str = "case \"$*\" in *'-frames:v 100'*) ;; *) exec $FFMPEG \"$@\" ;; esac
    cd $(dirname $0)
    [ -e told ] || exec $FFMPEG \"$@\"
    [ -e began ] && exec $FFMPEG \"$@\"
    : >began
    head -c 100000 told; exec sleep 600";

/// What comes of a segment whose encoder meets with `fault` after it has given away its first fragments.
#[track_caller]
fn after(fault: impl Fn(&str)) -> (Sidecar, Vec<u8>, Vec<u8>) {
    let (sidecar, head) = with_film(ONCE, &["--ahead", "0"]);
    let job = segment(&head, 1);
    let expected = sidecar.made(&job);
    let (init, _) = runtime().block_on(sidecar.client.init(&head)).expect("the head");
    std::fs::write(sidecar.folder.path().join("told"), [&init[..], &expected].concat()).expect("a file");
    // What was made is forgotten when nobody has waited for a while.
    eventually("nothing is kept", || {
        let status = runtime().block_on(sidecar.client.report());
        status.jobs.iter().all(|of| of.job.state == "done") && sidecar.count("run") >= 2
    });
    let other = Job { title: "again".into(), ..job };
    let made = runtime().block_on(async {
        let (mut body, _) = sidecar.client.segment(&other).await.expect("an answer");
        let first = body.frame().await.expect("a fragment").expect("a fragment").into_data().expect("bytes");
        let encoders = children(sidecar.process.id());
        assert_eq!(encoders.len(), 1, "it is in the middle of it");
        fault(&encoders[0]);
        let rest = tokio::time::timeout(patience(), body.collect()).await.expect("in time").expect("the whole segment");
        [&first[..], &rest.to_bytes()].concat()
    });
    (sidecar, made, expected)
}

#[test]
fn an_encoder_killed_in_the_middle_is_started_again_and_nobody_notices() {
    let (sidecar, made, expected) = after(kill);
    assert!(made == expected, "the same bytes");
    sidecar.expect_counts(&[("retry", 1), ("failure", 0)]);
}

#[test]
fn an_encoder_that_stands_still_is_replaced() {
    let (sidecar, made, expected) = after(|encoder| {
        assert!(Command::new("kill").args(["-STOP", encoder]).status().is_ok_and(|status| status.success()));
    });
    assert!(made == expected, "the same bytes");
    sidecar.expect_counts(&[("retry", 1), ("failure", 0)]);
}

#[test]
fn an_encoder_that_fails_twice_is_an_error_and_not_a_short_segment() {
    let (sidecar, job) =
        with_film("case \"$*\" in *pipe:1*) $FFMPEG \"$@\" | head -c 100000; exit 1;; esac\nexec $FFMPEG \"$@\"", &[]);
    let body = runtime().block_on(async {
        let (body, _) = sidecar.client.segment(&segment(&job, 0)).await.expect("it begins well");
        body.collect().await.map(|_| ())
    });
    assert!(body.is_err(), "cut off, so that nobody keeps it");
    sidecar.expect_counts(&[("retry", 1), ("failure", 1), ("segment", 0)]);
}

#[test]
fn many_broken_films_harm_no_other_and_a_broken_encoder_is_left_alone() {
    for (said, is_the_encoders) in [("Cannot allocate memory", false), ("Cannot load libcuda.so.1", true)] {
        let broken = format!("case \"$*\" in *pipe:1*) echo '{said}' >&2; exit 1;; esac\nexec $FFMPEG \"$@\"");
        let (sidecar, job) = with_film(&broken, &["--ahead", "0"]);
        let outcomes: Vec<_> = (0..6)
            .map(|title| {
                let job = Job { title: title.to_string(), ..segment(&job, 0) };
                runtime().block_on(sidecar.client.segment(&job)).expect_err("it fails")
            })
            .collect();
        assert!(matches!(outcomes[0], Error::Failed(_)), "{outcomes:?}");
        assert_eq!(matches!(outcomes[5], Error::Busy), is_the_encoders, "{outcomes:?}");
    }
}

#[test]
fn a_sidecar_killed_in_the_middle_of_a_segment_cuts_it_off_and_what_is_cached_plays() {
    let (films, tools) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    film(&films.path().join("Film.mp4"), "25", "9", &[]);
    let path = std::env::var("PATH").expect("a PATH");
    let encoder = |what: &str| {
        let real = format!("PATH={path}\n[ \"$1\" = -version ] && exec echo a test\n");
        script(tools.path(), "ffmpeg", &format!("#!/bin/sh\n{real}{what}\n"));
    };
    encoder("exec ffmpeg \"$@\"");
    let edge = library(films.path())
        .set("transcode.ahead", json!(0))
        .environment("PATH", &format!("{}:{path}", tools.path().display()))
        .run();
    wait_until_ready(&edge);
    let (folder, ..) = rendition(&edge, &title(&edge, "Film"), "240p");
    edge.get(&format!("{folder}/0.m4s")).expect_status(200);
    encoder("ffmpeg \"$@\" | head -c 3000; exec sleep 600");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| edge.get(&format!("{folder}/1.m4s")));
        let sidecars = children(edge.pid());
        wait_for("an encoder runs", || (!children(sidecars[0].parse().expect("a number")).is_empty()).then_some(()));
        kill(&sidecars[0]);
        let answer = asked.join().expect("an answer");
        assert!(answer.status == 503 || !answer.complete, "{}", answer.status);
    });
    edge.get(&format!("{folder}/0.m4s")).expect_status(200).expect_hit();
    encoder("exec ffmpeg \"$@\"");
    eventually("it is made after all", || {
        let answer = edge.get(&format!("{folder}/1.m4s"));
        answer.status == 200 && answer.complete
    });
}

#[test]
fn an_encoder_that_is_replaced_makes_other_versions_and_never_two_of_one() {
    let (films, tools) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    film(&films.path().join("Film.mp4"), "25", "9", &[]);
    let path = std::env::var("PATH").expect("a PATH");
    let install = |build: &str| {
        let said = format!("[ \"$1\" = -version ] && exec printf 'ffmpeg version 1\\nlibavcodec {build}\\n'");
        script(tools.path(), "new", &format!("#!/bin/sh\nPATH={path}\n{said}\nexec ffmpeg \"$@\"\n"));
        std::fs::rename(tools.path().join("new"), tools.path().join("ffmpeg")).expect("it is replaced");
    };
    install("1");
    let edge = library(films.path())
        .set("transcode.ahead", json!(0))
        .environment("PATH", &format!("{}:{path}", tools.path().display()))
        .run();
    wait_until_ready(&edge);
    let title = title(&edge, "Film");
    let (before, ..) = rendition(&edge, &title, "240p");
    edge.get(&format!("{before}/0.m4s")).expect_status(200);
    install("2");
    let refused = edge.get(&format!("{before}/1.m4s")).expect_status(503);
    assert!(refused.header("retry-after").is_some());
    // What was made before plays on; what was not, is another version.
    edge.get(&format!("{before}/0.m4s")).expect_status(200).expect_hit();
    wait_for("the old version is gone", || (edge.get(&format!("{before}/1.m4s")).status == 404).then_some(()));
    // Its playlist is not cached.
    let (after, ..) = rendition(&edge, &title, "audio-1");
    assert_ne!(before.rsplit('/').next(), after.rsplit('/').next());
    edge.get(&format!("{after}/1.m4s")).expect_status(200);
}
