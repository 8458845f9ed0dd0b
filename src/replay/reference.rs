//! One request as every format gives it: an object, the bytes its client got, and how much that says about the object.

use std::borrow::Cow;

use crate::config::Config;
use crate::http::key;

/// What a line says of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reference {
    /// A hash of the object's name.
    pub(super) key: u64,
    /// Of the body sent to the client.
    pub(super) bytes: u64,
    pub(super) extent: Extent,
}

/// How much of the object a request was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it: the bytes are its size, and a miss fills the cache.
    Whole,
    /// It wanted all of it and did not get it (304, an aborted body): a miss fills, the bytes say nothing of the size.
    Cut,
    /// A range or a HEAD: a hit where the object is held, but a miss fills nothing.
    Part,
}

/// A line that is none of the format: why. What is understood but asks no cache is `Ok(None)`.
pub(super) type Parsed = Result<Option<Reference>, &'static str>;

/// FNV-1a with a finisher: the same on every machine, so that a sample is too. Sampling looks at the high bits, which FNV
/// alone mixes badly for short keys.
pub(super) fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        // A byte that is in no UTF-8 text keeps the parts apart.
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    mix(hash)
}

/// The finisher of SplitMix64: every bit of the input reaches every bit of the output, and no two inputs meet.
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// How the edge's own log names objects: by the rules of a configuration, or as the edge does without any.
#[derive(Debug, Default)]
pub struct KeyRules<'a>(Option<&'a Config>);

impl<'a> KeyRules<'a> {
    /// Site, host, path and query, as where sites list no hosts and have no `cache.key`.
    pub fn plain() -> Self {
        Self(None)
    }

    /// As the sites of a configuration say. Rewrites are not followed: the log has the target as it came.
    pub fn of(config: &'a Config) -> Self {
        Self(Some(config))
    }

    pub(super) fn key(&self, site: &str, host: &str, target: &str) -> u64 {
        let rules = self.0.and_then(|config| config.sites.iter().find(|other| other.name == site));
        let host = if rules.is_none_or(|site| site.host_in_key) { host } else { "" };
        let host = key::normalise_host(host).unwrap_or(Cow::Borrowed(host));
        let target = rules.map_or(Cow::Borrowed(target), |site| site.cache.key.apply(target));
        let target = key::normalise_path_and_query(&target).unwrap_or(Cow::Borrowed(&*target));
        hash(&[site.as_bytes(), host.as_bytes(), target.as_bytes()])
    }
}

/// Whether a status's body is an object of its own (RFC 9110, section 15.1: heuristically cacheable, but for 206).
pub(super) fn is_whole_status(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_do_not_run_together() {
        assert_ne!(hash(&[b"a", b"bc"]), hash(&[b"ab", b"c"]));
        assert_ne!(hash(&[b"a"]), hash(&[b"a", b""]));
    }

    #[test]
    fn hosts_and_escapes_are_normalised_as_the_edge_does() {
        let keys = KeyRules::plain();
        assert_eq!(keys.key("s", "A.test:8080", "/%7Ea"), keys.key("s", "a.test", "/~a"));
        assert_ne!(keys.key("s", "a.test", "/a"), keys.key("s", "b.test", "/a"));
    }

    #[test]
    fn a_configuration_decides_whether_the_host_counts() {
        let text = "listen: [{address: 127.0.0.1:1}]\norigins: {a: {kind: http, servers: [http://127.0.0.1:2]}}\n\
                    sites: [{name: one, origin: a, hosts: [a.test]}]\n";
        let loaded = crate::config::from_str(text, std::path::Path::new("x.yaml"), &|_| None).expect("valid");
        let keys = KeyRules::of(&loaded.config);
        assert_eq!(keys.key("one", "a.test", "/a"), keys.key("one", "b.test", "/a"));
        assert_ne!(keys.key("gone", "a.test", "/a"), keys.key("gone", "b.test", "/a"));
    }
}
