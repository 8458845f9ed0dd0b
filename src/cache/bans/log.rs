//! The log of bans: what makes a purge that was acknowledged outlive the process.
//!
//! Parts: [`BanLog`], its thread and the queue to it; `file`, the files and what is durable; `format`, their bytes.
//!
//! The order is: append, sync, add to the [`Bans`], acknowledge. One thread does all of it, so that no worker waits for a disk;
//! purges that come while it syncs share the next sync. Where the disk fails the ban is put in force all the same, and whoever
//! asked is told that it would not survive a restart; the thread then writes a new log, with everything that is in force, as soon
//! as it can.
//!
//! Invariants: an acknowledged ban is in the log; the log never holds less than the acknowledged bans that may still reach an
//! object; damage is never guessed around: everything from before is purged hard. Bounded: the queue, a batch, and the file, which
//! is written anew when most of it is superfluous.

mod file;
mod format;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Ban, Bans};
use crate::observe::Metrics;
use file::LogFile;

/// Purges that wait for the disk.
const QUEUE_MAX: usize = 256;
/// A purge that the disk has not confirmed by then is put in force without it.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at whether the log should be written anew.
const TEND_EVERY: Duration = Duration::from_secs(10);

/// Why a purge was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotLogged {
    /// Too many wait for the disk: nothing was done.
    Refused,
    /// It is in force, and the disk did not take it.
    InForceOnly,
}

impl std::fmt::Display for NotLogged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Refused => "Too many purges wait for the disk; nothing was purged. Try again later.",
            Self::InForceOnly => {
                "The purge is in force, but it would not survive a restart: the log of purges could not be written. \
                 See to the first disk of `cache.disk` (the log says what failed), then purge again."
            }
        })
    }
}

impl std::error::Error for NotLogged {}

#[derive(Debug)]
struct Request {
    ban: Ban,
    done: oneshot::Sender<bool>,
}

/// The log of bans in a folder, and the bans it holds. Its thread ends when it is dropped.
#[derive(Debug)]
pub struct BanLog {
    bans: Arc<Bans>,
    queue: SyncSender<Request>,
    durable: Arc<AtomicBool>,
    disk_timeout: Duration,
    metrics: Arc<Metrics>,
}

impl BanLog {
    /// Opens the log of a folder, which is made where it is not there. Blocking: it reads and writes the log once.
    ///
    /// A log that cannot be opened or written does not stop the edge: its bans are then in memory alone, and objects that
    /// another log's numbers are on cannot be used.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn open(folder: &Path, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (file, bans) = LogFile::open(folder, Arc::clone(&metrics));
        Self::start(file, bans, DISK_TIMEOUT, metrics)
    }

    fn start(file: LogFile, bans: Bans, disk_timeout: Duration, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let bans = Arc::new(bans);
        let durable = Arc::new(AtomicBool::new(file.is_durable(&bans)));
        let (queue, requests) = sync_channel(QUEUE_MAX);
        let thread = Thread { file, bans: Arc::clone(&bans), durable: Arc::clone(&durable) };
        std::thread::Builder::new().name("reelgate-bans".to_owned()).spawn(move || thread.run(&requests))?;
        Ok(Self { bans, queue, durable, disk_timeout, metrics })
    }

    /// The bans in force: the store is built with these.
    pub fn bans(&self) -> &Arc<Bans> {
        &self.bans
    }

    /// Whether all that is in force would survive a restart, as far as is known.
    pub fn is_durable(&self) -> bool {
        self.durable.load(Ordering::Acquire)
    }

    /// Puts a ban in force. When it returns Ok, every lookup sees it, also after a crash.
    ///
    /// # Errors
    /// It is in force and would not survive a restart, or it was refused.
    pub async fn add(&self, ban: Ban) -> Result<(), NotLogged> {
        let (done, answer) = oneshot::channel();
        match self.queue.try_send(Request { ban: ban.clone(), done }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.metrics.limits_reached.with_label_values(&["ban_log_queue"]).inc();
                return Err(NotLogged::Refused);
            }
            Err(TrySendError::Disconnected(_)) => return Err(self.add_unlogged(&ban)),
        }
        match tokio::time::timeout(self.disk_timeout, answer).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(NotLogged::InForceOnly),
            // The disk hangs, or the thread is gone. Should it come to this ban yet, it is put in force once more.
            Ok(Err(_)) | Err(_) => Err(self.add_unlogged(&ban)),
        }
    }

    fn add_unlogged(&self, ban: &Ban) -> NotLogged {
        tracing::error!("the log of purges does not answer: a purge is in force, but would not survive a restart");
        self.metrics.ban_log_failures.inc();
        self.durable.store(false, Ordering::Release);
        self.bans.add(ban);
        NotLogged::InForceOnly
    }
}

struct Thread {
    file: LogFile,
    bans: Arc<Bans>,
    durable: Arc<AtomicBool>,
}

impl Thread {
    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            match requests.recv_timeout(TEND_EVERY) {
                Ok(first) => {
                    let batch: Vec<Request> =
                        std::iter::once(first).chain(requests.try_iter().take(QUEUE_MAX)).collect();
                    let (bans, waiting): (Vec<Ban>, Vec<_>) = batch.into_iter().map(|r| (r.ban, r.done)).unzip();
                    let logged = self.file.commit(&self.bans, &bans);
                    self.note_durable();
                    // Whoever asked may have gone.
                    for done in waiting {
                        let _ = done.send(logged);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.file.tend(&self.bans);
                    self.note_durable();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn note_durable(&self) {
        self.durable.store(self.file.is_durable(&self.bans), Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
