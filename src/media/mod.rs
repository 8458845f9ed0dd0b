//! What Reelgate knows about media: what kind of object a request is for, media types, durations, and how a film becomes
//! adaptive streams.
//!
//! - [`class`]: playlist, segment, film …; a metric label.
//! - [`codec`], [`level`]: codecs, and what of them a decoder needs; [`fraction`], [`grid`], [`ladder`]: exact times, segments on a
//!   frame grid, renditions.
//! - [`quality`]: how many bits a title needs, by trials of it.
//! - [`renditions`]: what a title is offered as; [`playlist`], [`dash`]: HLS playlists and the MPD written from that.
//! - [`webvtt`], [`language`]: subtitles read and written; language tags.
//! - [`fragment`], [`aac`]: fMP4 split and checked; AAC put into it.
//! - [`remux`]: packets put on the grid as they are.
//! - [`upstream`]: rungs that an HLS origin lacks, made from its best one.
//! - [`content_type`]: the media type of a file, by its name.
//! - [`pictures`], [`trickplay`]: sizes and formats of pictures; lists of small ones; [`avif`]: a picture put into its container.
//! - [`hls`]: what is read of an HLS playlist.
//! - [`demuxer`], [`clock`]: what reads a film; whether the times in a stream go on.
//! - [`mp4`]: what is read of an MP4 file.
//!
//! Invariant: pure. Nothing here opens a file or a socket or asks the time; bytes come in, answers go out.

pub mod aac;
pub mod avif;
pub mod class;
pub mod clock;
pub mod codec;
pub mod content_type;
pub mod dash;
pub mod demuxer;
pub mod fraction;
pub mod fragment;
pub mod grid;
pub mod hls;
pub mod ladder;
pub mod language;
pub mod level;
pub mod mp4;
pub mod pictures;
pub mod playlist;
pub mod quality;
pub mod remux;
pub mod renditions;
pub mod trickplay;
pub mod upstream;
pub mod webvtt;
