//! What all parts of one log share: index, queue, segments, counters and state.
//!
//! Locks: each of these has its own, and none is held while another is taken, nor while the disk is touched; but for
//! `hand_over`, held while something leaves the index for the queue, so that nobody who asks for the oldest ban finds it in neither.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use prometheus::IntCounter;
use rustix::io::Errno;
use tokio::sync::{Semaphore, watch};

use super::device::Folder;
use super::index::{Index, Located};
use super::queue::{Queue, Work};
use super::segment::Segment;
use super::sketch::Sketch;
use super::types::Late;
use super::write_budget::WriteBudget;
use super::{LogSettings, LogState, LogStats, ReadError, Refusal};
use crate::observe::Metrics;

const TIER: &str = "disk";
const STATES: [&str; 4] = ["ok", "recovering", "degraded", "closed"];
/// A slot of 80 bytes, in tables that double.
const INDEX_BYTES_PER_OBJECT: u64 = 192;
const KEY_BYTES_TYPICAL: u64 = 256 << 10;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: LogSettings,
    pub(super) segment_bytes: u64,
    pub(super) epoch: u64,
    pub(super) late: Late,
    pub(super) folder: Box<dyn Folder>,
    pub(super) index: Index,
    pub(super) queue: Queue,
    pub(super) segments: RwLock<BTreeMap<u32, Arc<Segment>>>,
    pub(super) hand_over: RwLock<()>,
    pub(super) sketch: Sketch,
    pub(super) budget: Mutex<WriteBudget>,
    pub(super) reads: Arc<Semaphore>,
    pub(super) counters: Counters,
    /// Some older version of anything may still come to light.
    recovering: AtomicBool,
    state: Mutex<LogState>,
    /// `Some(clean)` when the writer has ended.
    pub(super) ended: watch::Sender<Option<bool>>,
}

/// The metric families, with this disk's label filled in where it pays; they are the statistics too.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) metrics: Arc<Metrics>,
    disk: String,
    /// Counted at each hit.
    read: IntCounter,
    reported_bytes: AtomicI64,
    reported_objects: AtomicI64,
}

impl Counters {
    fn refused(&self, refusal: Refusal) {
        self.metrics.disk_refused.with_label_values(&[&self.disk, refusal.label()]).inc();
    }

    pub(super) fn accepted(&self) {
        self.metrics.disk_accepted.with_label_values(&[&self.disk]).inc();
    }

    /// Accepted, and then not written.
    pub(super) fn lost(&self, objects: u64) {
        self.metrics.disk_lost.with_label_values(&[&self.disk]).inc_by(objects);
    }

    pub(super) fn error(&self, operation: &str) {
        self.metrics.disk_errors.with_label_values(&[self.disk.as_str(), operation]).inc();
    }

    pub(super) fn written(&self, kind: &str, bytes: u64) {
        self.metrics.disk_written_bytes.with_label_values(&[self.disk.as_str(), kind]).inc_by(bytes);
    }

    pub(super) fn read(&self, bytes: u64) {
        self.read.inc_by(bytes);
    }

    pub(super) fn reads_bound_reached(&self) {
        self.metrics.limits_reached.with_label_values(&["disk_reads"]).inc();
    }

    pub(super) fn evicted(&self, objects: u64) {
        self.metrics.cache_evictions.with_label_values(&[TIER]).inc_by(objects);
    }

    pub(super) fn queue_bytes(&self, bytes: u64) {
        self.metrics.disk_queue_bytes.with_label_values(&[&self.disk]).set(bytes as i64);
    }

    fn state(&self, state: &LogState) {
        for name in STATES {
            let gauge = self.metrics.disk_state.with_label_values(&[self.disk.as_str(), name]);
            gauge.set(i64::from(name == state.label()));
        }
    }
}

impl Shared {
    pub(super) fn new(
        settings: LogSettings,
        segment_bytes: u64,
        (epoch, late): (u64, Late),
        folder: Box<dyn Folder>,
        metrics: Arc<Metrics>,
    ) -> Self {
        metrics.cache_capacity_bytes.with_label_values(&[TIER]).add(settings.size_bytes as i64);
        let counters = Counters {
            read: metrics.disk_read_bytes.with_label_values(&[&settings.name]),
            metrics,
            disk: settings.name.clone(),
            reported_bytes: AtomicI64::new(0),
            reported_objects: AtomicI64::new(0),
        };
        counters.state(&LogState::Recovering);
        let (per_second, per_day) = (settings.write_bytes_per_second_max, settings.write_bytes_per_day_max);
        Self {
            segment_bytes,
            epoch,
            late,
            folder,
            index: Index::new(),
            queue: Queue::new(settings.queue_bytes_max),
            segments: RwLock::default(),
            hand_over: RwLock::default(),
            sketch: Sketch::new(settings.size_bytes / KEY_BYTES_TYPICAL),
            budget: Mutex::new(WriteBudget::new(per_second, per_day, Instant::now())),
            reads: Arc::new(Semaphore::new(settings.reads_max)),
            counters,
            recovering: AtomicBool::new(true),
            state: Mutex::new(LogState::Recovering),
            ended: watch::Sender::new(None),
            settings,
        }
    }

    pub(super) fn state(&self) -> LogState {
        self.state.lock().clone()
    }

    /// Why nothing can be written now.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match &*self.state.lock() {
            LogState::Ok | LogState::Recovering => None,
            LogState::Degraded { read_only: true, .. } => Some(Refusal::ReadOnly),
            LogState::Degraded { .. } => Some(Refusal::Failed),
            LogState::Closed => Some(Refusal::Closed),
        }
    }

    pub(super) fn refuse(&self, refusal: Refusal) -> Refusal {
        self.counters.refused(refusal);
        refusal
    }

    pub(super) fn set_state(&self, state: LogState) {
        let mut current = self.state.lock();
        if *current == state {
            return;
        }
        let disk = &self.settings.name;
        match &state {
            LogState::Degraded { reason, .. } => tracing::error!(disk, reason, "the disk store cannot be written"),
            LogState::Ok => tracing::info!(disk, objects = self.index.objects(), "the disk store is ready"),
            LogState::Recovering | LogState::Closed => {}
        }
        self.counters.state(&state);
        *current = state;
    }

    /// More objects than the index has memory for.
    pub(super) fn index_is_full(&self) -> bool {
        self.index.objects() * INDEX_BYTES_PER_OBJECT > self.settings.index_bytes_max
    }

    /// With what estimates how often a key was asked for.
    pub(super) fn index_bytes(&self) -> u64 {
        self.index.memory_bytes() + self.sketch.memory_bytes()
    }

    pub(super) fn recovering(&self) -> bool {
        self.recovering.load(Ordering::Acquire)
    }

    pub(super) fn recovered(&self) {
        self.recovering.store(false, Ordering::Release);
    }

    pub(super) fn segment(&self, sequence: u32) -> Option<Arc<Segment>> {
        self.segments.read().get(&sequence).cloned()
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.segments.read().values().map(|segment| segment.bytes).sum()
    }

    /// What came of reading a part of an object.
    pub(super) fn was_read<T>(
        &self,
        key: u128,
        object: &Located,
        result: io::Result<T>,
        bytes: fn(&T) -> usize,
    ) -> Result<T, ReadError> {
        result.inspect(|value| self.counters.read(bytes(value) as u64)).map_err(|error| {
            tracing::warn!(disk = self.settings.name, %error, "an object cannot be read and is dropped");
            self.drop_damaged(key, object);
            ReadError::Damaged
        })
    }

    /// An object turned out damaged: it is gone, and stays gone.
    pub(super) fn drop_damaged(&self, key: u128, object: &Located) {
        self.counters.error("read");
        let _hand_over = self.hand_over.read();
        if self.index.remove(key, object.version, true).is_some() {
            let removal = Work::Removal { key, version: object.version, ban_number: object.ban_number };
            if self.queue.push(removal).is_err() {
                self.index.leave_queue(key);
            }
        }
    }

    /// Brings the gauges up to date.
    pub(super) fn report(&self) {
        let counters = &self.counters;
        counters.queue_bytes(self.queue.filled().0);
        let (bytes, objects) = (self.index.bytes() as i64, self.index.objects() as i64);
        self.set_contents(bytes, objects);
        let index_bytes = self.index_bytes() as i64;
        counters.metrics.disk_index_bytes.with_label_values(&[&counters.disk]).set(index_bytes);
    }

    /// The tier's gauges are sums over disks.
    fn set_contents(&self, bytes: i64, objects: i64) {
        let counters = &self.counters;
        let bytes_before = counters.reported_bytes.swap(bytes, Ordering::Relaxed);
        let objects_before = counters.reported_objects.swap(objects, Ordering::Relaxed);
        counters.metrics.cache_bytes.with_label_values(&[TIER]).add(bytes - bytes_before);
        counters.metrics.cache_objects.with_label_values(&[TIER]).add(objects - objects_before);
    }

    pub(super) fn stats(&self) -> LogStats {
        let (queue_bytes, queue_entries) = self.queue.filled();
        let (metrics, disk) = (&self.counters.metrics, self.counters.disk.as_str());
        let written = |kind| metrics.disk_written_bytes.with_label_values(&[disk, kind]).get();
        let errors = |operation| metrics.disk_errors.with_label_values(&[disk, operation]).get();
        let refused = |refusal: &Refusal| {
            let count = metrics.disk_refused.with_label_values(&[disk, refusal.label()]).get();
            (count > 0).then_some((refusal.label(), count))
        };
        LogStats {
            disk: disk.to_owned(),
            objects: self.index.objects(),
            bytes: self.index.bytes(),
            file_bytes: self.file_bytes(),
            bytes_max: self.settings.size_bytes,
            index_bytes: self.index_bytes(),
            queue_bytes,
            queue_bytes_max: self.settings.queue_bytes_max,
            queue_entries,
            accepted: metrics.disk_accepted.with_label_values(&[disk]).get(),
            refused: Refusal::ALL.iter().filter_map(refused).collect(),
            lost: metrics.disk_lost.with_label_values(&[disk]).get(),
            written_bytes: written("new"),
            reinserted_bytes: written("reinserted"),
            read_bytes: metrics.disk_read_bytes.with_label_values(&[disk]).get(),
            read_errors: errors("read"),
            write_errors: errors("write"),
            damaged_segments: errors("recover"),
            write_bytes_per_second_max: self.settings.write_bytes_per_second_max,
            write_bytes_per_day_max: self.settings.write_bytes_per_day_max,
            state: self.state(),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.set_contents(0, 0);
        let capacity = self.counters.metrics.cache_capacity_bytes.with_label_values(&[TIER]);
        capacity.sub(self.settings.size_bytes as i64);
    }
}

/// A failure in words for operators, and whether the disk may only be read.
pub(super) fn explain(error: &io::Error) -> (String, bool) {
    let errno = Errno::from_io_error(error);
    let read_only = matches!(errno, Some(Errno::ROFS | Errno::ACCESS | Errno::PERM));
    let advice = match errno {
        Some(Errno::NOSPC | Errno::DQUOT) => "the disk is full; free space, or lower cache.disk.size",
        Some(Errno::NOENT) => "the folder is gone; mount the disk again, it is tried until then",
        Some(Errno::ROFS) => "the disk is read-only; its errors are in the kernel's log",
        Some(Errno::ACCESS | Errno::PERM) => "the folder belongs to somebody else; give it to this user",
        Some(Errno::MFILE | Errno::NFILE) => "too many open files; raise the limit (ulimit -n, LimitNOFILE)",
        Some(Errno::IO) => "the disk fails; its errors are in the kernel's log",
        _ => "writing failed",
    };
    (format!("{advice} ({error})"), read_only)
}
