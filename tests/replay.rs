//! `reelgate replay`: what it reads, what it prints, and whether it says of our own log what the edge itself did.

use crate::support::{Edge, Origin, Reply, eventually, reelgate};
use serde_json::Value;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};

/// Nine requests of four objects; whole, so every format can say it.
const REQUESTS: [(&str, u32); 9] = [
    ("a", 1024),
    ("b", 2048),
    ("a", 1024),
    ("c", 4096),
    ("a", 1024),
    ("d", 1024),
    ("b", 2048),
    ("a", 1024),
    ("c", 4096),
];

fn csv() -> String {
    let lines = REQUESTS.iter().enumerate().map(|(time, (key, size))| format!("{time},{key},{size}\n"));
    "time,key,size\n".to_owned() + &lines.collect::<String>()
}

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let file = folder.join(name);
    std::fs::write(&file, content).expect("the file is written");
    file.to_str().expect("a temporary path is UTF-8").to_owned()
}

fn text(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn json(arguments: &[&str]) -> Value {
    let output = reelgate(&[&["replay", "--json"], arguments].concat());
    serde_json::from_str(&text(&output)).expect("JSON")
}

#[test]
fn a_small_trace_makes_this_table() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = write(folder.path(), "small.csv", csv());
    let output = reelgate(&["replay", "--size", "4KiB,100%", &file]);
    assert!(output.stderr.is_empty(), "no bar where there is no terminal: {output:?}");
    let expected = "\
9 requests of 4 objects, 8.0KiB in all

  size  policy    requests  hit %  byte-hit %  origin bytes
4.0KiB  lru              9  22.22       11.76       15.0KiB
        s3fifo           9  22.22       11.76       15.0KiB
        reelgate         9  22.22       11.76       15.0KiB
        belady           9  44.44       29.41       12.0KiB
        bound            9  55.56       51.77        8.2KiB
8.0KiB  lru              9  55.56       52.94        8.0KiB
        s3fifo           9  55.56       52.94        8.0KiB
        reelgate         9  55.56       52.94        8.0KiB
        belady           9  55.56       52.94        8.0KiB
        bound            9  55.56       52.94        8.0KiB

hit % by size, a full bar is 55.6 %
              4.0KiB      8.0KiB
lru       ▃▃▃▃  22.2  ████  55.6
s3fifo    ▃▃▃▃  22.2  ████  55.6
reelgate  ▃▃▃▃  22.2  ████  55.6
belady    ▆▆▆▆  44.4  ████  55.6
bound     ████  55.6  ████  55.6
";
    assert_eq!(text(&output), expected);
}

#[test]
fn formats_and_packings_say_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let oracle: Vec<u8> = REQUESTS
        .iter()
        .flat_map(|(key, size)| {
            let object = u64::from(key.as_bytes()[0]);
            [&7_u32.to_le_bytes()[..], &object.to_le_bytes(), &size.to_le_bytes(), &(-1_i64).to_le_bytes()].concat()
        })
        .collect();
    let combined: String = REQUESTS
        .iter()
        .map(|(key, size)| {
            format!("h - - [20/Nov/2026:21:18:12 +0000] \"GET /{key} HTTP/1.1\" 200 {size} \"-\" \"x\"\n")
        })
        .collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, csv().as_bytes()).expect("packed");
    let gzip = gzip.finish().expect("packed");
    let zstd = zstd::encode_all(csv().as_bytes(), 1).expect("packed");
    let files = [
        write(path, "trace", csv()),
        write(path, "t.csv.gz", &gzip),
        write(path, "t.zst", zstd),
        write(path, "trace.oracleGeneral.bin", &oracle),
        write(path, "trace.bin", &oracle),
        write(path, "access.log", combined),
    ];
    let expected = json(&[&files[0]])["outcomes"].clone();
    assert_eq!(expected.as_array().map(Vec::len), Some(7 * 5), "the ladder, all policies");
    for file in &files {
        assert_eq!(json(&[file])["outcomes"], expected, "{file}");
    }
    for packed in [&files[0], &files[1], &files[2]] {
        let stdin = File::open(packed).expect("just written");
        let output = Command::new(env!("CARGO_BIN_EXE_reelgate")).args(["replay", "--json", "-"]).stdin(stdin).output();
        let said: Value = serde_json::from_str(&text(&output.expect("it runs"))).expect("JSON");
        assert_eq!(said["outcomes"], expected, "{packed} by standard input");
    }
    let twice = json(&[&files[0], &files[1]]);
    assert_eq!(twice["trace"]["requests"], 18, "logs follow one another");
    assert_eq!(twice["trace"]["objects"], 4);
}

#[test]
fn what_cannot_be_used_says_why_and_with_which_code() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let good = write(path, "good.csv", csv());
    let ends = |arguments: &[&str], code: i32, part: &str| {
        let output = reelgate(&[&["replay"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    };
    ends(&[], 2, "LOG");
    ends(&["--size", "1G", &good], 2, "GiB");
    ends(&["--policy", "best", &good], 2, "belady");
    ends(&["--sample", "2", &good], 2, "at most 1");
    ends(&["-", "-"], 2, "once");
    ends(&["-c", "/nonexistent.yaml", &good], 2, "nonexistent");
    ends(&["/nonexistent.log"], 1, "/nonexistent.log");
    ends(&[&write(path, "empty.csv", "")], 1, "nothing to replay");
    ends(&[&write(path, "prose", "hello\n")], 1, "--format");
    ends(&["--format", "json", &good], 1, "line 1");
    ends(&[&write(path, "cut.csv.gz", [0x1f, 0x8b, 8, 0, 0])], 1, "cut.csv.gz");
    let mixed = write(path, "mixed.csv", csv() + "\nnonsense\n");
    ends(&[&mixed], 0, "1 wrong, skipped; the first is line 12");
    let help = text(&reelgate(&["replay", "--help"]));
    assert!(help.contains("Examples:") && help.contains("oracleGeneral") && help.contains("bound"), "{help}");
    assert!(text(&reelgate(&["completions", "bash"])).contains("oracleGeneral"));
}

#[test]
fn our_own_log_replayed_hits_as_often_as_the_edge_did() {
    const OBJECTS: u64 = 40;
    const REQUESTS: usize = 400;
    let origin = Origin::start().handle("*", |_| Reply::cacheable(vec![b'x'; 64 * 1024]));
    let edge = Edge::of(&origin).set("cache.memory", "1MiB").run();
    let mut state = 7_u64;
    for _ in 0..REQUESTS {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The smaller of two draws: a few objects are asked for often.
        let object = ((state >> 33) % OBJECTS).min((state >> 20) % OBJECTS);
        edge.get(&format!("/{object}?api_key=secret")).expect_status(200);
    }
    edge.get("/0?other").expect_status(200);
    let lines = || edge.stdout().lines().count();
    eventually("every request is in the log", || lines() > REQUESTS);
    let hits = edge.metrics().value("reelgate_requests_total", &[("cache", "hit")]);
    let log = write(edge.folder(), "access.log", edge.stdout());
    let file = edge.config_file();
    let said = json(&["-c", file.to_str().expect("UTF-8"), "--policy", "reelgate", &log]);
    assert_eq!(said["trace"]["requests"].as_u64(), Some(REQUESTS as u64 + 1));
    let outcome = &said["outcomes"][0];
    let replayed = outcome["hits"].as_f64().expect("a number");
    assert_eq!(outcome["size_bytes"], 15 * 64 * 1024, "what cache.memory leaves for objects");
    assert!(hits > 0.2 * REQUESTS as f64 && hits < 0.8 * REQUESTS as f64, "the cache is too small for all: {hits}");
    // An object still being sent is not evicted; the replay knows no such moments.
    assert!(
        (replayed - hits).abs() <= 0.03 * REQUESTS as f64,
        "the edge hit {hits} times, its log replayed {replayed}"
    );
    // And what the log says itself of each request.
    let logged = edge.stdout().lines().filter(|line| line.contains(r#""cache":"hit""#)).count();
    assert_eq!(logged as f64, hits);
}
