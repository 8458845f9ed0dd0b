//! One configuration in force, with what was built from it. A request keeps the generation it started with, so a reload
//! never changes the rules under it. Immutable but for counters.

use super::limiter::Limiter;
use crate::config::{Config, Site};
use crate::origin::Origins;
use std::sync::Arc;

/// See the module.
pub struct Generation {
    pub config: Arc<Config>,
    pub origins: Arc<Origins>,
    /// By index into `config.sites`.
    limiters: Vec<Option<Limiter>>,
}

impl Generation {
    pub fn new(config: Arc<Config>, origins: Arc<Origins>) -> Self {
        let addresses_max = config.limits.addresses_max;
        let limiters =
            config.sites.iter().map(|site| site.rate.map(|rate| Limiter::new(rate, addresses_max))).collect();
        Self { config, origins, limiters }
    }

    /// The site of a request, and its rate limiter.
    pub fn route(&self, host: Option<&str>, path: &str) -> Option<(&Arc<Site>, Option<&Limiter>)> {
        let index = self.config.routes.find(host, path)?;
        Some((&self.config.sites[index], self.limiters[index].as_ref()))
    }
}
