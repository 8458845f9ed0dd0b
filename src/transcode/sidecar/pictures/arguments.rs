//! The command lines of pictures: pure, and held by golden tests. The fences are those of segments.
//!
//! Only keyframes are decoded, each by one thread: that is what makes a picture cheap. A title's time is answered by the last keyframe
//! that begins at most [`EARLY_S`] after it, for a thumbnail and for a tile alike.

use super::super::super::protocol::Film;
use super::super::arguments::{INPUT, input, words};
use super::super::picture;
use super::encoders::PictureEncoder;
use crate::media::ladder::SIDE_MAX;
use crate::media::trickplay::{COLUMNS, INTERVAL_S, ROWS, SHEET_S, tiles};

/// A keyframe so little after a time is the one of that time: containers and clocks round.
const EARLY_S: f64 = 0.2;

/// A frame to be shown.
#[derive(Debug, Clone, Copy)]
pub struct Shot<'a> {
    /// Milliseconds of the title; None: the first picture that can be decoded, for films that cannot be searched.
    pub at_ms: Option<u64>,
    pub size: (u32, u32),
    pub encoder: &'a PictureEncoder,
}

/// Frames of a film, each to an output of its own.
pub fn frames(film: &Film, shots: &[Shot], outputs: &[String]) -> Vec<String> {
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error"]);
    for shot in shots {
        arguments.extend(opened(film, shot.at_ms.map(|at_ms| at_ms as f64 / 1000.0)));
    }
    for (at, (shot, output)) in shots.iter().zip(outputs).enumerate() {
        let (width, height) = shot.size;
        let filters = format!("{}{}", progressive(film), picture::plain(film, width, height));
        arguments.extend(encoded(film, at, &filters, shot.encoder, output));
    }
    arguments
}

/// A sheet of tiles, from keyframes alone; what lies between them is not even read where the container says where it lies.
pub fn sheet(film: &Film, sheet: u64, size: (u32, u32), encoder: &PictureEncoder) -> Vec<String> {
    let duration_s = film.grid.time_of(film.grid.frames).as_f64();
    let first_s = sheet * SHEET_S;
    let count = tiles(duration_s).saturating_sub(first_s / INTERVAL_S).min(u64::from(COLUMNS * ROWS)).max(1);
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error", "-discard:v", "nokey"]);
    // From a keyframe before it, where a seek does not go to one by itself.
    arguments.extend(opened(film, Some(first_s as f64 - f64::from(film.lead_ms) / 1000.0)));
    // Placed where frames begin, early by what a keyframe may be late; rounded up, each tile has the last frame by its time. Before
    // that the last keyframe has to last to the end, and beyond, or it would be left out.
    let filters = format!(
        "{}setpts=PTS-({})/TB-{EARLY_S}/TB,fps={}:round=near,tpad=stop=-1:stop_mode=clone,\
         fps=1/{INTERVAL_S}:round=up:start_time={first_s},trim=end_frame={count},{},tile={COLUMNS}x{ROWS}",
        progressive(film),
        film.start,
        film.grid.frame_rate,
        picture::plain(film, size.0, size.1),
    );
    arguments.insert(arguments.len() - 2, "-copyts".to_owned());
    arguments.extend(encoded(film, 0, &filters, encoder, "pipe:1"));
    arguments
}

/// The film, from the last keyframe by a time of the title, keyframes only; or from its beginning.
fn opened(film: &Film, at_s: Option<f64>) -> Vec<String> {
    let mut arguments = input(film.demuxer);
    arguments.extend(words(&["-threads", "1"]));
    if let Some(at_s) = at_s {
        let file_s = at_s + EARLY_S + film.start.as_f64() - film.file_start.as_f64();
        arguments.extend(words(&[
            "-skip_frame",
            "nokey",
            "-noaccurate_seek",
            "-ss",
            &format!("{:.3}", file_s.max(0.0)),
        ]));
    }
    arguments.extend(words(picture::input_options(&film.picture)));
    arguments.extend(words(&["-i", INPUT]));
    arguments
}

/// One field of two: the frames around a keyframe, which would tell what moved, are not decoded.
fn progressive(film: &Film) -> &'static str {
    if film.picture.interlaced { "field=type=top," } else { "" }
}

fn encoded(film: &Film, input: usize, filters: &str, encoder: &PictureEncoder, output: &str) -> Vec<String> {
    let mut arguments = words(&["-map", &format!("{input}:{}", film.video_stream), "-an", "-sn", "-dn"]);
    arguments.extend(words(&["-map_metadata", "-1", "-map_chapters", "-1", "-frames:v", "1"]));
    let colours = encoder.colours(picture::written(film.picture.colours).0);
    arguments.extend(words(&["-vf", &format!("{filters},{colours},setpts=0")]));
    arguments.extend(encoder.arguments(output));
    arguments
}

/// A file with a picture, read by the demuxer its first bytes ask for, at most of that size. None: it is none of those that are read.
pub fn file(begins: &[u8], size: (u32, u32), encoder: &PictureEncoder) -> Option<Vec<String>> {
    let demuxer = match begins {
        [0xff, 0xd8, 0xff, ..] => "jpeg_pipe",
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => "png_pipe",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "webp_pipe",
        _ => return None,
    };
    let pixels = (u64::from(SIDE_MAX) * u64::from(SIDE_MAX)).to_string();
    let mut arguments = words(&["-nostdin", "-hide_banner", "-v", "error", "-protocol_whitelist", "file"]);
    arguments.extend(words(&["-format_whitelist", demuxer, "-max_pixels", &pixels, "-threads", "1", "-f", demuxer]));
    arguments.extend(words(&["-i", INPUT, "-map", "0:v:0", "-map_metadata", "-1", "-frames:v", "1"]));
    let (width, height) = size;
    // What is transparent lies on black.
    let filters = format!(
        "scale=w='min({width},iw)':h='min({height},ih)':force_original_aspect_ratio=decrease:force_divisible_by=2:flags=bicubic,\
         setsar=1,format=gbrap,premultiply=inplace=1,format=gbrp,scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"
    );
    arguments.extend(words(&["-vf", &format!("{filters},{},setpts=0", encoder.colours("bt709"))]));
    arguments.extend(encoder.arguments("pipe:1"));
    Some(arguments)
}

#[cfg(test)]
mod tests {
    use super::super::super::super::protocol::{Colours, Format, Picture};
    use super::super::super::arguments::tests::{FENCES, film};
    use super::super::super::picture::tests::PLAIN;
    use super::super::encoders::KNOWN;
    use super::*;

    fn made(format: Format) -> &'static PictureEncoder {
        KNOWN.iter().find(|encoder| encoder.format == format).unwrap()
    }

    const PLAIN_FILTERS: &str = "setsar=1,format=yuv420p,\
        setparams=field_mode=prog:range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709";
    const ENDS: &str = "-threads 1 -flags:v +bitexact -fflags +bitexact";

    #[test]
    fn frames_golden() {
        let shot = |at_ms, format| Shot { at_ms, size: (320, 180), encoder: made(format) };
        let shots = [shot(Some(10_000), Format::Jpeg), shot(Some(0), Format::Webp), shot(None, Format::Avif)];
        let line = frames(&film(), &shots, &["pipe:1", "pipe:7", "pipe:9"].map(str::to_owned)).join(" ");
        let opened = |seek: &str| format!("{FENCES} -threads 1 {seek}-reinit_filter 0 -i file:/proc/self/fd/0");
        let seek = |at: &str| opened(&format!("-skip_frame nokey -noaccurate_seek -ss {at} "));
        let encoded = |input: usize, range: &str, format: &str, options: &str| {
            format!(
                "-map {input}:1 -an -sn -dn -map_metadata -1 -map_chapters -1 -frames:v 1 \
                 -vf scale=320:180:flags=bicubic:out_range=tv,{PLAIN_FILTERS},\
                 scale=in_color_matrix=bt709:in_range=tv:out_color_matrix=smpte170m:out_range={range},format={format},setpts=0 {options}"
            )
        };
        let expected = [
            "-nostdin -hide_banner -v error".to_owned(),
            seek("10.220"),
            seek("0.220"),
            opened(""),
            encoded(0, "pc", "yuvj420p", &format!("-c:v mjpeg -q:v 4 {ENDS} -f image2pipe pipe:1")),
            encoded(
                1,
                "tv",
                "yuv420p",
                &format!("-c:v libwebp -quality 75 -compression_level 4 {ENDS} -f image2pipe pipe:7"),
            ),
            encoded(
                2,
                "pc",
                "yuv420p",
                &format!(
                    "-c:v libaom-av1 -usage allintra -still-picture 1 -cpu-used 6 -crf 30 {ENDS} \
                     -movflags +frag_keyframe+empty_moov+default_base_moof+skip_trailer -f mp4 pipe:9"
                ),
            ),
        ];
        assert_eq!(line, expected.join(" "));
    }

    #[test]
    fn sheets_golden() {
        let film = film();
        let film = Film { grid: crate::media::grid::Grid { frames: 8200, ..film.grid }, ..film };
        let line = |number| sheet(&film, number, (320, 180), made(Format::Jpeg)).join(" ");
        let expected = |seek: &str, start: u32, count: u32| {
            format!(
                "-nostdin -hide_banner -v error -discard:v nokey {FENCES} -threads 1 -skip_frame nokey -noaccurate_seek -ss {seek} \
                 -reinit_filter 0 -copyts -i file:/proc/self/fd/0 -map 0:1 -an -sn -dn -map_metadata -1 -map_chapters -1 -frames:v 1 \
                 -vf setpts=PTS-(23/1000)/TB-0.2/TB,fps=30000/1001:round=near,tpad=stop=-1:stop_mode=clone,\
                 fps=1/10:round=up:start_time={start},trim=end_frame={count},\
                 scale=320:180:flags=bicubic:out_range=tv,{PLAIN_FILTERS},tile=5x5,\
                 scale=in_color_matrix=bt709:in_range=tv:out_color_matrix=smpte170m:out_range=pc,format=yuvj420p,setpts=0 \
                 -c:v mjpeg -q:v 4 {ENDS} -f image2pipe pipe:1"
            )
        };
        assert_eq!(line(0), expected("0.220", 0, 25));
        assert_eq!(line(1), expected("250.220", 250, 3));
    }

    #[test]
    fn difficult_pictures_have_their_filters() {
        let filters = |picture: Picture| {
            let shot = Shot { at_ms: Some(0), size: (320, 180), encoder: made(Format::Webp) };
            let line = frames(&Film { picture, ..film() }, &[shot], &["pipe:1".to_owned()]);
            line[line.iter().position(|word| word == "-vf").unwrap() + 1].clone()
        };
        assert!(filters(Picture { interlaced: true, ..PLAIN }).starts_with("field=type=top,scale=320:180"));
        assert!(filters(Picture { transparent: true, ..PLAIN }).starts_with("premultiply=inplace=1,scale="));
        assert!(filters(Picture { colours: Colours::Pq, ..PLAIN }).contains("color_trc=smpte2084,zscale=t=linear"));
        for colours in [Colours::Bt601Pal, Colours::Bt601Ntsc] {
            assert!(filters(Picture { colours, ..PLAIN }).contains("scale=in_color_matrix=bt601:"));
        }
    }

    #[test]
    fn files_golden() {
        let line = |begins: &[u8]| file(begins, (480, 960), made(Format::Jpeg)).map(|line| line.join(" "));
        let expected = |demuxer: &str| {
            Some(format!(
                "-nostdin -hide_banner -v error -protocol_whitelist file -format_whitelist {demuxer} -max_pixels 67108864 -threads 1 \
                 -f {demuxer} -i file:/proc/self/fd/0 -map 0:v:0 -map_metadata -1 -frames:v 1 \
                 -vf scale=w='min(480,iw)':h='min(960,ih)':force_original_aspect_ratio=decrease:force_divisible_by=2:flags=bicubic,\
                 setsar=1,format=gbrap,premultiply=inplace=1,format=gbrp,scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,\
                 scale=in_color_matrix=bt709:in_range=tv:out_color_matrix=smpte170m:out_range=pc,format=yuvj420p,setpts=0 \
                 -c:v mjpeg -q:v 4 {ENDS} -f image2pipe pipe:1"
            ))
        };
        assert_eq!(line(&[0xff, 0xd8, 0xff, 0xe0]), expected("jpeg_pipe"));
        assert_eq!(line(b"\x89PNG\r\n\x1a\n\0\0\0\r"), expected("png_pipe"));
        assert_eq!(line(b"RIFF\x10\0\0\0WEBP"), expected("webp_pipe"));
        for other in [
            &b"GIF89a"[..],
            b"<svg xmlns=",
            b"#EXTM3U\n",
            b"\0\0\0\x1cftypheic",
            b"RIFF\x10\0\0\0AVI ",
            b"\xff\xd8",
            b"",
        ] {
            assert_eq!(line(other), None, "{other:?}");
        }
    }
}
