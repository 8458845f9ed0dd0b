//! Reelgate: a media edge in front of Jellyfin, Plex or any HLS/DASH/HTTP origin.
//!
//! This file is the map. A module may use only modules of a lower rank (`tests/architecture.rs` holds it):
//!
//! | rank | rooms |
//! |---|---|
//! | 7 | [`cli`]: arguments → configuration → app |
//! | 6 | [`app`]: the only place that knows everyone |
//! | 5 | [`edge`], [`admin`], [`replay`] |
//! | 4 | [`cache`], [`origin`], [`transport`] |
//! | 3 | [`transcode`]: the sidecar, and the edge's side of it |
//! | 2 | [`observe`] |
//! | 1 | [`config`], [`coding`], [`source`] |
//! | 0 | [`http`], [`media`] (pure: no tokio, no IO) |
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod cache;
pub mod cli;
pub mod coding;
pub mod config;
pub mod edge;
pub mod http;
pub mod media;
pub mod observe;
pub mod origin;
pub mod replay;
pub mod source;
pub mod transcode;
pub mod transport;
