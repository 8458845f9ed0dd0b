//! A sidecar with the real ffmpeg, films made for it, and what is read back from their segments.

use crate::support::{patience, pause, runtime};
use http_body_util::BodyExt;
use reelgate::media::fragment::{Piece, Splitter, read};
use reelgate::source::Stamp;
use reelgate::transcode::protocol::{Copied, Film, FilmFile, Job, PictureJob, Source, Wanted};
use reelgate::transcode::{Client, Error};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Bits of a frame's number, and pixels of one of them.
const BITS: u32 = 11;
const BIT_PIXELS: u32 = 32;
/// The size of numbered films.
pub const WIDTH: u32 = BITS * BIT_PIXELS;
pub const HEIGHT: u32 = 200;

pub struct Sidecar {
    process: std::process::Child,
    pub client: Client,
    pub films: tempfile::TempDir,
    runtime: &'static tokio::runtime::Runtime,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Sidecar {
    pub fn start() -> Self {
        let films = tempfile::tempdir().expect("a folder");
        let socket = films.path().join(".socket");
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelgate-transcoder"));
        let process = command.arg("--socket").arg(&socket).args(["--jobs", "2"]).spawn().expect("the sidecar runs");
        let sidecar = Self { process, client: Client::new(socket), films, runtime: runtime() };
        let deadline = Instant::now() + patience();
        while !sidecar.is_healthy() {
            assert!(Instant::now() < deadline, "the sidecar is ready");
            pause(std::time::Duration::from_millis(20));
        }
        sidecar
    }

    pub fn is_healthy(&self) -> bool {
        self.runtime.block_on(self.client.is_healthy())
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.films.path().join(name)
    }

    /// Makes a film with ffmpeg.
    #[track_caller]
    pub fn film(&self, name: &str, arguments: &[&str]) {
        let path = self.path(name).display().to_string();
        tool("ffmpeg", &[&["-nostdin", "-y"], arguments, &[&path]].concat());
    }

    pub fn source(&self, name: &str) -> Source {
        let path = Path::new(name);
        let file = std::fs::File::open(self.films.path().join(path)).expect("the film");
        let stamp = Stamp::of(&file).expect("its stamp");
        Source { folder: self.films.path().to_owned(), path: path.to_owned(), stamp }
    }

    pub fn probe(&self, name: &str) -> Result<Film, Error> {
        self.probe_source(&self.source(name))
    }

    pub fn probe_source(&self, source: &Source) -> Result<Film, Error> {
        self.runtime.block_on(self.client.probe(source))
    }

    #[track_caller]
    pub fn known(&self, name: &str) -> Film {
        self.probe(name).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn copied(&self, name: &str) -> Result<Copied, Error> {
        let whole = FilmFile { source: self.source(name), film: self.probe(name)? };
        self.runtime.block_on(self.client.copied(&whole))
    }

    pub fn init(&self, name: &str, film: &Film, rung: &str) -> Result<Vec<u8>, Error> {
        let wanted = Wanted::Init { rung: rung.to_owned() };
        let job = Job { title: name.to_owned(), source: self.source(name), film: film.clone(), wanted };
        self.runtime.block_on(async { Ok(self.client.init(&job).await?.0.to_vec()) })
    }

    pub fn segment(&self, name: &str, film: &Film, rung: &str, segment: u64) -> Result<Vec<u8>, Error> {
        let wanted = Wanted::Video { rung: rung.to_owned(), segment };
        let job = Job { title: name.to_owned(), source: self.source(name), film: film.clone(), wanted };
        self.runtime.block_on(async {
            let body = self.client.segment(&job).await?.0.collect().await;
            Ok(body.map_err(|error| Error::Failed(error.to_string()))?.to_bytes().to_vec())
        })
    }

    /// One segment with its head, in a file for ffmpeg.
    #[track_caller]
    pub fn playable(&self, name: &str, film: &Film, rung: &str, segment: u64) -> String {
        let made = self.init(name, film, rung).and_then(|init| {
            let segment = self.segment(name, film, rung, segment)?;
            Ok([init, segment].concat())
        });
        self.written(&made.unwrap_or_else(|error| panic!("{name} {rung} {segment}: {error}")))
    }

    pub fn picture(&self, job: &PictureJob) -> Result<Vec<u8>, Error> {
        self.runtime.block_on(async { Ok(self.client.picture(job).await?.to_vec()) })
    }

    pub fn written(&self, bytes: &[u8]) -> String {
        let path = self.path(&format!(".{}.mp4", fastrand::u64(..)));
        std::fs::write(&path, bytes).expect("a file");
        path.display().to_string()
    }
}

/// Runs ffmpeg or ffprobe; what it wrote.
#[track_caller]
pub fn tool(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output =
        Command::new(program).args(["-v", "error"]).args(arguments).output().expect("tests/run installs ffmpeg");
    let shown = &arguments[..arguments.len().min(20)];
    assert!(output.status.success(), "{program} {shown:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What a stream or format is said to be, as `key=value` lines.
#[track_caller]
pub fn said(file: &str, entries: &str) -> String {
    let said = tool("ffprobe", &["-select_streams", "v", "-show_entries", entries, "-of", "default=nw=1", file]);
    String::from_utf8_lossy(&said).into_owned()
}

/// A moving picture whose frames have their numbers painted along the top, as bits.
pub fn numbered(rate: &str, seconds: &str) -> String {
    let mut picture = format!("testsrc2=s={WIDTH}x{HEIGHT}:r={rate}:d={seconds},format=yuv420p");
    picture += &format!(",drawbox=0:0:{WIDTH}:32:black:fill");
    for bit in 0..BITS {
        let (x, value) = (bit * BIT_PIXELS, 1 << bit);
        picture += &format!(",drawbox={x}:0:{BIT_PIXELS}:32:white:fill:enable='bitand(n\\,{value})'");
    }
    picture
}

/// The numbers on the frames of a file, in the order they are shown.
#[track_caller]
pub fn numbers(file: &str) -> Vec<u64> {
    numbers_after(file, "null")
}

/// The same of frames that a filter has changed first.
#[track_caller]
pub fn numbers_after(file: &str, filter: &str) -> Vec<u64> {
    let bits = format!("{filter},crop=iw:ih*28/{HEIGHT}:0:0,scale={BITS}:1:flags=area,format=gray");
    let read =
        tool("ffmpeg", &["-i", file, "-map", "0:v", "-vsync", "passthrough", "-vf", &bits, "-f", "rawvideo", "-"]);
    let number = |frame: &[u8]| frame.iter().rev().fold(0, |number, bit| number << 1 | u64::from(*bit > 128));
    read.chunks_exact(BITS as usize).map(number).collect()
}

/// A frame of a segment, as the boxes say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub decoded: u64,
    pub shown: i64,
    pub ticks: u32,
    pub is_sync: bool,
}

/// The frames of a segment, in decoding order.
#[track_caller]
pub fn samples(init: &[u8], segment: &[u8]) -> Vec<Sample> {
    let mut splitter = Splitter::new(usize::MAX);
    let pieces = splitter.push(&[init, segment].concat()).expect("fragmented MP4");
    splitter.finish().expect("whole boxes");
    let mut samples = Vec::new();
    for piece in pieces {
        let Piece::Fragment(bytes) = piece else { continue };
        let run = read(&bytes).expect("one run");
        let mut decoded = run.decode_ticks;
        for sample in run.samples {
            let shown = i64::try_from(decoded).expect("ticks") + i64::from(sample.offset);
            samples.push(Sample { decoded, shown, ticks: sample.ticks, is_sync: sample.is_sync });
            decoded += u64::from(sample.ticks);
        }
    }
    samples
}

/// Every segment of a rung, asked for in that order; whatever is not exactly on the grid fails the test. The joined stream.
#[track_caller]
pub fn expect_on_grid(sidecar: &Sidecar, name: &str, film: &Film, rung: &str, order: &[u64]) -> Vec<u8> {
    let grid = film.grid;
    assert!((0..grid.segments()).all(|segment| order.contains(&segment)), "{} segments", grid.segments());
    let made = |segment| sidecar.segment(name, film, rung, segment).unwrap_or_else(|e| panic!("{name} {segment}: {e}"));
    let mut parts: Vec<(u64, Vec<u8>)> = order.iter().map(|segment| (*segment, made(*segment))).collect();
    parts.sort_by_key(|(segment, _)| *segment);
    let init = sidecar.init(name, film, rung).unwrap_or_else(|error| panic!("{name}: {error}"));
    let ticks = u64::from(grid.frame_ticks());
    let mut next = 0;
    for (segment, bytes) in &parts {
        let samples = samples(&init, bytes);
        let frames = grid.frames_of(*segment).expect("a segment");
        let at = format!("{name} {rung} {segment}");
        assert_eq!(samples.len() as u64, frames.end - frames.start, "{at}: frames");
        assert!(samples[0].is_sync, "{at}: it begins with a keyframe");
        assert_eq!(samples[0].decoded.abs_diff(next), 0, "{at}: the gap at its boundary");
        assert_eq!(
            samples[0].shown,
            i64::try_from(frames.start * ticks).expect("ticks"),
            "{at}: shown where it begins"
        );
        assert!(samples.iter().all(|sample| u64::from(sample.ticks) == ticks), "{at}: durations");
        // Shown: each of its frames once, none of another segment.
        let mut shown: Vec<i64> = samples.iter().map(|sample| sample.shown).collect();
        shown.sort_unstable();
        let expected = frames.clone().map(|frame| i64::try_from(frame * ticks).expect("ticks"));
        assert!(shown.iter().copied().eq(expected), "{at}: shown at {shown:?}");
        next = frames.end * ticks;
    }
    [init, parts.into_iter().flat_map(|(_, bytes)| bytes).collect()].concat()
}

/// PSNR (dB) of the first pictures of two files, of luma and both chromas; the other's first after a filter.
#[track_caller]
pub fn psnr(one: &str, other: &str, filter_other: &str) -> f64 {
    let clock = "settb=AVTB,setpts=N,trim=end_frame=1";
    let graph = format!("[0:v]format=yuv420p,{clock}[a];[1:v]{filter_other},{clock}[b];[a][b]psnr=stats_file=-");
    let said = tool("ffmpeg", &["-nostdin", "-i", one, "-i", other, "-lavfi", &graph, "-f", "null", "-"]);
    let said = String::from_utf8_lossy(&said).into_owned();
    let average = said.split("psnr_avg:").nth(1).and_then(|rest| rest.split_whitespace().next());
    average.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no PSNR: {said}"))
}
