//! What is known of a film beyond its name and size, as lists and details show it.
//!
//! It is read from what the sidecar said of the film, kept as the JSON it is: the sidecar's own type may say more, and what it does
//! not say is unknown here, never an error.

use crate::transcode::protocol::{programs, sees_more};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// A film that was broken is looked at again after this: the reason may have been the machine's.
const BROKEN_RETRY: Duration = Duration::from_secs(24 * 3600);

/// What is known of a film.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Known {
    /// Not looked into yet.
    #[default]
    Nothing,
    /// It can be streamed.
    Film { facts: Facts, build: Arc<str> },
    /// It cannot, as of this time (seconds since 1970).
    Broken { reason: String, build: Arc<str>, at_s: i64 },
}

/// What lists say of a film.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Facts {
    /// As shown: turned, and with square pixels.
    pub width: u32,
    pub height: u32,
    /// Of its pictures and of its sound, each once, as ffmpeg names them: `hevc`, `ac3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audio_codecs: Vec<String>,
    /// It has a high dynamic range.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hdr: bool,
    /// Frames a second, of the grid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame_rate: Option<f64>,
    /// By its frames, which is truer than what its container says.
    #[serde(skip)]
    pub duration_s: Option<f64>,
    /// Languages (ISO 639-2), each once, in the order of the file.
    pub audio: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subtitles: Vec<String>,
    /// Tracks of the file that are not offered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeftOut {
    /// `audio` or `text`.
    pub kind: String,
    pub language: String,
    pub reason: String,
}

impl Facts {
    /// From what the sidecar said; None: that has not even a size.
    pub fn read(film: &Value) -> Option<Self> {
        let side = |name: &str| film[name].as_u64().and_then(|side| u32::try_from(side).ok()).filter(|side| *side > 0);
        let rate = &film["grid"]["frame_rate"];
        let rate = rate[0].as_f64().zip(rate[1].as_f64()).map(|(frames, seconds)| frames / seconds);
        let rate = rate.filter(|rate| rate.is_finite() && *rate > 0.0);
        let frames = film["grid"]["frames"].as_f64();
        Some(Self {
            width: side("width")?,
            height: side("height")?,
            frame_rate: rate.map(rounded),
            duration_s: frames.zip(rate).map(|(frames, rate)| rounded(frames / rate)),
            codec: film["codec"].as_str().map(str::to_owned),
            audio_codecs: each_once(&film["audio"], "codec", None),
            hdr: matches!(film["picture"]["colours"].as_str(), Some("pq" | "hlg")),
            audio: each_once(&film["audio"], "language", Some("und")),
            subtitles: each_once(&film["text"], "language", Some("und")),
            left_out: film["left_out"].as_array().into_iter().flatten().filter_map(left_out).collect(),
        })
    }
}

fn left_out(track: &Value) -> Option<LeftOut> {
    let word = |name: &str| track[name].as_str().map(str::to_owned);
    Some(LeftOut {
        kind: word("kind")?,
        language: word("language").unwrap_or_else(|| "und".into()),
        reason: word("reason")?,
    })
}

/// What one track says under a name, or each of a list of tracks, and `other` where it says nothing.
fn each_once(tracks: &Value, name: &str, other: Option<&str>) -> Vec<String> {
    let tracks = tracks.as_array().map_or(std::slice::from_ref(tracks), Vec::as_slice);
    let mut said = Vec::new();
    for track in tracks.iter().filter(|track| track.is_object()) {
        let Some(word) = track[name].as_str().or(other) else { continue };
        if !said.iter().any(|known| known == word) {
            said.push(word.to_owned());
        }
    }
    said
}

/// To thousandths: more is noise of the division.
pub fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Whether a refusal of that time should be asked for again.
pub fn refusal_is_old(at_s: i64, now_s: i64) -> bool {
    now_s.saturating_sub(at_s) > BROKEN_RETRY.as_secs().cast_signed()
}

impl Known {
    /// Whether somebody should look into the film (again): `build` is what would look.
    pub fn is_due(&self, build: Option<&str>, now_s: i64) -> bool {
        match self {
            Self::Nothing => true,
            Self::Film { build: by, .. } => build.is_some_and(|build| sees_more(by, build)),
            // No device makes a broken film a good one.
            Self::Broken { build: by, at_s, .. } => {
                build.is_some_and(|build| programs(build) != programs(by)) || refusal_is_old(*at_s, now_s)
            }
        }
    }

    pub fn facts(&self) -> Option<&Facts> {
        if let Self::Film { facts, .. } = self { Some(facts) } else { None }
    }

    pub fn broken(&self) -> Option<&str> {
        if let Self::Broken { reason, .. } = self { Some(reason) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn facts_are_read_from_one_track_or_several_and_from_fields_to_come() {
        let film = json!({"width": 640, "height": 360, "grid": {"frame_rate": [30000, 1001], "frames": 300},
            "audio": {"stream": 1, "language": "eng"}, "later": true, "codec": "hevc", "picture": {"colours": "pq"}});
        let facts = Facts::read(&film).unwrap();
        assert_eq!(
            (facts.width, facts.height, facts.frame_rate, facts.duration_s),
            (640, 360, Some(29.97), Some(10.01))
        );
        assert_eq!((facts.audio, facts.subtitles), (vec!["eng".to_owned()], vec![]));
        assert_eq!((facts.codec.as_deref(), facts.audio_codecs, facts.hdr), (Some("hevc"), vec![], true));
        let film = json!({"width": 1, "height": 2, "audio": [{"language": "fra", "codec": "ac3"}, {}, {"language": "fra"}], "text": [{"language": "deu"}],
            "left_out": [{"stream": 4, "kind": "text", "reason": "why"}, {"stream": 5}]});
        let facts = Facts::read(&film).unwrap();
        let left_out = LeftOut { kind: "text".into(), language: "und".into(), reason: "why".into() };
        assert_eq!(facts.left_out, [left_out]);
        assert_eq!((facts.audio, facts.subtitles), (vec!["fra".into(), "und".into()], vec!["deu".to_owned()]));
        assert_eq!((facts.codec, facts.audio_codecs, facts.hdr), (None, vec!["ac3".to_owned()], false));
        assert_eq!((facts.frame_rate, facts.duration_s), (None, None));
        let silent = Facts::read(&json!({"width": 1, "height": 2, "audio": null})).unwrap();
        assert!(silent.audio.is_empty());
        for film in [json!(null), json!({"width": 0, "height": 1}), json!([1]), json!({"width": -1, "height": 1e30})] {
            assert_eq!(Facts::read(&film), None, "{film}");
        }
    }

    #[test]
    fn another_build_or_a_day_makes_a_film_due() {
        let broken = Known::Broken { reason: "why".into(), build: "5.1".into(), at_s: 1000 };
        assert!(Known::Nothing.is_due(None, 0));
        assert!(!broken.is_due(Some("5.1"), 2000) && !broken.is_due(None, 0));
        assert!(!broken.is_due(Some("5.1 + nvenc + cpu-2"), 2000));
        let film = Known::Film { facts: Facts::default(), build: "5.1 + nvenc + cpu-1".into() };
        assert!(!film.is_due(Some("5.1 + cpu-2"), 0), "a device that went, another processor");
        assert!(film.is_due(Some("5.1 + vaapi + cpu-1"), 0) && film.is_due(Some("6.0 + nvenc + cpu-1"), 0));
        assert!(broken.is_due(Some("6.0"), 2000) && broken.is_due(Some("5.1"), 1000 + 25 * 3600));
    }
}
