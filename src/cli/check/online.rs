//! What a configuration refers to: servers, certificates, folders, disks. All probes run at once, each with its own bound.

use super::{certificate, encoders, origin, transcoder};
use crate::config::{Certificate, Config, OriginKind};
use futures_util::future::join_all;
use rustix::fs::Access;
use serde::Serialize;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

/// No probe takes longer, whatever the file says.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Probes beyond this are not run: a table nobody reads.
const PROBES_MAX: usize = 500;

/// One line of the table.
#[derive(Debug, Serialize)]
pub struct Probe {
    pub outcome: Outcome,
    /// Whose it is: `origin media`, `listen 0.0.0.0:8443`.
    pub subject: String,
    /// What was asked: a server, a file, a folder.
    pub target: String,
    pub detail: String,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Good,
    Warning,
    /// It is not there, and need not be.
    Absent,
    Failed,
}

impl Probe {
    /// The line for a result: what was found, or why not.
    pub fn new(subject: &str, target: String, found: Result<(Outcome, String), String>) -> Self {
        let (outcome, detail) = found.unwrap_or_else(|reason| (Outcome::Failed, reason));
        Self { outcome, subject: subject.to_owned(), target, detail }
    }
}

/// Runs every probe of a configuration, in the file's order.
///
/// # Errors
/// No runtime could be started.
pub fn probe(config: &Config) -> std::io::Result<Vec<Probe>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut probes: Vec<Pin<Box<dyn Future<Output = Probe> + Send + '_>>> = Vec::new();
    for listen in &config.listen {
        let subject = format!("listen {}", listen.address);
        for certificate in &listen.tls {
            if let Certificate::Files { cert, key } = certificate {
                let (subject, hosts) = (subject.clone(), hosts(config));
                let (cert, key) = (cert.clone(), key.clone());
                probes.push(Box::pin(async move {
                    let target = cert.display().to_string();
                    let found = blocking(move || certificate::read(&cert, &key, &hosts)).await;
                    Probe::new(&subject, target, found)
                }));
            }
        }
    }
    for origin in &config.origins {
        let subject = format!("origin {}", origin.name);
        match &origin.kind {
            OriginKind::Http(http) => {
                for server in &http.servers {
                    let subject = subject.clone();
                    probes.push(Box::pin(async move { origin::connect(&subject, http, server).await }));
                }
            }
            OriginKind::Library(library) => {
                for folder in &library.folders {
                    let (subject, folder) = (subject.clone(), folder.clone());
                    probes.push(Box::pin(async move {
                        let target = folder.display().to_string();
                        Probe::new(&subject, target, blocking(move || read_folder(&folder)).await)
                    }));
                }
                if let Some(index) = library.index.clone() {
                    let target = index.display().to_string();
                    probes.push(Box::pin(async move {
                        let found = blocking(move || writable_folder(&index)).await;
                        Probe::new(
                            &subject,
                            target,
                            found.map(|()| (Outcome::Good, "the index can be kept".to_owned())),
                        )
                    }));
                }
            }
        }
    }
    if let Some(file) = config.log.access.file.clone().filter(|_| config.log.access.enabled) {
        let target = file.display().to_string();
        probes.push(Box::pin(async move {
            let found = blocking(move || writable_file(&file)).await;
            Probe::new("log.access", target, found.map(|()| (Outcome::Good, "can be written".to_owned())))
        }));
    }
    if let Some(remote) = config.transcode.as_ref().and_then(|transcode| transcode.remote.as_ref()) {
        probes.push(Box::pin(transcoder::identity(&remote.tls)));
        for address in &remote.addresses {
            probes.push(Box::pin(transcoder::ask(remote, address)));
        }
    }
    for disk in &config.cache.disks {
        probes.push(Box::pin(async move {
            let (path, size) = (disk.path.clone(), disk.size_bytes);
            let found = blocking(move || measure_disk(&path, size)).await;
            Probe::new("cache.disk", disk.path.display().to_string(), found)
        }));
    }
    probes.truncate(PROBES_MAX);
    let (mut found, encoders) = runtime.block_on(async { tokio::join!(join_all(probes), encoders::found(config)) });
    found.extend(encoders);
    // A hanging file system must not keep the process.
    runtime.shutdown_background();
    Ok(found)
}

fn hosts(config: &Config) -> Vec<String> {
    config.sites.iter().flat_map(|site| site.hosts.clone()).collect()
}

/// Runs what may block on a file system, bounded.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match tokio::time::timeout(PROBE_TIMEOUT, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => Err("the check itself failed".to_owned()),
        Err(_) => Err(format!("no answer within {} s", PROBE_TIMEOUT.as_secs())),
    }
}

fn read_folder(folder: &Path) -> Result<(Outcome, String), String> {
    let mut entries = std::fs::read_dir(folder).map_err(|error| format!("cannot be read: {error}"))?;
    match entries.next() {
        None => Ok((Outcome::Warning, "readable, but empty".to_owned())),
        Some(_) => Ok((Outcome::Good, "readable".to_owned())),
    }
}

/// Whether the disk of `path` (or of its nearest existing parent) has room for `size` bytes.
fn measure_disk(path: &Path, size: u64) -> Result<(Outcome, String), String> {
    use crate::config::ByteSize;
    writable_folder(path)?;
    let present = nearest(path);
    let disk = rustix::fs::statvfs(present).map_err(|error| format!("cannot be measured: {error}"))?;
    let in_use = if present == path { folder_bytes(path) } else { 0 };
    // What the cache already holds there counts as free: it will be used again.
    let free = disk.f_bavail.saturating_mul(disk.f_frsize).saturating_add(in_use);
    // Whole GiB, where there are many.
    let rounded = |bytes: u64| match bytes >> 30 {
        0..10 => ByteSize::mib(bytes >> 20),
        gib => ByteSize::mib(gib << 10),
    };
    if free < size {
        let advice = "a smaller `size` leaves room for others";
        return Ok((Outcome::Warning, format!("{} wanted, {} free; {advice}", rounded(size), rounded(free))));
    }
    Ok((Outcome::Good, format!("{} free", rounded(free))))
}

/// What there is of a path.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

/// Whether whoever runs this could keep files in a folder, or make it.
fn writable_folder(path: &Path) -> Result<(), String> {
    let present = nearest(path);
    if !present.is_dir() {
        return Err(format!("{} is a file; give a folder", present.display()));
    }
    may_write(present)
}

/// Whether whoever runs this could append to a file, or make it.
fn writable_file(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        return Err("this is a folder; give a file".to_owned());
    }
    if path.exists() {
        return may_write(path);
    }
    match path.parent() {
        Some(folder) if !folder.is_dir() => Err(format!("there is no folder {}; make it", folder.display())),
        folder => may_write(folder.unwrap_or(Path::new("/"))),
    }
}

fn may_write(path: &Path) -> Result<(), String> {
    let wanted = if path.is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
    rustix::fs::access(path, wanted).map_err(|error| {
        format!("{} cannot be written ({error}); give it to the user that runs reelgate", path.display())
    })
}

/// Bytes of the files directly in a folder, as far as they can be seen.
fn folder_bytes(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().take(100_000);
    entries.filter_map(|entry| entry.metadata().ok()).filter(|meta| meta.is_file()).map(|meta| meta.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_too_small_is_a_warning_and_a_missing_folder_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("not/yet");
        assert_eq!(measure_disk(&absent, u64::MAX).unwrap().0, Outcome::Warning);
        assert_eq!(measure_disk(&absent, 1).unwrap().0, Outcome::Good);
        assert!(read_folder(&absent).is_err());
        assert_eq!(read_folder(folder.path()).unwrap().0, Outcome::Warning);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(measure_disk(&file, 1).is_err_and(|reason| reason.contains("is a file")));
        assert!(writable_folder(&file.join("below")).is_err());
        assert!(writable_folder(&absent).is_ok());
    }

    #[test]
    fn a_log_needs_a_folder_and_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(writable_file(&folder.path().join("access.log")), Ok(()));
        assert!(writable_file(folder.path()).is_err_and(|reason| reason.contains("give a file")));
        assert!(writable_file(&folder.path().join("no/access.log")).is_err_and(|reason| reason.contains("make it")));
    }
}
