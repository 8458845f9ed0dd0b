//! `origins`: which keys belong to which kind, and the built origins.

use super::super::built::*;
use super::super::formats;
use super::super::raw::*;
use super::Builder;
use crate::media::codec::Codec;
use crate::media::upstream::multivariant::Wanted;
use std::path::PathBuf;
use std::sync::Arc;

/// Keys that only an origin of servers has.
const HTTP_KEYS: [&str; 12] = [
    "servers",
    "host",
    "balance",
    "protocol",
    "tls",
    "timeouts",
    "retry",
    "health",
    "breaker",
    "dns_interval",
    "keepalive_idle",
    "add_renditions",
];
/// Keys that only a library has.
const LIBRARY_KEYS: [&str; 3] = ["folders", "rescan_interval", "index"];

/// Keys that mean nothing for an origin of this kind.
pub fn keys_of_other_kinds(kind: RawKind) -> &'static [&'static str] {
    match kind {
        RawKind::Library => &HTTP_KEYS,
        RawKind::Http | RawKind::Jellyfin | RawKind::Plex => &LIBRARY_KEYS,
    }
}

impl Builder<'_> {
    pub(super) fn origins(&mut self) -> Vec<Arc<Origin>> {
        let raw = self.raw;
        if self.places.has("origins") && self.origin_names.is_empty() {
            self.error(
                "origins",
                "there is no origin",
                Some("name at least one, like media: {kind: http, servers: […]}"),
            );
        }
        raw.origins.iter().filter_map(|(name, origin)| self.origin(name, origin)).collect()
    }

    fn origin(&mut self, name: &str, raw: &RawOrigin) -> Option<Arc<Origin>> {
        let at = |key: &str| format!("origins.{name}.{key}");
        if !self.places.has(&at("kind")) {
            return None;
        }
        for key in keys_of_other_kinds(raw.kind) {
            if self.places.has(&at(key)) {
                let kind = if raw.kind == RawKind::Library { "http" } else { "library" };
                self.error(
                    &at(key),
                    format!("`{key}` belongs to `kind: {kind}`"),
                    Some("remove it, or change the kind"),
                );
            }
        }
        let kind = match raw.kind {
            RawKind::Jellyfin | RawKind::Plex => {
                let kind = if raw.kind == RawKind::Plex { "plex" } else { "jellyfin" };
                let advice = "use kind: http for now; it passes everything through and caches what the origin allows";
                self.error(&at("kind"), format!("`kind: {kind}` is not built yet"), Some(advice));
                return None;
            }
            RawKind::Library => {
                if raw.folders.is_empty() && self.places.is_absent(&at("folders")) {
                    self.error(
                        &format!("origins.{name}"),
                        "`folders` is missing",
                        Some("name at least one folder of films"),
                    );
                }
                let index = raw.index.as_ref().map(PathBuf::from);
                if index.iter().any(|index| raw.folders.iter().any(|folder| index.starts_with(folder))) {
                    let advice = "choose a folder outside; nothing is ever written among the films";
                    self.error(&at("index"), "the index lies in a folder of films", Some(advice));
                }
                OriginKind::Library(LibraryOrigin {
                    folders: raw.folders.iter().map(PathBuf::from).collect(),
                    rescan_interval: raw.rescan_interval.0,
                    index,
                    codecs: self
                        .raw
                        .transcode
                        .codecs
                        .as_ref()
                        .map(|codecs| codecs.iter().copied().map(codec).collect()),
                })
            }
            RawKind::Http => OriginKind::Http(Box::new(self.http_origin(name, raw))),
        };
        Some(Arc::new(Origin { name: name.to_owned(), kind }))
    }

    fn servers(&mut self, name: &str, raw: &RawOrigin) -> Vec<Server> {
        let at = |key: &str| format!("origins.{name}.{key}");
        if raw.servers.is_empty() && self.places.is_absent(&at("servers")) {
            self.error(
                &format!("origins.{name}"),
                "`servers` is missing",
                Some("like servers: [http://127.0.0.1:8096]"),
            );
        }
        let mut servers: Vec<Server> = Vec::new();
        for (index, server) in raw.servers.iter().enumerate() {
            let (url, weight) = match server {
                RawServer::Url(url) => (url, 1),
                RawServer::Weighted(server) => (&server.url, server.weight),
            };
            let Ok((address, tls)) = formats::server_url(url) else { continue };
            if servers.iter().any(|known| known.address == address) {
                let advice = "to send it more requests, give it a weight";
                self.error(&at(&format!("servers[{index}]")), "this server is given twice", Some(advice));
            }
            servers.push(Server { address, tls, weight });
        }
        servers
    }

    fn http_origin(&mut self, name: &str, raw: &RawOrigin) -> HttpOrigin {
        let at = |key: &str| format!("origins.{name}.{key}");
        let servers = self.servers(name, raw);
        if raw.timeouts.handshake < raw.timeouts.connect {
            let key =
                if self.places.has(&at("timeouts.handshake")) { "timeouts.handshake" } else { "timeouts.connect" };
            let advice = format!("handshake ({}) includes connect ({})", raw.timeouts.handshake, raw.timeouts.connect);
            self.error(&at(key), "`handshake` is shorter than `connect`", Some(&advice));
        }
        HttpOrigin {
            servers,
            host: raw.host.clone(),
            balance: match raw.balance {
                RawBalance::RoundRobin => Balance::RoundRobin,
                RawBalance::LeastRequests => Balance::LeastRequests,
                RawBalance::Hash => Balance::Hash,
            },
            protocol: match raw.protocol {
                RawOriginProtocol::Http1 => OriginProtocol::Http1,
                RawOriginProtocol::Http2 => OriginProtocol::Http2,
                RawOriginProtocol::Auto => OriginProtocol::Auto,
            },
            tls: OriginTls {
                verify: raw.tls.verify,
                ca: raw.tls.ca.as_ref().map(PathBuf::from),
                server_name: raw.tls.server_name.clone(),
            },
            timeouts: OriginTimeouts {
                connect: raw.timeouts.connect.0,
                handshake: raw.timeouts.handshake.0,
                first_byte: raw.timeouts.first_byte.0,
                read: raw.timeouts.read.0,
                write: raw.timeouts.write.0,
            },
            retry: Retry {
                attempts_max: raw.retry.attempts,
                budget_ratio: raw.retry.budget_ratio,
                budget_per_second_min: raw.retry.budget_per_second,
            },
            health: Health {
                active: raw.health.active.as_ref().and_then(active_health),
                passive_failures: raw.health.passive.failures,
                passive_ejection: raw.health.passive.ejection.0,
            },
            breaker: Breaker {
                enabled: raw.breaker.enabled,
                failure_ratio: raw.breaker.failure_ratio,
                requests_min: raw.breaker.requests,
                window: raw.breaker.window.0,
                open: raw.breaker.open.0,
            },
            dns_interval: raw.dns_interval.0,
            keepalive_idle: raw.keepalive_idle.0,
            add_renditions: raw.add_renditions.as_ref().and_then(added),
        }
    }
}

/// None: none are.
fn added(raw: &RawAddRenditions) -> Option<Wanted> {
    match raw {
        RawAddRenditions::Switch(false) => None,
        RawAddRenditions::Switch(true) | RawAddRenditions::Word(RawRenditionsWord::Auto) => Some(Wanted::Auto),
        RawAddRenditions::Rungs(rungs) if rungs.is_empty() => None,
        RawAddRenditions::Rungs(rungs) => Some(Wanted::Heights(rungs.iter().map(|rung| rung.height()).collect())),
    }
}

fn codec(raw: RawCodec) -> Codec {
    match raw {
        RawCodec::H264 => Codec::H264,
        RawCodec::Hevc => Codec::Hevc,
        RawCodec::Av1 => Codec::Av1,
    }
}

fn active_health(raw: &RawActiveHealth) -> Option<ActiveHealth> {
    Some(ActiveHealth {
        path: raw.path.clone(),
        interval: raw.interval.0,
        timeout: raw.timeout.0,
        healthy_threshold: raw.healthy_threshold,
        unhealthy_threshold: raw.unhealthy_threshold,
        status: formats::status_range(&raw.status).ok()?,
    })
}
