//! Adaptive streams of film files: playlists written here, segments asked of the sidecar when somebody wants them.
//!
//! | path below `/t/{id}/` | answer | fresh for |
//! |---|---|---|
//! | `master.m3u8` | the ladder | 60 s |
//! | `{rung}/index.m3u8`, `audio/index.m3u8` | segments of a rendition | 60 s |
//! | `{rung}/{version}/init.mp4`, `…/{n}.m4s` | fMP4 | a year, immutable |
//!
//! The version stands for the file, the recipe and the encoder, so that a segment's bytes are the same whenever it is made, its
//! entity-tag may be strong before it exists, and segments of two versions of a film never meet in one player.
//!
//! Invariants: nothing is kept here but what films are, in memory (a store on disk comes later); a segment that could not be made
//! whole aborts its connection; without the sidecar the answer is 503 for what the edge has not got.

use super::answer::{self, Answer, full, problem, text};
use super::catalog::{Title, hex};
use super::scan::MASTER;
use crate::http::precondition::{Outcome, Validators, evaluate};
use crate::media::ladder::ladder;
use crate::media::{aac, playlist};
use crate::observe::Metrics;
use crate::source::Stamp;
use crate::transcode::protocol::{Film, Job, RECIPE, Source, Wanted};
use crate::transcode::{Client, Error};
use ::http::request::Parts;
use ::http::{HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OnceCell;

const FRESH_PLAYLIST: &str = "public, max-age=60";
const FRESH_SEGMENT: &str = "public, max-age=31536000, immutable";
const HLS: &str = "application/vnd.apple.mpegurl";
/// Films whose facts are remembered; one takes a few hundred bytes, and finding them again a third of a second.
const FILMS_MAX: usize = 4096;

#[derive(Debug)]
pub struct Streams {
    client: Arc<Client>,
    /// By title.
    films: Mutex<HashMap<String, Known>>,
    /// The library's name: a metric label.
    origin: String,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Clone)]
struct Known {
    stamp: Stamp,
    /// Empty until the first who asked got an answer; an error is why the film cannot be streamed.
    film: Arc<OnceCell<Result<Arc<Film>, String>>>,
}

impl Streams {
    pub fn new(client: Arc<Client>, origin: &str, metrics: Arc<Metrics>) -> Self {
        Self { client, films: Mutex::default(), origin: origin.to_owned(), metrics }
    }

    /// Whether a path below a film's title is one of ours.
    pub fn are_at(rest: &[&str]) -> bool {
        matches!(rest, [MASTER] | [_, "index.m3u8"] | [_, _, _])
    }

    pub async fn answer(&self, request: &Parts, title: &Title, rest: &[&str]) -> Answer {
        let mut answer = match self.try_answer(request, title, rest).await {
            Ok(answer) => answer,
            Err(error) => refusal(&error),
        };
        answer::insert(
            answer.headers_mut(),
            header::HeaderName::from_static("cache-tag"),
            &format!("title-{}", title.id),
        );
        answer
    }

    async fn try_answer(&self, request: &Parts, title: &Title, rest: &[&str]) -> Result<Answer, Error> {
        // A film file always has one: it is what the scan read.
        let Some(stamp) = title.stamp else { return Ok(no_such()) };
        let source = Source { folder: title.folder.path().to_owned(), path: title.path.clone(), stamp };
        let film = self.film(&title.id, &source).await?;
        let rungs = ladder(film.width, film.height, &film.grid);
        let version = version(&source.stamp, &film);
        let list = |body| text(&request.method, &request.headers, body, HLS, FRESH_PLAYLIST);
        let known = |rendition: &str| match rendition {
            playlist::AUDIO => film.audio.is_some(),
            rung => rungs.iter().any(|known| known.name == rung),
        };
        let (rendition, file) = match rest {
            [MASTER] => {
                let language = film.audio.as_ref().map(|audio| audio.language.as_str());
                return Ok(list(playlist::multivariant(&rungs, &film.grid, language)));
            }
            [playlist::AUDIO, "index.m3u8"] if known(playlist::AUDIO) => {
                return Ok(list(playlist::audio(&film.grid, &version)));
            }
            [rung, "index.m3u8"] if known(rung) => return Ok(list(playlist::video(&film.grid, &version))),
            [rendition, asked, file] if known(rendition) && *asked == version => (*rendition, *file),
            _ => return Ok(no_such()),
        };
        let Some(wanted) = wanted(rendition, file, film.grid.segments()) else { return Ok(no_such()) };
        let etag = format!("\"{version}-{rendition}-{file}\"");
        let content_type = if rendition == playlist::AUDIO { "audio/mp4" } else { "video/mp4" };
        let mut response =
            match evaluate(&request.method, &request.headers, Validators { etag: Some(&etag), last_modified: None }) {
                Outcome::Failed => {
                    return Ok(problem(StatusCode::PRECONDITION_FAILED, "the segment is another version"));
                }
                Outcome::NotModified => {
                    let mut response = Response::new(full(Bytes::new()));
                    *response.status_mut() = StatusCode::NOT_MODIFIED;
                    response
                }
                Outcome::Proceed if request.method == Method::HEAD => Response::new(full(Bytes::new())),
                Outcome::Proceed => self.piece(&title.id, wanted, source, film).await?,
            };
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static(FRESH_SEGMENT));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        answer::insert(fields, header::ETAG, &etag);
        Ok(response)
    }

    async fn piece(&self, title: &str, wanted: Asked, source: Source, film: Arc<Film>) -> Result<Answer, Error> {
        let job = |wanted| Job { title: title.to_owned(), source, film: film.as_ref().clone(), wanted };
        Ok(Response::new(match wanted {
            Asked::AudioInit => full(aac::init()),
            Asked::Of(wanted @ Wanted::Init { .. }) => {
                full(self.counted("init", self.client.init(&job(wanted)).await)?)
            }
            Asked::Of(wanted) => {
                let kind = if matches!(wanted, Wanted::Audio { .. }) { "audio" } else { "video" };
                self.counted(kind, self.client.segment(&job(wanted)).await)?
            }
        }))
    }

    /// What a film is: asked once for each version of the file, however many want to know.
    async fn film(&self, title: &str, source: &Source) -> Result<Arc<Film>, Error> {
        let known = {
            let mut films = self.films.lock();
            match films.get(title).filter(|known| known.stamp == source.stamp) {
                Some(known) => known.clone(),
                None => {
                    let other = if films.len() >= FILMS_MAX { films.keys().next().cloned() } else { None };
                    other.and_then(|other| films.remove(&other));
                    let known = Known { stamp: source.stamp, film: Arc::default() };
                    films.insert(title.to_owned(), known.clone());
                    known
                }
            }
        };
        let asked = known.film.get_or_try_init(async || match self.counted("probe", self.client.probe(source).await) {
            Ok(film) => Ok(Ok(Arc::new(film))),
            Err(Error::Unfit(reason)) => {
                tracing::warn!(origin = self.origin, title, reason, "library: a film cannot be streamed");
                Ok(Err(reason))
            }
            Err(error) => Err(error),
        });
        asked.await?.clone().map_err(Error::Unfit)
    }

    fn counted<T>(&self, kind: &str, result: Result<T, Error>) -> Result<T, Error> {
        let outcome = match &result {
            Ok(_) => "made",
            Err(Error::Away(_)) => "away",
            Err(Error::Busy) => "busy",
            Err(Error::Changed) => "changed",
            Err(Error::Unfit(_)) => "unfit",
            Err(Error::Failed(_)) => "failed",
        };
        self.metrics.transcode_answers.with_label_values(&[&self.origin, kind, outcome]).inc();
        if let Err(error @ (Error::Away(_) | Error::Failed(_))) = &result {
            tracing::warn!(origin = self.origin, kind, %error, "library: no stream");
        }
        result
    }
}

/// One file of a rendition.
enum Asked {
    /// The same for all titles: the sidecar is not asked.
    AudioInit,
    Of(Wanted),
}

fn wanted(rendition: &str, file: &str, segments: u64) -> Option<Asked> {
    let audio = rendition == playlist::AUDIO;
    if file == "init.mp4" {
        return Some(if audio { Asked::AudioInit } else { Asked::Of(Wanted::Init { rung: rendition.to_owned() }) });
    }
    let digits = file.strip_suffix(".m4s")?;
    // One spelling only: others would be other objects in the cache.
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    let segment = digits.parse::<u64>().ok().filter(|segment| plain && *segment < segments)?;
    Some(Asked::Of(match audio {
        true => Wanted::Audio { segment },
        false => Wanted::Video { rung: rendition.to_owned(), segment },
    }))
}

/// What the bytes of a title's segments depend on, hashed.
fn version(stamp: &Stamp, film: &Film) -> String {
    let mut hash = Sha256::new();
    hash.update(RECIPE.to_be_bytes());
    hash.update(stamp.to_bytes());
    hash.update(film.encoder.as_bytes());
    hash.update(film.build.as_bytes());
    hex(&hash.finalize()[..8])
}

fn no_such() -> Answer {
    problem(StatusCode::NOT_FOUND, "this title has no such stream, or not in this version: read its playlists again")
}

fn refusal(error: &Error) -> Answer {
    let (status, detail, retry_after) = match error {
        Error::Away(_) => (StatusCode::SERVICE_UNAVAILABLE, "streams cannot be made just now", "5"),
        Error::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many streams are being made: try again", "2"),
        Error::Changed => (StatusCode::SERVICE_UNAVAILABLE, "the film has changed and is being looked at again", "2"),
        Error::Unfit(reason) => {
            let detail = format!("this film cannot be streamed ({reason}): play its `file`");
            return problem(StatusCode::NOT_FOUND, &detail);
        }
        Error::Failed(_) => {
            return problem(StatusCode::INTERNAL_SERVER_ERROR, "the segment could not be made: see the server's log");
        }
    };
    let mut refused = problem(status, detail);
    refused.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(retry_after));
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_one_spelling() {
        assert!(wanted("360p", "0.m4s", 3).is_some() && wanted("audio", "2.m4s", 3).is_some());
        assert!(wanted("360p", "init.mp4", 3).is_some());
        for file in ["3.m4s", "00.m4s", "01.m4s", "+1.m4s", "-1.m4s", ".m4s", "1", "1.mp4", "99999999999999999999.m4s"]
        {
            assert!(wanted("360p", file, 3).is_none(), "{file}");
        }
    }
}
