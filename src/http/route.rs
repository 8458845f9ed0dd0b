//! Host and path → site: exact host, then `*.` wildcard, then none given; longest path prefix.

/// Finds the site of a request. Built once per configuration.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {}

/// Two entries claim the same host and path prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConflict {}

impl std::fmt::Display for RouteConflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the same host and path is taken twice")
    }
}

impl RouteTable {
    /// Takes each entry's hosts (none: any) and path prefixes (none: any path).
    pub fn new(entries: impl IntoIterator<Item = (Vec<String>, Vec<String>)>) -> Result<Self, RouteConflict> {
        entries.into_iter().for_each(drop);
        Ok(Self {})
    }
}
