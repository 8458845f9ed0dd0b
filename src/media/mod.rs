//! What Reelgate knows about media: what kind of object a request is for, media types, durations.
//!
//! - [`class`]: playlist, segment, film …; a metric label.
//! - [`content_type`]: the media type of a file, by its name.
//! - [`hls`]: what is read of an HLS playlist.
//! - [`mp4`]: what is read of an MP4 file.
//!
//! Invariant: pure. Nothing here opens a file or a socket or asks the time; bytes come in, answers go out.

pub mod class;
pub mod content_type;
pub mod hls;
pub mod mp4;
