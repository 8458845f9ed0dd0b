//! The only place that knows everyone: builds each room from the configuration, runs them, reloads, and drains.
//!
//! Parts: `build` puts the rooms together, `reload` swaps a generation, `explain`, `purge` and `source` answer the admin API, `scan` fills
//! libraries' indexes, `idle` does what nobody waits for, and `popular` and `optimising` are some of that. It decides nothing about
//! requests.

mod build;
mod explain;
mod idle;
mod optimising;
mod popular;
mod purge;
mod reload;
mod scan;
mod source;

pub use explain::explain;
pub use scan::{Scanned, scan};

use crate::config::Loaded;
use crate::observe::{self, Phase};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long a stop waits for the disks.
const DISK_CLOSE_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs the edge until it is told to stop. Exit code 1 with a message where it cannot start.
pub fn serve(loaded: Loaded) -> ExitCode {
    if let Err(error) = observe::logging::init(&loaded.config.log.level) {
        // Before there is a log there is standard error.
        eprintln!("reelgate: {error}");
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(loaded.config.worker_threads)
        .thread_name("reelgate")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(run(loaded)) {
        Ok(()) => {
            // What is still running has had its time; do not wait for blocking tasks either.
            runtime.shutdown_background();
            ExitCode::SUCCESS
        }
        Err(error) => failed(error.as_ref()),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    tracing::error!("cannot start: {error}");
    ExitCode::from(1)
}

/// Start, serve, drain.
async fn run(loaded: Loaded) -> Result<(), Box<dyn std::error::Error>> {
    let running = build::start(loaded).await?;
    let mut watcher = reload::Watcher::start(running.reloader.clone());

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    running.lifecycle.enter(Phase::Serving);
    running.metrics.ready.set(1);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "serving");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                if let Some(access_log) = &*running.access_log.load() {
                    access_log.reopen();
                }
                watcher.reload_now("SIGHUP").await;
            }
            () = watcher.changed() => watcher.reload_now("file change").await,
        }
    }

    let shutdown = running.reloader.shutdown();
    tracing::info!(in_flight = running.lifecycle.in_flight(), "draining");
    running.lifecycle.enter(Phase::Draining);
    running.metrics.ready.set(0);
    let drain = async {
        tokio::time::sleep(shutdown.notice).await;
        running.stop_listening();
        tokio::time::timeout(shutdown.drain_timeout, running.lifecycle.drained()).await.is_ok()
    };
    let clean = tokio::select! {
        clean = drain => clean,
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
    };
    if !clean {
        tracing::warn!(in_flight = running.lifecycle.in_flight(), "stopping with responses unfinished");
    }
    if let Some(access_log) = running.access_log.swap(None) {
        access_log.close();
    }
    running.stop_the_rest();
    if let Some(disks) = running.store.disks() {
        // What is kept for the next start is worth some seconds, not more.
        if !matches!(tokio::time::timeout(DISK_CLOSE_TIMEOUT, disks.close()).await, Ok(true)) {
            tracing::warn!("not all that waited for the disks was written");
        }
    }
    tracing::info!("stopped");
    Ok(())
}

/// Installs rustls' provider once, before anything makes a TLS configuration.
fn install_crypto_provider() {
    // A second call in one process (tests) finds it installed: that is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
