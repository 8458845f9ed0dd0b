//! The writer's thread: takes records off the queue, writes lines, reopens the file after a rotation. It knows nothing of what
//! a line holds.

use super::{AccessRecord, Message};
use prometheus::IntCounter;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

const BUFFER_BYTES: usize = 64 * 1024;
/// How often the path is compared with the open file.
const ROTATION_CHECK: Duration = Duration::from_secs(1);

/// Where lines go.
pub(super) struct Output {
    /// None: standard output.
    path: Option<PathBuf>,
    sink: BufWriter<Box<dyn Write + Send>>,
    /// Device and inode of the open file.
    identity: Option<(u64, u64)>,
}

impl Output {
    pub(super) fn open(path: Option<PathBuf>) -> std::io::Result<Self> {
        let Some(path) = path else {
            let sink = BufWriter::with_capacity(BUFFER_BYTES, Box::new(std::io::stdout()) as Box<dyn Write + Send>);
            return Ok(Self { path: None, sink, identity: None });
        };
        let (file, identity) = open_file(&path)?;
        let sink = BufWriter::with_capacity(BUFFER_BYTES, Box::new(file) as Box<dyn Write + Send>);
        Ok(Self { path: Some(path), sink, identity: Some(identity) })
    }

    fn moved(&self) -> bool {
        let Some(path) = &self.path else { return false };
        let now = std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        now != self.identity
    }

    /// Keeps the old file where the path cannot be opened: lines in a renamed file are better than none.
    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        let _ = self.sink.flush();
        match open_file(path) {
            Ok((file, identity)) => {
                self.sink = BufWriter::with_capacity(BUFFER_BYTES, Box::new(file));
                self.identity = Some(identity);
            }
            Err(error) => tracing::error!(path = %path.display(), %error, "cannot reopen the access log"),
        }
    }
}

fn open_file(path: &PathBuf) -> std::io::Result<(File, (u64, u64))> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let found = file.metadata()?;
    Ok((file, (found.dev(), found.ino())))
}

/// Runs until every sender is gone, then flushes. A line that cannot be written (disk full, reader of the pipe gone) is
/// counted as dropped; the log goes on, and says so once for each spell of failures.
pub(super) fn run(
    queue: &Receiver<Message>,
    mut output: Output,
    format: fn(&AccessRecord) -> String,
    dropped: &IntCounter,
) {
    let mut checked_at = Instant::now();
    let mut failing = false;
    loop {
        let message = match queue.try_recv() {
            Ok(message) => Ok(message),
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => {
                // Nothing waits: what is buffered becomes visible now.
                let _ = output.sink.flush();
                queue.recv_timeout(ROTATION_CHECK)
            }
        };
        if checked_at.elapsed() >= ROTATION_CHECK {
            checked_at = Instant::now();
            if output.moved() {
                output.reopen();
            }
        }
        match message {
            Ok(Message::Record(record)) => {
                let mut line = format(&record);
                line.push('\n');
                match output.sink.write_all(line.as_bytes()) {
                    Ok(()) => failing = false,
                    Err(error) => {
                        dropped.inc();
                        if !std::mem::replace(&mut failing, true) {
                            tracing::error!(%error, "cannot write the access log");
                        }
                    }
                }
            }
            Ok(Message::Reopen) => output.reopen(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let _ = output.sink.flush();
}
