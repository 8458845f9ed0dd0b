//! Chromium over HTTP/3: forced to QUIC, trusting one key, as the README says.

use crate::support::{Edge, Origin, Reply, certificate};
use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::process::Command;
use x509_parser::pem::parse_x509_pem;

/// What `--ignore-certificate-errors-spki-list` takes.
fn key_sum(certificate: &Path) -> String {
    let pem = std::fs::read(certificate).expect("a certificate");
    let (_, pem) = parse_x509_pem(&pem).expect("PEM");
    let certificate = pem.parse_x509().expect("a certificate");
    base64::engine::general_purpose::STANDARD.encode(Sha256::digest(certificate.public_key().raw))
}

#[test]
fn a_page_loads_over_http3_in_chromium() {
    let page = "<!doctype html><title>h3</title><script src=/script.js></script>";
    let script = "fetch('/data').then(r => r.text()).then(text => { document.title = text; });";
    let origin = Origin::start()
        .route("/", Reply::cacheable(page).header("Content-Type", "text/html"))
        .route("/script.js", Reply::cacheable(script).header("Content-Type", "text/javascript"))
        .route("/data", Reply::cacheable("whole"));
    let builder = Edge::of(&origin);
    let (cert, key) = certificate(builder.folder(), "localhost");
    let files = json!({"cert": cert.display().to_string(), "key": key.display().to_string()});
    let edge = builder.listen(json!({"tls": files, "http3": true})).run();
    let output = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/http3.mjs"))
        .args([format!("localhost:{}", edge.https().port()), key_sum(&cert)])
        .output()
        .expect("node runs (tests/run installs it)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "http3.mjs: {said}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!(result["title"], "whole", "{result}");
    let protocols = result["protocols"].as_array().expect("protocols");
    assert!(protocols.len() >= 3 && protocols.iter().all(|protocol| protocol == "h3"), "{result}\n{said}");
    edge.expect_metric_at_least("reelgate_requests_total", &[("protocol", "h3"), ("status", "200")], 3.0);
}
