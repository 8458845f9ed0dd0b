//! How much memory origins' bytes may take while rungs are made of them: each is paid for, at its longest, before it is asked for, and
//! what it did not need is given back when it is there.
//!
//! Invariants: who waits holds nothing of what is waited for, so that all who wait get their turn: a segment that goes with the one it
//! follows is paid for from another part than that, and playlists wait for no segments; a wait is bounded in time.

use crate::transcode::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Of media playlists: a day of four seconds.
pub const PLAYLIST_BYTES_MAX: usize = 4 << 20;
/// With what is read of one, and written from it.
const LIST_BYTES_MAX: usize = 16 << 20;
pub const HEAD_BYTES_MAX: usize = 1 << 20;
const SEGMENT_BYTES_MAX: usize = 48 << 20;
/// Of all, the part for segments before others; one segment has at most as much.
const BEFORE_SHARE: usize = 4;
/// Beside the rest: so many playlists at once.
const LISTS_MAX: usize = 4;
/// For memory.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Of a playlist that would only have more rungs: somebody is about to play.
const WAIT_TO_ADD_MAX: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub struct Memory {
    bytes: Arc<Semaphore>,
    before: Arc<Semaphore>,
    lists: Arc<Semaphore>,
    pub segment_bytes_max: usize,
    wait_max: Duration,
}

/// What is paid for; given back when dropped.
#[derive(Debug)]
pub struct Paid(OwnedSemaphorePermit);

impl Memory {
    /// At least 32 MiB.
    pub fn new(bytes_max: u64) -> Self {
        let all = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let before = all / BEFORE_SHARE;
        Self {
            bytes: Arc::new(Semaphore::new(all - before)),
            before: Arc::new(Semaphore::new(before)),
            lists: Arc::new(Semaphore::new(LISTS_MAX * LIST_BYTES_MAX)),
            segment_bytes_max: SEGMENT_BYTES_MAX.min(before),
            wait_max: WAIT_MAX,
        }
    }

    pub async fn for_list(&self) -> Result<Paid, Error> {
        self.take(&self.lists, LIST_BYTES_MAX).await
    }

    /// A playlist that is looked at before another one is given.
    pub async fn for_list_to_add_to(&self) -> Result<Paid, Error> {
        timeout(WAIT_TO_ADD_MAX, self.for_list()).await.unwrap_or(Err(Error::Busy))
    }

    /// A head and a segment.
    pub async fn for_segment(&self) -> Result<Paid, Error> {
        self.take(&self.bytes, HEAD_BYTES_MAX + self.segment_bytes_max).await
    }

    /// The segment before.
    pub async fn for_before(&self) -> Result<Paid, Error> {
        self.take(&self.before, self.segment_bytes_max).await
    }

    /// [`Error::Busy`]: there was none for a while.
    async fn take(&self, memory: &Arc<Semaphore>, bytes: usize) -> Result<Paid, Error> {
        let bytes = u32::try_from(bytes).map_err(|_| Error::Busy)?;
        let taken = timeout(self.wait_max, Arc::clone(memory).acquire_many_owned(bytes)).await;
        taken.ok().and_then(Result::ok).map(Paid).ok_or(Error::Busy)
    }
}

impl Paid {
    /// So much is needed, not more.
    pub fn keep(&mut self, bytes: usize) {
        drop(self.0.split(self.0.num_permits().saturating_sub(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[tokio::test]
    async fn so_many_bytes_and_no_more_and_a_wait_that_ends() {
        let memory = Memory { wait_max: Duration::from_millis(50), ..Memory::new(64 << 20) };
        assert_eq!(memory.segment_bytes_max, 16 * MIB);
        let mut first = memory.for_segment().await.unwrap();
        let _second = memory.for_segment().await.unwrap();
        assert_eq!(memory.for_segment().await.err(), Some(Error::Busy), "48 MiB for three of 17");
        let _before = memory.for_before().await.unwrap();
        assert_eq!(memory.for_before().await.err(), Some(Error::Busy));
        first.keep(MIB);
        let third = memory.for_segment().await.expect("what was not needed is there again");
        drop((first, third));
        assert_eq!(memory.bytes.available_permits(), 31 * MIB);
    }

    #[tokio::test]
    async fn who_holds_a_segment_and_waits_for_the_one_before_is_not_held_up_by_those_who_want_one() {
        let memory = Arc::new(Memory::new(32 << 20));
        let tasks = (0..32).map(|_| {
            let memory = Arc::clone(&memory);
            tokio::spawn(async move {
                let _segment = memory.for_segment().await?;
                let _before = memory.for_before().await?;
                tokio::task::yield_now().await;
                Ok::<_, Error>(())
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
    }
}
