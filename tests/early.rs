//! Origins that answer before they have read the request's body: the client has the answer, and is told soon to stop sending (RFC
//! 9113, section 8.1). Not by curl: 7.88 reads no more of an upload's stream once it has the whole answer. Over HTTP/3: `http3`.

use crate::support::{Edge, Nginx, pattern, pause};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

const UPLOAD_BYTES: usize = 100_000_000;
/// An upload over the loopback takes far less; waiting for a timeout of the edge takes longer.
const SOON: Duration = Duration::from_secs(5);

/// What an origin does once it has answered.
#[derive(Debug, Clone, Copy)]
enum Then {
    Waits,
    Closes,
    ReadsOn,
}

/// Answers each request as soon as it has read its head.
fn hasty(then: Then, answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a connection");
            std::thread::spawn(move || serve(stream, then, answer));
        }
    });
    format!("http://{address}")
}

fn serve(mut stream: TcpStream, then: Then, answer: &str) -> Option<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    stream.write_all(answer.as_bytes()).ok()?;
    match then {
        Then::Waits => pause(Duration::from_secs(120)),
        Then::Closes => stream.shutdown(Shutdown::Both).ok()?,
        Then::ReadsOn => drop(std::io::copy(&mut stream, &mut std::io::sink())),
    }
    Some(())
}

/// The frames that nghttp saw of an upload over HTTP/2 and TLS.
fn upload(edge: &Edge) -> (String, Duration) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("upload");
    std::fs::write(&file, pattern(UPLOAD_BYTES)).expect("a file");
    let began = Instant::now();
    let output = Command::new("timeout")
        .args(["10", "nghttp", "-n", "-v", "-y", "-H", ":method: POST", "-d"])
        .arg(&file)
        .arg(format!("https://{}/a", edge.https()))
        .output()
        .expect("nghttp runs (tests/run installs it)");
    (String::from_utf8_lossy(&output.stdout).into_owned(), began.elapsed())
}

fn expect_told_to_stop(url: &str) {
    let edge = Edge::of_url(url).tls().run();
    let (told, took) = upload(&edge);
    assert!(told.contains(":status: 200"), "{told}");
    let ended = told.rfind("END_STREAM");
    let reset = told.find("recv RST_STREAM").filter(|at| told[*at..].contains("error_code=NO_ERROR"));
    assert!(reset.is_some() && ended.is_some(), "{took:?}");
    assert!(took < SOON, "{took:?}");
    edge.expect_metric("reelgate_requests_in_flight", &[], 0.0);
}

#[test]
fn nginx_that_returns_at_once_ends_an_upload_over_http2() {
    let nginx = Nginx::with("client_max_body_size 0; location / { return 200 \"early\\n\"; }");
    expect_told_to_stop(&nginx.url());
}

#[test]
fn an_early_answer_ends_an_upload_over_http2_whatever_the_origin_does_next() {
    for then in [Then::Waits, Then::Closes, Then::ReadsOn] {
        expect_told_to_stop(&hasty(then, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly"));
    }
}
