//! The embedded origin (`kind: library`): folders of films, served as plain HTTP/1.1 on a private unix socket, so that the edge
//! treats it like any other origin: the same pool, cache and metrics, no second way to answer a request.
//!
//! - `scan`, `catalog`, `search`: folders → titles, and how they are found.
//! - `rescan`, `share`: keep the catalog true, by time and by file events.
//! - `index`: what is known of titles, on a disk, over restarts.
//! - `films`, `findings`, `facts`, `look`: what films are, asked of the sidecar when they are played or when it is quiet.
//! - `server`, `respond`: connections, and requests → answers.
//! - `file`, `answer`, `list`, `artwork`, `page`: the kinds of answer; `player`: the pages built from `src/page`.
//! - `streams`: adaptive streams of a film, made by the sidecar.
//! - `optimise`: how many bits a title needs, found out by trials.
//! - `watched`, `popular`: what is watched these days, and making more of it when there is time.
//! - `copies`: which films are offered with their own packets.
//! - `pictures`: posters, thumbnails and trickplay, made by the sidecar.
//! - `status`, `fill`: how far it is; and all of it at once, for `reelgate scan`.
//!
//! Invariants: no file outside the folders is ever opened, whatever a path or a symbolic link says; a promised length is kept or
//! the connection is aborted; nothing is written to the folders. It knows no sites, no clients and no credentials: those
//! are the edge's.

mod answer;
mod artwork;
mod catalog;
mod copies;
mod facts;
mod file;
mod fill;
mod films;
mod findings;
mod index;
mod list;
mod look;
mod optimise;
mod page;
mod pictures;
mod player;
mod popular;
mod rescan;
mod respond;
mod scan;
mod search;
mod server;
mod share;
mod status;
mod streams;
#[cfg(test)]
mod tests;
mod watched;

use crate::config::LibraryOrigin;
use crate::observe::Metrics;
use crate::source::Folder;
use crate::transcode::Client;
use catalog::Catalog;
use films::Films;
use findings::Findings;
use index::Index;
use optimise::Optimiser;
use parking_lot::Mutex;
use pictures::Pictures;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;
use streams::Streams;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use fill::{Filled, Progress, fill};
pub use optimise::{Optimisation, Refused};
pub use popular::Popular;
pub use status::{Counts, Status};
pub use streams::Course;

/// How long a request waits for the first scan before it gets 503.
const FIRST_SCAN_WAIT: Duration = Duration::from_secs(10);

/// A running library. Dropping it stops it.
#[derive(Debug)]
pub struct Library {
    state: Arc<State>,
    socket: server::Socket,
    stop: CancellationToken,
}

/// What the tasks of a library share. It does not hold the [`Library`], so that dropping that ends them.
#[derive(Debug)]
struct State {
    /// The origin's name: a metric label.
    name: String,
    folders: Vec<Arc<Folder>>,
    /// None until the first scan is done.
    catalog: watch::Sender<Option<Arc<Catalog>>>,
    metrics: Arc<Metrics>,
    index: Arc<Index>,
    /// The next scan must save what is unchanged too.
    save_all: AtomicBool,
    is_scanning: AtomicBool,
    /// Titles found so far by the running scan, or by the last one.
    found: AtomicUsize,
    /// What was counted last.
    counts: Mutex<Counts>,
    /// What was wrong with the last scan.
    trouble: Mutex<Trouble>,
    /// None: films are served as they are only.
    sidecar: Option<Sidecar>,
    watched: Mutex<watched::Watched>,
}

/// For people; empty: nothing.
#[derive(Debug, Default)]
struct Trouble {
    /// With paths.
    logged: String,
    /// Without.
    told: String,
}

/// What needs the sidecar.
#[derive(Debug)]
struct Sidecar {
    streams: Streams,
    pictures: Pictures,
    films: Arc<Films>,
    optimiser: Arc<Optimiser>,
}

impl Library {
    /// Binds the socket, serves it, and scans in the background; call it inside a tokio runtime. A stale socket file is removed; a
    /// living one, or any other file at its place, is an error. The socket's folder is the caller's: it must exist and
    /// keep others out (mode 0700). A folder of films that is missing is no error: it may be mounted later.
    pub fn start(
        name: &str,
        settings: &LibraryOrigin,
        metrics: Arc<Metrics>,
        socket: PathBuf,
        transcoder: Option<Arc<Client>>,
    ) -> io::Result<Arc<Self>> {
        tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let (listener, socket) = server::Socket::bind(socket)?;
        if !player::is_built() {
            tracing::info!(
                origin = name,
                "library: this binary was built without the player; its pages are plain ones"
            );
        }
        let state = State::new(name, settings, metrics, transcoder);
        let stop = CancellationToken::new();
        if let Some(sidecar) = &state.sidecar {
            tokio::spawn(look::keep_looking(Arc::clone(&state), Arc::clone(&sidecar.films), stop.clone()));
            tokio::spawn(popular::keep_watched(Arc::clone(&state), stop.clone()));
        }
        tokio::spawn(server::serve(listener, Arc::clone(&state), stop.clone()));
        tokio::spawn(rescan::keep_scanning(Arc::clone(&state), settings.rescan_interval, stop.clone()));
        Ok(Arc::new(Self { state, socket, stop }))
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        self.socket.path()
    }

    /// Resolves once there is a list: the index's, or that of the first scan.
    pub async fn scanned(&self) {
        self.state.catalog().await;
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        self.state.status()
    }

    /// Removes the socket, closes idle connections and ends scanning. Responses in flight go on to their end: they belong to
    /// clients of the configuration that was in force when they began.
    pub fn stop(&self) {
        self.stop.cancel();
        if let Some(sidecar) = &self.state.sidecar {
            sidecar.optimiser.stop();
        }
        self.socket.remove();
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        self.stop();
    }
}

impl State {
    fn new(name: &str, settings: &LibraryOrigin, metrics: Arc<Metrics>, transcoder: Option<Arc<Client>>) -> Arc<Self> {
        let index = Index::new(settings.index.as_deref(), name, &settings.folders, Arc::clone(&metrics));
        let index = Arc::new(index);
        let sidecar = transcoder.map(|client| {
            let findings = Findings::new(Arc::clone(&client), Arc::clone(&index));
            let films = Films::new(Arc::clone(&client), findings, name, Arc::clone(&metrics));
            let films = Arc::new(films);
            let pictures = Pictures::new(Arc::clone(&client), Arc::clone(&films));
            let codecs = settings.codecs.clone();
            let optimiser = Optimiser::new(Arc::clone(&client), Arc::clone(&films), name, Arc::clone(&metrics));
            Sidecar { optimiser, streams: Streams::new(client, Arc::clone(&films), codecs), pictures, films }
        });
        Arc::new(Self {
            name: name.to_owned(),
            folders: settings.folders.iter().map(|path| Arc::new(Folder::new(path))).collect(),
            catalog: watch::Sender::new(None),
            metrics,
            index,
            save_all: AtomicBool::new(false),
            is_scanning: AtomicBool::new(false),
            found: AtomicUsize::new(0),
            counts: Mutex::default(),
            trouble: Mutex::default(),
            sidecar,
            watched: Mutex::default(),
        })
    }

    /// The newest catalog, as soon as there is one.
    async fn catalog(&self) -> Arc<Catalog> {
        let mut changes = self.catalog.subscribe();
        let found = changes.wait_for(Option::is_some).await.ok().and_then(|catalog| catalog.clone());
        found.unwrap_or_default()
    }
}
