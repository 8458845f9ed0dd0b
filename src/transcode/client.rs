//! The edge's side of a request to a sidecar: the one on this host, and those on others. It trusts nothing it gets: heads and bodies
//! are bounded in bytes and in time, and whatever is not as agreed is an error.
//!
//! - this file: requests and their answers; where one sidecar does not answer or has no room, the next is asked.
//! - `server`: one of them, asked. `connect`: connections. `fleet`: whom to ask; pure. `looks`: whether they are there, and what they are at.
//!
//! Invariants: dropping an answer closes its connection, by which the sidecar knows that nobody waits any more; once a body has begun,
//! it comes from one sidecar alone; one that is alone on this host is always asked, whatever is known of it.

use super::protocol::{
    AHEAD, Ahead, COPY, Copied, Film, FilmFile, Format, HEALTH, Job, PICTURE, PICTURE_BYTES_MAX, PICTURES, PROBE,
    PictureJob, RENDITION, RENDITION_MADE_BYTES_MAX, RenditionJob, SEGMENT, Source, TRIAL, TrialJob, Tried, UNWATCHED,
    programs, software,
};
use super::tls::{self, Renewed};
use crate::config::{ServerAddress, TranscodeServers};
use crate::observe::Metrics;
use bytes::Bytes;
use connect::{Sent, Way};
use fleet::{Fleet, Nobody};
use http::{Method, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame};
use parking_lot::Mutex;
use serde::Serialize;
use server::{Answer, HEALTH_TIME_MAX, Refused, Server};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

pub(super) mod connect;
mod fleet;
mod looks;
mod server;

pub use looks::{Introduction, Report, ServerJob, ServerStatus, introduction};
pub use server::MadeBy;

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

/// The bytes of a segment, as they are made.
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

/// The edge's side of all sidecars.
#[derive(Debug)]
pub struct Client {
    /// The preferred first; the one on this host is the last.
    servers: Vec<Server>,
    fleet: Mutex<Fleet>,
    metrics: Option<Arc<Metrics>>,
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
            return self.candidates(Whom::of(b"", None)).is_ok();
        }
        let asked = timeout(HEALTH_TIME_MAX, self.servers[0].send(Method::GET, HEALTH, Sent::default())).await;
        matches!(asked, Ok(Ok(answer)) if answer.response.status() == StatusCode::NO_CONTENT)
    }

    /// What makes films that nobody has looked into yet.
    pub async fn build(&self) -> Result<String, Error> {
        if !self.is_alone() {
            self.candidates(Whom::of(b"", None))?;
            let build = self.build_in_force().ok_or_else(|| Error::Away("no transcoder is there".to_owned()))?;
            return Ok(build.to_string());
        }
        self.servers[0].build().await
    }

    /// The same, as far as it is known without asking; None where one is alone: then it is asked.
    pub fn build_in_force(&self) -> Option<Arc<str>> {
        if self.is_alone() { None } else { self.fleet.lock().in_force(Instant::now()) }
    }

    /// Whether those who look into films now can make this one as it is known.
    pub fn makes(&self, film: &Film) -> bool {
        self.build_in_force().is_none_or(|build| programs(&build) == programs(&film.build))
    }

    /// Whether a film should be looked into again: nobody makes it any more as it is known, or, where nobody plays it, others make it
    /// than should.
    pub fn is_outdated(&self, film: &Film, is_idle: bool) -> bool {
        !self.is_alone() && self.fleet.lock().is_outdated(&film.build, is_idle, Instant::now())
    }

    /// A picture, whole.
    pub async fn picture(&self, job: &PictureJob) -> Result<Bytes, Error> {
        let body = serde_json::to_vec(job).map_err(away)?;
        let key = key_of(&job.source);
        let whom = Whom { exactly: true, ..Whom::of(&key, Some(&job.build)) };
        let (_, answer) = self.ask_from(HEAD_TIME_MAX, whom, PICTURE, body.into()).await?;
        answer.whole(PICTURE_BYTES_MAX).await
    }

    /// What pictures a build can make, the best first.
    pub async fn picture_formats(&self, build: &str) -> Result<Vec<Format>, Error> {
        let whom = Whom { exactly: true, ..Whom::of(b"", Some(build)) };
        let index = self.candidates(whom)?.into_iter().next();
        let server = index.map(|index| &self.servers[index]).ok_or_else(|| away("no transcoder is there"))?;
        let asked = timeout(PIECE_TIME_MAX, server.send(Method::GET, PICTURES, Sent::default())).await;
        let answer = asked.map_err(|_| away("no answer in time"))?.map_err(Error::Away)?;
        serde_json::from_slice(&answer.small().await?).map_err(away)
    }

    /// A segment, or its head, made by a build from an origin's: `bytes` are what the job counts. They are let go once the answer begins,
    /// which has a length, and a body that fails where it is not all there. [`Error::Unfit`]: never from these bytes.
    pub async fn rendition(&self, job: &RenditionJob, build: &str, bytes: [Bytes; 3]) -> Result<(u64, Body), Error> {
        let mut line = serde_json::to_vec(job).map_err(away)?;
        line.push(b'\n');
        let body = std::iter::once(line.into()).chain(bytes).collect();
        // Each may go to any of them.
        let key = fastrand::u64(..).to_be_bytes();
        let whom = Whom { exactly: true, ..Whom::of(&key, Some(build)) };
        let (server, answer) = self.ask_from(RENDITION_TIME_MAX, whom, RENDITION, body).await?;
        let length = answer.response.body().size_hint().exact();
        let length = length.filter(|length| *length <= RENDITION_MADE_BYTES_MAX as u64);
        let length = length.ok_or_else(|| Error::Failed("it made too much, or does not say how much".to_owned()))?;
        Ok((length, self.pieces(server, answer)))
    }

    /// What a film is. [`Error::Unfit`]: it cannot be streamed.
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

    /// The head of a rung's segments, and who made it.
    pub async fn init(&self, job: &Job) -> Result<(Bytes, MadeBy), Error> {
        let answer = self.ask(&job.source, Some(&job.film.build), SEGMENT, job).await?;
        let made_by = answer.made_by();
        Ok((answer.small().await?, made_by))
    }

    /// Has segments made that nobody waits for, and kept until they are asked for: by the one who will be asked for them first, and by
    /// nobody else. [`Error::Busy`]: it has something else to do.
    pub async fn ahead(&self, ahead: &Ahead) -> Result<(), Error> {
        let job = &ahead.job;
        let body = serde_json::to_vec(ahead).map_err(away)?;
        let key = key_of(&job.source);
        let whom = Whom { only_first: true, ..Whom::of(&key, Some(&job.film.build)) };
        self.ask_from(AHEAD_TIME_MAX, whom, AHEAD, body.into()).await.map(drop)
    }

    /// The fragments of a segment, as they are made, and who makes it. The body fails where they are not all there.
    pub async fn segment(&self, job: &Job) -> Result<(Body, MadeBy), Error> {
        self.fragments(SEGMENT, job).await
    }

    /// The same, for nobody who would want what follows.
    pub async fn unwatched(&self, job: &Job) -> Result<(Body, MadeBy), Error> {
        self.fragments(UNWATCHED, job).await
    }

    async fn fragments(&self, path: &str, job: &Job) -> Result<(Body, MadeBy), Error> {
        let body = serde_json::to_vec(job).map_err(away)?;
        let (key, build) = (key_of(&job.source), Some(job.film.build.as_str()));
        let (server, answer) = self.ask_from(HEAD_TIME_MAX, Whom::of(&key, build), path, body.into()).await?;
        let made_by = answer.made_by();
        Ok((self.pieces(server, answer), made_by))
    }

    /// An answer's body as it comes.
    fn pieces(&self, server: usize, answer: Answer) -> Body {
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
        StreamBody::new(pieces).boxed_unsync()
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
        Ok(self.ask_from(most, Whom::of(&key_of(source), build), path, body.into()).await?.1)
    }

    /// Asks those who may answer, one after the other, until one does.
    async fn ask_from(&self, most: Duration, whom: Whom<'_>, path: &str, body: Sent) -> Result<(usize, Answer), Error> {
        let mut last = None;
        for index in self.candidates(whom)? {
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
            if matches!(refused, Refused::Silent(_)) {
                self.fleet.lock().failed(index, Instant::now());
            }
            // One that is late may only have much to do: that is for a look to tell.
            if matches!(refused, Refused::Silent(_) | Refused::Late) {
                server.look_now.notify_one();
            }
            last = Some(match (refused, last) {
                (Refused::Silent(why), _) => Error::Away(self.named(server, &why)),
                (Refused::Late, _) => return Err(Error::Away(self.named(server, "no answer in time"))),
                // Another one may have it.
                (Refused::NotHere(_), Some(before)) => before,
                (Refused::NotHere(reason), None) => Error::Away(self.named(server, &reason)),
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
    fn candidates(&self, whom: Whom<'_>) -> Result<Vec<usize>, Error> {
        if self.is_alone() {
            return Ok(vec![0]);
        }
        let now = Instant::now();
        let mut fleet = self.fleet.lock();
        let nobody = || Error::Away("no transcoder is there".to_owned());
        let build = match whom.build {
            Some(build) => build.into(),
            None => fleet.in_force(now).ok_or_else(nobody)?,
        };
        let mut candidates = fleet.candidates(&build, whom.key, now).map_err(|why| match why {
            Nobody::Away => nobody(),
            Nobody::OtherBuild => Error::Changed,
        })?;
        if whom.exactly {
            let build = software(&build);
            candidates.retain(|member| fleet.standing(*member, now).1.is_some_and(|theirs| software(&theirs) == build));
        }
        if whom.only_first {
            candidates.truncate(1);
        }
        if candidates.is_empty() { Err(nobody()) } else { Ok(candidates) }
    }
}

/// Who may be asked.
#[derive(Debug, Clone, Copy)]
struct Whom<'a> {
    /// What requests are spread by.
    key: &'a [u8],
    /// None: the one in force.
    build: Option<&'a str>,
    /// Not those who stand in on another kind of processor: the answer would have other bytes, and does not say so.
    exactly: bool,
    /// Nobody in its stead: what it is to have, others would have in vain.
    only_first: bool,
}

impl<'a> Whom<'a> {
    fn of(key: &'a [u8], build: Option<&'a str>) -> Self {
        Self { key, build, exactly: false, only_first: false }
    }
}

/// What a film's requests are spread by.
fn key_of(source: &Source) -> Vec<u8> {
    [source.folder.as_os_str().as_bytes(), b"/", source.path.as_os_str().as_bytes()].concat()
}

fn away(error: impl std::fmt::Display) -> Error {
    Error::Away(error.to_string())
}

#[cfg(test)]
mod tests;
