//! `/api/v1/jobs`: what the transcoder is at, as a list, as Server-Sent Events and over a WebSocket (RFC 6455), a snapshot a second.
//!
//! Invariants: all subscribers share one snapshot; one that does not take what it is sent in time is dropped; what it sends is
//! read and ignored, and may be no longer than a control frame's worth; no other website's page gets any of it.

use super::Source;
use super::events::Subscriber;
use super::guard::admit_own_page;
use super::problem::Problem;
use super::routes::{Context, too_many};
use axum::Json;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// For a subscriber to take a snapshot.
const SEND_TIME_MAX: Duration = Duration::from_secs(10);
const RECEIVED_BYTES_MAX: usize = 1024;
const INSTEAD: &str = "/api/v1/jobs";

async fn snapshot(source: &dyn Source) -> Value {
    serde_json::to_value(source.jobs().await.unwrap_or_default()).unwrap_or_default()
}

/// A snapshot in one line.
pub(super) async fn text(source: &dyn Source) -> Arc<str> {
    snapshot(source).await.to_string().into()
}

pub(super) async fn list(State(shared): Context) -> Json<Value> {
    Json(snapshot(&*shared.source).await)
}

pub(super) async fn events(State(shared): Context) -> Result<Response, Problem> {
    let first = text(&*shared.source).await;
    shared.job_events.subscribe(first, shared.shutdown.clone()).ok_or_else(|| too_many(&shared, INSTEAD))
}

pub(super) async fn socket(
    State(shared): Context,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    // Browsers let any page open a WebSocket anywhere, and only say which one did.
    admit_own_page(&headers)?;
    let upgrade = upgrade.map_err(|_| {
        let detail = "Ask with a WebSocket handshake, or for /api/v1/jobs/events.";
        Problem::new(StatusCode::UPGRADE_REQUIRED, detail)
    })?;
    let first = text(&*shared.source).await;
    let subscriber = shared.job_events.subscriber(first, shared.shutdown.clone());
    let subscriber = subscriber.ok_or_else(|| too_many(&shared, INSTEAD))?;
    let upgrade = upgrade.max_message_size(RECEIVED_BYTES_MAX).max_frame_size(RECEIVED_BYTES_MAX);
    Ok(upgrade.on_upgrade(|socket| tell(socket, subscriber)))
}

/// Until one side ends it.
async fn tell(mut socket: WebSocket, mut subscriber: Subscriber) {
    loop {
        let snapshot = tokio::select! {
            snapshot = subscriber.next() => snapshot,
            received = socket.recv() => match received {
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
        };
        let message = snapshot.as_ref().map_or(Message::Close(None), |snapshot| Message::text(&**snapshot));
        let sent = timeout(SEND_TIME_MAX, socket.send(message)).await;
        if snapshot.is_none() || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}
