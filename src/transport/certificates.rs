//! The certificates of a listener: chosen by SNI (RFC 6066, section 3), read from PEM files, read again when they change.
//!
//! Invariants: a set is swapped whole or not at all; what cannot be loaded leaves the set in force. A self-signed certificate is
//! made once and stays the same across reloads. No private key is ever printed.

use super::self_signed;
use crate::config::Certificate;
use crate::observe::Metrics;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A file larger than this is no certificate.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What is wrong with a certificate or its key, in words that name the file and what to do.
#[derive(Debug)]
pub struct CertificateError {
    pub file: PathBuf,
    pub problem: String,
}

impl std::fmt::Display for CertificateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.problem)
    }
}

impl std::error::Error for CertificateError {}

/// A certificate in force, for `check` and the admin API.
#[derive(Debug, Clone)]
pub struct CertificateInfo {
    /// The file, or `self-signed`.
    pub source: String,
    /// DNS names, lower case; `*.` for wildcards.
    pub names: Vec<String>,
    pub not_after: SystemTime,
}

/// See the module. Implements rustls' resolver, also for other transports.
pub struct Certificates {
    sources: Vec<Certificate>,
    self_signed: Option<Arc<CertifiedKey>>,
    current: ArcSwap<Set>,
    /// Of the files as last looked at, whatever came of it.
    seen: Mutex<Vec<Stamp>>,
}

/// When a file changed and how long it is; None: it cannot be looked at.
type Stamp = Option<(SystemTime, u64)>;

/// Names to certificates. Several may hold the same name (RSA and ECDSA): the first whose key suits the client serves.
#[derive(Default)]
struct Set {
    all: Vec<Arc<CertifiedKey>>,
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    infos: Vec<CertificateInfo>,
}

impl Certificates {
    /// Loads every source; the first error is returned. `names` are the host names a self-signed certificate is made for, beside
    /// `localhost`, the loopback addresses and the machine's own name.
    pub fn load(sources: &[Certificate], names: &[String]) -> Result<Self, CertificateError> {
        let self_signed = if sources.contains(&Certificate::SelfSigned) {
            let key = self_signed::generate(names).map_err(|problem| CertificateError {
                file: PathBuf::from("self-signed"),
                problem: format!("cannot be made for {names:?}: {problem}"),
            })?;
            Some(Arc::new(key))
        } else {
            None
        };
        let seen = Mutex::new(stamps(sources));
        let current = ArcSwap::from_pointee(Set::load(sources, self_signed.as_ref())?);
        Ok(Self { sources: sources.to_vec(), self_signed, current, seen })
    }

    /// Reads all files again and swaps the set, or keeps the old one whole and says why.
    pub fn reload(&self, metrics: &Metrics) -> Result<(), CertificateError> {
        let loaded = Set::load(&self.sources, self.self_signed.as_ref());
        let outcome = if loaded.is_ok() { "success" } else { "failure" };
        metrics.certificate_reloads.with_label_values(&[outcome]).inc();
        self.current.store(Arc::new(loaded?));
        self.report(metrics);
        Ok(())
    }

    /// The certificates in force, in the order of the configuration.
    pub fn infos(&self) -> Vec<CertificateInfo> {
        self.current.load().infos.clone()
    }

    /// Looks at the files every `interval` and reloads what changed, until `closing`. Looking beats watching here: certificates
    /// are replaced through symlinks and whole directories, and a pair is not replaced at one instant. A change that cannot be
    /// loaded is tried again each time until it can.
    pub(super) async fn watch(self: Arc<Self>, interval: Duration, metrics: Arc<Metrics>, closing: CancellationToken) {
        self.report(&metrics);
        if self.sources.iter().all(|source| *source == Certificate::SelfSigned) {
            return;
        }
        let mut failed = false;
        while closing.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let now = stamps(&self.sources);
            let changed = std::mem::replace(&mut *self.seen.lock(), now.clone()) != now;
            if !changed && !failed {
                continue;
            }
            let reloaded = self.reload(&metrics);
            failed = reloaded.is_err();
            match reloaded {
                Ok(()) => {
                    let names: Vec<String> = self.infos().into_iter().flat_map(|info| info.names).collect();
                    tracing::info!(names = names.join(", "), "certificates read again");
                }
                Err(error) if changed => {
                    tracing::error!(%error, "certificates not read again; the old ones stay in use")
                }
                Err(_) => {}
            }
        }
    }

    fn report(&self, metrics: &Metrics) {
        for info in &self.current.load().infos {
            let not_after_s = info.not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            metrics.certificate_not_after_timestamp_seconds.with_label_values(&[&info.source]).set(not_after_s);
        }
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let set = self.current.load();
        let candidates = hello.server_name().and_then(|name| set.named(name)).unwrap_or(&set.all);
        let suits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        candidates.iter().find(suits).or_else(|| candidates.first()).cloned()
    }
}

impl Set {
    fn load(sources: &[Certificate], self_signed: Option<&Arc<CertifiedKey>>) -> Result<Self, CertificateError> {
        let mut set = Self::default();
        for source in sources {
            let (file, key) = match (source, self_signed) {
                (Certificate::Files { cert, key }, _) => (cert.clone(), Arc::new(read_pair(cert, key)?)),
                (Certificate::SelfSigned, Some(key)) => (PathBuf::from("self-signed"), Arc::clone(key)),
                (Certificate::SelfSigned, None) => continue,
            };
            let (names, not_after) = describe(&file, &key)?;
            for name in &names {
                set.by_name.entry(name.clone()).or_default().push(Arc::clone(&key));
            }
            if not_after < SystemTime::now() {
                tracing::warn!(certificate = %file.display(), "this certificate has expired; clients will refuse it");
            }
            set.infos.push(CertificateInfo { source: file.display().to_string(), names, not_after });
            set.all.push(key);
        }
        Ok(set)
    }

    /// Exact names before wildcards, which stand for one label (RFC 9525, section 6.3).
    fn named(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.by_name.get(&name).or_else(|| self.by_name.get(&format!("*.{}", name.split_once('.')?.1)))
    }
}

fn stamps(sources: &[Certificate]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| std::fs::metadata(file).and_then(|m| Ok((m.modified()?, m.len()))).ok();
    let files = sources.iter().filter_map(|source| match source {
        Certificate::Files { cert, key } => Some([stamp(cert), stamp(key)]),
        Certificate::SelfSigned => None,
    });
    files.flatten().collect()
}

fn read_pair(cert: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let wrong = |file: &Path, problem: String| CertificateError { file: file.to_owned(), problem };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read_file(cert)?)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(cert, format!("is not valid PEM: {error}")))?;
    if chain.is_empty() {
        return Err(wrong(cert, "holds no certificate; give the PEM file with the full chain".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_slice(&read_file(key)?).map_err(|error| match error {
        PemError::NoItemsFound => wrong(key, "holds no unencrypted private key in PEM".to_owned()),
        error => wrong(key, format!("is not valid PEM: {error}")),
    })?;
    CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => wrong(
            key,
            format!(
                "this private key does not belong to the certificate in {}; its first certificate must be the server's own",
                cert.display()
            ),
        ),
        error @ rustls::Error::InvalidCertificate(_) => wrong(cert, error.to_string()),
        error => wrong(key, format!("this private key cannot be used: {error}")),
    })
}

fn read_file(file: &Path) -> Result<Vec<u8>, CertificateError> {
    let wrong = |problem: String| CertificateError { file: file.to_owned(), problem };
    let length = std::fs::metadata(file).map_err(|error| wrong(format!("cannot be read: {error}")))?.len();
    if length > FILE_BYTES_MAX {
        return Err(wrong(format!("is {length} bytes long; that is no PEM file of a certificate or key")));
    }
    std::fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))
}

/// DNS names and expiry of the first certificate of a chain.
fn describe(file: &Path, key: &CertifiedKey) -> Result<(Vec<String>, SystemTime), CertificateError> {
    let wrong = |problem: String| CertificateError { file: file.to_owned(), problem };
    let der = key.cert.first().ok_or_else(|| wrong("holds no certificate".to_owned()))?;
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| wrong(format!("cannot be parsed: {error}")))?;
    let names = certificate.subject_alternative_name().ok().flatten().map_or_else(Vec::new, |extension| {
        let dns = extension.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        dns.collect()
    });
    let not_after_s = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Ok((names, UNIX_EPOCH + Duration::from_secs(not_after_s)))
}
