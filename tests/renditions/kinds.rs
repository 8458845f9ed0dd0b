//! Origins that do it another way: clocks that wrap around, HEVC, tokens, URLs from the root, windows that slide.

use super::{MASTER, added, adding, compare, make, muxed, ready, segments, separate};
use crate::support::{Nginx, Origin, Reply};
use reelgate::media::upstream::address;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn times_that_wrap_around_do_so_in_the_added_rung() {
    // 2³³ ticks are 95443.7 s.
    let nginx = muxed(Nginx::start(), &["scenecut=0", "-output_ts_offset", "95439.2"]);
    let edge = ready(adding(&nginx.url()).run());
    let segments = segments(&edge, &added(&edge));
    compare(&edge, &segments, true);
}

#[test]
fn hevc_in_fragmented_mp4_gets_a_rung_of_h264() {
    let hevc =
        ["-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1", "-x265-params", "log-level=none:scenecut=0"];
    let nginx = separate(Nginx::start(), &hevc);
    let edge = ready(adding(&nginx.url()).run());
    let segments = segments(&edge, &added(&edge));
    compare(&edge, &segments, true);
}

#[test]
fn sound_in_the_same_fragments_stays_as_it_is() {
    let nginx = muxed(Nginx::start(), &["scenecut=0", "-hls_segment_type", "fmp4"]);
    let edge = ready(adding(&nginx.url()).run());
    let segments = segments(&edge, &added(&edge));
    compare(&edge, &segments, true);
}

/// The files of a finished ladder.
fn files() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("best");
    make(&path, &["-bf", "2", "-g", "300"]);
    (folder, path)
}

const VARIANT: &str =
    "#EXT-X-STREAM-INF:BANDWIDTH=2500000,CODECS=\"avc1.64001E,mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=29.970\n";

/// The segments of a playlist, with the lines before each.
fn entries(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path.join("i.m3u8")).expect("a playlist");
    let mut lines = text.lines().skip_while(|line| !line.starts_with("#EXTINF"));
    std::iter::from_fn(|| {
        Some((lines.next().filter(|line| line.starts_with("#EXTINF"))?.to_owned(), lines.next()?.to_owned()))
    })
    .collect()
}

#[test]
fn tokens_and_urls_from_the_root_lead_to_the_origins_segments_and_stay_with_their_client() {
    let (_folder, path) = files();
    let entries = entries(&path);
    let list: String = entries.iter().map(|(inf, uri)| format!("{inf}\n/cdn/{uri}?sign=5\n")).collect();
    let origin = Origin::start()
        .route("/m.m3u8", Reply::cacheable(format!("{MASTER}{VARIANT}/list/i.m3u8\n")))
        .route("/list/i.m3u8", Reply::cacheable(format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n{list}#EXT-X-ENDLIST\n")))
        .handle("*", move |asked| {
            let file = path.join(asked.path().trim_start_matches("/cdn/"));
            match std::fs::read(file).ok().filter(|_| asked.target.ends_with("?sign=5")) {
                Some(bytes) => Reply::cacheable(bytes).header("Cache-Tag", "film-1"),
                None => Reply::status(403),
            }
        });
    // The token of the client is no part of the key: what repeats it is not kept for others.
    let key = json!({"ignore": ["token"]});
    let edge = ready(adding(&origin.url()).set("sites.0.cache.key", key).run());
    let playlist = "/list/_reelgate/240p-640x360-29970/i.m3u8";
    assert!(edge.get("/m.m3u8").expect_status(200).text().contains(playlist));
    let made = edge.get(&format!("{playlist}?token=mine")).expect_status(200);
    assert_eq!(made.header("cache-control"), Some("private, no-store"));
    let uri = made.text().lines().find(|line| !line.starts_with('#')).expect("a segment").to_owned();
    assert!(uri.ends_with(".ts?token=mine"), "{uri}");
    let other = edge.get(&format!("{playlist}?token=other")).expect_status(200).text();
    assert!(!other.contains("mine"), "{other}");
    let url = format!("/list/_reelgate/240p-640x360-29970/{uri}");
    edge.get(&url).expect_status(200).expect_miss();
    edge.get(&url.replace("mine", "other")).expect_status(200).expect_hit();
    assert_eq!(origin.count(&format!("/cdn/{}", entries[0].1)), 1);
}

#[test]
fn a_live_window_slides_in_the_added_rung_too() {
    let (_folder, path) = files();
    let (entries, first) = (Arc::new(entries(&path)), Arc::new(AtomicUsize::new(0)));
    let window = {
        let (entries, first) = (Arc::clone(&entries), Arc::clone(&first));
        move || {
            let first = first.load(Ordering::SeqCst);
            let list: String = entries[first..first + 3].iter().map(|(inf, uri)| format!("{inf}\n{uri}\n")).collect();
            format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-MEDIA-SEQUENCE:{first}\n{list}")
        }
    };
    let origin = Origin::start()
        .route("/m.m3u8", Reply::cacheable(format!("{MASTER}{VARIANT}i.m3u8\n")))
        .handle("/i.m3u8", move |_| {
            Reply::ok(window()).header("Cache-Control", "public, no-cache").header("ETag", "\"w\"")
        })
        .handle("*", move |asked| match std::fs::read(path.join(asked.path().trim_start_matches('/'))) {
            Ok(bytes) => Reply::cacheable(bytes),
            Err(_) => Reply::status(404),
        });
    let edge = ready(adding(&origin.url()).run());
    assert!(edge.get("/m.m3u8").expect_status(200).text().contains(address::RESERVED));
    let folder = "/_reelgate/240p-640x360-29970/";
    let seen = || {
        let text = edge.get(&format!("{folder}i.m3u8")).expect_status(200).text();
        assert!(!text.contains("ENDLIST"));
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = seen();
    edge.get(&format!("{folder}{}", before[1])).expect_status(200);
    first.store(1, Ordering::SeqCst);
    let after = seen();
    assert_eq!(before[1..], after[..2], "the same segments have the same URLs");
    edge.get(&format!("{folder}{}", after[0])).expect_status(200).expect_hit();
    edge.get(&format!("{folder}{}", after[2])).expect_status(200);
    edge.get(&format!("{folder}{}", before[0])).expect_status(404);
}
