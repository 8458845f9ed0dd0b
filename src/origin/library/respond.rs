//! Requests → answers, under the contract's URLs:
//!
//! | path | answer | fresh for |
//! |---|---|---|
//! | `/`, `/watch/{id}`, `/_page/…`, `/sw.js` | pages: see `player`, `page` | `no-cache` |
//! | `/titles.json`, `?q=` | titles by name, see `list` | 5 s |
//! | `/t/{id}/title.json` | one of them | 5 s |
//! | `/t/{id}/file` | the film file | 1 h |
//! | `/t/{id}/poster.jpg`, `/t/{id}/thumb/{s}.jpg`, `/t/{id}/trickplay…` | pictures, see `pictures` | |
//! | `/t/{id}/master.m3u8` … of a film | see `streams` | |
//! | `/t/{id}/…` of an HLS title | its files | playlists 60 s, or 1 s within a minute of a change; others 1 h |
//!
//! Freshness is explicit, so that the edge keeps the answers; validators are strong, so that checking again costs nothing. Errors
//! are problems and never kept, but for a film of which no picture can be made.

use super::answer::{Answer, problem};
use super::artwork::posters;
use super::catalog::{Kind, Title};
use super::file::{self, OpenFile};
use super::pictures::Picture;
use super::scan::is_hidden;
use super::streams::Streams;
use super::{FIRST_SCAN_WAIT, State, list, page, player};
use crate::http::path::SafePath;
use crate::media::class::{Class, classify};
use crate::media::content_type;
use crate::source::Folder;
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const FRESH_FILE: &str = "public, max-age=3600";
const FRESH_PLAYLIST: &str = "public, max-age=60";
/// Of a playlist that may still be growing: players ask again once per target duration (RFC 8216 §6.3.4), whole seconds.
const FRESH_GROWING_PLAYLIST: &str = "public, max-age=1";
/// A playlist that did not change for this long is taken for finished.
const GROWING: Duration = Duration::from_secs(60);

/// Answers one request; its body, if any, is not read.
pub async fn respond<B>(state: &State, request: Request<B>) -> Answer {
    let (request, _) = request.into_parts();
    if !matches!(request.method, Method::GET | Method::HEAD) {
        let mut refused = problem(StatusCode::METHOD_NOT_ALLOWED, "a library can only be read: use GET or HEAD");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let path = match SafePath::parse(request.uri.path()) {
        Ok(path) => path,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let segments: Vec<&str> = path.segments().iter().map(String::as_str).collect();
    let (method, headers) = (&request.method, &request.headers);
    if let Some(page) = player::answer(method, headers, &segments) {
        return page;
    }
    let Ok(catalog) = tokio::time::timeout(FIRST_SCAN_WAIT, state.catalog()).await else {
        let mut busy = problem(StatusCode::SERVICE_UNAVAILABLE, "the library is being scanned for the first time");
        busy.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        return busy;
    };
    let query = query_value(request.uri.query(), "q");
    match segments.as_slice() {
        [] => page::index(method, headers, &catalog.search(query.as_deref()), query.as_deref()),
        ["titles.json"] => list::titles(&request, &catalog),
        ["watch", id] => match catalog.get(id) {
            Some(title) => page::watch(method, headers, title, open(title, posters(title)).await.is_ok()),
            None if wants_page(headers) => page::no_title(),
            None => no_title(),
        },
        ["t", id, rest @ ..] => match catalog.get(id) {
            Some(title) => of_title(state, &request, title, rest).await,
            None => no_title(),
        },
        _ => problem(StatusCode::NOT_FOUND, "a library has nothing here: see / and /titles.json"),
    }
}

/// A browser's own navigation, not a program's request.
fn wants_page(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"text/html"))
}

fn no_title() -> Answer {
    problem(StatusCode::NOT_FOUND, "no title has this id: see /titles.json")
}

/// What lies under `/t/{id}/`.
async fn of_title(state: &State, request: &Parts, title: &Arc<Title>, rest: &[&str]) -> Answer {
    let by_name = Picture::named(title.kind, rest);
    if let (Some(sidecar), Some(picture)) = (&state.sidecar, by_name) {
        return sidecar.pictures.answer(request, title, picture).await;
    }
    let candidates = match (title.kind, rest) {
        (_, ["title.json"]) => return list::details(state, request, title),
        // As it lies there: nothing can be made of it.
        (_, ["poster.jpg"]) => posters(title),
        (Kind::File, ["file"]) => vec![title.path.clone()],
        (Kind::File, rest) if Streams::are_at(rest) => {
            return match &state.sidecar {
                Some(sidecar) => sidecar.streams.answer(request, title, rest).await,
                None => problem(
                    StatusCode::NOT_FOUND,
                    "no renditions are made of films here (`transcode` is off, or ffmpeg is missing): play its `file`",
                ),
            };
        }
        (Kind::Hls, ["file"]) => {
            return problem(StatusCode::NOT_FOUND, "this title has no single file: play its `master.m3u8`");
        }
        (Kind::Hls, [_, ..]) if !rest.iter().any(|name| is_hidden(OsStr::new(name))) => {
            vec![title.path.join(rest.iter().collect::<PathBuf>())]
        }
        _ => return problem(StatusCode::NOT_FOUND, "this title has no such file"),
    };
    match open(title, candidates).await {
        Ok((path, file)) => {
            let name = path.to_string_lossy();
            let cache_control = cache_control(&name, &file);
            file::answer(&request.method, &request.headers, file, content_type::of_name(&name), cache_control)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            problem(StatusCode::NOT_FOUND, "this title has no such file")
        }
        Err(error) => {
            tracing::warn!(title = title.id, %error, "library: a file cannot be opened");
            problem(StatusCode::SERVICE_UNAVAILABLE, "the file cannot be read now: see the server's log")
        }
    }
}

/// The first of a title's files that can be opened.
pub async fn open(title: &Title, candidates: Vec<PathBuf>) -> io::Result<(PathBuf, OpenFile)> {
    let folder = Arc::clone(&title.folder);
    tokio::task::spawn_blocking(move || first_of(&folder, &candidates)).await.map_err(io::Error::other).flatten()
}

/// The first that can be opened; else why not, which is only that none exists where none does.
fn first_of(folder: &Folder, candidates: &[PathBuf]) -> io::Result<(PathBuf, OpenFile)> {
    let mut reason = io::Error::from(io::ErrorKind::NotFound);
    for path in candidates {
        match folder.open(path).and_then(OpenFile::new) {
            Ok(file) => return Ok((path.clone(), file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => reason = error,
        }
    }
    Err(reason)
}

fn cache_control(name: &str, file: &OpenFile) -> &'static str {
    match classify(name, None) {
        Class::Playlist if file.age(SystemTime::now()) < GROWING => FRESH_GROWING_PLAYLIST,
        Class::Playlist => FRESH_PLAYLIST,
        _ => FRESH_FILE,
    }
}

/// The value of a query's parameter, as a form sends it (WHATWG URL, application/x-www-form-urlencoded).
pub fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    let spaced = value.replace('+', " ");
    Some(percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_query_is_decoded() {
        assert_eq!(query_value(Some("x=1&q=the+f%C3%AAte%26"), "q").as_deref(), Some("the fête&"));
        assert_eq!(query_value(Some("q"), "q").as_deref(), Some(""));
        assert_eq!(query_value(Some("qq=1"), "q"), None);
        assert_eq!(query_value(None, "q"), None);
    }
}
