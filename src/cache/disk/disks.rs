//! Several disks as one: each key has its disk, by weighted rendezvous hashing, so each disk gets what its size deserves, and
//! adding one moves only what goes to it. A disk that fails loses only its own share; its keys go to no other, because
//! it would come back with what was removed meanwhile.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Beginning, Found, Log, LogSettings, LogStats, OpenError, ReadError, Record, Refusal, Ticket};
use crate::observe::Metrics;

#[derive(Debug)]
struct Disk {
    name: String,
    /// Why it could not be opened: its share is refused, and missed.
    log: Result<Log, String>,
    path_hash: u64,
    weight: f64,
}

#[derive(Debug)]
pub struct Disks {
    disks: Vec<Disk>,
}

impl Disks {
    /// Opens all. A disk that cannot be opened is left out until the next start, and said in the log.
    pub fn open(settings: Vec<LogSettings>, metrics: &Arc<Metrics>) -> Self {
        // Fixed seeds: the same keys on the same disks after a restart.
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        let open = |settings: LogSettings| {
            let (path_hash, weight) = (hasher.hash_one(&settings.path), settings.size_bytes as f64);
            let disk = settings.name.clone();
            let log = Log::open(settings, Arc::clone(metrics)).map_err(|error: OpenError| {
                tracing::error!(disk, %error, "a disk of the store cannot be opened");
                metrics.disk_state.with_label_values(&[disk.as_str(), "degraded"]).set(1);
                error.to_string()
            });
            Disk { name: disk, log, path_hash, weight }
        };
        Self { disks: settings.into_iter().map(open).collect() }
    }

    fn of(&self, key: u128) -> Result<&Log, Refusal> {
        let score = |disk: &Disk| {
            let hash = mix((key >> 64) as u64 ^ mix(key as u64 ^ disk.path_hash));
            // In (0, 1): the logarithm is negative, and the share in proportion to the weight.
            let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            -disk.weight / uniform.ln()
        };
        let chosen = self.disks.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
        chosen.and_then(|disk| disk.log.as_ref().ok()).ok_or(Refusal::Failed)
    }

    /// The disks that were opened.
    pub fn logs(&self) -> impl Iterator<Item = &Log> {
        self.disks.iter().filter_map(|disk| disk.log.as_ref().ok())
    }

    /// Which disks could not be opened, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.disks.iter().filter_map(|disk| Some((disk.name.as_str(), disk.log.as_ref().err()?.as_str())))
    }

    /// [`Log::epoch`], the largest of all. A disk that was away may have a smaller one: it has older versions only.
    pub fn epoch(&self) -> u64 {
        self.logs().map(Log::epoch).max().unwrap_or(0)
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
    /// As there; `Failed` where the key's disk could not be opened.
    pub fn offer(&self, record: Record) -> Result<Ticket, Refusal> {
        self.of(record.key)?.offer(record)
    }

    /// [`Log::offer_waiting`]
    ///
    /// # Errors
    /// As there; `Failed` where the key's disk could not be opened.
    pub async fn offer_waiting(&self, record: Record, deadline: Instant) -> Result<Ticket, Refusal> {
        self.of(record.key)?.offer_waiting(record, deadline).await
    }

    /// [`Log::replace_head`]
    ///
    /// # Errors
    /// As there; `Failed` where the key's disk could not be opened.
    pub fn replace_head(&self, key: u128, version: u64, ban_number: u64, head: Vec<u8>) -> Result<Ticket, Refusal> {
        self.of(key)?.replace_head(key, version, ban_number, head)
    }

    /// [`Log::remove`]
    ///
    /// # Errors
    /// As there; `Failed` where the key's disk could not be opened: what it holds may come back with it.
    pub fn remove(&self, key: u128, version: u64) -> Result<Ticket, Refusal> {
        self.of(key)?.remove(key, version)
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
