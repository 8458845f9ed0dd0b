//! What was purged or invalidated does not come back: not after a restart, not after `kill -9`.

use super::world::{World, get, path};
use super::{edge, kill, purge, recovered, stop, written};
use crate::support::{Edge, Origin, Reply, Request};
use serde_json::{Value, json};

/// Fills, makes all of it untrue at once, ends the process, and looks.
fn never_comes_back(make_untrue: impl Fn(&Edge, &str, &str)) {
    for ends in [stop as fn(&Edge), kill] {
        let world = World::new();
        let edge = edge(&world);
        let running = edge.clone().run();
        let paths: Vec<String> = (0..4).map(|at| path(format!("film-{at}"), 100_000 * (at + 1))).collect();
        for path in &paths {
            get(&running, path);
        }
        written(&running, paths.len());
        for path in &paths {
            world.change(path);
            make_untrue(&running, path, path.split('/').nth(2).expect("a name"));
        }
        ends(&running);
        let running = edge.clone().run();
        recovered(&running);
        for path in &paths {
            assert_eq!(get(&running, path).0, 2, "{path} came back");
        }
        // And what took its place stays, over another restart.
        stop(&running);
        let running = edge.run();
        recovered(&running);
        for path in &paths {
            let (version, answer) = get(&running, path);
            assert_eq!((version, answer.is_hit()), (2, true), "{path}");
        }
    }
}

fn url(path: &str) -> String {
    format!("http://localhost{path}")
}

#[test]
fn a_purged_url_never_comes_back() {
    never_comes_back(|edge, path, _| drop(purge(edge, &json!({"url": url(path)}))));
}

#[test]
fn a_purged_prefix_never_comes_back() {
    never_comes_back(|edge, path, name| {
        let prefix = &path[..path.find(name).expect("the name") + name.len()];
        purge(edge, &json!({"prefix": url(prefix)}));
    });
}

#[test]
fn a_purged_tag_never_comes_back() {
    never_comes_back(|edge, _, name| drop(purge(edge, &json!({"tag": name}))));
}

#[test]
fn a_purge_of_all_is_one_of_the_disks_too() {
    never_comes_back(|edge, _, _| drop(purge(edge, &json!({"all": true}))));
}

#[test]
fn a_soft_purge_is_in_force_after_a_restart() {
    never_comes_back(|edge, path, _| drop(purge(edge, &json!({"url": url(path), "soft": true}))));
}

#[test]
fn what_a_post_made_untrue_never_comes_back() {
    never_comes_back(|edge, path, _| drop(edge.send(&Request::new("POST", path).body("x")).expect_status(204)));
}

#[test]
fn a_softly_purged_object_is_validated_not_fetched_again() {
    let world = World::new();
    let edge = edge(&world);
    let running = edge.clone().run();
    let path = path("a", 400_000);
    get(&running, &path);
    purge(&running, &json!({"url": url(&path), "soft": true}));
    stop(&running);
    let running = edge.run();
    recovered(&running);
    let (version, answer) = get(&running, &path);
    assert_eq!((version, answer.is_hit()), (1, false), "{answer:?}");
    assert!(world.origin.last(&path).header("If-None-Match").is_some(), "it came up and was asked about");
    get(&running, &path).1.expect_hit();
}

/// A purge reaches what is in the queue, and what is still being filled.
#[test]
fn a_purge_at_once_after_the_fill_reaches_it_on_its_way_down() {
    let world = World::new();
    let edge = edge(&world);
    let purges: [fn(&str) -> Value; 3] =
        [|path| json!({"url": url(path)}), |_| json!({"tag": "now"}), |_| json!({"all": true})];
    for round in 0..9 {
        let running = edge.clone().run();
        let path = path("now", 100_000 + round);
        get(&running, &path);
        world.change(&path);
        purge(&running, &purges[round % 3](&path));
        if round % 2 == 0 {
            kill(&running)
        } else {
            stop(&running)
        };
        let running = edge.clone().run();
        recovered(&running);
        assert_eq!(get(&running, &path).0, 2);
        stop(&running);
    }
}

/// Purges are forgotten once nothing older is left anywhere; with a disk, that is when the disk has nothing older.
#[test]
fn purges_are_kept_while_the_disk_may_hold_what_they_reach() {
    let world = World::new();
    let edge = edge(&world);
    let running = edge.clone().run();
    let (kept, purged) = (path("kept", 1000), path("purged", 1000));
    get(&running, &kept);
    get(&running, &purged);
    written(&running, 2);
    stop(&running);
    // In the next process RAM is empty, so only the disk says what is there.
    let running = edge.clone().run();
    recovered(&running);
    world.change(&purged);
    purge(&running, &json!({"url": url(&purged)}));
    crate::support::pause(std::time::Duration::from_secs(3));
    assert!(running.metrics().value("reelgate_bans", &[]) > 0.5, "the disk still has what is older");
    kill(&running);
    let running = edge.run();
    recovered(&running);
    assert_eq!(get(&running, &purged).0, 2);
    get(&running, &kept).1.expect_hit();
}

/// No file of the edge's folder holds it.
fn expect_nowhere(edge: &Edge, secret: &str) {
    let folder = edge.folder().join("cache");
    assert!(folder.join("bans.log").exists(), "{} is not the disk", folder.display());
    let grep = std::process::Command::new("grep").args(["-r", "-l", "-a", "-F", secret]).arg(&folder).output();
    let grep = grep.expect("grep runs");
    assert_eq!(grep.status.code(), Some(1), "{}", String::from_utf8_lossy(&grep.stdout));
}

#[test]
fn no_token_of_a_url_lies_on_a_disk_and_purges_still_reach_what_was_asked_for_with_it() {
    let origin = Origin::start().handle("*", |_| Reply::cacheable("film").header("Cache-Tag", "film"));
    let edge = Edge::of(&origin)
        .set("cache.disk", json!({"path": "./cache", "size": "64MiB"}))
        .set("log.access.enabled", false);
    let target = "/film?api_key=SECRET&x=1";
    let selectors = [
        json!({"url": url(target)}),
        json!({"prefix": url("/film?")}),
        json!({"prefix": url("/film?api_key=SECRET&x")}),
        json!({"tag": "film"}),
    ];
    for selector in selectors {
        let running = edge.clone().run();
        recovered(&running);
        running.get(target).expect_status(200);
        stop(&running);
        expect_nowhere(&running, "SECRET");
        let running = edge.clone().run();
        recovered(&running);
        running.get(target).expect_hit();
        stop(&running);
        let running = edge.clone().run();
        recovered(&running);
        purge(&running, &selector);
        assert!(!running.get(target).expect_status(200).is_hit(), "{selector}");
        stop(&running);
        expect_nowhere(&running, "SECRET");
    }
}
