//! Jobs: which are running, who waits for them, what they made so far.
//!
//! Invariants: identical jobs are one; so many run at once and so many wait, never more; a job nobody waits for is ended; what a
//! job made is kept a moment after its last reader left, for a player that asks for the head and then for the segment.
//! A failed job is forgotten at once: the next request tries anew.

use super::super::protocol::Job;
use super::child::{Failure, KillOnDrop};
use super::segment::{Sink, Tools, make};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// How long a job goes on, and a finished one is kept, with nobody waiting.
const LINGER: Duration = Duration::from_secs(3);
/// From its start to its end; its bytes have bounds of their own.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Finished jobs kept for their linger.
const FINISHED_MAX: usize = 16;

/// What a job made so far.
#[derive(Debug, Default)]
pub struct Output {
    pub init: Option<Bytes>,
    pub fragments: Vec<Bytes>,
    pub end: Option<Result<(), String>>,
}

#[derive(Debug)]
pub struct Jobs {
    tools: Arc<Tools>,
    slots: Semaphore,
    unfinished_max: usize,
    table: Mutex<HashMap<Job, Arc<Running>>>,
}

#[derive(Debug)]
struct Running {
    output: watch::Sender<Output>,
    waiters: watch::Sender<usize>,
}

/// Somebody who waits for a job; the job may end when the last one is dropped.
#[derive(Debug)]
pub struct Waiter {
    running: Arc<Running>,
    pub output: watch::Receiver<Output>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.running.waiters.send_modify(|waiters| *waiters -= 1);
    }
}

/// All slots are taken and the queue is full.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

impl Jobs {
    /// `slots` at once, and `queue` that wait for one.
    pub fn new(tools: Arc<Tools>, slots: usize, queue: usize) -> Self {
        Self { tools, slots: Semaphore::new(slots), unfinished_max: slots + queue, table: Mutex::default() }
    }

    /// Joins the job that is there, or begins it.
    pub fn join(self: &Arc<Self>, job: Job) -> Result<Waiter, Busy> {
        let mut table = self.table.lock();
        if let Some(running) = table.get(&job) {
            return Ok(Waiter::of(running));
        }
        let ended = |running: &Running| running.output.borrow().end.is_some();
        let finished = table.values().filter(|running| ended(running)).count();
        if table.len() - finished >= self.unfinished_max {
            return Err(Busy);
        }
        if finished >= FINISHED_MAX {
            table.retain(|_, running| !ended(running) || *running.waiters.borrow() > 0);
        }
        let running =
            Arc::new(Running { output: watch::Sender::new(Output::default()), waiters: watch::Sender::new(0) });
        table.insert(job.clone(), Arc::clone(&running));
        let waiter = Waiter::of(&running);
        drop(table);
        tokio::spawn(Arc::clone(self).keep(job, running));
        Ok(waiter)
    }

    /// A job from its beginning until nothing of it is kept.
    async fn keep(self: Arc<Self>, job: Job, running: Arc<Running>) {
        let slot = tokio::select! {
            slot = self.slots.acquire() => slot,
            () = self.left(&job, &running) => return,
        };
        let kill = KillOnDrop::default();
        let sink = Sink::new(&running.output);
        let (tools, making, killing) = (Arc::clone(&self.tools), job.clone(), kill.share());
        let mut made = tokio::task::spawn_blocking(move || make(&tools, &making, &killing, &sink));
        let ended = tokio::select! {
            ended = &mut made => ended,
            result = timeout(TIME_MAX, self.left(&job, &running)) => {
                kill.share().now();
                let ended = made.await;
                if result.is_ok() {
                    return;
                }
                ended
            }
        };
        drop(slot);
        let end = match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Failure::Failed(reason))) => Err(reason),
            Ok(Err(Failure::Killed)) => Err("it took too long".to_owned()),
            Err(_) => Err("the job panicked".to_owned()),
        };
        if let Err(reason) = &end {
            tracing::warn!(wanted = ?job.wanted, reason, "a segment could not be made");
            self.table.lock().remove(&job);
        }
        let failed = end.is_err();
        running.output.send_modify(|output| output.end = Some(end));
        if !failed {
            self.left(&job, &running).await;
        }
    }

    /// Until nobody waits for a while; then the job is out of the table.
    async fn left(&self, job: &Job, running: &Arc<Running>) {
        let mut waiters = running.waiters.subscribe();
        loop {
            // The sender lives as long as `running`.
            let _ = waiters.wait_for(|waiters| *waiters == 0).await;
            if timeout(LINGER, waiters.wait_for(|waiters| *waiters > 0)).await.is_ok() {
                continue;
            }
            // Joining takes the same lock: nobody is added in between.
            let mut table = self.table.lock();
            if *running.waiters.borrow() == 0 {
                if table.get(job).is_some_and(|there| Arc::ptr_eq(there, running)) {
                    table.remove(job);
                }
                return;
            }
        }
    }
}

impl Waiter {
    fn of(running: &Arc<Running>) -> Self {
        running.waiters.send_modify(|waiters| *waiters += 1);
        Self { running: Arc::clone(running), output: running.output.subscribe() }
    }
}
