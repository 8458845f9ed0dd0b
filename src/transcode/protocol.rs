//! What the edge and the sidecar say to each other. Requests are JSON:
//!
//! | request | answer |
//! |---|---|
//! | `GET /health` | 204 |
//! | `GET /build` | 200, what makes films: the `build` of a [`Film`] probed now |
//! | `POST /probe`, a [`Source`] | 200, a [`Film`] |
//! | `POST /picture`, a [`PictureJob`] | 200, a picture |
//! | `GET /pictures` | 200, a list of the [`Format`]s it makes, the best first |
//! | `POST /segment`, a [`Job`] | 200, fMP4 bytes as they are made, or WebVTT |
//! | `POST /segment/unwatched`, a [`Job`] | the same, for nobody who would want what follows |
//! | `POST /ahead`, an [`Ahead`] | 200 once its segments are made, to be asked for soon; 503 where there is anything else to do |
//! | `POST /copy`, a [`FilmFile`] | 200, a [`Copied`]: its packets can be used as they are; read whole, so minutes later |
//! | `POST /rendition`, a [`RenditionJob`] as one line, and after it bytes | 200, the bytes of a segment or a head, all of them checked |
//! | `POST /trial`, a [`TrialJob`] | 200, a [`Tried`]: one segment made and compared with the film, some seconds later; one at a time |
//! | `GET /status` | 200, a [`Status`] |
//!
//! What is encoded has a header [`MADE_BY`]; it may name another encoder than the film's, where that failed.
//!
//! Over TCP a film that lies beneath none of the sidecar's folders, or is not there or another version there, is refused with 421: another
//! sidecar may have it. Everything else is an error: 503 with `Retry-After` (busy), 409 (the file, or what makes films, is another version), 422 (it cannot be streamed,
//! and never will be), 500 (it failed this time), 426 (the two are of other versions, see [`VERSION_FIELD`]), 400 and 404 (not as agreed), each with
//! its reason as text. A body that is cut off is a failure too.
//!
//! Invariant: no reason names a path.

use crate::media::aac::Layout;
use crate::media::codec::Codec;
use crate::media::demuxer::Demuxer;
use crate::media::fraction::Fraction;
use crate::media::grid::Grid;
pub use crate::media::ladder::Copied;
use crate::media::ladder::{self, Rung};
pub use crate::media::pictures::Format;
use crate::media::quality::{Measure, Plan};
use crate::media::upstream::Container;
use crate::source::Stamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

mod build;
mod status;

pub use build::{encodes, moved, programs, sees_more, software};
pub use status::{EVENTS, EncoderStatus, JobStatus, PICTURE_EVENTS, Status};

pub const HEALTH: &str = "/health";
pub const BUILD: &str = "/build";
pub const PROBE: &str = "/probe";
pub const PICTURE: &str = "/picture";
pub const PICTURES: &str = "/pictures";
pub const SEGMENT: &str = "/segment";
pub const UNWATCHED: &str = "/segment/unwatched";
pub const AHEAD: &str = "/ahead";
pub const COPY: &str = "/copy";
pub const TRIAL: &str = "/trial";
pub const STATUS: &str = "/status";
pub const RENDITION: &str = "/rendition";

/// A field of requests: [`version`] of the one who asks. A sidecar of another version refuses with 426.
pub const VERSION_FIELD: &str = "reelgate-version";

/// Both sides must have the same: bytes made by another recipe would be kept under the same entity-tag.
pub fn version() -> String {
    format!("{}/{RECIPE}", env!("CARGO_PKG_VERSION"))
}

/// Which encoder made a segment, or a head: its name, and where two runs of it may make other bytes, a word for the run
/// (`h264_nvenc-18f3a6…`).
pub const MADE_BY: &str = "reelgate-encoder";
/// A field of answers: the sidecar's processor, where the film was looked into on another kind. The bytes are others then, and have an
/// entity-tag of their own.
pub const PROCESSOR: &str = "reelgate-processor";

/// Changes with everything that changes the bytes of segments: part of their version.
pub const RECIPE: u32 = 5;

/// Tracks of a film, at most; what is beyond is left out.
pub const AUDIO_MAX: usize = 16;
pub const TEXT_MAX: usize = 32;
pub const LEFT_OUT_MAX: usize = 32;

/// A film: where it lies, and which version of it is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    #[serde(with = "path")]
    pub folder: PathBuf,
    /// Beneath `folder`.
    #[serde(with = "path")]
    pub path: PathBuf,
    pub stamp: Stamp,
}

/// What is known of a film that can be streamed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Film {
    /// Index of the video stream.
    pub video_stream: u32,
    /// Of that, as ffmpeg names it: `hevc`.
    pub codec: String,
    /// What reads it.
    pub demuxer: Demuxer,
    /// How far before a frame there should be a keyframe; 0: a seek finds it.
    pub lead_ms: u32,
    /// As shown: turned, and with square pixels.
    pub width: u32,
    pub height: u32,
    /// Seconds: the time stamp of the first frame.
    pub start: Fraction,
    /// Seconds: the time stamp of the sound that belongs to it.
    pub sound_start: Fraction,
    /// Seconds: where the file says that it starts; ffmpeg seeks from there.
    pub file_start: Fraction,
    pub grid: Grid,
    pub picture: Picture,
    /// In the file's order, at most [`AUDIO_MAX`].
    pub audio: Vec<Audio>,
    /// At most [`TEXT_MAX`].
    pub text: Vec<Text>,
    /// At most [`LEFT_OUT_MAX`].
    pub left_out: Vec<LeftOut>,
    /// Which encoder would make its segments in each codec it is offered in; H.264 is one of them.
    pub encoders: BTreeMap<Codec, String>,
    /// And of which build: another one makes other bytes.
    pub build: String,
    /// How it is encoded where it was optimised. The sidecar does not know: who asks for segments says so.
    pub plan: Option<Plan>,
}

impl Film {
    /// Every rung that can be made of it.
    pub fn rungs(&self) -> Vec<Rung> {
        let codecs: Vec<Codec> = self.encoders.keys().copied().collect();
        ladder::rungs(self.width, self.height, &self.grid, &codecs, self.plan.as_ref())
    }

    /// By its name; None: the film has none of that name.
    pub fn rung(&self, name: &str) -> Option<Rung> {
        self.rungs().into_iter().find(|rung| rung.name == name)
    }
}

/// A picture is never longer.
pub const PICTURE_BYTES_MAX: usize = 4 << 20;

/// Changes with everything that changes the bytes of pictures: part of their version.
pub const PICTURE_RECIPE: u32 = 1;

/// A picture to be made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PictureJob {
    /// A film, or a file with a picture.
    pub source: Source,
    pub of: PictureOf,
    /// What is to make it: a film's [`Film::build`].
    pub build: String,
    /// Of a film's picture, or of a tile, its width and height, even; of a file's, the most it may have.
    pub size: (u32, u32),
    pub format: Format,
}

/// What a picture is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureOf {
    /// A file with a picture: JPEG, PNG or WebP, by what is in it.
    File,
    /// The last keyframe by a time of the title.
    Frame { film: Film, at_ms: u64 },
    /// A sheet of tiles (see [`crate::media::trickplay`]).
    Sheet { film: Film, sheet: u64 },
}

/// What is done to its pictures before they are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Picture {
    pub colours: Colours,
    /// Made of two fields: they become one frame.
    pub interlaced: bool,
    /// The file says how it is turned.
    pub turned: bool,
    /// That is so often by a quarter to the right, about: 0 to 3.
    pub quarter_turns: u8,
    /// Parts of it are transparent: what shows through is black.
    pub transparent: bool,
    /// Browsers might show the packets as they are: H.264, 8 bits, 4:2:0, frames, upright, square pixels.
    pub plain: bool,
}

/// The colours a film has, of those that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Colours {
    /// ITU-R BT.709, of high definition.
    Bt709,
    /// BT.601 with 625 lines and with 525.
    Bt601Pal,
    Bt601Ntsc,
    Rgb,
    /// BT.2020 with an ordinary range of light.
    Bt2020,
    /// High dynamic range, BT.2100: perceptual quantizer (HDR10), hybrid log-gamma.
    Pq,
    Hlg,
}

/// A track of sound.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Audio {
    pub stream: u32,
    /// As ffmpeg names it: `ac3`.
    pub codec: String,
    /// As the file says (ISO 639-2); `und` where it does not.
    pub language: String,
    /// As the file says; may be empty, and is nobody's word but the file's.
    pub title: String,
    pub channels: u32,
    pub default: bool,
    pub commentary: bool,
    /// For those who cannot see.
    pub descriptive: bool,
    /// Seconds: its first packet. Present where all packets hold as many samples and the file's clock is too coarse to say where
    /// they begin; counted from here, they are where they belong.
    pub counted_from: Option<Fraction>,
    /// The clock is as coarse, and packets cannot be counted.
    pub uncertain: bool,
}

/// A track of subtitles.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Text {
    pub stream: u32,
    pub language: String,
    pub title: String,
    pub forced: bool,
    pub hearing_impaired: bool,
}

/// A track that is in the file and not offered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeftOut {
    pub stream: u32,
    /// `audio` or `text`.
    pub kind: String,
    pub language: String,
    pub reason: String,
}

/// What a file of subtitles is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextFormat {
    SubRip,
    WebVtt,
}

/// A film, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FilmFile {
    pub source: Source,
    pub film: Film,
}

/// Bytes of a `POST /rendition`: a head and two segments of half a minute.
pub const RENDITION_BYTES_MAX: usize = 128 << 20;
/// And of its answer.
pub const RENDITION_MADE_BYTES_MAX: usize = 64 << 20;

/// A segment to be made from an origin's, whose bytes follow: the head of fMP4, the segment before where it cannot be decoded without,
/// and the segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedPart {
    pub container: Container,
    pub part: Part,
    pub width: u32,
    pub height: u32,
    /// Of the origin's pictures.
    pub source_height: u32,
    pub bits_per_s: u32,
    pub bits_per_s_max: u32,
    pub buffer_bits: u32,
    /// Of H.264: ten times its number.
    pub level: u8,
    pub head_bytes: usize,
    pub before_bytes: usize,
}

/// The same, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenditionJob {
    /// A name for those who look on, at most [`NAME_BYTES_MAX`]; the same for all of one playlist. It tells nothing of where that lies.
    pub title: String,
    /// `240p`; as long at most.
    pub rung: String,
    /// Its number in the playlist.
    pub segment: u64,
    pub wanted: AddedPart,
}

pub const NAME_BYTES_MAX: usize = 96;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Of fMP4: that of all segments with this head.
    Head,
    Segment,
}

/// One piece of a title.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Job {
    /// Its id, for those who look on.
    pub title: String,
    pub source: Source,
    pub film: Film,
    pub wanted: Wanted,
}

/// Which piece of a title.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// The head of all segments of a rung.
    Init {
        rung: String,
    },
    Video {
        rung: String,
        segment: u64,
    },
    Audio {
        stream: u32,
        layout: Layout,
        segment: u64,
    },
    Text {
        stream: u32,
        segment: u64,
    },
    /// All of a file of subtitles, which is the job's source.
    TextFile {
        format: TextFormat,
    },
}

impl Wanted {
    /// As in URLs; of subtitles beside a film, without which file.
    pub fn rendition(&self) -> String {
        match self {
            Self::Init { rung } | Self::Video { rung, .. } => rung.clone(),
            Self::Audio { stream, layout: Layout::Stereo, .. } => format!("audio-{stream}"),
            Self::Audio { stream, .. } => format!("audio-{stream}-surround"),
            Self::Text { stream, .. } => format!("text-{stream}"),
            Self::TextFile { .. } => "text-file".to_owned(),
        }
    }

    /// Its number; 0 where there is but one.
    pub fn segment(&self) -> u64 {
        match self {
            Self::Init { .. } | Self::TextFile { .. } => 0,
            Self::Video { segment, .. } | Self::Audio { segment, .. } | Self::Text { segment, .. } => *segment,
        }
    }
}

/// One segment to be tried at a quality.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TrialJob {
    pub source: Source,
    pub film: Film,
    /// Of the fixed ladder: `360p-av1`.
    pub rung: String,
    pub segment: u64,
    pub crf: u8,
}

/// What a trial has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    pub measure: Measure,
    /// Of the segment.
    pub bytes: u64,
    pub score_milli: u32,
}

/// Segments in a row that nobody waits for, to be made when there is nothing else to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// The first.
    pub job: Job,
    /// How many; of what is no video, one.
    pub segments: u64,
}

/// Paths are bytes, not text: JSON gets them as base64.
mod path {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(path.as_os_str().as_bytes()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        Ok(OsString::from_vec(bytes).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_path_that_is_no_text_goes_over_and_comes_back() {
        let stamp = Stamp { inode: 1, modified_s: -2, modified_ns: 3, bytes: u64::MAX };
        let path = PathBuf::from(OsStr::from_bytes(b"film \xff\".mp4"));
        let source = Source { folder: "/films".into(), path, stamp };
        let text = serde_json::to_string(&source).unwrap();
        assert_eq!(serde_json::from_str::<Source>(&text).unwrap(), source);
    }
}
