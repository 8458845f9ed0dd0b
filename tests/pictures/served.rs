//! Pictures through the edge: one object for each format whatever clients send, few sizes, each made once, and lists that agree.

use super::world::{numbered, tool};
use crate::streams::{library, title, wait_until_ready};
use crate::support::{Edge, Request, Response};
use reelgate::media::pictures::{Format, WIDTHS};
use std::path::Path;

fn film(folder: &Path, seconds: &str) {
    let path = folder.join("A film.mp4").display().to_string();
    let picture = numbered("25", seconds);
    let x264 = ["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-g", "50", "-sc_threshold", "0"];
    tool("ffmpeg", &[&["-nostdin", "-y", "-f", "lavfi", "-i", &picture][..], &x264, &[&path]].concat());
}

struct World {
    films: tempfile::TempDir,
    edge: Edge,
    /// `/t/{id}`
    title: String,
}

impl World {
    fn new(seconds: &str) -> Self {
        let films = tempfile::tempdir().expect("a folder");
        film(films.path(), seconds);
        let edge = library(films.path()).run();
        wait_until_ready(&edge);
        let title = title(&edge, "A film");
        Self { films, edge, title }
    }

    fn get(&self, path: &str) -> Response {
        self.edge.get(&format!("{}/{path}", self.title))
    }

    fn accepting(&self, path: &str, accept: &str) -> Response {
        self.edge.send(&Request::get(&format!("{}/{path}", self.title)).header("Accept", accept))
    }

    /// Answers of the sidecar.
    fn made(&self, kind: &str) -> f64 {
        let labels = [("origin", "main"), ("kind", kind), ("outcome", "made")];
        self.edge.metrics().value("reelgate_transcode_answers_total", &labels)
    }

    #[track_caller]
    fn size(&self, picture: &Response) -> (u32, u32) {
        let path = self.films.path().join(".picture");
        std::fs::write(&path, &picture.body).expect("a file");
        let path = path.display().to_string();
        let said = tool("ffprobe", &["-show_entries", "stream=width,height", "-of", "csv=p=0", &path]);
        let said = String::from_utf8_lossy(&said).into_owned();
        let (width, height) = said.trim().split_once(',').expect("two numbers");
        (width.parse().expect("a width"), height.parse().expect("a height"))
    }
}

#[track_caller]
fn expect_format(picture: &Response, format: Format) {
    assert_eq!((picture.status, picture.header("content-type")), (200, Some(format.media_type())));
    assert!(format.begins(&picture.body), "{format:?}");
}

const ACCEPTS: [(&str, Format); 10] = [
    ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", Format::Avif),
    ("image/avif,image/webp,*/*", Format::Avif),
    ("image/webp,image/avif;q=0.1,*/*", Format::Webp),
    ("image/webp,*/*;q=0.5", Format::Webp),
    ("text/html, IMAGE/WEBP", Format::Webp),
    ("*/*", Format::Jpeg),
    ("image/*", Format::Jpeg),
    ("image/png", Format::Jpeg),
    ("image/jpeg, image/avif;q=0", Format::Jpeg),
    ("", Format::Jpeg),
];

#[test]
fn however_accept_is_written_there_is_one_object_for_each_format() {
    let world = World::new("12");
    for round in 0..2 {
        for (accept, format) in ACCEPTS {
            let picture = world.accepting("poster.jpg?width=160", accept);
            expect_format(&picture, format);
            assert_eq!(picture.header("vary"), Some("Accept"), "{accept}");
            assert_eq!(picture.header("avail-format"), Some("image/avif, image/webp, image/jpeg;d"));
            assert!(round == 0 || picture.is_hit(), "{accept}: {}", picture.cache_status());
        }
    }
    for number in 0..20 {
        let picture = world.accepting("poster.jpg?width=160", &format!("image/webp;q=0.{number}1,image/x-{number}"));
        expect_format(&picture.expect_hit(), Format::Webp);
    }
    expect_format(&world.get("poster.jpg?width=160").expect_hit(), Format::Jpeg);
    assert_eq!(world.made("picture"), 3.0);

    // By name it is what the name says.
    for format in Format::ALL {
        let name = format!("poster.{}?width=160", format.extension());
        for accept in ["image/avif", "image/webp", "image/jpeg", "text/plain"] {
            let picture = world.accepting(&name, accept);
            expect_format(&picture, format);
            assert_eq!(picture.header("vary"), None);
        }
    }
    assert_eq!(world.made("picture"), 6.0);
    let tag = world.get("poster.webp?width=160").header("etag").expect("a validator").to_owned();
    let asked = Request::get(&format!("{}/poster.webp?width=160", world.title)).header("If-None-Match", &tag);
    assert_eq!(world.edge.send(&asked).status, 304);
    world.get("poster.png").expect_status(404);
}

#[test]
fn sizes_and_times_are_few_and_each_picture_has_one_address() {
    let world = World::new("31");
    for (asked, instead) in [
        ("poster.jpg?width=317", "poster.jpg?width=320"),
        ("poster.jpg?width=0320", "poster.jpg?width=320"),
        ("poster.jpg?width=99999", "poster.jpg?width=1280"),
        ("poster.webp?width=320&x=1", "poster.webp?width=320"),
        ("poster.jpg?x=1", "poster.jpg"),
        ("thumb/17.jpg", "10.jpg"),
        ("thumb/17.webp?width=1", "10.webp?width=160"),
        ("thumb/86400.jpg", "30.jpg"),
    ] {
        let answer = world.get(asked);
        let told = (answer.status, answer.header("location"), answer.header("cache-control"));
        assert_eq!(told, (308, Some(instead), Some("no-store")), "{asked}");
    }
    world.get("poster.jpg?width=wide").expect_status(400);
    world.get("thumb/010.jpg").expect_status(404);
    assert_eq!(world.made("picture") + world.made("thumb"), 0.0);
    for (asked, size) in [
        ("poster.jpg?width=160", (160, 90)),
        ("poster.jpg", (352, 200)),
        ("poster.jpg?width=1280", (352, 200)),
        ("thumb/30.jpg", (320, 180)),
        ("thumb/0.webp?width=160", (160, 90)),
    ] {
        let picture = world.get(asked).expect_status(200);
        assert_eq!(
            (world.size(&picture), picture.header("cache-control")),
            (size, Some("public, max-age=3600")),
            "{asked}"
        );
        world.get(asked).expect_hit();
    }
}

#[test]
fn fifty_at_once_are_each_made_once_and_in_few_runs_and_a_film_plays_meanwhile() {
    let world = World::new("81");
    let asked: Vec<String> = (0..54).map(|n| format!("thumb/{}.jpg?width={}", n / 6 * 10, WIDTHS[n % 6])).collect();
    let segments = world.get("240p/index.m3u8").expect_status(200).text();
    let init = segments.split("URI=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an init").to_owned();
    std::thread::scope(|scope| {
        for path in asked.iter().chain(&asked) {
            let world = &world;
            scope.spawn(move || expect_format(&world.get(path), Format::Jpeg));
        }
        world.get(&format!("240p/{init}")).expect_status(200);
    });
    assert_eq!(world.made("thumb"), 54.0);
    let event = |event: &'static str| [("event", event)];
    // Widths beyond the film's are the film's: their pictures are the same jobs, of which those at the same time are one.
    world.edge.expect_metric_at_least("reelgate_transcoder_events_total", &event("picture"), 27.0);
    let runs = world.edge.metrics().value("reelgate_transcoder_events_total", &event("picture_run"));
    assert!(runs < 30.0, "{runs} runs");
    assert_eq!(world.edge.metrics().value("reelgate_transcoder_events_total", &event("picture_failure")), 0.0);
}

#[test]
fn all_lists_name_the_same_sheets_which_are_kept_for_good_and_purged_with_their_title() {
    let world = World::new("12");
    let vtt = world.get("trickplay.vtt").expect_status(200);
    assert_eq!(vtt.header("content-type"), Some("text/vtt; charset=utf-8"));
    let text = vtt.text();
    let sheet =
        text.lines().find_map(|line| line.strip_suffix("#xywh=0,0,320,180")).expect("the first tile").to_owned();
    assert!(text.contains(&format!("00:00:10.000 --> 00:00:12.000\n{sheet}#xywh=320,0,320,180\n")), "{text}");
    let name = sheet.strip_prefix("trickplay/").expect("in its folder");
    let playlist = world.get("trickplay/index.m3u8").expect_status(200).text();
    let tiles = "#EXT-X-TILES:RESOLUTION=320x180,LAYOUT=5x5,DURATION=10";
    assert!(playlist.contains(&format!("#EXT-X-IMAGES-ONLY\n#EXTINF:12.000000,\n{tiles}\n{name}\n")), "{playlist}");
    let master = world.get("master.m3u8").expect_status(200).text();
    assert!(master.contains("#EXT-X-IMAGE-STREAM-INF:") && master.contains("URI=\"trickplay/index.m3u8\""), "{master}");
    let manifest = world.get("manifest.mpd").expect_status(200).text();
    let media = sheet.replace("0.jpg", "$Number$.jpg");
    assert!(manifest.contains(&format!("startNumber=\"0\" media=\"{media}\"")), "{manifest}");
    let property = "<EssentialProperty schemeIdUri=\"http://dashif.org/guidelines/thumbnail_tile\" value=\"5x5\"/>";
    assert!(manifest.contains(property), "{manifest}");

    let picture = world.get(&sheet).expect_status(200);
    expect_format(&picture, Format::Jpeg);
    assert_eq!(picture.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(world.size(&picture), (1600, 900));
    world.get(&sheet).expect_hit();
    expect_format(&world.accepting(&sheet, "image/avif,image/webp"), Format::Webp);
    assert_eq!(world.made("sheet"), 2.0);
    assert_eq!(world.get(&format!("{sheet}?x=1")).header("location"), Some("0.jpg"));
    world.get(&sheet.replace("/0.jpg", "/1.jpg")).expect_status(404);
    world.get("trickplay/0123456789abcdef/0.jpg").expect_status(404);
    let tag = format!("title-{}", world.title.trim_start_matches("/t/"));
    let purge = Request::new("POST", "/api/v1/purge").header("Content-Type", "application/json");
    let purged = purge.body(serde_json::json!({"tag": tag}).to_string()).send(world.edge.admin());
    assert_eq!(purged.status, 200);
    world.get(&sheet).expect_miss();
}

#[test]
fn a_poster_beside_a_film_is_resized_and_a_hostile_one_is_not_used() {
    let world = World::new("2");
    let poster = world.films.path().join("poster.png").display().to_string();
    let red = "color=s=1000x1500:c=red";
    tool("ffmpeg", &["-nostdin", "-f", "lavfi", "-i", red, "-frames:v", "1", "-metadata", "comment=SECRET", &poster]);
    let picture = world.get("poster.jpg?width=320").expect_status(200);
    expect_format(&picture, Format::Jpeg);
    assert_eq!(world.size(&picture), (320, 480));
    assert!(!picture.body.windows(6).any(|bytes| bytes == b"SECRET"));
    assert_eq!((world.made("artwork"), world.made("picture")), (1.0, 0.0));
    std::fs::write(&poster, "no picture").expect("a file");
    let frame = world.get("poster.jpg?width=160").expect_status(200);
    assert_eq!((world.size(&frame), world.made("picture")), ((160, 90), 1.0));
}
