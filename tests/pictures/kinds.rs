//! Every kind of picture: what a segment shows is what the film shows, in the size, the colours and the time it should.

use super::world::{HEIGHT, Sidecar, WIDTH, expect_on_grid, numbered, numbers, psnr, said};
use reelgate::transcode::protocol::Colours;

const LOSSLESS: [&str; 2] = ["-c:v", "ffv1"];

/// A film of 130 frames, the second segment of which begins with frame 100, made with more filters and options.
fn film(sidecar: &Sidecar, name: &str, filters: &str, options: &[&str]) {
    let picture = format!("{}{filters}", numbered("25", "5.2"));
    sidecar.film(name, &[&["-f", "lavfi", "-i", &picture], options].concat());
}

/// A segment's colours, as its head says them: matrix, transfer, primaries.
#[track_caller]
fn expect_colours(file: &str, expected: [&str; 3]) {
    let said = said(file, "stream=pix_fmt,color_range,color_space,color_transfer,color_primaries,field_order,profile");
    let [matrix, transfer, primaries] = expected;
    for line in [
        "profile=High".to_owned(),
        "pix_fmt=yuv420p".to_owned(),
        "color_range=tv".to_owned(),
        "field_order=progressive".to_owned(),
        format!("color_space={matrix}"),
        format!("color_transfer={transfer}"),
        format!("color_primaries={primaries}"),
    ] {
        assert!(said.contains(&line), "{line} is missing: {said}");
    }
}

const BT709: [&str; 3] = ["bt709", "bt709", "bt709"];
const NTSC: [&str; 3] = ["smpte170m", "smpte170m", "smpte170m"];

/// Frame 100 as the film has it, at the size of the segment.
fn frame_100(then: &str) -> String {
    format!("select='gte(n\\,100)',{then}scale={WIDTH}:{HEIGHT}:flags=bicubic:out_range=tv,setsar=1,format=yuv420p")
}

#[test]
fn depths_samplings_ranges_and_transparency_become_plain_pictures() {
    let sidecar = Sidecar::start();
    for (name, format, then, least) in [
        ("8 bits.mkv", "yuv420p", "", 32.0),
        ("10 bits.mkv", "yuv420p10le", "", 32.0),
        ("422.mkv", "yuv422p", "", 32.0),
        ("444 12 bits.mkv", "yuv444p12le", "", 32.0),
        ("full range.mkv", "yuvj420p", "", 32.0),
        ("grey.mkv", "gray", "", 32.0),
        ("rgb.mkv", "gbrp", "format=gbrp,scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,", 32.0),
        ("transparent.mkv", "yuva420p", "premultiply=inplace=1,", 32.0),
    ] {
        film(&sidecar, name, &format!(",format={format}"), &LOSSLESS);
        let known = sidecar.known(name);
        assert_eq!((known.width, known.height, known.grid.frames), (WIDTH, HEIGHT, 130), "{name}");
        let file = sidecar.playable(name, &known, "240p", 1);
        expect_colours(&file, if format == "gbrp" { BT709 } else { NTSC });
        assert!(numbers(&file).into_iter().eq(100..130), "{name}: {:?}", numbers(&file));
        let found = psnr(&file, &sidecar.path(name).display().to_string(), &frame_100(then));
        assert!(found > least, "{name}: {found} dB");
    }
}

#[test]
fn half_transparent_pictures_lie_on_black() {
    let sidecar = Sidecar::start();
    let half = ",format=rgba,colorchannelmixer=aa=0";
    film(&sidecar, "nothing.mkv", half, &["-c:v", "png"]);
    let known = sidecar.known("nothing.mkv");
    assert!(known.picture.transparent && known.picture.colours == Colours::Rgb);
    let file = sidecar.playable("nothing.mkv", &known, "240p", 0);
    let black = psnr(&file, &sidecar.path("nothing.mkv").display().to_string(), &frame_100("drawbox=t=fill:c=black,"));
    assert!(black > 40.0, "{black} dB");
}

#[test]
fn colours_said_are_kept_and_colours_not_said_are_guessed_once_for_all_rungs() {
    let sidecar = Sidecar::start();
    for (name, matrix) in [("hd.mkv", "bt709"), ("ntsc.mkv", "smpte170m"), ("pal.mkv", "bt470bg")] {
        film(&sidecar, name, "", &[&LOSSLESS[..], &["-colorspace", matrix]].concat());
    }
    sidecar.film(
        "large.mkv",
        &["-f", "lavfi", "-i", "testsrc2=s=1280x720:r=25:d=1", "-pix_fmt", "yuv420p", "-c:v", "mpeg4"],
    );
    for (name, rungs, expected) in [
        ("hd.mkv", &["240p"][..], BT709),
        ("ntsc.mkv", &["240p"], NTSC),
        ("pal.mkv", &["240p"], ["bt470bg", "smpte170m", "bt470bg"]),
        ("large.mkv", &["240p", "480p", "720p"], BT709),
    ] {
        let known = sidecar.known(name);
        for rung in rungs {
            expect_colours(&sidecar.playable(name, &known, rung, 0), expected);
        }
    }
}

#[test]
fn high_dynamic_range_looks_as_before_it_was_graded() {
    let sidecar = Sidecar::start();
    let from = ",setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv";
    film(&sidecar, "sdr.mkv", from, &LOSSLESS);
    for (name, transfer, colours) in [
        ("hdr10.mkv", "smpte2084", Colours::Pq),
        ("hlg.mkv", "arib-std-b67", Colours::Hlg),
        ("wide.mkv", "bt2020-10", Colours::Bt2020),
    ] {
        let tags = ["-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", transfer];
        let graded = format!("{from},zscale=t={transfer}:m=bt2020nc:p=bt2020:r=tv:npl=203,format=yuv420p10le");
        film(&sidecar, name, &graded, &[&LOSSLESS[..], &tags].concat());
        let known = sidecar.known(name);
        assert_eq!(known.picture.colours, colours, "{name}");
        let file = sidecar.playable(name, &known, "240p", 1);
        expect_colours(&file, BT709);
        assert!(numbers(&file).into_iter().eq(100..130), "{name}: {:?}", numbers(&file));
        // Mapped, it is somewhat darker than it was; not mapped, it is grey.
        let sdr = sidecar.path("sdr.mkv").display().to_string();
        let mapped = psnr(&file, &sdr, &frame_100(""));
        let unmapped = psnr(&sidecar.path(name).display().to_string(), &sdr, "format=yuv420p");
        let least = if colours == Colours::Bt2020 { 30.0 } else { unmapped + 1.0 };
        assert!(mapped > least, "{name}: {mapped} dB, not mapped {unmapped} dB");
    }
}

#[test]
fn fields_become_frames() {
    let sidecar = Sidecar::start();
    // Fifty pictures a second, two in each frame.
    let woven = format!("{},tinterlace=interleave_top,fieldorder=tff", numbered("50", "5.2"));
    let x264 =
        ["-c:v", "libx264", "-preset", "ultrafast", "-flags", "+ildct+ilme", "-x264-params", "tff=1", "-crf", "12"];
    sidecar.film("fields.mkv", &[&["-f", "lavfi", "-i", &woven], &x264[..]].concat());
    let known = sidecar.known("fields.mkv");
    assert!(known.picture.interlaced && !known.picture.plain);
    assert_eq!((known.grid.frame_rate.to_string().as_str(), known.grid.frames), ("25/1", 130));
    let file = sidecar.playable("fields.mkv", &known, "240p", 1);
    expect_colours(&file, NTSC);
    let source = sidecar.path("fields.mkv").display().to_string();
    let of = |then: &str| psnr(&file, &source, &format!("{then}{}", frame_100("")));
    let (frames, combs) = (of("bwdif=mode=send_frame,"), of(""));
    assert!(frames > 32.0 && frames > combs + 3.0, "{frames} dB with frames, {combs} dB with fields");
}

#[test]
fn fields_become_frames_before_they_are_turned() {
    let sidecar = Sidecar::start();
    let woven = format!("{},tinterlace=interleave_top,fieldorder=tff", numbered("50", "5.2"));
    let x264 =
        ["-c:v", "libx264", "-preset", "ultrafast", "-flags", "+ildct+ilme", "-x264-params", "tff=1", "-crf", "12"];
    sidecar.film("lying.mp4", &[&["-f", "lavfi", "-i", &woven], &x264[..]].concat());
    let lying = sidecar.path("lying.mp4").display().to_string();
    for (name, degrees, turn, (width, height)) in [
        ("left.mp4", "rotate=90", "transpose=cclock", (HEIGHT, WIDTH)),
        ("head over.mp4", "rotate=180", "hflip,vflip", (WIDTH, HEIGHT)),
        ("right.mp4", "rotate=270", "transpose=clock", (HEIGHT, WIDTH)),
    ] {
        sidecar.film(name, &["-i", &lying, "-c", "copy", "-metadata:s:v", degrees]);
        let known = sidecar.known(name);
        assert!(known.picture.interlaced && (known.width, known.height) == (width, height), "{name}: {known:?}");
        let file = sidecar.playable(name, &known, "240p", 1);
        let shape = format!("select='gte(n\\,100)',scale={width}:{height}:flags=bicubic,setsar=1,format=yuv420p");
        let found = psnr(&file, &lying, &format!("bwdif=mode=send_frame,{turn},{shape}"));
        let turned_first = psnr(&file, &lying, &format!("{turn},bwdif=mode=send_frame,{shape}"));
        assert!(found > 30.0 && found > turned_first + 3.0, "{name}: {found} dB, turned first {turned_first} dB");
    }
}

#[test]
fn turned_stretched_and_odd_pictures_have_their_shape() {
    let sidecar = Sidecar::start();
    film(&sidecar, "lying.mp4", "", &["-c:v", "libx264", "-preset", "ultrafast"]);
    let lying = sidecar.path("lying.mp4").display().to_string();
    sidecar.film("upright.mp4", &["-i", &lying, "-c", "copy", "-metadata:s:v", "rotate=90"]);
    sidecar.film("head over.mp4", &["-i", &lying, "-c", "copy", "-metadata:s:v", "rotate=180"]);
    film(&sidecar, "narrow.mkv", ",setsar=2/1", &LOSSLESS);
    film(&sidecar, "odd.mkv", ",format=yuv444p,crop=351:199:0:0", &LOSSLESS);
    for (name, shown, size) in [
        ("upright.mp4", (HEIGHT, WIDTH), (HEIGHT, WIDTH)),
        ("head over.mp4", (WIDTH, HEIGHT), (WIDTH, HEIGHT)),
        ("narrow.mkv", (2 * WIDTH, HEIGHT), (426, 122)),
        ("odd.mkv", (351, 199), (352, 200)),
    ] {
        let known = sidecar.known(name);
        assert_eq!((known.width, known.height), shown, "{name}");
        let file = sidecar.playable(name, &known, "240p", 1);
        let said = said(&file, "stream=width,height,sample_aspect_ratio");
        let (width, height) = size;
        assert!(said.contains(&format!("width={width}\nheight={height}\nsample_aspect_ratio=1:1")), "{name}: {said}");
        // As ffmpeg shows the film.
        let reference = format!("select='gte(n\\,100)',scale={width}:{height}:flags=bicubic,setsar=1,format=yuv420p");
        let found = psnr(&file, &sidecar.path(name).display().to_string(), &reference);
        assert!(found > 30.0, "{name}: {found} dB");
    }
}

#[test]
fn films_that_begin_or_end_oddly_have_every_frame() {
    let sidecar = Sidecar::start();
    let x264 = ["-c:v", "libx264", "-preset", "ultrafast"];
    film(&sidecar, "whole.mp4", "", &[&x264[..], &["-g", "100", "-bf", "2"]].concat());
    let whole = sidecar.path("whole.mp4").display().to_string();
    // Cut in the middle of a group: the frames before are there and are not shown.
    sidecar.film("cut.mp4", &["-ss", "1", "-i", &whole, "-c", "copy"]);
    sidecar.film("late.mkv", &["-i", &whole, "-c", "copy", "-output_ts_offset", "100"]);
    let tone = ["-f", "lavfi", "-i", "sine=f=440:d=9"];
    sidecar.film("longer sound.mp4", &[&["-i", &whole][..], &tone, &["-c:v", "copy"]].concat());
    sidecar.film("later picture.mkv", &[&["-itsoffset", "1.5", "-i", &whole][..], &tone, &["-c:v", "copy"]].concat());
    sidecar.film("one frame.mp4", &[&["-i", &whole][..], &x264, &["-frames:v", "1"]].concat());
    sidecar.film("one frame.mkv", &[&["-i", &whole][..], &x264, &["-frames:v", "1"]].concat());
    sidecar.film("three frames.webm", &["-i", &whole, "-c:v", "libvpx", "-deadline", "realtime", "-frames:v", "3"]);
    for (name, expected) in [
        ("whole.mp4", 0..130),
        ("cut.mp4", 25..130),
        ("late.mkv", 0..130),
        ("longer sound.mp4", 0..130),
        ("later picture.mkv", 0..130),
        ("one frame.mp4", 0..1),
        ("one frame.mkv", 0..1),
        ("three frames.webm", 0..3),
    ] {
        let known = sidecar.known(name);
        let order: Vec<u64> = (0..known.grid.segments()).rev().collect();
        let joined = expect_on_grid(&sidecar, name, &known, "240p", &order);
        let numbers = numbers(&sidecar.written(&joined));
        assert!(numbers.iter().copied().eq(expected.clone()), "{name}: {numbers:?}, not {expected:?}");
    }
}

#[test]
fn a_picture_that_changes_its_size_on_the_way_goes_on() {
    let sidecar = Sidecar::start();
    let stream =
        ["-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-bsf:v", "dump_extra=freq=keyframe", "-f", "h264"];
    film(&sidecar, "one.h264", ",trim=end_frame=50", &stream);
    film(&sidecar, "other.h264", ",trim=start_frame=50,scale=176:100", &stream);
    let both = [std::fs::read(sidecar.path("one.h264")), std::fs::read(sidecar.path("other.h264"))];
    let both: Vec<u8> = both.into_iter().flat_map(|bytes| bytes.expect("a stream")).collect();
    std::fs::write(sidecar.path("both.h264"), both).expect("a stream");
    let both = sidecar.path("both.h264").display().to_string();
    sidecar.film("both.mkv", &["-r", "25", "-i", &both, "-c", "copy"]);
    let known = sidecar.known("both.mkv");
    let joined = expect_on_grid(&sidecar, "both.mkv", &known, "240p", &[1, 0]);
    let numbers = numbers(&sidecar.written(&joined));
    assert!(numbers.iter().copied().eq(0..130), "{numbers:?}");
}
