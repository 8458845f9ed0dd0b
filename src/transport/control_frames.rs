//! HTTP/2 frames that carry no request and no body (RFC 9113 §6), counted: the h2 library answers any number of PING and SETTINGS,
//! and reads any number of empty DATA, PRIORITY and unknown frames, at the price of CPU time (§10.5, CVE-2019-9512 to 9518).
//!
//! A bucket of [`BURST`] frames, filled by time and by what is sent: who downloads much sends many WINDOW_UPDATEs. Looks at the nine
//! bytes of each frame's header and keeps nothing else. What opens or resets a stream is counted by h2 itself.

use super::uploads::Uploads;
use std::time::Duration;
use tokio::time::Instant;

const HEADER_BYTES: usize = 9;
const PREFACE: &[u8; 24] = super::guard::H2_PREFACE;
/// Frames at once.
const BURST: f64 = 2000.0;
/// Frames a second beyond that.
const PER_SECOND: f64 = 200.0;
/// One more for so many bytes sent to the client: clients give their windows back in larger steps.
const BYTES_SENT_PER_FRAME: f64 = 1024.0;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
/// The bit beside a stream's number.
const RESERVED: u32 = 1 << 31;

/// One connection's, in the direction from the client.
#[derive(Debug)]
pub(super) struct ControlFrames {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// Of the frame's payload, or of the preface.
    skip_bytes: usize,
    started: bool,
    left: f64,
    filled_at: Option<Instant>,
    /// What the same frames say of request bodies.
    pub(super) uploads: Uploads,
}

impl Default for ControlFrames {
    fn default() -> Self {
        Self {
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            skip_bytes: 0,
            started: false,
            left: BURST,
            filled_at: None,
            uploads: Uploads::default(),
        }
    }
}

impl ControlFrames {
    /// So much was sent to the client.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.left = (self.left + bytes as f64 / BYTES_SENT_PER_FRAME).min(BURST);
    }

    /// Since when a frame waits for its rest.
    pub(super) fn half_read_since(&self) -> Option<Instant> {
        self.filled_at.filter(|_| self.header_bytes + self.skip_bytes > 0)
    }

    /// Reads on. False: more frames than allowed.
    pub(super) fn read(&mut self, mut bytes: &[u8], now: Instant) -> bool {
        if !std::mem::replace(&mut self.started, true) && bytes.starts_with(&PREFACE[..3]) {
            self.skip_bytes = PREFACE.len(); // no frame is as long as this would say
        }
        let since = self.filled_at.replace(now).map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        self.left = (self.left + since.as_secs_f64() * PER_SECOND).min(BURST);
        while !bytes.is_empty() {
            let skipped = self.skip_bytes.min(bytes.len());
            self.skip_bytes -= skipped;
            if skipped > 0 {
                self.uploads.payload(skipped, now);
            }
            bytes = &bytes[skipped..];
            let taken = (HEADER_BYTES - self.header_bytes).min(bytes.len());
            self.header[self.header_bytes..self.header_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.header_bytes += taken;
            bytes = &bytes[taken..];
            if self.header_bytes == HEADER_BYTES {
                self.header_bytes = 0;
                let [high, middle, low, kind, flags, stream @ ..] = self.header;
                self.skip_bytes = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.uploads.frame(kind, flags, u32::from_be_bytes(stream) & !RESERVED, now);
                if is_control(kind, flags, self.skip_bytes) {
                    self.left -= 1.0;
                }
            }
        }
        self.left >= 0.0
    }
}

fn is_control(kind: u8, flags: u8, payload_bytes: usize) -> bool {
    match kind {
        DATA => payload_bytes == 0 && flags & END_STREAM == 0,
        HEADERS | RST_STREAM | CONTINUATION => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, payload_bytes: usize) -> Vec<u8> {
        let length = (payload_bytes as u32).to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER_BYTES + payload_bytes, 6);
        frame
    }

    const PING: u8 = 0x6;

    #[test]
    fn cve_2019_9512_pings_without_end_are_too_many() {
        let (mut frames, now) = (ControlFrames::default(), Instant::now());
        assert!(frames.read(PREFACE, now));
        for _ in 0..BURST as usize {
            assert!(frames.read(&frame(PING, 0, 8), now));
        }
        assert!(!frames.read(&frame(PING, 0, 8), now));
        assert!(frames.read(&frame(PING, 0, 8), now + Duration::from_secs(1)), "a second later there are some more");
    }

    #[test]
    fn uploads_requests_and_the_ends_of_bodies_cost_nothing() {
        let (mut frames, now) = (ControlFrames::default(), Instant::now());
        for _ in 0..10_000 {
            assert!(frames.read(&frame(HEADERS, 4, 30), now));
            assert!(frames.read(&frame(DATA, 0, 1000), now));
            assert!(frames.read(&frame(DATA, END_STREAM, 0), now));
            assert!(frames.read(&frame(RST_STREAM, 0, 4), now));
        }
    }

    #[test]
    fn who_is_sent_much_may_give_back_many_windows() {
        let (mut frames, now) = (ControlFrames::default(), Instant::now());
        for _ in 0..100_000 {
            frames.sent(16 << 10);
            assert!(frames.read(&[frame(0x8, 0, 4), frame(0x8, 0, 4)].concat(), now));
        }
    }

    proptest! {
        #[test]
        fn frames_are_counted_however_they_are_cut(
            kinds in prop::collection::vec((0_u8..12, 0_u8..2, 0_usize..40), 1..40),
            cuts in prop::collection::vec(1_usize..50, 1..40),
        ) {
            let now = Instant::now();
            let stream: Vec<u8> =
                PREFACE.iter().copied().chain(kinds.iter().flat_map(|(kind, flags, bytes)| frame(*kind, *flags, *bytes))).collect();
            let (mut whole, mut cut) = (ControlFrames::default(), ControlFrames::default());
            whole.read(&stream, now);
            let mut rest = &stream[..];
            // The preface is told by its first bytes, which come together.
            for size in [3].iter().chain(cuts.iter().cycle()) {
                let (now_read, later) = rest.split_at((*size).min(rest.len()));
                cut.read(now_read, now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            let controls = kinds.iter().filter(|(kind, flags, bytes)| is_control(*kind, *flags, *bytes)).count();
            prop_assert_eq!(whole.left, BURST - controls as f64);
            prop_assert_eq!(cut.left, whole.left);
        }
    }
}
