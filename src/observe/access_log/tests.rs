//! Lines as written, rotation, sampling.

use super::*;
use crate::config::AccessFormat;
use proptest::prelude::*;
use std::path::Path;
use std::time::Instant;

fn record(target: &str, status: u16) -> AccessRecord {
    AccessRecord {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        client: Some([192, 0, 2, 1].into()),
        method: "GET".into(),
        scheme: "https",
        host: "media.example".into(),
        target: target.into(),
        protocol: "HTTP/2",
        status,
        bytes_sent: 42,
        bytes_received: 0,
        duration: Duration::from_millis(12),
        first_byte: Some(Duration::from_millis(3)),
        site: Some("media".into()),
        class: "segment",
        cache: "miss",
        origin: Some(OriginExchange {
            name: "media".into(),
            server: Some("127.0.0.1:9000".into()),
            status: Some(200),
            time: Some(Duration::from_millis(2)),
        }),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        user_agent: Some("curl/8".into()),
        referer: Some("https://h/web/?api_key=s3cret".into()),
        error: None,
    }
}

#[test]
fn every_field_of_a_line_is_documented() {
    let guide = include_str!("../../../deploy/README.md");
    let whole = AccessRecord { error: Some("timeout".into()), ..record("/a", 504) };
    let line: serde_json::Value = serde_json::from_str(&json(&whole)).expect("a JSON line");
    let table: String = guide.lines().filter(|line| line.starts_with("| `")).collect();
    for name in line.as_object().expect("an object").keys() {
        assert!(table.contains(&format!("`{name}`")), "`{name}` is not in deploy/README.md");
    }
}

fn settings(file: &Path, sample: f64) -> config::AccessLog {
    config::AccessLog { enabled: true, format: AccessFormat::Json, file: Some(file.to_owned()), sample }
}

fn started(settings: &config::AccessLog, metrics: &Arc<Metrics>) -> AccessLog {
    AccessLog::start(settings, Arc::clone(metrics)).expect("file opens").expect("enabled")
}

fn lines(file: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn json_says_everything_and_no_token() {
    let line = json(&record("/a?x=1&ApiKey=s3cret", 200));
    assert_eq!(
        line,
        r#"{"time":"2023-11-14T22:13:20.123Z","client":"192.0.2.1","method":"GET","scheme":"https","host":"media.example","target":"/a?x=1&ApiKey=***","protocol":"HTTP/2","status":200,"bytes_sent":42,"bytes_received":0,"duration_s":0.012000,"first_byte_s":0.003000,"site":"media","class":"segment","cache":"miss","origin":"media","origin_server":"127.0.0.1:9000","origin_status":200,"origin_s":0.002000,"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","user_agent":"curl/8","referer":"https://h/web/?api_key=***"}"#
    );
}

#[test]
fn the_human_line_reads_from_left_to_right() {
    assert_eq!(
        human(&record("/a b", 502)),
        "2023-11-14T22:13:20.123Z 192.0.2.1 502 miss GET https://media.example\"/a b\" HTTP/2 42B 12.0ms first_byte=3.0ms site=media class=segment origin=media/127.0.0.1:9000:200 origin_time=2.0ms trace=4bf92f3577b34da6a3ce929d0e0e4736 agent=\"curl/8\" referer=\"https://h/web/?api_key=***\""
    );
}

#[test]
fn closing_writes_what_is_queued() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("access.log");
    let metrics = Arc::new(Metrics::new());
    let log = started(&settings(&file, 1.0), &metrics);
    for n in 0..500 {
        log.record(record(&format!("/{n}"), 200));
    }
    log.close();
    assert_eq!(lines(&file).len(), 500);
    log.record(record("/late", 200));
    assert_eq!(lines(&file).len(), 500);
}

#[test]
fn failures_are_never_sampled_away() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("access.log");
    let log = started(&settings(&file, 0.0), &Arc::new(Metrics::new()));
    log.record(record("/good", 206));
    log.record(record("/bad", 404));
    log.record(AccessRecord { error: Some("truncated: token=s3cret".into()), ..record("/cut", 200) });
    log.record(record("/left", 0));
    log.close();
    let written = lines(&file);
    assert_eq!(
        written.iter().map(|line| line["target"].as_str().unwrap_or("")).collect::<Vec<_>>(),
        ["/bad", "/cut", "/left"]
    );
    assert_eq!(written[1]["error"], "truncated: token=***");
}

#[test]
fn a_rotated_file_is_reopened_with_and_without_a_signal() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (file, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let log = started(&settings(&file, 1.0), &Arc::new(Metrics::new()));
    log.record(record("/1", 200));
    eventually("the first line", || lines(&file).len() == 1);
    std::fs::rename(&file, &old).expect("renamed");
    log.reopen();
    log.record(record("/2", 200));
    eventually("a line in the new file", || lines(&file).len() == 1);
    assert_eq!(lines(&old).len(), 1);
    std::fs::remove_file(&file).expect("removed");
    eventually("the writer noticed", || file.exists());
    log.record(record("/3", 200));
    eventually("a line after that", || lines(&file).len() == 1);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let metrics = Arc::new(Metrics::new());
    let (sender, queue) = sync_channel(1);
    let log = AccessLog {
        sender: RwLock::new(Some(sender)),
        writer: Mutex::new(None),
        metrics: Arc::clone(&metrics),
        sample: 1.0,
    };
    log.record(record("/1", 200));
    log.record(record("/2", 200));
    assert_eq!(metrics.access_log_dropped.get(), 1);
    drop(queue);
}

proptest! {
    #[test]
    fn nobody_forges_a_line(text in any::<String>(), bytes in "[\\x00-\\x1f\\x7f\u{80}-\u{9f}\u{2028}\u{202e}\"\\\\ a]{0,40}") {
        for hostile in [&text, &bytes] {
            let record = AccessRecord {
                method: hostile.clone(),
                host: hostile.clone(),
                user_agent: Some(hostile.clone()),
                referer: Some(hostile.clone()),
                error: Some(hostile.clone()),
                trace_id: hostile.clone(),
                ..record(hostile, 200)
            };
            for line in [json(&record), human(&record)] {
                prop_assert!(!line.chars().any(|c| c.is_control() || c == '\u{2028}' || c == '\u{202e}'), "{line:?}");
            }
            serde_json::from_str::<serde_json::Value>(&json(&record)).expect("one JSON object");
        }
    }

    #[test]
    fn long_fields_are_cut_after_redaction(padding in 480..540usize) {
        let agent = format!("{}?token=s3crets3cret", "x".repeat(padding));
        let line = json(&AccessRecord { user_agent: Some(agent), ..record(&"y".repeat(9000), 200) });
        prop_assert!(!line.contains("s3c") && line.len() < 6000);
    }
}
