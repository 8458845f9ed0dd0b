//! May this stored answer be given to this request (RFC 9111 §4, §4.2.4, §5.2.1, RFC 5861, RFC 8246)?
//!
//! Works on what was parsed when the answer was stored, never on its header fields. Which variant it is, and whether a condition
//! of the request holds, are decided elsewhere.

use super::cache_control::RequestCacheControl;
use super::fields::{HeaderView, list};
use super::freshness::Storable;
use std::time::{Duration, SystemTime};

/// A stored answer at the moment of the request.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    pub kept: &'a Storable,
    /// Its current age (§4.2.3).
    pub age: Duration,
    pub fresh_until: SystemTime,
}

/// What becomes of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    Fresh,
    /// Stale, and the request takes it so (`max-stale`).
    Stale,
    /// Stale, given at once, and refreshed behind the client's back (RFC 5861 §3).
    StaleWhileRevalidate,
    /// The origin is asked: it is stale, or may never be given unasked (`no-cache`).
    Validate,
    /// The origin is asked because the request's directives say so.
    ValidateOnRequest,
}

/// What the request's own fields ask of the cache. `Pragma: no-cache` counts where there is no Cache-Control (§5.4).
pub fn request_directives<H: HeaderView>(headers: &H) -> RequestCacheControl {
    if headers.has("cache-control") {
        return RequestCacheControl::parse(headers.all("cache-control"));
    }
    let no_cache = list(headers.all("pragma")).any(|member| member.eq_ignore_ascii_case(b"no-cache"));
    RequestCacheControl { no_cache, ..RequestCacheControl::default() }
}

/// See [`Reuse`].
pub fn decide(stored: &Stored<'_>, asked: &RequestCacheControl, now: SystemTime) -> Reuse {
    let kept = stored.kept;
    if kept.validate_always {
        return Reuse::Validate;
    }
    if asked.no_cache {
        return Reuse::ValidateOnRequest;
    }
    let seconds = Duration::from_secs;
    match stored.fresh_until.duration_since(now) {
        Ok(left) => {
            // RFC 8246 §2: what never changes is not asked for again just because a client reloads.
            let too_old = asked.max_age_s.is_some_and(|max| stored.age > seconds(max)) && !kept.immutable;
            let too_near = asked.min_fresh_s.is_some_and(|min| left < seconds(min));
            if too_old || too_near { Reuse::ValidateOnRequest } else { Reuse::Fresh }
        }
        Err(behind) => {
            let staleness = behind.duration();
            let too_old = asked.max_age_s.is_some_and(|max| stored.age > seconds(max));
            if kept.no_stale || asked.min_fresh_s.is_some() {
                Reuse::Validate
            } else if asked.max_stale_s.is_some_and(|max| staleness <= seconds(max)) && !too_old {
                Reuse::Stale
            } else if staleness <= kept.stale_while_revalidate && asked.max_age_s.is_none() {
                Reuse::StaleWhileRevalidate
            } else {
                Reuse::Validate
            }
        }
    }
}

/// How the origin failed to validate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No answer: refused, reset, silent, garbage, or no server left to ask.
    Unreachable,
    /// 500, 502, 503 or 504 (RFC 5861 §4).
    ServerError,
}

/// Whether a stale answer may stand in for one that could not be had. What the answer, else the request, says of
/// `stale-if-error` counts for both troubles; where neither says anything, an answer from a time when the origin could be
/// reached is better than none (§4.2.4) for `unreachable_max`.
pub fn may_stand_in(
    stored: &Stored<'_>,
    asked: &RequestCacheControl,
    trouble: Trouble,
    unreachable_max: Duration,
    now: SystemTime,
) -> bool {
    if stored.kept.no_stale || asked.no_cache {
        return false;
    }
    let default = if trouble == Trouble::Unreachable { unreachable_max } else { Duration::ZERO };
    let named = stored.kept.stale_if_error.or(asked.stale_if_error_s.map(Duration::from_secs));
    let window = named.unwrap_or(default);
    let staleness = now.duration_since(stored.fresh_until).unwrap_or_default();
    !window.is_zero() && staleness <= window
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW_S: u64 = 1_000_000;

    fn time(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn asked(value: &str) -> RequestCacheControl {
        RequestCacheControl::parse([value.as_bytes()].into_iter())
    }

    /// An answer stored for 60 s, `age` seconds ago.
    fn reuse(kept: &Storable, age: u64, value: &str) -> Reuse {
        let stored = Stored { kept, age: Duration::from_secs(age), fresh_until: time(NOW_S + 60 - age) };
        decide(&stored, &asked(value), time(NOW_S))
    }

    #[test]
    fn rfc9111_5_2_1_each_directive_of_a_request() {
        let plain = Storable::default();
        for (age, directives, expected) in [
            (10, "", Reuse::Fresh),
            (60, "", Reuse::Fresh),
            (61, "", Reuse::Validate),
            (10, "no-cache", Reuse::ValidateOnRequest),
            (10, "max-age=10", Reuse::Fresh),
            (10, "max-age=9", Reuse::ValidateOnRequest),
            (1, "max-age=0", Reuse::ValidateOnRequest),
            (10, "min-fresh=50", Reuse::Fresh),
            (10, "min-fresh=51", Reuse::ValidateOnRequest),
            (70, "min-fresh=1, max-stale", Reuse::Validate),
            (70, "max-stale", Reuse::Stale),
            (70, "max-stale=10", Reuse::Stale),
            (70, "max-stale=9", Reuse::Validate),
            (70, "max-stale=100, max-age=65", Reuse::Validate),
            (70, "max-stale=100, max-age=75", Reuse::Stale),
            (10, "max-age=nonsense", Reuse::ValidateOnRequest),
        ] {
            assert_eq!(reuse(&plain, age, directives), expected, "age {age}: {directives}");
        }
    }

    #[test]
    fn rfc9111_5_4_pragma_counts_only_without_cache_control() {
        let headers = |fields: &[(&'static str, &'static str)]| {
            fields.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect::<http::HeaderMap>()
        };
        assert!(request_directives(&headers(&[("pragma", "No-Cache")])).no_cache);
        assert!(!request_directives(&headers(&[("pragma", "no-cache"), ("cache-control", "max-age=9")])).no_cache);
        assert!(!request_directives(&headers(&[("pragma", "x")])).no_cache);
    }

    #[test]
    fn rfc9111_5_2_2_2_what_must_be_validated_is_never_stale() {
        let strict = Storable {
            no_stale: true,
            stale_while_revalidate: Duration::from_secs(99),
            stale_if_error: Some(Duration::from_secs(99)),
            ..Storable::default()
        };
        assert_eq!(reuse(&strict, 70, "max-stale"), Reuse::Validate);
        assert_eq!(reuse(&strict, 10, ""), Reuse::Fresh);
        let stored = Stored { kept: &strict, age: Duration::ZERO, fresh_until: time(NOW_S - 1) };
        let day = Duration::from_secs(86_400);
        assert!(!may_stand_in(&stored, &asked(""), Trouble::Unreachable, day, time(NOW_S)));
    }

    #[test]
    fn rfc9111_5_2_2_4_no_cache_is_validated_also_when_fresh() {
        let kept = Storable { validate_always: true, ..Storable::default() };
        assert_eq!(reuse(&kept, 1, "max-stale"), Reuse::Validate);
    }

    #[test]
    fn rfc8246_2_a_reload_does_not_ask_for_what_never_changes() {
        let kept = Storable { immutable: true, ..Storable::default() };
        assert_eq!(reuse(&kept, 10, "max-age=0"), Reuse::Fresh);
        assert_eq!(reuse(&kept, 10, "no-cache"), Reuse::ValidateOnRequest);
        assert_eq!(reuse(&kept, 70, "max-age=0"), Reuse::Validate);
    }

    #[test]
    fn rfc5861_3_stale_while_revalidate_ends() {
        let kept = Storable { stale_while_revalidate: Duration::from_secs(30), ..Storable::default() };
        assert_eq!(reuse(&kept, 90, ""), Reuse::StaleWhileRevalidate);
        assert_eq!(reuse(&kept, 91, ""), Reuse::Validate);
        assert_eq!(reuse(&kept, 70, "max-age=65"), Reuse::Validate);
    }

    #[test]
    fn rfc5861_4_and_9111_4_2_4_standing_in_for_the_origin() {
        let window = |seconds| Storable { stale_if_error: seconds, ..Storable::default() };
        let (none, ten) = (window(None), window(Some(Duration::from_secs(10))));
        let check = |kept: &Storable, staleness: u64, trouble, value: &str| {
            let stored = Stored { kept, age: Duration::ZERO, fresh_until: time(NOW_S - staleness) };
            may_stand_in(&stored, &asked(value), trouble, Duration::from_secs(100), time(NOW_S))
        };
        assert!(check(&ten, 10, Trouble::ServerError, ""));
        assert!(check(&ten, 10, Trouble::Unreachable, ""));
        assert!(!check(&ten, 11, Trouble::Unreachable, ""), "the answer's own word counts");
        assert!(check(&none, 100, Trouble::Unreachable, ""));
        assert!(!check(&none, 101, Trouble::Unreachable, ""));
        assert!(!check(&none, 1, Trouble::ServerError, ""));
        assert!(check(&none, 1, Trouble::ServerError, "stale-if-error=5"));
        assert!(!check(&none, 1, Trouble::Unreachable, "no-cache"));
    }

    proptest! {
        #[test]
        fn nothing_stale_is_ever_given_unasked(age in 0u64..200, no_stale: bool, swr in 0u64..100) {
            let kept = Storable { no_stale, stale_while_revalidate: Duration::from_secs(swr), ..Storable::default() };
            let given = reuse(&kept, age, "");
            prop_assert_eq!(given == Reuse::Fresh, age <= 60);
            prop_assert!(given != Reuse::StaleWhileRevalidate || (!no_stale && age - 60 <= swr));
        }
    }
}
