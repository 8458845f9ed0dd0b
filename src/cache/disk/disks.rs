//! Several disks as one: each key has its disk, by weighted rendezvous hashing, so each disk gets what its size deserves, and
//! adding one moves only what goes to it. A disk that fails loses only its own share; its keys go to no other, because
//! it would come back with what was removed meanwhile.
//!
//! A disk that cannot be opened is away, until it can be ([`Disks::open_away`]): its share is refused, and missed. What would have been
//! written or removed there is noted, so that what it comes back with is not older than what was given since ([`Changed`]).

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::types::Late;
use super::{Beginning, Found, Log, LogSettings, LogStats, OpenError, ReadError, Record, Refusal, Ticket};
use crate::observe::Metrics;

/// Versions begin with an epoch, which is a number of starts; so many bits are enough for the fills of each.
const VERSION_BITS: u32 = 40;
/// Keys noted of a disk that is away; with more than these, it comes back empty.
const CHANGED_MAX: usize = 65_536;

/// The first version of an epoch.
pub(in crate::cache) fn first_version(epoch: u64) -> u64 {
    (epoch << VERSION_BITS) + 1
}

pub(super) fn epoch_of(version: u64) -> u64 {
    version >> VERSION_BITS
}

/// Keys of which a disk that is away may have something that is no longer true.
#[derive(Debug, Default)]
enum Changed {
    #[default]
    None,
    Keys(HashSet<u128, ahash::RandomState>),
    /// Too many.
    Any,
}

impl Changed {
    fn add(&mut self, key: u128) {
        match self {
            Self::None => *self = Self::Keys(HashSet::from_iter([key])),
            Self::Keys(keys) if keys.len() >= CHANGED_MAX && !keys.contains(&key) => *self = Self::Any,
            Self::Keys(keys) => drop(keys.insert(key)),
            Self::Any => {}
        }
    }
}

#[derive(Debug)]
struct Away {
    reason: String,
    changed: Changed,
}

#[derive(Debug)]
struct Disk {
    settings: LogSettings,
    /// None: it is away.
    log: OnceLock<Log>,
    /// Locked while it is opened for all to see: whoever finds it away notes what changes there before it comes back, or finds it.
    away: Mutex<Option<Away>>,
    path_hash: u64,
    weight: f64,
}

impl Disk {
    /// What happens to `key` meanwhile makes untrue what it may have of it.
    fn changing(&self, key: u128) -> Result<&Log, Refusal> {
        if let Some(log) = self.log.get() {
            return Ok(log);
        }
        match &mut *self.away.lock() {
            Some(away) => away.changed.add(key),
            None => return self.log.get().ok_or(Refusal::Failed),
        }
        Err(Refusal::Failed)
    }
}

#[derive(Debug)]
pub struct Disks {
    disks: Vec<Disk>,
    metrics: Arc<Metrics>,
    /// Versions that this process gives begin with these, the latest last.
    epochs: Mutex<Vec<u64>>,
}

impl Disks {
    /// Opens all. A disk that cannot be opened is away, and said in the log.
    pub fn open(settings: Vec<LogSettings>, metrics: &Arc<Metrics>) -> Self {
        // Fixed seeds: the same keys on the same disks after a restart.
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let open = |settings: LogSettings| {
            let (path_hash, weight) = (hasher.hash_one(&settings.path), settings.size_bytes as f64);
            let disk = Disk { settings, log: OnceLock::new(), away: Mutex::default(), path_hash, weight };
            match Log::open(disk.settings.clone(), Arc::clone(metrics)) {
                Ok(log) => drop(disk.log.set(log)),
                Err(error) => {
                    let name = disk.settings.name.as_str();
                    tracing::error!(disk = name, %error, "a disk of the store cannot be opened; it is tried again");
                    metrics.disk_state.with_label_values(&[name, "degraded"]).set(1);
                    *disk.away.lock() = Some(Away { reason: error.to_string(), changed: Changed::None });
                }
            }
            disk
        };
        let disks: Vec<Disk> = settings.into_iter().map(open).collect();
        let epoch = disks.iter().filter_map(|disk| disk.log.get()).map(Log::epoch).max().unwrap_or(0);
        let all = Self { disks, metrics: Arc::clone(metrics), epochs: Mutex::new(vec![epoch]) };
        all.remember_epoch(epoch);
        all
    }

    fn remember_epoch(&self, epoch: u64) {
        for log in self.logs().filter(|log| log.epoch() < epoch) {
            if let Err(error) = log.remember_epoch(epoch) {
                tracing::warn!(%error, "a disk of the store cannot note how often the store was opened");
            }
        }
    }

    /// Tries to open the disks that are away. `before`: called with the epoch that versions begin with from then on, before anything is
    /// found there; it says of which keys there is something newer elsewhere. Blocks as [`Log::open`] does.
    pub fn open_away(&self, before: impl Fn(u64) -> Vec<u128>) {
        for disk in self.disks.iter().filter(|disk| disk.log.get().is_none()) {
            if let Err(error) = self.open_one(disk, &before)
                && let Some(away) = &mut *disk.away.lock()
            {
                away.reason = error.to_string();
            }
        }
    }

    fn open_one(&self, disk: &Disk, before: &impl Fn(u64) -> Vec<u128>) -> Result<(), OpenError> {
        let emptied = matches!(&*disk.away.lock(), Some(Away { changed: Changed::Any, .. }));
        let late = Late { epoch_min: self.epoch(), epochs_foreign: self.epochs.lock().clone(), emptied };
        let log = Log::open_late(disk.settings.clone(), Arc::clone(&self.metrics), late)?;
        self.epochs.lock().push(log.epoch());
        let mut changed = before(log.epoch());
        let mut away = disk.away.lock();
        if let Some(away) = away.as_mut().filter(|_| !emptied) {
            if let Changed::Keys(keys) = &away.changed {
                changed.extend(keys);
            }
            let is_ours = |key: &&u128| self.disk(**key).is_some_and(|of| std::ptr::eq(of, disk));
            let too_many = matches!(away.changed, Changed::Any)
                || changed.iter().filter(is_ours).any(|key| log.remove(*key, u64::MAX - 1).is_err());
            if too_many {
                // It is opened, emptied, next time.
                away.changed = Changed::Any;
                return Ok(());
            }
        }
        let epoch = log.epoch();
        tracing::info!(disk = disk.settings.name, "a disk of the store is back");
        drop(disk.log.set(log));
        *away = None;
        drop(away);
        self.remember_epoch(epoch);
        Ok(())
    }

    fn disk(&self, key: u128) -> Option<&Disk> {
        let score = |disk: &Disk| {
            let hash = mix((key >> 64) as u64 ^ mix(key as u64 ^ disk.path_hash));
            // In (0, 1): the logarithm is negative, and the share in proportion to the weight.
            let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            -disk.weight / uniform.ln()
        };
        self.disks.iter().max_by(|a, b| score(a).total_cmp(&score(b)))
    }

    fn of(&self, key: u128) -> Result<&Log, Refusal> {
        self.disk(key).and_then(|disk| disk.log.get()).ok_or(Refusal::Failed)
    }

    /// As [`Self::of`], for what makes untrue what the disk has of it.
    fn changing(&self, key: u128) -> Result<&Log, Refusal> {
        self.disk(key).ok_or(Refusal::Failed)?.changing(key)
    }

    /// The disks that were opened.
    pub fn logs(&self) -> impl Iterator<Item = &Log> {
        self.disks.iter().filter_map(|disk| disk.log.get())
    }

    /// Which disks could not be opened yet, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&str, String)> {
        self.disks.iter().filter_map(|disk| {
            let away = disk.away.lock();
            Some((disk.settings.name.as_str(), away.as_ref()?.reason.clone()))
        })
    }

    /// What the versions of this process begin with now: [`Log::epoch`], the largest of all that were opened.
    pub fn epoch(&self) -> u64 {
        self.epochs.lock().iter().copied().max().unwrap_or(0)
    }

    /// [`Log::find`]
    pub fn find(&self, key: u128) -> Option<Found> {
        self.of(key).ok()?.find(key)
    }

    /// [`Log::peek`]
    pub fn peek(&self, key: u128) -> Option<Found> {
        self.of(key).ok()?.peek(key)
    }

    /// [`Log::lacks_with_room`]
    pub fn lacks_with_room(&self, key: u128) -> bool {
        self.of(key).is_ok_and(|log| log.lacks_with_room(key))
    }

    /// Memory of the indexes.
    pub fn index_bytes(&self) -> u64 {
        self.logs().map(Log::index_bytes).sum()
    }

    /// [`Log::asked_for`]
    pub fn asked_for(&self, key: u128) {
        if let Ok(log) = self.of(key) {
            log.asked_for(key);
        }
    }

    /// [`Log::read_head`]
    ///
    /// # Errors
    /// As there.
    pub async fn read_head(&self, found: &Found) -> Result<Vec<u8>, ReadError> {
        self.of(found.key).map_err(|_| ReadError::Gone)?.read_head(found).await
    }

    /// [`Log::read_beginning`]
    ///
    /// # Errors
    /// As there.
    pub async fn read_beginning<B>(&self, found: &Found, buffer: B) -> Result<Beginning<B>, ReadError>
    where
        B: AsMut<[u8]> + Send + 'static,
    {
        self.of(found.key).map_err(|_| ReadError::Gone)?.read_beginning(found, buffer).await
    }

    /// [`Log::read_chunk`]
    ///
    /// # Errors
    /// As there.
    pub async fn read_chunk<B>(&self, found: &Found, offset: u64, buffer: B) -> Result<(Range<usize>, B), ReadError>
    where
        B: AsMut<[u8]> + Send + 'static,
    {
        self.of(found.key).map_err(|_| ReadError::Gone)?.read_chunk(found, offset, buffer).await
    }

    /// [`Log::read`]
    ///
    /// # Errors
    /// As there.
    pub async fn read(&self, found: &Found, offset: u64, bytes_max: usize) -> Result<Bytes, ReadError> {
        self.of(found.key).map_err(|_| ReadError::Gone)?.read(found, offset, bytes_max).await
    }

    /// [`Log::read_chunks`]
    ///
    /// # Errors
    /// As there.
    pub async fn read_chunks(&self, found: &Found, offset: u64, chunks_max: u64) -> Result<Vec<Bytes>, ReadError> {
        self.of(found.key).map_err(|_| ReadError::Gone)?.read_chunks(found, offset, chunks_max).await
    }

    /// [`Log::offer`]
    ///
    /// # Errors
    /// As there; `Failed` where the key's disk is away.
    pub fn offer(&self, record: Record) -> Result<Ticket, Refusal> {
        self.changing(record.key)?.offer(record)
    }

    /// [`Log::offer_waiting`]
    ///
    /// # Errors
    /// As there; `Failed` where the key's disk is away.
    pub async fn offer_waiting(&self, record: Record, deadline: Instant) -> Result<Ticket, Refusal> {
        self.changing(record.key)?.offer_waiting(record, deadline).await
    }

    /// [`Log::replace_head`]
    ///
    /// # Errors
    /// As there; `Failed` where the key's disk is away.
    pub fn replace_head(&self, key: u128, version: u64, ban_number: u64, head: Vec<u8>) -> Result<Ticket, Refusal> {
        self.changing(key)?.replace_head(key, version, ban_number, head)
    }

    /// [`Log::remove`]
    ///
    /// # Errors
    /// As there; `Failed` where the key's disk is away: what it holds of it does not come back with it.
    pub fn remove(&self, key: u128, version: u64) -> Result<Ticket, Refusal> {
        self.changing(key)?.remove(key, version)
    }

    /// [`Log::oldest_ban_number`] of all. While a disk is missing nothing may be forgotten: it comes back with what it held.
    pub fn oldest_ban_number(&self) -> Option<u64> {
        if self.failures().next().is_some() {
            return Some(0);
        }
        self.logs().filter_map(Log::oldest_ban_number).min()
    }

    /// Whether any index is still being rebuilt.
    pub fn recovering(&self) -> bool {
        self.logs().any(Log::recovering)
    }

    pub fn stats(&self) -> Vec<LogStats> {
        self.logs().map(Log::stats).collect()
    }

    /// [`Log::body_bytes_max`] of the disk with the smallest.
    pub fn body_bytes_max(&self) -> u64 {
        self.logs().map(Log::body_bytes_max).min().unwrap_or(0)
    }

    /// All files together, at most.
    pub fn bytes_max(&self) -> u64 {
        self.logs().map(Log::disk_bytes).sum()
    }

    /// [`Log::close`] for all at once. `true` if all of it is safe.
    pub async fn close(&self) -> bool {
        futures_util::future::join_all(self.logs().map(Log::close)).await.into_iter().all(|clean| clean)
    }
}

/// The finaliser of SplitMix64.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}
