//! What popular titles lack in the cache is made while nobody waits, by the edge asking itself.

use crate::streams::{film, library, rendition, title, wait_until_ready};
use crate::support::{Edge, Request, wait_for};
use serde_json::json;

fn is_hit(edge: &Edge, path: &str) -> bool {
    let answer = edge.send(&Request::get(path).header("cache-control", "only-if-cached"));
    answer.status == 200 && answer.header("cache-status").is_some_and(|status| status.contains("hit"))
}

#[test]
fn the_rest_of_what_is_watched_comes_into_the_cache_and_is_known_after_a_restart() {
    let films = tempfile::tempdir().expect("a folder");
    film(&films.path().join("Film.mp4"), "25", "24", &["-g", "50"]);
    film(&films.path().join("Other.mp4"), "25", "9", &["-g", "50"]);
    let index = tempfile::tempdir().expect("a folder");
    let configured = library(films.path())
        .set("origins.main.index", json!(index.path().display().to_string()))
        .set("transcode", json!({"jobs": 1, "background": {"after": "12s", "share": 1.0}}));
    let edge = configured.clone().run();
    wait_until_ready(&edge);
    let watched = title(&edge, "Film");
    let (video, segments, _) = rendition(&edge, &watched, "240p");
    let (audio, audio_segments, _) = rendition(&edge, &watched, "audio-1");
    assert_eq!((segments, audio_segments), (6, 6));
    let (other, ..) = rendition(&edge, &title(&edge, "Other"), "240p");
    for folder in [&video, &audio] {
        for file in ["init.mp4", "0.m4s", "1.m4s", "0.m4s"] {
            assert!(edge.get(&format!("{folder}/{file}")).expect_status(200).complete);
        }
    }
    edge.get(&format!("{other}/0.m4s")).expect_status(200);

    wait_for("all of it is in the cache", || {
        let all = [&video, &audio].into_iter().flat_map(|folder| (0..6).map(move |n| format!("{folder}/{n}.m4s")));
        all.into_iter().all(|path| is_hit(&edge, &path)).then_some(())
    });
    edge.expect_metric("reelgate_background_files_total", &[("origin", "main"), ("outcome", "made")], 8.0);
    assert!(!is_hit(&edge, &format!("{other}/1.m4s")), "nobody stayed with the other one");
    let made = edge.get(&format!("{video}/5.m4s")).expect_status(200);
    assert_eq!(made.header("content-type"), Some("video/mp4"));

    // What it made is an object like any other: it goes with its title's tag.
    let tag = watched.replace("/t/", "title-");
    let purge = Request::new("POST", "/api/v1/purge").header("Connection", "close");
    let purge = purge.header("Content-Type", "application/json").body(json!({"tag": tag}).to_string());
    purge.send(edge.admin()).expect_status(200);
    assert!(!is_hit(&edge, &format!("{video}/5.m4s")));

    // The cache is gone with the process; what was watched is not.
    wait_for("what was watched is in the index", || {
        let index = rusqlite::Connection::open(index.path().join("main.sqlite")).ok()?;
        let known: i64 = index.query_row("SELECT count(*) FROM watched", [], |row| row.get(0)).ok()?;
        (known == 2).then_some(())
    });
    edge.sigterm();
    edge.expect_exit();
    let edge = configured.run();
    wait_until_ready(&edge);
    wait_for("it is made again, with nobody watching", || {
        (0..6).all(|n| is_hit(&edge, &format!("{video}/{n}.m4s"))).then_some(())
    });
}

#[test]
fn popular_titles_are_optimised_first_where_that_is_wanted() {
    let films = tempfile::tempdir().expect("a folder");
    film(&films.path().join("Film.mp4"), "25", "8", &["-g", "50", "-vf", "noise=alls=6:allf=t"]);
    let background = json!({"after": "8s", "share": 1.0, "optimise": true});
    let edge = library(films.path()).set("transcode", json!({"jobs": 1, "background": background})).run();
    wait_until_ready(&edge);
    let watched = title(&edge, "Film");
    let (video, ..) = rendition(&edge, &watched, "240p");
    for file in ["init.mp4", "0.m4s", "1.m4s", "0.m4s"] {
        edge.get(&format!("{video}/{file}")).expect_status(200);
    }
    crate::streams::codecs::optimised(&edge);
    let fresh = edge.get(&format!("{watched}/240p/index.m3u8?fresh")).expect_status(200).text();
    let version = fresh.lines().find_map(|line| line.strip_suffix("/0.m4s")).expect("a segment");
    let path = format!("{watched}/240p/{version}/1.m4s");
    assert!(!video.ends_with(version));
    wait_for("what is made then is of the new version", || is_hit(&edge, &path).then_some(()));
}

#[test]
fn a_film_that_was_read_whole_is_not_read_again_after_a_restart() {
    let films = tempfile::tempdir().expect("a folder");
    film(&films.path().join("Film.mp4"), "25", "9", &["-g", "50", "-keyint_min", "50", "-sc_threshold", "0"]);
    let state = tempfile::tempdir().expect("a folder");
    let configured = library(films.path()).set("origins.main.index", json!(state.path().display().to_string()));
    // Each time another object of the cache.
    let has_source = |edge: &Edge, title: &str, time: u32| {
        let master = edge.get(&format!("{title}/master.m3u8?{time}")).expect_status(200).text();
        master.contains("source/index.m3u8")
    };
    let edge = configured.clone().run();
    wait_until_ready(&edge);
    let known = title(&edge, "Film");
    let mut time = 0;
    wait_for("its own packets are offered", || {
        time += 1;
        has_source(&edge, &known, time).then_some(())
    });
    // What the index says is what is believed, so nobody has looked again.
    let index = rusqlite::Connection::open(state.path().join("main.sqlite")).expect("the index");
    wait_for("it is kept", || {
        let turned = "UPDATE found SET said = NULL, refused = 'a test' WHERE what = 'copied'";
        (index.execute(turned, []).ok()? == 1).then_some(())
    });
    edge.sigterm();
    edge.expect_exit();
    let edge = configured.run();
    wait_until_ready(&edge);
    for time in 0..5 {
        assert!(!has_source(&edge, &known, time));
    }
}
