//! What an API says of titles: `/titles.json`, a page of all or of those searched for, and `/t/{id}/title.json`, one of them.
//!
//! Invariant: names only; where a title lies is nobody's business.

use super::State;
use super::answer::{Answer, problem, text};
use super::catalog::{Catalog, Kind, LIST_TITLES_MAX, Title};
use super::facts::Facts;
use super::respond::query_value;
use ::http::StatusCode;
use ::http::request::Parts;
use serde::Serialize;

const FRESH: &str = "public, max-age=5";
const JSON: &str = "application/json";

#[derive(Serialize)]
struct Page<'a> {
    titles: Vec<Listed<'a>>,
    /// On all pages.
    total: usize,
    offset: usize,
}

#[derive(Serialize)]
struct Listed<'a> {
    id: &'a str,
    name: &'a str,
    duration_s: Option<f64>,
    kind: Kind,
    bytes: Option<u64>,
    /// Absent where the film was not looked into yet.
    #[serde(flatten)]
    facts: Option<Facts>,
    /// Why it cannot be streamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

#[derive(Serialize)]
struct Details<'a> {
    #[serde(flatten)]
    listed: Listed<'a>,
    /// Below the title's own address.
    play: &'static [&'static str],
    /// Per cent of its bits that are saved since it was optimised.
    #[serde(skip_serializing_if = "Option::is_none")]
    saved_percent: Option<f64>,
    poster: &'static str,
}

impl<'a> Listed<'a> {
    fn of(title: &'a Title) -> Self {
        let known = title.known.load();
        Self {
            id: &title.id,
            name: &title.name,
            duration_s: title.length_s(),
            kind: title.kind,
            bytes: title.bytes,
            facts: known.facts().cloned(),
            broken: known.broken().map(str::to_owned),
        }
    }
}

/// `/titles.json`: `q` searches names, `broken=1` lists what cannot be streamed, `limit` and `offset` are a page.
pub fn titles(request: &Parts, catalog: &Catalog) -> Answer {
    let value = |name: &str| query_value(request.uri.query(), name);
    let number = |name: &str| value(name).map(|text| text.parse::<usize>()).transpose();
    let (Ok(limit), Ok(offset)) = (number("limit"), number("offset")) else {
        let detail = "`limit` and `offset` are whole numbers: try /titles.json?limit=100&offset=200";
        return problem(StatusCode::BAD_REQUEST, detail);
    };
    let (limit, offset) = (limit.unwrap_or(LIST_TITLES_MAX).min(LIST_TITLES_MAX), offset.unwrap_or(0));
    let only_broken = value("broken").is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    let wanted = |title: &Title| !only_broken || title.known.load().broken().is_some();
    let found = catalog.find(value("q").as_deref(), wanted, offset..offset.saturating_add(limit));
    let titles = found.titles.into_iter().map(Listed::of).collect();
    answer(request, &Page { titles, total: found.total, offset })
}

/// `/t/{id}/title.json`
pub fn details(state: &State, request: &Parts, title: &Title) -> Answer {
    let listed = Listed::of(title);
    let play: &[&str] = match title.kind {
        Kind::Hls => &["master.m3u8"],
        Kind::File if state.sidecar.is_some() && listed.broken.is_none() => &["master.m3u8", "manifest.mpd", "file"],
        Kind::File => &["file"],
    };
    let saved = state.sidecar.as_ref().and_then(|sidecar| sidecar.optimiser.saved(&title.id));
    let saved_percent = saved.map(|saved| (saved * 1000.0).round() / 10.0);
    answer(request, &Details { listed, play, saved_percent, poster: "poster.jpg" })
}

fn answer(request: &Parts, said: &impl Serialize) -> Answer {
    match serde_json::to_string(said) {
        Ok(body) => text(&request.method, &request.headers, body, JSON, FRESH),
        Err(error) => {
            tracing::error!(%error, "library: a list cannot be written");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "the list cannot be written: see the server's log")
        }
    }
}
