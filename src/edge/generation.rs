//! One configuration in force, with what was built from it. A request keeps the generation it started with, so a reload
//! never changes the rules under it. Immutable but for counters.

use super::limiter::Limiter;
use crate::config::{Config, Site};
use crate::observe::{Answers, Metrics};
use crate::origin::Origins;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// See the module.
pub struct Generation {
    pub config: Arc<Config>,
    pub origins: Arc<Origins>,
    /// By index into `config.sites`.
    limiters: Vec<Option<Limiter>>,
    /// By index into `config.sites`; the last one is for requests of no site.
    answers: Vec<Answers>,
    /// Room for readers that go on from the origin.
    pub(super) resumes: Arc<Semaphore>,
}

impl Generation {
    pub fn new(config: Arc<Config>, origins: Arc<Origins>, metrics: &Arc<Metrics>) -> Self {
        let addresses_max = config.limits.addresses_max;
        let limiters =
            config.sites.iter().map(|site| site.rate.map(|rate| Limiter::new(rate, addresses_max))).collect();
        let sites = config.sites.iter().map(|site| site.name.as_str()).chain(["none"]);
        let answers = sites.map(|site| Answers::new(metrics.clone(), site)).collect();
        let resumes = Arc::new(Semaphore::new(config.limits.resumes_max));
        Self { config, origins, limiters, answers, resumes }
    }

    /// The place of a request's site in `config.sites`.
    pub fn route(&self, host: Option<&str>, path: &str) -> Option<usize> {
        self.config.routes.find(host, path)
    }

    /// The site at an index from [`Self::route`], and its rate limiter.
    pub fn site(&self, index: usize) -> (&Arc<Site>, Option<&Limiter>) {
        (&self.config.sites[index], self.limiters[index].as_ref())
    }

    /// Where the answers of a site are counted; None: those of requests that belong to none.
    pub fn answers(&self, site_index: Option<usize>) -> &Answers {
        &self.answers[site_index.unwrap_or(self.answers.len() - 1)]
    }
}
