//! Which certificate is shown, when it changes, and what is said of files that hold none.

use super::harness::*;
use crate::config::{Certificate, Listen};
use crate::observe::Metrics;
use crate::transport::Certificates;
use rcgen::{CertificateParams, KeyPair};
use std::path::{Path, PathBuf};

/// Writes a pair of files for `name` and returns the certificate's bytes.
fn write_pair(folder: &Path, file: &str, name: &str) -> (Certificate, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let paths: [PathBuf; 2] = [folder.join(format!("{file}.pem")), folder.join(format!("{file}.key"))];
    std::fs::write(&paths[0], certificate.pem()).unwrap();
    std::fs::write(&paths[1], key.serialize_pem()).unwrap();
    let [cert, key] = paths;
    (Certificate::Files { cert, key }, certificate.der().to_vec())
}

async fn shown(server: &Server, name: &str) -> Vec<u8> {
    let stream = tls(server.connect().await, name, &["http/1.1"]).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn the_name_asked_for_decides_and_the_first_serves_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (first, first_der) = write_pair(folder.path(), "a", "a.example");
    let (wild, wild_der) = write_pair(folder.path(), "w", "*.media.example");
    let (exact, exact_der) = write_pair(folder.path(), "x", "x.media.example");
    let server = serve(Listen { tls: vec![first, wild, exact], ..listen() }, limits()).await;
    assert_eq!(shown(&server, "A.example").await, first_der);
    assert_eq!(shown(&server, "y.media.example").await, wild_der);
    assert_eq!(shown(&server, "x.media.example").await, exact_der);
    assert_eq!(shown(&server, "z.y.media.example").await, first_der, "a wildcard stands for one label");
    assert_eq!(shown(&server, "127.0.0.1").await, first_der, "no SNI for an address");
}

#[tokio::test]
async fn changed_files_are_served_without_a_restart_and_broken_ones_never() {
    let folder = tempfile::tempdir().unwrap();
    let (source, old) = write_pair(folder.path(), "a", "a.example");
    let server = serve(Listen { tls: vec![source], ..listen() }, limits()).await;
    let certificates = server.certificates.as_ref().unwrap();
    assert_eq!(shown(&server, "a.example").await, old);
    std::fs::write(folder.path().join("a.key"), "not a key").unwrap();
    let error = certificates.reload(server.metrics()).unwrap_err().to_string();
    assert!(error.contains("a.key") && error.contains("private key"), "{error}");
    assert_eq!(shown(&server, "a.example").await, old);
    assert_eq!(server.metrics().certificate_reloads.with_label_values(&["failure"]).get(), 1);
    let (_, new) = write_pair(folder.path(), "a", "a.example");
    // Without a call: the files are looked at.
    in_time(async {
        while shown(&server, "a.example").await != new {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    })
    .await;
}

#[test]
fn errors_name_the_file_and_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let (_, _) = write_pair(folder.path(), "a", "a.example");
    let (_, _) = write_pair(folder.path(), "b", "b.example");
    let files = |cert: &str, key: &str| {
        let source = Certificate::Files { cert: folder.path().join(cert), key: folder.path().join(key) };
        Certificates::load(&[source], &[]).unwrap_err().to_string()
    };
    std::fs::write(folder.path().join("empty.pem"), "").unwrap();
    std::fs::write(folder.path().join("bad.pem"), "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n")
        .unwrap();
    for (cert, key, file, words) in [
        ("none.pem", "a.key", "none.pem", "cannot be read"),
        ("empty.pem", "a.key", "empty.pem", "no certificate"),
        ("bad.pem", "a.key", "bad.pem", "not valid PEM"),
        ("a.pem", "a.pem", "a.pem", "no unencrypted private key"),
        ("a.pem", "b.key", "b.key", "does not belong"),
    ] {
        let error = files(cert, key);
        assert!(error.contains(file) && error.contains(words), "{error}");
    }
}

#[test]
fn the_self_signed_certificate_names_the_sites_and_stays_across_reloads() {
    let names = ["media.example".to_owned(), "*.tv.example".to_owned()];
    let certificates = Certificates::load(&[Certificate::SelfSigned], &names).unwrap();
    let before = certificates.infos();
    assert!(
        ["localhost", "media.example", "*.tv.example"].iter().all(|name| before[0].names.contains(&(*name).to_owned()))
    );
    let days = before[0].not_after.duration_since(std::time::SystemTime::now()).unwrap().as_secs() / 86_400;
    assert!((390..398).contains(&days), "{days} days");
    certificates.reload(&Metrics::new()).unwrap();
    assert_eq!(certificates.infos()[0].not_after, before[0].not_after);
}
