//! What a sidecar says of itself: jobs, counts, and what encodes.
//!
//! Invariant: no path, and nothing that a film says of itself.

use crate::media::codec::Codec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the sidecar is at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Since it started, of each of [`EVENTS`] and [`PICTURE_EVENTS`].
    pub counts: BTreeMap<String, u64>,
    /// Of segments made before anybody asked, and kept until somebody does.
    pub ahead_bytes: u64,
    /// Waiting, running, and ended a moment ago; in the order they were begun.
    pub jobs: Vec<JobStatus>,
    /// What encodes on which device, as it was found last.
    pub encoders: Vec<EncoderStatus>,
}

/// An encoder on a device. No paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderStatus {
    /// `cpu`, `nvidia0`, `renderD128`; `-` where there is none of its kind.
    pub device: String,
    /// As ffmpeg calls it.
    pub encoder: String,
    pub codec: Codec,
    /// `works`, or the class of what it failed of: `not_compiled_in`, `no_driver`, `no_video_library`, `driver_too_old`, `no_device`,
    /// `no_encoder`, `unsupported`, `session_limit`, `out_of_memory`, `failed`.
    pub state: String,
    /// For people; may be empty.
    pub detail: String,
    /// Segments at once.
    pub slots: u64,
}

/// What is counted: runs begun; segments made that were asked for, or ahead of that; segments made ahead and asked for then; runs
/// tried again; segments that could not be made; runs ended for more urgent ones; requests refused; runs of software in a device's stead.
pub const EVENTS: [&str; 9] =
    ["run", "segment", "segment_ahead", "ahead_used", "retry", "failure", "stop", "refusal", "software_fallback"];

/// What is counted of pictures: made; runs begun for them; that could not be made; refused.
pub const PICTURE_EVENTS: [&str; 4] = ["picture", "picture_run", "picture_failure", "picture_refusal"];

/// One run of an encoder, which makes one segment or several in a row. No paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Since the sidecar's start.
    pub id: u64,
    /// The title's id.
    pub title: String,
    pub rendition: String,
    /// The first and the last.
    pub segments: [u64; 2],
    /// `waiting`, `running`, `done`, `failed` or `stopped`.
    pub state: String,
    /// `seek`, `first`, `sequential`, `prefetch` or `background`.
    pub priority: String,
    /// Who waits for its segments.
    pub waiters: u64,
    /// Of its media: 0 to 100.
    pub percent: f64,
    /// Frames made a second.
    pub fps: f64,
    /// Seconds of media made a second.
    pub speed: f64,
    /// What encodes: `cpu`, `nvidia0`, `renderD128`; of what waits, where it would go now.
    pub device: String,
}
