//! Transcoders on other hosts: the certificate the edge shows them, whether each answers, who it is and what it makes films with.

use super::certificate;
use super::online::{Outcome, PROBE_TIMEOUT, Probe, blocking};
use crate::config::{ServerAddress, TlsFiles, TranscodeServers};
use crate::transcode::introduction;

const SUBJECT: &str = "transcode";

/// The edge's own certificate.
pub async fn identity(files: &TlsFiles) -> Probe {
    let (cert, key) = (files.cert.clone(), files.key.clone());
    let found = blocking(move || certificate::read(&cert, &key, &[])).await;
    Probe::new(SUBJECT, files.cert.display().to_string(), found)
}

/// One server.
pub async fn ask(servers: &TranscodeServers, address: &ServerAddress) -> Probe {
    let asked = tokio::time::timeout(PROBE_TIMEOUT, introduction(servers, address)).await;
    let found = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", PROBE_TIMEOUT.as_secs())));
    let found = found.map(|it| (Outcome::Good, format!("{} ({}), {}", it.program, it.subject, it.build)));
    Probe::new(SUBJECT, address.to_string(), found)
}
