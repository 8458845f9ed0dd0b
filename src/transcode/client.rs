//! The edge's side of a request to the sidecar. It trusts nothing it gets: heads and bodies are bounded in bytes and in time,
//! and whatever is not as agreed is an error.
//!
//! Invariant: dropping an answer closes its connection, by which the sidecar knows that nobody waits any more.

use super::protocol::{
    BUILD, COPY, Copied, Film, FilmFile, HEALTH, Job, MADE_BY, PICTURE, PICTURE_BYTES_MAX, PROBE, SEGMENT, STATUS,
    Source, Status,
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// From the request to the answer's head: waiting for a slot, and the first fragment.
const HEAD_TIME_MAX: Duration = Duration::from_secs(45);
/// The same where a film is read from end to end.
const COPY_TIME_MAX: Duration = Duration::from_secs(920);
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
    socket: PathBuf,
}

/// A connection's task, ended with what holds this.
type Connection = AbortOnDropHandle<()>;

impl Client {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub async fn is_healthy(&self) -> bool {
        let asked = timeout(HEALTH_TIME_MAX, self.send(Method::GET, HEALTH, Bytes::new())).await;
        matches!(asked, Ok(Ok((response, _))) if response.status() == StatusCode::NO_CONTENT)
    }

    /// What makes films there.
    pub async fn build(&self) -> Result<String, Error> {
        let asked = timeout(HEALTH_TIME_MAX, self.send(Method::GET, BUILD, Bytes::new())).await;
        let (response, _connection) = asked.map_err(|_| Error::Away("no answer in time".into()))??;
        if response.status() != StatusCode::OK {
            return Err(Error::Failed("it does not say what it is".into()));
        }
        Ok(String::from_utf8_lossy(&small(response.into_body()).await?).into_owned())
    }

    /// A picture of a film: JPEG.
    pub async fn picture(&self, source: &Source, film: &Film) -> Result<Bytes, Error> {
        let still = FilmFile { source: source.clone(), film: film.clone() };
        let (response, _connection) = self.ask(PICTURE, &still).await?;
        whole(response.into_body(), PICTURE_BYTES_MAX).await
    }

    /// What it is at.
    pub async fn status(&self) -> Result<Status, Error> {
        let asked = timeout(HEALTH_TIME_MAX, async {
            let (response, _connection) = self.send(Method::GET, STATUS, Bytes::new()).await?;
            let body = Limited::new(response.into_body(), STATUS_BYTES_MAX).collect().await.map_err(away)?;
            serde_json::from_slice(&body.to_bytes()).map_err(away)
        });
        asked.await.map_err(|_| Error::Away("no answer in time".into()))?
    }

    pub async fn probe(&self, source: &Source) -> Result<Film, Error> {
        let (response, _connection) = self.ask(PROBE, source).await?;
        serde_json::from_slice(&small(response.into_body()).await?).map_err(away)
    }

    /// Whether a film's packets can be used as they are: minutes for a long film. [`Error::Unfit`] says why not.
    pub async fn copied(&self, whole: &FilmFile) -> Result<Copied, Error> {
        let (response, _connection) = self.ask_within(COPY_TIME_MAX, COPY, whole).await?;
        serde_json::from_slice(&small(response.into_body()).await?).map_err(away)
    }

    /// The head of a rung's segments.
    pub async fn init(&self, job: &Job) -> Result<Bytes, Error> {
        Ok(self.init_made_by(job).await?.0)
    }

    /// Like [`Self::init`], and which encoder made it; None: it is not encoded.
    pub async fn init_made_by(&self, job: &Job) -> Result<(Bytes, Option<String>), Error> {
        let (response, _connection) = self.ask(SEGMENT, job).await?;
        let made_by = made_by(&response);
        Ok((small(response.into_body()).await?, made_by))
    }

    /// The fragments of a segment, as they are made. The body fails where they are not all there.
    pub async fn segment(&self, job: &Job) -> Result<Body, Error> {
        Ok(self.segment_made_by(job).await?.0)
    }

    /// Like [`Self::segment`], and which encoder makes it; None: it is not encoded.
    pub async fn segment_made_by(&self, job: &Job) -> Result<(Body, Option<String>), Error> {
        let (response, connection) = self.ask(SEGMENT, job).await?;
        let made_by = made_by(&response);
        let pieces = futures_util::stream::try_unfold((response.into_body(), connection), |(mut body, held)| async {
            let frame = timeout(PIECE_TIME_MAX, body.frame()).await.map_err(|_| io::ErrorKind::TimedOut)?;
            let Some(frame) = frame.transpose().map_err(io::Error::other)? else { return Ok(None) };
            let data = frame.into_data().unwrap_or_default();
            Ok(Some((Frame::data(data), (body, held))))
        });
        Ok((StreamBody::new(pieces).boxed_unsync(), made_by))
    }

    async fn ask(&self, path: &str, what: &impl Serialize) -> Result<(Response<Incoming>, Connection), Error> {
        self.ask_within(HEAD_TIME_MAX, path, what).await
    }

    async fn ask_within(
        &self,
        most: Duration,
        path: &str,
        what: &impl Serialize,
    ) -> Result<(Response<Incoming>, Connection), Error> {
        let body = serde_json::to_vec(what).map_err(away)?;
        let sent = timeout(most, self.send(Method::POST, path, body.into())).await;
        let (response, connection) = sent.map_err(|_| Error::Away("no answer in time".into()))??;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok((response, connection));
        }
        let reason = small(response.into_body()).await?;
        let reason: String = String::from_utf8_lossy(&reason).chars().filter(|c| !c.is_control()).take(200).collect();
        Err(match status {
            StatusCode::SERVICE_UNAVAILABLE => Error::Busy,
            StatusCode::CONFLICT => Error::Changed,
            StatusCode::UNPROCESSABLE_ENTITY => Error::Unfit(reason),
            _ => Error::Failed(reason),
        })
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<(Response<Incoming>, Connection), Error> {
        let stream = UnixStream::connect(&self.socket).await.map_err(away)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(away)?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // What goes wrong is seen by who reads the answer.
            let _ = connection.await;
        }));
        let request = Request::builder().method(method).uri(path).header(header::HOST, "transcoder");
        let response = sender.send_request(request.body(Full::new(body)).map_err(away)?).await.map_err(away)?;
        Ok((response, connection))
    }
}

/// A name, or nothing: it becomes part of an entity-tag.
fn made_by<T>(response: &Response<T>) -> Option<String> {
    let name = response.headers().get(MADE_BY)?.to_str().ok()?;
    let plain =
        name.len() <= NAME_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    plain.then(|| name.to_owned())
}

async fn small(body: Incoming) -> Result<Bytes, Error> {
    whole(body, SMALL_BYTES_MAX).await
}

async fn whole(body: Incoming, bytes_max: usize) -> Result<Bytes, Error> {
    let read = timeout(PIECE_TIME_MAX, Limited::new(body, bytes_max).collect()).await;
    let read = read.map_err(|_| Error::Away("its answer stopped".into()))?;
    read.map(http_body_util::Collected::to_bytes).map_err(|error| Error::Away(error.to_string()))
}

fn away(error: impl std::fmt::Display) -> Error {
    Error::Away(error.to_string())
}
