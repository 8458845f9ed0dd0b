//! What the transcoder is at, in the three ways it is told.

use super::*;
use crate::transcode::{ServerJob, protocol::JobStatus};

/// Two dozen jobs of a transcoder elsewhere.
pub fn report() -> Report {
    let job = JobStatus {
        id: 7,
        title: "a1".into(),
        rendition: "360p".into(),
        segments: [4, 7],
        state: "running".into(),
        priority: "prefetch".into(),
        waiters: 0,
        percent: 12.5,
        fps: 250.0,
        speed: 10.0,
        device: "cpu".into(),
    };
    let jobs = vec![ServerJob { server: "gpu.test:9443".into(), job }; 24];
    Report { available: true, jobs, ..Report::default() }
}

#[tokio::test]
async fn many_jobs_are_listed_with_their_progress() {
    let answer = open().await.get("/api/v1/jobs", "").await.json();
    let job = &answer["jobs"][23];
    assert_eq!((job["percent"].as_f64(), job["segments"][1].as_u64()), (Some(12.5), Some(7)), "{answer}");
    assert_eq!(job["server"], "gpu.test:9443", "whose it is");
    assert_eq!((&job["state"], &job["device"], &answer["available"]), (&"running".into(), &"cpu".into(), &true.into()));
}

#[tokio::test]
async fn jobs_come_as_events() {
    let admin = open().await;
    let mut stream = TcpStream::connect(admin.address).await.expect("connects");
    stream.write_all(b"GET /api/v1/jobs/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sends");
    read_until(&mut stream, "event: jobs\ndata: {").await;
    admin.shutdown.send(true).expect("it runs");
    tokio::time::timeout(PATIENCE, admin.task).await.expect("the stream ends with the listener").expect("no panic");
}

/// A client's handshake (RFC 6455, section 1.3).
fn handshake(headers: &str) -> String {
    format!(
        "GET /api/v1/jobs/ws HTTP/1.1\r\nHost: localhost:9090\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

#[tokio::test]
async fn jobs_come_over_a_websocket() {
    let admin = open().await;
    let mut stream = TcpStream::connect(admin.address).await.expect("connects");
    stream.write_all(handshake("Origin: http://localhost:9090\r\n").as_bytes()).await.expect("sends");
    let told = read_until(&mut stream, "\"title\":\"a1\"").await;
    assert!(told.starts_with("HTTP/1.1 101 ") && told.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{told}");
    admin.shutdown.send(true).expect("it runs");
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("ends in time").expect("reads");
}

#[tokio::test]
async fn another_websites_page_gets_no_websocket() {
    let admin = open().await;
    for headers in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Sec-Fetch-Site: same-site\r\n"] {
        let refused = handshake(headers).replace("Connection: Upgrade", "Connection: Upgrade, close");
        assert_eq!(admin.raw(&refused).await.status, 403, "{headers}");
    }
    assert_eq!(admin.get("/api/v1/jobs/ws", "").await.status, 426);
    let admin = running(Some("correct horse"), Readiness::default()).await;
    let refused = handshake("").replace("Connection: Upgrade", "Connection: Upgrade, close");
    assert_eq!(admin.raw(&refused).await.status, 401);
}
