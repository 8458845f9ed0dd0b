//! Raw → built: what a schema cannot say (names that must exist, values that contradict each other), then the built types.
//!
//! Everything wrong is reported, each at its own key; the result is absent if anything was. Invariant: a key that was
//! already reported by the decoder is absent from `places`, and nothing is said about it a second time.

mod complete;
mod compression;
mod listen;
mod origin;
mod site;
mod transcode;

pub use complete::complete;
pub use origin::keys_of_other_kinds;

use super::built::*;
use super::decode::Places;
use super::diagnose::{Diagnostics, Severity};
use super::formats;
use super::raw::*;
use super::units::{ByteSize, WriteBudget};
use crate::http::route::RouteTable;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Builds, and collects what is wrong.
pub struct Builder<'a> {
    pub raw: &'a RawConfig,
    pub places: &'a Places,
    /// Names under `origins`, also of those whose value was reported.
    pub origin_names: &'a [String],
    pub source: &'a str,
    pub found: &'a mut Diagnostics,
}

impl Builder<'_> {
    /// The configuration; only whole if `found` has no errors afterwards.
    pub fn build(mut self, file: &Path) -> Option<Config> {
        let listen = self.listen();
        let trusted_proxies = networks(&self.raw.trusted_proxies);
        let origins = self.origins();
        let sites = self.sites(&origins, &listen);
        let limits = self.limits();
        let cache = self.cache();
        let admin = self.admin(&listen);
        let transcode = self.transcode();
        self.not_built_yet();
        if self.found.has_errors() {
            return None;
        }
        let routes = sites.iter().map(|site| (site.hosts.clone(), site.paths.clone()));
        let routes = match RouteTable::new(routes) {
            Ok(routes) => routes,
            Err(conflict) => {
                self.error("sites", conflict.to_string(), None);
                return None;
            }
        };
        Some(Config {
            file: file.to_owned(),
            listen,
            limits,
            trusted_proxies,
            origins,
            sites: sites.into_iter().map(Arc::new).collect(),
            routes,
            cache,
            admin,
            log: self.log(),
            shutdown: Shutdown { drain_timeout: self.raw.shutdown.drain_timeout.0, notice: self.raw.shutdown.notice.0 },
            transcode,
            worker_threads: self.raw.workers.unwrap_or(1),
        })
    }

    fn limits(&mut self) -> Limits {
        let raw = &self.raw.limits;
        // Pingora's HTTP/1 reader stops at 1 MiB minus one byte.
        if raw.header_size < ByteSize::kib(1) || raw.header_size > ByteSize::kib(1023) {
            self.error("limits.header_size", "this size is out of range", Some("allowed: 1KiB to 1023KiB"));
        }
        Limits {
            header_bytes_max: bytes(raw.header_size),
            header_count_max: raw.header_count,
            header_timeout: raw.header_timeout.0,
            handshake_timeout: raw.handshake_timeout.0,
            idle_timeout: raw.idle_timeout.0,
            stall_timeout: raw.stall_timeout.0,
            upgrade_idle_timeout: raw.upgrade_idle_timeout.0,
            connections_max: raw.connections,
            connections_per_address_max: raw.connections_per_address,
            requests_per_connection_max: raw.requests_per_connection,
            http2_streams_max: raw.http2_streams,
            http2_pending_resets_max: raw.http2_pending_resets,
            http3_streams_max: raw.http3_streams,
            http3_resets_max: raw.http3_resets,
            http3_handshakes_max: raw.http3_handshakes,
            resumes_max: raw.resumes,
            addresses_max: raw.addresses,
        }
    }

    fn cache(&mut self) -> Cache {
        let raw = &self.raw.cache;
        if raw.memory < ByteSize::mib(1) {
            self.error("cache.memory", "the store is too small to hold anything", Some("the least is 1MiB"));
        }
        if self.places.has("cache.object_max") && raw.object_max > raw.memory && raw.disk.0.is_empty() {
            let advice = "objects larger than the store are never kept; raise cache.memory, or lower this";
            self.warning("cache.object_max", "larger than `cache.memory`", Some(advice));
        }
        if raw.slices.min_size < ByteSize::mib(1) {
            let advice = "the least is 1MiB; to keep everything whole, set cache.slices.enabled to false";
            self.error("cache.slices.min_size", "too small to be worth parts", Some(advice));
        }
        if raw.slices.read_ahead < ByteSize::mib(1) {
            let advice = "the least is 1MiB: less would ask the origin for every few frames";
            self.error("cache.slices.read_ahead", "too little", Some(advice));
        }
        let mut disks: Vec<Disk> = Vec::new();
        for (index, disk) in raw.disk.0.iter().enumerate() {
            let path = PathBuf::from(&disk.path);
            let at = format!("cache.disk[{index}].path");
            if disks.iter().any(|known| known.path == path) {
                self.error(&at, "this folder is given twice", Some("one entry for each disk"));
            }
            let (write_bytes_per_second_max, write_bytes_per_day_max) = match disk.write_budget {
                None => (None, None),
                Some(WriteBudget::BytesPerSecond(bytes)) => (Some(bytes), None),
                Some(WriteBudget::BytesPerDay(bytes)) => (None, Some(bytes)),
                Some(WriteBudget::MilliDrivesPerDay(drives)) => {
                    (None, Some((disk.size.0 / 1000).saturating_mul(drives)))
                }
            };
            if disk.size < ByteSize::mib(1) {
                let advice = "the least is 1MiB; a number without a unit is bytes, so write it like 20GiB";
                self.error(&format!("cache.disk[{index}].size"), "too small to hold anything", Some(advice));
            }
            disks.push(Disk {
                path,
                size_bytes: disk.size.0,
                write_bytes_per_day_max,
                write_bytes_per_second_max,
                admit: match disk.admit {
                    RawDiskAdmission::All => DiskAdmission::All,
                    RawDiskAdmission::SecondHit => DiskAdmission::SecondHit,
                },
            });
        }
        Cache {
            memory_bytes: raw.memory.0,
            disks,
            object_bytes_max: raw.object_max.0.min(raw.memory.0),
            slices: Slices {
                enabled: raw.slices.enabled,
                bytes_min: raw.slices.min_size.0,
                read_ahead_bytes_max: raw.slices.read_ahead.0,
            },
            background_fill: match raw.background_fill {
                RawBackgroundFill::Always => BackgroundFill::Always,
                RawBackgroundFill::Half => BackgroundFill::Half,
                RawBackgroundFill::Never => BackgroundFill::Never,
            },
            collapse_timeout: raw.collapse_timeout.0,
            hold_timeout: raw.hold_timeout.0,
        }
    }

    fn admin(&mut self, listen: &[Listen]) -> Option<Admin> {
        let raw = self.raw.admin.as_ref()?;
        let address = formats::socket_address(&raw.address).ok()?;
        // An empty one (`${REELGATE_TOKEN:-}`) is none: it would protect nothing.
        let token = raw.token.as_ref().map(|token| token.0.clone()).filter(|token| !token.expose().is_empty());
        let unprotected = token.is_none() && !self.places.was_reported("admin.token");
        if !address.ip().to_canonical().is_loopback() && unprotected {
            let advice = "set admin.token (best ${REELGATE_TOKEN}), or listen on 127.0.0.1 or [::1] only";
            self.error("admin.address", "the admin listener is beyond loopback and has no token", Some(advice));
        }
        let taken = listen.iter().any(|other| other.address == ListenAddress::Tcp(address));
        if taken && address.port() != 0 {
            self.error(
                "admin.address",
                "this address is one of `listen`",
                Some("give the admin listener its own port"),
            );
        }
        Some(Admin { address, token })
    }

    fn log(&self) -> Log {
        let access = &self.raw.log.access;
        Log {
            level: self.raw.log.level.clone(),
            access: AccessLog {
                enabled: access.enabled,
                format: match access.format {
                    RawAccessFormat::Json => AccessFormat::Json,
                    RawAccessFormat::Human => AccessFormat::Human,
                },
                file: access.file.as_ref().map(PathBuf::from),
                sample: access.sample,
            },
        }
    }

    fn not_built_yet(&mut self) {
        if self.raw.prefetch.is_some() {
            self.warning("prefetch", "`prefetch` is not built yet: nothing is fetched ahead", None);
        }
    }

    fn error(&mut self, path: &str, message: impl Into<String>, advice: Option<&str>) {
        self.push(Severity::Error, path, message.into(), advice);
    }

    fn warning(&mut self, path: &str, message: impl Into<String>, advice: Option<&str>) {
        self.push(Severity::Warning, path, message.into(), advice);
    }

    fn push(&mut self, severity: Severity, path: &str, message: String, advice: Option<&str>) {
        self.found.push(severity, self.places.find(path), self.source, message, advice.map(str::to_owned));
    }
}

fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

/// Networks whose form the decoder has checked.
fn networks(texts: &[String]) -> Vec<ipnet::IpNet> {
    texts.iter().filter_map(|text| formats::network(text).ok()).collect()
}
