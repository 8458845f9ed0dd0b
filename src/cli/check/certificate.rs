//! A listener's certificate: readable, its key's, not about to expire, and for which names.

use super::online::Outcome;
use rustls::crypto::ring::default_provider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A certificate that ends sooner is a warning: renewal has probably failed.
const DAYS_LEFT_MIN: i64 = 14;

/// Reads certificate and key; `hosts` are those of the sites.
///
/// # Errors
/// Why a listener could not use them.
pub fn read(cert: &Path, key: &Path, hosts: &[String]) -> Result<(Outcome, String), String> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(|chain| chain.collect::<Result<Vec<_>, _>>())
        .map_err(|error| format!("the certificate cannot be read: {error}"))?;
    let first = chain.first().cloned().ok_or("the file holds no certificate (PEM)")?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("the key {} cannot be read: {error}", key.display()))?;
    rustls::sign::CertifiedKey::from_der(chain, key, &default_provider())
        .map_err(|error| format!("certificate and key do not belong together: {error}"))?;
    let (_, parsed) = X509Certificate::from_der(&first).map_err(|_| "the certificate is malformed")?;
    describe(&parsed, hosts, OffsetDateTime::now_utc())
}

fn describe(parsed: &X509Certificate<'_>, hosts: &[String], now: OffsetDateTime) -> Result<(Outcome, String), String> {
    let names = names(parsed);
    let until = parsed.validity().not_after.to_datetime();
    let days = (until - now).whole_days();
    let listed = if names.is_empty() { "no names".to_owned() } else { names.join(", ") };
    if until <= now {
        return Err(format!("expired on {}; for {listed}", until.date()));
    }
    if parsed.validity().not_before.to_datetime() > now {
        return Err(format!("not valid before {}; for {listed}", parsed.validity().not_before.to_datetime().date()));
    }
    if days < DAYS_LEFT_MIN {
        return Ok((Outcome::Warning, format!("expires in {days} day(s); for {listed}")));
    }
    let serves = hosts.is_empty() || names.iter().any(|name| hosts.iter().any(|host| covers(name, host)));
    if !serves {
        return Ok((Outcome::Warning, format!("no site has a host it is for: {listed}")));
    }
    Ok((Outcome::Good, format!("valid for {days} days; for {listed}")))
}

/// The subject alternative names (RFC 5280, 4.2.1.6), lower case.
fn names(parsed: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = parsed.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::IpAddr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| format!("[{}]", std::net::Ipv6Addr::from(bytes))),
            _ => None,
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}

/// Whether a certificate's name is for a site's host; `*` stands for one label (RFC 9525, 6.3).
fn covers(name: &str, host: &str) -> bool {
    name == host
        || name.strip_prefix("*.").is_some_and(|parent| host.split_once('.').is_some_and(|(_, tail)| tail == parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(folder: &Path, days: i64) -> (std::path::PathBuf, std::path::PathBuf) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["films.example.org".to_owned()]).unwrap();
        params.not_after = OffsetDateTime::now_utc() + time::Duration::days(days);
        let cert = params.self_signed(&key).unwrap();
        let paths = (folder.join(format!("{days}.pem")), folder.join(format!("{days}.key")));
        std::fs::write(&paths.0, cert.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }

    #[test]
    fn expiry_names_and_a_key_of_another_certificate_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = pair(folder.path(), 90);
        let (soon, soon_key) = pair(folder.path(), 3);
        let (past, past_key) = pair(folder.path(), -1);
        let hosts = ["films.example.org".to_owned()];
        let (outcome, detail) = read(&cert, &key, &hosts).unwrap();
        assert!(outcome == Outcome::Good && detail.contains("films.example.org"), "{detail}");
        assert_eq!(read(&cert, &key, &["other.example.org".to_owned()]).unwrap().0, Outcome::Warning);
        assert_eq!(read(&soon, &soon_key, &hosts).unwrap().0, Outcome::Warning);
        assert!(read(&past, &past_key, &hosts).unwrap_err().contains("expired"));
        assert!(read(&cert, &soon_key, &hosts).unwrap_err().contains("do not belong together"));
        assert!(read(Path::new("/nowhere.pem"), &key, &hosts).is_err());
    }
}
