//! The command lines of ffmpeg and ffprobe: pure, and held by golden tests, for each word of them was paid for.
//!
//! The film is always standard input, opened by us beneath its folder: no path is on a command line or in a message. Only the
//! `file` protocol and a few demuxers are allowed, so that a playlist with a film's name opens nothing else. What an encoder is told
//! is its own (`encoders`).

use super::super::protocol::Film;
use super::encoders::{Encoder, Family, software};
use super::nodes::Node;
use super::picture;
use crate::media::codec::Codec;
use crate::media::demuxer::Demuxer;
use crate::media::ladder::{Rung, SIDE_MAX};
use std::ops::Range;

mod audio;
mod text;
pub mod upstream;

pub use audio::{WARM_UP_FRAMES, audio, encoded, samples, silence, span};
pub use text::{look_back_s, text, text_file};

/// Standard input as a file one can seek in; `pipe:` could not.
pub const INPUT: &str = "file:/proc/self/fd/0";
/// How far into its first frame a segment is sought, in frames. A keyframe there is the one to begin with; a moment earlier, and all
/// since the one before would be decoded for nothing. What a keyframe so near means is the same frame of the grid.
const INTO_FRAME: f64 = 0.4;
const INTERLACED_LEAD_S: f64 = 1.0;
/// Where a seek finds no keyframe: how much longer before its first frame one has to be. What is decoded right after one that is no new
/// beginning (H.264's recovery points) may be kept back by the decoder.
const KEYFRAME_EARLY_S: f64 = 0.5;
/// How far back it is looked for the second time, at least, and the last time.
const SECOND_LEAD_S: f64 = 15.0;
const LAST_LEAD_S: f64 = 60.0;
/// Fragments of half a second: the first leaves while the rest is made.
const FRAGMENT_US: &str = "500000";

/// What may be read of a film, and how large its pictures may be: before each `-i`.
pub fn input(demuxer: Demuxer) -> Vec<String> {
    let mut arguments = input_as(demuxer.names());
    if demuxer == Demuxer::MpegTs {
        // Where a broadcaster renumbers its streams, they are the same ones to us.
        arguments.extend(words(&["-merge_pmt_versions", "1"]));
    }
    arguments
}

fn input_as(demuxers: &str) -> Vec<String> {
    let pixels = (u64::from(SIDE_MAX) * u64::from(SIDE_MAX)).to_string();
    words(&["-protocol_whitelist", "file", "-format_whitelist", demuxers, "-max_pixels", &pixels])
}

/// Packets of all streams whose frames are looked at; of what may begin between keyframes, and says when frames are shown only by decoding
/// them.
const FIRST_PACKETS: &str = "%+#8";
const FIRST_PACKETS_UNINDEXED: &str = "%+#64";

/// Streams of a film, and its first frames.
pub fn streams(demuxer: Demuxer) -> Vec<String> {
    let entries = "format=duration,start_time:stream=index,id,codec_type,codec_name,width,height,sample_aspect_ratio,\
                   r_frame_rate,avg_frame_rate,pix_fmt,field_order,color_space,color_transfer,time_base,start_pts,duration_ts,has_b_frames:stream_disposition=attached_pic,default:\
                   stream_tags=language:stream_side_data=rotation,dv_profile:frame=stream_index,interlaced_frame,best_effort_timestamp";
    let packets = if demuxer.finds_keyframes() { FIRST_PACKETS } else { FIRST_PACKETS_UNINDEXED };
    let mut arguments = words(&["-hide_banner", "-v", "error"]);
    arguments.extend(input(demuxer));
    arguments.extend(words(&["-read_intervals", packets, "-show_entries", entries]));
    arguments.extend(words(&["-show_entries", TRACKS, "-of", "json", INPUT]));
    arguments
}

/// What is asked of audio and subtitles, beside that.
const TRACKS: &str = "stream=channels,sample_rate:stream_disposition=default,forced,comment,hearing_impaired,visual_impaired,\
                      descriptions:stream_tags=language,title";

/// Time stamps of a stream's packets, from a time (seconds, in the file's own time) to the end.
pub fn packets(demuxer: Demuxer, stream: u32, from_s: f64) -> Vec<String> {
    let mut arguments = words(&["-hide_banner", "-v", "error"]);
    arguments.extend(input(demuxer));
    arguments.extend(words(&["-select_streams", &stream.to_string(), "-read_intervals", &format!("{from_s:.3}%")]));
    arguments.extend(words(&["-show_entries", "packet=pts,dts,duration,flags", "-of", "compact=p=0", INPUT]));
    arguments
}

/// What encodes, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Means {
    pub encoder: &'static Encoder,
    /// None: software.
    pub node: Option<Node>,
    /// Of NVENC: with little of the device's memory.
    pub few_surfaces: bool,
}

impl Means {
    pub fn software(codec: Codec) -> Self {
        Self { encoder: software(codec), node: None, few_surfaces: false }
    }
}

/// Surfaces of an encoder with little memory.
const FEW_SURFACES: &str = "8";
/// Decoded pictures that filters hold back, beside those the decoder itself needs.
const EXTRA_FRAMES: &str = "8";

/// What comes before the film: which device, and what it decodes.
fn device(means: &Means, on_device: bool) -> Vec<String> {
    let Some(node) = &means.node else { return Vec::new() };
    let (path, number) = (node.path.to_string_lossy(), node.number.to_string());
    match (means.encoder.family, on_device) {
        (Family::Software, _) | (Family::Amf, _) => Vec::new(),
        (Family::Nvenc, true) => words(&[
            "-hwaccel",
            "cuda",
            "-hwaccel_device",
            &number,
            "-hwaccel_output_format",
            "cuda",
            "-extra_hw_frames",
            EXTRA_FRAMES,
        ]),
        // Decoded there where it can be, else by the processor; filtered in memory.
        (Family::Nvenc, false) => words(&["-hwaccel", "cuda", "-hwaccel_device", &number]),
        (Family::Vaapi, true) => words(&[
            "-hwaccel",
            "vaapi",
            "-hwaccel_device",
            &path,
            "-hwaccel_output_format",
            "vaapi",
            "-extra_hw_frames",
            EXTRA_FRAMES,
        ]),
        (Family::Vaapi, false) => words(&["-vaapi_device", &path]),
        (Family::Qsv, _) => words(&["-qsv_device", &path]),
    }
}

/// Where decoding begins for some frames.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Approach {
    /// How far before the first one.
    lead_s: f64,
    /// Whether nothing comes out where no keyframe was met by then.
    pub sure: bool,
}

/// How some frames are come at: the first that gives anything is right. Where a seek finds no keyframe, it is tried from further back
/// each time; at last without being sure of one, for films that have none and damaged places.
pub fn approaches(film: &Film, frames: &Range<u64>) -> Vec<Approach> {
    // Frames are made of fields with the help of those before.
    let least_s = if film.picture.interlaced { INTERLACED_LEAD_S } else { -INTO_FRAME / film.grid.frame_rate.as_f64() };
    if film.demuxer.finds_keyframes() || frames.start == 0 {
        return vec![Approach { lead_s: least_s, sure: false }];
    }
    let first_s = KEYFRAME_EARLY_S + least_s.max(f64::from(film.lead_ms) / 1000.0);
    let start_s = film.grid.time_of(frames.start).as_f64();
    let leads = [(first_s, true), ((first_s * 4.0).max(SECOND_LEAD_S), true), (first_s.max(LAST_LEAD_S), false)];
    let mut found = Vec::new();
    for (lead_s, sure) in leads {
        // From the film's start there is no other way.
        let whole = lead_s >= start_s;
        found.push(Approach { lead_s, sure: sure && !whole });
        if whole {
            break;
        }
    }
    found
}

/// Lets frames through from the first keyframe on, and none at all where that is too late; and ends the run after the last frame wanted
/// in either case.
fn guard(film: &Film, frames: &Range<u64>) -> String {
    let seconds = |frame: u64| film.start.as_f64() + film.grid.time_of(frame).as_f64();
    let (latest, end) = (seconds(frames.start) - KEYFRAME_EARLY_S, seconds(frames.end) + KEYFRAME_EARLY_S);
    format!("trim=end={end:.6},select='st(0,if(ld(0),ld(0),if(key,if(lte(t,{latest:.6}),1,-1),0)));gt(ld(0),0)',")
}

/// One segment of video: fragmented MP4 on standard output.
pub fn video(film: &Film, rung: &Rung, frames: &Range<u64>, means: &Means, approach: Approach) -> Vec<String> {
    let count = (frames.end - frames.start).to_string();
    let on_device = means.node.is_some() && picture::stays_on_device(film, frames, means.encoder.family);
    let filter = match on_device {
        true => picture::filter_on_device(film, rung, frames, means.encoder.family),
        false => picture::filter(film, rung, frames) + picture::upload(means.encoder.family),
    };
    let filter = if approach.sure { guard(film, frames) + &filter } else { filter };
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error"]);
    arguments.extend(input(film.demuxer));
    arguments.extend(words(&["-threads", "2"]));
    arguments.extend(device(means, on_device));
    arguments.extend(from_frame(film, frames, approach));
    let stream = format!("0:{}", film.video_stream);
    arguments.extend(words(picture::input_options(&film.picture)));
    arguments.extend(words(&["-copyts", "-i", INPUT, "-map", &stream, "-an", "-sn", "-dn"]));
    arguments.extend(words(&["-map_metadata", "-1", "-map_chapters", "-1", "-vf", &filter, "-frames:v", &count]));
    arguments.extend(means.encoder.arguments(rung, film.grid.segment_frames()));
    if let (Family::Nvenc, Some(node)) = (means.encoder.family, &means.node) {
        arguments.extend(words(&["-gpu", &node.number.to_string()]));
        if means.few_surfaces {
            arguments.extend(words(&["-surfaces", FEW_SURFACES]));
        }
    }
    arguments.extend(words(&["-avoid_negative_ts", "disabled", "-use_editlist", "0"]));
    arguments.extend(words(&["-video_track_timescale", &film.grid.timescale().to_string(), "-movflags"]));
    arguments
        .extend(words(&["+frag_keyframe+empty_moov+default_base_moof+frag_discont+negative_cts_offsets+skip_trailer"]));
    arguments.extend(words(&["-frag_duration", FRAGMENT_US, "-flush_packets", "1", "-f", "mp4", "pipe:1"]));
    arguments
}

/// Decodes from the first of some frames on.
pub fn from_frame(film: &Film, frames: &Range<u64>, approach: Approach) -> Vec<String> {
    let start = film.grid.time_of(frames.start);
    // What lies before is for the filter to drop: the seek itself would also drop the first frame.
    let mut arguments = words(&["-noaccurate_seek"]);
    arguments.extend(seek(film, frames.start > 0, start.as_f64() - approach.lead_s));
    arguments
}

/// Where [`copy`] puts a title's first frame: before it there is room for frames decoded early.
pub const COPY_ORIGIN_S: u32 = 10;

/// The video's packets as they are, from a keyframe at `from` (seconds of the title) or before it, to the film's end: fragmented MP4
/// on standard output, frame 0 at [`COPY_ORIGIN_S`].
pub fn copy(film: &Film, from: Option<f64>) -> Vec<String> {
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error"]);
    arguments.extend(input(film.demuxer));
    arguments.extend(seek(film, from.is_some(), from.unwrap_or(0.0)));
    let stream = format!("0:{}", film.video_stream);
    arguments.extend(words(&["-copyts", "-i", INPUT, "-map", &stream, "-an", "-sn", "-dn"]));
    arguments.extend(words(&["-map_metadata", "-1", "-map_chapters", "-1", "-c", "copy", "-tag:v", "avc1"]));
    let offset = f64::from(COPY_ORIGIN_S) - film.start.as_f64();
    arguments.extend(words(&["-output_ts_offset", &format!("{offset:.6}"), "-avoid_negative_ts", "disabled"]));
    arguments.extend(words(&["-use_editlist", "0", "-video_track_timescale", &film.grid.timescale().to_string()]));
    arguments.extend(words(&["-movflags", "+frag_keyframe+empty_moov+default_base_moof+frag_discont+skip_trailer"]));
    arguments.extend(words(&["-frag_duration", "1000000", "-flush_packets", "1", "-f", "mp4", "pipe:1"]));
    arguments
}

/// To a time of the title, before the frames wanted. `-ss` counts from the file's start, which may be any time.
fn seek(film: &Film, wanted: bool, seconds: f64) -> Vec<String> {
    let seconds = seconds + film.start.as_f64() - film.file_start.as_f64();
    if wanted && seconds > 0.0 { words(&["-ss", &format!("{seconds:.6}")]) } else { Vec::new() }
}

pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
pub mod tests {
    use super::super::encoders::named;
    use super::super::nodes::Kind;
    use super::*;
    use crate::media::fraction::Fraction;
    use crate::media::grid::Grid;
    use crate::media::ladder::ladder;
    use crate::transcode::protocol::Picture;

    pub fn film() -> Film {
        Film {
            video_stream: 1,
            codec: "h264".into(),
            demuxer: Demuxer::Indexed,
            lead_ms: 0,
            width: 640,
            height: 360,
            start: Fraction::parse("23/1000").unwrap(),
            sound_start: Fraction::parse("23/1000").unwrap(),
            file_start: Fraction::parse("3/1000").unwrap(),
            grid: Grid { frame_rate: Fraction::parse("30000/1001").unwrap(), frames: 1000 },
            picture: picture::tests::PLAIN,
            audio: vec![],
            text: vec![],
            left_out: vec![],
            encoders: [(Codec::H264, "libx264".to_owned())].into(),
            build: "5.1".into(),
            plan: None,
        }
    }

    pub const FENCES: &str =
        "-protocol_whitelist file -format_whitelist mov,mp4,m4a,3gp,3g2,mj2,matroska,webm -max_pixels 67108864";

    #[test]
    fn video_golden() {
        let film = film();
        let rung = ladder(640, 360, &film.grid).pop().unwrap();
        let line = |segment| {
            let frames = film.grid.frames_of(segment).unwrap();
            video(&film, &rung, &frames, &Means::software(Codec::H264), approaches(&film, &frames)[0]).join(" ")
        };
        let expected = |seek: &str, start: &str, count: u32| {
            format!(
                "-nostdin -hide_banner -v error {FENCES} -threads 2 -noaccurate_seek {seek}-reinit_filter 0 -copyts -i file:/proc/self/fd/0 -map 0:1 -an -sn -dn \
                 -map_metadata -1 -map_chapters -1 -vf setpts=PTS-(23/1000)/TB,fps=30000/1001:round=near:start_time={start},\
                 tpad=stop=-1:stop_mode=clone,trim=end_frame={count},scale=640:360:flags=bicubic:out_range=tv,setsar=1,format=yuv420p,\
                 setparams=field_mode=prog:range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709 \
                 -frames:v {count} -c:v libx264 -preset veryfast -profile:v high -bf 2 -sc_threshold 0 -threads 2 -x264-params sliced-threads=1 -level 3.0 \
                 -g 120 -keyint_min 120 -force_key_frames expr:eq(mod(n,120),0) -b:v 800000 -maxrate 960000 -bufsize 1600000 \
                 -bsf:v dump_extra=freq=keyframe -avoid_negative_ts disabled -use_editlist 0 -video_track_timescale 30000 \
                 -movflags +frag_keyframe+empty_moov+default_base_moof+frag_discont+negative_cts_offsets+skip_trailer \
                 -frag_duration 500000 -flush_packets 1 -f mp4 pipe:1"
            )
        };
        assert_eq!(line(0), expected("", "0.000000000", 120));
        assert_eq!(line(8), expected("-ss 32.065347 ", "32.032000000", 40));
    }

    #[test]
    fn hardware_golden() {
        let plain = Film { picture: Picture { plain: true, ..picture::tests::PLAIN }, ..film() };
        let node = |kind, path: &str| Node { kind, name: String::new(), path: path.into(), number: 1, slots: 4 };
        let (nvidia, render) = (node(Kind::Nvidia, "/dev/nvidia3"), node(Kind::Render, "/dev/dri/renderD129"));
        let parts = |film: &Film, segment, name: &str, few_surfaces| {
            let encoder = named(name).unwrap();
            let node = Some(if nvidia.runs(encoder) { nvidia.clone() } else { render.clone() });
            let rung = ladder(640, 360, &film.grid).pop().unwrap();
            let frames = film.grid.frames_of(segment).unwrap();
            let line =
                video(film, &rung, &frames, &Means { encoder, node, few_surfaces }, approaches(film, &frames)[0]);
            let at = |word: &str| line.iter().position(|there| there == word).unwrap();
            let device = line[at("-threads") + 2..at("-noaccurate_seek")].join(" ");
            let end = line[at("-bsf:v") + 2..at("-avoid_negative_ts")].join(" ");
            (device, line[at("-vf") + 1].clone(), end)
        };
        let grid = "setpts=PTS-(23/1000)/TB,fps=30000/1001:round=near:start_time=0.000000000,trim=end_frame=120";
        let colours = "setparams=field_mode=prog:range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709";
        let in_memory = |start: &str, count: u32, more: &str| {
            format!(
                "setpts=PTS-(23/1000)/TB,fps=30000/1001:round=near:start_time={start},tpad=stop=-1:stop_mode=clone,\
                 trim=end_frame={count},scale=640:360:flags=bicubic:out_range=tv,setsar=1,format=yuv420p,{colours}{more}"
            )
        };
        let memory = |more: &str| in_memory("0.000000000", 120, more);
        let cuda = "-hwaccel cuda -hwaccel_device 1";
        let on_cuda = format!("{cuda} -hwaccel_output_format cuda -extra_hw_frames 8");
        let scaled = format!("{grid},scale_cuda=640:360:interp_algo=bicubic:format=yuv420p,setsar=1,{colours}");
        for name in ["h264_nvenc", "hevc_nvenc", "av1_nvenc"] {
            assert_eq!(parts(&plain, 0, name, false), (on_cuda.clone(), scaled.clone(), "-gpu 1".to_owned()), "{name}");
        }
        assert_eq!(parts(&plain, 0, "h264_nvenc", true).2, "-gpu 1 -surfaces 8");
        // HDR, fields, turned pictures, and the last segment, which may need a frame repeated: filtered in memory.
        assert_eq!(parts(&film(), 0, "h264_nvenc", false), (cuda.to_owned(), memory(""), "-gpu 1".to_owned()));
        assert_eq!(parts(&plain, 8, "h264_nvenc", false).1, in_memory("32.032000000", 40, ""));
        let vaapi =
            "-hwaccel vaapi -hwaccel_device /dev/dri/renderD129 -hwaccel_output_format vaapi -extra_hw_frames 8";
        let scaled = format!("{grid},scale_vaapi=w=640:h=360:format=nv12:mode=hq,setsar=1,{colours}");
        for name in ["h264_vaapi", "hevc_vaapi", "av1_vaapi"] {
            assert_eq!(parts(&plain, 0, name, false), (vaapi.to_owned(), scaled.clone(), String::new()), "{name}");
            let uploaded =
                ("-vaapi_device /dev/dri/renderD129".to_owned(), memory(",format=nv12,hwupload"), String::new());
            assert_eq!(parts(&film(), 0, name, false), uploaded, "{name}");
        }
        for (name, device) in [("h264_qsv", "-qsv_device /dev/dri/renderD129"), ("hevc_amf", "")] {
            let expected = (device.to_owned(), memory(",format=nv12"), String::new());
            assert_eq!(parts(&plain, 0, name, false), expected, "{name}");
        }
    }

    #[test]
    fn copying_golden() {
        let expected = |seek: &str| {
            format!(
                "-nostdin -hide_banner -v error {FENCES} {seek}-copyts -i file:/proc/self/fd/0 -map 0:1 -an -sn -dn \
                 -map_metadata -1 -map_chapters -1 -c copy -tag:v avc1 -output_ts_offset 9.977000 \
                 -avoid_negative_ts disabled -use_editlist 0 -video_track_timescale 30000 \
                 -movflags +frag_keyframe+empty_moov+default_base_moof+frag_discont+skip_trailer \
                 -frag_duration 1000000 -flush_packets 1 -f mp4 pipe:1"
            )
        };
        assert_eq!(copy(&film(), None).join(" "), expected(""));
        assert_eq!(copy(&film(), Some(4.5)).join(" "), expected("-ss 4.520000 "));
    }

    #[test]
    fn probing_golden() {
        assert!(streams(Demuxer::Indexed).join(" ").starts_with(&format!(
            "-hide_banner -v error {FENCES} -read_intervals %+#8 -show_entries format=duration,"
        )));
        let line = format!(
            "-hide_banner -v error {FENCES} -select_streams 1 -read_intervals 12.500% -show_entries packet=pts,dts,duration,flags \
             -of compact=p=0 file:/proc/self/fd/0"
        );
        assert_eq!(packets(Demuxer::Indexed, 1, 12.5).join(" "), line);
    }
    #[test]
    fn what_has_no_index_is_come_at_from_further_back_each_time() {
        let film = Film { demuxer: Demuxer::MpegTs, lead_ms: 2500, ..film() };
        let frames = |segment| film.grid.frames_of(segment).unwrap();
        let tried =
            |segment| approaches(&film, &frames(segment)).iter().map(|way| (way.lead_s, way.sure)).collect::<Vec<_>>();
        assert_eq!(tried(0), [(-INTO_FRAME / film.grid.frame_rate.as_f64(), false)]);
        assert_eq!(tried(1), [(3.0, true), (15.0, false)]);
        assert_eq!(tried(8), [(3.0, true), (15.0, true), (60.0, false)]);
        let rung = ladder(640, 360, &film.grid).pop().unwrap();
        let line = |way: usize| {
            let (frames, means) = (frames(8), Means::software(Codec::H264));
            video(&film, &rung, &frames, &means, approaches(&film, &frames)[way]).join(" ")
        };
        let fences = "-protocol_whitelist file -format_whitelist mpegts -max_pixels 67108864 -merge_pmt_versions 1";
        assert!(line(0).contains(&format!("{fences} -threads 2 -noaccurate_seek -ss 29.052000 ")), "{}", line(0));
        assert!(line(0).contains(
            "-vf trim=end=33.889667,select='st(0,if(ld(0),ld(0),if(key,if(lte(t,31.555000),1,-1),0)));gt(ld(0),0)',setpts="
        ), "{}", line(0));
        assert!(line(1).contains("-ss 17.052000 ") && line(1).contains("select="));
        assert!(!line(2).contains("-ss") && line(2).contains("-vf setpts="));
    }
}
