//! How far a library is: for `/readyz`, metrics and people.

use super::State;
use super::catalog::{Catalog, Kind};
use super::facts::Known;
use std::sync::atomic::Ordering;

/// What a library's titles are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub titles: usize,
    /// Film files among them.
    pub films: usize,
    /// Films that were looked into, the broken ones included.
    pub probed: usize,
    pub broken: usize,
}

/// How a library is, for operators.
#[derive(Debug, Clone)]
pub struct Status {
    pub counts: Counts,
    /// A scan is running, and so many titles it has found.
    pub scanning: Option<usize>,
    /// Films are looked into at all: there is a sidecar.
    pub probes: bool,
    /// What is wrong, for people, without paths; empty: nothing.
    pub trouble: String,
}

impl Counts {
    pub fn of(catalog: &Catalog) -> Self {
        let mut counts = Self { titles: catalog.len(), ..Self::default() };
        for title in catalog.titles().iter().filter(|title| title.kind == Kind::File) {
            counts.films += 1;
            match **title.known.load() {
                Known::Nothing => {}
                Known::Film { .. } => counts.probed += 1,
                Known::Broken { .. } => {
                    counts.probed += 1;
                    counts.broken += 1;
                }
            }
        }
        counts
    }
}

impl Status {
    /// One line.
    pub fn detail(&self) -> String {
        let Counts { titles, films, probed, broken } = self.counts;
        let mut detail = format!("{titles} titles");
        if self.probes {
            detail += &format!(", {probed} of {films} films looked into, {broken} broken");
        }
        if let Some(found) = self.scanning {
            detail += &format!("; scanning, {found} found so far");
        }
        if !self.trouble.is_empty() {
            detail += &format!("; {}", self.trouble);
        }
        detail
    }
}

impl State {
    /// Counts the titles, tells the metrics, and keeps the counts for [`State::status`].
    pub(super) fn count(&self) -> Counts {
        let counts = self.catalog.borrow().as_ref().map(|catalog| Counts::of(catalog)).unwrap_or_default();
        let table = [
            (&self.metrics.library_titles, counts.titles),
            (&self.metrics.library_probed, counts.probed),
            (&self.metrics.library_broken, counts.broken),
        ];
        for (gauge, count) in table {
            gauge.with_label_values(&[&self.name]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        *self.counts.lock() = counts;
        counts
    }

    /// As it was counted last. Waits for nothing, not for the index either.
    pub(super) fn status(&self) -> Status {
        let scan = self.trouble.lock().told.clone();
        let index = if self.index.trouble().is_some() { "the index cannot be used (see the log)" } else { "" };
        let trouble = [scan.as_str(), index].into_iter().filter(|trouble| !trouble.is_empty()).collect::<Vec<_>>();
        let trouble = trouble.join("; ");
        Status {
            counts: *self.counts.lock(),
            scanning: self.is_scanning.load(Ordering::Relaxed).then(|| self.found.load(Ordering::Relaxed)),
            probes: self.sidecar.is_some(),
            trouble,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_done_and_what_is_wrong() {
        let counts = Counts { titles: 9, films: 8, probed: 3, broken: 1 };
        let mut status = Status { counts, scanning: Some(4), probes: true, trouble: "cannot read x".into() };
        let told = "9 titles, 3 of 8 films looked into, 1 broken; scanning, 4 found so far; cannot read x";
        assert_eq!(status.detail(), told);
        status = Status { scanning: None, probes: false, trouble: String::new(), ..status };
        assert_eq!(status.detail(), "9 titles");
    }
}
