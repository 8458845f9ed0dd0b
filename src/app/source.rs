//! What the admin API may ask of the process.

use super::reload::Reloader;
use super::{explain, purge};
use crate::admin::{Check, Health, Purge, PurgeFailure, PurgeSelector, Purged, Readiness, Source};
use crate::cache::disk::{LogState, LogStats};
use crate::cache::{BanLog, MemoryStore, NotLogged};
use crate::edge::Generation;
use crate::observe::{Lifecycle, Metrics, status};
use crate::origin::library::{Optimisation, Refused};
use crate::transcode::{self, Report, ServerStatus};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::SystemTime;

/// The one implementation of [`Source`].
pub(super) struct AppSource {
    generation: Arc<ArcSwap<Generation>>,
    metrics: Arc<Metrics>,
    lifecycle: Arc<Lifecycle>,
    store: &'static MemoryStore,
    /// Where there is a disk.
    ban_log: Option<BanLog>,
    reloader: Arc<Reloader>,
    transcoder: Option<Arc<transcode::Client>>,
}

impl AppSource {
    pub fn new(
        generation: Arc<ArcSwap<Generation>>,
        metrics: Arc<Metrics>,
        lifecycle: Arc<Lifecycle>,
        store: &'static MemoryStore,
        ban_log: Option<BanLog>,
        reloader: Arc<Reloader>,
        transcoder: Option<Arc<transcode::Client>>,
    ) -> Self {
        Self { generation, metrics, lifecycle, store, ban_log, reloader, transcoder }
    }
}

#[async_trait::async_trait]
impl Source for AppSource {
    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    fn readiness(&self) -> Readiness {
        let generation = self.generation.load();
        let mut checks: Vec<Check> = generation
            .origins
            .status()
            .into_iter()
            .map(|pool| {
                let up = pool.servers.iter().filter(|server| server.up).count();
                let all = pool.servers.len();
                // An origin that is down leaves what is cached: degraded, never out of rotation.
                let health = if up == all { Health::Ok } else { Health::Degraded };
                Check { name: format!("origin:{}", pool.origin), health, detail: format!("{up} of {all} servers up") }
            })
            .collect();
        checks.extend(generation.origins.libraries().into_iter().map(|(name, status)| Check {
            name: format!("library:{name}"),
            health: if status.trouble.is_empty() { Health::Ok } else { Health::Degraded },
            detail: status.detail(),
        }));
        checks.extend(self.transcoder.iter().flat_map(|client| client.standing()).map(transcoder_check));
        let loaded = self.metrics.config_reload_success.get() == 1;
        checks.push(Check {
            name: "configuration".to_owned(),
            health: if loaded { Health::Ok } else { Health::Degraded },
            detail: if loaded {
                String::new()
            } else {
                "the last reload failed; the one before is in force".to_owned()
            },
        });
        if let Some(log) = &self.ban_log {
            let (health, detail) = match log.is_durable() {
                true => (Health::Ok, ""),
                false => (Health::Degraded, "the log of purges cannot be written; purges would not survive a restart"),
            };
            checks.push(Check { name: "purges".to_owned(), health, detail: detail.to_owned() });
        }
        if let Some(disks) = self.store.disks() {
            checks.extend(disks.logs().map(|log| disk_check(&log.stats())));
            let away = disks.failures().map(|(disk, failure)| Check {
                name: format!("disk:{disk}"),
                health: Health::Degraded,
                detail: format!("{failure}; it is tried again"),
            });
            checks.extend(away);
        }
        Readiness { checks }
    }

    fn disks(&self) -> Vec<status::Disk> {
        let Some(disks) = self.store.disks() else { return Vec::new() };
        let away = disks.failures().map(|(disk, reason)| status::Disk {
            disk: disk.to_owned(),
            state: "degraded",
            reason,
            ..status::Disk::default()
        });
        let mut all: Vec<_> = disks.stats().into_iter().map(disk_status).chain(away).collect();
        all.sort_by_key(|disk| disk.disk.parse::<u64>().unwrap_or(u64::MAX));
        all
    }

    async fn jobs(&self) -> Option<Report> {
        Some(self.transcoder.as_ref()?.report().await)
    }

    fn optimise(&self, title: &str) -> Result<Optimisation, Refused> {
        let generation = self.generation.load_full();
        let mut refused = Refused::NoSidecar;
        for library in generation.origins.embedded() {
            match library.optimise(title) {
                Ok(begun) => return Ok(begun),
                Err(other) => refused = other,
            }
        }
        Err(refused)
    }

    fn optimisations(&self) -> Vec<Optimisation> {
        let generation = self.generation.load_full();
        generation.origins.embedded().into_iter().flat_map(|library| library.optimisations()).collect()
    }

    fn config_yaml(&self) -> String {
        self.reloader.show()
    }

    async fn explain(&self, url: &str) -> Result<serde_json::Value, String> {
        let generation = self.generation.load_full();
        explain::explain_with(&generation.config, Some(self.store), url).await
    }

    async fn purge(&self, asked: Purge) -> Result<Purged, PurgeFailure> {
        let at = SystemTime::now();
        let ban = purge::ban(&self.generation.load().config, &asked, at).map_err(PurgeFailure::Invalid)?;
        let logged = match &self.ban_log {
            Some(log) => log.add(ban).await,
            None => {
                self.store.bans().add(&ban);
                Ok(())
            }
        };
        if let Err(refused @ NotLogged::Refused) = logged {
            return Err(PurgeFailure::Refused(refused.to_string()));
        }
        let selector = match asked.selector {
            PurgeSelector::Url(_) => "url",
            PurgeSelector::Prefix(_) => "prefix",
            PurgeSelector::Tag(_) => "tag",
            PurgeSelector::All => "all",
        };
        let soft = if asked.soft { "true" } else { "false" };
        self.metrics.purges.with_label_values(&[selector, soft]).inc();
        let id = format!("{:032x}", fastrand::u128(..));
        tracing::info!(id, selector, soft, durable = self.ban_log.is_some() && logged.is_ok(), "purged");
        logged.map_err(|failure| PurgeFailure::NotDurable(failure.to_string()))?;
        Ok(Purged { id, at })
    }
}

/// What is in the cache plays without it: degraded, never out of rotation.
fn transcoder_check(server: ServerStatus) -> Check {
    let (health, detail) = match (server.up, server.build) {
        (true, build) => (Health::Ok, build.map_or_else(String::new, |build| build.to_string())),
        (false, Some(build)) => (Health::Degraded, format!("it does not answer; it was {build}")),
        (false, None) => (Health::Degraded, "it does not answer".to_owned()),
    };
    Check { name: format!("transcoder:{}", server.server), health, detail }
}

fn disk_status(log: LogStats) -> status::Disk {
    status::Disk {
        state: log.state.label(),
        reason: match log.state {
            LogState::Degraded { reason, .. } => reason,
            LogState::Recovering | LogState::Ok | LogState::Closed => String::new(),
        },
        disk: log.disk,
        objects: log.objects,
        bytes: log.bytes,
        capacity_bytes: log.bytes_max,
        index_bytes: log.index_bytes,
        queue_bytes: log.queue_bytes,
        queue_capacity_bytes: log.queue_bytes_max,
        accepted: log.accepted,
        refused: log.refused.into_iter().collect(),
        lost: log.lost,
        written_bytes: log.written_bytes + log.reinserted_bytes,
        read_bytes: log.read_bytes,
        errors: log.read_errors + log.write_errors + log.damaged_segments,
        write_bytes_per_second_max: log.write_bytes_per_second_max,
        write_bytes_per_day_max: log.write_bytes_per_day_max,
    }
}

/// A disk that is away or cannot be written leaves RAM and the origin: degraded, never out of rotation.
fn disk_check(stats: &LogStats) -> Check {
    let (health, detail) = match &stats.state {
        LogState::Ok => (Health::Ok, String::new()),
        LogState::Recovering => (Health::Ok, "the index is being rebuilt".to_owned()),
        LogState::Degraded { reason, .. } => (Health::Degraded, reason.clone()),
        LogState::Closed => (Health::Degraded, "closed".to_owned()),
    };
    Check { name: format!("disk:{}", stats.disk), health, detail }
}
