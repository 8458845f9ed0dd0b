//! Adaptive streams of film files: playlists written here, segments asked of the sidecar when somebody wants them.
//!
//! | path below `/t/{id}/` | answer | fresh for |
//! |---|---|---|
//! | `master.m3u8`, `manifest.mpd` | everything there is, for HLS and DASH | 60 s |
//! | `streams.json` | the same for people, with what is left out and why | 60 s |
//! | `{rendition}/index.m3u8` | its segments | 60 s |
//! | `{rendition}/{version}/init.mp4`, `…/{n}.m4s`, `…/{n}.vtt` | fMP4, WebVTT | a year, immutable |
//!
//! Renditions are `360p`, `360p-hevc`, `source` (the film's own packets, where they fit), `audio-1`, `audio-1-surround`, `text-3` (numbers are those of the file's streams) and `text-file-…`, a
//! file of subtitles beside the film. `offer` knows them, `subtitles` finds the files.
//!
//! The version stands for the file, the recipe and the encoder, so that a segment's bytes are the same whenever it is made, its
//! entity-tag may be strong before it exists, and segments of two versions of a film never meet in one player.
//!
//! A version promises the bytes of software on one kind of processor. What a device made, whose runs may differ, what software made in its
//! stead, and what another kind of processor made, has an entity-tag that says so: no range is ever continued with another one's bytes.
//! Segments have their parameter sets within, so players take them in any order.
//!
//! Invariants: nothing is kept here; a segment that could not be made whole aborts its connection; without the sidecar the answer
//! is 503 for what the edge has not got.

use super::answer::{self, Answer, full, problem, text};
use super::catalog::Title;
use super::copies::Copies;
use super::films::{self, Films};
use super::pictures::trickplay;
use super::scan::MASTER;
use crate::http::precondition::{Outcome, Validators, evaluate};
use crate::http::priority;
use crate::media::codec::Codec;
use crate::media::ladder::SOURCE;
use crate::media::{aac, dash, playlist};
use crate::transcode::protocol::{Film, FilmFile, Job, Source, Wanted};
use crate::transcode::{Client, Error, MadeBy};
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use offer::{Asked, Found, Offer, TextFrom};
use std::sync::Arc;

mod course;
mod offer;
mod subtitles;

pub use course::Course;

const FRESH_PLAYLIST: &str = "public, max-age=60";
const FRESH_SEGMENT: &str = "public, max-age=31536000, immutable";
const HLS: &str = "application/vnd.apple.mpegurl";
const DASH: &str = "application/dash+xml";
const MANIFEST: &str = "manifest.mpd";
const DESCRIPTION: &str = "streams.json";

/// Streams of one library; see the module.
#[derive(Debug)]
pub struct Streams {
    client: Arc<Client>,
    copies: Arc<Copies>,
    films: Arc<Films>,
    /// What every title is offered in; None: see [`Offer::new`].
    codecs: Option<Vec<Codec>>,
}

impl Streams {
    pub fn new(client: Arc<Client>, films: Arc<Films>, codecs: Option<Vec<Codec>>) -> Self {
        Self { copies: Copies::new(Arc::clone(&client), Arc::clone(&films)), client, films, codecs }
    }

    /// Whether a path below a film's title is one of ours.
    pub fn are_at(rest: &[&str]) -> bool {
        matches!(rest, [MASTER | MANIFEST | DESCRIPTION] | [_, "index.m3u8"] | [_, _, _])
    }

    pub async fn answer(&self, request: &Parts, title: &Title, rest: &[&str]) -> Answer {
        let mut answer = match self.try_answer(request, title, rest).await {
            Ok(answer) => answer,
            Err(error) => {
                if error == Error::Changed {
                    self.films.forget(&title.id);
                }
                refusal(&error)
            }
        };
        answer::insert(
            answer.headers_mut(),
            header::HeaderName::from_static("cache-tag"),
            &format!("title-{}", title.id),
        );
        answer
    }

    async fn try_answer(&self, request: &Parts, title: &Title, rest: &[&str]) -> Result<Answer, Error> {
        let Some(source) = films::source(title) else { return Ok(no_such()) };
        let mut film = self.films.film(title, &source).await?;
        // Segments of the film itself are not asked what lies beside it.
        let alone = matches!(rest, [rendition, ..] if !rendition.starts_with("text-") && rest.len() > 1);
        let files = if alone { Vec::new() } else { subtitles::beside(title).await };
        let mut offer = Offer::new(&film, &source.stamp, self.codecs.as_deref(), files);
        // Who began before the title was optimised goes on with what he was told of.
        if film.plan.is_some() && !offer.has(rest) {
            film = Arc::new(Film { plan: None, ..film.as_ref().clone() });
            offer = Offer::new(&film, &source.stamp, self.codecs.as_deref(), Vec::new());
        }
        match rest {
            [MASTER | MANIFEST | DESCRIPTION] => {
                let whole = || FilmFile { source: source.clone(), film: film.as_ref().clone() };
                offer.rungs = self.copies.offer(&title.id, whole, offer.rungs).await;
            }
            [SOURCE, ..] => offer.rungs.extend(self.copies.rung_of(&title.id, &source, &film)),
            _ => {}
        }
        let list = |body, kind| text(&request.method, &request.headers, body, kind, FRESH_PLAYLIST);
        let (rendition, file) = match rest {
            [MASTER] => {
                let sheets = trickplay(&film, &source.stamp).sheets().hls_stream();
                return Ok(list(playlist::multivariant(&offer.renditions()) + &sheets, HLS));
            }
            [MANIFEST] => {
                let sheets = trickplay(&film, &source.stamp);
                return Ok(list(dash::manifest(&offer.renditions(), Some(&sheets.sheets())), DASH));
            }
            [DESCRIPTION] => return Ok(list(offer.described(&film), "application/json")),
            [rendition, file] => (*rendition, *file),
            [rendition, _, file] => (*rendition, *file),
            _ => return Ok(no_such()),
        };
        let Some(found) = offer.find(rendition) else { return Ok(no_such()) };
        let version = offer.version_of(&found);
        match rest {
            [_, asked, _] if *asked == version => {}
            [_, "index.m3u8"] => {
                let body = match &found {
                    Found::Video(_) => playlist::video(&offer.grid, version),
                    Found::Audio(..) => playlist::audio(&offer.grid, version),
                    Found::Text(text, _) => playlist::text(&offer.grid, version, text.whole),
                };
                return Ok(list(body, HLS));
            }
            _ => return Ok(no_such()),
        }
        let Some(wanted) = offer.asked(&found, file) else { return Ok(no_such()) };
        let etag = format!("\"{version}-{rendition}-{file}\"");
        self.segment(request, title, (source, film), (&found, wanted), etag).await
    }

    /// A segment or a head, or that the client has it.
    async fn segment(
        &self,
        request: &Parts,
        title: &Title,
        (source, film): (Source, Arc<Film>),
        (found, wanted): (&Found<'_>, Asked),
        mut etag: String,
    ) -> Result<Answer, Error> {
        let content_type = match found {
            Found::Video(_) => "video/mp4",
            Found::Audio(..) => "audio/mp4",
            Found::Text(..) => "text/vtt; charset=utf-8",
        };
        let source = match found {
            Found::Text(_, TextFrom::File(file)) => {
                Source { path: file.path(&source.path), stamp: file.stamp, ..source }
            }
            _ => source,
        };
        let is_optimised = matches!(found, Found::Video(rung) if rung.aim.is_some());
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
                Outcome::Proceed => {
                    let watched = !is_background(&request.headers);
                    let (response, made_by) = self.piece(&title.id, wanted, source, Arc::clone(&film), watched).await?;
                    // What was optimised is always made by software.
                    let expected = |by: &String| is_optimised || film.encoders.values().any(|chosen| chosen == by);
                    for another in made_by.encoder.filter(|by| !expected(by)).into_iter().chain(made_by.processor) {
                        etag.insert_str(etag.len() - 1, &format!("-{another}"));
                    }
                    response
                }
            };
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static(FRESH_SEGMENT));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        answer::insert(fields, header::ETAG, &etag);
        Ok(response)
    }

    /// A piece, and who made it. `watched`: somebody waits for it, and is likely to want what follows.
    async fn piece(
        &self,
        title: &str,
        wanted: Asked,
        source: Source,
        film: Arc<Film>,
        watched: bool,
    ) -> Result<(Answer, MadeBy), Error> {
        let _viewer = watched.then(|| self.films.viewer());
        let job = |wanted| Job { title: title.to_owned(), source, film: film.as_ref().clone(), wanted };
        let (body, made_by) = match wanted {
            Asked::AudioInit(layout) => (full(aac::init(layout)), MadeBy::default()),
            Asked::Of(wanted @ Wanted::Init { .. }) => {
                let (init, made_by) = self.counted("init", self.client.init(&job(wanted)).await)?;
                (full(init), made_by)
            }
            Asked::Of(wanted) => {
                let kind = match wanted {
                    Wanted::Audio { .. } => "audio",
                    Wanted::Text { .. } | Wanted::TextFile { .. } => "text",
                    _ => "video",
                };
                let made = match watched {
                    true => self.client.segment(&job(wanted)).await,
                    false => self.client.unwatched(&job(wanted)).await,
                };
                self.counted(kind, made)?
            }
        };
        Ok((Response::new(body), made_by))
    }

    fn counted<T>(&self, kind: &str, result: Result<T, Error>) -> Result<T, Error> {
        self.films.counted(kind, result)
    }
}

/// What nobody watches is asked for at the least urgency (RFC 9218 §4.1).
fn is_background(headers: &HeaderMap) -> bool {
    priority::parse_lines(headers.get_all("priority").iter().map(HeaderValue::as_bytes))
        .is_some_and(|priority| priority.urgency == priority::BACKGROUND)
}

fn no_such() -> Answer {
    problem(StatusCode::NOT_FOUND, "this title has no such stream, or not in this version: read its playlists again")
}

pub fn refusal(error: &Error) -> Answer {
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
