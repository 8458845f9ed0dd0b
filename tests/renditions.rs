//! Rungs added to the ladders of an HLS origin: a real nginx with what ffmpeg made, with boundaries of its own. Each added segment has the
//! frames of the one it was made of, at their times, in whatever order they are asked for.

use crate::streams::children;
use crate::support::{Edge, EdgeBuilder, Nginx, Origin, Player, Reply, Request, Speech, eventually, runtime};
use reelgate::media::upstream::address;
use serde_json::json;
use std::path::Path;
use std::process::Command;

mod hostile;
mod kinds;
mod memory;
mod playing;

/// The edge before an origin, with the rungs of a box.
fn adding(url: &str) -> EdgeBuilder {
    Edge::of_url(url).set("origins.main.add_renditions", json!(["240p"]))
}

#[track_caller]
fn ready(edge: Edge) -> Edge {
    edge.expect_metric("reelgate_transcoder_up", &[], 1.0);
    edge
}

#[track_caller]
fn tool(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output =
        Command::new(program).args(["-v", "error"]).args(arguments).output().expect("tests/run installs ffmpeg");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Keyframes nobody would choose.
const KEYFRAMES: &str = "0,1.3,2.1,4.4,4.9,6.6,8.1,11.2";
const MASTER: &str = "#EXTM3U\n#EXT-X-VERSION:6\n";

/// What ffmpeg makes: 13 s at 30000/1001, each frame as bright as its number says.
#[track_caller]
fn make(folder: &Path, options: &[&str]) {
    std::fs::create_dir_all(folder).expect("a folder");
    let picture = "color=s=640x360:r=30000/1001:d=13,geq=lum='20+mod(N*9\\,198)':cb=128:cr=128,format=yuv420p";
    let list = folder.join("i.m3u8").display().to_string();
    let mut arguments =
        vec!["-nostdin", "-y", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=f=440:r=48000:d=13"];
    arguments.extend(["-threads", "1", "-c:v", "libx264", "-preset", "veryfast", "-crf", "16", "-c:a", "aac"]);
    arguments.extend(["-force_key_frames", KEYFRAMES]);
    arguments.extend(options);
    arguments.extend(["-f", "hls", "-hls_time", "0.3", "-hls_playlist_type", "vod", &list]);
    tool("ffmpeg", &arguments);
}

fn muxed(nginx: Nginx, options: &[&str]) -> Nginx {
    let encoded = [&["-bf", "2", "-g", "300", "-x264-params"][..], options].concat();
    make(&nginx.root().join("f/best"), &encoded);
    let variant = "#EXT-X-STREAM-INF:BANDWIDTH=2500000,CODECS=\"avc1.64001E,mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=29.970\nbest/i.m3u8?t=1\n";
    nginx.file("f/master.m3u8", format!("{MASTER}{variant}"))
}

fn separate(nginx: Nginx, options: &[&str]) -> Nginx {
    let boxes = ["-hls_segment_type", "fmp4"];
    make(&nginx.root().join("f/best"), &[&["-bf", "2", "-g", "300", "-an"], &boxes[..], options].concat());
    make(&nginx.root().join("f/sound"), &[&["-vn"], &boxes[..]].concat());
    let lines = "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"English\",DEFAULT=YES,AUTOSELECT=YES,URI=\"sound/i.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2500000,CODECS=\"avc1.64001E,mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=29.970,AUDIO=\"a\"\nbest/i.m3u8?t=1\n";
    nginx.file("f/master.m3u8", format!("{MASTER}{lines}"))
}

/// The URL of a playlist's only added rung.
#[track_caller]
fn added(edge: &Edge) -> String {
    let master = edge.get("/f/master.m3u8").expect_status(200).text();
    let uri = master
        .lines()
        .find(|line| line.contains(address::RESERVED))
        .unwrap_or_else(|| panic!("nothing added: {master}"));
    assert_eq!(master.lines().filter(|line| line.contains("RESOLUTION=426x240")).count(), 1, "{master}");
    format!("/f/{uri}")
}

struct Segments {
    /// Pairs of URLs: the origin's, and the one made from it.
    pairs: Vec<(String, String)>,
    heads: Option<(String, String)>,
}

/// Both playlists, which differ by their URLs alone.
#[track_caller]
fn segments(edge: &Edge, playlist: &str) -> Segments {
    let own = edge.get("/f/best/i.m3u8?t=1").expect_status(200).text();
    let made = edge.get(playlist).expect_status(200).text();
    let folder = playlist.rsplit_once('/').expect("a path").0;
    let head = |line: &str| line.split_once("URI=\"").map(|(_, rest)| rest.trim_end_matches('"').to_owned());
    let (mut pairs, mut heads) = (Vec::new(), None);
    assert_eq!(own.lines().count(), made.lines().count(), "{own}{made}");
    for (own, made) in own.lines().zip(made.lines()) {
        if !own.starts_with('#') {
            assert!(made.ends_with("?t=1"), "{made}");
            pairs.push((format!("/f/best/{own}"), format!("{folder}/{made}")));
        } else if let (Some(own), Some(made)) = (head(own), head(made)) {
            heads = Some((format!("/f/best/{own}"), format!("{folder}/{made}")));
        } else {
            assert_eq!(own, made);
        }
    }
    assert!(pairs.len() > 4, "{own}");
    Segments { pairs, heads }
}

/// Time stamps of packets: shown (in order), and decoded.
#[track_caller]
fn times(file: &Path, stream: &str) -> (Vec<i64>, Vec<i64>) {
    let said = tool(
        "ffprobe",
        &[
            "-ignore_editlist",
            "1",
            "-select_streams",
            stream,
            "-show_entries",
            "packet=pts,dts",
            "-of",
            "csv=p=0",
            &file.display().to_string(),
        ],
    );
    let said = String::from_utf8(said).expect("text");
    let number = |text: Option<&str>| text.and_then(|text| text.trim().parse::<i64>().ok()).expect("a number");
    let mut both: (Vec<_>, Vec<_>) = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let mut parts = line.split(',');
            (number(parts.next()), number(parts.next()))
        })
        .unzip();
    both.0.sort_unstable();
    both
}

/// How bright each frame is.
fn brightness(file: &Path) -> Vec<u8> {
    let filter = "scale=1:1:flags=area,format=gray";
    tool(
        "ffmpeg",
        &[
            "-i",
            &file.display().to_string(),
            "-map",
            "0:v:0",
            "-fps_mode",
            "passthrough",
            "-vf",
            filter,
            "-f",
            "rawvideo",
            "-",
        ],
    )
}

fn has_sound(file: &Path) -> bool {
    let said = tool(
        "ffprobe",
        &["-select_streams", "a", "-show_entries", "stream=index", "-of", "csv=p=0", &file.display().to_string()],
    );
    !said.trim_ascii().is_empty()
}

#[track_caller]
fn compare(edge: &Edge, segments: &Segments, alone: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let head = |which: fn(&(String, String)) -> &String| {
        segments.heads.as_ref().map_or(Vec::new(), |heads| edge.get(which(heads)).expect_status(200).body)
    };
    let (own_head, made_head) = (head(|heads| &heads.0), head(|heads| &heads.1));
    // In no order anybody would ask for them in.
    let mut order: Vec<usize> = (0..segments.pairs.len()).collect();
    order.sort_by_key(|index| (index * 5 + 3) % 7);
    for index in order {
        let (own, made) = &segments.pairs[index];
        let own = edge.get(own).expect_status(200);
        let made = edge.get(made).expect_status(200);
        assert_eq!(own.header("content-type").is_some(), made.header("content-type").is_some());
        let write = |name: &str, head: &[u8], body: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, [head, body].concat()).expect("a file");
            path
        };
        let (own, made) = (write("own", &own_head, &own.body), write("made", &made_head, &made.body));
        assert_eq!(times(&own, "v"), times(&made, "v"), "segment {index}: each frame at its time");
        if alone {
            let (own, made) = (brightness(&own), brightness(&made));
            assert_eq!(own.len(), made.len());
            let off = own.iter().zip(&made).map(|(own, made)| own.abs_diff(*made)).max();
            assert!(off <= Some(6), "segment {index}: each frame in its place: {own:?} {made:?}");
        }
        if has_sound(&own) {
            assert_eq!(times(&own, "a"), times(&made, "a"), "sound is where it was");
            let sound = |file: &Path| {
                tool("ffmpeg", &["-i", &file.display().to_string(), "-map", "0:a", "-c", "copy", "-f", "md5", "-"])
            };
            assert_eq!(sound(&own), sound(&made), "and as it was");
        }
        let shown = tool(
            "ffprobe",
            &[
                "-select_streams",
                "v",
                "-show_entries",
                "stream=width,height",
                "-of",
                "csv=p=0",
                &made.display().to_string(),
            ],
        );
        let shown = String::from_utf8(shown).expect("text");
        assert!(shown.lines().all(|line| line.trim().is_empty() || line.starts_with("426,240")), "{shown}");
    }
}

#[test]
fn a_ladder_of_transport_streams_gets_a_rung_frame_for_frame_with_its_own_sound() {
    let nginx = muxed(Nginx::start(), &["scenecut=0"]);
    let edge = ready(adding(&nginx.url()).run());
    let playlist = added(&edge);
    let master = edge.get("/f/master.m3u8").expect_hit();
    let asked = Request::get("/f/master.m3u8").header("If-None-Match", master.header("etag").expect("an entity-tag"));
    edge.send(&asked).expect_status(304);
    let head = edge.send(&Request::new("HEAD", "/f/master.m3u8")).expect_status(200);
    assert_eq!(head.header("content-length"), Some(master.body.len().to_string().as_str()));
    let segments = segments(&edge, &playlist);
    let before = nginx.requests();
    compare(&edge, &segments, true);
    assert!(nginx.requests() - before <= segments.pairs.len(), "each of the origin's segments is asked for once");
    let made = &segments.pairs[1].1;
    let hit = edge.get(made).expect_status(200).expect_hit();
    let etag = hit.header("etag").expect("an entity-tag").to_owned();
    edge.send(&Request::get(made).header("If-None-Match", &etag)).expect_status(304);
    let part = edge.send(&Request::get(made).header("Range", "bytes=0-187")).expect_status(206);
    assert_eq!(part.body, hit.body[..188]);
    edge.expect_metric(
        "reelgate_renditions_total",
        &[("kind", "segment"), ("outcome", "made")],
        segments.pairs.len() as f64,
    );
}

#[test]
fn segments_of_open_groups_are_decoded_with_the_one_before() {
    let nginx = muxed(
        Nginx::start(),
        &["scenecut=0:open-gop=1:bframes=3:b-adapt=0:keyint=50", "-bsf:v", "dump_extra=freq=keyframe"],
    );
    let edge = ready(adding(&nginx.url()).run());
    let segments = segments(&edge, &added(&edge));
    compare(&edge, &segments, false);
    // All together, what is seen is the film, frame by frame.
    let folder = tempfile::tempdir().expect("a folder");
    let whole = |which: fn(&(String, String)) -> &String, name: &str| {
        let bytes: Vec<u8> =
            segments.pairs.iter().flat_map(|pair| edge.get(which(pair)).expect_status(200).body).collect();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        brightness(&path)
    };
    let (own, made) = (whole(|pair| &pair.0, "own"), whole(|pair| &pair.1, "made"));
    assert_eq!(own.len(), made.len());
    assert!(own.iter().zip(&made).all(|(own, made)| own.abs_diff(*made) <= 6), "{own:?} {made:?}");
}

#[test]
fn a_ladder_of_fragmented_mp4_gets_a_rung_and_keeps_its_groups_of_sound() {
    let nginx = separate(Nginx::start(), &["-x264-params", "scenecut=0"]);
    let edge = ready(adding(&nginx.url()).run());
    let playlist = added(&edge);
    assert_eq!(edge.get("/f/master.m3u8").text().matches("AUDIO=\"a\"").count(), 2);
    let segments = segments(&edge, &playlist);
    compare(&edge, &segments, true);
}

#[test]
fn without_the_sidecar_the_variants_vanish_and_nothing_of_that_is_kept() {
    let nginx = muxed(Nginx::start(), &["scenecut=0"]);
    let edge = adding(&nginx.url()).set("transcode.program", "/bin/false").run();
    let master = edge.get("/f/master.m3u8").expect_status(200);
    assert!(!master.text().contains(address::RESERVED) && master.text().contains("best/i.m3u8?t=1"));
    assert_eq!(master.header("cache-control"), Some("max-age=5"));
    edge.expect_metric("reelgate_renditions_total", &[("kind", "variants"), ("outcome", "away")], 1.0);
    let url = "/f/best/_reelgate/240p-640x360-29970/i.m3u8?t=1";
    let segment = edge.get(url).expect_status(200).text();
    let segment = segment.lines().find(|line| !line.starts_with('#')).expect("a segment").to_owned();
    let refused = edge.get(&format!("/f/best/_reelgate/240p-640x360-29970/{segment}")).expect_status(503);
    assert_eq!((refused.header("cache-control"), refused.header("retry-after")), (Some("no-store"), Some("2")));
}

#[test]
fn variants_go_with_the_sidecar_and_come_again_with_it() {
    let nginx = muxed(Nginx::start(), &["scenecut=0"]);
    let edge = ready(adding(&nginx.url()).run());
    let segments = segments(&edge, &added(&edge));
    let (kept, other) = (&segments.pairs[0].1, &segments.pairs[1].1);
    edge.get(kept).expect_status(200);
    let offers = || edge.get("/f/master.m3u8").expect_status(200).text().contains(address::RESERVED);
    let sidecar = children(edge.pid()).pop().expect("a sidecar");
    let signal = |name: &str| Command::new("kill").args([name, &sidecar]).status().is_ok_and(|status| status.success());
    assert!(signal("-STOP"));
    eventually("the variants vanish", || !offers());
    edge.get(kept).expect_status(200).expect_hit();
    let refused = edge.get(other);
    assert!(matches!(refused.status, 502 | 503), "{}", refused.status);
    eventually("another sidecar makes segments again", offers);
    edge.get(other).expect_status(200);
}

#[test]
fn what_may_not_be_shared_gets_no_rungs() {
    let master = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=2500000,CODECS=\"avc1.64001E\",RESOLUTION=640x360\ni.m3u8\n";
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n0.ts\n#EXT-X-ENDLIST\n";
    let private = |text: &str| Reply::ok(text).header("Cache-Control", "private, max-age=60");
    for (master, list) in [(private(master), Reply::cacheable(list)), (Reply::cacheable(master), private(list))] {
        let origin = Origin::start().route("/m.m3u8", master).route("/i.m3u8", list);
        let edge = ready(adding(&origin.url()).run());
        assert!(!edge.get("/m.m3u8").expect_status(200).text().contains(address::RESERVED));
        edge.expect_metric("reelgate_renditions_total", &[("kind", "variants"), ("outcome", "private")], 1.0);
    }
}

#[test]
fn every_protocol_gets_the_same_bytes_and_they_are_made_once() {
    let nginx = muxed(Nginx::start(), &["scenecut=0"]);
    let edge = ready(adding(&nginx.url()).tls().run());
    let segments = segments(&edge, &added(&edge));
    let made = &segments.pairs[2].1;
    runtime().block_on(async {
        let asked = Speech::ALL.map(|speech| {
            let (address, made) = (edge.speaks(speech), made.clone());
            runtime().spawn(async move {
                let mut player = Player::open(speech, address, None).await?;
                let master = player.get("/f/master.m3u8").await?.rest().await?;
                let segment = player.get(&made).await?.rest().await?;
                Ok::<_, String>((master, segment))
            })
        });
        let mut seen = Vec::new();
        for asked in asked {
            seen.push(asked.await.expect("a task").expect("an answer"));
        }
        assert!(seen.iter().all(|both| *both == seen[0] && both.1.len() > 1880), "all alike");
        assert!(String::from_utf8_lossy(&seen[0].0).contains(address::RESERVED));
    });
    edge.expect_metric("reelgate_renditions_total", &[("kind", "segment"), ("outcome", "made")], 1.0);
    // A range of what is not there yet is cut out of the whole.
    let part = edge.send(&Request::get(&segments.pairs[3].1).header("Range", "bytes=188-375")).expect_status(206);
    assert_eq!(part.body, edge.get(&segments.pairs[3].1).expect_status(200).expect_hit().body[188..376]);
    // What was made is reached by the tag of all that was, and made anew.
    let purge = Request::new("POST", "/api/v1/purge").header("Content-Type", "application/json");
    purge.body(r#"{"tag": "reelgate-renditions"}"#).send(edge.admin()).expect_status(200);
    edge.get(made).expect_status(200).expect_miss();
}
