//! What a child writes, read from all its outputs by one thread, until they end or the child stands still.
//!
//! Invariants: no output waits for another one to be read; what is kept of standard error is bounded; a child that neither writes
//! nor uses the processor for [`HUNG_AFTER`] is hung: its disk or its device does not answer, or somebody stopped it.

use super::failure::Failure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io::{ErrorKind, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ChildStderr, ChildStdout};
use std::time::{Duration, Instant};

const HUNG_AFTER: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
const READ_BYTES: usize = 64 * 1024;
/// Kept of what a child says on standard error.
const SAID_BYTES_MAX: usize = 4096;

/// The outputs of one child; see the module.
#[derive(Debug)]
pub struct Reading {
    pid: u32,
    /// Of each output its end, while it is open; the last is standard error.
    ends: Vec<Option<File>>,
    said: Vec<u8>,
    /// When it last did something, and its processor time by then.
    alive: (Instant, u64),
}

impl Reading {
    pub fn new(pid: u32, stdout: Option<ChildStdout>, more: Vec<PipeReader>, stderr: Option<ChildStderr>) -> Self {
        let end = |end: OwnedFd| File::from(end);
        let more = more.into_iter().map(|reader| Some(end(reader.into())));
        let ends = std::iter::once(stdout.map(|stdout| end(stdout.into())));
        let ends = ends.chain(more).chain([stderr.map(|stderr| end(stderr.into()))]).collect();
        Self { pid, ends, said: Vec::new(), alive: (Instant::now(), 0) }
    }

    /// Until all outputs are closed, `take` says no, or the child hangs.
    pub fn read(&mut self, take: &mut impl FnMut(usize, &[u8]) -> Result<(), String>) -> Result<(), Failure> {
        let mut buffer = vec![0; READ_BYTES];
        while self.ends.iter().any(Option::is_some) {
            let ready = self.wait()?;
            if ready.is_empty() && self.is_hung() {
                return Err(Failure::Machine("it stood still".to_owned()));
            }
            for which in ready {
                let Some(end) = &mut self.ends[which] else { continue };
                match end.read(&mut buffer) {
                    Ok(0) => self.ends[which] = None,
                    Ok(length) => {
                        self.alive.0 = Instant::now();
                        if which + 1 == self.ends.len() {
                            let room = SAID_BYTES_MAX.saturating_sub(self.said.len());
                            // The rest is forgotten, so that a talkative child does not stand still.
                            self.said.extend_from_slice(&buffer[..length.min(room)]);
                        } else {
                            take(which, &buffer[..length]).map_err(Failure::Failed)?;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(Failure::Machine(format!("its output cannot be read: {error}"))),
                }
            }
        }
        Ok(())
    }

    /// What it said on standard error.
    pub fn said(self) -> String {
        String::from_utf8_lossy(&self.said).into_owned()
    }

    /// The outputs that have something, or have ended; none after a while.
    fn wait(&self) -> Result<Vec<usize>, Failure> {
        let open = || self.ends.iter().enumerate().filter_map(|(which, end)| Some((which, end.as_ref()?)));
        let mut polled: Vec<PollFd<'_>> =
            open().map(|(_, end)| PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN)).collect();
        match poll(&mut polled, Some(&LOOK_INTERVAL)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::Machine(format!("its output cannot be waited for: {error}"))),
        }
        let ready = open().zip(&polled).filter(|(_, polled)| !polled.revents().is_empty());
        Ok(ready.map(|((which, _), _)| which).collect())
    }

    fn is_hung(&mut self) -> bool {
        let used = processor_ticks(self.pid).unwrap_or(self.alive.1);
        if used != self.alive.1 {
            self.alive = (Instant::now(), used);
        }
        self.alive.0.elapsed() >= HUNG_AFTER
    }
}

/// Of a process and its ended children (proc_pid_stat(5)). It is not reaped yet: its number is its own.
fn processor_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything: what is counted begins after its bracket, with field 3.
    let fields = stat.rsplit_once(") ")?.1.split(' ');
    Some(fields.skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum())
}
