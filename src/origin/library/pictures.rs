//! Pictures of titles, made by the sidecar when somebody wants them:
//!
//! | path below `/t/{id}/` | answer | fresh for |
//! |---|---|---|
//! | `poster.jpg`, `?width=` | the picture beside the film, else a frame of it | 1 h |
//! | `thumb/{seconds}.jpg`, `?width=` | a frame, every ten seconds | 1 h |
//! | `trickplay.vtt`, `trickplay/index.m3u8` | where the tiles lie | 60 s |
//! | `trickplay/{version}/{n}.jpg` | a sheet of tiles | a year, immutable |
//!
//! `.jpg` is negotiated by `Accept`: AVIF, WebP, else JPEG (sheets: WebP, else JPEG). `Avail-Format` says what there is, so that a
//! cache keeps one object for each format and not for each way to write `Accept`. `.avif`, `.webp` and `.jpeg` are what they say.
//!
//! Invariants: widths and times are few, and each picture has one spelling that is answered; others are redirected to it. An
//! entity-tag is known before the picture is made. Pictures of files are made by the sidecar too: what lies in a folder is as hostile
//! as a film, and no byte of it, nor what it says of its owner, gets to a client.

use super::answer::{Answer, full, insert, problem, text};
use super::artwork::posters;
use super::catalog::Title;
use super::films::{self, Films};
use super::respond::open;
use super::streams::refusal;
use crate::http::negotiation::{AVAIL_FORMAT, Available};
use crate::http::precondition::{Outcome, Validators, evaluate};
use crate::media::pictures::{Format, WIDTH, fit, height_max};
use crate::media::trickplay::{INTERVAL_S, Sheets, sheets, tile, tiles};
use crate::source::Stamp;
use crate::transcode::protocol::{Film, PICTURE_RECIPE, PictureJob, PictureOf, Source};
use crate::transcode::{Client, Error};
use ::http::request::Parts;
use ::http::{HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use formats::Formats;
use names::{name_of, redirect, spelled};
use sha2::{Digest, Sha256};
use std::sync::Arc;

mod formats;
mod names;

pub use names::Picture;

/// A made picture is the same as long as what it is of is; a new version should show soon.
const FRESH_PICTURE: &str = "public, max-age=3600";
const FRESH_LIST: &str = "public, max-age=60";
const FRESH_SHEET: &str = "public, max-age=31536000, immutable";
/// That none can be made: who asks again would set ffmpeg on the film again.
const FRESH_REFUSED: &str = "public, max-age=300";
/// The width of a thumbnail of who asks for none.
const THUMB_WIDTH: u32 = 320;

/// Where the sheets of a film lie.
#[derive(Debug)]
pub struct Trickplay {
    version: String,
    duration_s: f64,
    tile: (u32, u32),
}

/// Where the sheets of a film lie, made of this version of its file by these tools.
pub fn trickplay(film: &Film, stamp: &Stamp) -> Trickplay {
    Trickplay {
        version: tag(&[&stamp.to_bytes(), film.build.as_bytes()]),
        duration_s: film.grid.time_of(film.grid.frames).as_f64(),
        tile: tile(film.width, film.height),
    }
}

impl Trickplay {
    pub fn sheets(&self) -> Sheets<'_> {
        Sheets { duration_s: self.duration_s, tile: self.tile, version: &self.version }
    }
}

/// What the bytes of a picture depend on, hashed.
fn tag(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    hash.update(PICTURE_RECIPE.to_be_bytes());
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..8])
}

/// Posters, thumbnails and sheets of one library; see the module.
#[derive(Debug)]
pub struct Pictures {
    client: Arc<Client>,
    films: Arc<Films>,
    formats: Formats,
}

/// How a request is answered that asks for no picture that can be made as it was asked for.
enum Instead {
    Answer(Box<Answer>),
    Error(Error),
}

impl From<Box<Answer>> for Instead {
    fn from(answer: Box<Answer>) -> Self {
        Self::Answer(answer)
    }
}

impl From<Error> for Instead {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Pictures {
    pub fn new(client: Arc<Client>, films: Arc<Films>) -> Self {
        Self { client, films, formats: Formats::default() }
    }

    pub async fn answer(&self, request: &Parts, title: &Title, picture: Picture<'_>) -> Answer {
        let mut answer = match self.try_answer(request, title, picture).await {
            Ok(answer) => answer,
            Err(Instead::Answer(answer)) => *answer,
            Err(Instead::Error(Error::Unfit(_))) => {
                let mut refused = problem(StatusCode::NOT_FOUND, "this title has no picture");
                insert(refused.headers_mut(), header::CACHE_CONTROL, FRESH_REFUSED);
                refused
            }
            Err(Instead::Error(error)) => {
                if error == Error::Changed {
                    self.films.forget(&title.id);
                }
                refusal(&error)
            }
        };
        let tag = format!("title-{}", title.id);
        insert(answer.headers_mut(), header::HeaderName::from_static("cache-tag"), &tag);
        answer
    }

    async fn try_answer(&self, request: &Parts, title: &Title, picture: Picture<'_>) -> Result<Answer, Instead> {
        if let Picture::Poster(_) = picture {
            return self.poster(request, title, picture).await;
        }
        let Some(source) = films::source(title) else { return Err(no_such()) };
        let film = self.films.film(title, &source).await?;
        let trickplay = trickplay(&film, &source.stamp);
        let list = |body, kind| Ok(text(&request.method, &request.headers, body, kind, FRESH_LIST));
        match picture {
            Picture::Vtt => list(trickplay.sheets().vtt(), "text/vtt; charset=utf-8"),
            Picture::Playlist => list(trickplay.sheets().playlist(), "application/vnd.apple.mpegurl"),
            Picture::Sheet { version, sheet, .. } => {
                if version != trickplay.version || sheet >= sheets(trickplay.duration_s) {
                    return Err(no_such());
                }
                if request.uri.query().is_some() {
                    return Err(Box::new(redirect(name_of(request))).into());
                }
                let of = PictureOf::Sheet { film: film.as_ref().clone(), sheet };
                let job = |format| PictureJob {
                    source: source.clone(),
                    build: film.build.clone(),
                    of: of.clone(),
                    size: trickplay.tile,
                    format,
                };
                self.made(request, picture, FRESH_SHEET, &job).await
            }
            Picture::Thumb { second, .. } => {
                let last = (tiles(trickplay.duration_s) - 1) * INTERVAL_S;
                let snapped = (second / INTERVAL_S * INTERVAL_S).min(last);
                let wide = spelled(request, THUMB_WIDTH, second, snapped)?;
                self.frame(request, picture, (&source, &film), wide, snapped * 1000).await
            }
            Picture::Poster(_) => Err(no_such()),
        }
    }

    /// What lies beside the film, and where that is no picture, the film itself at a tenth of it.
    async fn poster(&self, request: &Parts, title: &Title, picture: Picture<'_>) -> Result<Answer, Instead> {
        let wide = spelled(request, WIDTH, 0, 0)?;
        if let Ok((path, file)) = open(title, posters(title)).await {
            let build = self.films.build().await.ok_or_else(|| Error::Away("it does not say what it is".to_owned()))?;
            let source = Source { folder: title.folder.path().to_owned(), path, stamp: file.stamp };
            let size = (wide, height_max(wide));
            let job = |format| PictureJob {
                source: source.clone(),
                of: PictureOf::File,
                build: build.to_string(),
                size,
                format,
            };
            match self.made(request, picture, FRESH_PICTURE, &job).await {
                Err(Instead::Error(Error::Unfit(reason))) => {
                    tracing::info!(title = title.id, reason, "library: a picture beside a title cannot be used");
                }
                answer => return answer,
            }
        }
        let none = || Error::Unfit("it is no film".to_owned());
        let source = films::source(title).ok_or_else(none)?;
        let film = self.films.film(title, &source).await?;
        let tenth_s = film.grid.time_of(film.grid.frames / 10).as_f64();
        self.frame(request, picture, (&source, &film), wide, (tenth_s * 1000.0) as u64).await
    }

    async fn frame(
        &self,
        request: &Parts,
        picture: Picture<'_>,
        (source, film): (&Source, &Film),
        wide: u32,
        at_ms: u64,
    ) -> Result<Answer, Instead> {
        let size = fit((film.width, film.height), (wide, height_max(wide)));
        let job = |format| PictureJob {
            source: source.clone(),
            of: PictureOf::Frame { film: film.clone(), at_ms },
            build: film.build.clone(),
            size,
            format,
        };
        self.made(request, picture, FRESH_PICTURE, &job).await
    }

    /// In the format that is asked for, made only where the client has not got it.
    async fn made(
        &self,
        request: &Parts,
        picture: Picture<'_>,
        fresh: &'static str,
        job: &(dyn Fn(Format) -> PictureJob + Sync),
    ) -> Result<Answer, Instead> {
        let build = job(Format::Jpeg).build;
        let mut offered = self.formats(&build).await?.to_vec();
        // Coding a sheet as AV1 takes longer than all else it takes.
        offered.retain(|format| *format != Format::Avif || !matches!(picture, Picture::Sheet { .. }));
        let available = Available::new(offered.iter().map(|format| format.media_type()));
        let available = available.ok_or_else(|| Error::Failed("no pictures can be encoded".to_owned()))?;
        let negotiated = picture.format().is_none();
        let format = match picture.format() {
            Some(format) if offered.contains(&format) => format,
            Some(_) => {
                return Err(Instead::from(Box::new(problem(
                    StatusCode::NOT_FOUND,
                    "no pictures of this format are made here",
                ))));
            }
            None => Format::from_media_type(available.choose(&request.headers)).unwrap_or(Format::Jpeg),
        };
        let job = job(format);
        let etag = format!("\"{}\"", etag_of(&job));
        let kind = if job.of == PictureOf::File { "artwork" } else { picture.kind() };
        let validators = Validators { etag: Some(&etag), last_modified: None };
        let mut response = match evaluate(&request.method, &request.headers, validators) {
            Outcome::Failed => {
                let changed = problem(StatusCode::PRECONDITION_FAILED, "the picture is another version");
                return Err(Box::new(changed).into());
            }
            Outcome::NotModified => {
                let mut response = Response::new(full(Bytes::new()));
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            }
            Outcome::Proceed if request.method == Method::HEAD => Response::new(full(Bytes::new())),
            Outcome::Proceed => Response::new(full(self.films.counted(kind, self.client.picture(&job).await)?)),
        };
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static(fresh));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        insert(fields, header::ETAG, &etag);
        if negotiated {
            fields.insert(header::VARY, HeaderValue::from_static("Accept"));
            insert(fields, header::HeaderName::from_static(AVAIL_FORMAT), &available.field());
        }
        Ok(response)
    }

    /// Asked once of each build.
    async fn formats(&self, build: &str) -> Result<Arc<[Format]>, Error> {
        let (client, of) = (Arc::clone(&self.client), build.to_owned());
        let ask = || async move { Ok(client.picture_formats(&of).await?.into()) };
        self.formats.of(build, ask).await
    }
}

/// Of what a picture's bytes depend on, but the path, which is in its address.
fn etag_of(job: &PictureJob) -> String {
    let of = match &job.of {
        PictureOf::File => "file".to_owned(),
        PictureOf::Frame { at_ms, .. } => format!("frame {at_ms}"),
        PictureOf::Sheet { sheet, .. } => format!("sheet {sheet}"),
    };
    let (width, height) = job.size;
    let shape = format!("{of} {width}x{height} {}", job.format.media_type());
    // Which of several files beside the film it is.
    let path = job.source.path.as_os_str().as_encoded_bytes();
    tag(&[&job.source.stamp.to_bytes(), path, job.build.as_bytes(), shape.as_bytes()])
}

fn no_such() -> Instead {
    Instead::from(Box::new(problem(
        StatusCode::NOT_FOUND,
        "this title has no such picture, or not in this version: read its lists again",
    )))
}
