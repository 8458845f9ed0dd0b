//! What is being offered to the disks now, and whether its key was removed meanwhile.
//!
//! An offer may wait for room in a queue, or come from an object that has just left RAM: a removal in that time finds the object
//! nowhere. So it marks the key here, and the offer takes back what it has brought. Invariant: a removal either sees what was offered
//! below, or the offer sees the removal.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::disk::Disks;

#[derive(Debug, Default)]
struct Keys(HashMap<u128, Running, ahash::RandomState>);

#[derive(Debug, Default)]
struct Running {
    offers: u32,
    removed: bool,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Offers(Arc<Mutex<Keys>>);

impl Offers {
    /// From before the object could be removed from where it is, until this is dropped.
    pub(super) fn begin(&self, disks: &Arc<Disks>, key: u128, version: u64) -> Offering {
        self.0.lock().0.entry(key).or_default().offers += 1;
        Offering { offers: self.clone(), disks: Arc::clone(disks), key, version }
    }

    /// The key is removed: what is offered of it is not to stay.
    pub(super) fn remove(&self, key: u128) {
        if let Some(running) = self.0.lock().0.get_mut(&key) {
            running.removed = true;
        }
    }
}

/// One object on its way down.
#[derive(Debug)]
pub(in crate::cache) struct Offering {
    offers: Offers,
    disks: Arc<Disks>,
    key: u128,
    version: u64,
}

impl Drop for Offering {
    fn drop(&mut self) {
        let mut keys = self.offers.0.lock();
        let Some(running) = keys.0.get_mut(&self.key) else { return };
        running.offers -= 1;
        let removed = running.removed;
        if running.offers == 0 {
            keys.0.remove(&self.key);
        }
        drop(keys);
        if removed {
            // Refused, it is counted there.
            let _ = self.disks.remove(self.key, self.version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::disk::{LogSettings, Record};
    use crate::config::{Disk, DiskAdmission};
    use crate::observe::Metrics;

    fn disks(folder: &std::path::Path) -> Arc<Disks> {
        let disk = Disk {
            path: folder.to_owned(),
            size_bytes: 4 << 20,
            write_bytes_per_day_max: None,
            write_bytes_per_second_max: None,
            admit: DiskAdmission::All,
        };
        Arc::new(Disks::open(vec![LogSettings::new(&disk, 0)], &Arc::new(Metrics::new())))
    }

    fn record(key: u128) -> Record {
        Record { key, version: 1, ban_number: 0, head: b"head".to_vec(), body: vec!["body".into()] }
    }

    #[tokio::test]
    async fn a_removal_while_an_object_is_on_its_way_reaches_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let disks = disks(folder.path());
        let offers = Offers::default();
        for (key, removed) in [(1, true), (2, false)] {
            let (first, second) = (offers.begin(&disks, key, 1), offers.begin(&disks, key, 1));
            drop(second);
            if removed {
                offers.remove(key);
            }
            disks.offer(record(key)).expect("accepted").written().await.expect("written");
            drop(first);
            assert_eq!(disks.peek(key).is_none(), removed, "{key}");
        }
        assert!(offers.0.lock().0.is_empty(), "nothing is left behind");
        // A removal of what nobody offers leaves no trace.
        offers.remove(3);
        drop(offers.begin(&disks, 3, 1));
        disks.offer(record(3)).expect("accepted").written().await.expect("written");
        assert!(disks.peek(3).is_some());
    }
}
