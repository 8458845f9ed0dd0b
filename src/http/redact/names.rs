//! Which names stand before a secret. Compared without case, `-`, `_` and `.`, so that `X-Plex-Token`, `x_plex_token` and
//! `xplextoken` are one.

/// Names that are secret as a whole.
const EXACT: [&str; 28] = [
    "auth",
    "xauth",
    "oauth",
    "bearer",
    "code",
    "cookie",
    "setcookie",
    "hdnea",
    "hdntl",
    "hdnts",
    "jwt",
    "key",
    "otp",
    "pass",
    "pin",
    "pw",
    "pwd",
    "sas",
    "sig",
    "sign",
    "hmac",
    // Sessions, where they stand in URLs.
    "session",
    "sessionid",
    "phpsessid",
    "jsessionid",
    "connectsid",
    // What signs a URL for nginx (`secure_link`) and for Wowza and Nimble.
    "md5",
    "wmsauthsign",
];

/// Names that are secret wherever this occurs in them: `X-Emby-Token`, `access_token`, `X-Amz-Signature`, `client_secret`.
const WITHIN: [&str; 11] = [
    "token",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "signature",
    "authorization",
    "credential",
    "apikey",
    "accesskey",
    "privatekey",
];

/// Schemes that may stay in a log (IANA's registry, and what media servers add). Anything else before the first space could
/// be the secret itself.
const SCHEMES: [&str; 10] =
    ["AWS4-HMAC-SHA256", "Basic", "Bearer", "Digest", "DPoP", "Emby", "MediaBrowser", "Negotiate", "NTLM", "Token"];

/// Whether what follows this parameter, header or field name must never be written.
pub fn is_secret_name(name: &str) -> bool {
    let folded: String =
        name.chars().filter(|c| !matches!(c, '-' | '_' | '.')).map(|c| c.to_ascii_lowercase()).collect();
    EXACT.contains(&folded.as_str()) || WITHIN.iter().any(|part| folded.contains(part))
}

pub(super) fn is_authorization(name: &str) -> bool {
    ["authorization", "proxy-authorization", "x-emby-authorization"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

pub(super) fn is_scheme(word: &str) -> bool {
    SCHEMES.iter().any(|known| word.eq_ignore_ascii_case(known))
}
