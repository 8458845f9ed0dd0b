//! Which part of a query tells objects apart (`sites[].cache.key`). The origin is asked with the whole query all the same.

use std::borrow::Cow;

/// What of the query is part of the key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Query {
    /// All of it, as sent.
    #[default]
    All,
    /// All of it, parameters in order of their bytes: `?b=1&a=2` is `?a=2&b=1`.
    Sorted,
    None,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRules {
    pub query: Query,
    /// Parameter names left out, as in the query; one that ends in `*` stands for all that begin so.
    pub ignore: Vec<String>,
}

impl KeyRules {
    /// The path and query an object is kept under.
    pub fn apply<'a>(&self, path_and_query: &'a str) -> Cow<'a, str> {
        if self.query == Query::All && self.ignore.is_empty() {
            return Cow::Borrowed(path_and_query);
        }
        let Some((path, query)) = path_and_query.split_once('?') else { return Cow::Borrowed(path_and_query) };
        if self.query == Query::None {
            return Cow::Borrowed(path);
        }
        let mut kept: Vec<&str> = query.split('&').filter(|parameter| !self.ignores(parameter)).collect();
        if self.query == Query::Sorted {
            kept.sort_unstable();
        }
        if kept.is_empty() {
            return Cow::Borrowed(path);
        }
        Cow::Owned(format!("{path}?{}", kept.join("&")))
    }

    fn ignores(&self, parameter: &str) -> bool {
        let name = parameter.split('=').next().unwrap_or_default();
        self.ignore.iter().any(|ignored| match ignored.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == ignored,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(query: Query, ignore: &[&str], target: &str) -> String {
        KeyRules { query, ignore: ignore.iter().map(|&name| name.to_owned()).collect() }.apply(target).into_owned()
    }

    #[test]
    fn each_rule() {
        assert_eq!(apply(Query::All, &[], "/a?b=1&a=2"), "/a?b=1&a=2");
        assert_eq!(apply(Query::Sorted, &[], "/a?b=1&a=2&a=1"), "/a?a=1&a=2&b=1");
        assert_eq!(apply(Query::None, &[], "/a?b=1"), "/a");
        assert_eq!(apply(Query::All, &["utm_*", "t"], "/a?utm_source=x&q=1&t&tt=2"), "/a?q=1&tt=2");
        assert_eq!(apply(Query::Sorted, &["t"], "/a?t=1"), "/a");
        assert_eq!(apply(Query::Sorted, &[], "/a"), "/a");
    }

    proptest! {
        #[test]
        fn the_order_of_parameters_does_not_matter_when_sorted(
            mut parameters in proptest::collection::vec("[a-c]{1,2}=[0-9]", 1..6),
        ) {
            let one = apply(Query::Sorted, &[], &format!("/a?{}", parameters.join("&")));
            parameters.reverse();
            prop_assert_eq!(one, apply(Query::Sorted, &[], &format!("/a?{}", parameters.join("&"))));
        }
    }
}
