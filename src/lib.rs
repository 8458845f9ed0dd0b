//! Reelgate: a media edge in front of Jellyfin, Plex or any HLS/DASH/HTTP origin.
//!
//! This file is the map. A module may use only modules of a lower rank (`tests/architecture.rs` holds it):
//!
//! | rank | rooms |
//! |---|---|
//! | 5 | [`cli`]: arguments → configuration → app |
//! | 4 | [`app`]: the only place that knows everyone |
//! | 3 | [`edge`], [`admin`] |
//! | 2 | [`cache`], [`origin`], [`transport`] |
//! | 1 | [`observe`] |
//! | 0 | [`config`], over [`media`] and [`http`] (pure: no tokio, no IO) |
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod cache;
pub mod cli;
pub mod config;
pub mod edge;
pub mod http;
pub mod media;
pub mod observe;
pub mod origin;
pub mod transport;
