//! A film's tracks of sound and subtitles, from what ffprobe said: which are offered, and why the others are not.

use crate::media::fraction::Fraction;
use crate::transcode::protocol::{AUDIO_MAX, Audio, LEFT_OUT_MAX, LeftOut, TEXT_MAX, Text};
use serde::Deserialize;
use std::collections::HashSet;

/// Codecs whose packets all hold as many samples, so that counting them says where they begin.
const EVEN_PACKETS: [&str; 10] = ["aac", "ac3", "alac", "dts", "eac3", "flac", "mp2", "mp3", "wmav1", "wmav2"];
const TEXT_CODECS: [&str; 6] = ["ass", "mov_text", "ssa", "subrip", "text", "webvtt"];
const PICTURE_CODECS: [&str; 4] = ["dvb_subtitle", "dvd_subtitle", "hdmv_pgs_subtitle", "xsub"];
/// Bytes of a title or a language kept.
const WORDS_CHARACTERS_MAX: usize = 64;

#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    index: u32,
    codec_type: Option<String>,
    codec_name: Option<String>,
    channels: Option<u32>,
    sample_rate: Option<String>,
    time_base: Option<String>,
    start_pts: Option<i64>,
    #[serde(default)]
    disposition: Disposition,
    #[serde(default)]
    tags: Tags,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Disposition {
    default: u8,
    forced: u8,
    comment: u8,
    hearing_impaired: u8,
    visual_impaired: u8,
    descriptions: u8,
}

#[derive(Default, Deserialize)]
struct Tags {
    language: Option<String>,
    title: Option<String>,
}

/// The tracks beside the pictures.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tracks {
    pub audio: Vec<Audio>,
    pub text: Vec<Text>,
    pub left_out: Vec<LeftOut>,
}

/// `json`: ffprobe's. `decodable`: names of codecs; None: not known, so everything is tried.
pub fn read(json: &[u8], decodable: Option<&HashSet<String>>) -> Tracks {
    let said: Said = serde_json::from_slice(json).unwrap_or_default();
    let mut tracks = Tracks::default();
    for stream in said.streams {
        let kind = match stream.codec_type.as_deref() {
            Some("audio") => "audio",
            Some("subtitle") => "text",
            _ => continue,
        };
        let (index, said) = (stream.index, language(stream.tags.language.clone()));
        let taken = if kind == "audio" {
            audio(stream, decodable, tracks.audio.len()).map(|audio| tracks.audio.push(audio))
        } else {
            text(stream, decodable, tracks.text.len()).map(|text| tracks.text.push(text))
        };
        if let Err(reason) = taken
            && tracks.left_out.len() < LEFT_OUT_MAX
        {
            tracks.left_out.push(LeftOut { stream: index, kind: kind.into(), language: said, reason });
        }
    }
    tracks
}

/// Its codec's name, if it can be decoded.
fn codec(stream: &Stream, decodable: Option<&HashSet<String>>) -> Result<String, String> {
    let name = stream.codec_name.clone().filter(|name| name != "unknown").ok_or("its codec is unknown")?;
    match decodable {
        Some(known) if !known.contains(&name) => Err(format!("ffmpeg cannot decode {}", words(&name))),
        _ => Ok(name),
    }
}

fn audio(stream: Stream, decodable: Option<&HashSet<String>>, taken: usize) -> Result<Audio, String> {
    let codec = codec(&stream, decodable)?;
    let channels = stream.channels.filter(|channels| *channels > 0).ok_or("it says of no channels")?;
    if taken == AUDIO_MAX {
        return Err(format!("a film has at most {AUDIO_MAX} tracks here"));
    }
    let base = stream.time_base.as_deref().and_then(Fraction::parse);
    let rate = stream.sample_rate.as_deref().and_then(Fraction::parse);
    // Ticks of more than a sample cannot say where a packet begins.
    let coarse = base.zip(rate).and_then(|(base, rate)| base.times(rate)).is_some_and(|samples| samples.as_f64() > 1.0);
    let start = stream.start_pts.zip(base).and_then(|(start, base)| Fraction::new(start, 1)?.times(base));
    let counted_from = start.filter(|_| coarse && EVEN_PACKETS.contains(&codec.as_str()));
    let title = words(&stream.tags.title.unwrap_or_default());
    let said = title.to_lowercase();
    Ok(Audio {
        stream: stream.index,
        codec: words(&codec),
        language: language(stream.tags.language),
        channels,
        default: stream.disposition.default != 0,
        commentary: stream.disposition.comment != 0 || said.contains("commentary"),
        descriptive: stream.disposition.visual_impaired != 0 || stream.disposition.descriptions != 0,
        uncertain: coarse && counted_from.is_none(),
        counted_from,
        title,
    })
}

fn text(stream: Stream, decodable: Option<&HashSet<String>>, taken: usize) -> Result<Text, String> {
    let codec = codec(&stream, decodable)?;
    if PICTURE_CODECS.contains(&codec.as_str()) {
        return Err(format!("it cannot be shown as text: {codec} are pictures"));
    }
    if !TEXT_CODECS.contains(&codec.as_str()) {
        return Err(format!("{} cannot be made WebVTT", words(&codec)));
    }
    if taken == TEXT_MAX {
        return Err(format!("a film has at most {TEXT_MAX} tracks of subtitles here"));
    }
    let title = words(&stream.tags.title.unwrap_or_default());
    let said = title.to_lowercase();
    Ok(Text {
        stream: stream.index,
        language: language(stream.tags.language),
        forced: stream.disposition.forced != 0 || said.contains("forced"),
        hearing_impaired: stream.disposition.hearing_impaired != 0 || said.split(' ').any(|word| word == "sdh"),
        title,
    })
}

fn language(said: Option<String>) -> String {
    said.map(|language| words(&language)).filter(|language| !language.is_empty()).unwrap_or_else(|| "und".into())
}

/// A file's own words, in bounds.
fn words(said: &str) -> String {
    said.chars().filter(|character| !character.is_control()).take(WORDS_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_track_is_offered_or_has_a_reason() {
        let json = r#"{"streams":[
            {"index":0,"codec_type":"video","codec_name":"h264"},
            {"index":1,"codec_type":"audio","codec_name":"ac3","channels":6,"sample_rate":"48000","time_base":"1/1000","start_pts":7,
             "disposition":{"default":1},"tags":{"language":"eng","title":"5.1\n"}},
            {"index":2,"codec_type":"audio","codec_name":"vorbis","channels":2,"sample_rate":"48000","time_base":"1/1000","start_pts":7,
             "tags":{"title":"Director's Commentary"}},
            {"index":3,"codec_type":"audio","codec_name":"aac","channels":1,"sample_rate":"48000","time_base":"1/48000","start_pts":0,
             "disposition":{"visual_impaired":1}},
            {"index":4,"codec_type":"audio","codec_name":"ac4","channels":2},
            {"index":5,"codec_type":"audio","channels":2},
            {"index":6,"codec_type":"audio","codec_name":"aac","channels":0},
            {"index":7,"codec_type":"subtitle","codec_name":"subrip","disposition":{"forced":1},"tags":{"language":"fre"}},
            {"index":8,"codec_type":"subtitle","codec_name":"hdmv_pgs_subtitle"},
            {"index":9,"codec_type":"subtitle","codec_name":"eia_608"},
            {"index":10,"codec_type":"subtitle","codec_name":"ass","tags":{"title":"English SDH"}}]}"#;
        let known = ["ac3", "vorbis", "aac", "subrip", "ass", "hdmv_pgs_subtitle", "eia_608"].map(str::to_owned);
        let tracks = read(json.as_bytes(), Some(&known.into_iter().collect()));
        let audio: Vec<_> =
            tracks.audio.iter().map(|a| (a.stream, a.commentary, a.descriptive, a.counted_from, a.uncertain)).collect();
        let seven = Fraction::parse("7/1000");
        assert_eq!(
            audio,
            [(1, false, false, seven, false), (2, true, false, None, true), (3, false, true, None, false)]
        );
        let first = &tracks.audio[0];
        assert_eq!(
            (first.title.as_str(), first.language.as_str(), first.channels, first.default),
            ("5.1", "eng", 6, true)
        );
        let text: Vec<_> = tracks.text.iter().map(|t| (t.stream, t.forced, t.hearing_impaired)).collect();
        assert_eq!(text, [(7, true, false), (10, false, true)]);
        let left_out: Vec<_> = tracks.left_out.iter().map(|l| (l.stream, l.kind.as_str(), l.reason.as_str())).collect();
        assert_eq!(
            left_out,
            [
                (4, "audio", "ffmpeg cannot decode ac4"),
                (5, "audio", "its codec is unknown"),
                (6, "audio", "it says of no channels"),
                (8, "text", "it cannot be shown as text: hdmv_pgs_subtitle are pictures"),
                (9, "text", "eia_608 cannot be made WebVTT"),
            ]
        );
    }

    #[test]
    fn a_film_of_a_thousand_tracks_has_a_few() {
        let stream =
            |index: u32| format!(r#"{{"index":{index},"codec_type":"audio","codec_name":"aac","channels":2}}"#);
        let json = format!("{{\"streams\":[{}]}}", (0..1000).map(stream).collect::<Vec<_>>().join(","));
        let tracks = read(json.as_bytes(), None);
        assert_eq!((tracks.audio.len(), tracks.left_out.len()), (AUDIO_MAX, LEFT_OUT_MAX));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            read(&bytes, None);
        }
    }
}
