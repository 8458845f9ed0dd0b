//! Requests of the edge → jobs → answers (see [`super::super::protocol`]).

use super::super::protocol::{
    AHEAD, Ahead, BUILD, COPY, FilmFile, HEALTH, Job, MADE_BY, PICTURE, PICTURES, PROBE, PROCESSOR, PictureJob,
    RENDITION, SEGMENT, STATUS, Source, TRIAL, TrialJob, UNWATCHED, VERSION_FIELD, Wanted, version,
};
use super::child::{Failure, Kill, KillOnDrop};
use super::folders::{AboutFilm, Folders, NotHere};
use super::jobs::{Jobs, Waiter};
use super::output::Output;
use super::pictures::{Pictures, encoders};
use super::probe::probe;
use super::processor;
use super::remux;
use super::schedule::Priority;
use super::segment::open;
use super::survey::Survey;
use super::tools::{Toolbox, Tools};
use super::trial::trial;
use super::upstream::{Refused, RenditionRuns};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// A request's JSON: two paths and a few numbers.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// A head has a handful of fields.
const HEADERS_MAX: usize = 32;
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// To find a film in a folder of a share.
const FIND_TIME_MAX: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// All runs of ffprobe for one film together.
const PROBE_TIME_MAX: Duration = Duration::from_secs(30);
/// To read a film from end to end.
const COPY_TIME_MAX: Duration = Duration::from_secs(900);
/// To make one segment slowly, and to compare it.
const TRIAL_TIME_MAX: Duration = Duration::from_secs(180);

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What requests are answered from.
#[derive(Debug)]
pub struct Server {
    pub jobs: Arc<Jobs>,
    /// Beside the jobs.
    pub pictures: Arc<Pictures>,
    pub renditions: RenditionRuns,
    pub tools: Arc<Toolbox>,
    pub survey: Arc<Survey>,
    /// Probes at once, beside the jobs.
    pub probes: Semaphore,
    pub probes_waiting_max: Semaphore,
    /// Films read whole at once.
    pub copies: Semaphore,
    /// What an edge on another host may name; None: it is on this one.
    pub folders: Option<Arc<Folders>>,
    /// Trials at once.
    pub trials: Semaphore,
}

/// One connection, until it ends; while draining, with the answer that is under way.
pub async fn connection<S>(stream: S, server: Arc<Server>, mut draining: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(respond(&server, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    http.max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX);
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut serving => ended,
        // An error: who would tell is gone, which is the same.
        () = async { drop(draining.wait_for(|draining| *draining).await) } => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn respond(server: &Server, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    if head.headers.get(VERSION_FIELD).is_some_and(|theirs| *theirs != version()) {
        let reason = format!("this transcoder is of another version ({}): install the same on both sides", version());
        return answer(StatusCode::UPGRADE_REQUIRED, &reason);
    }
    let outcome = match (head.method, head.uri.path()) {
        (Method::GET, HEALTH) => return answer(StatusCode::NO_CONTENT, ""),
        (Method::GET, BUILD) => match now(server).await {
            Ok(tools) => Ok(introduction(&here(&server.survey.build(&tools).await))),
            Err(refusal) => Err(refusal),
        },
        (Method::POST, PICTURE) => match read::<PictureJob>(server, body).await {
            Ok(asked) => pictured(server, asked).await,
            Err(refusal) => Err(refusal),
        },
        (Method::GET, PICTURES) => formats(server).await,
        (Method::GET, STATUS) => {
            let mut status = server.jobs.status();
            status.counts.extend(server.pictures.counts());
            let text = serde_json::to_string(&status).unwrap_or_default();
            return answer(StatusCode::OK, &text);
        }
        (Method::POST, PROBE) => match read::<Source>(server, body).await {
            Ok(source) => probed(server, source).await,
            Err(refusal) => Err(refusal),
        },
        (Method::POST, SEGMENT) => match read::<Job>(server, body).await {
            Ok(job) => segment(server, job, true).await,
            Err(refusal) => Err(refusal),
        },
        (Method::POST, UNWATCHED) => match read::<Job>(server, body).await {
            Ok(job) => segment(server, job, false).await,
            Err(refusal) => Err(refusal),
        },
        (Method::POST, AHEAD) => match read::<Ahead>(server, body).await {
            Ok(ahead) => made_ahead(server, ahead).await,
            Err(refusal) => Err(refusal),
        },
        (Method::POST, COPY) => match read::<FilmFile>(server, body).await {
            Ok(whole) => copied(server, whole).await,
            Err(refusal) => Err(refusal),
        },
        (Method::POST, RENDITION) => rendition(server, body).await,
        (Method::POST, TRIAL) => match read::<TrialJob>(server, body).await {
            Ok(job) => tried(server, job).await,
            Err(refusal) => Err(refusal),
        },
        _ => Err((StatusCode::NOT_FOUND, "no such request".to_owned())),
    };
    outcome.unwrap_or_else(|(status, reason)| {
        let mut refused = answer(status, &reason);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            refused.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        refused
    })
}

type Outcome = Result<Response<Body>, (StatusCode, String)>;

/// A request about a film, which is found here.
async fn read<T: DeserializeOwned + AboutFilm>(server: &Server, body: Incoming) -> Result<T, (StatusCode, String)> {
    let bad = |why: &str| (StatusCode::BAD_REQUEST, why.to_owned());
    let body = timeout(REQUEST_TIME_MAX, Limited::new(body, REQUEST_BYTES_MAX).collect()).await;
    let body = body.map_err(|_| bad("the request came too slowly"))?;
    let body = body.map_err(|_| bad("the request is cut off or long"))?;
    let mut asked: T = serde_json::from_slice(&body.to_bytes())
        .map_err(|_| bad("the request is not as agreed: are both of one version?"))?;
    if let Some(folders) = &server.folders {
        let (folders, source) = (Arc::clone(folders), asked.source().clone());
        let finding = timeout(FIND_TIME_MAX, tokio::task::spawn_blocking(move || folders.here(&source))).await;
        let not_here = |why: String| (StatusCode::MISDIRECTED_REQUEST, why);
        let found = finding.map_err(|_| not_here("the film's folder does not answer here".to_owned()))?;
        let found =
            found.map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "looking for the film panicked".to_owned()))?;
        *asked.source() = found.map_err(|NotHere(why)| not_here(why))?;
    }
    Ok(asked)
}

/// A build, as it is on this processor.
fn here(build: &str) -> String {
    format!("{build} + {}", processor::name())
}

async fn probed(server: &Server, source: Source) -> Outcome {
    let mut film = looked_into(server, source, |tools, open, kill| probe(tools, open, kill)).await?;
    let chosen = server.survey.choose(now(server).await?.as_ref(), &mut film).await;
    chosen.map_err(|failure| refusal(&failure, StatusCode::INTERNAL_SERVER_ERROR))?;
    film.build = here(&film.build);
    Ok(answer(StatusCode::OK, &serde_json::to_string(&film).unwrap_or_default()))
}

async fn pictured(server: &Server, job: PictureJob) -> Outcome {
    let busy = |_| (StatusCode::SERVICE_UNAVAILABLE, "too many pictures are being made".to_owned());
    let made = server.pictures.make(job).await.map_err(busy)?;
    let made = made.map_err(|failure| refusal(&failure, StatusCode::UNPROCESSABLE_ENTITY))?;
    Ok(Response::new(full(made)))
}

async fn formats(server: &Server) -> Outcome {
    let tools = now(server).await?;
    let asked = tokio::task::spawn_blocking(move || encoders(&tools, &Kill::default())).await;
    let known = asked.unwrap_or_else(|_| Err(Failure::Machine("looking for encoders panicked".to_owned())));
    let known = known.map_err(|failure| refusal(&failure, StatusCode::INTERNAL_SERVER_ERROR))?;
    let formats: Vec<_> = known.iter().map(|encoder| encoder.format).collect();
    Ok(answer(StatusCode::OK, &serde_json::to_string(&formats).unwrap_or_default()))
}

/// The programs as they are now.
async fn now(server: &Server) -> Result<Arc<Tools>, (StatusCode, String)> {
    let tools = Arc::clone(&server.tools);
    let now = tokio::task::spawn_blocking(move || tools.now()).await;
    let now = now.unwrap_or_else(|_| Err(Failure::Machine("looking at ffmpeg panicked".to_owned())));
    now.map_err(|failure| refusal(&failure, StatusCode::INTERNAL_SERVER_ERROR))
}

/// `verdict` is for what failed for the film's sake. It may be kept; what failed for this machine's sake, or this moment's, may not.
fn refusal(failure: &Failure, verdict: StatusCode) -> (StatusCode, String) {
    let status = match failure {
        Failure::Mismatch(_) => StatusCode::CONFLICT,
        Failure::Failed(_) => verdict,
        // It had to give way: another sidecar may make it now, or this one later.
        Failure::Killed => StatusCode::SERVICE_UNAVAILABLE,
        Failure::Device(..) | Failure::Machine(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, failure.to_string())
}

/// Opens a film anew, for each run of a program.
type Open<'a> = &'a dyn Fn() -> Result<File, Failure>;

/// Short work on a film, a few at once, within a time. What a film is refused for stands; that time ran out says nothing about it: a
/// film that takes too much has met the bounds of its runs before.
async fn looked_into<T: Send + 'static>(
    server: &Server,
    source: Source,
    work: impl FnOnce(&Tools, Open, &Kill) -> Result<T, Failure> + Send + 'static,
) -> Result<T, (StatusCode, String)> {
    let busy = || (StatusCode::SERVICE_UNAVAILABLE, "too many films are being probed".to_owned());
    let _waiting = server.probes_waiting_max.try_acquire().map_err(|_| busy())?;
    let _slot = server.probes.acquire().await.map_err(|_| busy())?;
    let (time_max, late) = (PROBE_TIME_MAX, StatusCode::INTERNAL_SERVER_ERROR);
    worked_on(server, source, Bounds { time_max, late, kill: KillOnDrop::default() }, work).await
}

/// What bounds work on a film.
struct Bounds {
    time_max: Duration,
    /// What a film is told that takes longer.
    late: StatusCode,
    /// Says how much its programs give way to others, too.
    kill: KillOnDrop,
}

async fn worked_on<T: Send + 'static>(
    server: &Server,
    source: Source,
    Bounds { time_max, late, kill }: Bounds,
    work: impl FnOnce(&Tools, Open, &Kill) -> Result<T, Failure> + Send + 'static,
) -> Result<T, (StatusCode, String)> {
    let (tools, killing) = (now(server).await?, kill.share());
    let work = tokio::task::spawn_blocking(move || work(&tools, &|| open(&source), &killing));
    let done = timeout(time_max, work).await.map_err(|_| (late, "it could not be read in time".to_owned()))?;
    let done = done.map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "working on it panicked".to_owned()))?;
    done.map_err(|failure| refusal(&failure, StatusCode::UNPROCESSABLE_ENTITY))
}

async fn copied(server: &Server, FilmFile { source, film }: FilmFile) -> Outcome {
    let busy = |_| (StatusCode::SERVICE_UNAVAILABLE, "another film is being read".to_owned());
    let _slot = server.copies.try_acquire().map_err(busy)?;
    // Whoever is to blame where it is late, it is not begun again and again: only after a day.
    let late = StatusCode::UNPROCESSABLE_ENTITY;
    let bounds = Bounds { time_max: COPY_TIME_MAX, late, kill: KillOnDrop::default() };
    let work = move |tools: &Tools, open: Open, kill: &Kill| {
        tools.expect_makes(&film)?;
        remux::look(tools, &film, open()?, kill)
    };
    let copied = worked_on(server, source, bounds, work).await?;
    Ok(answer(StatusCode::OK, &serde_json::to_string(&copied).unwrap_or_default()))
}

async fn tried(server: &Server, job: TrialJob) -> Outcome {
    let busy = |_| (StatusCode::SERVICE_UNAVAILABLE, "another trial is running".to_owned());
    let _slot = server.trials.try_acquire().map_err(busy)?;
    let source = job.source.clone();
    let kill = KillOnDrop::of_nice(Priority::Background.niceness());
    let bounds = Bounds { time_max: TRIAL_TIME_MAX, late: StatusCode::INTERNAL_SERVER_ERROR, kill };
    let work = move |tools: &Tools, open: Open, kill: &Kill| trial(tools, &job, open, kill);
    let tried = worked_on(server, source, bounds, work).await?;
    Ok(answer(StatusCode::OK, &serde_json::to_string(&tried).unwrap_or_default()))
}

async fn segment(server: &Server, job: Job, watched: bool) -> Outcome {
    let only_init = matches!(job.wanted, Wanted::Init { .. });
    let job = match job.wanted {
        // What begins every run: the player wants the first segment next.
        Wanted::Init { rung } => Job { wanted: Wanted::Video { rung, segment: 0 }, ..job },
        _ => job,
    };
    // Each run looks again when its turn comes; this is for what would be made already, and to answer at once.
    let this_time = |failure| refusal(&failure, StatusCode::INTERNAL_SERVER_ERROR);
    now(server).await?.expect_makes(&job.film).map_err(this_time)?;
    let busy = |_| (StatusCode::SERVICE_UNAVAILABLE, "all slots and the queue are full".to_owned());
    let is_text = matches!(job.wanted, Wanted::Text { .. } | Wanted::TextFile { .. });
    let is_at_home = is_text || job.film.build.split(" + ").any(|part| part == processor::name());
    let mut waiter = server.jobs.join(job, watched).map_err(busy)?;
    let began = |output: &Output| {
        output.end.is_some() || if only_init { output.init.is_some() } else { !output.fragments.is_empty() }
    };
    let gone = |_| (StatusCode::INTERNAL_SERVER_ERROR, "the job is gone".to_owned());
    let (init, end, made_by) = {
        let output = waiter.output.wait_for(began).await.map_err(gone)?;
        (output.init.clone(), output.end.clone(), output.made_by.clone())
    };
    if let Some(Err(failure)) = end {
        return Err(this_time(failure));
    }
    if only_init {
        let init = init.ok_or((StatusCode::INTERNAL_SERVER_ERROR, "the run had no head".to_owned()))?;
        return Ok(made(full(init), made_by, is_at_home));
    }
    Ok(made(fragments(waiter), made_by, is_at_home))
}

/// An answer that says which encoder made it, where one did; and where, where that makes a difference.
fn made(body: Body, encoder: Option<Arc<str>>, is_at_home: bool) -> Response<Body> {
    let mut response = Response::new(body);
    if let Some(name) = encoder.and_then(|encoder| HeaderValue::from_str(&encoder).ok()) {
        response.headers_mut().insert(MADE_BY, name);
    }
    if !is_at_home {
        response.headers_mut().insert(PROCESSOR, HeaderValue::from_static(processor::name()));
    }
    response
}

async fn rendition(server: &Server, body: Incoming) -> Outcome {
    let busy = || (StatusCode::SERVICE_UNAVAILABLE, "all slots and the queue, or their memory, are full".to_owned());
    let (job, given) = server.renditions.take(body).await.map_err(|refused| match refused {
        Refused::Busy => busy(),
        Refused::NotAsAgreed(why) => (StatusCode::BAD_REQUEST, why.to_owned()),
    })?;
    let made = server.renditions.make(job, given).await.map_err(|_| busy())?;
    let made = made.map_err(|failure| refusal(&failure, StatusCode::UNPROCESSABLE_ENTITY))?;
    Ok(Response::new(full(made)))
}

/// What was ended for somebody who waits is made when there is time again.
async fn made_ahead(server: &Server, Ahead { job, segments }: Ahead) -> Outcome {
    let busy = || (StatusCode::SERVICE_UNAVAILABLE, "there is something else to do".to_owned());
    now(server).await?.expect_makes(&job.film).map_err(|failure| refusal(&failure, StatusCode::CONFLICT))?;
    if !server.jobs.may_keep(&job) {
        let reason = "a segment is larger than what is kept of what nobody waits for (transcode.ahead)".to_owned();
        return Err((StatusCode::INTERNAL_SERVER_ERROR, reason));
    }
    let made = server.jobs.make_when_idle(&job, segments).map_err(|_| busy())?;
    for mut output in made {
        let ended = output.wait_for(|output| output.end.is_some()).await;
        match ended.ok().and_then(|output| output.end.clone()) {
            Some(Ok(())) => {}
            Some(Err(Failure::Killed)) | None => return Err(busy()),
            Some(Err(failure)) => return Err(refusal(&failure, StatusCode::INTERNAL_SERVER_ERROR)),
        }
    }
    Ok(answer(StatusCode::OK, ""))
}

/// The fragments as they are made; an error where the job fails, which cuts the body off.
fn fragments(waiter: Waiter) -> Body {
    let stream = futures_util::stream::try_unfold((waiter, 0), |(mut waiter, next)| async move {
        let more = |output: &Output| output.fragments.len() > next || output.end.is_some();
        let (fragment, end) = {
            let output = waiter.output.wait_for(more).await.map_err(io::Error::other)?;
            (output.fragments.get(next).cloned(), output.end.clone())
        };
        match (fragment, end) {
            (Some(fragment), _) => Ok(Some((Frame::data(fragment), (waiter, next + 1)))),
            (None, Some(Err(failure))) => Err(io::Error::other(failure.to_string())),
            (None, _) => Ok(None),
        }
    });
    StreamBody::new(stream).boxed_unsync()
}

fn introduction(build: &str) -> Response<Body> {
    let mut response = answer(StatusCode::OK, build);
    let name = HeaderValue::from_static(concat!("reelgate-transcoder/", env!("CARGO_PKG_VERSION")));
    response.headers_mut().insert(header::SERVER, name);
    response
}

fn answer(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(full(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
