//! Random operations against a simple model: never a wrong byte, never a clean short end, never beyond the bound, never an
//! answer from a version that failed or was purged.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const KEYS: usize = 3;
const BYTES_MAX: u64 = 14_000;
const OBJECT_BYTES_MAX: u64 = 2_000;

#[derive(Debug, Clone)]
enum Step {
    Begin { key: usize, bytes: usize, promised: bool },
    Write { fill: usize, bytes: usize },
    Finish { fill: usize },
    Cancel { fill: usize },
    Lookup { key: usize },
    Seek { reader: usize, start: usize, bytes: usize },
    Read { reader: usize },
    Leave { reader: usize },
    Purge { key: usize },
    Expire { key: usize },
    Revalidate { key: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let at = any::<usize>;
    prop_oneof![
        3 => (0..KEYS, 0..3_000_usize, any::<bool>())
            .prop_map(|(key, bytes, promised)| Step::Begin { key, bytes, promised }),
        9 => (at(), 1..700_usize).prop_map(|(fill, bytes)| Step::Write { fill, bytes }),
        3 => at().prop_map(|fill| Step::Finish { fill }),
        1 => at().prop_map(|fill| Step::Cancel { fill }),
        4 => (0..KEYS).prop_map(|key| Step::Lookup { key }),
        2 => (at(), 0..3_000_usize, 0..1_000_usize)
            .prop_map(|(reader, start, bytes)| Step::Seek { reader, start, bytes }),
        12 => at().prop_map(|reader| Step::Read { reader }),
        2 => at().prop_map(|reader| Step::Leave { reader }),
        1 => (0..KEYS).prop_map(|key| Step::Purge { key }),
        1 => (0..KEYS).prop_map(|key| Step::Expire { key }),
        1 => (0..KEYS).prop_map(|key| Step::Revalidate { key }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Running,
    Whole,
    Failed,
}

/// What the model knows of a version.
struct Version {
    key: usize,
    /// Its length; what the origin meant to send until it is whole, then what it sent.
    bytes: usize,
    fate: Fate,
    purged: bool,
    /// Too large to keep: it goes to its owner only.
    passing: bool,
}

struct Writer {
    version: u64,
    written: usize,
    miss: MissHandler,
}

struct Reader {
    version: u64,
    position: usize,
    end: Option<usize>,
    owner: bool,
    hit: HitHandler,
}

struct World {
    store: &'static MemoryStore,
    versions: HashMap<u64, Version>,
    writers: Vec<Writer>,
    readers: Vec<Reader>,
}

impl World {
    async fn step(&mut self, step: Step) {
        match step {
            Step::Begin { key, bytes, promised } => self.begin(key, bytes, promised).await,
            Step::Write { fill, bytes } if !self.writers.is_empty() => {
                self.write(fill % self.writers.len(), bytes).await
            }
            Step::Finish { fill } if !self.writers.is_empty() => self.finish(fill % self.writers.len()).await,
            Step::Cancel { fill } if !self.writers.is_empty() => {
                let writer = self.writers.swap_remove(fill % self.writers.len());
                self.version(writer.version).fate = Fate::Failed;
            }
            Step::Lookup { key } => self.lookup(key).await,
            Step::Seek { reader, start, bytes } if !self.readers.is_empty() => {
                self.seek(reader % self.readers.len(), start, bytes);
            }
            Step::Read { reader } if !self.readers.is_empty() => {
                let at = reader % self.readers.len();
                if !self.read(at) {
                    self.readers.swap_remove(at);
                }
            }
            Step::Leave { reader } if !self.readers.is_empty() => {
                self.readers.swap_remove(reader % self.readers.len());
            }
            Step::Purge { key } => self.purge(key).await,
            Step::Expire { key } => {
                let compact = name(key).to_compact();
                self.store.expire(PurgeTarget::Active(&compact), &span()).await.map(|_| ()).expect("expired");
            }
            Step::Revalidate { key } => {
                let Some((meta, _)) = self.store.lookup(&name(key), &span()).await.expect("lookup") else { return };
                self.store.update_meta(&name(key), &meta, &span()).await.map(|_| ()).expect("updated");
            }
            _ => {}
        }
    }

    fn version(&mut self, version: u64) -> &mut Version {
        self.versions.get_mut(&version).expect("known")
    }

    async fn begin(&mut self, key: usize, bytes: usize, promised: bool) {
        let Ok((miss, hit)) = begin(self.store, &name(key), promised.then_some(bytes)).await else { return };
        let version = miss.entry_id().expect("identified").get();
        let known = Version { key, bytes, fate: Fate::Running, purged: false, passing: false };
        self.versions.insert(version, known);
        self.writers.push(Writer { version, written: 0, miss });
        self.readers.push(Reader { version, position: 0, end: None, owner: true, hit });
    }

    async fn write(&mut self, at: usize, bytes: usize) {
        let writer = &mut self.writers[at];
        let version = self.versions.get_mut(&writer.version).expect("known");
        let next = (writer.written + bytes).min(version.bytes);
        let piece = body(writer.version, next)[writer.written..].to_vec();
        writer.written = next;
        if writer.miss.write_body(Bytes::from(piece), false).await.is_err() {
            version.fate = Fate::Failed;
            self.writers.swap_remove(at);
            return;
        }
        // The store lets go of a running fill only when it is too large to keep.
        let hash = u128::from_be_bytes(name(version.key).to_compact().combined_bin());
        let shard = self.store.shard(hash).read();
        let kept = shard.get(&hash).is_some_and(|slot| slot.fills.iter().any(|fill| fill.version == writer.version));
        let given_up = !kept && !std::mem::replace(&mut version.passing, !kept);
        let full = self.store.stats().bytes > BYTES_MAX / 2;
        assert!(!given_up || version.bytes as u64 > OBJECT_BYTES_MAX || full, "given up though there is room");
    }

    async fn finish(&mut self, at: usize) {
        let Writer { version, written, miss } = self.writers.swap_remove(at);
        let finished = miss.finish().await.is_ok();
        let version = self.version(version);
        version.fate = if finished { Fate::Whole } else { Fate::Failed };
        if finished {
            // Without a promised length only the caller knows an early end from a right one: it cancels, or this is the body.
            version.bytes = written;
        }
    }

    async fn lookup(&mut self, key: usize) {
        let Some(hit) = get(self.store, &name(key)).await else { return };
        let id = hit.entry_id().expect("identified").get();
        let version = &self.versions[&id];
        assert_eq!(version.key, key);
        assert!(!version.purged, "a purged version came back");
        assert_ne!(version.fate, Fate::Failed, "a failed version was found");
        assert!(!version.passing, "a version too large to keep was found");
        let newer =
            |other: &u64, v: &Version| *other > id && v.key == key && v.fate == Fate::Whole && !v.purged && !v.passing;
        if version.fate == Fate::Whole {
            assert!(!self.versions.iter().any(|(id, v)| newer(id, v)), "an older version outlived a newer one");
        }
        self.readers.push(Reader { version: id, position: 0, end: None, owner: false, hit });
    }

    fn seek(&mut self, at: usize, start: usize, bytes: usize) {
        let reader = &mut self.readers[at];
        if reader.hit.can_seek() && reader.hit.seek(start, Some(start + bytes)).is_ok() {
            let total = self.versions[&reader.version].bytes;
            assert!(start < total, "sought beyond the end");
            (reader.position, reader.end) = (start, Some((start + bytes).min(total)));
        }
    }

    async fn purge(&mut self, key: usize) {
        let compact = name(key).to_compact();
        let target = PurgeTarget::Active(&compact);
        self.store.purge(target, PurgeType::Invalidation, &span()).await.map(|_| ()).expect("purged");
        self.versions.values_mut().filter(|version| version.key == key).for_each(|version| version.purged = true);
    }

    /// One read of one reader; whether it goes on.
    fn read(&mut self, at: usize) -> bool {
        let reader = &mut self.readers[at];
        let version = &self.versions[&reader.version];
        match reader.hit.read_body().now_or_never() {
            None => assert_eq!(version.fate, Fate::Running, "a reader waits for a fill that has ended"),
            Some(Ok(Some(bytes))) => {
                let end = reader.position + bytes.len();
                assert!(!bytes.is_empty() && end <= reader.end.unwrap_or(version.bytes), "more than there is");
                assert_eq!(bytes, body(reader.version, end)[reader.position..], "a wrong byte");
                reader.position = end;
            }
            Some(Ok(None)) => {
                match reader.end {
                    Some(end) => assert_eq!(reader.position, end, "a short range"),
                    None => {
                        assert_eq!(version.fate, Fate::Whole, "a clean end of a body that is not whole");
                        assert_eq!(reader.position, version.bytes, "a clean short end");
                    }
                }
                return false;
            }
            Some(Err(_)) => {
                let abandoned = version.passing && !reader.owner;
                assert!(version.fate == Fate::Failed || abandoned, "an error from a fill that did not fail");
                return false;
            }
        }
        true
    }
}

fn name(at: usize) -> CacheKey {
    key(["a", "b", "c"][at])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_store_behaves_like_the_model(steps in prop::collection::vec(step(), 1..250)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let store = store(BYTES_MAX, OBJECT_BYTES_MAX);
            let mut world = World { store, versions: HashMap::new(), writers: Vec::new(), readers: Vec::new() };
            for step in steps {
                world.step(step).await;
                assert!(store.stats().bytes <= BYTES_MAX);
                assert_eq!(store.stats().bytes as i64, store.metrics.cache_bytes.with_label_values(&[TIER]).get());
            }
            world.writers.clear();
            world.readers.clear();
            for key in 0..KEYS {
                world.purge(key).await;
            }
            assert_eq!(store.stats().bytes, 0, "bytes were lost from the accounting");
            assert_eq!((store.stats().objects, store.stats().fills_running), (0, 0));
            assert!(store.shards.iter().all(|shard| shard.read().is_empty()), "an empty slot was left behind");
        });
    }
}
