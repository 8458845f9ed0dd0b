//! A certificate of our own, for a first run and for home networks. It lives in memory only.

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use time::{Duration, OffsetDateTime};

/// Browsers accept no longer than 398 days.
const DAYS: i64 = 397;

/// Makes one for `localhost`, the loopback addresses, the machine's own name and `names`. An error says which name or step failed.
pub(super) fn generate(names: &[String]) -> Result<CertifiedKey, String> {
    let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    all.extend(host_name());
    all.extend(names.iter().map(|name| name.to_ascii_lowercase()));
    let mut distinct: Vec<String> = Vec::with_capacity(all.len());
    for name in all {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    let mut params = CertificateParams::new(distinct).map_err(|error| error.to_string())?;
    let now = OffsetDateTime::now_utc();
    // A day back, for clocks that are behind.
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(DAYS - 1);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Reelgate self-signed");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
    CertifiedKey::from_der(vec![certificate.der().clone()], private, &rustls::crypto::ring::default_provider())
        .map_err(|error| error.to_string())
}

/// The machine's own name, where it is one a certificate can hold.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_ascii_lowercase();
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    (!name.is_empty() && name.len() <= 253 && name.chars().all(valid)).then_some(name)
}
