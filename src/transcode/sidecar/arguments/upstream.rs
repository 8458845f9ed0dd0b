//! The command line for a segment that is made from an origin's.
//!
//! Frames are taken as they come, one for one: no grid, no `fps`. What was given holds the segment before it too, where it needs one,
//! and far from it in time ([`BEFORE_S`], [`SEGMENT_S`]), so that `trim` drops exactly that. No B-frames: then decode times of the
//! origin's frames suit the encoded ones, whatever order the origin's were in. Never larger than the origin's pictures are, whatever a URL
//! says of them.

use super::super::super::protocol::{AddedPart, Part};
use super::{INPUT, input_as, words};
use crate::media::demuxer::Demuxer;
use crate::media::upstream::Container;

/// Where the segment before begins, and the segment. A segment is at most half a minute long.
pub const BEFORE_S: u32 = 10;
pub const SEGMENT_S: u32 = 100;
const BETWEEN_S: u32 = 75;
/// The only one: a head that players have must suit all segments.
pub const ENCODER: &str = "libx264";
/// Never another keyframe than the first.
const GROUP: &str = "100000";

/// Fragmented MP4 on standard output, with `timescale` ticks a second.
pub fn rendition(wanted: &AddedPart, timescale: u32) -> Vec<String> {
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error"]);
    let (demuxers, options) = match wanted.container {
        Container::MpegTs => ("mpegts", ["-correct_ts_overflow", "0"]),
        Container::Fmp4 => (Demuxer::Indexed.names(), ["-ignore_editlist", "1"]),
    };
    arguments.extend(input_as(demuxers));
    arguments.extend(words(&options));
    arguments.extend(words(&["-threads", "2", "-copyts", "-i", INPUT, "-map", "0:v:0", "-an", "-sn", "-dn"]));
    let (matrix, primaries, transfer) = colours(wanted.source_height);
    let filter = format!(
        "trim=start={BETWEEN_S},scale=min({}\\,iw):min({}\\,ih):flags=bicubic:out_range=tv,setsar=1,format=yuv420p,\
         setparams=field_mode=prog:range=tv:colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}",
        wanted.width, wanted.height,
    );
    arguments.extend(words(&["-map_metadata", "-1", "-map_chapters", "-1", "-vf", &filter]));
    arguments.extend(words(&["-fps_mode", "passthrough", "-enc_time_base", &format!("1:{timescale}")]));
    if wanted.part == Part::Head {
        arguments.extend(words(&["-frames:v", "1"]));
    }
    let level = format!("{}.{}", wanted.level / 10, wanted.level % 10);
    arguments.extend(words(&["-c:v", ENCODER, "-preset", "veryfast", "-profile:v", "high", "-bf", "0"]));
    arguments.extend(words(&["-sc_threshold", "0", "-threads", "2", "-x264-params", "sliced-threads=1"]));
    arguments.extend(words(&["-level", &level, "-g", GROUP, "-keyint_min", GROUP]));
    arguments.extend(words(&["-b:v", &wanted.bits_per_s.to_string(), "-maxrate", &wanted.bits_per_s_max.to_string()]));
    arguments.extend(words(&["-bufsize", &wanted.buffer_bits.to_string(), "-bsf:v", "dump_extra=freq=keyframe"]));
    arguments.extend(words(&["-avoid_negative_ts", "disabled", "-use_editlist", "0"]));
    arguments.extend(words(&["-video_track_timescale", &timescale.to_string(), "-movflags"]));
    arguments.extend(words(&["+frag_keyframe+empty_moov+default_base_moof+frag_discont+skip_trailer"]));
    // What is in a fragment is taken out of it: they are for those who look on.
    arguments.extend(words(&["-frag_duration", "500000", "-f", "mp4", "pipe:1"]));
    arguments
}

/// What players take the origin's pictures for by their size, where they say nothing: written down, for they would take the smaller
/// ones for others.
fn colours(height: u32) -> (&'static str, &'static str, &'static str) {
    match height {
        577.. => ("bt709", "bt709", "bt709"),
        288 | 576 => ("bt470bg", "bt470bg", "smpte170m"),
        _ => ("smpte170m", "smpte170m", "smpte170m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let wanted = AddedPart {
            container: Container::MpegTs,
            part: Part::Segment,
            width: 426,
            height: 240,
            source_height: 720,
            bits_per_s: 300_000,
            bits_per_s_max: 360_000,
            buffer_bits: 600_000,
            level: 21,
            head_bytes: 0,
            before_bytes: 0,
        };
        let expected = |fences: &str, scale: u32, frames: &str| {
            format!(
                "-nostdin -hide_banner -v error -protocol_whitelist file -format_whitelist {fences} \
                 -threads 2 -copyts -i file:/proc/self/fd/0 -map 0:v:0 -an -sn -dn -map_metadata -1 -map_chapters -1 \
                 -vf trim=start=75,scale=min(426\\,iw):min(240\\,ih):flags=bicubic:out_range=tv,setsar=1,format=yuv420p,\
                 setparams=field_mode=prog:range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709 \
                 -fps_mode passthrough -enc_time_base 1:{scale} {frames}-c:v libx264 -preset veryfast -profile:v high -bf 0 \
                 -sc_threshold 0 -threads 2 -x264-params sliced-threads=1 -level 2.1 -g 100000 -keyint_min 100000 -b:v 300000 \
                 -maxrate 360000 -bufsize 600000 -bsf:v dump_extra=freq=keyframe -avoid_negative_ts disabled -use_editlist 0 \
                 -video_track_timescale {scale} -movflags +frag_keyframe+empty_moov+default_base_moof+frag_discont+skip_trailer \
                 -frag_duration 500000 -f mp4 pipe:1"
            )
        };
        let ts = "mpegts -max_pixels 67108864 -correct_ts_overflow 0";
        assert_eq!(rendition(&wanted, 90_000).join(" "), expected(ts, 90_000, ""));
        let head = AddedPart { container: Container::Fmp4, part: Part::Head, ..wanted };
        let fmp4 = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm -max_pixels 67108864 -ignore_editlist 1";
        assert_eq!(rendition(&head, 30_000).join(" "), expected(fmp4, 30_000, "-frames:v 1 "));
    }
}
