//! What is done to each kind of picture before it is encoded: on the grid, at the rung's size, progressive, 8 bits, 4:2:0, opaque,
//! with an ordinary range of light. Pure.
//!
//! - Fields become frames with `bwdif`, one frame for two fields: the grid has the rate the file names. Twice the rate would be
//!   smoother for sport, and twice the work. Before the picture is turned: fields lie in rows.
//! - HDR becomes SDR with `zscale` and `tonemap` at the size of the rung, which costs less than at the film's. The brightest light is
//!   taken to be 1000 cd/m² whatever the film says: some say it only in some frames, and segments would differ.
//! - BT.601 stays BT.601. A film that says nothing has the colours players guess by its size; they are then written down, for a
//!   player guesses anew at each rung.
//!
//! Invariant: what the encoder is told of colours depends on the title alone, or its segments would not have one head.

use super::super::protocol::{Colours, Film, Picture};
use super::encoders::Family;
use crate::media::ladder::Rung;
use std::ops::Range;

/// The filters that make `frames` of a film at the size of a rung.
pub fn filter(film: &Film, rung: &Rung, frames: &Range<u64>) -> String {
    let mut filters = Vec::new();
    // Before frames are repeated or left out: it looks at the fields around.
    if film.picture.interlaced {
        // ffmpeg has turned it already, and fields lie in rows: it is turned back for that. Told not to turn it, ffmpeg would say in the
        // output that it is to be turned.
        let quarters = film.picture.quarter_turns % 4;
        filters.extend(turn((4 - quarters) % 4).map(str::to_owned));
        filters.push("bwdif=mode=send_frame:parity=auto:deint=interlaced".to_owned());
        filters.extend(turn(quarters).map(str::to_owned));
    }
    // The last frame is repeated where a film ends before its container says.
    filters.push(format!(
        "setpts=PTS-({})/TB,fps={}:round=near:start_time={:.9},tpad=stop=-1:stop_mode=clone,trim=end_frame={}",
        film.start,
        film.grid.frame_rate,
        film.grid.time_of(frames.start).as_f64(),
        frames.end - frames.start,
    ));
    filters.push(plain(film, rung.width, rung.height));
    filters.join(",")
}

/// The filters that make plain pictures of a film's: of that size, opaque, with an ordinary range of light, their colours written
/// down.
pub fn plain(film: &Film, width: u32, height: u32) -> String {
    let mut filters = Vec::new();
    if film.picture.transparent {
        filters.push("premultiply=inplace=1".to_owned());
    }
    let matrix = if film.picture.colours == Colours::Rgb { ":out_color_matrix=bt709" } else { "" };
    filters.push(format!("scale={width}:{height}:flags=bicubic:out_range=tv{matrix}"));
    let wide = |transfer: &str, mapping: &str| {
        format!(
            "format=yuv420p10le,setparams=range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc={transfer},\
             zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,{mapping}zscale=t=bt709:m=bt709:r=tv"
        )
    };
    let mapping = "tonemap=tonemap=hable:desat=0:peak=10,";
    filters.extend(match film.picture.colours {
        Colours::Bt709 | Colours::Rgb | Colours::Bt601Pal | Colours::Bt601Ntsc => None,
        Colours::Bt2020 => Some(wide("bt709", "")),
        Colours::Pq => Some(wide("smpte2084", mapping)),
        Colours::Hlg => Some(wide("arib-std-b67", mapping)),
    });
    let (matrix, primaries, transfer) = written(film.picture.colours);
    filters.push(format!(
        "setsar=1,format=yuv420p,\
         setparams=field_mode=prog:range=tv:colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}"
    ));
    filters.join(",")
}

/// Whether pictures stay where they were decoded until they are encoded: where nothing but their size is to be changed. The last
/// segment may need its last frame repeated, which only pictures in memory can have done.
pub fn stays_on_device(film: &Film, frames: &Range<u64>, family: Family) -> bool {
    film.picture.plain && frames.end < film.grid.frames && family.keeps_frames()
}

/// Like [`filter`], of pictures that stay on their device: the same frames, scaled there.
pub fn filter_on_device(film: &Film, rung: &Rung, frames: &Range<u64>, family: Family) -> String {
    let (width, height) = (rung.width, rung.height);
    let scale = match family {
        Family::Vaapi => format!("scale_vaapi=w={width}:h={height}:format=nv12:mode=hq"),
        _ => format!("scale_cuda={width}:{height}:interp_algo=bicubic:format=yuv420p"),
    };
    let (matrix, primaries, transfer) = written(film.picture.colours);
    format!(
        "setpts=PTS-({})/TB,fps={}:round=near:start_time={:.9},trim=end_frame={},{scale},setsar=1,\
         setparams=field_mode=prog:range=tv:colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}",
        film.start,
        film.grid.frame_rate,
        film.grid.time_of(frames.start).as_f64(),
        frames.end - frames.start,
    )
}

/// What follows [`filter`] for those who do not take pictures as they lie in memory.
pub fn upload(family: Family) -> &'static str {
    match family {
        Family::Software | Family::Nvenc => "",
        Family::Qsv | Family::Amf => ",format=nv12",
        Family::Vaapi => ",format=nv12,hwupload",
    }
}

/// What is written down of a rung's colours: matrix, primaries, transfer.
pub fn written(colours: Colours) -> (&'static str, &'static str, &'static str) {
    match colours {
        Colours::Bt601Pal => ("bt470bg", "bt470bg", "smpte170m"),
        Colours::Bt601Ntsc => ("smpte170m", "smpte170m", "smpte170m"),
        Colours::Bt709 | Colours::Rgb | Colours::Bt2020 | Colours::Pq | Colours::Hlg => ("bt709", "bt709", "bt709"),
    }
}

/// Pictures that change their size in the middle reach `scale`, which follows; anew, the filters would begin the segment again. What
/// comes before it here, or turns the picture, could not follow.
pub fn input_options(picture: &Picture) -> &'static [&'static str] {
    let follows = !picture.interlaced && !picture.turned && !picture.transparent;
    if follows { &["-reinit_filter", "0"] } else { &[] }
}

/// So many quarters to the right, of four at most.
fn turn(quarters: u8) -> Option<&'static str> {
    match quarters {
        1 => Some("transpose=clock"),
        2 => Some("hflip,vflip"),
        3 => Some("transpose=cclock"),
        _ => None,
    }
}

pub fn needs_tone_mapping(colours: Colours) -> bool {
    matches!(colours, Colours::Bt2020 | Colours::Pq | Colours::Hlg)
}

/// Filters without which those colours cannot be made plain.
pub const TONE_MAPPING_FILTERS: [&str; 2] = ["zscale", "tonemap"];

/// From ffprobe's words: matrix, transfer, pixel format; width and height as coded.
pub fn colours(matrix: &str, transfer: &str, format: &str, (width, height): (u32, u32)) -> Colours {
    match (transfer, matrix) {
        ("smpte2084", _) => Colours::Pq,
        ("arib-std-b67", _) => Colours::Hlg,
        _ if is_rgb(format) || matrix == "gbr" => Colours::Rgb,
        (_, "bt709") => Colours::Bt709,
        (_, "bt470bg") => Colours::Bt601Pal,
        (_, "smpte170m" | "smpte240m" | "fcc") => Colours::Bt601Ntsc,
        (_, "bt2020nc" | "bt2020c") => Colours::Bt2020,
        _ if width >= 1280 || height > 576 => Colours::Bt709,
        _ if matches!(height, 576 | 288) => Colours::Bt601Pal,
        _ => Colours::Bt601Ntsc,
    }
}

/// ffmpeg's names of pixel formats: `gbrp10le`, `rgb24`, `bgra`, `0rgb`, `pal8` …
fn is_rgb(format: &str) -> bool {
    ["rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal8", "x2rgb", "x2bgr"]
        .iter()
        .any(|start| format.starts_with(start))
}

pub fn has_alpha(format: &str) -> bool {
    ["yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya8", "ya16"].iter().any(|start| format.starts_with(start))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::media::fraction::Fraction;
    use crate::media::grid::Grid;
    use crate::media::ladder::ladder;

    pub const PLAIN: Picture = Picture {
        colours: Colours::Bt709,
        interlaced: false,
        turned: false,
        quarter_turns: 0,
        transparent: false,
        plain: false,
    };

    fn line(picture: Picture) -> String {
        let zero = Fraction::parse("0").unwrap();
        let grid = Grid { frame_rate: Fraction::parse("25").unwrap(), frames: 110 };
        let film = Film {
            video_stream: 0,
            codec: "h264".into(),
            demuxer: crate::media::demuxer::Demuxer::Indexed,
            lead_ms: 0,
            width: 640,
            height: 360,
            start: zero,
            sound_start: zero,
            file_start: zero,
            grid,
            picture,
            audio: vec![],
            text: vec![],
            left_out: vec![],
            encoders: std::collections::BTreeMap::new(),
            build: String::new(),
            plan: None,
        };
        filter(&film, &ladder(640, 360, &grid)[1], &(100..110))
    }

    const GRID: &str =
        "setpts=PTS-(0/1)/TB,fps=25/1:round=near:start_time=4.000000000,tpad=stop=-1:stop_mode=clone,trim=end_frame=10";
    const SCALE: &str = "scale=640:360:flags=bicubic:out_range=tv";

    fn end(matrix: &str, primaries: &str, transfer: &str) -> String {
        let colours = format!("colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}");
        format!("setsar=1,format=yuv420p,setparams=field_mode=prog:range=tv:{colours}")
    }

    #[test]
    fn ordinary_pictures_golden() {
        let of = |colours| line(Picture { colours, ..PLAIN });
        let bt709 = end("bt709", "bt709", "bt709");
        assert_eq!(of(Colours::Bt709), format!("{GRID},{SCALE},{bt709}"));
        assert_eq!(of(Colours::Bt601Pal), format!("{GRID},{SCALE},{}", end("bt470bg", "bt470bg", "smpte170m")));
        assert_eq!(of(Colours::Bt601Ntsc), format!("{GRID},{SCALE},{}", end("smpte170m", "smpte170m", "smpte170m")));
        assert_eq!(of(Colours::Rgb), format!("{GRID},{SCALE}:out_color_matrix=bt709,{bt709}"));
        assert_eq!(input_options(&PLAIN), ["-reinit_filter", "0"]);
    }

    #[test]
    fn high_dynamic_range_golden() {
        let of = |colours| line(Picture { colours, ..PLAIN });
        let expected = |transfer: &str, mapping: &str| {
            format!(
                "{GRID},{SCALE},format=yuv420p10le,\
                 setparams=range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc={transfer},\
                 zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,{mapping}zscale=t=bt709:m=bt709:r=tv,{}",
                end("bt709", "bt709", "bt709")
            )
        };
        let mapping = "tonemap=tonemap=hable:desat=0:peak=10,";
        assert_eq!(of(Colours::Pq), expected("smpte2084", mapping));
        assert_eq!(of(Colours::Hlg), expected("arib-std-b67", mapping));
        assert_eq!(of(Colours::Bt2020), expected("bt709", ""));
    }

    #[test]
    fn fields_and_transparency_golden() {
        let bt709 = end("bt709", "bt709", "bt709");
        let fields = Picture { interlaced: true, ..PLAIN };
        let bwdif = "bwdif=mode=send_frame:parity=auto:deint=interlaced";
        assert_eq!(line(fields), format!("{bwdif},{GRID},{SCALE},{bt709}"));
        let transparent = Picture { transparent: true, ..PLAIN };
        assert_eq!(line(transparent), format!("{GRID},premultiply=inplace=1,{SCALE},{bt709}"));
        for picture in [fields, transparent, Picture { turned: true, ..PLAIN }] {
            assert!(input_options(&picture).is_empty(), "{picture:?}");
        }
    }

    #[test]
    fn colours_are_those_said_or_those_a_player_guesses() {
        for (matrix, transfer, format, size, found) in [
            ("bt709", "bt709", "yuv420p", (320, 180), Colours::Bt709),
            ("smpte170m", "", "yuv420p", (1920, 1080), Colours::Bt601Ntsc),
            ("bt470bg", "", "yuvj420p", (1920, 1080), Colours::Bt601Pal),
            ("bt2020nc", "smpte2084", "yuv420p10le", (3840, 2160), Colours::Pq),
            ("", "arib-std-b67", "yuv420p10le", (3840, 2160), Colours::Hlg),
            ("bt2020nc", "bt2020-10", "yuv420p10le", (3840, 2160), Colours::Bt2020),
            ("gbr", "bt709", "gbrp", (640, 480), Colours::Rgb),
            ("", "", "rgb24", (640, 480), Colours::Rgb),
            ("", "", "yuv420p", (1280, 536), Colours::Bt709),
            ("unknown", "", "yuv420p", (720, 576), Colours::Bt601Pal),
            ("unknown", "", "yuv422p", (640, 480), Colours::Bt601Ntsc),
        ] {
            assert_eq!(colours(matrix, transfer, format, size), found, "{matrix} {transfer} {format} {size:?}");
        }
        assert!(has_alpha("yuva444p10le") && has_alpha("rgba") && !has_alpha("yuv420p") && !has_alpha("gbrp"));
    }
}
