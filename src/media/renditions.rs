//! What a title is offered as: rungs of video, audio in groups, subtitles. Both manifests are written from this, so they cannot differ.
//!
//! Invariants: labels are plain text and unique; at most one audio rendition of a group is the default, and exactly one where
//! there are any; every audio track is in every group.

use super::aac::Layout;
use super::codec::Codec;
use super::grid::Grid;
use super::ladder::Rung;
use super::language;
use std::collections::BTreeMap;

/// Characters of a label.
const LABEL_CHARACTERS_MAX: usize = 64;

/// What a file says of a track, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// ISO 639-2, a language tag, or nothing that is known.
    pub language: String,
    pub title: String,
}

/// A rendition of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audio {
    /// Its folder beside those of the rungs: `audio-1`.
    pub name: String,
    pub label: String,
    /// BCP 47; None: unknown.
    pub language: Option<String>,
    pub layout: Layout,
    pub default: bool,
    /// Somebody talks about the film.
    pub commentary: bool,
    /// Somebody tells what is to be seen.
    pub descriptive: bool,
}

/// A rendition of subtitles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// `text-3`, `text-file-0123abcd`.
    pub name: String,
    pub label: String,
    pub language: Option<String>,
    /// Shown without being asked for: only what is said in another language.
    pub forced: bool,
    /// Sounds are described too.
    pub hearing_impaired: bool,
    /// One segment over the whole title, instead of one a minute.
    pub whole: bool,
    /// Where its segments lie: a file beside the film has a version of its own.
    pub version: String,
}

/// Everything that a title is offered in.
#[derive(Debug)]
pub struct Renditions<'a> {
    pub grid: &'a Grid,
    pub rungs: &'a [Rung],
    /// The version of audio, and of video where it has no other: a folder in each rendition's.
    pub version: &'a str,
    /// Of the video of each codec: one may be made anew while the others stay.
    pub versions: BTreeMap<Codec, &'a str>,
    /// Every track in stereo, then those that have surround. [`Self::groups`] arranges them.
    pub audio: Vec<Audio>,
    pub text: Vec<Text>,
}

/// Renditions of which a player takes one.
#[derive(Debug)]
pub struct Group<'a> {
    pub id: &'static str,
    pub renditions: Vec<&'a Audio>,
}

impl Group<'_> {
    /// Bits a second of its largest rendition.
    pub fn bits_per_s(&self) -> u32 {
        self.renditions.iter().map(|audio| audio.layout.peak_bits_per_s()).max().unwrap_or(0)
    }
}

impl Renditions<'_> {
    /// Of the segments of pictures in a codec.
    pub fn version_of(&self, codec: Codec) -> &str {
        self.versions.get(&codec).copied().unwrap_or(self.version)
    }

    /// Stereo; and where a track has more, a second group with the most of every track.
    pub fn groups(&self) -> Vec<Group<'_>> {
        let stereo: Vec<&Audio> = self.audio.iter().filter(|audio| audio.layout == Layout::Stereo).collect();
        if stereo.is_empty() {
            return Vec::new();
        }
        // A track's renditions have the same label.
        let most =
            |track: &Audio| self.audio.iter().filter(|audio| audio.label == track.label).max_by_key(|a| a.layout);
        let surround: Vec<&Audio> = stereo.iter().filter_map(|track| most(track)).collect();
        let differs = surround.iter().any(|audio| audio.layout != Layout::Stereo);
        let second = differs.then_some(Group { id: "surround", renditions: surround });
        [Group { id: "audio", renditions: stereo }].into_iter().chain(second).collect()
    }
}

/// A label for each track: its title, else its language, else its number; plain, and no two alike.
pub fn labels(tracks: &[Said]) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for (index, track) in tracks.iter().enumerate() {
        let title = plain(&track.title);
        let tag = language::tag(&track.language);
        let wanted = match tag.as_deref() {
            _ if !title.is_empty() => title,
            Some(tag) => language::name(tag).unwrap_or(tag).to_owned(),
            None => format!("Track {}", index + 1),
        };
        let mut label = wanted.clone();
        let mut number = 2;
        while labels.contains(&label) {
            label = format!("{wanted} ({number})");
            number += 1;
        }
        labels.push(label);
    }
    labels
}

/// What may stand in an attribute of a playlist (RFC 8216 §4.2) and in XML (1.0, §2.2): no quotes, no control characters, one line.
pub fn plain(text: &str) -> String {
    let allowed = |c: &char| !c.is_control() && !matches!(c, '"' | '\u{fffe}' | '\u{ffff}');
    let shown = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(allowed);
    shown.take(LABEL_CHARACTERS_MAX).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(language: &str, title: &str) -> Said {
        Said { language: language.into(), title: title.into() }
    }

    #[test]
    fn labels_are_titles_then_languages_then_numbers() {
        let tracks =
            [said("eng", ""), said("eng", " The \"best\"\nmix "), said("eng", ""), said("und", ""), said("gsw", "")];
        assert_eq!(labels(&tracks), ["English", "The best mix", "English (2)", "Track 4", "gsw"]);
    }

    proptest! {
        #[test]
        fn no_two_labels_are_alike(titles in proptest::collection::vec("[ab\"\n]{0,3}|\\PC{0,80}", 0..12)) {
            let labels = labels(&titles.iter().map(|title| said("fre", title)).collect::<Vec<_>>());
            for (index, label) in labels.iter().enumerate() {
                prop_assert!(!label.is_empty() && !label.contains(['"', '\n', '\r']) && !labels[..index].contains(label));
            }
        }
    }
}
