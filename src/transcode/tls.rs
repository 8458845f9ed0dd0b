//! How an edge and a transcoder on another host know each other: each has a certificate from an authority that the other was given.
//!
//! Invariants: TLS 1.3 alone; nobody speaks without a certificate; no session is resumed, so that one that has expired ends with its
//! connection; no message holds what is in a file.

use crate::config::TlsFiles;
use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const HTTP1: &[u8] = b"http/1.1";
/// Between looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// A side's configuration, made anew when one of its files changes; files that do not fit leave the one before in force.
#[derive(Debug)]
pub struct Renewed<T> {
    files: TlsFiles,
    make: fn(&TlsFiles) -> Result<T, String>,
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    current: Result<Arc<T>, String>,
    changed: Changed,
    looked: Instant,
}

/// When each file was changed last, and how long it is.
type Changed = [Option<(SystemTime, u64)>; 3];

impl<T> Renewed<T> {
    pub fn new(files: TlsFiles, make: fn(&TlsFiles) -> Result<T, String>) -> Self {
        // Looked at first: what changes while they are read is seen next time.
        let changed = changed(&files);
        let current = make(&files).map(Arc::new);
        Self { files, make, state: Mutex::new(State { current, changed, looked: Instant::now() }) }
    }

    /// What is in force, or why nothing ever was.
    pub fn now(&self) -> Result<Arc<T>, String> {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= LOOK_INTERVAL {
            state.looked = Instant::now();
            let now = changed(&self.files);
            if now != state.changed {
                state.changed = now;
                match (self.make)(&self.files) {
                    Ok(made) => {
                        tracing::info!("transcoder: certificates read again");
                        state.current = Ok(Arc::new(made));
                    }
                    Err(error) if state.current.is_ok() => {
                        tracing::error!(error, "transcoder: certificates cannot be used; those before stay in force");
                    }
                    Err(error) => state.current = Err(error),
                }
            }
        }
        state.current.clone()
    }
}

fn changed(files: &TlsFiles) -> Changed {
    [&files.ca, &files.cert, &files.key].map(|file| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

/// The edge's side.
pub fn client(files: &TlsFiles) -> Result<ClientConfig, String> {
    let (chain, key) = identity(files)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(authorities(&files.ca)?)
        .with_client_auth_cert(chain, key)
        .map_err(|error| unfit(files, &error))?;
    config.alpn_protocols = vec![HTTP1.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The transcoder's side.
pub fn server(files: &TlsFiles) -> Result<ServerConfig, String> {
    let (chain, key) = identity(files)?;
    let provider = Arc::new(default_provider());
    let authorities = Arc::new(authorities(&files.ca)?);
    // It lets nobody in without one.
    let verifier = WebPkiClientVerifier::builder_with_provider(authorities, Arc::clone(&provider))
        .build()
        .map_err(|error| format!("{}: {error}", files.ca.display()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| unfit(files, &error))?;
    config.alpn_protocols = vec![HTTP1.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn identity(files: &TlsFiles) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unreadable(&files.key, &error))?;
    Ok((chain, key))
}

fn authorities(file: &Path) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(store)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read.map_err(|error| unreadable(file, &error))? {
        none if none.is_empty() => Err(format!("{} holds no certificate (PEM)", file.display())),
        chain => Ok(chain),
    }
}

fn unreadable(file: &Path, error: &rustls_pki_types::pem::Error) -> String {
    format!("{} cannot be read: {error}", file.display())
}

fn unfit(files: &TlsFiles, error: &rustls::Error) -> String {
    format!("{} and {} cannot be used together: {error}", files.cert.display(), files.key.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn files(folder: &Path) -> TlsFiles {
        let at = |name: &str| folder.join(name);
        TlsFiles { ca: at("ca.pem"), cert: at("cert.pem"), key: at("key.pem") }
    }

    fn write(files: &TlsFiles) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["gpu.test".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        std::fs::write(&files.ca, &certificate).unwrap();
        std::fs::write(&files.cert, &certificate).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
    }

    #[test]
    fn what_is_missing_or_does_not_fit_is_named_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        assert!(client(&files).unwrap_err().contains("cert.pem cannot be read"));
        write(&files);
        assert!(client(&files).is_ok() && server(&files).is_ok());
        let secret = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        std::fs::write(&files.key, secret).unwrap();
        for error in [client(&files).unwrap_err(), server(&files).unwrap_err()] {
            assert!(error.contains("key.pem") && !error.contains("c2VjcmV0"), "{error}");
        }
        std::fs::write(&files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert!(server(&files).unwrap_err().contains("cannot be used together"));
        std::fs::write(&files.ca, "no certificate").unwrap();
        assert!(server(&files).is_err());
    }

    #[test]
    fn changed_files_are_taken_over_and_broken_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let renewed = Renewed::new(files.clone(), server);
        let look = || {
            renewed.state.lock().looked -= LOOK_INTERVAL;
            renewed.now()
        };
        assert!(look().unwrap_err().contains("cert.pem"));
        write(&files);
        let first = look().unwrap();
        assert!(Arc::ptr_eq(&first, &look().unwrap()));
        std::fs::write(&files.key, "broken").unwrap();
        assert!(Arc::ptr_eq(&first, &look().unwrap()));
        write(&files);
        assert!(!Arc::ptr_eq(&first, &look().unwrap()));
    }
}
