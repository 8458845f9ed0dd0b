//! Films that mean harm: each gets an answer in time, without a path in it, from a sidecar that lives on and stays small.

use super::world::{Sidecar, numbered};
use crate::streams::children;
use crate::support::{eventually, patience};
use reelgate::media::ladder::ladder;
use reelgate::transcode::Error;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Resident bytes of the sidecar itself; its children have bounds of their own.
const SIDECAR_BYTES_MAX: u64 = 200 << 20;
const VARIANTS: u64 = 200;

/// Whatever there is to be had of a film is asked for. Why it cannot be had, where it cannot.
fn asked(sidecar: &Sidecar, name: &str) -> Result<(), Error> {
    let film = sidecar.probe(name)?;
    let last = film.grid.segments() - 1;
    let largest = ladder(film.width, film.height, &film.grid).pop().expect("a rung").name;
    let mut result = sidecar.segment(name, &film, &largest, 0).map(drop);
    if last > 0 {
        result = result.and(sidecar.segment(name, &film, "240p", last).map(drop));
    }
    if film.picture.plain {
        let _ = sidecar.segment(name, &film, "source", 0);
    }
    result
}

/// An answer, and nothing in it that tells where the film lies.
#[track_caller]
fn expect_answer(sidecar: &Sidecar, name: &str) -> Result<(), Error> {
    let began = Instant::now();
    let answer = asked(sidecar, name);
    assert!(began.elapsed() < 6 * patience(), "{name}: {:?}", began.elapsed());
    if let Err(error) = &answer {
        let text = error.to_string();
        let own = sidecar.films.path().file_name().expect("a folder").to_string_lossy().into_owned();
        assert!(!text.contains(&own) && !text.contains("/proc") && !text.contains(name), "a path leaks: {text}");
        assert!(!matches!(error, Error::Away(_) | Error::Busy), "{name}: {error}");
    }
    answer
}

#[track_caller]
fn expect_unharmed(sidecar: &Sidecar) {
    assert!(sidecar.is_healthy());
    eventually("no child is left", || children(sidecar.pid()).is_empty());
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).expect("its status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let resident: u64 = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(resident << 10 < SIDECAR_BYTES_MAX, "{resident} KiB");
}

fn small(sidecar: &Sidecar, name: &str) {
    let picture = "testsrc2=s=64x36:r=25:d=1";
    let tone = ["-f", "lavfi", "-i", "sine=d=1"];
    let options = ["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-movflags", "+faststart"];
    sidecar.film(name, &[&["-f", "lavfi", "-i", picture][..], &tone, &options].concat());
}

#[test]
fn a_list_of_other_files_with_a_films_name_opens_none_of_them() {
    let sidecar = Sidecar::start();
    small(&sidecar, "secret.mkv");
    let secret = sidecar.path("secret.mkv").display().to_string();
    for (name, text) in [
        ("hls.mp4", format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{secret}\n#EXT-X-ENDLIST\n")),
        ("concat.mkv", format!("ffconcat version 1.0\nfile {secret}\n")),
        (
            "dash.mp4",
            format!(
                "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" profiles=\"\" \
                 mediaPresentationDuration=\"PT1S\"><Period><AdaptationSet mimeType=\"video/mp4\"><Representation id=\"0\" \
                 bandwidth=\"1\"><BaseURL>file://{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>"
            ),
        ),
        ("sdp.mp4", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 9 RTP/AVP 96\n".into()),
        ("graph.mkv", "movie=secret.mkv\n".into()),
        ("image.mp4", "P6\n9 9\n255\n".into()),
    ] {
        std::fs::write(sidecar.path(name), text).expect("a file");
        let Err(Error::Unfit(reason)) = expect_answer(&sidecar, name) else { panic!("{name} was opened") };
        assert!(reason.contains("none of MP4") || reason.contains("Invalid data"), "{name}: {reason}");
    }
    expect_unharmed(&sidecar);
}

#[test]
fn films_that_never_end_or_are_no_files_are_answered() {
    let sidecar = Sidecar::start();
    small(&sidecar, "film.mkv");
    let whole = std::fs::read(sidecar.path("film.mkv")).expect("a film");
    // A hole of a tebibyte after a film that does not say how long it is, and after nothing.
    for (name, head) in [("hole.mkv", &whole[..whole.len() / 2]), ("hole.mp4", &[])] {
        std::fs::write(sidecar.path(name), head).expect("a file");
        let file = std::fs::File::options().write(true).open(sidecar.path(name)).expect("a file");
        file.set_len(1 << 40).expect("a hole");
        let _ = expect_answer(&sidecar, name);
    }
    // Not files, under a stamp of some file.
    let stamp = sidecar.source("film.mkv");
    assert!(std::process::Command::new("mkfifo").arg(sidecar.path("pipe.mp4")).status().is_ok_and(|s| s.success()));
    symlink("/dev/zero", sidecar.path("zero.mp4")).expect("a link");
    symlink("/etc/passwd", sidecar.path("out.mkv")).expect("a link");
    std::fs::create_dir(sidecar.path("folder.mp4")).expect("a folder");
    for name in ["pipe.mp4", "zero.mp4", "out.mkv", "folder.mp4", "missing.mp4"] {
        let source = reelgate::transcode::protocol::Source { path: name.into(), ..stamp.clone() };
        assert_eq!(sidecar.probe_source(&source), Err(Error::Changed), "{name}");
    }
    // One that grows while it is read is another version each time.
    std::fs::write(sidecar.path("growing.mkv"), &whole).expect("a film");
    let before = sidecar.source("growing.mkv");
    let film = sidecar.known("growing.mkv");
    std::fs::write(sidecar.path("growing.mkv"), [&whole[..], &whole].concat()).expect("a film");
    assert_eq!(sidecar.probe_source(&before), Err(Error::Changed));
    assert!(sidecar.segment("growing.mkv", &film, "240p", 0).is_ok(), "asked for as it is now");
    expect_unharmed(&sidecar);
}

#[test]
fn films_that_unpack_to_far_more_are_refused_or_bounded() {
    let sidecar = Sidecar::start();
    let black =
        |size: &str, seconds: &str, rate: &str| format!("color=black:s={size}:r={rate}:d={seconds},format=yuv420p");
    let make = |name: &str, picture: &str, options: &[&str]| {
        sidecar.film(name, &[&["-f", "lavfi", "-i", picture], options].concat());
    };
    make("16k.mkv", &black("16000x16000", "0.04", "25"), &["-c:v", "png"]);
    make("a line.mkv", &black("16000x2", "0.2", "25"), &["-c:v", "ffv1"]);
    make("a dot.mkv", &black("2x2", "0.2", "25"), &["-c:v", "ffv1"]);
    make("8k.mkv", &black("8192x8192", "0.2", "25"), &["-c:v", "mjpeg"]);
    make("fast.mp4", &black("64x36", "1", "1000"), &["-c:v", "libx264", "-preset", "ultrafast"]);
    make("slow.mp4", &black("64x36", "400", "1/100"), &["-c:v", "libx264", "-preset", "ultrafast"]);
    // Two frames, twenty hours apart; and more than a day.
    for (name, hours) in [("day.mkv", "20"), ("two days.mkv", "30")] {
        let apart = format!("{},setpts=N*{hours}*3600/TB", black("64x36", "0.08", "25"));
        make(name, &apart, &["-vsync", "vfr", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0"]);
    }
    for (name, refused) in [("16k.mkv", true), ("a line.mkv", true), ("two days.mkv", true), ("a dot.mkv", false)] {
        let answer = expect_answer(&sidecar, name);
        assert_eq!(matches!(answer, Err(Error::Unfit(_))), refused, "{name}: {answer:?}");
    }
    for name in ["8k.mkv", "fast.mp4", "slow.mp4", "day.mkv"] {
        let _ = expect_answer(&sidecar, name);
    }
    assert_eq!(sidecar.known("fast.mp4").grid.frame_rate.to_string(), "60/1");
    let day = sidecar.known("day.mkv");
    assert!(day.grid.segments() > 10_000);
    sidecar.segment("day.mkv", &day, "240p", 9_000).expect("made of one frame, many times");
    expect_unharmed(&sidecar);
}

#[test]
fn a_thousand_streams_are_refused_or_streamed() {
    let sidecar = Sidecar::start();
    small(&sidecar, "one.mp4");
    let one = sidecar.path("one.mp4").display().to_string();
    for (name, streams) in [("fifty.mp4", 50), ("thousand.mp4", 999)] {
        let maps = ["-map", "0:a"].repeat(streams);
        sidecar.film(name, &[&["-i", &one, "-map", "0:v"][..], &maps, &["-c", "copy"]].concat());
    }
    assert_eq!(expect_answer(&sidecar, "fifty.mp4"), Ok(()));
    let answer = expect_answer(&sidecar, "thousand.mp4");
    assert!(matches!(answer, Ok(()) | Err(Error::Unfit(_))), "{answer:?}");
    expect_unharmed(&sidecar);
}

/// A film with something wrong in it.
fn damaged(whole: &[u8], variant: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(variant);
    let mut bytes = whole.to_vec();
    let head = whole.len().min(2500);
    match variant % 4 {
        // A field of the head says the largest numbers there are.
        0 => {
            let at = random.usize(..head - 4) & !3;
            bytes[at..at + 4].copy_from_slice(&[0xff, 0xff, 0xff, random.u8(..)]);
        }
        1 => bytes.truncate(random.usize(1..whole.len())),
        _ => {
            for _ in 0..random.usize(1..12) {
                let at = if random.bool() { random.usize(..head) } else { random.usize(..whole.len()) };
                bytes[at] ^= 1 << random.u8(..8);
            }
        }
    }
    bytes
}

#[test]
fn damaged_films_are_answered_one_after_another() {
    let sidecar = Sidecar::start();
    let outcomes = [AtomicU64::new(0), AtomicU64::new(0)];
    let ask = |name: &str, variants: &mut dyn Iterator<Item = u64>| {
        let (stem, extension) = name.split_once('.').expect("a name");
        let whole = std::fs::read(sidecar.path(name)).expect("a film");
        for variant in variants {
            let name = format!("{stem} {}.{extension}", variant % 2);
            std::fs::write(sidecar.path(&name), damaged(&whole, variant)).expect("a film");
            // A segment of some; all are probed, and one that might be used as it is is looked through.
            let answer = match variant % 5 {
                0 => expect_answer(&sidecar, &name),
                1 => sidecar.copied(&name).map(drop).or_else(|_| sidecar.probe(&name).map(drop)),
                _ => sidecar.probe(&name).map(drop),
            };
            outcomes[usize::from(answer.is_ok())].fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for name in ["film.mp4", "film.mkv"] {
            small(&sidecar, name);
            let ask = &ask;
            scope.spawn(move || ask(name, &mut (0..VARIANTS / 2)));
        }
    });
    assert!(outcomes.iter().all(|count| count.load(Ordering::Relaxed) > 10), "refused and streamed: {outcomes:?}");
    expect_unharmed(&sidecar);
    sidecar.film("good.mp4", &["-f", "lavfi", "-i", &numbered("25", "1"), "-c:v", "libx264"]);
    assert_eq!(asked(&sidecar, "good.mp4"), Ok(()));
}
