//! The embedded origin (`kind: library`): folders of films, served as plain HTTP/1.1 on a private unix socket, so that the edge
//! treats it like any other origin: the same pool, cache and metrics, no second way to answer a request.
//!
//! - `scan`, `catalog`: folders → titles, and what is known of them.
//! - `rescan`: keeps the catalog true, by time and by file events.
//! - `server`, `respond`: connections, and requests → answers.
//! - `file`, `answer`, `page`: the kinds of answer.
//! - `streams`: adaptive streams of a film, made by the sidecar.
//! - `copies`: which films are offered with their own packets.
//!
//! Invariants: no file outside the folders is ever opened, whatever a path or a symbolic link says; a promised length is kept or
//! the connection is aborted; nothing is written to the folders. It knows no sites, no clients and no credentials: those
//! are the edge's.

mod answer;
mod catalog;
mod copies;
mod file;
mod page;
mod rescan;
mod respond;
mod scan;
mod server;
mod streams;
#[cfg(test)]
mod tests;

use crate::config::LibraryOrigin;
use crate::observe::Metrics;
use crate::source::Folder;
use crate::transcode::Client;
use catalog::Catalog;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use streams::Streams;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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
    /// None: films are served as they are only.
    streams: Option<Streams>,
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
        let state = Arc::new(State {
            name: name.to_owned(),
            folders: settings.folders.iter().map(|path| Arc::new(Folder::new(path))).collect(),
            catalog: watch::Sender::new(None),
            streams: transcoder.map(|client| Streams::new(client, name, Arc::clone(&metrics))),
            metrics,
        });
        let stop = CancellationToken::new();
        tokio::spawn(server::serve(listener, Arc::clone(&state), stop.clone()));
        tokio::spawn(rescan::keep_scanning(Arc::clone(&state), settings.rescan_interval, stop.clone()));
        Ok(Arc::new(Self { state, socket, stop }))
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        self.socket.path()
    }

    /// Resolves once the first scan is done.
    pub async fn scanned(&self) {
        self.state.catalog().await;
    }

    /// Removes the socket, closes idle connections and ends scanning. Responses in flight go on to their end: they belong to
    /// clients of the configuration that was in force when they began.
    pub fn stop(&self) {
        self.stop.cancel();
        self.socket.remove();
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        self.stop();
    }
}

impl State {
    /// The newest catalog, as soon as there is one.
    async fn catalog(&self) -> Arc<Catalog> {
        let mut changes = self.catalog.subscribe();
        let found = changes.wait_for(Option::is_some).await.ok().and_then(|catalog| catalog.clone());
        found.unwrap_or_default()
    }
}
