//! Folders → titles. Blocking: run it on a thread that may wait.
//!
//! Invariants: hidden files and folders are not seen; linked folders are not entered (no rounds, no way out); a linked film
//! counts only where [`Folder::open`] can open it. Bounded in entries and depth; folders are entered in name order, so that
//! a scan cut short by a limit finds nearly the same titles each time. Of a file only a few headers are read, and of an unchanged
//! one nothing. What is found is given on in batches, so that a scan that is cut off has not been for nothing.

use super::catalog::{Catalog, Kind, Title, title_id};
use super::facts::rounded;
use crate::http::path::SafePath;
use crate::media::class::{Class, classify};
use crate::media::{hls, mp4};
use crate::source::{Folder, Stamp};
use arc_swap::ArcSwap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Entries (files and folders) looked at in one scan of all folders. The files of an HLS title do not count.
pub const ENTRIES_MAX: usize = 100_000;
/// Folders within folders.
pub const DEPTH_MAX: usize = 16;
/// Titles in a batch: what a scan that is cut off may lose.
const BATCH: usize = 500;
/// A longer playlist is not read for its duration.
const PLAYLIST_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The playlist that makes its folder one title.
pub const MASTER: &str = "master.m3u8";

/// What a scan found.
#[derive(Debug)]
pub struct Scan {
    pub catalog: Catalog,
    /// [`ENTRIES_MAX`] or [`DEPTH_MAX`] was reached: titles may be missing.
    pub limit_reached: bool,
    /// Folders that could not be read at all.
    pub unreadable: Vec<(PathBuf, io::Error)>,
}

/// What a scan works with beside the folders.
pub struct Work<'a> {
    /// What is known of an unchanged file there is not read again.
    pub previous: &'a Catalog,
    /// Titles so far.
    pub found: &'a AtomicUsize,
    /// Takes titles in batches.
    pub save: &'a dyn Fn(&[Arc<Title>]),
    /// Also those that are unchanged.
    pub save_all: bool,
    /// Takes all that was found so far, now and then.
    pub so_far: &'a dyn Fn(&[Arc<Title>]),
    pub so_far_interval: Duration,
    pub cancelled: &'a CancellationToken,
}

/// Scans all folders. None: cancelled.
pub fn scan(folders: &[Arc<Folder>], work: &Work) -> Option<Scan> {
    work.found.store(0, Ordering::Relaxed);
    let mut scanner = Scanner {
        work,
        titles: Vec::new(),
        unsaved: Vec::new(),
        told: Instant::now(),
        entries_left: ENTRIES_MAX,
        limit_reached: false,
    };
    let mut unreadable = Vec::new();
    for folder in folders {
        if let Err(error) = scanner.folder(folder) {
            unreadable.push((folder.path().to_path_buf(), error));
        }
    }
    (work.save)(&scanner.unsaved);
    let Scanner { titles, limit_reached, .. } = scanner;
    (!work.cancelled.is_cancelled()).then(|| Scan { catalog: Catalog::new(titles), limit_reached, unreadable })
}

struct Scanner<'a> {
    work: &'a Work<'a>,
    titles: Vec<Arc<Title>>,
    unsaved: Vec<Arc<Title>>,
    /// When all that was found so far was given on last.
    told: Instant,
    entries_left: usize,
    limit_reached: bool,
}

struct Entry {
    name: OsString,
    kind: fs::FileType,
}

impl Scanner<'_> {
    /// Fails only where the folder itself cannot be read; what cannot be read below it is passed over.
    fn folder(&mut self, folder: &Arc<Folder>) -> io::Result<()> {
        let mut waiting = vec![(PathBuf::new(), self.entries(folder.path())?)];
        while let Some((relative, entries)) = waiting.pop() {
            if self.work.cancelled.is_cancelled() {
                return Ok(());
            }
            if entries.iter().any(|entry| entry.name == MASTER) && self.hls(folder, &relative) {
                continue;
            }
            let segmented = entries.iter().any(|entry| class_of(&entry.name) == Class::Playlist);
            let mut inner = Vec::new();
            for entry in entries {
                let path = relative.join(&entry.name);
                if entry.kind.is_dir() {
                    inner.push(path);
                } else if is_film(&entry.name, segmented) {
                    self.film(folder, path);
                }
            }
            if !inner.is_empty() && relative.components().count() >= DEPTH_MAX {
                self.limit_reached = true;
                continue;
            }
            // Last in, first out: in reverse, folders are entered in name order.
            for path in inner.into_iter().rev() {
                if let Ok(entries) = self.entries(&folder.path().join(&path)) {
                    waiting.push((path, entries));
                }
            }
        }
        Ok(())
    }

    /// What a folder holds and people may see, by name.
    fn entries(&mut self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            if self.entries_left == 0 {
                self.limit_reached = true;
                break;
            }
            self.entries_left -= 1;
            let entry = entry?;
            let name = entry.file_name();
            if !is_hidden(&name) {
                entries.push(Entry { name, kind: entry.file_type()? });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Whether the folder is a title: its `master.m3u8` is a file that can be served.
    fn hls(&mut self, folder: &Arc<Folder>, path: &Path) -> bool {
        let Ok(master) = folder.open(&path.join(MASTER)) else { return false };
        let own = path.file_name().or_else(|| folder.path().file_name());
        let title = Title {
            id: title_id(folder.path(), path),
            name: own.unwrap_or(OsStr::new("library")).to_string_lossy().into_owned(),
            kind: Kind::Hls,
            duration_s: hls_duration_s(folder, path, master).map(rounded),
            bytes: None,
            folder: Arc::clone(folder),
            path: path.to_path_buf(),
            stamp: None,
            known: ArcSwap::default(),
        };
        match self.work.previous.get(&title.id) {
            Some(known) if known.is_unchanged(&title) => self.unchanged(known),
            _ => self.changed(title),
        }
        true
    }

    fn film(&mut self, folder: &Arc<Folder>, path: PathBuf) {
        let Ok((file, stamp)) = folder.open(&path).and_then(|file| Stamp::of(&file).map(|stamp| (file, stamp))) else {
            return;
        };
        let id = title_id(folder.path(), &path);
        if let Some(known) = self.work.previous.get(&id)
            && known.stamp == Some(stamp)
        {
            self.unchanged(known);
            return;
        }
        self.changed(Title {
            id,
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            kind: Kind::File,
            duration_s: film_duration_s(&path, &file, stamp.bytes).map(rounded),
            bytes: Some(stamp.bytes),
            folder: Arc::clone(folder),
            path,
            stamp: Some(stamp),
            known: ArcSwap::default(),
        });
    }

    fn unchanged(&mut self, title: &Arc<Title>) {
        if self.work.save_all {
            self.unsaved.push(Arc::clone(title));
        }
        self.found(Arc::clone(title));
    }

    fn changed(&mut self, title: Title) {
        let title = Arc::new(title);
        self.unsaved.push(Arc::clone(&title));
        self.found(title);
    }

    fn found(&mut self, title: Arc<Title>) {
        self.titles.push(title);
        self.work.found.store(self.titles.len(), Ordering::Relaxed);
        if self.unsaved.len() >= BATCH {
            (self.work.save)(&self.unsaved);
            self.unsaved.clear();
        }
        if self.told.elapsed() >= self.work.so_far_interval {
            (self.work.so_far)(&self.titles);
            self.told = Instant::now();
        }
    }
}

/// A name that starts with a dot.
pub fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

fn class_of(name: &OsStr) -> Class {
    classify(&name.to_string_lossy(), None)
}

/// Video in one file. Beside a playlist, what looks like its segments is not a film.
fn is_film(name: &OsStr, segmented: bool) -> bool {
    const EXTENSIONS: [&str; 21] = [
        "mp4", "m4v", "mkv", "webm", "mov", "avi", "divx", "ts", "m2t", "m2ts", "mts", "mpg", "mpeg", "m2p", "vob",
        "wmv", "asf", "flv", "ogv", "ogm", "3gp",
    ];
    let extension = Path::new(name).extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    EXTENSIONS.contains(&extension.as_str()) && !(segmented && matches!(class_of(name), Class::Segment | Class::Init))
}

fn film_duration_s(path: &Path, file: &File, length: u64) -> Option<f64> {
    let extension = path.extension()?.to_string_lossy().to_ascii_lowercase();
    if !matches!(extension.as_str(), "mp4" | "m4v" | "mov") {
        return None;
    }
    mp4::duration_s(length, |offset, buffer: &mut [u8]| file.read_exact_at(buffer, offset)).ok().flatten()
}

/// The duration of the first variant, or of the master itself where it is a media playlist.
fn hls_duration_s(folder: &Folder, path: &Path, master: File) -> Option<f64> {
    let master = playlist(master)?;
    let Some(variant) = hls::first_variant(&master) else { return hls::duration_s(&master) };
    let variant = variant.split(['?', '#']).next().unwrap_or_default();
    let variant = SafePath::parse(&format!("/{}", variant.trim_start_matches("./"))).ok()?;
    hls::duration_s(&playlist(folder.open(&variant.under(path)).ok()?)?)
}

fn playlist(file: File) -> Option<String> {
    let mut text = String::new();
    let read = file.take(PLAYLIST_BYTES_MAX + 1).read_to_string(&mut text).ok()?;
    (read as u64 <= PLAYLIST_BYTES_MAX).then_some(text)
}
