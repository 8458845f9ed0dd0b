//! `transcode` as typed.

use super::super::units::{ByteSize, TimeSpan};
use super::items;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `transcode`
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawTranscode {
    /// Whether streams are made. Without a library or `add_renditions` none are; nor without `servers` where `ffmpeg` and `ffprobe` are
    /// not in PATH.
    pub enabled: bool,
    /// Segments made at once; default: one for each two cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub jobs: Option<u16>,
    /// Segments that may wait for that; beyond it the answer is 503.
    #[schemars(range(max = 10_000))]
    pub queue: u16,
    /// Memory for segments made before they are asked for; 0: none are.
    pub ahead: ByteSize,
    /// Memory for the segments of HLS origins that added rungs are made of. One that is longer than a quarter of it, or than 48 MiB, is
    /// left alone; where it is full for ten seconds, the answer is 503. Playlists have 64 MiB beside it.
    pub source_memory: ByteSize,
    /// What popular titles lack in the cache, made while nobody waits for anything.
    pub background: RawBackground,
    /// What every title is offered in, beside H.264: `hevc` and `av1`, where ffmpeg has them. Default: what hardware makes, and of
    /// titles that were optimised all; made by software on demand they take more of the processor than they save.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codecs: Option<Vec<RawCodec>>,
    /// What may encode, the preferred first. Of what works the first is taken for each codec; H.264 is made by software where nothing
    /// else may.
    #[schemars(length(min = 1))]
    pub encoders: Vec<RawFamily>,
    /// Segments made at once on each GPU; default: 4, and 8 where all are for data centres. One that says that it is full is given less.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub device_jobs: Option<u16>,
    /// The program `reelgate-transcoder`; default: beside `reelgate`, else from PATH.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "non-empty"))]
    pub program: Option<String>,
    /// Transcoders on other hosts, the preferred first: `https://gpu.lan:9443`. Each mounts the same films. They need `tls`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), transform = items("https-server"))]
    pub servers: Vec<String>,
    /// Whether one is also started on this host. Beside `servers` it makes what none of them can, and by default it is there where
    /// `reelgate-transcoder`, `ffmpeg` and `ffprobe` are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<bool>,
    /// How the edge and `servers` know each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<RawTranscodeTls>,
}

impl Default for RawTranscode {
    fn default() -> Self {
        use RawFamily::{Amf, Nvenc, Qsv, Software, Vaapi};
        Self {
            enabled: true,
            jobs: None,
            queue: 32,
            ahead: ByteSize::mib(64),
            source_memory: ByteSize::mib(256),
            background: RawBackground::default(),
            codecs: None,
            encoders: vec![Nvenc, Qsv, Amf, Vaapi, Software],
            device_jobs: None,
            program: None,
            servers: Vec::new(),
            local: None,
            tls: None,
        }
    }
}

/// `transcode.background`
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
pub struct RawBackground {
    /// Whether the rest of what is watched is made ahead, for the cache.
    pub enabled: bool,
    /// Of a title so much must have been watched lately, by one or by many; what was watched three days ago counts half.
    #[schemars(extend("format" = "positive-time-span"))]
    pub after: TimeSpan,
    /// Titles at most, the most watched ones.
    #[schemars(range(min = 1, max = 1000))]
    pub titles: u16,
    /// Bytes that these titles may have in the cache; default: a tenth of the disks, or of `cache.memory` where there is no disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// Share of the time in which the transcoder works at it, 0 to 1, where nobody waits for anything.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub share: f64,
    /// Whether these titles are optimised first, as by `reelgate optimise`: fewer bits for the same picture, for much more of the
    /// processor's time, also when a segment is wanted that the cache has not got.
    pub optimise: bool,
}

impl Default for RawBackground {
    fn default() -> Self {
        Self { enabled: true, after: TimeSpan::secs(600), titles: 10, size: None, share: 0.5, optimise: false }
    }
}

/// `transcode.codecs[]`
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawCodec {
    H264,
    Hevc,
    Av1,
}

/// `transcode.encoders[]`
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RawFamily {
    Nvenc,
    Qsv,
    Amf,
    Vaapi,
    Software,
}

/// `transcode.tls`: PEM files, read again when they change.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["ca", "cert", "key"]))]
pub struct RawTranscodeTls {
    /// PEM file of the authority that the servers' certificates are from. No other is trusted.
    #[schemars(extend("format" = "non-empty"))]
    pub ca: String,
    /// PEM file of the edge's own certificate, the chain after it, for the servers to know it by.
    #[schemars(extend("format" = "non-empty"))]
    pub cert: String,
    /// PEM file of its private key.
    #[schemars(extend("format" = "non-empty"))]
    pub key: String,
}
