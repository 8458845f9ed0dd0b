//! The programs, and which build of them is there.
//!
//! Invariant: the bytes of segments of one [`Tools::build`] are the same, as far as that can be seen from outside. ffmpeg says its own
//! version, how it was configured, and the versions of its libraries; the encoder's library it does not say. libx264 exchanged alone,
//! as a shared library of the same name under the same ffmpeg, is not seen: who does that removes what the edge has cached.

use super::super::find_program;
use super::super::protocol::{Film, programs};
use super::child::{Failure, Kill, run};
use super::encoders;
use super::pictures::PictureEncoder;
use crate::source::Stamp;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// The list of codecs has about fifty thousand.
const SAID_BYTES_MAX: usize = 1 << 20;
/// Every title has H.264, whatever hardware does.
const NEEDED: &str = "libx264";
/// Of what people read of a build.
const NAME_CHARS_MAX: usize = 100;

/// The programs.
#[derive(Debug)]
pub struct Tools {
    pub ffmpeg: PathBuf,
    pub ffprobe: PathBuf,
    /// What ffmpeg says it is: its first line, and a hash of all of it.
    pub build: String,
    /// What pictures it can make; asked when the first is wanted.
    pub pictures: Mutex<Option<Vec<PictureEncoder>>>,
    /// Names of the codecs that it decodes; None where it did not say.
    pub decodable: Option<HashSet<String>>,
    /// Names of the encoders it was built with; asked when the first film comes.
    encoders: OnceLock<HashSet<String>>,
    /// Names of its filters; asked when the first film comes that needs one which not every build has.
    filters: OnceLock<HashSet<String>>,
    /// Of ffmpeg's file, from before it was asked.
    stamp: Option<Stamp>,
}

impl Tools {
    /// Finds the programs, and asks ffmpeg what it is. Blocking.
    pub fn find() -> Result<Self, String> {
        let tool = |name| find_program(name).ok_or(format!("{name} is not in PATH: install ffmpeg"));
        let (ffmpeg, ffprobe) = (tool("ffmpeg")?, tool("ffprobe")?);
        let stamp = stamp(&ffmpeg);
        let said = said_by(&ffmpeg, "-version").map_err(|why| format!("ffmpeg does not run: {why}"))?;
        let decodable = said_by(&ffprobe, "-codecs").ok().map(|said| decodable(&said)).filter(|all| !all.is_empty());
        Ok(Self {
            ffmpeg,
            ffprobe,
            build: build(&said),
            decodable,
            pictures: Mutex::default(),
            encoders: OnceLock::new(),
            filters: OnceLock::new(),
            stamp,
        })
    }

    /// Asks ffmpeg, once.
    pub fn encoders(&self) -> Result<&HashSet<String>, Failure> {
        if let Some(known) = self.encoders.get() {
            return Ok(known);
        }
        let machine = |why: &str| Failure::Machine(format!("ffmpeg does not say what it encodes: {why}"));
        let listed = encoders_of(&said_by(&self.ffmpeg, "-encoders").map_err(|why| machine(&why))?);
        if !listed.contains(NEEDED) {
            return Err(Failure::Machine(format!("this ffmpeg has no {NEEDED}: install one that has")));
        }
        Ok(self.encoders.get_or_init(|| listed))
    }

    /// Asks ffmpeg, once.
    pub fn filters(&self) -> Result<&HashSet<String>, Failure> {
        if let Some(known) = self.filters.get() {
            return Ok(known);
        }
        let machine = |why| Failure::Machine(format!("ffmpeg does not say which filters it has: {why}"));
        let said = said_by(&self.ffmpeg, "-filters").map_err(machine)?;
        Ok(self.filters.get_or_init(|| filters_of(&said)))
    }

    /// A film is only made by those who found out what it is: what others make has other bytes, under the same entity-tag.
    pub fn expect_makes(&self, film: &Film) -> Result<(), Failure> {
        let known = film.encoders.values().all(|name| encoders::named(name).is_some());
        match self.is_of(&film.build) && known {
            true => Ok(()),
            false => Err(Failure::Mismatch("the encoder is another one by now".to_owned())),
        }
    }

    /// Whether a film's build is of these programs; beside them it names the hardware that was chosen, and the processor.
    pub fn is_of(&self, build: &str) -> bool {
        programs(build) == self.build
    }
}

/// The programs as they are now.
#[derive(Debug)]
pub struct Toolbox(Mutex<Arc<Tools>>);

impl Toolbox {
    pub fn new(tools: Tools) -> Self {
        Self(Mutex::new(Arc::new(tools)))
    }

    /// Looks at ffmpeg's file, and asks it anew where that is another one. Blocking.
    pub fn now(&self) -> Result<Arc<Tools>, Failure> {
        let mut tools = self.0.lock();
        if stamp(&tools.ffmpeg) != tools.stamp {
            let found = Tools::find().map_err(Failure::Machine)?;
            if found.build != tools.build {
                tracing::warn!(
                    before = tools.build,
                    now = found.build,
                    "ffmpeg is another one: films are looked at anew"
                );
            }
            *tools = Arc::new(found);
        }
        Ok(Arc::clone(&tools))
    }
}

fn stamp(program: &Path) -> Option<Stamp> {
    File::open(program).and_then(|file| Stamp::of(&file)).ok()
}

/// From what ffmpeg says to `-version`.
fn build(said: &str) -> String {
    let name: String = said.lines().next().unwrap_or_default().chars().take(NAME_CHARS_MAX).collect();
    let hash = hex::encode(&Sha256::digest(said.as_bytes())[..8]);
    format!("{} ({hash})", name.replace(" + ", " "))
}

/// What a program answers to a question about itself.
fn said_by(program: &Path, question: &str) -> Result<String, String> {
    let nothing = File::open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
    let mut said = Vec::new();
    run(program, &[question.to_owned()], nothing, &Kill::default(), |bytes| {
        said.extend_from_slice(bytes);
        if said.len() > SAID_BYTES_MAX { Err("it says too much".into()) } else { Ok(()) }
    })
    .map_err(|failure| failure.to_string())?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// ` DEA.L. aac    AAC (Advanced Audio Coding)`: D for decodable.
fn decodable(said: &str) -> HashSet<String> {
    let lines = said.lines().filter_map(|line| line.strip_prefix(" D")).filter(|rest| !rest.contains(" = "));
    lines.filter_map(|rest| rest.split_ascii_whitespace().nth(1)).map(str::to_owned).collect()
}

/// ` V....D libx264              libx264 H.264 / AVC`: V for video.
fn encoders_of(said: &str) -> HashSet<String> {
    let lines = said.lines().filter_map(|line| line.strip_prefix(" V")).filter(|rest| !rest.contains(" = "));
    lines.filter_map(|rest| rest.split_ascii_whitespace().nth(1)).map(str::to_owned).collect()
}

/// ` .SC zscale            V->V       Apply resizing …`
fn filters_of(said: &str) -> HashSet<String> {
    let lines = said.lines().filter(|line| line.contains("->"));
    lines.filter_map(|line| line.split_ascii_whitespace().nth(1)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_known_by_name() {
        let said = "Filters:\n  T.. = Timeline support\n ... tonemap           V->V       Conversion\n .SC zscale            V->V       Apply\n";
        assert_eq!(filters_of(said), ["tonemap", "zscale"].map(str::to_owned).into());
    }

    #[test]
    fn encoders_are_known_by_name() {
        let said = "Encoders:\n V..... = Video\n ------\n V....D libx264  libx264 H.264\n A....D aac  AAC\n V..... hevc_qsv  HEVC\n";
        assert_eq!(encoders_of(said), ["libx264", "hevc_qsv"].map(str::to_owned).into());
    }

    #[test]
    fn codecs_that_can_be_decoded_are_known_by_name() {
        let said = "Codecs:\n D..... = Decoding supported\n -------\n D.VI.S 012v   Uncompressed 4:2:2 10-bit\n .EVIL. a64  x\n DEAIL. aac   AAC\n";
        assert_eq!(decodable(said), ["012v", "aac"].map(str::to_owned).into());
    }

    #[test]
    fn a_build_is_another_one_with_another_library_or_configuration() {
        let said = "ffmpeg version 5.1\nconfiguration: --enable-libx264\nlibavcodec 59. 37.100 / 59. 37.100\n";
        let first = build(said);
        assert!(first.starts_with("ffmpeg version 5.1 (") && first == build(said));
        assert_ne!(build(&said.replace("/ 59. 37.100", "/ 59. 37.101")), first);
        assert_ne!(build(&said.replace("--enable-libx264", "--enable-libx264 --enable-gpl")), first);
        assert!(build(&"x".repeat(1000)).len() < 200);
    }

    #[test]
    fn programs_whose_file_is_the_same_are_asked_once_and_others_anew() {
        let toolbox = Toolbox::new(Tools::find().unwrap());
        let first = toolbox.now().unwrap();
        assert!(Arc::ptr_eq(&first, &toolbox.now().unwrap()));
        let other = Tools { build: "another".into(), stamp: stamp(Path::new("/dev/null")), ..Tools::find().unwrap() };
        let replaced = Toolbox::new(other);
        assert_eq!(replaced.now().unwrap().build, first.build);
    }
}
