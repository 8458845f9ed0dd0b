//! All origins of a configuration by name. A reload builds a new set that shares the pools whose settings did not change, so
//! their health, counts and kept connections live on.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;

use super::library::{self, Library};
use super::{Pool, PoolError, PoolStatus};
use crate::config::{Origin, OriginKind};
use crate::observe::Metrics;
use crate::transcode::Client;

/// The origins of one configuration. Immutable; a request keeps the set it began with.
#[derive(Debug, Default)]
pub struct Origins {
    by_name: HashMap<String, Entry>,
}

/// What origins that live in this process need.
#[derive(Debug, Clone, Default)]
pub struct Embedded {
    /// For their sockets: must exist, and keep others out (mode 0700).
    pub folder: PathBuf,
    /// Makes streams of films; None: nobody does.
    pub transcoder: Option<Arc<Client>>,
}

/// An origin and what it was built from.
#[derive(Debug, Clone)]
struct Entry {
    origin: Arc<Origin>,
    pool: Arc<Pool>,
    /// Runs as long as a set of origins holds it.
    library: Option<Arc<Library>>,
}

impl Origins {
    /// Builds all `origins` of a configuration, sharing those of `previous` whose settings are the same. Changes nothing about
    /// `previous`: a configuration that fails later can be dropped. [`Self::start`] puts it in force. Libraries listen on
    /// sockets in `embedded.folder` from here on, so this needs a runtime.
    pub fn build(
        origins: &[Arc<Origin>],
        previous: Option<&Self>,
        metrics: &Arc<Metrics>,
        embedded: &Embedded,
    ) -> Result<Self, PoolError> {
        let mut by_name = HashMap::with_capacity(origins.len());
        for origin in origins {
            let entry = match previous.and_then(|previous| previous.unchanged(origin)) {
                Some(entry) => entry.clone(),
                None => entry(origin, metrics, embedded)?,
            };
            by_name.insert(origin.name.clone(), entry);
        }
        Ok(Self { by_name })
    }

    /// Starts the background work of the pools that are new, and stops that of `previous` ones not shared. Needs a runtime.
    pub fn start(&self, previous: Option<&Self>, shutdown: &watch::Receiver<bool>) {
        for (name, old) in previous.iter().flat_map(|previous| &previous.by_name) {
            if self.by_name.get(name).is_none_or(|new| !Arc::ptr_eq(&new.pool, &old.pool)) {
                old.pool.retire();
            }
        }
        for entry in self.by_name.values() {
            entry.pool.start(shutdown.clone());
        }
    }

    /// The pool of an origin; None only for a name the configuration does not have.
    pub fn get(&self, name: &str) -> Option<&Arc<Pool>> {
        self.by_name.get(name).map(|entry| &entry.pool)
    }

    /// All pools as they stand now, by name.
    pub fn status(&self) -> Vec<PoolStatus> {
        let mut status: Vec<_> = self.by_name.values().map(|entry| entry.pool.status()).collect();
        status.sort_by(|a, b| a.origin.cmp(&b.origin));
        status
    }

    /// How far the libraries are, by name.
    pub fn libraries(&self) -> Vec<(&str, library::Status)> {
        self.all_libraries().into_iter().map(|(name, library)| (name, library.status())).collect()
    }

    /// A library by its origin's name; None: that is none.
    pub fn library(&self, name: &str) -> Option<&Arc<Library>> {
        self.by_name.get(name)?.library.as_ref()
    }

    /// All libraries, by name.
    pub fn all_libraries(&self) -> Vec<(&str, &Arc<Library>)> {
        let libraries = self.by_name.iter().filter_map(|(name, entry)| Some((name.as_str(), entry.library.as_ref()?)));
        let mut libraries: Vec<_> = libraries.collect();
        libraries.sort_by_key(|(name, _)| *name);
        libraries
    }

    /// The libraries, by name.
    pub fn embedded(&self) -> Vec<&Library> {
        let libraries = self.by_name.iter().filter_map(|(name, entry)| Some((name, entry.library.as_deref()?)));
        let mut libraries: Vec<_> = libraries.collect();
        libraries.sort_by_key(|(name, _)| *name);
        libraries.into_iter().map(|(_, library)| library).collect()
    }

    fn unchanged(&self, origin: &Origin) -> Option<&Entry> {
        self.by_name.get(&origin.name).filter(|entry| *entry.origin == *origin && entry.pool.authorities_unchanged())
    }
}

/// What stands behind an origin, by kind: the one place that knows all kinds.
fn entry(origin: &Arc<Origin>, metrics: &Arc<Metrics>, embedded: &Embedded) -> Result<Entry, PoolError> {
    let (pool, library) = match &origin.kind {
        OriginKind::Http(settings) => (Pool::new(&origin.name, settings, Arc::clone(metrics))?, None),
        OriginKind::Library(settings) => {
            // A reload may run the old library beside the new one: each has a socket of its own.
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let socket = embedded.folder.join(format!("library-{}.sock", NEXT.fetch_add(1, Ordering::Relaxed)));
            let transcoder = embedded.transcoder.clone();
            let library = Library::start(&origin.name, settings, Arc::clone(metrics), socket.clone(), transcoder)
                .map_err(|error| PoolError::Library { origin: origin.name.clone(), error: error.to_string() })?;
            (Pool::for_socket(&origin.name, socket, Arc::clone(metrics))?, Some(library))
        }
    };
    Ok(Entry { origin: Arc::clone(origin), pool, library })
}
