//! The manifest read back by an XML parser, against the grid it was written from.

use super::*;
use crate::media::aac::Layout;
use crate::media::fraction::Fraction;
use crate::media::ladder::{ladder, rungs};
use crate::media::renditions::{Said, labels};
use proptest::prelude::*;
use quick_xml::Reader;
use std::collections::{BTreeMap, HashMap};

fn sound(name: &str, label: &str, layout: Layout) -> Audio {
    let language = Some("en".to_owned());
    Audio {
        name: name.into(),
        label: label.into(),
        language,
        layout,
        default: true,
        commentary: false,
        descriptive: false,
    }
}

fn subtitles(name: &str, whole: bool) -> Text {
    Text {
        name: name.into(),
        label: "A & <b>".into(),
        language: None,
        forced: false,
        hearing_impaired: false,
        whole,
        version: "v2".into(),
    }
}

fn written(rate: &str, frames: u64) -> (Grid, String) {
    let grid = Grid { frame_rate: Fraction::parse(rate).unwrap(), frames };
    let rungs = ladder(640, 360, &grid);
    let audio =
        vec![sound("audio-1", "A & <b>", Layout::Stereo), sound("audio-1-surround", "A & <b>", Layout::LargeSurround)];
    let text = vec![subtitles("text-3", false), subtitles("text-file-0", true)];
    let renditions = Renditions { grid: &grid, rungs: &rungs, version: "v1", versions: BTreeMap::new(), audio, text };
    let manifest = manifest(&renditions, None);
    (grid, manifest)
}

/// Elements in their order: name, attributes.
fn elements(manifest: &str) -> Vec<(String, HashMap<String, String>)> {
    let mut reader = Reader::from_str(manifest);
    let mut found = Vec::new();
    loop {
        match reader.read_event().expect("well-formed XML") {
            Event::Eof => return found,
            Event::Start(element) | Event::Empty(element) => {
                let attributes = element.attributes().map(|attribute| {
                    let attribute = attribute.expect("well-formed attributes");
                    (attribute.key.as_ref().to_owned(), attribute.value.into_owned())
                });
                found.push((element.name().as_ref().to_owned(), attributes.collect()));
            }
            _ => {}
        }
    }
}

/// Ticks of each segment, of each timeline.
fn timelines(manifest: &str) -> Vec<(u64, Vec<u64>)> {
    let mut timelines: Vec<(u64, Vec<u64>)> = Vec::new();
    for (name, attributes) in elements(manifest) {
        let number = |key: &str| attributes.get(key).and_then(|value| value.parse::<u64>().ok());
        match name.as_str() {
            "SegmentTemplate" => timelines.push((number("timescale").unwrap(), Vec::new())),
            "S" => {
                let more = number("r").unwrap_or(0);
                timelines.last_mut().unwrap().1.extend((0..=more).map(|_| number("d").unwrap()));
            }
            _ => {}
        }
    }
    timelines
}

#[test]
fn a_manifest() {
    let (_, manifest) = written("30000/1001", 250);
    let start = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
        <MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" profiles=\"urn:mpeg:dash:profile:isoff-live:2011\" \
        mediaPresentationDuration=\"PT8.341667S\" minBufferTime=\"PT4S\">\n <Period id=\"0\" start=\"PT0S\">\n  \
        <AdaptationSet contentType=\"video\" mimeType=\"video/mp4\" segmentAlignment=\"true\" startWithSAP=\"1\" frameRate=\"30000/1001\">\n   \
        <SegmentTemplate timescale=\"30000\" startNumber=\"0\" media=\"$RepresentationID$/v1/$Number$.m4s\" \
        initialization=\"$RepresentationID$/v1/init.mp4\">\n    <SegmentTimeline>\n     \
        <S t=\"0\" d=\"120120\" r=\"1\"/>\n     <S d=\"10010\"/>\n    </SegmentTimeline>\n   </SegmentTemplate>\n   \
        <Representation id=\"240p\" codecs=\"avc1.640015\" width=\"426\" height=\"240\" sar=\"1:1\" bandwidth=\"510000\"/>\n";
    assert!(manifest.starts_with(start), "{manifest}");
    for part in [
        "lang=\"en\"",
        "<AudioChannelConfiguration schemeIdUri=\"urn:mpeg:mpegB:cicp:ChannelConfiguration\" value=\"2\"/>",
        "<AudioChannelConfiguration schemeIdUri=\"urn:mpeg:mpegB:cicp:ChannelConfiguration\" value=\"12\"/>",
        "<Label>A &amp; &lt;b&gt;</Label>",
        "<Role schemeIdUri=\"urn:mpeg:dash:role:2011\" value=\"main\"/>",
        "<Representation id=\"audio-1-surround\" codecs=\"mp4a.40.2\" audioSamplingRate=\"48000\" bandwidth=\"563200\"/>",
        "media=\"$RepresentationID$/v2/$Number$.vtt\"",
        "<BaseURL>text-file-0/v2/0.vtt</BaseURL>",
    ] {
        assert!(manifest.contains(part), "{part} in {manifest}");
    }
    let sets = elements(&manifest).into_iter().filter(|(name, _)| name == "AdaptationSet").count();
    assert_eq!(sets, 5, "video, two of audio, two of subtitles");
}

#[test]
fn each_codec_has_a_set_of_its_own() {
    let grid = Grid { frame_rate: Fraction::parse("25").unwrap(), frames: 250 };
    let rungs = rungs(640, 360, &grid, &Codec::ALL, None);
    let versions = [(Codec::Av1, "v9")].into();
    let manifest = manifest(
        &Renditions { grid: &grid, rungs: &rungs, version: "v1", versions, audio: vec![], text: vec![] },
        None,
    );
    let mut sets: Vec<Vec<String>> = Vec::new();
    for (name, attributes) in elements(&manifest) {
        let of = |keys: &[&str]| keys.iter().map(|key| attributes[*key].clone()).collect::<Vec<_>>().join(" ");
        match name.as_str() {
            "AdaptationSet" => sets.push(vec![of(&["selectionPriority"])]),
            "SegmentTemplate" => sets.last_mut().unwrap().push(of(&["media"])),
            "Representation" => sets.last_mut().unwrap().push(of(&["id", "codecs"])),
            _ => {}
        }
    }
    let expected = [
        ["1", "$RepresentationID$/v1/$Number$.m4s", "240p avc1.640015", "360p avc1.64001E"],
        ["2", "$RepresentationID$/v1/$Number$.m4s", "240p-hevc hvc1.1.6.L60.90", "360p-hevc hvc1.1.6.L63.90"],
        ["3", "$RepresentationID$/v9/$Number$.m4s", "240p-av1 av01.0.00M.08", "360p-av1 av01.0.01M.08"],
    ];
    assert_eq!(sets, expected);
}

#[test]
fn whatever_a_track_is_called_the_manifest_is_well_formed() {
    let named = |title: &str| labels(&[Said { language: String::new(), title: title.into() }]);
    let title = "a\u{0}\u{8}\u{b}\u{7f}\u{85}\u{2028}\u{fffe}\u{ffff}\u{1fffe}b<&]]>\"'";
    let label = named(title).remove(0);
    assert_eq!(label, "a   \u{1fffe}b<&]]>'");
    let grid = Grid { frame_rate: Fraction::parse("25").unwrap(), frames: 250 };
    let (audio, text) = (vec![sound("audio-1", &label, Layout::Stereo)], Vec::new());
    let rungs = ladder(640, 360, &grid);
    let renditions = Renditions { grid: &grid, rungs: &rungs, version: "v1", versions: BTreeMap::new(), audio, text };
    let manifest = manifest(&renditions, None);
    // XML 1.0, §2.2.
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    assert!(manifest.chars().all(allowed), "{manifest:?}");
    assert!(elements(&manifest).iter().any(|(name, _)| name == "Label"), "{manifest}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_timeline_covers_the_title_with_the_segments_of_the_grid(
        rate in proptest::sample::select(vec!["24000/1001", "25", "30000/1001", "25/2", "60"]), frames in 1_u64..40_000,
    ) {
        let (grid, manifest) = written(rate, frames);
        let timelines = timelines(&manifest);
        prop_assert_eq!(timelines.len(), 4);
        let whole_s = grid.time_of(frames).as_f64();
        for (index, (timescale, durations)) in timelines.into_iter().enumerate() {
            let segments = if index == 3 { grid.text_segments() } else { grid.segments() };
            prop_assert_eq!(durations.len() as u64, segments);
            let covered_s = durations.iter().sum::<u64>() as f64 / timescale as f64;
            // Audio ends with a whole frame.
            prop_assert!((-1e-6..0.0214).contains(&(covered_s - whole_s)), "{} of {}", covered_s, whole_s);
        }
    }
}
