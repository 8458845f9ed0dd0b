//! Where the database lies, how it is opened, set aside and brought up to date.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long another process may hold the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// SQLite's own cache of pages, in KiB (negative: `PRAGMA cache_size`).
const CACHE_KIB: i64 = -4096;
/// A log of changes that grew beyond this is cut again.
const LOG_BYTES_MAX: i64 = 8 << 20;
/// What an origin's name is written with in a file's name.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');
/// Longer names of origins are cut, for the file system.
const NAME_BYTES_MAX: usize = 100;

/// From one version of the tables to the next; `user_version` counts those that were done.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE titles (
        id TEXT NOT NULL PRIMARY KEY,
        folder BLOB NOT NULL,
        path BLOB NOT NULL,
        name TEXT NOT NULL,
        kind TEXT NOT NULL,
        duration_s REAL,
        bytes INTEGER,
        stamp BLOB,
        missing_since_s INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX titles_missing ON titles (missing_since_s) WHERE missing_since_s IS NOT NULL;
    CREATE TABLE found (
        id TEXT NOT NULL REFERENCES titles (id) ON DELETE CASCADE,
        what TEXT NOT NULL,
        stamp BLOB NOT NULL,
        said TEXT,
        refused TEXT,
        build TEXT NOT NULL,
        at_s INTEGER NOT NULL,
        PRIMARY KEY (id, what)
    );
",
    "
    CREATE TABLE watched (
        id TEXT NOT NULL PRIMARY KEY REFERENCES titles (id) ON DELETE CASCADE,
        said TEXT NOT NULL,
        at_s INTEGER NOT NULL
    ) WITHOUT ROWID;
",
];

/// Where the index lies, and whether it is open.
#[derive(Debug)]
pub enum Place {
    /// In memory only, as configured.
    Nowhere,
    /// Not open (yet, or any more), and why.
    Closed {
        files: Files,
        why: Option<String>,
    },
    Open {
        files: Files,
        connection: Connection,
    },
}

/// The files of an index.
#[derive(Debug, Clone)]
pub struct Files {
    folder: PathBuf,
    database: PathBuf,
    /// Nothing is written in these.
    films: Vec<PathBuf>,
}

impl Place {
    /// An index in `folder`, a file for each origin.
    pub fn closed(folder: &Path, origin: &str, films: &[PathBuf]) -> Self {
        let mut name = utf8_percent_encode(origin, PLAIN).to_string();
        name.truncate(NAME_BYTES_MAX);
        let database = folder.join(format!("{name}.sqlite"));
        Self::Closed { files: Files { folder: folder.to_owned(), database, films: films.to_vec() }, why: None }
    }

    /// Why it is not open, where something went wrong.
    pub fn trouble(&self) -> Option<String> {
        if let Self::Closed { why, .. } = self { why.clone() } else { None }
    }

    pub fn connection(&mut self) -> Option<&mut Connection> {
        if let Self::Open { connection, .. } = self { Some(connection) } else { None }
    }

    /// Opens what is closed. A note: what was there had to be set aside.
    pub fn open(&mut self) -> Result<Option<String>, String> {
        let Self::Closed { files, why } = self else { return Ok(None) };
        match files.open() {
            Ok((connection, note)) => {
                *self = Self::Open { files: files.clone(), connection };
                Ok(note)
            }
            Err(error) => {
                *why = Some(error.clone());
                Err(error)
            }
        }
    }

    /// What an operation's failure means for the next; the message for people.
    pub fn failed(&mut self, error: &rusqlite::Error) -> String {
        let Self::Open { files, .. } = self else { return error.to_string() };
        let told = format!("{}: {error}", files.database.display());
        if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) {
            return told;
        }
        let files = files.clone();
        // The connection must be gone before its files are.
        *self = Self::Closed { files: files.clone(), why: Some(told.clone()) };
        if is_damage(error)
            && let Err(error) = files.set_aside()
        {
            return format!("{told}; {error}");
        }
        told
    }
}

/// Why a database cannot be used.
enum Trouble {
    /// It is damaged, or not one of ours.
    Unusable(String),
    /// The rest: a disk, permissions.
    Other(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        if is_damage(&error) { Self::Unusable(error.to_string()) } else { Self::Other(error.to_string()) }
    }
}

/// Also tables or columns that should be there and are not, and values of other types.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    match error.sqlite_error_code() {
        Some(code) => matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown),
        None => matches!(error, E::InvalidColumnType(..) | E::FromSqlConversionFailure(..) | E::Utf8Error(..)),
    }
}

impl Files {
    fn open(&self) -> Result<(Connection, Option<String>), String> {
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", self.database.display());
        if let Some(films) = self.films.iter().find(|films| is_beneath(&self.folder, films)) {
            let films = films.display();
            return Err(format!("{}: lies among the films of {films}: choose another folder", self.folder.display()));
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|error| format!("{}: {error}", self.folder.display()))?;
        match self.connect() {
            Ok(connection) => Ok((connection, None)),
            Err(Trouble::Other(error)) => Err(at(&error)),
            Err(Trouble::Unusable(error)) => {
                let aside = self.set_aside()?;
                let note = format!("{} (set aside as {}, and made anew)", at(&error), aside.display());
                match self.connect() {
                    Ok(connection) => Ok((connection, Some(note))),
                    Err(Trouble::Unusable(error) | Trouble::Other(error)) => Err(at(&error)),
                }
            }
        }
    }

    fn connect(&self) -> Result<Connection, Trouble> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.database, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "cache_size", CACHE_KIB)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
        // A reader never waits for the writer. Where the file system cannot do it SQLite stays with what it can.
        connection.pragma_update(None, "journal_mode", "wal")?;
        // The last moments before a power cut may be lost, never the database: they are found out again.
        connection.pragma_update(None, "synchronous", "normal")?;
        migrate(&mut connection)?;
        Ok(connection)
    }

    /// Moves the database away, over an older one that was. Where it lies now.
    fn set_aside(&self) -> Result<PathBuf, String> {
        let aside = self.database.with_extension("sqlite.damaged");
        let moved = fs::rename(&self.database, &aside);
        moved.map_err(|error| format!("{}: cannot be set aside: {error}", self.database.display()))?;
        for suffix in ["-wal", "-shm"] {
            let mut name = OsString::from(self.database.as_os_str());
            name.push(suffix);
            match fs::remove_file(&name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("{}: {error}", Path::new(&name).display()));
                }
                _ => {}
            }
        }
        Ok(aside)
    }
}

fn migrate(connection: &mut Connection) -> Result<(), Trouble> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let todo = usize::try_from(done).ok().and_then(|done| MIGRATIONS.get(done..));
    let todo = todo.ok_or_else(|| Trouble::Unusable(format!("its version {done} is of another Reelgate")))?;
    for migration in todo {
        transaction.execute_batch(migration)?;
    }
    if !todo.is_empty() {
        transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    }
    Ok(transaction.commit()?)
}

/// Also where links hide it, and where neither is there yet.
fn is_beneath(path: &Path, folder: &Path) -> bool {
    let real = |path: &Path| {
        let there = path.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
        there.map(|(part, real)| real.join(path.strip_prefix(part).unwrap_or(Path::new(""))))
    };
    match (real(path), real(folder)) {
        (Some(path), Some(folder)) => path.starts_with(folder),
        _ => path.starts_with(folder),
    }
}
