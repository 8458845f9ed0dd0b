//! How long an answer is fresh that does not say so (RFC 9111 §4.2.2): a tenth of the time since it last changed.
//!
//! An error is fresh for a minute at most: what is not there, or broken, may be mended the next.

use super::date;
use super::fields::HeaderView;
use http::StatusCode;
use std::time::{Duration, SystemTime};

/// Longest heuristic lifetime: beyond a day operators call it wrong, not fast.
pub const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest heuristic lifetime of an error that does not say `public`.
pub const ERROR_LIFETIME_MAX: Duration = Duration::from_secs(60);

/// Statuses that may be stored without being told so (RFC 9110 §15.1); 206 is not stored here.
pub fn is_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// A lifetime from `Last-Modified`, counted from `Date`. `public`: the answer says so, which allows any status (§4.2.2).
pub fn lifetime<H: HeaderView>(status: StatusCode, public: bool, headers: &H, now: SystemTime) -> Option<Duration> {
    if !public && !is_cacheable(status) {
        return None;
    }
    let error = status.is_client_error() || status.is_server_error();
    let longest = if error && !public { ERROR_LIFETIME_MAX } else { LIFETIME_MAX };
    let modified = headers.first("last-modified").and_then(date::parse)?;
    let sent = headers.first("date").and_then(date::parse).unwrap_or(now);
    let unchanged = sent.duration_since(modified).ok()?;
    Some((unchanged / 10).min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn lifetime_s(status: u16, public: bool, modified: &str) -> Option<u64> {
        let headers = HeaderMap::from_iter([
            (http::header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap()),
            (http::header::LAST_MODIFIED, modified.parse().unwrap()),
        ]);
        let status = StatusCode::from_u16(status).unwrap();
        lifetime(status, public, &headers, SystemTime::UNIX_EPOCH).map(|lifetime| lifetime.as_secs())
    }

    #[test]
    fn rfc9111_4_2_2_a_tenth_of_its_age_and_never_more_than_a_day() {
        assert_eq!(lifetime_s(200, false, "Sun, 06 Nov 1994 07:49:37 GMT"), Some(360));
        assert_eq!(lifetime_s(200, false, "Sun, 06 Nov 1983 08:49:37 GMT"), Some(86_400));
        assert_eq!(lifetime_s(200, false, "Mon, 07 Nov 1994 08:49:37 GMT"), None, "modified after it was sent");
        assert_eq!(lifetime_s(200, false, "long ago"), None);
    }

    #[test]
    fn rfc9111_4_2_2_only_where_the_status_or_public_allows_it() {
        let hour_old = "Sun, 06 Nov 1994 07:49:37 GMT";
        for (status, public, expected) in [
            (302, false, None),
            (302, true, Some(360)),
            (599, true, Some(360)),
            (599, false, None),
            (403, false, None),
            (404, false, Some(60)),
            (501, false, Some(60)),
            (503, false, None),
            (404, true, Some(360)),
            (301, false, Some(360)),
        ] {
            assert_eq!(lifetime_s(status, public, hour_old), expected, "{status} {public}");
        }
    }
}
