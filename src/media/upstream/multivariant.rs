//! Multivariant playlists (RFC 8216 §4.3.4): variants are read, and lines for more of them inserted. An origin's own lines stay as they
//! are, byte by byte.
//!
//! Left alone: playlists that say their variants are encrypted (`EXT-X-SESSION-KEY`), that have variables or pathways; variants that do
//! not say their size and codecs, in high dynamic range, or protected (`HDCP-LEVEL`, which only says what screens may show, is copied).

use super::super::fraction::Fraction;
use super::super::grid::Grid;
use super::super::ladder::{Rung, SIDE_MAX, ladder};
use super::{Unfit, address};
use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// Variants of a playlist; far more than any has.
const VARIANTS_MAX: usize = 200;
/// What sound takes, where nobody says: AAC in stereo, generously.
const SOUND_BITS_PER_S: u64 = 192_000;
/// Frames a second, where nobody says.
const FRAME_RATE: f64 = 30.0;
/// Of pictures.
const SIDES: RangeInclusive<u32> = 16..=SIDE_MAX;
/// Attributes that are the source's: its groups, and what its pictures are.
const COPIED: [&str; 6] = ["AUDIO", "SUBTITLES", "CLOSED-CAPTIONS", "HDCP-LEVEL", "VIDEO-RANGE", "FRAME-RATE"];

/// Which rungs are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// What the ladder lacks below its best rung.
    Auto,
    /// Heights of boxes, as in `240p`.
    Heights(Vec<u32>),
}

impl Wanted {
    /// Whether a rung may be asked for at all.
    pub fn allows(&self, rung: &Rung) -> bool {
        let height = rung.name.trim_end_matches('p').parse();
        match self {
            Self::Auto => true,
            Self::Heights(heights) => height.is_ok_and(|height| heights.contains(&height)),
        }
    }
}

/// A variant, as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant<'a> {
    pub uri: &'a str,
    pub bits_per_s: u64,
    pub width: u32,
    pub height: u32,
    pub frame_rate: f64,
    attributes: Vec<(&'a str, &'a str)>,
    /// Its picture can be decoded, and it says all that is needed.
    is_fit: bool,
}

impl<'a> Variant<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn codecs(&self) -> impl Iterator<Item = &'a str> {
        self.get("CODECS")
            .unwrap_or_default()
            .trim_matches('"')
            .split(',')
            .map(str::trim)
            .filter(|codec| !codec.is_empty())
    }

    /// Sound lies in the same segments as the picture.
    fn is_muxed(&self) -> bool {
        self.get("AUDIO").is_none() && self.codecs().any(|codec| !is_video(codec))
    }

    /// H.264.
    pub fn is_avc(&self) -> bool {
        self.codecs().any(|codec| codec.starts_with("avc"))
    }
}

/// The variants of a multivariant playlist, and where the last one ends. `Unreadable`: it is none.
pub fn variants(text: &str) -> Result<(Vec<Variant<'_>>, usize), Unfit> {
    let mut variants = Vec::new();
    let (mut end, mut at, mut waiting) = (0, 0, None);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        at += line.len();
        let line = line.trim_end_matches(['\r', '\n']).trim_end();
        if index == 0 && line.trim_start_matches('\u{feff}') != "#EXTM3U" {
            return Err(Unfit::Unreadable);
        }
        if let Some(attributes) = line.strip_prefix("#EXT-X-STREAM-INF:") {
            waiting = Some(attributes);
        } else if line.starts_with("#EXT-X-SESSION-KEY") {
            return Err(Unfit::Encrypted);
        } else if line.starts_with("#EXT-X-DEFINE") || line.starts_with("#EXT-X-CONTENT-STEERING") {
            return Err(Unfit::Feature);
        } else if line.starts_with("#EXTINF") || variants.len() == VARIANTS_MAX {
            return Err(Unfit::Unreadable);
        } else if !line.is_empty()
            && !line.starts_with('#')
            && let Some(attributes) = waiting.take()
        {
            variants.push(variant(attributes, line));
            end = at;
        }
    }
    if variants.is_empty() { Err(Unfit::Unreadable) } else { Ok((variants, end)) }
}

fn variant<'a>(text: &'a str, uri: &'a str) -> Variant<'a> {
    let attributes = attributes(text);
    let get = |name: &str| attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let size = get("RESOLUTION").and_then(|size| size.split_once('x'));
    let (width, height) = size.and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?))).unwrap_or((0, 0));
    let rate = get("FRAME-RATE").and_then(|rate| rate.parse().ok()).filter(|rate| (1.0..=240.0).contains(rate));
    let bits_per_s = get("BANDWIDTH").and_then(|bits| bits.parse().ok()).unwrap_or(0);
    let sdr = get("VIDEO-RANGE").is_none_or(|range| range == "SDR");
    let in_bounds = |side: u32| SIDES.contains(&side);
    let plain = get("PATHWAY-ID").is_none() && get("ALLOWED-CPC").is_none() && get("VIDEO").is_none();
    let mut variant =
        Variant { uri, bits_per_s, width, height, frame_rate: rate.unwrap_or(FRAME_RATE), attributes, is_fit: false };
    let decodable =
        variant.codecs().any(|codec| codec.starts_with("avc") || codec.starts_with("hvc") || codec.starts_with("hev"));
    variant.is_fit = sdr && plain && decodable && in_bounds(width) && in_bounds(height) && bits_per_s > 0;
    variant
}

/// An attribute list (§4.2): names and values, quotes included.
fn attributes(mut text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    while let Some((name, rest)) = text.split_once('=') {
        let end = match rest.strip_prefix('"') {
            Some(quoted) => quoted.find('"').map_or(rest.len(), |close| close + 2),
            None => rest.find(',').unwrap_or(rest.len()),
        };
        found.push((name.trim(), &rest[..end]));
        text = rest[end..].trim_start_matches([',', ' ']);
    }
    found
}

fn is_video(codec: &str) -> bool {
    ["avc", "hvc", "hev", "dvh", "dva", "av01", "vp0", "vp8", "vp9"].iter().any(|start| codec.starts_with(start))
}

/// The variant to make others from: the largest picture, then the most bits. Of several with other sound, the first.
pub fn source<'v, 'a>(variants: &'v [Variant<'a>]) -> Option<&'v Variant<'a>> {
    let size = |variant: &Variant<'_>| (u64::from(variant.width) * u64::from(variant.height), variant.bits_per_s);
    variants.iter().filter(|variant| variant.is_fit).rev().max_by_key(|variant| size(variant))
}

/// What is said of a source in the URLs of its rungs: size, and frames in a thousand seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub width: u32,
    pub height: u32,
    pub millihertz: u32,
}

impl Size {
    fn of(source: &Variant<'_>) -> Self {
        Self { width: source.width, height: source.height, millihertz: (source.frame_rate * 1000.0).round() as u32 }
    }

    /// Those below it.
    fn rungs(self) -> Vec<Rung> {
        let Some(frame_rate) = Fraction::new(self.millihertz, 1000) else { return Vec::new() };
        let rungs = ladder(self.width, self.height, &Grid { frame_rate, frames: 1 });
        rungs.into_iter().filter(|rung| rung.height < self.height && rung.width < self.width).collect()
    }

    /// A rung of it, as URLs have it: `240p-1280x720-29970`.
    pub fn named(self, rung: &Rung) -> String {
        format!("{}-{}x{}-{}", rung.name, self.width, self.height, self.millihertz)
    }
}

/// Reads what [`Size::named`] wrote, in this spelling alone.
pub fn rung(name: &str) -> Option<(Rung, Size)> {
    let mut parts = name.split('-');
    let (rung, size, rate) = (parts.next()?, parts.next()?, parts.next()?);
    let (width, height) = size.split_once('x')?;
    let size = Size { width: width.parse().ok()?, height: height.parse().ok()?, millihertz: rate.parse().ok()? };
    let bounded =
        SIDES.contains(&size.width) && SIDES.contains(&size.height) && (1000..=240_000).contains(&size.millihertz);
    let rung = size.rungs().into_iter().filter(|_| bounded).find(|known| known.name == rung)?;
    (size.named(&rung) == name).then_some((rung, size))
}

/// Those of the wanted rungs that are below the source, in size and in bits, and not there.
pub fn missing(variants: &[Variant<'_>], source: &Variant<'_>, wanted: &Wanted) -> Vec<Rung> {
    let wanted = |rung: &Rung| {
        // By itself, nothing that is nearly there is added.
        let near = if *wanted == Wanted::Auto { rung.height / 6 } else { 2 };
        wanted.allows(rung) && variants.iter().all(|known| known.height.abs_diff(rung.height) > near)
    };
    Size::of(source).rungs().into_iter().filter(|rung| wanted(rung) && bits(rung, source) < source.bits_per_s).collect()
}

/// Of its largest segment, with sound.
fn bits(rung: &Rung, source: &Variant<'_>) -> u64 {
    u64::from(rung.peak_bits_per_s()) + sound(source)
}

fn sound(source: &Variant<'_>) -> u64 {
    if source.get("AUDIO").is_some() || source.is_muxed() { SOUND_BITS_PER_S } else { 0 }
}

/// The playlist with the rungs after its last variant, for the source and for each variant of the same picture with other sound.
pub fn insert(text: &str, (variants, end): &(Vec<Variant<'_>>, usize), source: &Variant<'_>, rungs: &[Rung]) -> String {
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let (before, after) = text.split_at(*end);
    let mut lines = String::from(if before.ends_with('\n') { "" } else { ending });
    for rung in rungs {
        for variant in variants.iter().filter(|variant| variant.uri == source.uri && variant.is_fit) {
            let Some(uri) = address::insert(variant.uri, &Size::of(source).named(rung)) else { continue };
            let sound_codecs: Vec<&str> = variant.codecs().filter(|codec| !is_video(codec)).collect();
            let codecs = [&[rung.codec().as_str()], &sound_codecs[..]].concat().join(",");
            let _ = write!(lines, "#EXT-X-STREAM-INF:BANDWIDTH={}", bits(rung, variant));
            if variant.get("AVERAGE-BANDWIDTH").is_some() {
                let _ = write!(lines, ",AVERAGE-BANDWIDTH={}", u64::from(rung.bits_per_s) + sound(variant));
            }
            let _ = write!(lines, ",CODECS=\"{codecs}\",RESOLUTION={}x{}", rung.width, rung.height);
            for name in COPIED {
                if let Some(value) = variant.get(name) {
                    let _ = write!(lines, ",{name}={value}");
                }
            }
            let _ = write!(lines, "{ending}{uri}{ending}");
        }
    }
    [before, &lines, after].concat()
}

#[cfg(test)]
mod tests;
