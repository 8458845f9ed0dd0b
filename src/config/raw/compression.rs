//! `compression` and `sites[].compression` as typed.

use super::super::units::ByteSize;
use super::items;
use crate::http::content_coding::types;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `compression`
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawCompression {
    /// Whether Reelgate compresses anything.
    pub enabled: bool,
    /// What is made, in the order of preference where a client likes several the same.
    #[schemars(length(min = 1))]
    pub codings: Vec<RawCoding>,
    /// Media types that are compressed: whole, `text/*`, or `*+json`. What is compressed already (films, music, photographs,
    /// archives) never is, whatever stands here.
    #[schemars(transform = items("media-type"))]
    pub types: Vec<String>,
    /// Smaller answers of known length stay as they are.
    pub min_size: ByteSize,
    /// Larger stored answers stay as they are.
    pub max_size: ByteSize,
    /// How hard the first compressed form is worked on: higher is smaller and slower.
    pub levels: RawLevels,
    /// Hits of a compressed form after which it is made again in the background, by `popular_levels`; 0: never.
    pub popular_after: u32,
    /// How hard the form of a popular answer is worked on.
    pub popular_levels: RawPopularLevels,
    /// What the origin is asked for: `recode` asks for any coding Reelgate can undo and keeps the plain answer, `pass` hands on
    /// the client's `Accept-Encoding` and keeps answers as they came, `identity` asks for plain answers.
    pub origin: RawOriginCoding,
    /// Whether answers that are not kept are compressed on their way. Not where pages hold secrets beside what a request says
    /// (BREACH).
    pub uncached: bool,
}

impl Default for RawCompression {
    fn default() -> Self {
        Self {
            enabled: true,
            codings: vec![RawCoding::Br, RawCoding::Zstd, RawCoding::Gzip],
            types: types::DEFAULT.map(str::to_owned).to_vec(),
            min_size: ByteSize::kib(1),
            max_size: ByteSize::mib(16),
            levels: RawLevels::default(),
            popular_after: 16,
            popular_levels: RawPopularLevels::default(),
            origin: RawOriginCoding::Recode,
            uncached: true,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawCoding {
    Br,
    Zstd,
    Gzip,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawOriginCoding {
    Recode,
    Pass,
    Identity,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawLevels {
    /// Brotli's level, 0 to 11.
    #[schemars(range(max = 11))]
    pub br: u32,
    /// Zstandard's level, 1 to 19.
    #[schemars(range(min = 1, max = 19))]
    pub zstd: u32,
    /// The level of gzip, 1 to 9.
    #[schemars(range(min = 1, max = 9))]
    pub gzip: u32,
}

impl Default for RawLevels {
    fn default() -> Self {
        Self { br: 5, zstd: 6, gzip: 6 }
    }
}

/// As [`RawLevels`], with defaults of its own.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawPopularLevels {
    /// Brotli's level, 0 to 11.
    #[schemars(range(max = 11))]
    pub br: u32,
    /// Zstandard's level, 1 to 19.
    #[schemars(range(min = 1, max = 19))]
    pub zstd: u32,
    /// The level of gzip, 1 to 9.
    #[schemars(range(min = 1, max = 9))]
    pub gzip: u32,
}

impl Default for RawPopularLevels {
    fn default() -> Self {
        Self { br: 11, zstd: 19, gzip: 9 }
    }
}

/// `sites[].compression`: what is absent is as in `compression`.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawSiteCompression {
    /// Replaces `compression.enabled` for this site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Replaces `compression.types` for this site.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = items("media-type"))]
    pub types: Option<Vec<String>>,
    /// Replaces `compression.min_size` for this site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size: Option<ByteSize>,
    /// Replaces `compression.max_size` for this site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<ByteSize>,
    /// Replaces `compression.origin` for this site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<RawOriginCoding>,
    /// Replaces `compression.uncached` for this site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncached: Option<bool>,
}
