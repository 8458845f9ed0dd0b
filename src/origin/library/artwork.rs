//! `/t/{id}/poster.jpg`: a picture that lies beside the film, else one of its own, made by the sidecar.

use super::State;
use super::answer::{Answer, insert, problem, text};
use super::catalog::{Kind, Title};
use super::films;
use super::streams::refusal;
use crate::transcode::Error;
use ::http::request::Parts;
use ::http::{StatusCode, header};
use std::path::{Path, PathBuf};

const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// A made picture is the same as long as the film is; a new version of the film should show soon.
const FRESH_MADE: &str = "public, max-age=3600";
/// That none can be made: who asks again would set ffmpeg on the film again.
const FRESH_REFUSED: &str = "public, max-age=300";

/// Where a title's picture may lie, the most particular first: as Jellyfin, Kodi and Plex name them.
pub fn posters(title: &Title) -> Vec<PathBuf> {
    let (beside, own) = match title.kind {
        Kind::Hls => (title.path.as_path(), Vec::new()),
        Kind::File => {
            let stem = title.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (title.path.parent().unwrap_or(Path::new("")), vec![format!("{stem}-poster"), stem])
        }
    };
    let names = own.into_iter().chain(["poster", "folder", "cover"].map(str::to_owned));
    let files = names.flat_map(|name| EXTENSIONS.map(|extension| format!("{name}.{extension}")));
    files.map(|file| beside.join(file)).collect()
}

/// A picture of the film itself, where the folder has none.
pub async fn made(state: &State, request: &Parts, title: &Title) -> Answer {
    let (Some(sidecar), Some(source)) = (&state.sidecar, films::source(title)) else { return none() };
    match sidecar.films.picture(title, &source).await {
        Ok(jpeg) => text(&request.method, &request.headers, jpeg, "image/jpeg", FRESH_MADE),
        Err(Error::Unfit(_) | Error::Failed(_)) => {
            let mut refused = none();
            insert(refused.headers_mut(), header::CACHE_CONTROL, FRESH_REFUSED);
            refused
        }
        Err(error) => refusal(&error),
    }
}

fn none() -> Answer {
    problem(StatusCode::NOT_FOUND, "this title has no picture")
}
