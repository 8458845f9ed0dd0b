//! Purges and the disk, over the real binary: what was acknowledged is there after `kill -9`, and what the disk did not take is
//! not acknowledged.

use crate::support::{Edge, EdgeBuilder, Origin, Reply, Request, Response, eventually, reelgate};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn edge(origin: &Origin) -> EdgeBuilder {
    Edge::of(origin).set("cache.disk", json!({"path": "./cache", "size": "1GiB"}))
}

fn log_of(edge: &EdgeBuilder) -> PathBuf {
    edge.folder().join("cache/bans.log")
}

fn purge(edge: &Edge, purge: &Value) -> Response {
    let request = Request::new("POST", "/api/v1/purge").header("Connection", "close");
    request.header("Content-Type", "application/json").body(purge.to_string()).send(edge.admin())
}

/// The process is killed as soon as the answer is there.
fn kill(edge: &Edge) {
    edge.signal("KILL");
    edge.expect_exit();
}

fn bans(edge: &Edge) -> f64 {
    edge.metrics().value("reelgate_bans", &[])
}

/// The log of purges is opened first, and made the folder for everybody.
#[test]
fn the_folder_of_a_disk_is_for_the_edges_user_alone() {
    let origin = Origin::start().route("*", Reply::cacheable("a"));
    let edge = edge(&origin).run();
    let folder = std::fs::metadata(edge.folder().join("cache")).expect("it was made");
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}

#[test]
fn an_acknowledged_purge_is_in_force_after_kill_9() {
    let origin = Origin::start().route("*", Reply::cacheable("a"));
    let edge = edge(&origin);
    let all = [
        json!({"url": "http://localhost/a"}),
        json!({"prefix": "http://localhost/films/", "soft": true}),
        json!({"tag": "film 1"}),
        json!({"all": true, "soft": true}),
    ];
    for (count, selector) in all.iter().enumerate() {
        let running = edge.clone().run();
        assert!((bans(&running) - count as f64).abs() < 0.5, "{} of {count}", bans(&running));
        purge(&running, selector).expect_status(200);
        kill(&running);
    }
    let running = edge.clone().run();
    assert!((bans(&running) - 4.0).abs() < 0.5, "{}", bans(&running));
    assert!(running.metrics().value("reelgate_ban_log_bytes", &[]) > 100.0);
    running.expect_metric("reelgate_ban_log_failures_total", &[], 0.0);
}

#[test]
fn purges_at_once_are_in_force_after_kill_9_if_they_were_acknowledged() {
    let origin = Origin::start().route("*", Reply::cacheable("a"));
    let edge = edge(&origin);
    let running = edge.clone().run();
    let before = 32.0;
    std::thread::scope(|scope| {
        for number in 0..32 {
            let running = &running;
            scope.spawn(move || purge(running, &json!({"tag": format!("film-{number}")})).expect_status(200));
        }
    });
    kill(&running);
    assert!((bans(&edge.run()) - before).abs() < 0.5);
}

#[test]
fn a_damaged_log_is_a_purge_of_everything() {
    let origin = Origin::start().route("*", Reply::cacheable("a"));
    let edge = edge(&origin);
    let running = edge.clone().run();
    for tag in ["x", "y", "z"] {
        purge(&running, &json!({ "tag": tag })).expect_status(200);
    }
    kill(&running);
    let mut log = std::fs::read(log_of(&edge)).expect("the log is there");
    let middle = log.len() / 2 + 10;
    log[middle] ^= 1;
    std::fs::write(log_of(&edge), log).expect("written");
    let running = edge.clone().run();
    running.expect_metric("reelgate_ban_log_failures_total", &[], 1.0);
    assert!((bans(&running) - 1.0).abs() < 0.5, "the purge of everything");
    assert!(running.stderr().contains("treated as purged"), "{}", running.stderr());
    running.get("/a").expect_status(200);
    running.get("/a").expect_hit();
    kill(&running);
    let running = edge.run();
    running.expect_metric("reelgate_ban_log_failures_total", &[], 0.0);
}

#[test]
fn a_disk_that_fails_leaves_the_purge_in_force_and_unacknowledged() {
    let origin = Origin::start().route("*", Reply::cacheable("a"));
    let edge = edge(&origin);
    // Where the folder should be there is a file.
    let place = edge.folder().join("cache");
    std::fs::write(&place, "").expect("written");
    let running = edge.run();
    let ready = running.admin_get("/readyz").expect_status(200).json();
    assert_eq!(ready["checks"]["purges"]["status"], "degraded");
    running.get("/a").expect_status(200);
    running.get("/a").expect_hit();
    let answer = purge(&running, &json!({"url": "http://localhost/a"})).expect_status(500).json();
    assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains("would not survive a restart")), "{answer}");
    assert!(!running.get("/a").expect_status(200).is_hit(), "it is in force");
    let said = reelgate(&["purge", "--admin", &format!("http://{}", running.admin()), "--all"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&said.stderr).contains("would not survive a restart"), "{said:?}");
    running.expect_metric_at_least("reelgate_ban_log_failures_total", &[], 3.0);
    // The disk comes back: the log catches up by itself.
    std::fs::remove_file(&place).expect("removed");
    std::fs::create_dir(&place).expect("made");
    eventually("purges are durable again", || {
        running.admin_get("/readyz").json()["checks"]["purges"]["status"] == "ok"
    });
    purge(&running, &json!({"url": "http://localhost/a"})).expect_status(200);
}
