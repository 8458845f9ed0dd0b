//! `/api/v1/optimise`: titles of libraries whose bit rates are to be found out by trials, and how far that is.

use super::guard;
use super::problem::Problem;
use super::purge::read;
use super::routes::Context;
use crate::origin::library::{Optimisation, Refused};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    title: String,
}

/// Begins; answers at once.
pub(super) async fn begin(State(shared): Context, request: Request) -> Result<Json<Optimisation>, Problem> {
    guard::admit_change(request.headers())?;
    let body = read(request.into_body()).await?;
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("Send {{\"title\": …}}, a film's id or its whole name ({error})."),
        )
    })?;
    let begun = shared.source.optimise(&asked.title).map_err(|refused| {
        let status = match refused {
            Refused::NoSuchTitle => StatusCode::NOT_FOUND,
            Refused::NoSidecar | Refused::TooMany => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, refused.to_string())
    })?;
    Ok(Json(begun))
}

/// What was asked for lately, the latest last.
pub(super) async fn list(State(shared): Context) -> Json<Value> {
    Json(json!({ "titles": shared.source.optimisations() }))
}
