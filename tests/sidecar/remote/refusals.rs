//! Who is let in, on both sides; what is refused to those who are.

use super::{Authority, Remote, servers};
use crate::support::{patience, runtime};
use reelgate::config::TranscodeServers;
use reelgate::transcode::{Introduction, introduction};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use std::sync::Arc;
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Asks the only server who it is.
pub fn ask(servers: &TranscodeServers) -> Result<Introduction, String> {
    runtime().block_on(introduction(servers, &servers.addresses[0]))
}

/// Sends anything at all, with a certificate of the authority or without one; what comes back.
fn raw(authority: &Authority, port: u16, with_certificate: bool, request: &str) -> Result<String, String> {
    let files = authority.files("raw", None);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.ca).expect("a certificate")).expect("an authority");
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match with_certificate {
        true => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&files.cert).expect("a certificate")],
                PrivateKeyDer::from_pem_file(&files.key).expect("a key"),
            )
            .expect("they belong together"),
        false => config.with_no_client_auth(),
    };
    runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let said = async {
            let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
        };
        tokio::time::timeout(patience(), said).await.expect("in time").map_err(|error| error.to_string())
    })
}

const STATUS: &str = "GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[test]
fn only_those_with_a_good_certificate_of_the_right_authority_are_let_in_on_both_sides() {
    let films = tempfile::tempdir().expect("a folder");
    let folders = [films.path().display().to_string()];
    let (authority, other) = (Authority::new(), Authority::new());
    let past = Some(OffsetDateTime::now_utc() - Duration::days(1));
    let remote = Remote::start(&authority.files("127.0.0.1", None), &folders, None);
    let edge = authority.files("edge", None);
    let known = ask(&servers(edge.clone(), remote.port)).expect("a good one is let in");
    assert!(known.program.starts_with("reelgate-transcoder/") && !known.subject.is_empty(), "{known:?}");

    let mut wrong = other.files("edge", None);
    wrong.ca.clone_from(&edge.ca);
    let refused = ask(&servers(wrong, remote.port)).expect_err("of another authority");
    assert!(refused.contains("alert") || refused.contains("closed") || refused.contains("reset"), "{refused}");
    ask(&servers(authority.files("edge", past), remote.port)).expect_err("expired");
    assert!(raw(&authority, remote.port, false, STATUS).is_err(), "nobody without a certificate");
    assert!(raw(&authority, remote.port, true, STATUS).expect("with one").contains("\"jobs\":[]"));

    let mut wrong = edge.clone();
    wrong.ca.clone_from(&other.files("edge", None).ca);
    let refused = ask(&servers(wrong, remote.port)).expect_err("it shows one of another authority");
    assert!(refused.contains("invalid peer certificate"), "{refused}");
    let expired = Remote::start(&authority.files("127.0.0.1", past), &folders, None);
    let refused = ask(&servers(edge.clone(), expired.port)).expect_err("it shows one that has expired");
    assert!(refused.to_lowercase().contains("expired"), "{refused}");
    let misnamed = Remote::start(&authority.files("gpu.test", None), &folders, None);
    let refused = ask(&servers(edge, misnamed.port)).expect_err("it shows one for another name");
    assert!(refused.contains("not valid for name"), "{refused}");
}

#[test]
fn films_outside_its_folders_other_versions_and_long_requests_are_refused() {
    let films = tempfile::tempdir().expect("a folder");
    std::fs::write(films.path().join("Film.mp4"), "a film").expect("a film");
    let authority = Authority::new();
    let folders = [films.path().display().to_string()];
    let remote = Remote::start(&authority.files("127.0.0.1", None), &folders, None);
    let base64 = |path: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(path)
    };
    let post = |path: &str, field: &str, body: &str| {
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\n{field}Connection: close\r\nContent-Length: {length}\r\n\r\n");
        raw(&authority, remote.port, true, &(head + body)).expect("an answer")
    };
    let source = |folder: &str, path: &str, bytes: u64| {
        let stamp = json!({"inode": 1, "modified_s": 1, "modified_ns": 0, "bytes": bytes});
        json!({"folder": base64(folder), "path": base64(path), "stamp": stamp}).to_string()
    };
    let own = films.path().to_str().expect("a name");
    for (folder, path, reason) in [
        ("/etc", "passwd", "none of the folders"),
        ("/", "etc/passwd", "none of the folders"),
        (own, "../../etc/passwd", "cannot be opened"),
        (own, "/etc/passwd", "cannot be opened"),
        (own, "Film.mp4", "another version"),
    ] {
        let answer = post("/probe", "", &source(folder, path, 6));
        assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains(reason), "{folder} {path}: {answer}");
        assert!(!answer.contains("etc") && !answer.contains(own), "a path leaks: {answer}");
    }
    let answer = post("/probe", "reelgate-version: 0.0.0/1\r\n", &source(own, "Film.mp4", 6));
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    let answer = post("/probe", "", &"x".repeat(100_000));
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let fields = "x: y\r\n".repeat(100);
    assert!(post("/probe", &fields, "{}").starts_with("HTTP/1.1 431 "));
}
