//! `/api/v1/events`: Server-Sent Events (HTML Living Standard, section 9.2), a snapshot of the statistics every second.
//!
//! Invariants: the metrics are read once a second for all subscribers, and not at all without any; a subscriber that reads
//! slowly skips snapshots instead of queueing them; every stream ends when the listener shuts down.

use super::Source;
use crate::observe::Stats;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub(super) const SUBSCRIBERS_MAX: usize = 64;
const INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) struct Events {
    latest: watch::Sender<Arc<str>>,
    slots: Arc<Semaphore>,
}

struct Subscriber {
    first: Option<Arc<str>>,
    latest: watch::Receiver<Arc<str>>,
    shutdown: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { latest: watch::Sender::new(Arc::from("")), slots: Arc::new(Semaphore::new(SUBSCRIBERS_MAX)) }
    }

    /// Publishes until shut down.
    pub(super) async fn publish(&self, source: &dyn Source, mut shutdown: watch::Receiver<bool>) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = ended(&mut shutdown) => return,
                _ = interval.tick() => {
                    if self.latest.receiver_count() > 0 {
                        self.latest.send_replace(snapshot(source));
                    }
                }
            }
        }
    }

    /// None: all slots are taken.
    pub(super) fn subscribe(&self, source: &dyn Source, shutdown: watch::Receiver<bool>) -> Option<Response> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        let first = Some(snapshot(source));
        let subscriber = Subscriber { first, latest: self.latest.subscribe(), shutdown, _slot: slot };
        let stream = futures_util::stream::unfold(subscriber, |mut subscriber| async move {
            let stats = subscriber.next().await?;
            Some((Ok::<_, Infallible>(Event::default().event("stats").data(&*stats)), subscriber))
        });
        Some(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
    }
}

impl Subscriber {
    async fn next(&mut self) -> Option<Arc<str>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        tokio::select! {
            biased;
            () = ended(&mut self.shutdown) => None,
            changed = self.latest.changed() => changed.ok().map(|()| Arc::clone(&self.latest.borrow_and_update())),
        }
    }
}

fn snapshot(source: &dyn Source) -> Arc<str> {
    let stats = Stats::snapshot(source.metrics(), source.lifecycle(), source.disks());
    serde_json::to_string(&stats).expect("maps with string keys and numbers").into()
}

/// Resolves when shutdown is asked for, or nobody is left who could ask.
pub(super) async fn ended(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|ended| *ended).await;
}
