//! `kind: library`: films and ladders of a folder under the contract's URLs, and nothing outside it.

mod index;

use crate::support::{Connection, Edge, EdgeBuilder, Origin, Request, Response, eventually, letters, pattern};
use serde_json::{Value, json};
use std::path::Path;

fn library(folder: &Path) -> EdgeBuilder {
    Edge::of(&Origin::start())
        .set("origins.main", json!({"kind": "library", "folders": [folder.display().to_string()]}))
}

/// A film and a ladder, without ffmpeg: the library serves files, it does not look into them.
fn sample() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("A film.mp4"), pattern(500_000)).expect("a film");
    let ladder = folder.path().join("Ladder");
    std::fs::create_dir_all(ladder.join("720p")).expect("a ladder");
    std::fs::write(ladder.join("master.m3u8"), "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n720p/index.m3u8\n")
        .expect("a playlist");
    std::fs::write(ladder.join("720p/index.m3u8"), "#EXTM3U\n#EXTINF:4,\n00000.m4s\n#EXT-X-ENDLIST\n")
        .expect("a playlist");
    std::fs::write(ladder.join("720p/00000.m4s"), letters(1, 20_000)).expect("a segment");
    folder
}

fn titles(edge: &Edge) -> Vec<(String, String)> {
    let list = edge.get("/titles.json").expect_status(200).json();
    let titles = list["titles"].as_array().expect("a list of titles").clone();
    let text = |v: &Value| v.as_str().expect("text").to_owned();
    titles.iter().map(|t| (text(&t["name"]), text(&t["id"]))).collect()
}

#[track_caller]
fn id(edge: &Edge, name: &str) -> String {
    let titles = titles(edge);
    titles.iter().find(|(n, _)| n.contains(name)).unwrap_or_else(|| panic!("{name} is not in {titles:?}")).1.clone()
}

#[test]
fn a_film_is_served_with_ranges_and_a_strong_validator() {
    let folder = sample();
    let edge = library(folder.path()).run();
    let path = format!("/t/{}/file", id(&edge, "A film"));
    let whole = edge.get(&path).expect_status(200);
    assert!(whole.complete && whole.body == pattern(500_000));
    assert_eq!((whole.header("content-type"), whole.header("accept-ranges")), (Some("video/mp4"), Some("bytes")));
    let etag = whole.header("etag").expect("a validator").to_owned();
    assert!(etag.starts_with('"'), "a strong one: {etag}");
    for _ in 0..2 {
        let part = edge.send(&Request::get(&path).header("Range", "bytes=1000-1999").header("If-Range", &etag));
        assert_eq!((part.status, part.body.as_slice()), (206, &pattern(500_000)[1000..2000]));
    }
    assert_eq!(edge.send(&Request::get(&path).header("If-None-Match", &etag)).status, 304);
    assert_eq!(edge.send(&Request::get(&path).header("Range", "bytes=500000-")).status, 416);
    let head = edge.send(&Request::new("HEAD", &path)).expect_status(200);
    assert_eq!(head.header("content-length"), Some("500000"));
}

#[test]
fn a_ladder_is_served_with_its_files() {
    let folder = sample();
    let edge = library(folder.path()).run();
    let base = format!("/t/{}", id(&edge, "Ladder"));
    let kind = |path: &str| -> (Response, String) {
        let answer = edge.get(&format!("{base}/{path}")).expect_status(200);
        let kind = answer.header("content-type").unwrap_or_default().to_owned();
        (answer, kind)
    };
    assert_eq!(kind("master.m3u8").1, "application/vnd.apple.mpegurl");
    assert_eq!(kind("720p/index.m3u8").1, "application/vnd.apple.mpegurl");
    let (segment, segment_kind) = kind("720p/00000.m4s");
    assert!(
        segment.text() == letters(1, 20_000) && ["video/mp4", "video/iso.segment"].contains(&segment_kind.as_str())
    );
    edge.get(&format!("{base}/720p/00000.m4s")).expect_hit();
    assert_eq!(edge.get(&format!("{base}/720p/none.m4s")).status, 404);
    assert_eq!(edge.get("/t/none/file").status, 404);
}

#[test]
fn ids_are_stable_and_plain() {
    let folder = sample();
    let before = titles(&library(folder.path()).run());
    assert_eq!(before.len(), 2, "a ladder is one title, not three files: {before:?}");
    assert!(before.iter().all(|(_, id)| id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')));
    std::fs::write(folder.path().join("0 first.mkv"), b"x").expect("another film");
    let edge = library(folder.path()).run();
    let after = titles(&edge);
    assert!(before.iter().all(|title| after.contains(title)), "{before:?} {after:?}");
    let found = edge.get("/titles.json?q=FIRST").expect_status(200).json();
    assert_eq!(found["titles"].as_array().map(Vec::len), Some(1), "{found}");
}

#[test]
fn a_new_film_is_found_by_itself() {
    let folder = sample();
    let edge = library(folder.path()).set("origins.main.rescan_interval", "1s").run();
    assert_eq!(titles(&edge).len(), 2);
    std::fs::write(folder.path().join("Late.mp4"), b"late").expect("another film");
    eventually("the film is listed", || {
        edge.get("/titles.json?q=late").json()["titles"].as_array().is_some_and(|t| t.len() == 1)
    });
    edge.expect_metric("reelgate_library_titles", &[("origin", "main")], 3.0);
}

#[test]
fn nothing_outside_the_folder_is_served() {
    let outside = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(outside.path().join("secret.mp4"), "TOP SECRET").expect("a secret");
    let folder = sample();
    std::fs::write(folder.path().join("../secret-beside.txt"), "TOP SECRET").ok();
    let link = |from: &Path, to: std::path::PathBuf| std::os::unix::fs::symlink(from, to).expect("a symbolic link");
    link(&outside.path().join("secret.mp4"), folder.path().join("Linked.mp4"));
    link(outside.path(), folder.path().join("Ladder/out"));
    link(&outside.path().join("secret.mp4"), folder.path().join("Ladder/720p/linked.m4s"));
    let edge = library(folder.path()).run();
    let base = format!("/t/{}", id(&edge, "Ladder"));
    let mut paths = vec![
        format!("{base}/out/secret.mp4"),
        format!("{base}/720p/linked.m4s"),
        format!("{base}/%2fetc/passwd"),
        format!("{base}/720p/00000.m4s%00.mp4"),
        format!("{base}//etc/passwd"),
        "/t/../../etc/passwd".into(),
        "/t/%2e%2e/file".into(),
    ];
    for up in ["..", "%2e%2e", ".%2e", "%2E.", "..%2f..", "..%5c..", "%252e%252e", "..;", "\u{ff0e}\u{ff0e}"] {
        for depth in 1..8 {
            paths.push(format!("{base}/720p/{}etc/passwd", format!("{up}/").repeat(depth)));
        }
        paths.push(format!("{base}/{up}/{up}/secret-beside.txt"));
        paths.push(format!("{base}/{up}/A%20film.mp4"));
    }
    for path in &paths {
        let answer = edge.get(path);
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
        assert!(!answer.text().contains("TOP SECRET") && !answer.text().contains("root:"), "{path}: {answer:?}");
    }
    for (name, id) in titles(&edge) {
        assert!(!edge.get(&format!("/t/{id}/file")).text().contains("TOP SECRET"), "{name}");
    }
    std::fs::remove_file(folder.path().join("../secret-beside.txt")).ok();
}

#[test]
fn only_reading_is_allowed() {
    let folder = sample();
    let edge = library(folder.path()).run();
    let path = format!("/t/{}/file", id(&edge, "A film"));
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let answer = edge.send(&Request::new(method, &path).body("x"));
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.header("allow").is_some_and(|a| a.contains("GET")), "{method}");
    }
    assert!(folder.path().join("A film.mp4").exists());
}

#[test]
fn a_film_replaced_is_another_version() {
    let folder = sample();
    let edge = library(folder.path()).set("sites.0.cache.enabled", false).run();
    let path = format!("/t/{}/file", id(&edge, "A film"));
    let etag = edge.get(&path).header("etag").expect("a validator").to_owned();
    std::fs::write(folder.path().join("A film.new"), letters(0, 500_000)).expect("a new version");
    std::fs::rename(folder.path().join("A film.new"), folder.path().join("A film.mp4")).expect("the film is replaced");
    eventually("the new version is served", || {
        let answer = edge.send(&Request::get(&path).header("Range", "bytes=0-9").header("If-Range", &etag));
        answer.status == 200 && answer.header("etag") != Some(&etag) && answer.text() == letters(0, 500_000)
    });
}

#[test]
fn a_client_that_stops_reading_leaves_the_library_well() {
    let folder = sample();
    std::fs::write(folder.path().join("Large.mp4"), pattern(20_000_000)).expect("a large film");
    let edge = library(folder.path()).run();
    let path = format!("/t/{}/file", id(&edge, "Large"));
    for _ in 0..10 {
        let mut connection = Connection::open(edge.http());
        connection.send(Request::get(&path).to_bytes());
        connection.head().expect("an answer has begun");
        connection.read(1000);
        connection.abort();
    }
    let answer = edge.get(&path);
    assert!(answer.complete && answer.body == pattern(20_000_000));
}
