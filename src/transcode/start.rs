//! Begins with the sidecars that are configured: those on other hosts, and the one on this host.

use super::supervisor::Supervisor;
use super::{Client, find_program};
use crate::config::Transcode;
use crate::observe::Metrics;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Starts what makes streams, until `ends` says so: the one on this host listens in `folder` (mode 0700). Call it in a runtime.
///
/// # Errors
/// Nothing can make any: why, and what to do.
pub fn start(
    settings: &Transcode,
    folder: &Path,
    metrics: &Arc<Metrics>,
    ends: &watch::Receiver<bool>,
) -> Result<Arc<Client>, String> {
    let local = match (local(settings), &settings.remote) {
        (Err(why), None) => return Err(why),
        (Err(why), Some(_)) => {
            match settings.local {
                Some(true) => tracing::error!("transcoder: none on this host: {why}"),
                _ => tracing::info!("transcoder: none on this host beside transcode.servers: {why}"),
            }
            None
        }
        (Ok(program), _) => program,
    };
    let socket = folder.join("transcoder.sock");
    let listens = local.is_some().then(|| socket.clone());
    let client = Arc::new(Client::of(listens, settings.remote.as_ref(), Some(Arc::clone(metrics))));
    client.keep_looking(ends);
    if let Some(program) = local {
        Supervisor::start(program, socket, settings, Arc::clone(&client), Arc::clone(metrics), ends.clone());
    }
    Ok(client)
}

/// The program for this host, None where none is wanted.
fn local(settings: &Transcode) -> Result<Option<PathBuf>, String> {
    if settings.local == Some(false) {
        return Ok(None);
    }
    match ["ffmpeg", "ffprobe"].into_iter().find(|name| find_program(name).is_none()) {
        Some(missing) => Err(format!("{missing} is not in PATH: install ffmpeg")),
        None => Supervisor::find(settings).map(Some),
    }
}
