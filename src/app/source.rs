//! What the admin API may ask of the process.

use super::reload::Reloader;
use super::{explain, purge};
use crate::admin::{Check, Health, Purge, PurgeSelector, Purged, Readiness, Source};
use crate::cache::MemoryStore;
use crate::edge::Generation;
use crate::observe::{Lifecycle, Metrics};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::SystemTime;

/// The one implementation of [`Source`].
pub(super) struct AppSource {
    generation: Arc<ArcSwap<Generation>>,
    metrics: Arc<Metrics>,
    lifecycle: Arc<Lifecycle>,
    store: &'static MemoryStore,
    reloader: Arc<Reloader>,
}

impl AppSource {
    pub fn new(
        generation: Arc<ArcSwap<Generation>>,
        metrics: Arc<Metrics>,
        lifecycle: Arc<Lifecycle>,
        store: &'static MemoryStore,
        reloader: Arc<Reloader>,
    ) -> Self {
        Self { generation, metrics, lifecycle, store, reloader }
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
        Readiness { checks }
    }

    fn config_yaml(&self) -> String {
        self.reloader.show()
    }

    async fn explain(&self, url: &str) -> Result<serde_json::Value, String> {
        let generation = self.generation.load();
        explain::explain(&generation.config, Some(self.store), url)
    }

    async fn purge(&self, asked: Purge) -> Result<Purged, String> {
        let at = SystemTime::now();
        let ban = purge::ban(&self.generation.load().config, &asked, at)?;
        self.store.bans().add(&ban);
        let selector = match asked.selector {
            PurgeSelector::Url(_) => "url",
            PurgeSelector::Prefix(_) => "prefix",
            PurgeSelector::Tag(_) => "tag",
            PurgeSelector::All => "all",
        };
        let soft = if asked.soft { "true" } else { "false" };
        self.metrics.purges.with_label_values(&[selector, soft]).inc();
        let id = format!("{:032x}", fastrand::u128(..));
        tracing::info!(id, selector, soft, "purged");
        Ok(Purged { id, at })
    }
}
