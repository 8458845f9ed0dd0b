//! Disks that fail: the edge goes on from RAM and from the origin, says so, and serves no wrong byte.
//!
//! A small, read-only or vanishing disk is a tmpfs in a mount namespace of the edge's own, which goes with it. Where that is not
//! permitted, such a test says so and ends.

use super::world::{World, claimed, expect_bytes, get, get_all, path};
use super::{MIB, edge, edge_with, kill, purge, recovered, stop, written};
use crate::support::{Edge, Samples, eventually};
use serde_json::json;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn paths(count: usize, bytes: usize) -> Vec<String> {
    (0..count).map(|at| path(at, bytes)).collect()
}

fn disk_check(edge: &Edge) -> (String, String) {
    let ready = edge.admin_get("/readyz").expect_status(200).json();
    assert_eq!(ready["ready"], true, "{ready}");
    let checks = ready["checks"].as_object().expect("checks").clone();
    let disk = checks.iter().find(|(name, _)| name.starts_with("disk")).expect("a check of the disk").1.clone();
    (disk["status"].as_str().unwrap_or_default().into(), disk["detail"].as_str().unwrap_or_default().into())
}

#[track_caller]
fn expect_degraded(edge: &Edge, reason: &str) {
    eventually(&format!("/readyz says that the disk is degraded: {reason}"), || {
        let (status, detail) = disk_check(edge);
        status == "degraded" && detail.contains(reason)
    });
    edge.expect_metric("reelgate_disk_state", &[("state", "degraded")], 1.0);
}

fn refused(metrics: &Samples, reason: &str) -> f64 {
    metrics.value("reelgate_disk_refused_total", &[("reason", reason)])
}

/// RAM answers again and again, whatever the disk does.
#[track_caller]
fn serves_from_ram(edge: &Edge, name: &str) {
    let path = path(name, 100_000);
    get(edge, &path);
    get(edge, &path).1.expect_hit();
}

/// Starts the edge with a file system of this size at `cache`. None: this machine does not permit it.
fn on_small_disk(world: &World, mib: usize, size: &str) -> Option<Edge> {
    let builder = edge_with(world, "64MiB", size);
    let place = builder.folder().join("cache");
    std::fs::create_dir(&place).expect("made");
    let mount = format!("mount -t tmpfs -o size={mib}m tmpfs '{}'", place.display());
    let permitted = Command::new("unshare").args(["-m", "sh", "-c", &mount]).output();
    if !permitted.is_ok_and(|tried| tried.status.success()) {
        eprintln!("left out: a file system of one's own needs root and mount namespaces");
        return None;
    }
    let script = format!("{mount} && exec \"$@\"");
    Some(builder.wrapped(&["unshare", "-m", "sh", "-c", &script, "sh"]).run())
}

/// Runs a command where the edge sees its file systems.
#[track_caller]
fn inside(edge: &Edge, script: &str) {
    let done = Command::new("nsenter").args(["-m", "-t", &edge.pid().to_string(), "sh", "-c", script]).output();
    let done = done.expect("nsenter runs");
    assert!(done.status.success(), "{script}: {done:?}");
}

fn place(edge: &Edge) -> PathBuf {
    edge.folder().join("cache")
}

#[test]
fn a_disk_that_is_full_is_said_and_left_alone_until_there_is_room() {
    let world = World::new();
    let Some(edge) = on_small_disk(&world, 48, "128MiB") else { return };
    let paths = paths(100, MIB);
    get_all(&edge, &paths, 4);
    expect_degraded(&edge, "the disk is full");
    let metrics = edge.metrics();
    assert!(metrics.value("reelgate_disk_errors_total", &[]) >= 1.0);
    assert!(metrics.value("reelgate_disk_lost_total", &[]) + refused(&metrics, "failed") >= 20.0);
    serves_from_ram(&edge, "ram");
    // What is on the disk is served on.
    let before = edge.metrics().value("reelgate_cache_tier_hits_total", &[("tier", "disk")]);
    get_all(&edge, &paths, 4);
    assert!(edge.metrics().value("reelgate_cache_tier_hits_total", &[("tier", "disk")]) > before);
    inside(&edge, &format!("mount -o remount,size=256m '{}'", place(&edge).display()));
    eventually("it is written again", || {
        get(&edge, &path(format!("again-{}", fastrand::u32(..)), 1000));
        disk_check(&edge).0 == "ok"
    });
}

/// No file can be made in the folder while this lives.
struct Immutable(PathBuf);

impl Immutable {
    /// None: this file system, or this user, cannot.
    fn set(folder: &Path) -> Option<Self> {
        let done = Command::new("chattr").arg("+i").arg(folder).output();
        if !done.is_ok_and(|done| done.status.success()) {
            eprintln!("left out: an immutable folder needs root and a file system that has it");
            return None;
        }
        Some(Self(folder.to_owned()))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).output();
    }
}

#[test]
fn a_disk_that_becomes_read_only_is_read_on() {
    let world = World::new();
    let builder = edge_with(&world, "8MiB", "128MiB");
    let edge = builder.run();
    let paths = paths(40, MIB);
    get_all(&edge, &paths, 2);
    written(&edge, 30);
    let Some(immutable) = Immutable::set(&place(&edge)) else { return };
    // The open segment takes some more; the next cannot be made.
    let more: Vec<String> = (0..30).map(|at| path(format!("more-{at}"), MIB)).collect();
    get_all(&edge, &more, 2);
    expect_degraded(&edge, "");
    serves_from_ram(&edge, "ram");
    let (asked, kept) = (world.asked(), 30);
    get_all(&edge, &paths, 2);
    assert!(world.asked() - asked <= paths.len() - kept, "what the disk has is served");
    assert!(
        refused(&edge.metrics(), "read_only") >= 1.0,
        "{:?}",
        edge.metrics().by("reelgate_disk_refused_total", "reason")
    );
    drop(immutable);
    eventually("it is written again", || {
        get(&edge, &path(format!("again-{}", fastrand::u32(..)), 1000));
        disk_check(&edge).0 == "ok"
    });
}

/// A limit of the process on the size of a file, as a quota: writes fail with EFBIG, not ENOSPC.
#[test]
fn a_limit_on_the_size_of_files_is_survived() {
    let world = World::new();
    let script = "trap '' XFSZ; ulimit -f 1024; exec \"$@\"";
    let edge = edge_with(&world, "64MiB", "1GiB").wrapped(&["sh", "-c", script, "sh"]).run();
    let paths = paths(30, MIB);
    get_all(&edge, &paths, 4);
    serves_from_ram(&edge, "ram");
    expect_degraded(&edge, "");
    assert_eq!(get_all(&edge, &paths, 4), 30, "all of it from RAM");
    edge.sigterm();
    assert_eq!(edge.expect_exit().code(), Some(0));
}

#[test]
fn a_folder_that_cannot_be_made_leaves_the_disk_out_until_it_can_be() {
    let world = World::new();
    let builder = edge(&world);
    std::fs::write(builder.folder().join("cache"), "not a folder").expect("written");
    let edge = builder.run();
    expect_degraded(&edge, "cannot be used");
    serves_from_ram(&edge, "ram");
    let asked = world.asked();
    get(&edge, &path("ram", 100_000)).1.expect_hit();
    assert_eq!(world.asked(), asked);
    assert!(disk_check(&edge).1.contains("tried again"), "{:?}", disk_check(&edge));
    std::fs::remove_file(place(&edge)).expect("removed");
    eventually("the disk is opened while the edge runs", || disk_check(&edge).0 == "ok");
    edge.expect_metric("reelgate_disk_state", &[("state", "degraded")], 0.0);
    edge.expect_metric("reelgate_disk_state", &[("state", "ok")], 1.0);
    get(&edge, &path("down", 100_000));
    written(&edge, 1);
    edge.sigterm();
    assert_eq!(edge.expect_exit().code(), Some(0));
}

/// Taken away and put back while the edge runs, as by a cable.
#[test]
fn a_folder_that_vanishes_and_comes_back_is_written_again() {
    let world = World::new();
    let edge = edge_with(&world, "8MiB", "32MiB").run();
    let (cache, elsewhere) = (place(&edge), edge.folder().join("elsewhere"));
    let paths = paths(20, MIB);
    get_all(&edge, &paths, 4);
    std::fs::rename(&cache, &elsewhere).expect("moved");
    eventually("the next segment cannot be made", || {
        let more: Vec<String> = (0..8).map(|_| path(fastrand::u32(..), MIB)).collect();
        get_all(&edge, &more, 4);
        let (status, detail) = disk_check(&edge);
        status == "degraded" && detail.contains("the folder is gone")
    });
    edge.expect_metric("reelgate_disk_state", &[("state", "degraded")], 1.0);
    std::fs::rename(&elsewhere, &cache).expect("moved back");
    eventually("it is written again", || {
        get(&edge, &path(format!("again-{}", fastrand::u32(..)), 1000));
        disk_check(&edge).0 == "ok"
    });
    get_all(&edge, &paths, 4);
    stop(&edge);
}

#[test]
fn a_folder_that_vanishes_is_survived_and_never_serves_a_wrong_byte() {
    let world = World::new();
    let builder = edge_with(&world, "16MiB", "128MiB");
    let edge = builder.clone().run();
    let paths = paths(60, MIB);
    get_all(&edge, &paths, 4);
    std::fs::remove_dir_all(edge.folder().join("cache")).expect("removed");
    // Files that are open are there still; the next segment cannot be made.
    for _ in 0..3 {
        get_all(&edge, &paths, 4);
        let more: Vec<String> = (0..30).map(|_| path(fastrand::u32(..), MIB)).collect();
        get_all(&edge, &more, 4);
    }
    expect_degraded(&edge, "the folder is gone");
    serves_from_ram(&edge, "ram");
    edge.sigterm();
    edge.expect_exit();
    // The next start makes it anew, and is healthy.
    let edge = builder.run();
    recovered(&edge);
    serves_from_ram(&edge, "ram");
    assert_eq!(disk_check(&edge).0, "ok");
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder.join("cache")).expect("the folder is there");
    let files = files.filter_map(|file| Some(file.ok()?.path()));
    let large = |file: &PathBuf| file.metadata().is_ok_and(|about| about.is_file() && about.len() >= MIB as u64);
    let mut files: Vec<_> = files.filter(large).collect();
    files.sort();
    files
}

/// Changes some bytes at random places.
fn damage(file: &Path, places: usize) {
    let open = std::fs::OpenOptions::new().write(true).open(file).expect("a segment");
    let bytes = open.metadata().expect("its size").len();
    for _ in 0..places {
        let junk: Vec<u8> = (0..fastrand::usize(1..400)).map(|_| fastrand::u8(..)).collect();
        open.write_all_at(&junk, fastrand::u64(..bytes - 400)).expect("written");
    }
}

/// A body whose beginning was sent is cut where damage is found; whoever asks again gets all of it from the origin. What RAM had
/// the first time may come from the disk the next.
fn get_of_damaged(edge: &Edge, paths: &[String]) {
    for _ in 0..10 {
        let cut = paths.iter().filter(|path| {
            let answer = edge.get(path);
            expect_bytes(path, claimed(&answer), 0, &answer.body, answer.complete);
            !answer.complete
        });
        if cut.count() == 0 {
            return;
        }
    }
    panic!("answers are cut again and again");
}

#[test]
fn damaged_segments_between_two_runs_cost_only_themselves() {
    let world = World::new();
    let builder = edge_with(&world, "16MiB", "128MiB");
    for round in 0..3 {
        let edge = builder.clone().run();
        recovered(&edge);
        let paths = paths(70, 900_000 + round);
        get_all(&edge, &paths, 4);
        for path in &paths[..10] {
            world.change(path);
            purge(&edge, &json!({"url": format!("http://localhost{path}")}));
        }
        if round == 1 {
            kill(&edge)
        } else {
            stop(&edge)
        };
        let files = segments(builder.folder());
        assert!(files.len() > 4, "{files:?}");
        damage(&files[files.len() / 2], 3);
        let edge = builder.clone().run();
        recovered(&edge);
        let asked = world.asked();
        get_of_damaged(&edge, &paths);
        for path in &paths[..10] {
            assert_eq!(get(&edge, path).0, 2, "{path} came back");
        }
        assert!(world.asked() < asked + 70, "round {round}: something was left");
        stop(&edge);
    }
}

#[test]
fn truncated_segments_cost_only_themselves() {
    let world = World::new();
    let builder = edge_with(&world, "16MiB", "128MiB");
    let edge = builder.clone().run();
    let paths = paths(70, 900_000);
    get_all(&edge, &paths, 4);
    stop(&edge);
    let files = segments(builder.folder());
    for (at, file) in files.iter().enumerate() {
        let left = if at + 2 == files.len() { 3 << 20 } else { 0 };
        if at == 1 || left > 0 {
            std::fs::OpenOptions::new().write(true).open(file).and_then(|file| file.set_len(left)).expect("cut");
        }
    }
    let edge = builder.run();
    recovered(&edge);
    let asked = world.asked();
    get_of_damaged(&edge, &paths);
    assert!(world.asked() > asked && world.asked() < asked + 70, "{} were asked for", world.asked() - asked);
    assert!(edge.metrics().value("reelgate_disk_errors_total", &[]) >= 1.0);
}

#[test]
fn damage_while_running_is_found_by_whoever_reads_it() {
    let world = World::new();
    let builder = edge_with(&world, "8MiB", "128MiB");
    let edge = builder.clone().run();
    let paths = paths(70, 900_000);
    get_all(&edge, &paths, 2);
    get_all(&edge, &paths, 2);
    for round in 0..4 {
        let files = segments(builder.folder());
        let file = &files[fastrand::usize(..files.len())];
        if round == 3 {
            std::fs::OpenOptions::new().write(true).open(file).and_then(|file| file.set_len(1 << 20)).expect("cut");
        } else {
            damage(file, 20);
        }
        get_of_damaged(&edge, &paths);
    }
    edge.expect_metric_at_least("reelgate_disk_errors_total", &[("operation", "read")], 1.0);
}

#[test]
fn a_second_process_on_the_same_disk_goes_on_without_it() {
    let world = World::new();
    let first = edge(&world).run();
    let path = path("shared", 200_000);
    get(&first, &path);
    let second = edge(&world).set("cache.disk.path", place(&first).display().to_string()).run();
    expect_degraded(&second, "used by another process");
    assert!(!get(&second, &path).1.is_hit());
    get(&second, &path).1.expect_hit();
    stop(&second);
    assert_eq!(disk_check(&first).0, "ok");
    get(&first, &path).1.expect_hit();
    stop(&first);
}

#[test]
fn a_clock_that_jumps_makes_nothing_wrong() {
    let library = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
        .map(|folder| format!("{folder}/faketime/libfaketime.so.1"));
    let Some(library) = library.into_iter().find(|library| Path::new(library).exists()) else {
        eprintln!("left out: libfaketime is not installed");
        return;
    };
    let world = World::new();
    let edge = edge(&world);
    let clock = edge.folder().join("clock");
    let set = |time: &str| std::fs::write(&clock, time).expect("written");
    set("+0");
    let file = clock.to_str().expect("a path");
    let edge = edge.environment("LD_PRELOAD", &library).environment("FAKETIME_TIMESTAMP_FILE", file);
    let edge = edge.environment("FAKETIME_NO_CACHE", "1").environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let paths = paths(5, 300_000);
    let mut running = edge.clone().run();
    for (round, time) in ["+0", "+30d", "-30d", "+3650d", "-3650d", "+0"].iter().enumerate() {
        set(time);
        if round % 2 == 1 {
            stop(&running);
            running = edge.clone().run();
            recovered(&running);
        }
        for path in &paths {
            let (_, answer) = get(&running, path);
            let age = answer.header("age").map_or(0, |age| age.parse::<u64>().expect("an age"));
            assert!(age <= 3600 || !answer.is_hit(), "{time}: {answer:?}");
        }
        world.change(&paths[0]);
        purge(&running, &json!({"url": format!("http://localhost{}", paths[0])}));
        assert_eq!(get(&running, &paths[0]).0, world.version(&paths[0]), "{time}");
    }
    stop(&running);
}
