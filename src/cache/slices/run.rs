//! The writers of one row of granules, fed by one answer of the origin.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use pingora_cache::MissHandler;
use pingora_error::{Error, Result};

use super::super::hit::FILL_FAILED;
use super::{Slices, Title};
use crate::http::byte_range::ByteRange;
use crate::http::slicing::{self, GRANULE_BYTES};

/// A row of granules that nobody else fetches. Dropped before it is complete, whoever follows its granules fails, and may claim
/// them anew.
pub struct Run {
    slices: &'static Slices,
    title: Arc<Title>,
    asked: ByteRange,
    position: u64,
    first_granule: u64,
    /// None: kept already, given up, or done.
    writers: Vec<Option<MissHandler>>,
    outstanding_bytes: u64,
}

impl Run {
    pub(super) fn new(
        slices: &'static Slices,
        title: &Arc<Title>,
        asked: ByteRange,
        first_granule: u64,
        writers: Vec<Option<MissHandler>>,
    ) -> Self {
        let outstanding_bytes = asked.length();
        slices.outstanding_bytes.fetch_add(outstanding_bytes, Ordering::Relaxed);
        slices.metrics.slice_runs_in_flight.inc();
        Self {
            slices,
            title: Arc::clone(title),
            asked,
            position: asked.first,
            first_granule,
            writers,
            outstanding_bytes,
        }
    }

    pub fn title(&self) -> &Arc<Title> {
        &self.title
    }

    /// What the origin is to be asked for.
    pub fn asked(&self) -> ByteRange {
        self.asked
    }

    /// Everything has been written.
    pub fn is_complete(&self) -> bool {
        self.position > self.asked.last
    }

    /// The next bytes of the answer.
    ///
    /// # Errors
    /// There are more than were asked for.
    pub async fn write(&mut self, mut data: Bytes) -> Result<()> {
        if data.len() as u64 > (self.asked.last + 1).saturating_sub(self.position) {
            return Error::e_explain(FILL_FAILED, "more bytes came than were asked for");
        }
        while !data.is_empty() {
            let index = self.position / GRANULE_BYTES;
            let range = slicing::bytes_of(index..index + 1, self.title.complete()).unwrap_or(self.asked);
            let part = data.split_to(data.len().min((range.last + 1 - self.position) as usize));
            self.position += part.len() as u64;
            self.give_back(part.len() as u64);
            let ends = self.position > range.last;
            let at = index.checked_sub(self.first_granule).and_then(|at| self.writers.get_mut(at as usize));
            let Some(slot) = at else { continue };
            // One that fails is dropped: its readers fail and ask again.
            if let Some(mut writer) = slot.take()
                && writer.write_body(part, ends).await.is_ok()
            {
                match ends {
                    true => drop(writer.finish().await),
                    false => *slot = Some(writer),
                }
            }
        }
        Ok(())
    }

    fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.outstanding_bytes);
        self.outstanding_bytes -= bytes;
        self.slices.outstanding_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.give_back(u64::MAX);
        self.slices.metrics.slice_runs_in_flight.dec();
    }
}
