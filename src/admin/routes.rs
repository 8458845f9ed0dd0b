//! What answers which path. The table is compared with `openapi.json` by a test.

use super::events::Events;
use super::guard::{self, Guard};
use super::problem::Problem;
use super::purge::purge;
use super::{Health, Readiness, Source, jobs, optimise, page};
use crate::http::redact::redact_target;
use crate::observe::{Phase, Stats};
use axum::extract::{Query, Request, State, rejection::QueryRejection};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;

/// Longest URL that is explained.
const URL_BYTES_MAX: usize = 8192;

/// What every handler may use.
pub(super) struct Shared {
    pub(super) source: Arc<dyn Source>,
    pub(super) guard: Guard,
    pub(super) events: Events,
    pub(super) job_events: Events,
    pub(super) shutdown: watch::Receiver<bool>,
    pub(super) page_policy: HeaderValue,
}

pub(super) type Context = State<Arc<Shared>>;

pub(super) fn table() -> Vec<(&'static str, MethodRouter<Arc<Shared>>)> {
    vec![
        ("/", get(dashboard)),
        ("/metrics", get(metrics)),
        ("/livez", get(livez)),
        ("/readyz", get(readyz)),
        ("/api/v1/stats", get(stats)),
        ("/api/v1/config", get(config)),
        ("/api/v1/explain", get(explain)),
        ("/api/v1/purge", post(purge)),
        ("/api/v1/events", get(events)),
        ("/api/v1/jobs", get(jobs::list)),
        ("/api/v1/jobs/events", get(jobs::events)),
        ("/api/v1/jobs/ws", get(jobs::socket)),
        ("/api/v1/optimise", get(optimise::list).post(optimise::begin)),
        ("/api/v1/openapi.json", get(openapi)),
    ]
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    table()
        .into_iter()
        .fold(Router::new(), |router, (path, method)| router.route(path, method))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "/api/v1/openapi.json lists what is here."))
        .method_not_allowed_fallback(async || Problem::new(StatusCode::METHOD_NOT_ALLOWED, "See the Allow header."))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guarded))
        .with_state(shared)
}

async fn guarded(State(shared): Context, request: Request, next: Next) -> Response {
    let mut response = match shared.guard.admit(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    guard::security_headers(response.headers_mut());
    response
}

async fn dashboard(State(shared): Context) -> Response {
    let content_type = HeaderValue::from_static("text/html; charset=utf-8");
    let headers = [(header::CONTENT_TYPE, content_type), (header::CONTENT_SECURITY_POLICY, shared.page_policy.clone())];
    (headers, page::HTML).into_response()
}

async fn metrics(State(shared): Context) -> Response {
    is_ready(&*shared.source, &shared.source.readiness());
    let text = shared.source.metrics().render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(shared): Context, headers: HeaderMap) -> Response {
    let readiness = shared.source.readiness();
    let ready = is_ready(&*shared.source, &readiness);
    let sees_all = shared.guard.sees_all(&headers);
    let mut checks = serde_json::Map::new();
    checks.insert("lifecycle".to_owned(), lifecycle(shared.source.lifecycle().phase()));
    for check in &readiness.checks {
        let mut about = json!({ "status": check.health.as_str() });
        if sees_all && !check.detail.is_empty() {
            about["detail"] = redact_target(&check.detail).into();
        }
        checks.insert(check.name.clone(), about);
    }
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "checks": checks }))).into_response()
}

fn lifecycle(phase: Phase) -> Value {
    match phase {
        Phase::Starting => json!({ "status": "failed", "detail": "starting" }),
        Phase::Serving => json!({ "status": "ok", "detail": "serving" }),
        Phase::Draining => json!({ "status": "failed", "detail": "draining" }),
    }
}

/// Also brings `reelgate_ready` up to date.
fn is_ready(source: &dyn Source, readiness: &Readiness) -> bool {
    let failed = readiness.checks.iter().any(|check| check.health == Health::Failed);
    let ready = source.lifecycle().phase() == Phase::Serving && !failed;
    source.metrics().ready.set(i64::from(ready));
    ready
}

async fn stats(State(shared): Context) -> Json<Stats> {
    Json(Stats::snapshot(shared.source.metrics(), shared.source.lifecycle(), shared.source.disks()))
}

async fn config(State(shared): Context) -> Response {
    ([(header::CONTENT_TYPE, "application/yaml")], shared.source.config_yaml()).into_response()
}

#[derive(Deserialize)]
struct Explain {
    url: String,
}

async fn explain(
    State(shared): Context,
    query: Result<Query<Explain>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, redact_target(detail));
    let Ok(Query(Explain { url })) = query else {
        return Err(bad("Give the absolute URL to explain, percent-encoded: ?url=http%3A%2F%2Fhost%2Fpath"));
    };
    if url.len() > URL_BYTES_MAX {
        return Err(bad("The URL is longer than 8 KiB."));
    }
    let explained = shared.source.explain(&url).await.map_err(|error| bad(&error))?;
    Ok(Json(redacted(explained)))
}

/// Keys and targets in an explanation may hold the token of the URL that was asked for.
fn redacted(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(redact_target(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(redacted).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, redacted(value))).collect(),
        other => other,
    }
}

async fn events(State(shared): Context) -> Result<Response, Problem> {
    let first = stats_text(&*shared.source);
    shared.events.subscribe(first, shared.shutdown.clone()).ok_or_else(|| too_many(&shared, "/api/v1/stats"))
}

/// What `/api/v1/stats` answers, in one line.
pub(super) fn stats_text(source: &dyn Source) -> Arc<str> {
    let stats = Stats::snapshot(source.metrics(), source.lifecycle(), source.disks());
    serde_json::to_string(&stats).expect("maps with string keys and numbers").into()
}

pub(super) fn too_many(shared: &Shared, instead: &str) -> Problem {
    shared.source.metrics().limits_reached.with_label_values(&["admin_events"]).inc();
    let detail = format!("64 subscribers are connected already; close one, or poll {instead}.");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response()
}
