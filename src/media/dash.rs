//! Writes the DASH manifest (MPD, ISO/IEC 23009-1) of a title: the same segments as the playlists', by number, with their times.
//!
//! Invariants: times are whole ticks of each rendition's own clock, without a gap; every text is escaped by the writer of XML.

use super::codec::Codec;
use super::grid::{AUDIO_FRAME_SAMPLES, AUDIO_RATE, Grid};
use super::playlist::AUDIO_CODEC;
use super::renditions::{Audio, Renditions, Text};
use super::trickplay::{COLUMNS, FOLDER, ROWS, SHEET_S, Sheets};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use std::io;

/// Seconds a player should hold before it begins: one segment.
const BUFFER: &str = "PT4S";
const ROLE: &str = "urn:mpeg:dash:role:2011";
/// TV-Anytime: 1 for those who cannot see, 2 for those who cannot hear.
const PURPOSE: &str = "urn:tva:metadata:cs:AudioPurposeCS:2007";
const THUMBNAILS: &str = "http://dashif.org/guidelines/thumbnail_tile";
/// ISO/IEC 23091-3, table of ChannelConfiguration.
const CHANNELS: &str = "urn:mpeg:mpegB:cicp:ChannelConfiguration";

type Xml = Writer<Vec<u8>>;

/// The manifest.
pub fn manifest(title: &Renditions, sheets: Option<&Sheets>) -> String {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 1);
    // Writing to memory does not fail.
    let _ = write(&mut xml, title, sheets);
    String::from_utf8(xml.into_inner()).unwrap_or_default()
}

fn write(xml: &mut Xml, title: &Renditions, sheets: Option<&Sheets>) -> io::Result<()> {
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let duration = format!("PT{:.6}S", title.grid.time_of(title.grid.frames).as_f64());
    let root = xml.create_element("MPD").with_attributes([
        ("xmlns", "urn:mpeg:dash:schema:mpd:2011"),
        ("type", "static"),
        ("profiles", "urn:mpeg:dash:profile:isoff-live:2011"),
        ("mediaPresentationDuration", duration.as_str()),
        ("minBufferTime", BUFFER),
    ]);
    root.write_inner_content(|xml| {
        let period = xml.create_element("Period").with_attributes([("id", "0"), ("start", "PT0S")]);
        period.write_inner_content(|xml| {
            Codec::ALL.into_iter().try_for_each(|codec| video(xml, title, codec))?;
            title.audio.iter().try_for_each(|rendition| audio(xml, title, rendition))?;
            title.text.iter().try_for_each(|rendition| text(xml, title.grid, rendition))?;
            sheets.map_or(Ok(()), |sheets| thumbnails(xml, sheets))
        })?;
        Ok(())
    })?;
    Ok(())
}

/// A set for each codec there is: players switch within one, and decoders differ between them. One that takes several prefers (§5.3.3.2)
/// the later: it needs fewer bits.
fn video(xml: &mut Xml, title: &Renditions, codec: Codec) -> io::Result<()> {
    if !title.rungs.iter().any(|rung| rung.codec == codec) {
        return Ok(());
    }
    let priority = (codec as u8 + 1).to_string();
    let (rate, ticks) = (title.grid.frame_rate, u64::from(title.grid.frame_ticks()));
    let rate = match rate.denominator() {
        1 => rate.numerator().to_string(),
        _ => rate.to_string(),
    };
    let set = xml.create_element("AdaptationSet").with_attributes([
        ("contentType", "video"),
        ("mimeType", "video/mp4"),
        ("segmentAlignment", "true"),
        ("startWithSAP", "1"),
        ("frameRate", rate.as_str()),
    ]);
    let several = title.rungs.iter().any(|rung| rung.codec != codec);
    let set = set.with_attributes(several.then_some(("selectionPriority", priority.as_str())));
    set.write_inner_content(|xml| {
        let frames = (0..title.grid.segments()).filter_map(|segment| title.grid.frames_of(segment));
        let durations = frames.map(|frames| (frames.end - frames.start) * ticks);
        template(xml, title.grid.timescale(), title.version_of(codec), "m4s", durations)?;
        for rung in title.rungs.iter().filter(|rung| rung.codec == codec) {
            let [width, height] = [rung.width, rung.height].map(|side| side.to_string());
            let (bandwidth, codec) = (rung.peak_bits_per_s().to_string(), rung.codec());
            let representation = xml.create_element("Representation").with_attributes([
                ("id", rung.name.as_str()),
                ("codecs", codec.as_str()),
                ("width", width.as_str()),
                ("height", height.as_str()),
                ("sar", "1:1"),
                ("bandwidth", bandwidth.as_str()),
            ]);
            representation.write_empty()?;
        }
        Ok(())
    })?;
    Ok(())
}

fn audio(xml: &mut Xml, title: &Renditions, audio: &Audio) -> io::Result<()> {
    let set = xml.create_element("AdaptationSet").with_attributes([
        ("contentType", "audio"),
        ("mimeType", "audio/mp4"),
        ("segmentAlignment", "true"),
        ("startWithSAP", "1"),
    ]);
    let set = set.with_attributes(audio.language.as_deref().map(|tag| ("lang", tag)));
    set.write_inner_content(|xml| {
        described(xml, "AudioChannelConfiguration", CHANNELS, &audio.layout.configuration().to_string())?;
        label(xml, &audio.label)?;
        if audio.descriptive {
            described(xml, "Accessibility", PURPOSE, "1")?;
        }
        let role = match (audio.default, audio.commentary) {
            (true, _) => "main",
            (false, true) => "commentary",
            (false, false) => "alternate",
        };
        described(xml, "Role", ROLE, role)?;
        let frames = (0..title.grid.segments()).filter_map(|segment| title.grid.audio_frames_of(segment));
        let durations = frames.map(|frames| (frames.end - frames.start) * u64::from(AUDIO_FRAME_SAMPLES));
        template(xml, AUDIO_RATE, title.version, "m4s", durations)?;
        let (rate, bandwidth) = (AUDIO_RATE.to_string(), audio.layout.peak_bits_per_s().to_string());
        let representation = xml.create_element("Representation").with_attributes([
            ("id", audio.name.as_str()),
            ("codecs", AUDIO_CODEC),
            ("audioSamplingRate", rate.as_str()),
            ("bandwidth", bandwidth.as_str()),
        ]);
        representation.write_empty()?;
        Ok(())
    })?;
    Ok(())
}

fn text(xml: &mut Xml, grid: &Grid, text: &Text) -> io::Result<()> {
    let set = xml.create_element("AdaptationSet").with_attributes([("contentType", "text"), ("mimeType", "text/vtt")]);
    let set = set.with_attributes(text.language.as_deref().map(|tag| ("lang", tag)));
    set.write_inner_content(|xml| {
        label(xml, &text.label)?;
        if text.hearing_impaired {
            described(xml, "Accessibility", PURPOSE, "2")?;
        }
        described(xml, "Role", ROLE, if text.forced { "forced-subtitle" } else { "subtitle" })?;
        // A whole file is named as what it is: players that know no segments of WebVTT take that.
        if !text.whole {
            let ticks = u64::from(grid.frame_ticks());
            let frames = (0..grid.text_segments()).filter_map(|segment| grid.text_frames_of(segment));
            let durations = frames.map(|frames| (frames.end - frames.start) * ticks);
            template(xml, grid.timescale(), &text.version, "vtt", durations)?;
        }
        let attributes = [("id", text.name.as_str()), ("bandwidth", "256")];
        let representation = xml.create_element("Representation").with_attributes(attributes);
        if !text.whole {
            representation.write_empty()?;
            return Ok(());
        }
        let address = format!("{}/{}/0.vtt", text.name, text.version);
        representation.write_inner_content(|xml| {
            xml.create_element("BaseURL").write_text_content(BytesText::new(&address))?;
            Ok(())
        })?;
        Ok(())
    })?;
    Ok(())
}

/// Sheets of small pictures (DASH-IF IOP 4.3 §6.2.6, `thumbnail_tile`).
fn thumbnails(xml: &mut Xml, sheets: &Sheets) -> io::Result<()> {
    let set =
        xml.create_element("AdaptationSet").with_attributes([("contentType", "image"), ("mimeType", "image/jpeg")]);
    set.write_inner_content(|xml| {
        let media = format!("{FOLDER}/{}/$Number$.jpg", sheets.version);
        let duration = SHEET_S.to_string();
        let template = xml.create_element("SegmentTemplate").with_attributes([
            ("timescale", "1"),
            ("duration", duration.as_str()),
            ("startNumber", "0"),
            ("media", media.as_str()),
        ]);
        template.write_empty()?;
        let (width, height) = sheets.size();
        let [width, height] = [width, height].map(|side| side.to_string());
        let bandwidth = Sheets::bits_per_s().to_string();
        let representation = xml.create_element("Representation").with_attributes([
            ("id", FOLDER),
            ("bandwidth", bandwidth.as_str()),
            ("width", width.as_str()),
            ("height", height.as_str()),
        ]);
        let tiles = format!("{COLUMNS}x{ROWS}");
        representation.write_inner_content(|xml| described(xml, "EssentialProperty", THUMBNAILS, &tiles))?;
        Ok(())
    })?;
    Ok(())
}

/// Where segments lie, and when: runs of equal ones are one entry (§5.3.9.6).
fn template(
    xml: &mut Xml,
    timescale: u32,
    version: &str,
    extension: &str,
    durations: impl Iterator<Item = u64>,
) -> io::Result<()> {
    let (timescale, media) = (timescale.to_string(), format!("$RepresentationID$/{version}/$Number$.{extension}"));
    let init = format!("$RepresentationID$/{version}/init.mp4");
    let element = xml.create_element("SegmentTemplate").with_attributes([
        ("timescale", timescale.as_str()),
        ("startNumber", "0"),
        ("media", media.as_str()),
    ]);
    let boxes = extension == "m4s";
    let element = element.with_attributes(boxes.then_some(("initialization", init.as_str())));
    element.write_inner_content(|xml| {
        let timeline = xml.create_element("SegmentTimeline");
        timeline.write_inner_content(|xml| {
            let mut runs: Vec<(u64, u64)> = Vec::new();
            for duration in durations {
                match runs.last_mut() {
                    Some((last, count)) if *last == duration => *count += 1,
                    _ => runs.push((duration, 1)),
                }
            }
            for (index, (duration, count)) in runs.into_iter().enumerate() {
                let (duration, more) = (duration.to_string(), (count - 1).to_string());
                let entry = xml.create_element("S").with_attributes((index == 0).then_some(("t", "0")));
                let entry = entry.with_attribute(("d", duration.as_str()));
                entry.with_attributes((count > 1).then_some(("r", more.as_str()))).write_empty()?;
            }
            Ok(())
        })?;
        Ok(())
    })?;
    Ok(())
}

fn described(xml: &mut Xml, element: &str, scheme: &str, value: &str) -> io::Result<()> {
    xml.create_element(element).with_attributes([("schemeIdUri", scheme), ("value", value)]).write_empty()?;
    Ok(())
}

fn label(xml: &mut Xml, text: &str) -> io::Result<()> {
    xml.create_element("Label").write_text_content(BytesText::new(text))?;
    Ok(())
}

#[cfg(test)]
mod tests;
