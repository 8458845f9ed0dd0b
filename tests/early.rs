//! Origins that answer before they have read the request's body. The client has the answer, and is told to stop sending or sends
//! what it has to the end; it never waits for a window that does not come (RFC 9113, section 8.1; RFC 9114, section 4.1).

use crate::support::{Curl, Edge, Nginx, pattern};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const UPLOAD_BYTES: usize = 3_000_000;
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
        Then::Waits => std::thread::sleep(Duration::from_secs(120)),
        Then::Closes => stream.shutdown(Shutdown::Both).ok()?,
        Then::ReadsOn => drop(std::io::copy(&mut stream, &mut std::io::sink())),
    }
    Some(())
}

/// Uploads by curl, in this version of HTTP, and gives up after a while.
fn upload(url: &str, version: &str) -> (String, Duration) {
    upload_as(url, version, "PUT")
}

fn upload_as(url: &str, version: &str, method: &str) -> (String, Duration) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("upload");
    std::fs::write(&file, pattern(UPLOAD_BYTES)).expect("a file");
    let began = Instant::now();
    let output = Curl::new(url)
        .arg(version)
        .arg("-X")
        .arg(method)
        .arg("-T")
        .arg(&file.display().to_string())
        .arg("--max-time")
        .arg("10")
        .output();
    let took = began.elapsed();
    let told = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (told, took)
}

fn expect_answered(url: &str, status: &str) {
    let edge = Edge::of_url(url).tls().run();
    for version in ["--http1.1", "--http2"] {
        let (told, took) = upload(&format!("https://{}/a", edge.https()), version);
        let head = told.lines().find(|line| line.starts_with("HTTP/") && !line.contains(" 100"));
        assert!(head.is_some_and(|head| head.contains(status)), "{version}: {told}");
        assert!(took < SOON, "{version}: {took:?}: {told}");
    }
}

#[test]
fn nginx_that_returns_at_once_does_not_hang_an_upload() {
    for status in ["200", "413"] {
        let nginx = Nginx::with(&format!("client_max_body_size 0; location / {{ return {status} \"early\\n\"; }}"));
        expect_answered(&nginx.url(), status);
    }
}

/// The answer's last bytes wait for the client's window when the stream is let go.
#[test]
fn an_early_answer_is_whole_however_long_it_is() {
    let nginx = Nginx::with("client_max_body_size 0; location / { error_page 405 =200 $uri; }");
    let nginx = nginx.file("a", vec![b'x'; 5_000_000]);
    let edge = Edge::of_url(&nginx.url()).tls().run();
    let (told, took) = upload_as(&format!("https://{}/a", edge.https()), "--http2", "POST");
    assert!(told.matches('x').count() >= 5_000_000, "{} bytes", told.len());
    assert!(took < SOON, "{took:?}");
}

#[test]
fn an_early_answer_does_not_hang_an_upload_whatever_the_origin_does_next() {
    for then in [Then::Waits, Then::Closes, Then::ReadsOn] {
        println!("{then:?}");
        expect_answered(&hasty(then, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly"), "200");
    }
}
