//! HTTP/2 request bodies that stop coming: Pingora reads them without a deadline, so a client that begins uploads and sends nothing
//! more would hold a request and an origin's connection for each of them.
//!
//! Follows the frames of one connection in the direction from the client, and says which stream to give up. What it cannot see is
//! whether the client waits for us: flow control lets it send no more than it was granted. So a stream that has had its first
//! window, on a connection that has had its own, may be silent for longer.
//!
//! Invariants: it remembers [`OPEN_MAX`] streams; a stream it names is named once. A stream that ended in the other direction is
//! not noticed: giving it up then does nothing.

use super::connection_app::{H2_CONNECTION_WINDOW_BYTES, H2_STREAM_WINDOW_BYTES};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const END_STREAM: u8 = 0x1;
/// More than may be open at once by default; beyond it the oldest are forgotten.
const OPEN_MAX: usize = 1024;

/// What a client may send at once unless it is told otherwise (RFC 9113, section 6.5.2).
const FRAME_BYTES_MAX: u64 = 1 << 14;

/// How long a body may pause.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// While the client is free to send.
    pub(super) stall: Duration,
    /// While it may have to wait for us.
    pub(super) longest: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    open: BTreeMap<u32, Upload>,
    /// Whose frame of data is being read.
    current: Option<u32>,
    /// Of all bodies so far.
    bytes: u64,
}

#[derive(Debug)]
struct Upload {
    heard: Instant,
    bytes: u64,
}

impl Uploads {
    /// A frame begins.
    pub(super) fn frame(&mut self, kind: u8, flags: u8, stream: u32, now: Instant) {
        self.current = None;
        let ends = flags & END_STREAM != 0;
        match kind {
            DATA | HEADERS | RST_STREAM if ends || kind == RST_STREAM => drop(self.open.remove(&stream)),
            HEADERS => {
                self.open.entry(stream).or_insert(Upload { heard: now, bytes: 0 }).heard = now;
                if self.open.len() > OPEN_MAX {
                    self.open.pop_first();
                }
            }
            DATA => self.current = Some(stream),
            _ => {}
        }
    }

    /// So much of the frame's payload has come.
    pub(super) fn payload(&mut self, bytes: usize, now: Instant) {
        let Some(upload) = self.current.and_then(|stream| self.open.get_mut(&stream)) else { return };
        upload.heard = now;
        upload.bytes += bytes as u64;
        self.bytes += bytes as u64;
    }

    /// When the next one is to be given up, if nothing more comes.
    pub(super) fn due(&self, patience: Patience) -> Option<Instant> {
        self.open.values().map(|upload| self.due_of(upload, patience)).min()
    }

    /// One that is due, and is forgotten.
    pub(super) fn take_due(&mut self, patience: Patience, now: Instant) -> Option<u32> {
        let (stream, _) = self.open.iter().find(|(_, upload)| self.due_of(upload, patience) <= now)?;
        let stream = *stream;
        self.open.remove(&stream);
        Some(stream)
    }

    fn due_of(&self, upload: &Upload, patience: Patience) -> Instant {
        // Some send no less than a whole frame.
        let is_free = |bytes: u64, window: u32| bytes + FRAME_BYTES_MAX <= u64::from(window);
        let free = is_free(upload.bytes, H2_STREAM_WINDOW_BYTES) && is_free(self.bytes, H2_CONNECTION_WINDOW_BYTES);
        upload.heard + if free { patience.stall } else { patience.longest.max(patience.stall) }
    }
}

/// A client's RST_STREAM with CANCEL (RFC 9113, section 6.4).
pub(super) fn reset(stream: u32) -> [u8; 13] {
    let [a, b, c, d] = stream.to_be_bytes();
    [0, 0, 4, RST_STREAM, 0, a, b, c, d, 0, 0, 0, 0x8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATIENCE: Patience = Patience { stall: Duration::from_secs(10), longest: Duration::from_secs(100) };

    #[test]
    fn a_body_that_stops_is_given_up_once_and_one_that_goes_on_is_not() {
        let (mut uploads, start) = (Uploads::default(), Instant::now());
        uploads.frame(HEADERS, 0x4, 1, start);
        uploads.frame(HEADERS, 0x4, 3, start);
        let later = start + Duration::from_secs(9);
        uploads.frame(DATA, 0, 3, later);
        uploads.payload(100, later);
        assert_eq!(uploads.due(PATIENCE), Some(start + PATIENCE.stall));
        assert_eq!(uploads.take_due(PATIENCE, later), None);
        let late = start + PATIENCE.stall;
        assert_eq!((uploads.take_due(PATIENCE, late), uploads.take_due(PATIENCE, late)), (Some(1), None));
        assert_eq!(uploads.due(PATIENCE), Some(later + PATIENCE.stall));
    }

    #[test]
    fn requests_without_a_body_and_bodies_that_ended_are_not_waited_for() {
        let (mut uploads, now) = (Uploads::default(), Instant::now());
        uploads.frame(HEADERS, 0x5, 1, now);
        for (stream, kind, flags) in [(3, DATA, END_STREAM), (5, HEADERS, 0x5), (7, RST_STREAM, 0)] {
            uploads.frame(HEADERS, 0x4, stream, now);
            uploads.frame(kind, flags, stream, now);
        }
        assert_eq!(uploads.due(PATIENCE), None);
    }

    #[test]
    fn who_may_have_to_wait_for_us_is_given_longer() {
        let (mut uploads, now) = (Uploads::default(), Instant::now());
        uploads.frame(HEADERS, 0x4, 1, now);
        uploads.frame(DATA, 0, 1, now);
        uploads.payload(H2_STREAM_WINDOW_BYTES as usize - 1, now);
        assert_eq!(uploads.due(PATIENCE), Some(now + PATIENCE.longest));
    }

    #[test]
    fn empty_frames_are_no_progress() {
        let (mut uploads, start) = (Uploads::default(), Instant::now());
        uploads.frame(HEADERS, 0x4, 1, start);
        uploads.frame(DATA, 0, 1, start + Duration::from_secs(9));
        assert_eq!(uploads.due(PATIENCE), Some(start + PATIENCE.stall));
    }

    proptest! {
        #[test]
        fn any_frames_are_bounded(frames in prop::collection::vec((0_u8..12, any::<u8>(), any::<u32>(), 0_usize..20_000), 0..3000)) {
            let (mut uploads, now) = (Uploads::default(), Instant::now());
            for (kind, flags, stream, bytes) in frames {
                uploads.frame(kind, flags, stream, now);
                uploads.payload(bytes, now);
            }
            prop_assert!(uploads.open.len() <= OPEN_MAX);
            let late = now + Duration::from_secs(1000);
            let mut given_up = Vec::new();
            while let Some(stream) = uploads.take_due(PATIENCE, late) {
                given_up.push(stream);
            }
            prop_assert!(given_up.is_sorted() && given_up.windows(2).all(|pair| pair[0] != pair[1]));
            prop_assert_eq!(uploads.due(PATIENCE), None);
        }
    }
}
