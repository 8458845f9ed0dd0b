//! The command lines of ffmpeg and ffprobe: pure, and held by golden tests, for each word of them was paid for.
//!
//! The film is always standard input, opened by us beneath its folder: no path is on a command line or in a message. Only the
//! `file` protocol and a few demuxers are allowed, so that a playlist with a film's name opens nothing else. The encoder's
//! two threads share each frame: with a frame each, libx264 makes other bytes each time; entity-tags promise the same.

use super::super::protocol::Film;
use super::picture;
use crate::media::ladder::{Rung, SIDE_MAX};
use std::ops::Range;

mod audio;
mod text;

pub use audio::{WARM_UP_FRAMES, audio, silence};
pub use text::{look_back_s, text, text_file};

/// Demuxers that may read a film, by ffmpeg's names: those that seek to keyframes. (MPEG-TS does not: what comes before the next
/// keyframe would be missing from a segment.)
const DEMUXERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm";
/// Standard input as a file one can seek in; `pipe:` could not.
pub const INPUT: &str = "file:/proc/self/fd/0";
/// How far into its first frame a segment is sought, in frames. A keyframe there is the one to begin with; a moment earlier, and all
/// since the one before would be decoded for nothing. What a keyframe so near means is the same frame of the grid.
const INTO_FRAME: f64 = 0.4;
const INTERLACED_LEAD_S: f64 = 1.0;
/// Fragments of half a second: the first leaves while the rest is made.
const FRAGMENT_US: &str = "500000";

/// A choice of encoder: what it is called, and what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoder {
    pub name: &'static str,
    options: &'static [&'static str],
}

/// Every encoder known; the first is the one used.
pub const ENCODERS: [Encoder; 1] = [Encoder {
    name: "libx264",
    options: &[
        "-preset",
        "veryfast",
        "-profile:v",
        "high",
        "-bf",
        "2",
        "-sc_threshold",
        "0",
        "-threads",
        "2",
        "-x264-params",
        "sliced-threads=1",
    ],
}];

pub fn input() -> Vec<String> {
    input_as(DEMUXERS)
}

fn input_as(demuxers: &str) -> Vec<String> {
    let pixels = (u64::from(SIDE_MAX) * u64::from(SIDE_MAX)).to_string();
    words(&["-protocol_whitelist", "file", "-format_whitelist", demuxers, "-max_pixels", &pixels])
}

/// Packets of all streams whose frames are looked at.
const FIRST_PACKETS: &str = "%+#8";

/// Streams of a film, and its first frames.
pub fn streams() -> Vec<String> {
    let entries = "format=duration,start_time:stream=index,codec_type,codec_name,width,height,sample_aspect_ratio,\
                   r_frame_rate,avg_frame_rate,pix_fmt,field_order,color_space,color_transfer,time_base,start_pts,duration_ts:stream_disposition=attached_pic,default:\
                   stream_tags=language:stream_side_data=rotation,dv_profile:frame=stream_index,interlaced_frame";
    let mut arguments = words(&["-hide_banner", "-v", "error"]);
    arguments.extend(input());
    arguments.extend(words(&["-read_intervals", FIRST_PACKETS, "-show_entries", entries]));
    arguments.extend(words(&["-show_entries", TRACKS, "-of", "json", INPUT]));
    arguments
}

/// What is asked of audio and subtitles, beside that.
const TRACKS: &str = "stream=channels,sample_rate:stream_disposition=default,forced,comment,hearing_impaired,visual_impaired,\
                      descriptions:stream_tags=language,title";

/// Time stamps of a stream's packets, from a time (seconds, in the file's own time) to the end.
pub fn packets(stream: u32, from_s: f64) -> Vec<String> {
    let mut arguments = words(&["-hide_banner", "-v", "error"]);
    arguments.extend(input());
    arguments.extend(words(&["-select_streams", &stream.to_string(), "-read_intervals", &format!("{from_s:.3}%")]));
    arguments.extend(words(&["-show_entries", "packet=pts,duration", "-of", "compact=p=0", INPUT]));
    arguments
}

/// One segment of video: fragmented MP4 on standard output.
pub fn video(film: &Film, rung: &Rung, frames: &Range<u64>, encoder: &Encoder) -> Vec<String> {
    let start = film.grid.time_of(frames.start);
    let count = (frames.end - frames.start).to_string();
    let filter = picture::filter(film, rung, frames);
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error"]);
    arguments.extend(input());
    arguments.extend(words(&["-threads", "2"]));
    // What lies before is for the filter to drop: the seek itself would also drop the first frame.
    arguments.extend(words(&["-noaccurate_seek"]));
    // Frames are made of fields with the help of those before.
    let lead = if film.picture.interlaced { -INTERLACED_LEAD_S } else { INTO_FRAME / film.grid.frame_rate.as_f64() };
    arguments.extend(seek(film, frames.start > 0, start.as_f64() + lead));
    let stream = format!("0:{}", film.video_stream);
    arguments.extend(words(picture::input_options(&film.picture)));
    arguments.extend(words(&["-copyts", "-i", INPUT, "-map", &stream, "-an", "-sn", "-dn"]));
    arguments.extend(words(&["-map_metadata", "-1", "-map_chapters", "-1", "-vf", &filter, "-frames:v", &count]));
    arguments.extend(words(&["-c:v", encoder.name]));
    arguments.extend(words(encoder.options));
    let gop = film.grid.segment_frames().to_string();
    let level = format!("{}.{}", rung.level / 10, rung.level % 10);
    arguments.extend(words(&["-level", &level, "-g", &gop, "-keyint_min", &gop]));
    arguments.extend(words(&["-force_key_frames", &format!("expr:eq(mod(n,{gop}),0)")]));
    arguments.extend(words(&["-b:v", &rung.bits_per_s.to_string(), "-maxrate", &rung.bits_per_s_max().to_string()]));
    arguments.extend(words(&["-bufsize", &rung.buffer_bits().to_string(), "-bsf:v", "dump_extra=freq=keyframe"]));
    arguments.extend(words(&["-avoid_negative_ts", "disabled", "-use_editlist", "0"]));
    arguments.extend(words(&["-video_track_timescale", &film.grid.timescale().to_string(), "-movflags"]));
    arguments
        .extend(words(&["+frag_keyframe+empty_moov+default_base_moof+frag_discont+negative_cts_offsets+skip_trailer"]));
    arguments.extend(words(&["-frag_duration", FRAGMENT_US, "-flush_packets", "1", "-f", "mp4", "pipe:1"]));
    arguments
}

/// Where [`copy`] puts a title's first frame: before it there is room for frames decoded early.
pub const COPY_ORIGIN_S: u32 = 10;

/// The video's packets as they are, from a keyframe at `from` (seconds of the title) or before it, to the film's end: fragmented MP4
/// on standard output, frame 0 at [`COPY_ORIGIN_S`].
pub fn copy(film: &Film, from: Option<f64>) -> Vec<String> {
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error"]);
    arguments.extend(input());
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
    use super::*;
    use crate::media::fraction::Fraction;
    use crate::media::grid::Grid;
    use crate::media::ladder::ladder;

    pub fn film() -> Film {
        Film {
            video_stream: 1,
            codec: "h264".into(),
            width: 640,
            height: 360,
            start: Fraction::parse("23/1000").unwrap(),
            file_start: Fraction::parse("3/1000").unwrap(),
            grid: Grid { frame_rate: Fraction::parse("30000/1001").unwrap(), frames: 1000 },
            picture: picture::tests::PLAIN,
            audio: vec![],
            text: vec![],
            left_out: vec![],
            encoder: "libx264".into(),
            build: "5.1".into(),
        }
    }

    pub const FENCES: &str =
        "-protocol_whitelist file -format_whitelist mov,mp4,m4a,3gp,3g2,mj2,matroska,webm -max_pixels 67108864";

    #[test]
    fn video_golden() {
        let film = film();
        let rung = ladder(640, 360, &film.grid).pop().unwrap();
        let line = |segment| video(&film, &rung, &film.grid.frames_of(segment).unwrap(), &ENCODERS[0]).join(" ");
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
        assert!(streams().join(" ").starts_with(&format!(
            "-hide_banner -v error {FENCES} -read_intervals %+#8 -show_entries format=duration,"
        )));
        let line = format!(
            "-hide_banner -v error {FENCES} -select_streams 1 -read_intervals 12.500% -show_entries packet=pts,duration \
             -of compact=p=0 file:/proc/self/fd/0"
        );
        assert_eq!(packets(1, 12.5).join(" "), line);
    }
}
