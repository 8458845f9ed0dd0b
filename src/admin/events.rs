//! `/api/v1/events` and `/api/v1/jobs/events`: Server-Sent Events (HTML Living Standard, section 9.2), a snapshot every second.
//!
//! Invariants: a snapshot is taken once a second for all subscribers, and not at all without any; a subscriber that reads
//! slowly skips snapshots instead of queueing them, and one that stops reading is left (`patient`); every stream ends when the listener shuts down.

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
    name: &'static str,
    latest: watch::Sender<Arc<str>>,
    slots: Arc<Semaphore>,
}

/// Who gets snapshots, while this is held.
pub(super) struct Subscriber {
    first: Option<Arc<str>>,
    latest: watch::Receiver<Arc<str>>,
    shutdown: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
}

impl Events {
    /// Of events of this name.
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, latest: watch::Sender::new(Arc::from("")), slots: Arc::new(Semaphore::new(SUBSCRIBERS_MAX)) }
    }

    /// Publishes until shut down.
    pub(super) async fn publish<F: Future<Output = Arc<str>> + Send>(
        &self,
        snapshot: impl Fn() -> F + Send,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = ended(&mut shutdown) => return,
                _ = interval.tick() => {
                    if self.latest.receiver_count() > 0 {
                        self.latest.send_replace(snapshot().await);
                    }
                }
            }
        }
    }

    /// None: all slots are taken.
    pub(super) fn subscriber(&self, first: Arc<str>, shutdown: watch::Receiver<bool>) -> Option<Subscriber> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(Subscriber { first: Some(first), latest: self.latest.subscribe(), shutdown, _slot: slot })
    }

    /// None: all slots are taken.
    pub(super) fn subscribe(&self, first: Arc<str>, shutdown: watch::Receiver<bool>) -> Option<Response> {
        let (name, subscriber) = (self.name, self.subscriber(first, shutdown)?);
        let stream = futures_util::stream::unfold(subscriber, move |mut subscriber| async move {
            let snapshot = subscriber.next().await?;
            Some((Ok::<_, Infallible>(Event::default().event(name).data(&*snapshot)), subscriber))
        });
        Some(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
    }
}

impl Subscriber {
    /// The next snapshot; None at shutdown.
    pub(super) async fn next(&mut self) -> Option<Arc<str>> {
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

/// Resolves when shutdown is asked for, or nobody is left who could ask.
pub(super) async fn ended(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|ended| *ended).await;
}
