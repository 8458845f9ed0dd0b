//! The access log: one line for each response, written by a thread of its own.
//!
//! Parts: [`AccessRecord`] (what the edge knows about one exchange), `format` (a record as one line, redacted and escaped) and the
//! writer behind a bounded queue.
//!
//! Invariants: a request never waits for the log (a full queue drops the line and counts it); a line never holds a credential
//! or a control character, so nobody can forge another line; responses that failed are never sampled away.

mod format;
#[cfg(test)]
mod tests;
mod writer;

pub use format::{human, json};

use super::Metrics;
use crate::config;
use parking_lot::{Mutex, RwLock};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// Lines that may wait for the writer: a few megabytes at the longest.
const QUEUE_RECORDS_MAX: usize = 8192;

/// One exchange, raw: it holds what the client sent, and is redacted only when written. It must not be logged by any other way
/// (so it has no `Debug`).
pub struct AccessRecord {
    /// When the request's headers were read.
    pub time: SystemTime,
    /// None on unix sockets.
    pub client: Option<IpAddr>,
    pub method: String,
    /// `http` or `https`
    pub scheme: &'static str,
    pub host: String,
    /// Path and query as received.
    pub target: String,
    /// `HTTP/1.1`, `HTTP/2`
    pub protocol: &'static str,
    /// 0: the client left before there was one.
    pub status: u16,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// From the headers read to the last byte written.
    pub duration: Duration,
    /// From the headers read to the response's headers written.
    pub first_byte: Option<Duration>,
    pub site: Option<String>,
    /// What was asked for, as in the metrics' `class`.
    pub class: &'static str,
    /// What the cache did, as in the metrics' `cache`.
    pub cache: &'static str,
    /// The origin, if it was asked.
    pub origin: Option<OriginExchange>,
    pub trace_id: String,
    pub user_agent: Option<String>,
    pub referer: Option<String>,
    /// Why it failed; redacted like everything else.
    pub error: Option<String>,
}

/// The origin's part of an [`AccessRecord`].
pub struct OriginExchange {
    pub name: String,
    pub server: Option<String>,
    /// None: no answer.
    pub status: Option<u16>,
    /// From the request sent to the response's first byte.
    pub time: Option<Duration>,
}

pub(crate) enum Message {
    Record(Box<AccessRecord>),
    Reopen,
}

/// A running log. Shared by `Arc`; dropping it writes what is queued.
pub struct AccessLog {
    sender: RwLock<Option<SyncSender<Message>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<Metrics>,
    sample: f64,
}

impl AccessLog {
    /// Opens the file (or standard output) and starts the writer. None where the log is switched off.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or the thread not started.
    pub fn start(settings: &config::AccessLog, metrics: Arc<Metrics>) -> std::io::Result<Option<Self>> {
        if !settings.enabled {
            return Ok(None);
        }
        let output = writer::Output::open(settings.file.clone()).map_err(|error| {
            let file = settings.file.as_deref().unwrap_or(std::path::Path::new("standard output"));
            let text = format!("cannot open {}: {error}; check its folder and rights", file.display());
            std::io::Error::new(error.kind(), text)
        })?;
        let (sender, queue) = sync_channel(QUEUE_RECORDS_MAX);
        let format = match settings.format {
            config::AccessFormat::Json => json,
            config::AccessFormat::Human => human,
        };
        let dropped = metrics.access_log_dropped.clone();
        let writer = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer::run(&queue, output, format, &dropped))?;
        Ok(Some(Self {
            sender: RwLock::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
            metrics,
            sample: settings.sample,
        }))
    }

    /// Queues a record, unless it is sampled away. Never waits.
    pub fn record(&self, record: AccessRecord) {
        let failed = record.status >= 400 || record.status == 0 || record.error.is_some();
        if !failed && self.sample < 1.0 && fastrand::f64() >= self.sample {
            return;
        }
        self.send(Message::Record(Box::new(record)));
    }

    /// Closes the file and opens its path anew: for SIGHUP after a rotation. (The writer also notices by itself, within a
    /// second, that its file was renamed or removed.)
    pub fn reopen(&self) {
        self.send(Message::Reopen);
    }

    /// Writes what is queued and ends the writer; waits for it. Later records are dropped.
    pub fn close(&self) {
        drop(self.sender.write().take());
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the access log's writer panicked; its last lines are lost");
        }
    }

    fn send(&self, message: Message) {
        let sender = self.sender.read();
        let Some(sender) = sender.as_ref() else { return };
        if sender.try_send(message).is_err() {
            self.metrics.access_log_dropped.inc();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}
