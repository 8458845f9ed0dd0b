//! The edge's side of a request to a sidecar: the one on this host, and those on others. It trusts nothing it gets: heads and bodies
//! are bounded in bytes and in time, and whatever is not as agreed is an error.
//!
//! - this file: requests and their answers; where one sidecar does not answer or has no room, the next is asked.
//! - `connect`: connections. `fleet`: whom to ask; pure. `looks`: whether they are there, and what they are at.
//!
//! Invariants: dropping an answer closes its connection, by which the sidecar knows that nobody waits any more; once a body has begun,
//! it comes from one sidecar alone; one that is alone on this host is always asked, whatever is known of it.

use super::protocol::{
    AHEAD, Ahead, BUILD, COPY, Copied, Film, FilmFile, Format, HEALTH, Job, MADE_BY, PICTURE, PICTURE_BYTES_MAX,
    PICTURES, PROBE, PictureJob, RENDITION, RENDITION_MADE_BYTES_MAX, Rendition, SEGMENT, Source, TRIAL, TrialJob,
    Tried, UNWATCHED, VERSION_FIELD, version,
};
use super::tls::{self, Renewed};
use crate::config::{ServerAddress, TranscodeServers};
use crate::observe::Metrics;
use bytes::Bytes;
use connect::{Held, Way};
use fleet::{Fleet, Nobody};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use parking_lot::Mutex;
use serde::Serialize;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

pub(super) mod connect;
mod fleet;
mod looks;

pub use looks::{Introduction, Report, ServerJob, introduction};

/// What the sidecar on this host is called, in metrics and lists.
const LOCAL: &str = "local";

/// From the request to the answer's head: waiting for a slot, and the first fragment.
const HEAD_TIME_MAX: Duration = Duration::from_secs(45);
/// The same where a film is read from end to end.
const COPY_TIME_MAX: Duration = Duration::from_secs(920);
/// The same for a segment made from an origin's, which waits for a slot and is made whole first.
const RENDITION_TIME_MAX: Duration = Duration::from_secs(75);
/// The same where a segment is made slowly.
const TRIAL_TIME_MAX: Duration = Duration::from_secs(190);
/// The same where segments are made when there is time.
const AHEAD_TIME_MAX: Duration = Duration::from_secs(240);
/// Between two pieces of a body.
const PIECE_TIME_MAX: Duration = Duration::from_secs(30);
const HEALTH_TIME_MAX: Duration = Duration::from_secs(2);
/// Some hundreds of jobs.
const STATUS_BYTES_MAX: usize = 1 << 20;
/// What a film is, a head of segments, a reason: all small.
const SMALL_BYTES_MAX: usize = 64 * 1024;

/// Of an encoder.
const NAME_BYTES_MAX: usize = 64;

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// No sidecar, or none that answers as agreed.
    Away(String),
    /// Its slots and its queue are full.
    Busy,
    /// The film, or what makes it, is another version by now.
    Changed,
    /// The film cannot be streamed: the reason.
    Unfit(String),
    /// It could not be made this time.
    Failed(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Away(why) => write!(f, "the transcoder does not answer: {why}"),
            Self::Busy => f.write_str("the transcoder is busy"),
            Self::Changed => f.write_str("the film has changed"),
            Self::Unfit(why) => write!(f, "the film cannot be streamed: {why}"),
            Self::Failed(why) => write!(f, "the transcoder failed: {why}"),
        }
    }
}

#[derive(Debug)]
pub struct Client {
    /// The preferred first; the one on this host is the last.
    servers: Vec<Server>,
    fleet: Mutex<Fleet>,
    metrics: Option<Arc<Metrics>>,
}

/// A sidecar.
#[derive(Debug)]
struct Server {
    /// A metric label: `local`, or host and port as configured.
    name: Arc<str>,
    /// Where the one on this host listens.
    socket: Option<PathBuf>,
    way: Way,
    /// Something went wrong with it.
    look_now: Arc<Notify>,
    counted: Mutex<looks::Counted>,
    /// Of its encoders, in metrics.
    encoders_told: Mutex<Vec<(String, String)>>,
}

impl Server {
    fn new(name: &str, socket: Option<PathBuf>, way: Way) -> Self {
        Self {
            name: name.into(),
            socket,
            way,
            look_now: Arc::default(),
            counted: Mutex::default(),
            encoders_told: Mutex::default(),
        }
    }
}

/// Why one sidecar did not answer as wished.
#[derive(Debug)]
enum Refused {
    /// It could not be spoken to.
    Silent(String),
    /// It has not answered in time, and whoever waits has waited long.
    Late,
    /// It has not got the film.
    NotHere(String),
    Said(Error),
}

impl Refused {
    fn label(&self) -> &'static str {
        match self {
            Self::Silent(_) | Self::Late | Self::Said(Error::Away(_)) => "away",
            Self::NotHere(_) => "not_here",
            Self::Said(Error::Busy) => "busy",
            Self::Said(Error::Changed) => "changed",
            Self::Said(Error::Unfit(_)) => "unfit",
            Self::Said(Error::Failed(_)) => "failed",
        }
    }
}

/// An answer's head, and what comes after it.
struct Answer {
    response: Response<Incoming>,
    held: Held,
}

impl Client {
    /// Of one sidecar, on this host.
    pub fn new(socket: PathBuf) -> Self {
        Self::of(Some(socket), None, None)
    }

    /// Of those on other hosts, and the one on this host.
    pub fn of(local: Option<PathBuf>, remote: Option<&TranscodeServers>, metrics: Option<Arc<Metrics>>) -> Self {
        let mut servers = Vec::new();
        if let Some(remote) = remote {
            let config = Arc::new(Renewed::new(remote.tls.clone(), tls::client));
            for address in &remote.addresses {
                let ServerAddress::Tcp { host, port } = address else { continue };
                let (host, config) = (host.clone(), Arc::clone(&config));
                let way = Way::Tls { host, port: *port, config, idle: Arc::default() };
                servers.push(Server::new(&address.to_string(), None, way));
            }
        }
        servers.extend(local.map(|socket| Server::new(LOCAL, Some(socket.clone()), Way::Unix(socket))));
        let members = servers.iter().map(|server| (Arc::clone(&server.name), server.socket.is_some()));
        Self { fleet: Mutex::new(Fleet::new(members)), servers, metrics }
    }

    /// Whether there is but one, on this host.
    fn is_alone(&self) -> bool {
        matches!(self.servers.as_slice(), [only] if only.socket.is_some())
    }

    /// Whether one of them answers.
    pub async fn is_healthy(&self) -> bool {
        if !self.is_alone() {
            return self.fleet.lock().in_force(Instant::now()).is_some();
        }
        let asked = timeout(HEALTH_TIME_MAX, self.servers[0].send(Method::GET, HEALTH, Bytes::new())).await;
        matches!(asked, Ok(Ok(answer)) if answer.response.status() == StatusCode::NO_CONTENT)
    }

    /// What makes films that nobody has looked into yet.
    pub async fn build(&self) -> Result<String, Error> {
        if !self.is_alone() {
            let build = self.build_in_force().ok_or_else(|| Error::Away("no transcoder is there".to_owned()))?;
            return Ok(build.to_string());
        }
        self.servers[0].build().await
    }

    /// The same, as far as it is known without asking; None where one is alone: then it is asked.
    pub fn build_in_force(&self) -> Option<Arc<str>> {
        if self.is_alone() { None } else { self.fleet.lock().in_force(Instant::now()) }
    }

    /// Whether a film should be looked into again: nobody makes it any more as it is known, or, where nobody plays it, others make it
    /// than should.
    pub fn is_outdated(&self, film: &Film, is_idle: bool) -> bool {
        !self.is_alone() && self.fleet.lock().is_outdated(&film.build, is_idle, Instant::now())
    }

    /// A picture, whole.
    pub async fn picture(&self, job: &PictureJob) -> Result<Bytes, Error> {
        self.ask(&job.source, Some(&job.build), PICTURE, job).await?.whole(PICTURE_BYTES_MAX).await
    }

    /// What pictures a build can make, the best first.
    pub async fn picture_formats(&self, build: &str) -> Result<Vec<Format>, Error> {
        let index = self.candidates(b"", Some(build))?.into_iter().next();
        let server = index.map(|index| &self.servers[index]).ok_or_else(|| away("no transcoder is there"))?;
        let asked = timeout(PIECE_TIME_MAX, server.send(Method::GET, PICTURES, Bytes::new())).await;
        let answer = asked.map_err(|_| away("no answer in time"))?.map_err(Error::Away)?;
        serde_json::from_slice(&answer.small().await?).map_err(away)
    }

    /// A segment, or its head, made by a build from an origin's: `bytes` are what `wanted` counts. [`Error::Unfit`]: never from these
    /// bytes.
    pub async fn rendition(&self, wanted: &Rendition, build: &str, bytes: &[Bytes]) -> Result<Bytes, Error> {
        let mut body = serde_json::to_vec(wanted).map_err(away)?;
        body.push(b'\n');
        bytes.iter().for_each(|bytes| body.extend_from_slice(bytes));
        // Each may go to any of them.
        let key = fastrand::u64(..).to_be_bytes();
        let (_, answer) = self.ask_from(RENDITION_TIME_MAX, &key, Some(build), RENDITION, body.into()).await?;
        answer.whole(RENDITION_MADE_BYTES_MAX).await
    }

    pub async fn probe(&self, source: &Source) -> Result<Film, Error> {
        serde_json::from_slice(&self.ask(source, None, PROBE, source).await?.small().await?).map_err(away)
    }

    /// Whether a film's packets can be used as they are: minutes for a long film. [`Error::Unfit`] says why not.
    pub async fn copied(&self, whole: &FilmFile) -> Result<Copied, Error> {
        let asked = self.ask_within(COPY_TIME_MAX, &whole.source, Some(&whole.film.build), COPY, whole);
        serde_json::from_slice(&asked.await?.small().await?).map_err(away)
    }

    /// One segment made at a quality and compared with the film. [`Error::Unfit`]: it cannot be.
    pub async fn tried(&self, job: &TrialJob) -> Result<Tried, Error> {
        let asked = self.ask_within(TRIAL_TIME_MAX, &job.source, Some(&job.film.build), TRIAL, job);
        serde_json::from_slice(&asked.await?.small().await?).map_err(away)
    }

    /// The head of a rung's segments.
    pub async fn init(&self, job: &Job) -> Result<Bytes, Error> {
        Ok(self.init_made_by(job).await?.0)
    }

    /// Like [`Self::init`], and which encoder made it; None: it is not encoded.
    pub async fn init_made_by(&self, job: &Job) -> Result<(Bytes, Option<String>), Error> {
        let answer = self.ask(&job.source, Some(&job.film.build), SEGMENT, job).await?;
        let made_by = made_by(&answer.response);
        Ok((answer.small().await?, made_by))
    }

    /// Has segments made that nobody waits for, and kept until they are asked for. [`Error::Busy`]: there is something else to do.
    pub async fn ahead(&self, ahead: &Ahead) -> Result<(), Error> {
        let job = &ahead.job;
        self.ask_within(AHEAD_TIME_MAX, &job.source, Some(&job.film.build), AHEAD, ahead).await.map(drop)
    }

    /// The fragments of a segment, as they are made. The body fails where they are not all there.
    pub async fn segment(&self, job: &Job) -> Result<Body, Error> {
        Ok(self.segment_made_by(job).await?.0)
    }

    /// Like [`Self::segment`], and which encoder makes it; None: it is not encoded.
    pub async fn segment_made_by(&self, job: &Job) -> Result<(Body, Option<String>), Error> {
        self.fragments(SEGMENT, job).await
    }

    /// The same, for nobody who would want what follows.
    pub async fn unwatched(&self, job: &Job) -> Result<(Body, Option<String>), Error> {
        self.fragments(UNWATCHED, job).await
    }

    async fn fragments(&self, path: &str, job: &Job) -> Result<(Body, Option<String>), Error> {
        let body = serde_json::to_vec(job).map_err(away)?;
        let (key, build) = (key_of(&job.source), Some(job.film.build.as_str()));
        let (server, answer) = self.ask_from(HEAD_TIME_MAX, &key, build, path, body.into()).await?;
        let made_by = made_by(&answer.response);
        let state = (answer.response.into_body(), answer.held, Arc::clone(&self.servers[server].look_now));
        let pieces = futures_util::stream::try_unfold(state, |(mut body, held, look_now)| async move {
            let frame = match timeout(PIECE_TIME_MAX, body.frame()).await {
                Ok(frame) => frame.transpose().map_err(io::Error::other),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            match frame {
                Ok(Some(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    Ok(Some((Frame::data(data), (body, held, look_now))))
                }
                Ok(None) => {
                    held.give_back();
                    Ok(None)
                }
                Err(error) => {
                    // The segment failed, or the sidecar did.
                    look_now.notify_one();
                    Err(error)
                }
            }
        });
        Ok((StreamBody::new(pieces).boxed_unsync(), made_by))
    }

    async fn ask(
        &self,
        source: &Source,
        build: Option<&str>,
        path: &str,
        what: &impl Serialize,
    ) -> Result<Answer, Error> {
        self.ask_within(HEAD_TIME_MAX, source, build, path, what).await
    }

    async fn ask_within(
        &self,
        most: Duration,
        source: &Source,
        build: Option<&str>,
        path: &str,
        what: &impl Serialize,
    ) -> Result<Answer, Error> {
        let body = serde_json::to_vec(what).map_err(away)?;
        Ok(self.ask_from(most, &key_of(source), build, path, body.into()).await?.1)
    }

    /// Asks those who may answer, one after the other, until one does.
    async fn ask_from(
        &self,
        most: Duration,
        key: &[u8],
        build: Option<&str>,
        path: &str,
        body: Bytes,
    ) -> Result<(usize, Answer), Error> {
        let mut last = None;
        for index in self.candidates(key, build)? {
            let server = &self.servers[index];
            let asked = server.ask(most, path, body.clone()).await;
            let outcome = asked.as_ref().map_or_else(Refused::label, |_| "made");
            if let Some(metrics) = &self.metrics {
                metrics.transcoder_server_answers.with_label_values(&[&server.name, outcome]).inc();
            }
            let refused = match asked {
                Ok(answer) => {
                    self.fleet.lock().answered(index);
                    return Ok((index, answer));
                }
                Err(refused) => refused,
            };
            if matches!(refused, Refused::Silent(_) | Refused::Late) {
                self.fleet.lock().failed(index, Instant::now());
                server.look_now.notify_one();
            }
            last = Some(match (refused, last) {
                (Refused::Silent(why), _) => Error::Away(self.named(server, &why)),
                (Refused::Late, _) => return Err(Error::Away(self.named(server, "no answer in time"))),
                // Another one may have it.
                (Refused::NotHere(_), Some(before)) => before,
                (Refused::NotHere(reason), None) => Error::Failed(self.named(server, &reason)),
                (Refused::Said(error @ (Error::Unfit(_) | Error::Failed(_) | Error::Away(_))), _) => return Err(error),
                (Refused::Said(error @ (Error::Busy | Error::Changed)), _) => {
                    server.look_now.notify_one();
                    error
                }
            });
        }
        Err(last.unwrap_or_else(|| Error::Away("no transcoder is there".to_owned())))
    }

    fn named(&self, server: &Server, why: &str) -> String {
        if self.is_alone() { why.to_owned() } else { format!("{}: {why}", server.name) }
    }

    /// Whom to ask, in order: the same ones for all that is of one film.
    fn candidates(&self, key: &[u8], build: Option<&str>) -> Result<Vec<usize>, Error> {
        if self.is_alone() {
            return Ok(vec![0]);
        }
        let now = Instant::now();
        let mut fleet = self.fleet.lock();
        let nobody = || Error::Away("no transcoder is there".to_owned());
        let build = match build {
            Some(build) => build.into(),
            None => fleet.in_force(now).ok_or_else(nobody)?,
        };
        fleet.candidates(&build, key, now).map_err(|why| match why {
            Nobody::Away => nobody(),
            Nobody::OtherBuild => Error::Changed,
        })
    }
}

/// What a film's requests are spread by.
fn key_of(source: &Source) -> Vec<u8> {
    [source.folder.as_os_str().as_bytes(), b"/", source.path.as_os_str().as_bytes()].concat()
}

impl Server {
    async fn ask(&self, most: Duration, path: &str, body: Bytes) -> Result<Answer, Refused> {
        let sent = timeout(most, self.send(Method::POST, path, body)).await;
        let answer = sent.map_err(|_| Refused::Late)?.map_err(Refused::Silent)?;
        let status = answer.response.status();
        if status == StatusCode::OK {
            return Ok(answer);
        }
        let reason = answer.reason().await.map_err(Refused::Said)?;
        Err(match status {
            StatusCode::SERVICE_UNAVAILABLE => Refused::Said(Error::Busy),
            StatusCode::CONFLICT => Refused::Said(Error::Changed),
            StatusCode::MISDIRECTED_REQUEST => Refused::NotHere(reason),
            StatusCode::UPGRADE_REQUIRED => Refused::Silent(reason),
            StatusCode::UNPROCESSABLE_ENTITY => Refused::Said(Error::Unfit(reason)),
            _ => Refused::Said(Error::Failed(reason)),
        })
    }

    async fn build(&self) -> Result<String, Error> {
        let asked = timeout(HEALTH_TIME_MAX, self.send(Method::GET, BUILD, Bytes::new())).await;
        let answer = asked.map_err(|_| Error::Away("no answer in time".into()))?.map_err(Error::Away)?;
        match answer.response.status() {
            StatusCode::OK => Ok(String::from_utf8_lossy(&answer.small().await?).into_owned()),
            StatusCode::UPGRADE_REQUIRED => Err(Error::Away(answer.reason().await?)),
            _ => Err(Error::Failed("it does not say what it is".into())),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, String> {
        let request = || {
            let request = Request::builder().method(method.clone()).uri(path).header(header::HOST, "transcoder");
            let request = request.header(VERSION_FIELD, version()).body(Full::new(body.clone()));
            request.expect("a path and fields of our own")
        };
        let (response, held) = self.way.send(request).await?;
        Ok(Answer { response, held })
    }
}

/// A name, or nothing: it becomes part of an entity-tag.
fn made_by<T>(response: &Response<T>) -> Option<String> {
    let name = response.headers().get(MADE_BY)?.to_str().ok()?;
    let plain =
        name.len() <= NAME_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    plain.then(|| name.to_owned())
}

impl Answer {
    async fn small(self) -> Result<Bytes, Error> {
        self.whole(SMALL_BYTES_MAX).await
    }

    async fn whole(self, bytes_max: usize) -> Result<Bytes, Error> {
        let read = timeout(PIECE_TIME_MAX, Limited::new(self.response.into_body(), bytes_max).collect()).await;
        let read = read.map_err(|_| Error::Away("its answer stopped".into()))?;
        let bytes = read.map_err(|error| Error::Away(error.to_string()))?.to_bytes();
        self.held.give_back();
        Ok(bytes)
    }

    /// Why it refuses, for logs.
    async fn reason(self) -> Result<String, Error> {
        let reason = self.small().await?;
        Ok(String::from_utf8_lossy(&reason).chars().filter(|c| !c.is_control()).take(200).collect())
    }
}

fn away(error: impl std::fmt::Display) -> Error {
    Error::Away(error.to_string())
}
