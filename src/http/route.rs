//! Host and path → site: exact host, then `*.` wildcard, then none given; longest path prefix.

/// Finds the site of a request. Built once per configuration.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {}
