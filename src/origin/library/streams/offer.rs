//! What a film is offered as: its renditions by name, and what has to be asked of the sidecar for a file of one.
//!
//! Invariants: a rendition's name depends on its track (its number in the file, or the name of the file of subtitles) and on nothing else;
//! a file has one spelling.

use super::super::facts::rounded;
use super::subtitles::SubtitleFile;
use crate::media::aac::Layout;
use crate::media::codec::Codec;
use crate::media::grid::Grid;
use crate::media::ladder::{Rung, SOURCE};
use crate::media::renditions::{Audio, Renditions, Said, Text, labels};
use crate::source::Stamp;
use crate::transcode::protocol::{Film, RECIPE, Wanted};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What a title is offered in.
#[derive(Debug)]
pub struct Offer {
    pub grid: Grid,
    pub rungs: Vec<Rung>,
    /// Of audio and the film's own subtitles.
    pub version: String,
    /// Of the video of each codec.
    versions: BTreeMap<Codec, String>,
    audio: Vec<(Audio, u32)>,
    text: Vec<(Text, TextFrom)>,
}

/// Where subtitles come from.
#[derive(Debug, Clone)]
pub enum TextFrom {
    Stream(u32),
    File(SubtitleFile),
}

/// A rendition, found by its name.
#[derive(Debug)]
pub enum Found<'a> {
    Video(&'a Rung),
    Audio(&'a Audio, u32),
    Text(&'a Text, &'a TextFrom),
}

/// One file of a rendition.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// The same for all titles: the sidecar is not asked.
    AudioInit(Layout),
    Of(Wanted),
}

impl Offer {
    /// `files`: subtitles that lie beside the film. `codecs`: what every title is
    /// offered in, where it can be; None: what is worth it.
    pub fn new(film: &Film, stamp: &Stamp, codecs: Option<&[Codec]>, files: Vec<SubtitleFile>) -> Self {
        let version = version(&[&stamp.to_bytes(), film.build.as_bytes()]);
        let versions =
            film.encoders.iter().map(|(codec, encoder)| (*codec, video_version(film, stamp, *codec, encoder)));
        let versions = versions.collect();
        let said = |language: &str, title: &str| Said { language: language.to_owned(), title: title.to_owned() };
        let tracks: Vec<Said> = film.audio.iter().map(|audio| said(&audio.language, &audio.title)).collect();
        let main = film.audio.iter().filter(|audio| !audio.commentary).min_by_key(|audio| !audio.default);
        let main = main.or(film.audio.first()).map(|audio| audio.stream);
        let mut stereo = Vec::new();
        let mut surround = Vec::new();
        for (track, label) in film.audio.iter().zip(labels(&tracks)) {
            let rendition = Audio {
                name: format!("audio-{}", track.stream),
                label,
                language: crate::media::language::tag(&track.language),
                layout: Layout::Stereo,
                default: main == Some(track.stream),
                commentary: track.commentary,
                descriptive: track.descriptive,
            };
            if let Some(layout) = Layout::surround_of(track.channels) {
                let name = format!("{}-surround", rendition.name);
                surround.push((Audio { name, layout, ..rendition.clone() }, track.stream));
            }
            stereo.push((rendition, track.stream));
        }
        stereo.extend(surround);

        let own = film.text.iter().map(|text| said(&text.language, &text.title));
        let tracks: Vec<Said> = own.chain(files.iter().map(|file| said(&file.language, &file.title))).collect();
        let labels = labels(&tracks);
        let tags = tracks.iter().map(|track| crate::media::language::tag(&track.language));
        let own = film.text.iter().map(|text| {
            let name = format!("text-{}", text.stream);
            (name, (text.forced, text.hearing_impaired), version.clone(), TextFrom::Stream(text.stream))
        });
        let beside = files.into_iter().map(|file| {
            let version = self::version(&[version.as_bytes(), &file.stamp.to_bytes()]);
            (file.rendition(), (file.forced, file.hearing_impaired), version, TextFrom::File(file))
        });
        let text = own.chain(beside).zip(labels).zip(tags).map(|(((name, flags, version, from), label), language)| {
            let (forced, hearing_impaired) = flags;
            let whole = matches!(from, TextFrom::File(_));
            (Text { name, label, language, forced, hearing_impaired, whole, version }, from)
        });
        let text = text.collect();
        let rungs = film.rungs().into_iter().filter(|rung| is_offered(film, rung.codec, codecs)).collect();
        Self { grid: film.grid, rungs, version, versions, audio: stereo, text }
    }

    /// For the writers of manifests.
    pub fn renditions(&self) -> Renditions<'_> {
        Renditions {
            grid: &self.grid,
            rungs: &self.rungs,
            version: &self.version,
            versions: self.versions.iter().map(|(codec, version)| (*codec, version.as_str())).collect(),
            audio: self.audio.iter().map(|(audio, _)| audio.clone()).collect(),
            text: self.text.iter().map(|(text, _)| text.clone()).collect(),
        }
    }

    /// A rendition by its name.
    pub fn find(&self, name: &str) -> Option<Found<'_>> {
        let video = || self.rungs.iter().find(|rung| rung.name == name).map(Found::Video);
        let audio = || self.audio.iter().find(|(audio, _)| audio.name == name).map(|(a, s)| Found::Audio(a, *s));
        let text = || self.text.iter().find(|(text, _)| text.name == name).map(|(text, from)| Found::Text(text, from));
        video().or_else(audio).or_else(text)
    }

    /// Whether a path names no rendition of this title, or one of this offer, and this version of it.
    pub fn has(&self, rest: &[&str]) -> bool {
        match rest {
            [SOURCE, "index.m3u8"] => true,
            [SOURCE, version, _] => self.versions.get(&Codec::H264).is_some_and(|own| own == version),
            [name, "index.m3u8"] => self.find(name).is_some(),
            [name, version, _] => self.find(name).is_some_and(|found| self.version_of(&found) == *version),
            _ => true,
        }
    }

    /// The version a rendition's files lie under.
    pub fn version_of<'a>(&'a self, found: &Found<'a>) -> &'a str {
        match found {
            Found::Text(text, _) => &text.version,
            Found::Video(rung) => self.versions.get(&rung.codec).unwrap_or(&self.version),
            Found::Audio(..) => &self.version,
        }
    }

    /// What a file of a rendition is; None: there is none of that name.
    pub fn asked(&self, found: &Found, file: &str) -> Option<Asked> {
        let boxes = |kind: &str| number(file, kind, self.grid.segments());
        Some(match found {
            Found::Video(rung) if file == "init.mp4" => Asked::Of(Wanted::Init { rung: rung.name.to_owned() }),
            Found::Video(rung) => Asked::Of(Wanted::Video { rung: rung.name.to_owned(), segment: boxes(".m4s")? }),
            Found::Audio(audio, _) if file == "init.mp4" => Asked::AudioInit(audio.layout),
            Found::Audio(audio, stream) => {
                Asked::Of(Wanted::Audio { stream: *stream, layout: audio.layout, segment: boxes(".m4s")? })
            }
            Found::Text(_, TextFrom::Stream(stream)) => {
                Asked::Of(Wanted::Text { stream: *stream, segment: number(file, ".vtt", self.grid.text_segments())? })
            }
            Found::Text(_, TextFrom::File(beside)) => {
                number(file, ".vtt", 1)?;
                Asked::Of(Wanted::TextFile { format: beside.format })
            }
        })
    }

    /// What there is, and what there is not and why, for people and pages: `streams.json`.
    pub fn described(&self, film: &Film) -> String {
        let video = self.rungs.iter().map(|rung| {
            let mut said = json!({"name": rung.name, "width": rung.width, "height": rung.height, "bits_per_s": rung.bits_per_s,
                "codec": rung.codec()});
            if let Some(aim) = &rung.aim {
                said["quality"] = json!({"crf": aim.crf, "score": f64::from(aim.score_milli) / 1000.0});
            }
            said
        });
        let audio = self.audio.iter().map(|(audio, _)| {
            json!({"name": audio.name, "label": audio.label, "language": audio.language, "channels": audio.layout.channels(),
                   "codec": crate::media::playlist::AUDIO_CODEC,
                   "default": audio.default, "commentary": audio.commentary, "descriptive": audio.descriptive})
        });
        let text = self.text.iter().map(|(text, _)| {
            json!({"name": text.name, "label": text.label, "language": text.language, "forced": text.forced,
                   "hearing_impaired": text.hearing_impaired})
        });
        json!({
            "duration_s": rounded(self.grid.time_of(self.grid.frames).as_f64()),
            "frame_rate": rounded(self.grid.frame_rate.as_f64()),
            "video": video.collect::<Vec<_>>(),
            "audio": audio.collect::<Vec<_>>(),
            "text": text.collect::<Vec<_>>(),
            "left_out": film.left_out,
            "optimised": film.plan.as_ref().map(|plan| json!({
                "measure": plan.measure,
                "saved_percent": f64::from(plan.saved_permille) / 10.0,
                "saved_h264_percent": f64::from(plan.saved_h264_permille) / 10.0,
            })),
        })
        .to_string()
    }
}

/// Whether a title's playlists have a codec. H.264 is for everybody. `codecs` are those an operator wants for all titles; where he
/// does not say: what hardware makes, and what a title was optimised for. Made by software on demand, HEVC needs as many bits as
/// H.264 and twice the work, AV1 three times the work (`benches/quality`): that is worth it only where it is done once, ahead.
fn is_offered(film: &Film, codec: Codec, codecs: Option<&[Codec]>) -> bool {
    match codecs {
        _ if codec == Codec::H264 => true,
        Some(codecs) => codecs.contains(&codec),
        // Software's encoders are libraries, by their names too.
        None => film.plan.is_some() || film.encoders.get(&codec).is_some_and(|encoder| !encoder.starts_with("lib")),
    }
}

/// Made anew where the film, its encoder or how it is told to encode is another one.
fn video_version(film: &Film, stamp: &Stamp, codec: Codec, encoder: &str) -> String {
    let Some(plan) = &film.plan else {
        return version(&[&stamp.to_bytes(), encoder.as_bytes(), film.build.as_bytes()]);
    };
    let aims = plan.aims.iter().filter(|aim| aim.codec == codec);
    let aims = aims.map(|aim| format!("{} {} {};", aim.size, aim.crf, aim.bits_per_s_max)).collect::<String>();
    version(&[&stamp.to_bytes(), film.build.as_bytes(), b"plan", aims.as_bytes()])
}

/// The number of a segment: one spelling only, others would be other objects in the cache.
fn number(file: &str, extension: &str, segments: u64) -> Option<u64> {
    let digits = file.strip_suffix(extension)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse::<u64>().ok().filter(|segment| plain && *segment < segments)
}

/// What the bytes of segments depend on, hashed.
fn version(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    hash.update(RECIPE.to_be_bytes());
    parts.iter().for_each(|part| hash.update(part));
    hex::encode(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::fraction::Fraction;
    use crate::media::quality::{Aim, Measure, Plan};
    use crate::transcode::protocol;

    fn sound(stream: u32, channels: u32, default: bool, commentary: bool) -> protocol::Audio {
        protocol::Audio {
            stream,
            codec: "aac".into(),
            language: "eng".into(),
            title: String::new(),
            channels,
            default,
            commentary,
            descriptive: false,
            counted_from: None,
            uncertain: false,
        }
    }

    fn offer() -> Offer {
        let stamp = Stamp { inode: 1, modified_s: 2, modified_ns: 3, bytes: 4 };
        let file = SubtitleFile::named(b"Film", b"Film.en.srt".as_slice(), stamp).unwrap();
        Offer::new(&film(), &stamp, None, vec![file])
    }

    fn film() -> Film {
        Film {
            video_stream: 0,
            codec: "hevc".into(),
            demuxer: crate::media::demuxer::Demuxer::Indexed,
            lead_ms: 0,
            width: 640,
            height: 360,
            start: Fraction::parse("0").unwrap(),
            sound_start: Fraction::parse("0").unwrap(),
            file_start: Fraction::parse("0").unwrap(),
            grid: Grid { frame_rate: Fraction::parse("25").unwrap(), frames: 250 },
            picture: protocol::Picture {
                colours: protocol::Colours::Bt709,
                interlaced: false,
                turned: false,
                quarter_turns: 0,
                transparent: false,
                plain: false,
            },
            audio: vec![sound(1, 2, true, true), sound(2, 6, false, false)],
            text: vec![protocol::Text {
                stream: 3,
                language: "fre".into(),
                title: String::new(),
                forced: false,
                hearing_impaired: false,
            }],
            left_out: vec![],
            encoders: [(crate::media::codec::Codec::H264, "libx264".to_owned())].into(),
            build: "x".into(),
            plan: None,
        }
    }

    #[test]
    fn codecs_are_offered_where_they_are_worth_it_and_a_plan_makes_only_its_own_video_anew() {
        let stamp = Stamp { inode: 1, modified_s: 2, modified_ns: 3, bytes: 4 };
        let encoders: BTreeMap<Codec, String> =
            [(Codec::H264, "libx264"), (Codec::Hevc, "hevc_nvenc"), (Codec::Av1, "libsvtav1")]
                .map(|(codec, encoder)| (codec, encoder.to_owned()))
                .into();
        let plain = Film { encoders, ..film() };
        let of = |film: &Film, codecs| Offer::new(film, &stamp, codecs, vec![]);
        let names = |offer: &Offer| offer.rungs.iter().map(|rung| rung.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&of(&plain, None)), ["240p", "360p", "240p-hevc", "360p-hevc"], "hardware's");
        assert_eq!(names(&of(&plain, Some(&[Codec::Av1]))), ["240p", "360p", "240p-av1", "360p-av1"], "as told");
        let aim = |codec| Aim {
            size: "360p".into(),
            codec,
            crf: 30,
            bits_per_s: 100_000,
            bits_per_s_max: 200_000,
            score_milli: 90_000,
        };
        let aims = vec![aim(Codec::H264), aim(Codec::Av1)];
        let plan = Plan { policy: 1, measure: Measure::Ssim, saved_permille: 500, saved_h264_permille: 200, aims };
        let planned = Film { plan: Some(plan), ..plain.clone() };
        let (before, after) = (of(&plain, None), of(&planned, None));
        assert_eq!(names(&after), ["360p", "360p-av1"]);
        assert_eq!(before.version, after.version, "sound and subtitles stay");
        assert_ne!(before.versions[&Codec::H264], after.versions[&Codec::H264]);
        let old = before.versions[&Codec::H264].as_str();
        assert!(after.has(&["360p", "index.m3u8"]) && after.has(&["master.m3u8"]));
        assert!(!after.has(&["360p", old, "0.m4s"]) && before.has(&["360p", old, "0.m4s"]), "who plays goes on");
        assert!(!after.has(&["240p", "index.m3u8"]) && before.has(&["240p", "index.m3u8"]));
    }

    #[test]
    fn renditions_are_named_after_their_tracks() {
        let offer = offer();
        let title = offer.renditions();
        let names: Vec<_> = title.audio.iter().map(|a| (a.name.as_str(), a.label.as_str(), a.default)).collect();
        // Somebody who talks about the film is not what it begins with, whatever the file says.
        let expected = [
            ("audio-1", "English", false),
            ("audio-2", "English (2)", true),
            ("audio-2-surround", "English (2)", true),
        ];
        assert_eq!(names, expected);
        let text: Vec<_> = title.text.iter().map(|t| (t.label.as_str(), t.whole)).collect();
        assert_eq!((text, title.text[0].name.as_str()), (vec![("French", false), ("English", true)], "text-3"));
        assert!(title.text[1].name.starts_with("text-file-") && title.text[1].version != title.version);
    }

    #[test]
    fn a_segment_has_one_spelling() {
        let offer = offer();
        let file = offer.renditions().text[1].name.clone();
        let asked = |name: &str, file: &str| offer.find(name).and_then(|found| offer.asked(&found, file));
        for (name, there, missing) in [
            ("360p", "2.m4s", "3.m4s"),
            ("audio-2-surround", "0.m4s", "0.vtt"),
            ("text-3", "0.vtt", "1.vtt"),
            (&file, "0.vtt", "init.mp4"),
        ] {
            assert!(asked(name, there).is_some() && asked(name, missing).is_none(), "{name}");
        }
        assert_eq!(asked("audio-2-surround", "init.mp4"), Some(Asked::AudioInit(Layout::Surround)));
        assert!(asked("360p", "init.mp4").is_some() && asked("audio-9", "0.m4s").is_none());
        for file in ["00.m4s", "01.m4s", "+1.m4s", "-1.m4s", ".m4s", "1", "1.mp4", "99999999999999999999.m4s"] {
            assert!(asked("360p", file).is_none() && asked("audio-1", file).is_none(), "{file}");
        }
    }
}
