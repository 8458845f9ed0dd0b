//! The index of a library: what was found out about films survives a restart, broken ones are named, and nothing that happens to
//! the index is more than a line in the log. With the real ffmpeg, on films of two seconds.

use super::{id, library, titles};
use crate::support::{Edge, EdgeBuilder, Request, eventually, reelgate, wait_for};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A film of two seconds with sound in French.
#[track_caller]
fn film(path: &Path) {
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2", "-f", "lavfi"])
        .args(["-i", "sine=d=2", "-threads", "1", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"])
        .args(["-metadata:s:a:0", "language=fra"])
        .arg(path)
        .status();
    assert!(made.expect("tests/run installs ffmpeg").success());
}

/// One film, and each kind of file that only has a film's name.
fn hostile(folder: &Path) {
    film(&folder.join("Good é.mp4"));
    let bytes = std::fs::read(folder.join("Good é.mp4")).expect("the film");
    std::fs::write(folder.join("Truncated.mp4"), &bytes[..bytes.len() / 2]).expect("a file");
    std::fs::write(folder.join("Empty.mkv"), "").expect("a file");
    std::fs::write(folder.join("Text.mp4"), "Dear diary, today I was renamed.\n".repeat(100)).expect("a file");
    let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n";
    std::fs::write(folder.join("Playlist.mp4"), playlist).expect("a file");
}

const BROKEN: [&str; 4] = ["Empty", "Playlist", "Text", "Truncated"];

fn indexed(films: &Path, index: &Path) -> EdgeBuilder {
    library(films).set("origins.main.index", index.display().to_string())
}

struct World {
    films: tempfile::TempDir,
    state: tempfile::TempDir,
}

impl World {
    fn new(fill: impl FnOnce(&Path)) -> Self {
        let folder = || tempfile::tempdir().expect("a temporary folder");
        let world = Self { films: folder(), state: folder() };
        fill(world.films.path());
        world
    }

    fn index(&self) -> PathBuf {
        self.state.path().join("index")
    }

    fn edge(&self) -> EdgeBuilder {
        indexed(self.films.path(), &self.index())
    }
}

fn probes(edge: &Edge) -> f64 {
    edge.metrics().value("reelgate_transcode_answers_total", &[("kind", "probe")])
}

#[track_caller]
fn broken(edge: &Edge) -> Vec<(String, String)> {
    let list = edge.get("/titles.json?broken=1").expect_status(200).json();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    list["titles"].as_array().expect("a list").iter().map(|t| (text(&t["name"]), text(&t["broken"]))).collect()
}

#[track_caller]
fn expect_no_path(text: &str, world: &World) {
    for folder in [&world.films, &world.state] {
        let name = folder.path().file_name().expect("a folder").to_string_lossy().into_owned();
        assert!(!text.contains(&name) && !text.contains("/tmp") && !text.contains("/proc"), "a path leaks: {text}");
    }
    assert!(!text.contains(".mp4") && !text.contains(".mkv"), "a file's name leaks: {text}");
}

#[track_caller]
fn stop(edge: &Edge) {
    edge.sigterm();
    edge.expect_exit();
}

#[track_caller]
fn expect_playable(edge: &Edge, name: &str) {
    let master = format!("/t/{}/master.m3u8", id(edge, name));
    eventually("the film is playable", || edge.get(&master).status == 200);
}

#[test]
fn films_are_looked_into_in_the_background_and_never_twice() {
    let world = World::new(hostile);
    let edge = world.edge().run();
    edge.expect_metric("reelgate_library_probed", &[("origin", "main")], 5.0);
    edge.expect_metric("reelgate_library_broken", &[("origin", "main")], 4.0);
    let told = wait_for("the list is fresh", || Some(broken(&edge)).filter(|told| told.len() == 4));
    assert_eq!(told.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), BROKEN);
    assert!(told.iter().all(|(_, reason)| !reason.is_empty()), "{told:?}");
    assert_eq!(told[0].1, "the file is empty");

    let good = format!("/t/{}", id(&edge, "Good"));
    let list = edge.get("/titles.json?q=good+E").expect_status(200);
    let entry = &list.json()["titles"][0];
    assert_eq!((&entry["width"], &entry["height"], &entry["frame_rate"]), (&320.into(), &180.into(), &25.0.into()));
    assert_eq!((&entry["audio"][0], &entry["broken"]), (&"fra".into(), &Value::Null));
    let details = edge.get(&format!("{good}/title.json")).expect_status(200);
    assert_eq!(details.json()["play"], serde_json::json!(["master.m3u8", "manifest.mpd", "file"]));
    assert_eq!(details.json()["duration_s"], 2.0);
    for answer in [list, details, edge.get("/titles.json?broken=1")] {
        expect_no_path(&answer.text(), &world);
    }
    // What is broken harms nothing: it can be had as it is, and says why it cannot be streamed.
    for name in BROKEN {
        let title = format!("/t/{}", id(&edge, name));
        edge.get(&format!("{title}/file")).expect_status(200);
        let refused = edge.get(&format!("{title}/master.m3u8")).expect_status(404);
        expect_no_path(&refused.text(), &world);
        let no_picture = edge.get(&format!("{title}/poster.jpg")).expect_status(404);
        assert_eq!(no_picture.header("cache-control"), Some("public, max-age=300"), "it is not tried at every request");
    }
    let before = titles(&edge);
    let ready = edge.admin_get("/readyz").expect_status(200).json();
    assert_eq!(ready["checks"]["library:main"]["status"], "ok", "{ready}");
    stop(&edge);

    let edge = world.edge().run();
    edge.expect_metric("reelgate_library_probed", &[("origin", "main")], 5.0);
    assert_eq!(titles(&edge), before);
    assert_eq!(broken(&edge).len(), 4);
    expect_playable(&edge, "Good");
    assert_eq!(probes(&edge), 0.0, "it was known");

    // Another version is another film.
    std::fs::copy(world.films.path().join("Good é.mp4"), world.films.path().join("Text.mp4")).expect("a film");
    eventually("it is not broken any more", || broken(&edge).len() == 3);
    assert_eq!(std::fs::read_dir(world.films.path()).expect("the folder").count(), 5, "nothing is written there");
}

#[test]
fn a_picture_lies_beside_a_film_or_is_made_of_it() {
    let world = World::new(|films| {
        for name in ["Own", "Made", "Plain"] {
            film(&films.join(format!("{name}.mp4")));
        }
        std::fs::write(films.join("Own-poster.png"), "a picture").expect("a picture");
    });
    let edge = world.edge().run();
    let path = |name: &str| format!("/t/{}/poster.jpg", id(&edge, name));
    let made = wait_for("the sidecar is there", || Some(edge.get(&path("Made"))).filter(|made| made.status == 200));
    assert_eq!(made.header("content-type"), Some("image/jpeg"));
    assert!(made.body.starts_with(&[0xff, 0xd8, 0xff]) && made.complete, "{} bytes", made.body.len());
    let tag = made.header("etag").expect("a validator").to_owned();
    edge.get(&path("Made")).expect_hit();
    assert_eq!(edge.send(&Request::get(&path("Made")).header("If-None-Match", &tag)).status, 304);
    // What only has a picture's name is none.
    assert!(edge.get(&path("Own")).expect_status(200).body.starts_with(&[0xff, 0xd8, 0xff]));
    let cover = world.films.path().join("cover.jpg");
    let picture = ["-nostdin", "-v", "error", "-f", "lavfi", "-i", "color=s=100x150:c=red", "-frames:v", "1"];
    assert!(Command::new("ffmpeg").args(picture).arg(&cover).status().expect("ffmpeg").success());
    let cover = edge.get(&path("Plain")).expect_status(200);
    assert!(cover.body.starts_with(&[0xff, 0xd8, 0xff]) && cover.header("etag") != Some(&tag));
}

#[test]
fn lists_have_pages_and_a_search_without_accents() {
    let world = World::new(|films| {
        for name in ["Amélie Poulain", "Ænima", "Alphaville", "Beta"] {
            std::fs::write(films.join(format!("{name}.mp4")), "film").expect("a film");
        }
    });
    let edge = world.edge().set("transcode.enabled", false).run();
    let names = |query: &str| {
        let page = edge.get(&format!("/titles.json{query}")).expect_status(200).json();
        let titles = page["titles"].as_array().expect("a list");
        let names = titles.iter().map(|t| t["name"].as_str().expect("text").to_owned()).collect::<Vec<_>>();
        (page["total"].as_u64().expect("a number"), names)
    };
    let all = names("").1;
    assert_eq!(all, ["Ænima", "Alphaville", "Amélie Poulain", "Beta"]);
    let pages: Vec<String> = (0..5).flat_map(|page| names(&format!("?limit=1&offset={page}")).1).collect();
    assert_eq!(pages, all);
    assert_eq!(names("?q=POULAIN+ame"), (1, vec!["Amélie Poulain".to_owned()]));
    assert_eq!(names("?q=a&limit=1&offset=1"), (4, vec!["Alphaville".to_owned()]));
    assert_eq!(names("?q=aenima").0, 1);
    assert_eq!(names("?offset=18446744073709551615").1.len(), 0);
    assert_eq!(names("?limit=0"), (4, vec![]));
    for query in ["limit=-1", "limit=x", "offset=1.5", "offset="] {
        assert_eq!(edge.get(&format!("/titles.json?{query}")).status, 400, "{query}");
    }
}

#[test]
fn scan_fills_the_index_and_an_edge_needs_no_look() {
    let world = World::new(hostile);
    let config = world.edge().write();
    let scanned = reelgate(&["scan", "-c", config.name()]);
    let told = String::from_utf8_lossy(&scanned.stdout).into_owned();
    assert_eq!(scanned.status.code(), Some(0), "{told} {}", String::from_utf8_lossy(&scanned.stderr));
    assert!(told.starts_with("main: 5 titles, 5 of 5 films looked into, 4 broken\n"), "{told}");
    assert!(BROKEN.iter().all(|name| told.lines().any(|line| line.starts_with(&format!("  {name} ")))), "{told}");
    let again = reelgate(&["scan", "-c", config.name()]);
    assert_eq!(again.stdout, scanned.stdout);

    let edge = world.edge().run();
    edge.expect_metric("reelgate_library_broken", &[("origin", "main")], 4.0);
    assert_eq!(broken(&edge).len(), 4);
    expect_playable(&edge, "Good");
    assert_eq!(probes(&edge), 0.0);

    // Another scan beside the running edge, which looks into nothing that is known by then.
    std::fs::copy(world.films.path().join("Good é.mp4"), world.films.path().join("New.mp4")).expect("a film");
    assert_eq!(reelgate(&["scan", "-c", config.name()]).status.code(), Some(0));
    edge.expect_metric("reelgate_library_probed", &[("origin", "main")], 6.0);

    let nothing = library(world.films.path()).write();
    let told = reelgate(&["scan", "-c", nothing.name(), "--origin", "main"]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("nothing is kept; set origins.main.index"));
    assert_eq!(reelgate(&["scan", "-c", nothing.name(), "--origin", "other"]).status.code(), Some(1));
}

#[test]
fn an_index_that_is_damaged_away_or_full_is_no_need() {
    let world = World::new(|films| film(&films.join("Film.mp4")));
    let edge = world.edge().run();
    edge.expect_metric("reelgate_library_probed", &[("origin", "main")], 1.0);
    stop(&edge);
    let database = world.index().join("main.sqlite");
    assert!(database.is_file());

    // Its log of changes would mend it.
    std::fs::remove_file(database.with_extension("sqlite-wal")).ok();
    std::fs::write(&database, "no database ".repeat(5000)).expect("damage");
    let edge = world.edge().run();
    edge.expect_metric("reelgate_library_probed", &[("origin", "main")], 1.0);
    edge.expect_metric("reelgate_library_index_errors_total", &[("origin", "main")], 1.0);
    assert!(database.with_extension("sqlite.damaged").is_file());
    stop(&edge);
    let edge = world.edge().run();
    edge.expect_metric("reelgate_library_probed", &[("origin", "main")], 1.0);
    expect_playable(&edge, "Film");
    assert_eq!(probes(&edge), 0.0, "the index was made anew");
    stop(&edge);

    // A file where its folder should be.
    let blocked = world.state.path().join("blocked");
    std::fs::write(&blocked, "").expect("a file");
    let edge = indexed(world.films.path(), &blocked).run();
    expect_playable(&edge, "Film");
    edge.expect_metric_at_least("reelgate_library_index_errors_total", &[("origin", "main")], 1.0);
    let ready = edge.admin_get("/readyz").expect_status(200).json();
    assert_eq!(ready["checks"]["library:main"]["status"], "degraded", "{ready}");
    expect_no_path(&ready["checks"]["library:main"].to_string(), &world);
    stop(&edge);

    // Its disk is full: no file grows beyond 4 KiB.
    let full = world.state.path().join("full");
    let limited = ["sh", "-c", "ulimit -f 8; trap '' XFSZ; exec \"$@\"", "sh"];
    let edge = indexed(world.films.path(), &full).wrapped(&limited).run();
    expect_playable(&edge, "Film");
    edge.expect_metric_at_least("reelgate_library_index_errors_total", &[("origin", "main")], 1.0);
}

#[test]
fn the_index_lies_beside_the_cache_and_never_among_the_films() {
    let world = World::new(|films| std::fs::write(films.join("Film.mp4"), "film").expect("a film"));
    let disk = world.state.path().join("cache");
    let cache = serde_json::json!({"path": disk.display().to_string(), "size": "64MiB"});
    let edge = library(world.films.path()).set("cache.disk", cache).run();
    assert_eq!(titles(&edge).len(), 1);
    eventually("the index is there", || disk.join("library/main.sqlite").is_file());
    stop(&edge);
    let inside = indexed(world.films.path(), &world.films.path().join("index")).write();
    let checked = reelgate(&["check", "-c", inside.name()]);
    assert_eq!(checked.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("the index lies in a folder of films"));
}

#[test]
fn a_scan_that_was_killed_goes_on_where_it_was() {
    const FILMS: u32 = 8;
    let world = World::new(|films| {
        film(&films.join("0.mp4"));
        (1..FILMS)
            .for_each(|n| std::fs::hard_link(films.join("0.mp4"), films.join(format!("{n}.mp4"))).expect("a film"));
    });
    let config = world.edge().write();
    let mut scan = Command::new(env!("CARGO_BIN_EXE_reelgate"));
    let mut scan = scan.args(["scan", "-c", config.name()]).spawn().expect("it runs");
    let database = world.index().join("main.sqlite");
    let kept = || -> Option<u32> {
        let connection =
            rusqlite::Connection::open_with_flags(&database, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE).ok()?;
        connection.query_row("SELECT count(*) FROM found", [], |row| row.get(0)).ok()
    };
    eventually("two films are known", || database.exists() && kept().is_some_and(|kept| kept >= 2));
    scan.kill().expect("it is killed");
    scan.wait().expect("it is gone");
    let kept = kept().expect("the index is whole");

    let edge = world.edge().run();
    edge.expect_metric("reelgate_library_probed", &[("origin", "main")], f64::from(FILMS));
    assert_eq!(probes(&edge), f64::from(FILMS - kept), "{kept} were known");
}

#[test]
fn the_background_waits_while_somebody_plays() {
    let world =
        World::new(|films| ["Played", "A", "B", "C"].iter().for_each(|n| film(&films.join(format!("{n}.mp4")))));
    let edge = world.edge().run();
    let title = format!("/t/{}", id(&edge, "Played"));
    expect_playable(&edge, "Played");
    let playlist = edge.get(&format!("{title}/240p/index.m3u8")).expect_status(200).text();
    let segment = playlist.lines().find(|line| line.ends_with(".m4s")).expect("a segment").to_owned();
    let mut asked = 0;
    let mut play = |seconds| {
        let started = std::time::Instant::now();
        while started.elapsed() < std::time::Duration::from_secs(seconds) {
            // Each is another object for the cache, and the same for the library.
            edge.get(&format!("{title}/240p/{segment}?viewer={asked}")).expect_status(200);
            asked += 1;
        }
    };
    // A look that had begun comes to its end.
    play(2);
    let before = probes(&edge);
    play(5);
    assert_eq!(probes(&edge), before, "somebody played");
    edge.expect_metric("reelgate_library_probed", &[("origin", "main")], 4.0);
}
