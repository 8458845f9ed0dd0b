//! Optimises popular titles, one after the other, while nobody waits for a segment: what follows of them is then made with fewer bits.
//!
//! Invariant: a title that could not be optimised is left as it is for a day.

use super::idle::{Step, Work};
use super::popular::{AGAIN_AFTER, segments_min};
use crate::config::Background;
use crate::edge::Generation;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// See the module.
pub(super) struct PopularOptimised {
    settings: Background,
    generation: Arc<ArcSwap<Generation>>,
    /// When a title was begun with, by the names of its library and its own. No more than are popular in a day.
    begun: HashMap<(String, String), Instant>,
}

impl PopularOptimised {
    pub fn new(settings: Background, generation: Arc<ArcSwap<Generation>>) -> Self {
        Self { settings, generation, begun: HashMap::new() }
    }
}

#[async_trait::async_trait]
impl Work for PopularOptimised {
    async fn step(&mut self) -> Step {
        let generation = self.generation.load_full();
        let libraries = generation.origins.all_libraries();
        if libraries.iter().any(|(_, library)| library.is_optimising()) {
            // What would be made meanwhile would be another version's.
            return Step::NotNow;
        }
        self.begun.retain(|_, at| at.elapsed() < AGAIN_AFTER);
        for (origin, library) in libraries {
            for popular in library.popular(segments_min(&self.settings), self.settings.titles_max) {
                let name = (origin.to_owned(), popular.title.clone());
                if library.is_optimised(&popular.title) || self.begun.contains_key(&name) {
                    continue;
                }
                self.begun.insert(name, Instant::now());
                match library.optimise(&popular.title) {
                    Ok(_) => return Step::NotNow,
                    Err(refused) => {
                        tracing::debug!(title = popular.title, %refused, "a popular title is not optimised")
                    }
                }
            }
        }
        Step::Nothing
    }
}
