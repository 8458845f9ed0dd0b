//! Connections of the admin listener and their limits.

use super::events::{Events, ended};
use super::guard::Guard;
use super::patient::Patient;
use super::routes::{self, Shared};
use super::{Source, jobs, page};
use crate::config::Secret;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

pub(super) const CONNECTIONS_MAX: usize = 256;
/// From the first byte of a connection, or the end of the answer before, to the end of a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For a client to take any more of its answer: a subscriber that stopped reading makes room for others.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// How long answers may go on after shutdown; event streams end at once.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// After a failed accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` turns true (or its sender is gone), then lets running answers end. The caller keeps it running while
/// the edge drains, so that `/readyz` can say so.
pub async fn serve(
    listener: TcpListener,
    source: Arc<dyn Source>,
    token: Option<Secret>,
    mut shutdown: watch::Receiver<bool>,
) {
    let shared = Arc::new(Shared {
        source: Arc::clone(&source),
        guard: Guard::new(token.as_ref()),
        events: Events::new("stats"),
        job_events: Events::new("jobs"),
        shutdown: shutdown.clone(),
        page_policy: page::policy(),
    });
    let publisher = {
        let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
        tokio::spawn(async move {
            let source = &*shared.source;
            tokio::join!(
                shared.events.publish(async || routes::stats_text(source), shutdown.clone()),
                shared.job_events.publish(async || jobs::text(source).await, shutdown),
            );
        })
    };
    let router = routes::router(shared);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = ended(&mut shutdown) => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&connections).try_acquire_owned() else {
            source.metrics().limits_reached.with_label_values(&["admin_connections"]).inc();
            continue;
        };
        let connection = connection(stream, router.clone(), shutdown.clone());
        tokio::spawn(async move {
            connection.await;
            drop(slot);
        });
    }
    drop(listener);
    let all_ended = connections.acquire_many(CONNECTIONS_MAX as u32);
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, all_ended).await.is_err() {
        tracing::warn!("admin connections were still open after {} s", SHUTDOWN_TIMEOUT.as_secs());
    }
    if publisher.await.is_err() {
        tracing::error!("the publisher of live events panicked");
    }
}

/// One connection, until it ends, or its answer under way when told to shut down.
async fn connection(stream: TcpStream, router: Router, mut shutdown: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream, WRITE_TIMEOUT)), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = ended(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection failed");
    }
}
