//! Memory that hits from a disk are read into, used again and again.
//!
//! A body read into fresh memory costs more in pages that the system has to find and clear than in reading them. So a [`Buffer`] goes
//! back where it came from once its last slice has left for a client, and the next read finds it warm. It is paid for from the same
//! budget as objects, also while nobody uses it; what lies idle is bounded. Small reads get memory of their own: the allocator keeps that.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::super::budget::Charge;
use crate::cache::disk::BODY_CHUNK_BYTES;

/// Beyond a chunk: a record's and a frame's header, and a head of common size.
const MORE_BYTES: usize = 8 << 10;
/// Of parts of sliced objects, and of whole chunks.
const SIZES: [usize; 2] = [(64 << 10) + MORE_BYTES, BODY_CHUNK_BYTES as usize + MORE_BYTES];
/// Less is not kept.
const BYTES_MIN: usize = 16 << 10;
/// So many threads find their own buffers, warm, without meeting others.
const SHARDS: usize = 16;
/// The share of all memory that may lie idle: 1/32.
const IDLE_SHARE: u64 = 32;

#[derive(Debug)]
struct Memory {
    bytes: Box<[u8]>,
    charge: Charge,
}

/// What a shard has, by size, the one used last on top.
type Idle = [Vec<Memory>; SIZES.len()];

#[derive(Debug)]
pub(super) struct Buffers {
    shards: [Mutex<Idle>; SHARDS],
    idle_bytes: AtomicU64,
    idle_bytes_max: u64,
}

impl Buffers {
    /// For a store of so many bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { shards: Default::default(), idle_bytes: AtomicU64::new(0), idle_bytes_max: bytes_max / IDLE_SHARE }
    }

    fn size(&self, bytes: usize) -> Option<usize> {
        let fits = |size: &usize| bytes <= *size && *size as u64 <= self.idle_bytes_max;
        (bytes >= BYTES_MIN).then(|| SIZES.iter().position(fits)).flatten()
    }

    /// What [`Self::make`] is to be paid for `bytes`.
    pub(super) fn price(&self, bytes: usize) -> u64 {
        self.size(bytes).map_or(bytes, |size| SIZES[size]) as u64
    }

    /// One that was used before, for at least `bytes`; from another thread's where this one has none.
    pub(super) fn take(&'static self, bytes: usize) -> Option<Buffer> {
        let size = self.size(bytes)?;
        if self.idle_bytes.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let own = shard();
        let warm = self.shards[own].lock()[size].pop();
        let memory = warm.or_else(|| {
            let others = (1..SHARDS).map(|step| &self.shards[(own + step) % SHARDS]);
            others.filter_map(Mutex::try_lock).find_map(|mut idle| idle[size].pop())
        })?;
        self.idle_bytes.fetch_sub(memory.bytes.len() as u64, Ordering::Relaxed);
        Some(Buffer { memory: Some(memory), home: Some((self, size)) })
    }

    /// A new one for at least `bytes`. `charge`: of [`Self::price`].
    pub(super) fn make(&'static self, bytes: usize, charge: Charge) -> Buffer {
        let size = self.size(bytes);
        let bytes = vec![0; size.map_or(bytes, |size| SIZES[size])].into_boxed_slice();
        Buffer { memory: Some(Memory { bytes, charge }), home: size.map(|size| (self, size)) }
    }

    fn give_back(&self, size: usize, memory: Memory) {
        let bytes = memory.bytes.len() as u64;
        if self.idle_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.idle_bytes_max {
            self.idle_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return;
        }
        let mut idle = self.shards[shard()].lock();
        idle[size].push(memory);
        // The charge stays, so nobody is told by its end.
        if let Some(memory) = idle[size].last() {
            memory.charge.may_do_for_another();
        }
    }
}

/// Of this thread.
fn shard() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    // None while the thread ends.
    SHARD.try_with(|shard| *shard).unwrap_or(0)
}

/// Memory for one read; it goes back when it is dropped.
#[derive(Debug)]
pub(in crate::cache) struct Buffer {
    /// There until then.
    memory: Option<Memory>,
    home: Option<(&'static Buffers, usize)>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| &memory.bytes)
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut().map_or(&mut [], |memory| &mut memory.bytes)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let (Some(memory), Some((home, size))) = (self.memory.take(), self.home) {
            home.give_back(size, memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use prometheus::IntGauge;

    use super::super::super::budget::Budget;
    use super::*;

    fn budget() -> Arc<Budget> {
        Budget::new(64 << 20, IntGauge::new("g", "g").expect("valid name"))
    }

    fn made(buffers: &'static Buffers, budget: &Arc<Budget>, bytes: usize) -> Buffer {
        let price = buffers.price(bytes);
        buffers.make(bytes, budget.try_take(price, u64::MAX).expect("there is room"))
    }

    #[test]
    fn a_buffer_is_used_again_once_its_last_slice_is_gone() {
        let buffers: &'static Buffers = Box::leak(Box::new(Buffers::new(64 << 20)));
        let budget = budget();
        assert!(buffers.take(100_000).is_none(), "there is none yet");
        let mut buffer = made(buffers, &budget, 100_000);
        buffer.as_mut()[..5].copy_from_slice(b"hello");
        let place = buffer.as_ref().as_ptr();
        let slice = Bytes::from_owner(buffer).slice(1..3);
        assert!(buffers.take(100_000).is_none(), "it is being read");
        assert_eq!(&slice[..], b"el");
        drop(slice);
        assert_eq!(budget.used(), SIZES[1] as u64, "what lies idle is paid for");
        assert!(buffers.take(50_000).is_none(), "that would be another size");
        let again = buffers.take(SIZES[1]).expect("it came back");
        assert_eq!(again.as_ref().as_ptr(), place);
        std::thread::spawn(|| drop(again)).join().expect("no panic");
        assert!(buffers.take(SIZES[1]).is_some(), "what another thread gave back is found, too");
    }

    #[test]
    fn what_is_small_large_or_too_much_is_not_kept() {
        let buffers: &'static Buffers = Box::leak(Box::new(Buffers::new(64 << 20)));
        let budget = budget();
        for bytes in [100, SIZES[1] + 1] {
            let buffer = made(buffers, &budget, bytes);
            assert_eq!((buffer.as_ref().len(), budget.used()), (bytes, bytes as u64));
            drop(buffer);
            assert_eq!(budget.used(), 0);
        }
        drop((0..20).map(|_| made(buffers, &budget, 200_000)).collect::<Vec<_>>());
        assert_eq!(budget.used(), (2 << 20) / SIZES[1] as u64 * SIZES[1] as u64, "a 32nd of all memory");
        let small: &'static Buffers = Box::leak(Box::new(Buffers::new(1 << 20)));
        drop(made(small, &budget, 200_000));
        assert!(small.take(200_000).is_none(), "a store that small keeps none");
    }
}
