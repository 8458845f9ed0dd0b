//! Transcoders on other hosts: real ones, over TCP with TLS on both sides, asked by a real edge; who is let in, which films, and what
//! happens when they go.

mod draining;
mod refusals;

use super::batches::{segment, with_film};
use crate::streams::{children, film, library, rendition, script, title};
use crate::support::{Edge, EdgeBuilder, eventually, free_port, patience, reelgate, runtime, wait_for};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reelgate::config::{ServerAddress, TlsFiles, TranscodeServers};
use reelgate::transcode::Error;
use reelgate::transcode::protocol::Job;
use serde_json::json;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// An authority, and its files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a file");
        Self { issuer, folder }
    }

    /// Files for whoever has this name, and believes this authority.
    pub fn files(&self, name: &str, until: Option<time::OffsetDateTime>) -> TlsFiles {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_after = until.unwrap_or(params.not_after);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let at = |kind: &str| self.folder.path().join(format!("{name}-{}.{kind}", until.is_some()));
        std::fs::write(at("pem"), certificate.pem()).expect("a file");
        std::fs::write(at("key"), key.serialize_pem()).expect("a file");
        TlsFiles { ca: self.folder.path().join("ca.pem"), cert: at("pem"), key: at("key") }
    }
}

/// A transcoder as on another host; killed when dropped.
pub struct Remote {
    process: Child,
    pub port: u16,
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Remote {
    pub fn start(files: &TlsFiles, folders: &[String], path: Option<&str>) -> Self {
        Self::start_with(files, folders, path, &[])
    }

    pub fn start_with(files: &TlsFiles, folders: &[String], path: Option<&str>, more: &[&str]) -> Self {
        let port = free_port();
        let path = path.map_or_else(|| std::env::var("PATH").expect("a PATH"), str::to_owned);
        let process = Command::new(env!("CARGO_BIN_EXE_reelgate-transcoder"))
            .args(["--listen", &format!("127.0.0.1:{port}"), "--jobs", "2", "--ahead", "0"])
            .args(more)
            .arg("--cert")
            .arg(&files.cert)
            .arg("--key")
            .arg(&files.key)
            .arg("--client-ca")
            .arg(&files.ca)
            .args(folders.iter().flat_map(|folder| ["--folder", folder]))
            .env("PATH", path)
            .spawn()
            .expect("the transcoder's binary runs");
        let remote = Self { process, port };
        eventually("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        remote
    }

    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

pub fn servers(tls: TlsFiles, port: u16) -> TranscodeServers {
    TranscodeServers { addresses: vec![ServerAddress::Tcp { host: "127.0.0.1".into(), port }], tls }
}

/// An edge with these transcoders, and maybe one of its own.
fn edge(folder: &Path, authority: &Authority, ports: &[u16], local: bool) -> EdgeBuilder {
    let files = authority.files("edge", None);
    let servers: Vec<_> = ports.iter().map(|port| format!("https://127.0.0.1:{port}")).collect();
    library(folder)
        .set("transcode.servers", servers)
        .set("transcode.local", local)
        .set("transcode.tls", json!({"ca": files.ca, "cert": files.cert, "key": files.key}))
}

#[track_caller]
fn wait_until_up(edge: &Edge, server: &str, up: bool) {
    edge.expect_metric("reelgate_transcoder_server_up", &[("server", server)], up.into());
}

/// ffmpeg in a folder of its own, for a PATH: `what` has the real one as `$FFMPEG`.
fn ffmpeg(folder: &Path, what: &str) -> String {
    let path = std::env::var("PATH").expect("a PATH");
    let real = std::env::split_paths(&path).map(|folder| folder.join("ffmpeg")).find(|path| path.is_file());
    let real: PathBuf = real.expect("tests/run installs ffmpeg");
    script(folder, "ffmpeg", &format!("#!/bin/sh\nFFMPEG={}\ncd $(dirname $0)\n{what}\n", real.display()));
    format!("{}:{path}", folder.display())
}

fn made(edge: &Edge, server: &str) -> f64 {
    edge.metrics().value("reelgate_transcoder_server_answers_total", &[("server", server), ("outcome", "made")])
}

#[test]
fn a_title_plays_from_another_host_with_the_films_elsewhere() {
    let (films, mounted) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    film(&films.path().join("Film.mp4"), "25", "9", &[]);
    std::fs::write(films.path().join("Film.en.srt"), "1\n00:00:01,000 --> 00:00:02,000\nHello\n").expect("a file");
    // Other inodes, as over a network.
    let copied =
        Command::new("cp").arg("-pr").arg(format!("{}/.", films.path().display())).arg(mounted.path()).status();
    assert!(copied.is_ok_and(|status| status.success()));
    let authority = Authority::new();
    let folder = format!("{}={}", films.path().display(), mounted.path().display());
    let remote = Remote::start(&authority.files("127.0.0.1", None), &[folder], None);
    let edge = edge(films.path(), &authority, &[remote.port], false).run();
    wait_until_up(&edge, &remote.name(), true);
    assert!(children(edge.pid()).is_empty(), "none on this host");

    let id = title(&edge, "Film");
    let master = edge.get(&format!("{id}/master.m3u8")).expect_status(200).text();
    let text = master.split('"').find(|part| part.starts_with("text-file-")).expect("the file of subtitles").to_owned();
    for name in ["240p", "audio-1"] {
        let (folder, segments, _) = rendition(&edge, &id, name);
        assert_eq!(segments, 3);
        for file in (0..segments).map(|n| format!("{n}.m4s")).chain(["init.mp4".into()]) {
            assert!(edge.get(&format!("{folder}/{file}")).expect_status(200).complete, "{name} {file}");
        }
    }
    let subtitles = edge.get(&format!("{id}/{text}")).expect_status(200).text();
    let file = subtitles.lines().find(|line| line.ends_with(".vtt")).expect("a segment").to_owned();
    let cues = edge.get(&format!("{id}/{}/{file}", text.trim_end_matches("/index.m3u8"))).expect_status(200).text();
    assert!(cues.contains("Hello"), "{cues}");
    assert!(edge.get(&format!("{id}/poster.jpg")).expect_status(200).body.starts_with(b"\xff\xd8"));

    let jobs = edge.admin_get("/api/v1/jobs").expect_status(200).json();
    assert_eq!(
        (&jobs["servers"][0]["server"], &jobs["servers"][0]["up"]),
        (&remote.name().into(), &true.into()),
        "{jobs}"
    );
    assert!(
        jobs["jobs"].as_array().is_some_and(|jobs| jobs.iter().all(|job| job["server"] == remote.name())),
        "{jobs}"
    );
    let checked = reelgate(&["check", "--online", "-c", edge.config_file().to_str().expect("a name")]);
    let table = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(table.contains("reelgate-transcoder/") && table.contains("ffmpeg version"), "{table}");
}

#[test]
fn a_film_that_another_host_does_not_have_is_made_by_this_one() {
    let (shared, own) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    film(&shared.path().join("Shared.mp4"), "25", "5", &[]);
    film(&own.path().join("Own.mp4"), "25", "5", &[]);
    let authority = Authority::new();
    let remote = Remote::start(&authority.files("127.0.0.1", None), &[shared.path().display().to_string()], None);
    let folders = json!([shared.path(), own.path()]);
    for local in [true, false] {
        let edge =
            edge(shared.path(), &authority, &[remote.port], local).set("origins.main.folders", folders.clone()).run();
        wait_until_up(&edge, &remote.name(), true);
        edge.get(&format!("{}/master.m3u8", title(&edge, "Shared"))).expect_status(200);
        let master = format!("{}/master.m3u8", title(&edge, "Own"));
        if local {
            wait_until_up(&edge, "local", true);
            edge.get(&master).expect_status(200);
            let (folder, ..) = rendition(&edge, &title(&edge, "Own"), "240p");
            edge.get(&format!("{folder}/0.m4s")).expect_status(200);
            assert!(made(&edge, "local") >= 2.0);
        } else {
            let refused = edge.get(&master);
            assert_eq!(refused.status, 503, "{}", refused.text());
            assert!(!refused.text().contains("tmp"), "{}", refused.text());
        }
    }
}

#[test]
fn a_host_killed_in_the_middle_of_a_segment_aborts_it_and_this_one_goes_on() {
    let (films, tools) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    film(&films.path().join("Film.mp4"), "25", "9", &["-g", "50", "-vf", "noise=alls=12:allf=t"]);
    // The same build and the same bytes, as slow as the film plays.
    let path =
        ffmpeg(tools.path(), "case \"$*\" in *'-frames:v 100'*) exec $FFMPEG -re \"$@\" ;; esac\nexec $FFMPEG \"$@\"");
    let authority = Authority::new();
    let mut remote =
        Remote::start(&authority.files("127.0.0.1", None), &[films.path().display().to_string()], Some(&path));
    let edge = edge(films.path(), &authority, &[remote.port], true).run();
    wait_until_up(&edge, &remote.name(), true);
    wait_until_up(&edge, "local", true);
    let (folder, ..) = rendition(&edge, &title(&edge, "Film"), "240p");
    let segment = format!("{folder}/1.m4s");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| edge.get(&segment));
        eventually("it is in the middle of it", || {
            let jobs = edge.admin_get("/api/v1/jobs").json();
            jobs["jobs"].as_array().into_iter().flatten().any(|job| job["percent"].as_f64() > Some(0.0))
        });
        remote.kill();
        let answer = asked.join().expect("an answer");
        assert!(answer.status == 200 && !answer.complete && !answer.body.is_empty(), "an abort");
    });
    let again = edge.get(&segment).expect_status(200);
    assert!(again.complete, "from this host, under the same version: it has the same build");
    wait_until_up(&edge, &remote.name(), false);
    edge.get(&format!("{folder}/2.m4s")).expect_status(200);
    assert!(made(&edge, "local") >= 2.0);
}

#[test]
fn of_two_hosts_one_dies_and_the_other_makes_the_same() {
    let films = tempfile::tempdir().expect("a folder");
    let names: Vec<String> = (0..6).map(|n| format!("Film {n}")).collect();
    film(&films.path().join("Film 0.mp4"), "25", "9", &[]);
    for name in &names[1..] {
        std::fs::copy(films.path().join("Film 0.mp4"), films.path().join(format!("{name}.mp4"))).expect("a copy");
    }
    let authority = Authority::new();
    let start = || Remote::start(&authority.files("127.0.0.1", None), &[films.path().display().to_string()], None);
    let (mut one, two) = (start(), start());
    let edge = edge(films.path(), &authority, &[one.port, two.port], false).set("sites.0.cache.enabled", false).run();
    wait_until_up(&edge, &one.name(), true);
    wait_until_up(&edge, &two.name(), true);
    let paths: Vec<_> =
        names.iter().map(|name| format!("{}/0.m4s", rendition(&edge, &title(&edge, name), "240p").0)).collect();
    let before: Vec<_> = paths.iter().map(|path| edge.get(path).expect_status(200).body).collect();
    assert!(made(&edge, &one.name()) > 0.0 && made(&edge, &two.name()) > 0.0, "both have titles");
    one.kill();
    for (path, before) in paths.iter().zip(&before) {
        assert!(edge.get(path).expect_status(200).body == *before, "the same bytes");
    }
    wait_until_up(&edge, &one.name(), false);
    assert_eq!(edge.metrics().value("reelgate_transcoder_up", &[]), 1.0);
}

#[test]
fn another_build_takes_over_under_another_version() {
    let (films, tools) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    film(&films.path().join("Film.mp4"), "25", "9", &[]);
    let path = ffmpeg(tools.path(), "[ \"$1\" = -version ] && exec echo another\nexec $FFMPEG \"$@\"");
    let authority = Authority::new();
    let folders = [films.path().display().to_string()];
    let mut remote = Remote::start(&authority.files("127.0.0.1", None), &folders, Some(&path));
    let edge = edge(films.path(), &authority, &[remote.port], true).run();
    wait_until_up(&edge, &remote.name(), true);
    wait_until_up(&edge, "local", true);
    let id = title(&edge, "Film");
    let (folder, ..) = rendition(&edge, &id, "240p");
    edge.get(&format!("{folder}/0.m4s")).expect_status(200);
    assert_eq!(made(&edge, "local"), 0.0);
    remote.kill();
    let away =
        wait_for("it is away", || Some(edge.get(&format!("{folder}/1.m4s"))).filter(|answer| answer.status == 503));
    assert!(away.header("retry-after").is_some());
    edge.get(&format!("{folder}/0.m4s")).expect_status(200).expect_hit();
    assert_eq!(made(&edge, "local"), 0.0, "another build makes other bytes");
    // A while later the film is looked into again; what is asked of the version before is not made.
    eventually("the version before is gone", || edge.get(&format!("{folder}/1.m4s")).status == 404);
    let now = wait_for("another version", || {
        let playlist = edge.get(&format!("{id}/240p/index.m3u8?now")).expect_status(200).text();
        let map =
            playlist.split('"').find(|part| part.ends_with("/init.mp4"))?.trim_end_matches("/init.mp4").to_owned();
        (!folder.ends_with(&map)).then(|| format!("{id}/240p/{map}"))
    });
    edge.get(&format!("{now}/1.m4s")).expect_status(200);
    assert!(made(&edge, "local") >= 2.0);
}

#[test]
fn one_that_never_shakes_hands_is_not_waited_for_and_is_not_waited_on() {
    let films = tempfile::tempdir().expect("a folder");
    film(&films.path().join("Film.mp4"), "25", "5", &[]);
    let authority = Authority::new();
    // The edge's side: it accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let edge = edge(films.path(), &authority, &[port], true).run();
    wait_until_up(&edge, "local", true);
    eventually("the one on this host plays", || {
        edge.get(&format!("{}/master.m3u8", title(&edge, "Film"))).status == 200
    });

    // The transcoder's side.
    let files = authority.files("127.0.0.1", None);
    let remote = Remote::start(&files, &[films.path().display().to_string()], None);
    let mut silent = std::net::TcpStream::connect(("127.0.0.1", remote.port)).expect("it listens");
    silent.set_read_timeout(Some(patience())).expect("a timeout");
    let since = Instant::now();
    let known = refusals::ask(&servers(authority.files("edge", None), remote.port)).expect("others are heard");
    assert!(known.build.contains("ffmpeg"), "{known:?}");
    let mut byte = [0];
    assert!(!matches!(std::io::Read::read(&mut silent, &mut byte), Ok(1)), "it ends");
    assert!(since.elapsed() < patience().max(Duration::from_secs(10)), "within its time");
}

#[test]
fn what_another_kind_of_processor_makes_is_said_to_be_another_representation() {
    let (sidecar, job) = with_film("exec $FFMPEG \"$@\"", &["--ahead", "0"]);
    let job = segment(&job, 1);
    let made_by = |job: &Job| {
        let asked = async { sidecar.client.segment(job).await.expect("an answer").1 };
        runtime().block_on(asked)
    };
    assert_eq!(made_by(&job).processor, None, "looked into here");
    let mut elsewhere = job.clone();
    let (programs, here) = job.film.build.split_once(" + ").expect("the processor is part of the build");
    elsewhere.film.build = format!("{programs} + cpu-00000000");
    assert_eq!(made_by(&elsewhere).processor.as_deref(), Some(here));
    elsewhere.film.build = format!("another {programs} + {here}");
    let refused = runtime().block_on(sidecar.client.segment(&elsewhere)).err();
    assert_eq!(refused, Some(Error::Changed), "of other programs it makes nothing");
}
