//! What origins' segments take of memory, and that making them is work like any other.

use super::{adding, muxed, ready, segments};
use crate::streams::children;
use crate::support::{Edge, Nginx, eventually, patience, pause};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const CACHE: u64 = 64;
/// Two segments of the longest, and one that another one needs.
const SOURCES: u64 = 64;
/// All of them, as they come and as they are made, would be five times that.
const LARGE: usize = 12 << 20;
const AT_ONCE: usize = 12;

/// A transport stream with so many bytes more, of packets that mean nothing (ISO/IEC 13818-1 §2.4.1).
fn padded(stream: &[u8], number: u8) -> Vec<u8> {
    let mut packet = [number; 188];
    packet[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
    [stream, &packet.repeat(LARGE / 188)].concat()
}

/// The most that a process has had in memory.
fn highest_bytes(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its most");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Until it is not only too busy.
#[track_caller]
fn get(edge: &Edge, path: &str) -> crate::support::Response {
    let deadline = Instant::now() + patience() * 4;
    loop {
        let answer = edge.get(path);
        if answer.status != 503 || Instant::now() > deadline {
            return answer;
        }
        assert!(answer.header("retry-after").is_some());
        pause(Duration::from_millis(200));
    }
}

#[test]
fn many_large_sources_at_once_take_no_more_memory_than_they_may() {
    let nginx = muxed(Nginx::start(), &["scenecut=0"]);
    let stream = std::fs::read(nginx.root().join("f/best/i0.ts")).expect("a segment");
    let mut list = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n".to_owned();
    let mut nginx = nginx;
    for number in 0..AT_ONCE {
        nginx = nginx.file(&format!("f/large/{number}.ts"), padded(&stream, number as u8));
        list += &format!("#EXTINF:1.3,\n{number}.ts\n");
    }
    let nginx = nginx.file("f/large/i.m3u8", list + "#EXT-X-ENDLIST\n");
    let edge = adding(&nginx.url())
        .set("cache.memory", format!("{CACHE}MiB"))
        .set("transcode.source_memory", format!("{SOURCES}MiB"))
        .set("transcode.jobs", 1)
        .run();
    let edge = ready(edge);
    let rung = "/f/large/_reelgate/240p-640x360-29970";
    let made = edge.get(&format!("{rung}/i.m3u8")).expect_status(200).text();
    let paths: Vec<String> =
        made.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{rung}/{line}")).collect();
    assert_eq!(paths.len(), AT_ONCE, "{made}");
    let sidecar = children(edge.pid()).pop().expect("a sidecar");
    let (ended, highest) = (Arc::new(()), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (ending, highest) = (Arc::downgrade(&ended), &highest);
        // Gone with this closure, also where that panics.
        let _ended = ended;
        let watched = &edge;
        scope.spawn(move || {
            while ending.strong_count() > 0 {
                highest.fetch_max(watched.resident_bytes(), Ordering::Relaxed);
                pause(Duration::from_millis(10));
            }
        });
        let asked: Vec<_> = paths.iter().map(|path| scope.spawn(|| get(&edge, path))).collect();
        for asked in asked {
            let answer = asked.join().expect("an answer").expect_status(200);
            assert!(answer.complete && answer.body.len() > LARGE, "what lies beside the picture stays");
        }
    });
    let (edges, sidecars) = (highest.into_inner() / MIB, highest_bytes(&sidecar) / MIB);
    let bound = CACHE * 115 / 100 + SOURCES + 64;
    eprintln!("resident: {edges} MiB of {bound} MiB; the sidecar: {sidecars} MiB");
    assert!(edges <= bound, "{edges} MiB of {bound} MiB");
    // 256 MiB of requests, and what one run makes of one of them.
    assert!(sidecars <= 256 + 160, "the sidecar: {sidecars} MiB");
}

#[test]
fn an_added_rung_is_a_job_like_the_others() {
    let nginx = muxed(Nginx::start(), &["scenecut=0"]);
    let edge = ready(adding(&nginx.url()).run());
    let segments = segments(&edge, &super::added(&edge));
    for (_, made) in &segments.pairs[..3] {
        edge.get(made).expect_status(200);
    }
    eventually("they are told of", || {
        let jobs = edge.admin_get("/api/v1/jobs").expect_status(200).json();
        let ours = jobs["jobs"].as_array().into_iter().flatten().filter(|job| job["rendition"] == "240p");
        let ours: Vec<_> = ours.filter(|job| job["state"] == "done" && job["percent"] == 100.0).collect();
        let named = |job: &&serde_json::Value| job["title"].as_str().is_some_and(|title| title.starts_with("main "));
        let fast = |job: &&serde_json::Value| job["fps"].as_f64() > Some(0.0) && job["speed"].as_f64() > Some(0.0);
        let numbers: Vec<_> = ours.iter().map(|job| job["segments"][0].as_u64()).collect();
        let urgent: Vec<_> = ours.iter().map(|job| job["priority"].as_str().unwrap_or_default()).collect();
        numbers == [Some(0), Some(1), Some(2)]
            && urgent == ["first", "sequential", "sequential"]
            && ours.iter().all(|job| named(job) && fast(job) && job["device"] == "cpu")
    });
    edge.expect_metric_at_least("reelgate_transcoder_events_total", &[("event", "segment")], 3.0);
}

#[test]
fn a_transcoder_that_is_away_is_told_of_and_the_edge_is_ready() {
    let origin = crate::support::Origin::start();
    let state = |edge: &Edge| {
        let ready = edge.admin_get("/readyz").expect_status(200).json();
        assert_eq!(ready["ready"], true, "{ready}");
        ready["checks"]["transcoder:local"].clone()
    };
    let edge = ready(adding(&origin.url()).run());
    eventually("it is there", || state(&edge)["status"] == "ok");
    let edge = adding(&origin.url()).set("transcode.program", "/bin/false").run();
    assert_eq!(state(&edge)["status"], "degraded");
    assert_eq!(state(&edge)["detail"], "it does not answer");
}
