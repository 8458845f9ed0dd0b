//! Letting go of what was purged, and then of the bans themselves: in the background, one shard of the store at a time.
//!
//! Nothing waits for it: lookups ask the bans. What is gone is removed, what was softly purged is marked stale, and once the whole
//! store was looked at, bans that can reach nothing any more are forgotten. Running fills are left alone; their bans stay for
//! them.

use std::sync::Arc;
use std::time::Duration;

use super::bans::{Stamp, Verdict};
use super::meta;
use super::store::{MemoryStore, Object, Shard};

/// Between two passes, so that many purges cost one.
const PAUSE: Duration = Duration::from_secs(1);
/// The next pass while bans are left, for the sake of fills that were running.
const PAUSE_FOR_FILLS: Duration = Duration::from_secs(10);

impl MemoryStore {
    /// Sweeps after purges, for as long as it is polled.
    pub async fn keep_sweeping(&self) {
        loop {
            self.bans().added().await;
            while !self.sweep().await {
                // The next purge need not wait that long.
                let _ = tokio::time::timeout(PAUSE_FOR_FILLS, self.bans().added()).await;
                tokio::time::sleep(PAUSE).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One pass over everything. False: bans are left.
    pub(super) async fn sweep(&self) -> bool {
        let through = self.bans().sweep_begins();
        let mut prefixes_through = through;
        for shard in self.shards() {
            for (key, object, verdict) in self.judge(shard, &mut prefixes_through) {
                match verdict {
                    Verdict::Gone => {
                        self.forget_object(key, object.body.version);
                        self.forget_version(object.body.version);
                    }
                    Verdict::Stale(at) => self.settle_stale(key, &object, at, through),
                    Verdict::Clear => {}
                }
            }
            tokio::task::yield_now().await;
        }
        self.bans().prune(through, prefixes_through)
    }

    /// The objects of a shard that are not clear. `prefixes_through` is lowered for those that other URLs may ask for.
    fn judge(&self, shard: &Shard, prefixes_through: &mut u64) -> Vec<(u128, Object, Verdict)> {
        let shard = shard.read();
        let objects = shard.iter().filter_map(|(key, slot)| Some((*key, slot.object.as_ref()?)));
        let judged = objects.filter_map(|(key, object)| match self.bans().verdict(&object.stamp) {
            verdict @ (Verdict::Clear | Verdict::Stale(_)) => {
                *prefixes_through = object.stamp.aliases_from().unwrap_or(u64::MAX).min(*prefixes_through);
                (verdict != Verdict::Clear).then(|| (key, object.clone(), verdict))
            }
            Verdict::Gone => Some((key, object.clone(), Verdict::Gone)),
        });
        judged.collect()
    }

    /// Marks an object stale, unless it was revalidated or replaced meanwhile.
    fn settle_stale(&self, key: u128, judged: &Object, at: std::time::SystemTime, through: u64) {
        let mut shard = self.shard(key).write();
        let object = shard.get_mut(&key).and_then(|slot| slot.object.as_mut());
        let Some(object) = object.filter(|object| Arc::ptr_eq(&object.stamp, &judged.stamp)) else { return };
        let mut head = meta::copy(&object.meta);
        head.expire_at(at);
        object.meta = Arc::new(head);
        let settled: Stamp = object.stamp.settled(through);
        object.stamp = Arc::new(settled);
    }
}
