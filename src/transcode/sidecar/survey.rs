//! Which encoders work, on which device: told by encoding a little, with the arguments of real work, and by the checks of real work.
//! That ffmpeg was built with one says nothing.
//!
//! What is encoded is a film of its own, made by software: its first segment takes the way on which pictures stay on the device, its
//! last one the way through memory. Devices are looked at when the sidecar starts, now and then, at once where one failed for several
//! titles, and when ffmpeg is another one. Where there are no devices, software is taken at its word, until somebody asks (`--probe`).
//!
//! Invariants: what worked once in the life of this process stays the choice for films, so that a device that comes and goes does not
//! change the version of what is being watched: where it is away, software stands in (`jobs::runs`). No film waits for a look but
//! the first, and that has a time.

use super::super::protocol::{Colours, EncoderStatus, Film, Picture};
use super::arguments::{Means, words};
use super::child::{Failure, Kill, run};
use super::encoders::{self, ENCODERS, Encoder, Family, is_among};
use super::jobs::Jobs;
use super::memory;
use super::nodes::Node;
use super::output::{Output, Sink};
use super::segment::encode;
use super::tools::{Toolbox, Tools};
use crate::media::codec::Codec;
use crate::media::fraction::Fraction;
use crate::media::grid::Grid;
use crate::media::ladder::{Rung, ladder};
use crate::media::level::level;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// For one encoder on one device; a driver that hangs must not hold up the others for long.
const TRIAL_TIME_MAX: Duration = Duration::from_secs(20);
/// Between looks whether ffmpeg is another one.
const LOOK_AT_TOOLS: Duration = Duration::from_secs(30);
/// For the first look, which films wait for where there are devices.
const FIRST_LOOK_TIME_MAX: Duration = Duration::from_secs(60);
/// Of the film that is encoded: two segments of eight frames, at a rate no real film has.
const RATE: &str = "2/1";
const FRAMES: u64 = 16;
const FILM_BYTES_MAX: usize = 4 << 20;

/// What was found of an encoder on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `-`: there is none of its kind.
    pub device: String,
    pub encoder: &'static Encoder,
    pub works: bool,
    pub status: (&'static str, String),
}

/// What encodes here; see the module.
#[derive(Debug)]
pub struct Survey {
    tools: Arc<Toolbox>,
    nodes: Vec<Node>,
    /// Families that may be used, the preferred first.
    order: Vec<Family>,
    /// Hardware that worked at least once.
    worked: Mutex<HashSet<&'static str>>,
    looked: watch::Sender<bool>,
    again: Notify,
}

impl Survey {
    pub fn new(tools: Arc<Toolbox>, nodes: Vec<Node>, order: Vec<Family>) -> Self {
        Self { tools, nodes, order, worked: Mutex::default(), looked: watch::Sender::default(), again: Notify::new() }
    }

    /// Looks now and then, and tells the jobs. `every`: zero for never.
    pub async fn keep_looking(self: Arc<Self>, jobs: Arc<Jobs>, every: Duration) {
        let mut build = String::new();
        if every.is_zero() {
            self.looked.send_replace(true);
        }
        while !every.is_zero() {
            let is_other = self.now().await.is_some_and(|tools| {
                let is_other = tools.build != build;
                build.clone_from(&tools.build);
                is_other
            });
            let found = self.look(false, is_other).await;
            self.worked.lock().extend(
                found
                    .iter()
                    .filter(|found| found.works && found.encoder.family != Family::Software)
                    .map(|f| f.encoder.name),
            );
            jobs.surveyed(&found);
            self.looked.send_replace(true);
            let changed = async {
                loop {
                    tokio::time::sleep(LOOK_AT_TOOLS).await;
                    if self.now().await.is_some_and(|tools| tools.build != build) {
                        return;
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = self.again.notified() => {}
                () = changed => {}
            }
        }
    }

    /// A device fails for several titles: look at once.
    pub fn look_again(&self) {
        self.again.notify_one();
    }

    /// Chooses what encodes a film, and names it in the film's build. Waits for the first look where there are devices.
    pub async fn choose(&self, tools: &Tools, film: &mut Film) -> Result<(), Failure> {
        self.first_look().await;
        film.encoders = self.choice(tools)?;
        film.build = self.build_of(tools, &film.encoders);
        Ok(())
    }

    /// What films are made by now.
    pub async fn build(&self, tools: &Tools) -> String {
        self.first_look().await;
        // Without devices it is the programs' own; asking for more would be for nothing.
        if self.worked.lock().is_empty() {
            return tools.build.clone();
        }
        self.choice(tools).map_or_else(|_| tools.build.clone(), |choice| self.build_of(tools, &choice))
    }

    async fn first_look(&self) {
        if !self.nodes.is_empty() {
            // An error: it took too long, and there is no hardware for now.
            let _ = timeout(FIRST_LOOK_TIME_MAX, self.looked.subscribe().wait_for(|looked| *looked)).await;
        }
    }

    fn choice(&self, tools: &Tools) -> Result<std::collections::BTreeMap<Codec, String>, Failure> {
        let there = tools.encoders()?;
        let worked = self.worked.lock();
        let works = |encoder: &Encoder| match encoder.family {
            Family::Software => is_among(there)(encoder),
            _ => worked.contains(encoder.name),
        };
        let mut choice = encoders::choice(&self.order, works);
        choice.entry(Codec::H264).or_insert_with(|| encoders::software(Codec::H264).name.to_owned());
        Ok(choice)
    }

    fn build_of(&self, tools: &Tools, choice: &std::collections::BTreeMap<Codec, String>) -> String {
        let is_hardware = |name: &&String| encoders::named(name).is_some_and(|e| e.family != Family::Software);
        choice.values().filter(is_hardware).fold(tools.build.clone(), |build, name| build + " + " + name)
    }

    async fn now(&self) -> Option<Arc<Tools>> {
        let tools = Arc::clone(&self.tools);
        tokio::task::spawn_blocking(move || tools.now()).await.ok()?.ok()
    }

    /// Tries what there is. `all`: what there is not too, to hear why; `software`: that as well.
    pub async fn look(&self, all: bool, software: bool) -> Vec<Finding> {
        let Some(tools) = self.now().await else { return Vec::new() };
        let (asked, kill) = (Arc::clone(&tools), Kill::default());
        let there = tokio::task::spawn_blocking(move || asked.encoders().cloned()).await;
        let there = there.ok().and_then(Result::ok).unwrap_or_default();
        let tries = all || !self.nodes.is_empty();
        let film = match tries {
            true => tokio::task::spawn_blocking({
                let tools = Arc::clone(&tools);
                move || trial_film(&tools, &kill)
            })
            .await
            .unwrap_or_else(|_| Err(Failure::Machine("making a film panicked".to_owned()))),
            false => Err(Failure::Machine(String::new())),
        };
        let film = film.map(Arc::new);
        let mut found = Vec::new();
        for encoder in ENCODERS.iter().filter(|encoder| self.order.contains(&encoder.family)) {
            let finding = |device: &str, status: (&'static str, String)| Finding {
                device: device.to_owned(),
                encoder,
                works: status.0 == WORKS,
                status,
            };
            let missing = !there.contains(encoder.name);
            let not_built = || ("not_compiled_in", "this ffmpeg was built without it".to_owned());
            if encoder.family == Family::Software {
                found.push(match (missing, &film) {
                    (true, _) => finding("cpu", not_built()),
                    (false, Ok(film)) if software || all => {
                        finding("cpu", trial(&tools, film, Means::software(encoder.codec)).await)
                    }
                    (false, Err(failure)) if tries => finding("cpu", ("failed", failure.to_string())),
                    (false, _) => finding("cpu", (WORKS, String::new())),
                });
                continue;
            }
            let mut nodes: Vec<Node> = self.nodes.iter().filter(|node| node.runs(encoder)).cloned().collect();
            if nodes.is_empty() {
                nodes.push(Node::absent(encoder.family));
            }
            for node in nodes {
                let device = node.name.clone();
                let is_absent = node.slots == 0;
                found.push(match &film {
                    _ if missing => finding(&device, not_built()),
                    Ok(film) if all || !is_absent => {
                        let means = Means { encoder, node: Some(node), few_surfaces: false };
                        let status = trial(&tools, film, means).await;
                        // Whatever is on this machine, it is no device that could be used.
                        let absent_works = is_absent && status.0 == WORKS;
                        finding(&device, if absent_works { no_device() } else { status })
                    }
                    _ => finding(&device, no_device()),
                });
            }
        }
        found
    }
}

pub const WORKS: &str = "works";

fn no_device() -> (&'static str, String) {
    ("no_device", "there is no such device".to_owned())
}

impl Finding {
    pub fn status(&self, slots: usize) -> EncoderStatus {
        EncoderStatus {
            device: self.device.clone(),
            encoder: self.encoder.name.to_owned(),
            codec: self.encoder.codec,
            state: self.status.0.to_owned(),
            detail: self.status.1.clone(),
            slots: slots as u64,
        }
    }
}

/// Tries an encoder, within a time.
async fn trial(tools: &Arc<Tools>, film: &Arc<File>, means: Means) -> (&'static str, String) {
    let (tools, film, kill) = (Arc::clone(tools), Arc::clone(film), Arc::new(Kill::default()));
    let killing = Arc::clone(&kill);
    let mut work = tokio::task::spawn_blocking(move || try_out(&tools, &film, &means, &killing));
    let tried = match timeout(TRIAL_TIME_MAX, &mut work).await {
        Ok(tried) => tried,
        Err(_) => {
            kill.now();
            work.await
        }
    };
    match tried {
        Ok(Ok(detail)) => (WORKS, detail.to_owned()),
        Ok(Err(Failure::Device(class, reason))) => (class.name(), reason),
        Ok(Err(Failure::Killed)) => ("failed", "it took too long".to_owned()),
        Ok(Err(failure)) => ("failed", failure.to_string()),
        Err(_) => ("failed", "trying it panicked".to_owned()),
    }
}

/// Encodes through memory, and on the device where it has that way; what there is to say of one that works.
fn try_out(tools: &Tools, file: &File, means: &Means, kill: &Kill) -> Result<&'static str, Failure> {
    let film = film(tools);
    let rungs = ladder(film.width, film.height, &film.grid);
    let highest = rungs.last().ok_or_else(|| Failure::Machine("there is no rung".to_owned()))?;
    let (width, height) = (highest.width, highest.height);
    let level =
        level(means.encoder.codec, width, height, film.grid.frame_rate.as_f64(), highest.bits_per_s_max().into());
    let rung = Rung { codec: means.encoder.codec, level, ..highest.clone() };
    let make = |segment| {
        let file = file.try_clone().map_err(|error| Failure::Machine(format!("a film to try: {error}")))?;
        let sink = Sink::new(&watch::Sender::new(Output::default()));
        encode(tools, &film, (&rung, segment), means, file, kill, std::slice::from_ref(&sink))
    };
    make(film.grid.segments() - 1)?;
    if !means.encoder.family.keeps_frames() {
        return Ok("");
    }
    match make(0) {
        Ok(()) => Ok("pictures stay on the device"),
        // Films that would stay there are then made by software: it does not work as it will be used.
        Err(failure) => Err(failure),
    }
}

/// What the film to be encoded is, to those who encode it.
fn film(tools: &Tools) -> Film {
    let number = |text| Fraction::parse(text).expect("a number");
    let picture = Picture {
        colours: Colours::Bt709,
        interlaced: false,
        turned: false,
        quarter_turns: 0,
        transparent: false,
        plain: true,
    };
    Film {
        video_stream: 0,
        codec: String::new(),
        demuxer: crate::media::demuxer::Demuxer::Indexed,
        lead_ms: 0,
        width: 640,
        height: 360,
        start: number("0"),
        sound_start: number("0"),
        file_start: number("0"),
        grid: Grid { frame_rate: number(RATE), frames: FRAMES },
        picture,
        audio: Vec::new(),
        text: Vec::new(),
        left_out: Vec::new(),
        encoders: std::collections::BTreeMap::new(),
        build: tools.build.clone(),
        plan: None,
    }
}

/// A short film, in memory.
fn trial_film(tools: &Tools, kill: &Kill) -> Result<File, Failure> {
    let nothing = File::open("/dev/null").map_err(|error| Failure::Machine(format!("/dev/null: {error}")))?;
    let line = format!(
        "-nostdin -hide_banner -v error -f lavfi -i testsrc2=size=640x360:rate={RATE} -frames:v {FRAMES} -c:v libx264 -preset ultrafast \
         -pix_fmt yuv420p -g 4 -movflags +frag_keyframe+empty_moov -f mp4 pipe:1"
    );
    let mut bytes = Vec::new();
    run(&tools.ffmpeg, &words(&line.split(' ').collect::<Vec<_>>()), nothing, kill, |more| {
        bytes.extend_from_slice(more);
        if bytes.len() > FILM_BYTES_MAX { Err("it is too long".into()) } else { Ok(()) }
    })?;
    memory::file([&bytes[..]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(nodes: Vec<Node>) -> Survey {
        Survey::new(Arc::new(Toolbox::new(Tools::find().unwrap())), nodes, Family::ALL.to_vec())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_machine_without_devices_is_told_honestly() {
        let survey = survey(vec![]);
        let found = survey.look(true, true).await;
        assert_eq!(found.len(), ENCODERS.len(), "a line for each, and no device has two");
        for Finding { device, encoder, works, status } in &found {
            let is_software = encoder.family == Family::Software;
            assert_eq!(
                (device == "cpu", *works, status.0 == WORKS),
                (is_software, is_software, is_software),
                "{found:#?}"
            );
            // Told by what ffmpeg says, not by there being no node.
            let classes = ["not_compiled_in", "no_driver", "no_device"];
            assert!(is_software || classes.contains(&status.0), "{encoder:?} {status:?}");
            assert!(!status.1.contains(" @ 0x"), "{status:?}");
        }
        let quick = survey.look(false, true).await;
        assert_eq!(quick.iter().filter(|found| found.works).count(), 3, "{quick:#?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_worked_once_stays_the_choice_and_is_part_of_the_build() {
        let survey = survey(vec![]);
        let tools = survey.now().await.unwrap();
        let chosen = async |survey: &Survey| {
            let mut film = film(&tools);
            survey.choose(&tools, &mut film).await.unwrap();
            assert_eq!(film.build, survey.build(&tools).await);
            assert!(tools.expect_makes(&film).is_ok());
            (film.encoders.into_values().collect::<Vec<_>>().join(" "), film.build)
        };
        assert_eq!(chosen(&survey).await, ("libx264 libx265 libsvtav1".to_owned(), tools.build.clone()));
        survey.worked.lock().extend(["h264_nvenc", "hevc_vaapi"]);
        let build = format!("{} + h264_nvenc + hevc_vaapi", tools.build);
        assert_eq!(chosen(&survey).await, ("h264_nvenc hevc_vaapi libsvtav1".to_owned(), build));
        let only = Survey { order: vec![Family::Qsv], ..survey };
        assert_eq!(chosen(&only).await.0, "libx264", "every title has H.264");
    }
}
