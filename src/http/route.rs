//! Host and path → site: exact host, then `*.` wildcard, then none given; longest path prefix.
//!
//! Within a level the longest path prefix wins. Where no prefix of a level matches, the next level is asked: a site for one
//! host and `/films` does not take that host's other paths away from a wider site. Knows no site, only positions.

use super::key::{HostError, normalise_host};
use std::collections::HashMap;

/// Finds the site of a request. Built once per configuration.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    /// By normalised host.
    exact: HashMap<String, Prefixes>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Prefixes>,
    any: Prefixes,
}

/// Path prefixes of one host, longest first, with the position of their entry.
type Prefixes = Vec<(String, usize)>;

/// Two entries claim the same host and path prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConflict {
    /// Position of the entry that came first.
    pub first: usize,
    /// Position of the entry that repeats it.
    pub second: usize,
    /// None: both take any host.
    pub host: Option<String>,
    pub path: String,
}

impl std::fmt::Display for RouteConflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = self.host.as_deref().unwrap_or("any host");
        write!(f, "{host} with path `{}` is taken twice; give one of the sites another host or path", self.path)
    }
}

impl std::error::Error for RouteConflict {}

impl RouteTable {
    /// Takes each entry's hosts (none: any) and path prefixes (none: any path, the same as `/`); an entry is known by its
    /// position. Hosts are normalised here; check them with [`host_pattern`] first, for a host that is none never matches.
    pub fn new(entries: impl IntoIterator<Item = (Vec<String>, Vec<String>)>) -> Result<Self, RouteConflict> {
        let mut table = Self::default();
        for (index, (hosts, paths)) in entries.into_iter().enumerate() {
            let paths = if paths.is_empty() { vec!["/".to_owned()] } else { paths };
            let hosts: Vec<Option<String>> =
                if hosts.is_empty() { vec![None] } else { hosts.into_iter().map(Some).collect() };
            for host in hosts {
                let host = host.map(|host| host_pattern(&host).unwrap_or(host));
                let prefixes = table.level(host.as_deref());
                for path in &paths {
                    match prefixes.iter().find(|(known, _)| known == path) {
                        Some(&(_, first)) if first != index => {
                            return Err(RouteConflict { first, second: index, host, path: path.clone() });
                        }
                        Some(_) => {}
                        None => prefixes.push((path.clone(), index)),
                    }
                }
                prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
            }
        }
        Ok(table)
    }

    fn level(&mut self, host: Option<&str>) -> &mut Prefixes {
        match host {
            None => &mut self.any,
            Some(host) => match host.strip_prefix("*.") {
                Some(suffix) => self.wildcard.entry(suffix.to_owned()).or_default(),
                None => self.exact.entry(host.to_owned()).or_default(),
            },
        }
    }

    /// The position of the entry for a request: `host` as received (port and all), `path` normalised and without query.
    /// None is answered with 421.
    pub fn find(&self, host: Option<&str>, path: &str) -> Option<usize> {
        let host = host.and_then(|host| normalise_host(host).ok());
        let Some(host) = host.as_deref() else { return longest(&self.any, path) };
        let exact = self.exact.get(host).and_then(|prefixes| longest(prefixes, path));
        exact.or_else(|| self.find_wildcard(host, path)).or_else(|| longest(&self.any, path))
    }

    /// Drops one label after the other, so the longest suffix is asked first. A host has at most 127 labels.
    fn find_wildcard(&self, host: &str, path: &str) -> Option<usize> {
        if self.wildcard.is_empty() {
            return None;
        }
        std::iter::successors(host.split_once('.'), |(_, rest)| rest.split_once('.'))
            .find_map(|(_, suffix)| longest(self.wildcard.get(suffix)?, path))
    }
}

fn longest(prefixes: &Prefixes, path: &str) -> Option<usize> {
    prefixes.iter().find(|(prefix, _)| covers(prefix, path)).map(|&(_, index)| index)
}

/// Whether `path` is `prefix` or lies below it: `/a` covers `/a` and `/a/b`, never `/ab`; `/a/` covers `/a/b`, not `/a`.
fn covers(prefix: &str, path: &str) -> bool {
    if prefix == "/" {
        return true; // also `*` of `OPTIONS *`
    }
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

/// A host as a site may name it: a host without port, or `*.` and a name. Normalised, or an error that says what is wrong.
pub fn host_pattern(pattern: &str) -> Result<String, HostError> {
    match pattern.strip_prefix("*.") {
        Some(suffix) if suffix.starts_with('[') => Err(HostError),
        Some(suffix) => Ok(format!("*.{}", normalise_host(suffix)?)),
        None => normalise_host(pattern).map(std::borrow::Cow::into_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(entries: &[(&[&str], &[&str])]) -> Result<RouteTable, RouteConflict> {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        RouteTable::new(entries.iter().map(|(hosts, paths)| (owned(hosts), owned(paths))))
    }

    #[test]
    fn exact_host_then_longest_wildcard_then_none() {
        let table = table(&[
            (&[], &[]),
            (&["*.example.org"], &[]),
            (&["*.eu.example.org"], &[]),
            (&["tv.example.org", "[::1]"], &[]),
        ])
        .unwrap();
        for (host, site) in [
            (None, 0),
            (Some("example.org"), 0),
            (Some("other.net"), 0),
            (Some("a.example.org"), 1),
            (Some("a.b.example.org"), 1),
            (Some("a.eu.example.org"), 2),
            (Some("TV.Example.org.:8443"), 3),
            (Some("[0:0::1]:8080"), 3),
            (Some("not a host"), 0),
        ] {
            assert_eq!(table.find(host, "/x"), Some(site), "{host:?}");
        }
    }

    #[test]
    fn longest_path_prefix_on_segment_boundaries() {
        let table = table(&[(&["h"], &["/a"]), (&["h"], &["/a/b", "/c/"])]).unwrap();
        for (path, site) in [
            ("/a", Some(0)),
            ("/a/x", Some(0)),
            ("/ab", None),
            ("/a/b", Some(1)),
            ("/a/b/c", Some(1)),
            ("/a/bc", Some(0)),
            ("/c", None),
            ("/c/", Some(1)),
            ("/c/d", Some(1)),
            ("/A", None),
            ("*", None),
        ] {
            assert_eq!(table.find(Some("h"), path), site, "{path}");
        }
    }

    #[test]
    fn a_level_without_a_matching_path_falls_through() {
        let table = table(&[(&["tv.a.org"], &["/films"]), (&["*.a.org"], &["/music"]), (&[], &[])]).unwrap();
        assert_eq!(table.find(Some("tv.a.org"), "/films/1"), Some(0));
        assert_eq!(table.find(Some("tv.a.org"), "/music/1"), Some(1));
        assert_eq!(table.find(Some("tv.a.org"), "/"), Some(2));
        assert_eq!(table.find(Some("tv.a.org"), "*"), Some(2));
    }

    #[test]
    fn the_same_host_and_path_twice_is_a_conflict_however_written() {
        let conflict = table(&[(&["A.org"], &[]), (&["b.org", "a.org."], &["/"])]).unwrap_err();
        assert_eq!(conflict, RouteConflict { first: 0, second: 1, host: Some("a.org".into()), path: "/".into() });
        assert!(conflict.to_string().contains("a.org"));
        assert!(table(&[(&[], &[]), (&[], &[])]).is_err());
        assert!(table(&[(&["a.org", "A.org"], &["/x", "/x"])]).is_ok());
    }

    #[test]
    fn host_patterns_are_checked() {
        assert_eq!(host_pattern("*.Example.org").unwrap(), "*.example.org");
        for bad in ["*", "*.", "a*.org", "*.*.org", "*.[::1]", "a b", "http://a.org", ""] {
            assert!(host_pattern(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn finding_never_panics_and_case_and_port_never_matter(host in "[a-z.\\[\\]:0-9]{0,20}", path in "\\PC{0,12}") {
            let table = table(&[(&["*.a", "a.a"], &["/a"]), (&[], &["/a", "/b/"])]).unwrap();
            let found = table.find(Some(&host), &path);
            prop_assert_eq!(found, table.find(Some(&host.to_uppercase()), &path));
            if !host.contains([':', '[']) {
                prop_assert_eq!(found, table.find(Some(&format!("{host}:80")), &path));
            }
        }
    }
}
