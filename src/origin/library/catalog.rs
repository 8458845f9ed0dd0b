//! What a scan found: titles, by id and by name. Immutable but for what becomes known of a film later; a new scan makes a new one.

use super::facts::Known;
use super::search::{Query, folded};
use crate::source::{Folder, Stamp};
use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most titles in one list; a search narrows it, and there are pages.
pub const LIST_TITLES_MAX: usize = 10_000;

/// What a title is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One film file.
    File,
    /// A folder that holds `master.m3u8`.
    Hls,
}

/// One title, as a scan found it.
#[derive(Debug)]
pub struct Title {
    pub id: String,
    /// For people: the file's name without its extension, or the folder's.
    pub name: String,
    pub kind: Kind,
    /// By the head of the file, or its playlist. None: not known.
    pub duration_s: Option<f64>,
    /// Of the film file. None for HLS: its folder is not walked.
    pub bytes: Option<u64>,
    pub folder: Arc<Folder>,
    /// Of the film file or the HLS folder, beneath `folder`.
    pub path: PathBuf,
    /// Of the film file, to know an unchanged one again.
    pub stamp: Option<Stamp>,
    /// What was found out about this version of the film.
    pub known: ArcSwap<Known>,
}

impl Title {
    /// As true as it is known.
    pub fn length_s(&self) -> Option<f64> {
        self.known.load().facts().and_then(|facts| facts.duration_s).or(self.duration_s)
    }

    /// Whether this is `other` as it was found before.
    pub fn is_unchanged(&self, other: &Self) -> bool {
        let told = |title: &Self| (title.kind, title.duration_s, title.bytes, title.stamp);
        self.name == other.name && told(self) == told(other)
    }
}

/// The id of a title: 128 bits of SHA-256 over where it lies, in hexadecimal. It depends on nothing else, so it is the same after
/// a rescan, a restart and another order of folders; and it tells nothing of the path.
pub fn title_id(folder: &Path, relative: &Path) -> String {
    let mut hash = Sha256::new();
    for path in [folder, relative] {
        let bytes = path.as_os_str().as_bytes();
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    }
    hex::encode(&hash.finalize()[..16])
}

/// All titles of one scan; the next one makes another.
#[derive(Debug, Default)]
pub struct Catalog {
    /// By name, as it is searched for.
    titles: Vec<Arc<Title>>,
    /// Names [`folded`], beside `titles`.
    folded: Vec<String>,
    by_id: HashMap<String, Arc<Title>>,
}

/// A page of a list.
#[derive(Debug)]
pub struct Found<'a> {
    /// On all pages.
    pub total: usize,
    pub titles: Vec<&'a Title>,
}

impl Catalog {
    pub fn new(titles: Vec<Arc<Title>>) -> Self {
        let by_id = titles.iter().map(|title| (title.id.clone(), Arc::clone(title))).collect();
        let mut keyed: Vec<_> = titles.into_iter().map(|title| (folded(&title.name), title)).collect();
        keyed.sort_by(|(a, x), (b, y)| (a, &x.name, &x.id).cmp(&(b, &y.name, &y.id)));
        let (folded, titles) = keyed.into_iter().unzip();
        Self { titles, folded, by_id }
    }

    pub fn len(&self) -> usize {
        self.titles.len()
    }

    pub fn get(&self, id: &str) -> Option<&Arc<Title>> {
        self.by_id.get(id)
    }

    /// By name.
    pub fn titles(&self) -> &[Arc<Title>] {
        &self.titles
    }

    /// Titles by name, at most [`LIST_TITLES_MAX`]; with a query, those whose name holds its words (see [`Query`]).
    pub fn search(&self, query: Option<&str>) -> Vec<&Title> {
        self.find(query, |_| true, 0..LIST_TITLES_MAX).titles
    }

    /// The same of titles a filter lets through; `page` is counted in titles found.
    pub fn find(
        &self,
        query: Option<&str>,
        filter: impl Fn(&Title) -> bool,
        page: std::ops::Range<usize>,
    ) -> Found<'_> {
        let query = Query::new(query.unwrap_or_default());
        let found = self.folded.iter().zip(&self.titles).filter(|(name, title)| query.matches(name) && filter(title));
        let mut total = 0;
        let mut titles = Vec::new();
        for (_, title) in found {
            if page.contains(&total) {
                titles.push(title.as_ref());
            }
            total += 1;
        }
        Found { total, titles }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn title(name: &str) -> Arc<Title> {
        let folder = Arc::new(Folder::new(Path::new("/films")));
        let path = PathBuf::from(name);
        let id = title_id(folder.path(), &path);
        Arc::new(Title {
            id,
            name: name.into(),
            kind: Kind::File,
            duration_s: None,
            bytes: None,
            folder,
            path,
            stamp: None,
            known: ArcSwap::default(),
        })
    }

    #[test]
    fn titles_are_sorted_and_found_without_regard_to_case() {
        let catalog = Catalog::new(vec![title("beta"), title("Élan"), title("Alpha"), title("alphabet")]);
        let names = |query| catalog.search(query).iter().map(|title| title.name.as_str()).collect::<Vec<_>>();
        assert_eq!(names(None), ["Alpha", "alphabet", "beta", "Élan"]);
        let page = catalog.find(Some("a"), |title| title.name != "Alpha", 1..2);
        assert_eq!((page.total, page.titles.iter().map(|title| title.name.as_str()).collect()), (3, vec!["beta"]));
        assert_eq!(names(Some("ALPHA")), ["Alpha", "alphabet"]);
        assert_eq!(names(Some("éL")), ["Élan"]);
        assert!(names(Some("gamma")).is_empty());
    }

    #[test]
    fn an_id_depends_on_where_a_title_lies_and_on_nothing_else() {
        let id = |folder, path| title_id(Folder::new(Path::new(folder)).path(), Path::new(path));
        assert_eq!(id("/films", "a/b.mp4"), id("/films/./", "a/b.mp4"));
        assert_ne!(id("/films", "a/b.mp4"), id("/films/a", "b.mp4"));
        assert_ne!(id("/films", "a.mp4"), id("/films2", "a.mp4"));
        let id = id("/films", "a.mp4");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
}
