//! A transcoder that is told to end: what it makes it makes, and edges go elsewhere with the rest.

use super::{Authority, Remote, edge, ffmpeg, made, wait_until_up};
use crate::streams::{film, rendition, title};
use crate::support::{Edge, eventually};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

/// Three films, and the edge with a transcoder elsewhere whose ffmpeg does as `what` says to make a segment, and with one here.
fn world(films: &Path, tools: &Path, what: &str, more: &[&str]) -> (Edge, Remote, Vec<String>, Authority) {
    film(&films.join("One.mp4"), "25", "9", &["-g", "50", "-vf", "noise=alls=12:allf=t"]);
    for name in ["Two", "Three"] {
        std::fs::copy(films.join("One.mp4"), films.join(format!("{name}.mp4"))).expect("a copy");
    }
    let script = format!("case \"$*\" in *'-frames:v 100'*) {what} ;; esac\nexec $FFMPEG \"$@\"");
    let (path, authority) = (ffmpeg(tools, &script), Authority::new());
    let folders = [films.display().to_string()];
    let remote = Remote::start_with(&authority.files("127.0.0.1", None), &folders, Some(&path), more);
    let edge = edge(films, &authority, &[remote.port], true).run();
    wait_until_up(&edge, &remote.name(), true);
    wait_until_up(&edge, "local", true);
    let path = |name: &str| format!("{}/1.m4s", rendition(&edge, &title(&edge, name), "240p").0);
    let paths = ["One", "Two", "Three"].map(path).to_vec();
    (edge, remote, paths, authority)
}

fn count(edge: &Edge, state: &str) -> usize {
    let jobs = edge.admin_get("/api/v1/jobs").json();
    jobs["jobs"].as_array().into_iter().flatten().filter(|job| job["state"] == state).count()
}

fn terminate(remote: &Remote) {
    let told = Command::new("kill").args(["-TERM", &remote.process.id().to_string()]).status();
    assert!(told.is_ok_and(|status| status.success()));
}

#[test]
fn told_to_end_it_finishes_what_it_makes_and_edges_go_elsewhere_with_the_rest() {
    let (films, tools) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let wait = "until [ -e go ]; do sleep 0.1; done; exec $FFMPEG \"$@\"";
    let (edge, mut remote, paths, _authority) = world(films.path(), tools.path(), wait, &[]);
    std::thread::scope(|scope| {
        let running: Vec<_> = paths[..2].iter().map(|path| scope.spawn(|| edge.get(path))).collect();
        eventually("both slots are taken", || count(&edge, "running") == 2);
        let waiting = scope.spawn(|| edge.get(&paths[2]));
        eventually("the third one waits", || count(&edge, "waiting") == 1);
        terminate(&remote);
        eventually("nobody is let in", || TcpStream::connect(("127.0.0.1", remote.port)).is_err());
        let elsewhere = waiting.join().expect("an answer").expect_status(200);
        assert!(elsewhere.complete);
        std::fs::write(tools.path().join("go"), "").expect("a file");
        for running in running {
            assert!(running.join().expect("an answer").expect_status(200).complete, "it was finished");
        }
    });
    let jobs = edge.admin_get("/api/v1/jobs").json();
    let here = jobs["jobs"].as_array().into_iter().flatten().filter(|job| job["server"] == "local").count();
    assert!(here <= 1 && made(&edge, "local") >= 1.0, "two were not begun again: {jobs}");
    let ended = remote.process.wait().expect("it ends");
    assert!(ended.success(), "{ended}");
}

#[test]
fn what_hangs_is_cut_off_when_the_time_to_drain_is_over() {
    let (films, tools) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (edge, mut remote, paths, _authority) = world(films.path(), tools.path(), "exec sleep 600", &["--drain", "1"]);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| edge.get(&paths[0]));
        eventually("it hangs", || count(&edge, "running") == 1);
        terminate(&remote);
        eventually("it has ended", || remote.process.try_wait().is_ok_and(|ended| ended.is_some()));
        assert!(asked.join().expect("an answer").expect_status(200).complete, "this host makes it");
    });
}
