//! Reelgate: a media edge in front of Jellyfin, Plex or any HLS/DASH/HTTP origin.
//!
//! This file is the map. A module may use only modules of a lower rank (`tests/architecture.rs` holds it):
//!
//! | rank | rooms |
//! |---|---|
//! | 6 | [`cli`]: arguments → configuration → app |
//! | 5 | [`app`]: the only place that knows everyone |
//! | 4 | [`edge`], [`admin`], [`replay`] |
//! | 3 | [`cache`], [`origin`], [`transport`] |
//! | 2 | [`observe`] |
//! | 1 | [`config`], [`coding`] |
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
pub mod transport;
