//! The index: what is known of a library's titles, in SQLite, so that a restart lists them at once and nothing is looked into twice.
//!
//! - `place`: where the database lies, how it is opened, set aside and brought up to date.
//!
//! Invariants: a help, never a need: what goes wrong here is logged and counted, and the library goes on from memory; a database
//! that is damaged is set aside and made anew. Nothing is written among the films. What it says is not trusted: an id must be that
//! of its path, a path is opened only beneath its configured folder, and what is known of a film holds for one version
//! (path, inode, time and size) of its file. One connection, so one writer, and everything here blocks: call it on a thread
//! that may wait. Another process (`reelgate scan`) may have the database open too.

mod place;
#[cfg(test)]
mod tests;

use super::catalog::{Kind, Title, title_id};
use super::facts::{Facts, Known};
use super::scan::ENTRIES_MAX;
use super::watched;
use crate::observe::Metrics;
use crate::source::{Folder, Stamp};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use place::Place;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is known of a title is kept this long after it was seen last: its share may come back.
const MISSING_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// And of no more titles than this, the latest.
const MISSING_MAX: i64 = 100_000;

#[derive(Debug)]
pub struct Index {
    /// The library's name: a metric label.
    origin: String,
    metrics: Arc<Metrics>,
    place: Mutex<Place>,
    /// Why `place` is closed. It has a lock of its own: that of the place is held for as long as the database takes.
    trouble: Mutex<Option<String>>,
    /// It lacks what was saved while it was away: the next scan must save everything.
    is_behind: AtomicBool,
}

/// What a film is, as the ladder needs it: `Film` of the sidecar's protocol. Other findings may lie beside it, under names of their
/// own.
pub const FILM: &str = "film";
/// How a title is encoded that was optimised: `media::quality::Plan`.
pub const PLAN: &str = "plan";

/// Whether its own packets can be offered: `Copied` of the sidecar's protocol.
pub const COPIED: &str = "copied";

/// Something that was found out about a film, for one version of its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// What the sidecar said, as JSON; or why it refused.
    pub said: Result<String, String>,
    /// Of the sidecar's tools.
    pub build: String,
    pub at_s: i64,
}

impl Stored {
    fn known(&self, builds: &mut Builds) -> Known {
        let build = builds.shared(&self.build);
        match &self.said {
            Ok(said) => match serde_json::from_str(said).ok().and_then(|film| Facts::read(&film)) {
                Some(facts) => Known::Film { facts, build },
                // Not what it was: find it out again.
                None => Known::Nothing,
            },
            Err(reason) => Known::Broken { reason: reason.clone(), build, at_s: self.at_s },
        }
    }
}

/// Thousands of films were looked into by the same few builds: each text is kept once.
#[derive(Debug, Default)]
struct Builds(Option<Arc<str>>);

impl Builds {
    fn shared(&mut self, build: &str) -> Arc<str> {
        match &self.0 {
            Some(last) if **last == *build => Arc::clone(last),
            _ => Arc::clone(self.0.insert(build.into())),
        }
    }
}

/// Seconds since 1970.
pub fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed()
}

impl Index {
    /// The index of a library in `folder`; None: in memory only. Opens nothing yet.
    pub fn new(folder: Option<&Path>, origin: &str, films: &[PathBuf], metrics: Arc<Metrics>) -> Self {
        let place = folder.map_or(Place::Nowhere, |folder| Place::closed(folder, origin, films));
        let (place, trouble, is_behind) = (Mutex::new(place), Mutex::default(), AtomicBool::new(false));
        Self { origin: origin.to_owned(), metrics, place, trouble, is_behind }
    }

    /// Why nothing is kept now although it should be. Waits for nothing.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Opens the database, or tries again what failed before. True: it is open, and lacks what was saved until now.
    pub fn ready(&self) -> bool {
        let mut place = self.place.lock();
        let opened = place.open();
        *self.trouble.lock() = place.trouble();
        match opened {
            Ok(notes) => {
                if let Some(note) = notes {
                    self.metrics.library_index_errors.with_label_values(&[&self.origin]).inc();
                    tracing::warn!(origin = self.origin, "library index: {note}");
                    self.is_behind.store(true, Ordering::Relaxed);
                }
            }
            Err(error) => {
                drop(place);
                self.failed(&error);
                return false;
            }
        }
        self.is_behind.swap(false, Ordering::Relaxed)
    }

    fn failed(&self, error: &str) {
        self.metrics.library_index_errors.with_label_values(&[&self.origin]).inc();
        self.is_behind.store(true, Ordering::Relaxed);
        tracing::warn!(origin = self.origin, "library index: {error}; the library goes on from memory");
    }

    /// Does `work` where the database is open. None: it is not, or the work failed.
    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Option<T> {
        let mut place = self.place.lock();
        let result = place.connection().map(work)?;
        result
            .map_err(|error| {
                let told = place.failed(&error);
                *self.trouble.lock() = place.trouble();
                drop(place);
                self.failed(&told);
            })
            .ok()
    }

    /// The titles that were there when it was last told, of these folders.
    pub fn load(&self, folders: &[Arc<Folder>]) -> Vec<Arc<Title>> {
        let mut builds = Builds::default();
        let loaded = self.with(|connection| {
            let mut titles = Vec::new();
            let mut strangers = Vec::new();
            let mut query = connection.prepare(
                "SELECT t.id, t.folder, t.path, t.name, t.kind, t.duration_s, t.bytes, t.stamp,
                        f.said, f.refused, f.build, f.at_s
                 FROM titles t LEFT JOIN found f ON f.id = t.id AND f.what = ?2 AND f.stamp = t.stamp
                 WHERE t.missing_since_s IS NULL LIMIT ?1",
            )?;
            let mut rows = query.query(params![ENTRIES_MAX as i64, FILM])?;
            while let Some(row) = rows.next()? {
                match title(row, folders, &mut builds)? {
                    Some(title) => titles.push(Arc::new(title)),
                    None => strangers.push(row.get::<_, String>(0)?),
                }
            }
            drop(rows);
            drop(query);
            // Of folders that are not configured any more, or damaged.
            mark_missing(connection, &strangers)?;
            Ok(titles)
        });
        loaded.unwrap_or_default()
    }

    /// Saves titles as they were found, and tells them what is known of their versions already. One transaction.
    pub fn save(&self, titles: &[Arc<Title>]) {
        let mut builds = Builds::default();
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut insert = transaction.prepare(
                    "INSERT INTO titles (id, folder, path, name, kind, duration_s, bytes, stamp)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                     ON CONFLICT (id) DO UPDATE SET name = ?4, kind = ?5, duration_s = ?6, bytes = ?7, stamp = ?8,
                         missing_since_s = NULL",
                )?;
                let mut older = transaction.prepare("DELETE FROM found WHERE id = ?1 AND stamp <> ?2")?;
                for title in titles {
                    let stamp = title.stamp.map(|stamp| stamp.to_bytes());
                    insert.execute(params![
                        title.id,
                        title.folder.path().as_os_str().as_bytes(),
                        title.path.as_os_str().as_bytes(),
                        title.name,
                        label(title.kind),
                        title.duration_s,
                        title.bytes.map(u64::cast_signed),
                        stamp,
                    ])?;
                    let Some(stamp) = title.stamp else { continue };
                    older.execute(params![title.id, stamp.to_bytes()])?;
                    if matches!(**title.known.load(), Known::Nothing)
                        && let Some(stored) = stored(&transaction, &title.id, FILM, &stamp)?
                    {
                        title.known.store(Arc::new(stored.known(&mut builds)));
                    }
                }
            }
            transaction.commit()
        });
    }

    /// These are not there any more. What is known of them stays for a while.
    pub fn missing(&self, ids: &[String]) {
        self.with(|connection| {
            mark_missing(connection, ids)?;
            let before = now_s() - MISSING_KEPT.as_secs().cast_signed();
            connection.execute("DELETE FROM titles WHERE missing_since_s < ?1", [before])?;
            if !ids.is_empty() {
                connection.execute(
                    "DELETE FROM titles WHERE id IN (SELECT id FROM titles WHERE missing_since_s IS NOT NULL
                     ORDER BY missing_since_s DESC LIMIT -1 OFFSET ?1)",
                    [MISSING_MAX],
                )?;
            }
            Ok(())
        });
    }

    /// What was watched lately, by title.
    pub fn watched(&self) -> Vec<(String, watched::Entry)> {
        let rows = self.with(|connection| {
            let mut query = connection.prepare("SELECT id, said FROM watched LIMIT ?1")?;
            let rows = query.query_map([watched::TITLES_MAX as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(String, String)>>>()
        });
        // What does not decode is of another Reelgate, and is counted anew.
        let entries = rows.unwrap_or_default().into_iter();
        entries.filter_map(|(title, said)| Some((title, serde_json::from_str(&said).ok()?))).collect()
    }

    /// Keeps that, of titles that are known here.
    pub fn keep_watched(&self, changes: &[(String, watched::Entry)]) {
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (title, entry) in changes {
                let said = serde_json::to_string(entry).unwrap_or_default();
                transaction.execute(
                    "INSERT OR REPLACE INTO watched (id, said, at_s)
                     SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM titles WHERE id = ?1)",
                    params![title, said, now_s()],
                )?;
            }
            transaction.execute(
                "DELETE FROM watched WHERE id IN (SELECT id FROM watched ORDER BY at_s DESC LIMIT -1 OFFSET ?1)",
                [watched::TITLES_MAX as i64],
            )?;
            transaction.commit()
        });
    }

    /// What was found out under a name (like [`FILM`]) about this version.
    pub fn found(&self, id: &str, what: &str, stamp: &Stamp) -> Option<Stored> {
        self.with(|connection| stored(connection, id, what, stamp)).flatten()
    }

    /// Everything that was found out under a name about titles as they are now, by the build that looked into them last: ids, and what
    /// was said.
    pub fn all_found(&self, what: &str) -> Vec<(String, String)> {
        let found = self.with(|connection| {
            let mut query = connection.prepare(
                "SELECT f.id, f.said FROM found f JOIN titles t ON t.id = f.id AND t.stamp = f.stamp
                 JOIN found film ON film.id = f.id AND film.what = ?3 AND film.stamp = f.stamp AND film.build = f.build
                 WHERE f.what = ?1 AND f.said IS NOT NULL AND t.missing_since_s IS NULL LIMIT ?2",
            )?;
            let rows =
                query.query_map(params![what, ENTRIES_MAX as i64, FILM], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        });
        found.unwrap_or_default()
    }

    /// Keeps what was found out, if the title is known here.
    pub fn keep(&self, id: &str, what: &str, stamp: &Stamp, stored: &Stored) {
        let (said, refused) = (stored.said.as_ref().ok(), stored.said.as_ref().err());
        self.with(|connection| {
            connection
                .execute(
                    "INSERT OR REPLACE INTO found (id, what, stamp, said, refused, build, at_s)
                     SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE EXISTS (SELECT 1 FROM titles WHERE id = ?1)",
                    params![id, what, stamp.to_bytes(), said, refused, stored.build, stored.at_s],
                )
                .map(drop)
        });
    }
}

fn stored(connection: &Connection, id: &str, what: &str, stamp: &Stamp) -> rusqlite::Result<Option<Stored>> {
    let mut query = connection
        .prepare("SELECT said, refused, build, at_s FROM found WHERE id = ?1 AND what = ?2 AND stamp = ?3")?;
    let row = query.query_row(params![id, what, stamp.to_bytes()], |row| row_stored(row, 0));
    Ok(row.optional()?.flatten())
}

/// The columns `said, refused, build, at_s` from `at` on; None: nothing was found.
fn row_stored(row: &Row, at: usize) -> rusqlite::Result<Option<Stored>> {
    let Some(build) = row.get(at + 2)? else { return Ok(None) };
    let said: Option<String> = row.get(at)?;
    let refused: Option<String> = row.get(at + 1)?;
    let said = said.ok_or(refused.unwrap_or_default());
    Ok(Some(Stored { said, build, at_s: row.get(at + 3)? }))
}

/// None: of no folder of this library, or not what was written.
fn title(row: &Row, folders: &[Arc<Folder>], builds: &mut Builds) -> rusqlite::Result<Option<Title>> {
    let path = |column| row.get_ref(column).and_then(|value| Ok(Path::new(OsStr::from_bytes(value.as_blob()?))));
    let (id, folder, path): (String, _, _) = (row.get(0)?, path(1)?, path(2)?);
    let kind = match row.get_ref(4)?.as_str()? {
        "file" => Kind::File,
        "hls" => Kind::Hls,
        _ => return Ok(None),
    };
    let stamp = row.get_ref(7)?.as_blob_or_null()?.and_then(Stamp::from_bytes);
    let Some(folder) = folders.iter().find(|known| known.path() == folder) else { return Ok(None) };
    if id != title_id(folder.path(), path) || stamp.is_none() != (kind == Kind::Hls) {
        return Ok(None);
    }
    let known = row_stored(row, 8)?.map(|stored| stored.known(builds)).unwrap_or_default();
    Ok(Some(Title {
        id,
        name: row.get(3)?,
        kind,
        duration_s: row.get(5)?,
        bytes: row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned),
        folder: Arc::clone(folder),
        path: path.to_owned(),
        stamp,
        known: ArcSwap::from_pointee(known),
    }))
}

fn mark_missing(connection: &mut Connection, ids: &[String]) -> rusqlite::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let now = now_s();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for id in ids {
        let unless_known = "UPDATE titles SET missing_since_s = ?2 WHERE id = ?1 AND missing_since_s IS NULL";
        transaction.execute(unless_known, params![id, now])?;
    }
    transaction.commit()
}

fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Hls => "hls",
    }
}
