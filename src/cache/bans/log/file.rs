//! The files of the log, and what is durable in them. Blocking.
//!
//! `bans.log` is the log; `bans.log.new` becomes it by a rename; `bans.lock` is locked as long as a process uses the folder's log.
//!
//! A log is written anew at every start (its floor then is above every number ever used), when most of it is superfluous, and
//! after any failure: what a failed sync has left in a file is not known, so nothing is ever appended to it again.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::super::identity::Identity;
use super::super::table::{Reach, Record};
use super::super::{Ban, Bans};
use super::format::{self, Contents, Damage, Encoder, record_bytes};
use crate::observe::Metrics;

pub(super) const LOG: &str = "bans.log";
const NEW: &str = "bans.log.new";
const LOCK: &str = "bans.lock";
/// A log is not longer; one that would be is not written.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// So much may be superfluous in a log, and as much again as is not.
const SLACK_BYTES: u64 = 256 << 10;

/// The log of one folder.
#[derive(Debug)]
pub(super) struct LogFile {
    folder: PathBuf,
    /// Locked for this process.
    lock: Option<File>,
    /// None: it must be written anew before anything is durable.
    open: Option<Open>,
    /// Bans up to this number are in the log.
    logged_through: u64,
    /// The size at which the next purge looks whether it should be written anew.
    tend_at_bytes: u64,
    metrics: Arc<Metrics>,
}

/// A log whose every byte is synced.
#[derive(Debug)]
struct Open {
    file: File,
    encoder: Encoder,
    bytes: u64,
}

impl LogFile {
    /// Reads the log, and writes it anew.
    pub(super) fn open(folder: &Path, metrics: Arc<Metrics>) -> (Self, Bans) {
        let folder = folder.to_owned();
        let mut log = Self { folder, lock: None, open: None, logged_through: 0, tend_at_bytes: SLACK_BYTES, metrics };
        let bans = log.read();
        log.try_write_anew(&bans);
        (log, bans)
    }

    /// Whether all that is in force is in the log.
    pub(super) fn is_durable(&self, bans: &Bans) -> bool {
        self.open.is_some() && self.logged_through == bans.number()
    }

    /// Makes bans durable and puts them in force. False: they are in force, and not durable.
    pub(super) fn commit(&mut self, bans: &Bans, new: &[Ban]) -> bool {
        let before = bans.number();
        let through = before + new.len() as u64;
        let numbered = new.iter().zip(before + 1..);
        let records: Vec<Record> = numbered.flat_map(|(ban, number)| bans.records_of(number, ban)).collect();
        let written = self.write(bans, &records, through);
        bans.add_all(new);
        if let Err(error) = written {
            self.failed("written", &error);
            return false;
        }
        if bans.number() != through {
            // One was added without the log, and took a number that is another's there.
            return self.try_write_anew(bans);
        }
        if self.open.as_ref().is_some_and(|open| open.bytes >= self.tend_at_bytes) {
            self.tend(bans);
        }
        true
    }

    /// Writes the log anew where most of it is superfluous, or where it is not what it should be.
    pub(super) fn tend(&mut self, bans: &Bans) {
        if !self.is_durable(bans) || !self.is_in_place() {
            self.try_write_anew(bans);
            return;
        }
        let bytes = self.open.as_ref().map_or(0, |open| open.bytes);
        self.tend_at_bytes = bytes + SLACK_BYTES;
        if bytes < SLACK_BYTES {
            return;
        }
        let needed: u64 = bans.records().1.iter().map(record_bytes).sum();
        if bytes > 2 * needed + SLACK_BYTES {
            self.try_write_anew(bans);
        }
    }

    fn write(&mut self, bans: &Bans, records: &[Record], through: u64) -> Result<()> {
        if !self.is_durable(bans) || !self.is_in_place() {
            return self.write_anew(bans, records, through);
        }
        self.append(records, through).or_else(|error| {
            self.failed("appended to", &error);
            self.write_anew(bans, records, through)
        })
    }

    fn append(&mut self, records: &[Record], through: u64) -> Result<()> {
        // Taken: after a failure nothing more is appended.
        let Some(mut open) = self.open.take() else { return Err(Error::other("there is none")) };
        records.iter().for_each(|record| open.encoder.push(record));
        let bytes = std::mem::take(&mut open.encoder.bytes);
        open.bytes += within_bounds(&bytes, open.bytes)?;
        open.file.write_all(&bytes)?;
        open.file.sync_data()?;
        self.metrics.ban_log_bytes.set(open.bytes as i64);
        (self.open, self.logged_through) = (Some(open), through);
        Ok(())
    }

    fn try_write_anew(&mut self, bans: &Bans) -> bool {
        let written = self.write_anew(bans, &[], bans.number());
        if let Err(error) = &written {
            self.failed("written anew", error);
        }
        written.is_ok()
    }

    /// What is in force, and records that will be. When it fails before the new file is in place, the old one is as it was.
    fn write_anew(&mut self, bans: &Bans, records: &[Record], through: u64) -> Result<()> {
        self.lock()?;
        let (floor, in_force) = bans.records();
        let mut encoder = Encoder::new(bans.identity, floor);
        in_force.iter().chain(records).for_each(|record| encoder.push(record));
        let content = std::mem::take(&mut encoder.bytes);
        let bytes = within_bounds(&content, 0)?;
        let new = self.folder.join(NEW);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&content)?;
        file.sync_all()?;
        std::fs::rename(&new, self.folder.join(LOG))?;
        self.open = None;
        File::open(&self.folder)?.sync_all()?;
        self.metrics.ban_log_bytes.set(bytes as i64);
        (self.open, self.logged_through) = (Some(Open { file, encoder, bytes }), through);
        self.tend_at_bytes = bytes + SLACK_BYTES;
        Ok(())
    }

    /// The bans of the log. What cannot be read is as if it had purged everything.
    fn read(&mut self) -> Bans {
        let (damage, latest) = match self.read_file() {
            Ok(None) => {
                return Bans::restored(Identity::random(), 0, next_numbers(0), Vec::new(), Arc::clone(&self.metrics));
            }
            Ok(Some(Ok(Contents { identity, latest, records, torn }))) => {
                tracing::info!(records = records.len(), torn, "the log of purges was read");
                return Bans::restored(identity, latest, next_numbers(latest), records, Arc::clone(&self.metrics));
            }
            Ok(Some(Err(damage))) => (damage.to_string(), damage.latest),
            Err(error) => (error.to_string(), 0),
        };
        self.metrics.ban_log_failures.inc();
        tracing::error!(
            "{}: the log of purges cannot be read ({damage}): all that lies on the disks is treated as purged",
            self.folder.join(LOG).display()
        );
        let first = next_numbers(latest);
        let all = Record { number: first, soft: false, at: SystemTime::now(), reach: Reach::All };
        Bans::restored(Identity::random(), 0, first, vec![all], Arc::clone(&self.metrics))
    }

    fn read_file(&mut self) -> Result<Option<std::result::Result<Contents, Damage>>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        self.lock()?;
        let file = match File::open(self.folder.join(LOG)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut content = Vec::new();
        file.take(LOG_BYTES_MAX + 1).read_to_end(&mut content)?;
        within_bounds(&content, 0)?;
        Ok(Some(format::read(&content)))
    }

    /// Two processes never write one log.
    fn lock(&mut self) -> Result<()> {
        let path = self.folder.join(LOCK);
        if self.lock.as_ref().is_some_and(|lock| is_at(lock, &path)) {
            return Ok(());
        }
        self.lock = None;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::new(ErrorKind::ResourceBusy, "another process uses this folder"),
            TryLockError::Error(error) => error,
        })?;
        self.lock = Some(lock);
        Ok(())
    }

    /// Nobody has removed or replaced the log.
    fn is_in_place(&self) -> bool {
        self.open.as_ref().is_some_and(|open| is_at(&open.file, &self.folder.join(LOG)))
    }

    fn failed(&self, what: &str, error: &Error) {
        self.metrics.ban_log_failures.inc();
        tracing::error!("{}: the log of purges could not be {what}: {error}", self.folder.join(LOG).display());
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(found)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (found.dev(), found.ino())
}

/// The length of what is to be written.
fn within_bounds(bytes: &[u8], before: u64) -> Result<u64> {
    let count = bytes.len() as u64;
    if before + count > LOG_BYTES_MAX {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("it would be longer than {LOG_BYTES_MAX} bytes")));
    }
    Ok(count)
}

/// Where a process's numbers begin: above all that one before it may have given without being able to write them down, and, should
/// it not be able to write down its own either, unlike theirs.
fn next_numbers(latest: u64) -> u64 {
    latest + (1 << 32) + u64::from(fastrand::u32(..))
}
