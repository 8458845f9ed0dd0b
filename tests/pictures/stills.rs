//! Still pictures of films and of files, as the sidecar makes them: the right moment, the right shape, the right light, and nothing
//! of what a hostile one wants.

use super::world::{HEIGHT, Sidecar, WIDTH, numbered, numbers, numbers_after, psnr, said};
use crate::support::patience;
use reelgate::media::pictures::fit;
use reelgate::media::trickplay::{COLUMNS, ROWS, tile};
use reelgate::transcode::Error;
use reelgate::transcode::protocol::{Film, Format, Picture, PictureJob, PictureOf};
use std::time::Instant;

fn job(sidecar: &Sidecar, name: &str, film: &Film, of: PictureOf, size: (u32, u32), format: Format) -> PictureJob {
    PictureJob { source: sidecar.source(name), of, build: film.build.clone(), size, format }
}

/// A frame of a film, 320 wide, in a file.
#[track_caller]
fn frame(sidecar: &Sidecar, name: &str, film: &Film, second: u64, format: Format) -> String {
    let of = PictureOf::Frame { film: film.clone(), at_ms: second * 1000 };
    let made = sidecar.picture(&job(sidecar, name, film, of, fit((film.width, film.height), (320, 640)), format));
    let made = made.unwrap_or_else(|error| panic!("{name} {second} {format:?}: {error}"));
    assert!(format.begins(&made), "{name} {format:?}");
    sidecar.written(&made)
}

#[track_caller]
fn size(file: &str) -> (u32, u32) {
    let said = said(file, "stream=width,height");
    let number =
        |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).and_then(|value| value.parse().ok());
    (number("width=").expect("a width"), number("height=").expect("a height"))
}

#[test]
fn thumbnails_and_tiles_show_the_last_keyframe_by_their_time() {
    let sidecar = Sidecar::start();
    let x264 = ["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-sc_threshold", "0"];
    for (name, group, more) in [
        ("short.mp4", 50, &["-g", "50"][..]),
        ("long.mkv", 400, &["-g", "400", "-bf", "3", "-output_ts_offset", "0.023"]),
        ("late.mp4", 50, &["-g", "50", "-bf", "2", "-output_ts_offset", "3.5"]),
    ] {
        sidecar.film(name, &[&["-f", "lavfi", "-i", &numbered("25", "62")], &x264[..], more].concat());
        let film = sidecar.known(name);
        let expected = |second: u64| second * 25 / group * group;
        let of = PictureOf::Sheet { film: film.clone(), sheet: 0 };
        let (wide, high) = tile(film.width, film.height);
        for format in [Format::Jpeg, Format::Webp] {
            let sheet =
                sidecar.picture(&job(&sidecar, name, &film, of.clone(), (wide, high), format)).expect("a sheet");
            let sheet = sidecar.written(&sheet);
            assert_eq!(size(&sheet), (wide * COLUMNS, high * ROWS), "{name}");
            let number = |at: u32| {
                let (x, y) = (at % COLUMNS * wide, at / COLUMNS * high);
                numbers_after(&sheet, &format!("crop={wide}:{high}:{x}:{y}"))
            };
            for at in 0..7 {
                assert_eq!(number(at), [expected(u64::from(at) * 10)], "{name}: tile {at}");
            }
            assert_eq!(number(7), [0], "{name}: black");
        }
        for second in [0, 10, 30, 60] {
            assert_eq!(
                numbers(&frame(&sidecar, name, &film, second, Format::Jpeg)),
                [expected(second)],
                "{name} {second}"
            );
        }
        assert_eq!(numbers(&frame(&sidecar, name, &film, 20, Format::Webp)), [expected(20)], "{name}");
    }
}

#[test]
fn turned_wide_and_interlaced_films_have_pictures_of_their_shape() {
    let sidecar = Sidecar::start();
    let plain = numbered("25", "2");
    let x264 = ["-c:v", "libx264", "-preset", "ultrafast"];
    sidecar.film("plain.mp4", &[&["-f", "lavfi", "-i", &plain], &x264[..]].concat());
    let path = sidecar.path("plain.mp4").display().to_string();
    sidecar.film("turned.mp4", &["-i", &path, "-c", "copy", "-metadata:s:v:0", "rotate=90"]);
    sidecar.film("wide.mp4", &[&["-f", "lavfi", "-i", &format!("{plain},setsar=2")], &x264[..]].concat());
    let fields = ["-flags", "+ilme+ildct", "-field_order", "tt", "-vf", "setfield=tff", "-x264-params", "tff=1"];
    sidecar.film("fields.mp4", &[&["-f", "lavfi", "-i", &plain], &x264[..], &fields].concat());
    for (name, expected) in [
        ("plain.mp4", (320, 180)),
        ("turned.mp4", (HEIGHT, WIDTH)),
        ("wide.mp4", (320, 90)),
        ("fields.mp4", (320, 180)),
    ] {
        let film = sidecar.known(name);
        let picture = frame(&sidecar, name, &film, 0, Format::Jpeg);
        assert_eq!(size(&picture), expected, "{name}");
        let (wide, high) = expected;
        let shown = psnr(&picture, &sidecar.path(name).display().to_string(), &format!("scale={wide}:{high},setsar=1"));
        assert!(shown > 24.0, "{name}: {shown} dB");
        // Encoded otherwise it is the same picture.
        let webp = psnr(&frame(&sidecar, name, &film, 0, Format::Webp), &picture, "null");
        assert!(webp > 28.0, "{name}: {webp} dB");
    }
    assert!(matches!(sidecar.known("fields.mp4").picture, Picture { interlaced: true, .. }));
}

#[test]
fn pictures_of_high_dynamic_range_are_not_grey() {
    let sidecar = Sidecar::start();
    let from =
        format!("{},setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv", numbered("25", "1"));
    sidecar.film("sdr.mkv", &["-f", "lavfi", "-i", &from, "-c:v", "ffv1"]);
    let sdr = frame(&sidecar, "sdr.mkv", &sidecar.known("sdr.mkv"), 0, Format::Jpeg);
    for (name, transfer) in [("hdr10.mkv", "smpte2084"), ("hlg.mkv", "arib-std-b67")] {
        let graded = format!("{from},zscale=t={transfer}:m=bt2020nc:p=bt2020:r=tv:npl=203,format=yuv420p10le");
        let tags = ["-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", transfer];
        sidecar.film(name, &[&["-f", "lavfi", "-i", &graded, "-c:v", "ffv1"][..], &tags].concat());
        let path = |name: &str| sidecar.path(name).display().to_string();
        let mapped = psnr(&frame(&sidecar, name, &sidecar.known(name), 0, Format::Jpeg), &sdr, "null");
        let unmapped = psnr(&path(name), &path("sdr.mkv"), "format=yuv420p");
        assert!(mapped > unmapped + 1.0, "{name}: {mapped} dB, not mapped {unmapped} dB");
    }
}

/// The head of a PNG of that size, and nothing right after it.
fn png(width: u32, height: u32) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &size, &[8, 2, 0, 0, 0, 0, 0, 0, 0], b"\0\0\0\x04IDATdata\0\0\0\0"].concat()
}

#[test]
fn files_beside_films_are_pictures_or_refused() {
    let sidecar = Sidecar::start();
    sidecar.film("film.mp4", &["-f", "lavfi", "-i", &numbered("25", "1"), "-c:v", "libx264"]);
    let film = sidecar.known("film.mp4");
    let ask = |name: &str, format| sidecar.picture(&job(&sidecar, name, &film, PictureOf::File, (480, 960), format));
    let picture = "testsrc2=s=1000x1500";
    let once = ["-frames:v", "1", "-metadata", "comment=SECRET"];
    for name in ["large.jpg", "large.png", "large.webp"] {
        sidecar.film(name, &[&["-f", "lavfi", "-i", picture][..], &once].concat());
        for format in Format::ALL {
            let made = ask(name, format).unwrap_or_else(|error| panic!("{name} {format:?}: {error}"));
            assert!(format.begins(&made), "{name} {format:?}");
            assert!(!made.windows(6).any(|bytes| bytes == b"SECRET" || bytes == b"Lavc59"), "{name} {format:?}");
            if format != Format::Avif {
                assert_eq!(size(&sidecar.written(&made)), (480, 720), "{name} {format:?}");
            }
        }
    }
    // Small ones stay small; what is transparent lies on black.
    sidecar.film("clear.png", &["-f", "lavfi", "-i", "color=s=60x40:c=white@0,format=rgba", "-frames:v", "1"]);
    let clear = sidecar.written(&ask("clear.png", Format::Jpeg).expect("a picture"));
    assert_eq!(size(&clear), (60, 40));
    assert_eq!(numbers(&clear), [0]);

    let whole = std::fs::read(sidecar.path("large.jpg")).expect("a picture");
    std::fs::write(sidecar.path("cut.jpg"), &whole[..200]).expect("a file");
    std::fs::write(sidecar.path("long.jpg"), &whole).expect("a file");
    std::fs::File::options()
        .write(true)
        .open(sidecar.path("long.jpg"))
        .and_then(|file| file.set_len(65 << 20))
        .expect("a file");
    std::fs::write(sidecar.path("bomb.png"), png(60_000, 60_000)).expect("a file");
    std::fs::write(sidecar.path("broken.png"), png(60, 60)).expect("a file");
    let film = sidecar.path("film.mp4").display().to_string();
    for (name, text) in [
        ("list.jpg", format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{film}\n#EXT-X-ENDLIST\n")),
        ("concat.png", format!("ffconcat version 1.0\nfile {film}\n")),
        ("drawing.webp", format!("<svg xmlns=\"http://www.w3.org/2000/svg\"><image href=\"{film}\"/></svg>")),
        ("empty.jpg", String::new()),
        ("gif.jpg", "GIF89a\u{1}\0\u{1}\0\0\0\0;".to_owned()),
    ] {
        std::fs::write(sidecar.path(name), text).expect("a file");
    }
    std::fs::copy(sidecar.path("film.mp4"), sidecar.path("film.jpg")).expect("a file");
    for name in [
        "cut.jpg",
        "long.jpg",
        "bomb.png",
        "broken.png",
        "list.jpg",
        "concat.png",
        "drawing.webp",
        "empty.jpg",
        "gif.jpg",
        "film.jpg",
    ] {
        let began = Instant::now();
        let answer = ask(name, Format::Jpeg);
        assert!(began.elapsed() < patience(), "{name}: {:?}", began.elapsed());
        let Err(Error::Unfit(reason)) = answer else { panic!("{name}: {answer:?}") };
        let own = sidecar.films.path().file_name().expect("a folder").to_string_lossy().into_owned();
        assert!(!reason.contains(&own) && !reason.contains("/proc"), "a path leaks: {reason}");
    }
    assert!(sidecar.is_healthy() && ask("large.jpg", Format::Jpeg).is_ok());
}
