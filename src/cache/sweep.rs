//! Letting go of what was purged, and then of the bans themselves: in the background, one shard of the store at a time.
//!
//! Nothing waits for it: lookups ask the bans. What is gone is removed, what was softly purged is marked stale, and once the whole
//! store was looked at, bans that can reach nothing any more are forgotten. Running fills are left alone; their bans stay for
//! them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::bans::{Stamp, Verdict};
use super::meta;
use super::store::{MemoryStore, Shard};

/// Between two passes, so that many purges cost one.
const PAUSE: Duration = Duration::from_secs(1);
/// The next pass while bans are left, for the sake of fills that were running.
const PAUSE_FOR_FILLS: Duration = Duration::from_secs(10);
/// Looked at before other tasks have their turn.
const OBJECTS_AT_ONCE: usize = 4096;

impl MemoryStore {
    /// Sweeps after purges, for as long as it is polled.
    pub async fn keep_sweeping(&self) {
        loop {
            self.bans().added().await;
            while !self.sweep().await {
                self.tell_bans_of_disks();
                // The next purge need not wait that long.
                let _ = tokio::time::timeout(PAUSE_FOR_FILLS, self.bans().added()).await;
                tokio::time::sleep(PAUSE).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One pass over everything. False: bans are left.
    pub(super) async fn sweep(&self) -> bool {
        let pass = self.bans().sweep_begins();
        let through = pass.judged_through;
        let mut prefixes_through = through;
        for shard in self.shards() {
            for objects in stamps(shard).chunks(OBJECTS_AT_ONCE) {
                for (key, version, stamp) in objects {
                    match self.bans().verdict(stamp) {
                        Verdict::Gone => {
                            self.forget_object(*key, *version);
                            self.forget_version(*version);
                            self.remove_below_up_to(*key, *version);
                            continue;
                        }
                        Verdict::Stale(at) => self.settle_stale(*key, stamp, at, through),
                        Verdict::Clear => {}
                    }
                    prefixes_through = stamp.aliases_from().unwrap_or(u64::MAX).min(prefixes_through);
                }
                tokio::task::yield_now().await;
            }
        }
        self.bans().prune(pass, prefixes_through)
    }

    /// Marks an object stale, unless it was revalidated or replaced meanwhile.
    fn settle_stale(&self, key: u128, judged: &Arc<Stamp>, at: SystemTime, through: u64) {
        let mut shard = self.shard(key).write();
        let object = shard.get_mut(&key).and_then(|slot| slot.object.as_mut());
        let Some(object) = object.filter(|object| Arc::ptr_eq(&object.stamp, judged)) else { return };
        let mut head = meta::copy(&object.meta);
        head.expire_at(at);
        object.meta = Arc::new(head);
        object.stamp = Arc::new(object.stamp.settled(through));
    }
}

/// What is in a shard now: lookups wait for no more than the copying.
fn stamps(shard: &Shard) -> Vec<(u128, u64, Arc<Stamp>)> {
    let shard = shard.read();
    let objects = shard.iter().filter_map(|(key, slot)| Some((*key, slot.object.as_ref()?)));
    objects.map(|(key, object)| (key, object.body.version, Arc::clone(&object.stamp))).collect()
}
