//! Which folders an edge on another host may name, and where they are on this one. What it says of a film is taken for that one version
//! of the file that is here; from there on, the film is as one named on this host.
//!
//! Invariants: nothing outside these folders is ever opened; no reason names a path. A file here is the version that the edge means if
//! length and time of change are the same, as far as both file systems keep it: over a network an inode's number is another one.
//! What is made then is bound to the whole stamp of the file here, inode and all, so that two versions never mix.

use super::super::protocol::{Ahead, FilmFile, Job, PictureJob, Source, TrialJob};
use crate::source::{Folder, Stamp};
use std::path::{Component, Path, PathBuf};

/// Shares count in 100 ns (SMB), or in whole seconds.
const COARSE_NS: i64 = 100;

/// As given by `--folder`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// As the edge says.
    edge: PathBuf,
    /// On this host.
    local: PathBuf,
}

impl Mapping {
    /// `/films`, or `/films=/mnt/films`: the edge's path, then the one here.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (edge, local) = match text.split_once("=/") {
            Some((edge, local)) => (PathBuf::from(edge), PathBuf::from(format!("/{local}"))),
            None => (PathBuf::from(text), PathBuf::from(text)),
        };
        let good = |path: &Path| path.is_absolute() && is_plain(path);
        match good(&edge) && good(&local) {
            true => Ok(Self { edge: edge.components().collect(), local: local.components().collect() }),
            false => {
                Err("a folder is absolute, without `..`: /films, or /films=/mnt/films (the edge's, then the one here)"
                    .into())
            }
        }
    }

    pub fn local(&self) -> &Path {
        &self.local
    }
}

fn is_plain(path: &Path) -> bool {
    !path.components().any(|part| matches!(part, Component::ParentDir))
}

/// Why a film is not opened here: another sidecar may have it.
#[derive(Debug, PartialEq, Eq)]
pub struct NotHere(pub String);

/// All folders.
#[derive(Debug)]
pub struct Folders(pub Vec<Mapping>);

impl Folders {
    /// The film here that the edge means. Blocking.
    pub fn here(&self, source: &Source) -> Result<Source, NotHere> {
        let (folder, path) = self.place(source).ok_or_else(|| {
            NotHere("the film is in none of the folders that this transcoder was given (--folder)".to_owned())
        })?;
        let opened = Folder::new(&folder).open(&path).and_then(|file| Stamp::of(&file));
        let stamp = opened.map_err(|error| NotHere(format!("the film cannot be opened here: {}", error.kind())))?;
        if !is_same(&stamp, &source.stamp) {
            return Err(NotHere(
                "the film is another version here: its length or its time of change differ".to_owned(),
            ));
        }
        Ok(Source { folder, path, stamp })
    }

    /// The folder here, and what comes after it; the kernel sees to it that this stays beneath.
    fn place(&self, source: &Source) -> Option<(PathBuf, PathBuf)> {
        if !is_plain(&source.folder) {
            return None;
        }
        let all = self.0.iter().filter_map(|mapping| Some((mapping, source.folder.strip_prefix(&mapping.edge).ok()?)));
        let (mapping, rest) = all.max_by_key(|(mapping, _)| mapping.edge.components().count())?;
        Some((mapping.local.clone(), rest.join(&source.path)))
    }
}

/// The inode aside.
fn is_same(here: &Stamp, there: &Stamp) -> bool {
    let parts = [here.modified_ns, there.modified_ns];
    let time = parts.contains(&0) || parts[0] / COARSE_NS == parts[1] / COARSE_NS;
    here.bytes == there.bytes && here.modified_s == there.modified_s && time
}

/// A request about a film. What does not say which film it is about cannot be read from a request.
pub trait AboutFilm {
    fn source(&mut self) -> &mut Source;
}

impl AboutFilm for Source {
    fn source(&mut self) -> &mut Source {
        self
    }
}

impl AboutFilm for TrialJob {
    fn source(&mut self) -> &mut Source {
        &mut self.source
    }
}

impl AboutFilm for Ahead {
    fn source(&mut self) -> &mut Source {
        &mut self.job.source
    }
}

impl AboutFilm for PictureJob {
    fn source(&mut self) -> &mut Source {
        &mut self.source
    }
}

impl AboutFilm for FilmFile {
    fn source(&mut self) -> &mut Source {
        &mut self.source
    }
}

impl AboutFilm for Job {
    fn source(&mut self) -> &mut Source {
        &mut self.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn source(folder: &str, path: &str, file: &Path) -> Source {
        let stamp = Stamp::of(&File::open(file).unwrap()).unwrap();
        Source { folder: folder.into(), path: path.into(), stamp: Stamp { inode: 0, ..stamp } }
    }

    #[test]
    fn folders_are_taken_as_they_are_or_mapped() {
        let parsed =
            |text: &str| Mapping::parse(text).map(|m| (m.edge.display().to_string(), m.local.display().to_string()));
        let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(parsed("/films/"), pair("/films", "/films"));
        assert_eq!(parsed("/films=/mnt//f"), pair("/films", "/mnt/f"));
        assert_eq!(parsed("/a=b"), pair("/a=b", "/a=b"));
        for bad in ["films", "films=/mnt", "/films/..", "/films=/mnt/../etc", "", "=/x"] {
            assert!(Mapping::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_film_is_found_where_it_is_here_and_nothing_else_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let films = folder.path().join("films");
        std::fs::create_dir_all(films.join("kids")).unwrap();
        let secret = folder.path().join("secret.mp4");
        std::fs::write(&secret, "film").unwrap();
        let film = films.join("kids/Film.mp4");
        std::fs::write(&film, "film").unwrap();
        std::fs::File::options()
            .write(true)
            .open(&secret)
            .unwrap()
            .set_modified(film.metadata().unwrap().modified().unwrap())
            .unwrap();
        std::os::unix::fs::symlink(&secret, films.join("out.mp4")).unwrap();
        let folders = Folders(vec![Mapping::parse(&format!("/films={}", films.display())).unwrap()]);

        for (named, path) in [("/films", "kids/Film.mp4"), ("/films/kids", "Film.mp4"), ("/films//kids/.", "Film.mp4")]
        {
            let here = folders.here(&source(named, path, &film)).unwrap();
            assert_eq!(here.stamp, Stamp::of(&File::open(&film).unwrap()).unwrap(), "the whole stamp of the file here");
            assert_eq!((here.folder.as_path(), here.path.as_path()), (films.as_path(), Path::new("kids/Film.mp4")));
        }
        let outside = folder.path().display().to_string();
        for (named, path) in [
            ("/films", "../secret.mp4"),
            ("/films/kids", "../../secret.mp4"),
            ("/films/..", "secret.mp4"),
            ("/films", "out.mp4"),
            ("/films", secret.to_str().unwrap()),
            (outside.as_str(), "secret.mp4"),
            (outside.as_str(), "films/kids/Film.mp4"),
            ("/filmsy", "Film.mp4"),
            ("films", "kids/Film.mp4"),
            ("/", "films/kids/Film.mp4"),
        ] {
            let NotHere(reason) = folders.here(&source(named, path, &film)).unwrap_err();
            assert!(!reason.contains("secret") && !reason.contains(&outside), "{reason}");
        }
    }

    #[test]
    fn another_version_is_refused_and_a_coarser_clock_is_not() {
        let stamp = Stamp { inode: 1, modified_s: 7, modified_ns: 123_456_789, bytes: 9 };
        for same in [
            Stamp { inode: 2, ..stamp },
            Stamp { modified_ns: 123_456_700, ..stamp },
            Stamp { modified_ns: 0, ..stamp },
        ] {
            assert!(is_same(&same, &stamp) && is_same(&stamp, &same), "{same:?}");
        }
        for other in [
            Stamp { bytes: 8, ..stamp },
            Stamp { modified_s: 8, ..stamp },
            Stamp { modified_ns: 123_456_600, ..stamp },
            Stamp { modified_s: 8, modified_ns: 0, ..stamp },
        ] {
            assert!(!is_same(&other, &stamp) && !is_same(&stamp, &other), "{other:?}");
        }
    }
}
