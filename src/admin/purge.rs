//! `POST /api/v1/purge`: reading the request, answering when the purge is in force.

use super::guard;
use super::problem::Problem;
use super::routes::Context;
use crate::http::redact::redact_target;
use crate::observe::access_log::timestamp;
use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::SystemTime;

/// What to purge. URLs are absolute, as clients ask for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    pub selector: PurgeSelector,
    /// Keep it as stale, else it is gone.
    pub soft: bool,
}

/// What a purge means, as operators write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PurgeSelector {
    /// All variants of one URL.
    Url(String),
    /// All URLs that begin so, byte for byte once normalised.
    Prefix(String),
    /// All answers that carried the tag.
    Tag(String),
    All,
}

/// A purge in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// Unique among all purges.
    pub id: String,
    pub at: SystemTime,
}

/// Why a purge was not acknowledged, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PurgeFailure {
    /// It can purge nothing.
    Invalid(String),
    /// Nothing was done; later it may be.
    Refused(String),
    /// It is in force, and would not survive a restart.
    NotDurable(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    url: Option<String>,
    prefix: Option<String>,
    tag: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    soft: bool,
}

impl Asked {
    /// None: no selector, or several.
    fn purge(self) -> Option<Purge> {
        let selector = match (self.url, self.prefix, self.tag, self.all) {
            (Some(url), None, None, false) => PurgeSelector::Url(url),
            (None, Some(prefix), None, false) => PurgeSelector::Prefix(prefix),
            (None, None, Some(tag), false) => PurgeSelector::Tag(tag),
            (None, None, None, true) => PurgeSelector::All,
            _ => return None,
        };
        Some(Purge { selector, soft: self.soft })
    }
}

pub(super) async fn purge(State(shared): Context, request: Request) -> Result<Json<Value>, Problem> {
    guard::admit_change(request.headers())?;
    let body = read(request.into_body()).await?;
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, redact_target(&detail));
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| {
        bad(format!(
            "Send {{\"url\": …}}, {{\"prefix\": …}}, {{\"tag\": …}} or {{\"all\": true}}, and \"soft\": true where wanted ({error})."
        ))
    })?;
    let Some(purge) = asked.purge() else {
        return Err(bad("Give exactly one of \"url\", \"prefix\", \"tag\" and \"all\": true.".to_owned()));
    };
    let soft = purge.soft;
    let Purged { id, at } = shared.source.purge(purge).await.map_err(|failure| match failure {
        PurgeFailure::Invalid(detail) => bad(detail),
        PurgeFailure::Refused(detail) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail),
        PurgeFailure::NotDurable(detail) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail),
    })?;
    Ok(Json(json!({ "id": id, "at": timestamp(at), "soft": soft })))
}

pub(super) async fn read(body: Body) -> Result<axum::body::Bytes, Problem> {
    let bytes_max = usize::try_from(guard::BODY_BYTES_MAX).unwrap_or(usize::MAX);
    let read = tokio::time::timeout(guard::BODY_TIMEOUT, to_bytes(body, bytes_max));
    match read.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Send at most 64 KiB, all of it.")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "Send the body at once.")),
    }
}
