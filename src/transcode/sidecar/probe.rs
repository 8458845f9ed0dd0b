//! What a film is, by ffprobe: its streams, and where its last frame ends. The container's own word for its length is only used
//! to find its end.
//!
//! Invariants: a film out of bounds (no video, absurd sizes, endless) is refused with a reason; no more of it is decoded than its first
//! frames, which say whether they are made of fields: containers often do not know.

use super::super::protocol::{Film, Picture};
use super::arguments;
use super::child::{Failure, Kill, LOOK_CPU_S_MAX, run_within};
use super::encoders::{self, Family};
use super::picture;
use super::tools::Tools;
use crate::media::demuxer::{BEGINS_BYTES, Demuxer};
use crate::media::fraction::Fraction;
use crate::media::grid::{Grid, frame_rate};
use crate::media::ladder::SIDE_MAX;
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::path::Path;

mod clock;
mod tracks;

/// What ffprobe says of the streams; a film has a few.
const STREAMS_BYTES_MAX: usize = 256 * 1024;
/// A line of a packet is far shorter.
const LINE_BYTES_MAX: usize = 4096;
/// Packets are first read from this long before the end.
const TAIL_S: f64 = 15.0;
const HOURS_MAX: u64 = 24;
/// ITU-T H.264 §A.3: no decoder holds more.
const HELD_FRAMES_MAX: i64 = 16;
/// Of a film that is sought without an index.
const LEAD_MS_MIN: f64 = 1000.0;
const LEAD_MS_MAX: f64 = 12_000.0;

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
    #[serde(default)]
    frames: Vec<Frame>,
}

#[derive(Deserialize)]
struct Frame {
    #[serde(default)]
    stream_index: u32,
    #[serde(default)]
    interlaced_frame: u8,
    best_effort_timestamp: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Format {
    duration: Option<String>,
    start_time: Option<String>,
}

#[derive(Deserialize)]
struct Stream {
    index: u32,
    /// Of an MPEG stream: `0x100`.
    id: Option<String>,
    codec_type: Option<String>,
    codec_name: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    sample_aspect_ratio: Option<String>,
    r_frame_rate: Option<String>,
    avg_frame_rate: Option<String>,
    pix_fmt: Option<String>,
    field_order: Option<String>,
    color_space: Option<String>,
    color_transfer: Option<String>,
    time_base: Option<String>,
    start_pts: Option<i64>,
    /// Frames the decoder holds back, to put them into order.
    #[serde(default)]
    has_b_frames: i64,
    #[serde(default)]
    disposition: Disposition,
    #[serde(default)]
    side_data_list: Vec<SideData>,
}

#[derive(Default, Deserialize)]
struct Disposition {
    #[serde(default)]
    attached_pic: u8,
}

#[derive(Deserialize)]
struct SideData {
    rotation: Option<f64>,
    dv_profile: Option<u8>,
}

/// Probes a film; `open` opens it anew for each run.
pub fn probe(tools: &Tools, open: impl Fn() -> Result<File, Failure>, kill: &Kill) -> Result<Film, Failure> {
    let unreadable = |error: std::io::Error| Failure::Mismatch(format!("the film cannot be read: {}", error.kind()));
    let mut begins = Vec::with_capacity(BEGINS_BYTES);
    open()?.take(BEGINS_BYTES as u64).read_to_end(&mut begins).map_err(unreadable)?;
    let demuxer = Demuxer::of(&begins);
    let mut text = Vec::new();
    let program = tools.ffprobe.as_path();
    run_within(LOOK_CPU_S_MAX, program, &arguments::streams(demuxer), open()?, kill, |bytes| {
        text.extend_from_slice(bytes);
        if text.len() > STREAMS_BYTES_MAX { Err("it has too many streams".into()) } else { Ok(()) }
    })?;
    let said: Said = serde_json::from_slice(&text).map_err(|_| refused("ffprobe said what is no JSON"))?;
    let video = video_of(&said)?;
    let (width, height) = shown(video)?;
    let fields = said.frames.iter().any(|frame| frame.stream_index == video.index && frame.interlaced_frame == 1);
    let picture = picture_of(video, fields)?;
    if picture::needs_tone_mapping(picture.colours) {
        let filters = tools.filters()?;
        if !picture::TONE_MAPPING_FILTERS.iter().all(|name| filters.contains(*name)) {
            return Err(refused("its colours need ffmpeg's filters zscale and tonemap, which this ffmpeg has not"));
        }
    }
    if demuxer.has_foreign_clock()
        && !clock::goes_on(demuxer, video.id.as_deref(), &open()?, kill).map_err(unreadable)?
    {
        return Err(refused(
            "its clock jumps on the way, as if several recordings were joined: it cannot be sought in",
        ));
    }
    let rate = |text: &Option<String>| text.as_deref().and_then(Fraction::parse);
    let frame_rate = frame_rate(rate(&video.r_frame_rate), rate(&video.avg_frame_rate));
    let time_base = rate(&video.time_base).filter(|base| base.numerator() > 0);
    let time_base = time_base.ok_or_else(|| refused("its video has no clock"))?;

    let seconds = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<f64>().ok());
    let starts_s = seconds(&said.format.start_time).filter(|start| start.abs() < 1e9).unwrap_or(0.0);
    let ends_s = seconds(&said.format.duration).unwrap_or(0.0) + starts_s;
    let frame = frame_rate.as_f64() * time_base.as_f64();
    let frame = if frame > 0.0 { (1.0 / frame).round() as i64 } else { 1 };
    let first_s = starts_s.min(0.0);
    let mut packets =
        read_packets(program, (demuxer, video.index), (ends_s - TAIL_S).max(first_s), frame, open()?, kill)?;
    if packets.end.is_none() {
        // Shorter than it says, or it cannot be searched: from the start.
        packets = read_packets(program, (demuxer, video.index), first_s, frame, open()?, kill)?;
    }
    let first = video.start_pts.or(packets.start).unwrap_or(0);
    // What may begin between keyframes begins with the first frame that can be decoded.
    let mut shown = said.frames.iter().filter(|frame| frame.stream_index == video.index);
    let shown = shown.find_map(|frame| frame.best_effort_timestamp).filter(|_| !demuxer.finds_keyframes());
    let start = shown.unwrap_or(first);
    let end = packets.end.ok_or_else(|| refused("its video has no frames"))?;
    // Packets of AVI do not say when they are shown: to ffmpeg, when the decoder lets go of them, as many frames later as it holds. Sound
    // belongs to the frames as they are counted in the file.
    let avi = demuxer == Demuxer::Avi;
    let held = if avi { video.has_b_frames.clamp(0, HELD_FRAMES_MAX) } else { 0 };
    let end = end.saturating_add(held * frame);
    let seconds_of = |ticks: i64| Fraction::new(ticks, 1).and_then(|ticks| ticks.times(time_base));
    let sound_start = seconds_of(if avi { first } else { start });
    let lead_ms = if demuxer.finds_keyframes() { 0 } else { packets.lead_ms(time_base) };
    let frames = frames_between(start, end, time_base, frame_rate);
    let start = seconds_of(start);
    let file_start = Fraction::new((starts_s * 1e6).round() as i64, 1_000_000);
    let grid = Grid { frame_rate, frames: frames.ok_or_else(|| refused("its video has no frames, or too many"))? };
    let tracks = tracks::read(&text, tools.decodable.as_ref());
    Ok(Film {
        video_stream: video.index,
        codec: video.codec_name.clone().unwrap_or_default().chars().filter(char::is_ascii_graphic).take(32).collect(),
        demuxer,
        lead_ms,
        width,
        height,
        start: start.ok_or_else(|| refused("its video starts at no time"))?,
        sound_start: sound_start.ok_or_else(|| refused("its video starts at no time"))?,
        file_start: file_start.ok_or_else(|| refused("it starts at no time"))?,
        grid,
        picture,
        audio: tracks.audio,
        text: tracks.text,
        left_out: tracks.left_out,
        encoders: encoders::choice(&[Family::Software], encoders::is_among(tools.encoders()?)),
        build: tools.build.clone(),
        plan: None,
    })
}

fn refused(why: &str) -> Failure {
    Failure::Failed(why.to_owned())
}

/// The first picture that moves: a cover is a stream too.
fn video_of(said: &Said) -> Result<&Stream, Failure> {
    let mut videos = said.streams.iter().filter(|stream| {
        stream.codec_type.as_deref() == Some("video")
            && stream.disposition.attached_pic == 0
            && stream.codec_name.is_some()
    });
    videos.next().ok_or_else(|| refused("it has no video that can be decoded"))
}

/// Width and height with square pixels, turned as the file says.
fn shown(video: &Stream) -> Result<(u32, u32), Failure> {
    let sides = video.width.zip(video.height).filter(|(width, height)| *width > 0 && *height > 0);
    let (width, height) = sides.ok_or_else(|| refused("its video has no size"))?;
    let ratio = video.sample_aspect_ratio.as_deref().and_then(Fraction::parse).map_or(1.0, Fraction::as_f64);
    let ratio = if (0.1..=10.0).contains(&ratio) { ratio } else { 1.0 };
    let width = (f64::from(width) * ratio).round() as u32;
    if width > SIDE_MAX || height > SIDE_MAX {
        return Err(refused("its pictures are too large"));
    }
    let upright = (turn_of(video).abs() % 180.0 - 90.0).abs() < 1.0;
    Ok(if upright { (height, width) } else { (width, height) })
}

/// Degrees to the left; to the right, in quarters.
fn quarter_turns(degrees: f64) -> u8 {
    (-degrees / 90.0).round().rem_euclid(4.0) as u8
}

/// Degrees, to the left.
fn turn_of(video: &Stream) -> f64 {
    video.side_data_list.iter().find_map(|data| data.rotation).unwrap_or(0.0)
}

fn picture_of(video: &Stream, fields: bool) -> Result<Picture, Failure> {
    // Profile 5 has colours of its own, without a layer that others understand.
    if video.side_data_list.iter().any(|data| data.dv_profile == Some(5)) {
        return Err(refused("its colours are those of Dolby Vision alone"));
    }
    let word = |word: &'_ Option<String>| word.clone().unwrap_or_default();
    let format = word(&video.pix_fmt);
    let size = (video.width.unwrap_or(0), video.height.unwrap_or(0));
    let interlaced = fields || matches!(word(&video.field_order).as_str(), "tt" | "bb" | "tb" | "bt");
    Ok(Picture {
        colours: picture::colours(&word(&video.color_space), &word(&video.color_transfer), &format, size),
        interlaced,
        turned: turn_of(video) != 0.0,
        quarter_turns: quarter_turns(turn_of(video)),
        transparent: picture::has_alpha(&format),
        plain: !interlaced && is_plain(video, &format),
    })
}

fn is_plain(video: &Stream, format: &str) -> bool {
    let square = video.sample_aspect_ratio.as_deref().is_none_or(|ratio| matches!(ratio, "1:1" | "0:1" | "N/A"));
    let even = |side: Option<u32>| side.is_some_and(|side| side.is_multiple_of(2));
    video.codec_name.as_deref() == Some("h264")
        && format == "yuv420p"
        && video.field_order.as_deref() == Some("progressive")
        && square
        && turn_of(video) == 0.0
        && even(video.width)
        && even(video.height)
}

/// The frames of the grid from the first frame's start to the last one's end.
fn frames_between(start: i64, end: i64, time_base: Fraction, frame_rate: Fraction) -> Option<u64> {
    let length = Fraction::new(i128::from(end) - i128::from(start), 1)?.times(time_base)?.times(frame_rate)?;
    let frames = (length.as_f64().round() as u64).max(1);
    let most = (HOURS_MAX * 3600) as f64 * frame_rate.as_f64();
    (length.numerator() > 0 && (frames as f64) <= most).then_some(frames)
}

/// In ticks of the stream: where its first packet begins and its last one ends.
#[derive(Default)]
struct Packets {
    start: Option<i64>,
    end: Option<i64>,
    /// The last keyframe, and the longest time between two, or from the last one to the end.
    keyframe: Option<i64>,
    apart: i64,
    /// What a packet lasts that does not say so.
    frame: i64,
}

impl Packets {
    /// `pts=7680|dts=7168|duration=512|flags=K_`
    fn line(&mut self, line: &str) {
        let field = |name: &str| {
            let value = line.split('|').find_map(|field| field.strip_prefix(name))?;
            value.trim().parse::<i64>().ok()
        };
        let Some(begins) = field("pts=").or_else(|| field("dts=")) else { return };
        let ends = begins.saturating_add(field("duration=").filter(|ticks| *ticks > 0).unwrap_or(self.frame).max(1));
        self.start = Some(self.start.map_or(begins, |start| start.min(begins)));
        self.end = Some(self.end.map_or(ends, |end| end.max(ends)));
        if let Some(keyframe) = self.keyframe {
            self.apart = self.apart.max(begins.saturating_sub(keyframe));
        }
        if line.split('|').any(|field| field.starts_with("flags=K")) {
            self.keyframe = Some(begins);
        }
    }

    /// How far before a frame there should be a keyframe: further than any two of those seen are apart.
    fn lead_ms(&self, time_base: Fraction) -> u32 {
        let seen = self.keyframe.map(|_| self.apart as f64 * time_base.as_f64() * 1000.0);
        seen.map_or(LEAD_MS_MAX, |apart| (apart * 1.25 + 250.0).clamp(LEAD_MS_MIN, LEAD_MS_MAX)) as u32
    }
}

fn read_packets(
    program: &Path,
    (demuxer, stream): (Demuxer, u32),
    from_s: f64,
    frame: i64,
    film: File,
    kill: &Kill,
) -> Result<Packets, Failure> {
    let mut packets = Packets { frame, ..Packets::default() };
    let mut held = Vec::new();
    run_within(LOOK_CPU_S_MAX, program, &arguments::packets(demuxer, stream, from_s), film, kill, |bytes| {
        held.extend_from_slice(bytes);
        while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = held.drain(..=end).collect();
            packets.line(&String::from_utf8_lossy(&line));
        }
        if held.len() > LINE_BYTES_MAX { Err("ffprobe said what are no lines".into()) } else { Ok(()) }
    })?;
    Ok(packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(json: &str) -> Stream {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_turn_is_told_in_quarters_to_the_right() {
        let turns = [0.0, -90.0, 180.0, -180.0, 90.0, 270.0, -89.5, f64::NAN].map(quarter_turns);
        assert_eq!(turns, [0, 1, 2, 2, 3, 1, 1, 0]);
    }

    #[test]
    fn a_picture_is_shown_turned_and_with_square_pixels() {
        let size = |json| shown(&stream(json)).ok();
        assert_eq!(size(r#"{"index":0,"width":720,"height":576,"sample_aspect_ratio":"64:45"}"#), Some((1024, 576)));
        assert_eq!(
            size(r#"{"index":0,"width":1920,"height":1080,"side_data_list":[{"rotation":-90}]}"#),
            Some((1080, 1920))
        );
        assert_eq!(size(r#"{"index":0,"width":64,"height":48,"sample_aspect_ratio":"0:1"}"#), Some((64, 48)));
        assert_eq!(size(r#"{"index":0,"width":30000,"height":30000}"#), None);
        assert_eq!(size(r#"{"index":0,"width":0,"height":1}"#), None);
        assert_eq!(size(r#"{"index":0}"#), None);
    }

    #[test]
    fn a_cover_is_no_video() {
        let said = r#"{"streams":[
            {"index":0,"codec_type":"video","codec_name":"png","disposition":{"attached_pic":1}},
            {"index":1,"codec_type":"video","codec_name":"h264"}]}"#;
        let said: Said = serde_json::from_str(said).unwrap();
        assert_eq!(video_of(&said).unwrap().index, 1);
    }

    #[test]
    fn packets_out_of_order_say_where_a_film_ends() {
        let mut packets = Packets { frame: 40, ..Packets::default() };
        for line in ["pts=1000|duration=30", "pts=1080|duration=N/A", "pts=1040|duration=40", "pts=N/A", "side data"] {
            packets.line(line);
        }
        assert_eq!((packets.start, packets.end), (Some(1000), Some(1120)));
        let second = Fraction::parse("1/1000").unwrap();
        let rate = Fraction::parse("25").unwrap();
        assert_eq!(frames_between(1000, 1120, second, rate), Some(3));
        assert_eq!(frames_between(1000, 1000, second, rate), None);
        assert_eq!(frames_between(0, i64::MAX, second, rate), None);
    }

    #[test]
    fn keyframes_say_how_far_back_one_is_looked_for() {
        let lead = |times: &[(i64, bool)]| {
            let mut packets = Packets { frame: 40, ..Packets::default() };
            for (at, key) in times {
                packets.line(&format!("pts=N/A|dts={at}|duration=40|flags={}", if *key { "K_" } else { "__" }));
            }
            packets.lead_ms(Fraction::parse("1/1000").unwrap())
        };
        assert_eq!(lead(&[(0, false), (40, true), (80, false), (2040, true), (2080, false)]), 2750);
        assert_eq!(lead(&[(40, true), (80, true), (120, true)]), 1000);
        assert_eq!(lead(&[(40, true), (8000, false)]), 10_200, "one until the end");
        assert_eq!(lead(&[(40, false), (80, false)]), 12_000);
    }
}
