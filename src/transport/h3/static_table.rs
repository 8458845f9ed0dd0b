//! The static table of QPACK (RFC 9204, Appendix A): a flat table, and a way back from fields to its rows.

use ahash::RandomState;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Name and value of each row, by index.
pub(super) const ROWS: [(&str, &str); 99] = [
    (":authority", ""),
    (":path", "/"),
    ("age", "0"),
    ("content-disposition", ""),
    ("content-length", "0"),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("referer", ""),
    ("set-cookie", ""),
    (":method", "CONNECT"),
    (":method", "DELETE"),
    (":method", "GET"),
    (":method", "HEAD"),
    (":method", "OPTIONS"),
    (":method", "POST"),
    (":method", "PUT"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "103"),
    (":status", "200"),
    (":status", "304"),
    (":status", "404"),
    (":status", "503"),
    ("accept", "*/*"),
    ("accept", "application/dns-message"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-ranges", "bytes"),
    ("access-control-allow-headers", "cache-control"),
    ("access-control-allow-headers", "content-type"),
    ("access-control-allow-origin", "*"),
    ("cache-control", "max-age=0"),
    ("cache-control", "max-age=2592000"),
    ("cache-control", "max-age=604800"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "public, max-age=31536000"),
    ("content-encoding", "br"),
    ("content-encoding", "gzip"),
    ("content-type", "application/dns-message"),
    ("content-type", "application/javascript"),
    ("content-type", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "image/gif"),
    ("content-type", "image/jpeg"),
    ("content-type", "image/png"),
    ("content-type", "text/css"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-type", "text/plain"),
    ("content-type", "text/plain;charset=utf-8"),
    ("range", "bytes=0-"),
    ("strict-transport-security", "max-age=31536000"),
    ("strict-transport-security", "max-age=31536000; includesubdomains"),
    ("strict-transport-security", "max-age=31536000; includesubdomains; preload"),
    ("vary", "accept-encoding"),
    ("vary", "origin"),
    ("x-content-type-options", "nosniff"),
    ("x-xss-protection", "1; mode=block"),
    (":status", "100"),
    (":status", "204"),
    (":status", "206"),
    (":status", "302"),
    (":status", "400"),
    (":status", "403"),
    (":status", "421"),
    (":status", "425"),
    (":status", "500"),
    ("accept-language", ""),
    ("access-control-allow-credentials", "FALSE"),
    ("access-control-allow-credentials", "TRUE"),
    ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "get"),
    ("access-control-allow-methods", "get, post, options"),
    ("access-control-allow-methods", "options"),
    ("access-control-expose-headers", "content-length"),
    ("access-control-request-headers", "content-type"),
    ("access-control-request-method", "get"),
    ("access-control-request-method", "post"),
    ("alt-svc", "clear"),
    ("authorization", ""),
    ("content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'"),
    ("early-data", "1"),
    ("expect-ct", ""),
    ("forwarded", ""),
    ("if-range", ""),
    ("origin", ""),
    ("purpose", "prefetch"),
    ("server", ""),
    ("timing-allow-origin", "*"),
    ("upgrade-insecure-requests", "1"),
    ("user-agent", ""),
    ("x-forwarded-for", ""),
    ("x-frame-options", "deny"),
    ("x-frame-options", "sameorigin"),
];

/// The rows of a name: the first of them, and the values that have a row of their own.
struct Name {
    first: usize,
    rows: Vec<usize>,
}

static NAMES: LazyLock<HashMap<&'static str, Name, RandomState>> = LazyLock::new(|| {
    let mut names: HashMap<&'static str, Name, RandomState> = HashMap::default();
    for (index, (name, _)) in ROWS.iter().enumerate() {
        names.entry(name).or_insert_with(|| Name { first: index, rows: Vec::new() }).rows.push(index);
    }
    names
});

/// What the table knows of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Name and value.
    Field(usize),
    Name(usize),
    Nothing,
}

pub(super) fn find(name: &str, value: &[u8]) -> Found {
    let Some(known) = NAMES.get(name) else { return Found::Nothing };
    match known.rows.iter().find(|row| ROWS[**row].1.as_bytes() == value) {
        Some(row) => Found::Field(*row),
        None => Found::Name(known.first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_where_the_rfc_has_them() {
        for (index, row) in [(0, (":authority", "")), (17, (":method", "GET")), (25, (":status", "200"))] {
            assert_eq!(ROWS[index], row);
        }
        assert_eq!(ROWS[65], (":status", "206"));
        assert_eq!(ROWS[98], ("x-frame-options", "sameorigin"));
    }

    #[test]
    fn fields_are_found_whole_or_by_name() {
        assert_eq!(find("cache-control", b"no-store"), Found::Field(40));
        assert_eq!(find("cache-control", b"max-age=7"), Found::Name(36));
        assert_eq!(find("x-unknown", b""), Found::Nothing);
    }
}
