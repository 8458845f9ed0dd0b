//! One sidecar, asked; what it refuses, and what is taken of its answers.

use super::super::protocol::{BUILD, MADE_BY, PROCESSOR, VERSION_FIELD, version};
use super::connect::{Held, Sent, Way};
use super::{Error, PIECE_TIME_MAX, looks};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

pub const HEALTH_TIME_MAX: Duration = Duration::from_secs(2);
/// What a film is, a head of segments, a reason: all small.
const SMALL_BYTES_MAX: usize = 64 * 1024;
/// Of an encoder, of a processor.
const NAME_BYTES_MAX: usize = 64;

/// A sidecar.
#[derive(Debug)]
pub struct Server {
    /// A metric label: `local`, or host and port as configured.
    pub name: Arc<str>,
    /// Where the one on this host listens.
    pub socket: Option<PathBuf>,
    pub way: Way,
    /// Something went wrong with it.
    pub look_now: Arc<Notify>,
    pub counted: Mutex<looks::Counted>,
    /// Of its encoders, in metrics.
    pub encoders_told: Mutex<Vec<(String, String)>>,
}

impl Server {
    pub fn new(name: &str, socket: Option<PathBuf>, way: Way) -> Self {
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
pub enum Refused {
    /// It could not be spoken to.
    Silent(String),
    /// It has not answered in time, and whoever waits has waited long.
    Late,
    /// It has not got the film.
    NotHere(String),
    Said(Error),
}

impl Refused {
    /// As metrics have it.
    pub fn label(&self) -> &'static str {
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
pub struct Answer {
    pub response: Response<Incoming>,
    pub held: Held,
}

impl Server {
    pub async fn ask(&self, most: Duration, path: &str, body: Sent) -> Result<Answer, Refused> {
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

    pub async fn build(&self) -> Result<String, Error> {
        let asked = timeout(HEALTH_TIME_MAX, self.send(Method::GET, BUILD, Sent::default())).await;
        let answer = asked.map_err(|_| Error::Away("no answer in time".into()))?.map_err(Error::Away)?;
        match answer.response.status() {
            StatusCode::OK => Ok(String::from_utf8_lossy(&answer.small().await?).into_owned()),
            StatusCode::UPGRADE_REQUIRED => Err(Error::Away(answer.reason().await?)),
            _ => Err(Error::Failed("it does not say what it is".into())),
        }
    }

    pub async fn send(&self, method: Method, path: &str, body: Sent) -> Result<Answer, String> {
        let request = || {
            let request = Request::builder().method(method.clone()).uri(path).header(header::HOST, "transcoder");
            let request = request.header(VERSION_FIELD, version()).body(body.clone());
            request.expect("a path and fields of our own")
        };
        let (response, held) = self.way.send(request).await?;
        Ok(Answer { response, held })
    }
}

impl Answer {
    pub async fn small(self) -> Result<Bytes, Error> {
        self.whole(SMALL_BYTES_MAX).await
    }

    /// The body, of so many bytes at most.
    pub async fn whole(self, bytes_max: usize) -> Result<Bytes, Error> {
        let read = timeout(PIECE_TIME_MAX, Limited::new(self.response.into_body(), bytes_max).collect()).await;
        let read = read.map_err(|_| Error::Away("its answer stopped".into()))?;
        let bytes = read.map_err(|error| Error::Away(error.to_string()))?.to_bytes();
        self.held.give_back();
        Ok(bytes)
    }

    /// Why it refuses, for logs.
    pub async fn reason(self) -> Result<String, Error> {
        let reason = self.small().await?;
        Ok(String::from_utf8_lossy(&reason).chars().filter(|c| !c.is_control()).take(200).collect())
    }

    pub fn made_by(&self) -> MadeBy {
        MadeBy { encoder: self.name(MADE_BY), processor: self.name(PROCESSOR) }
    }

    /// A name, or nothing: it becomes part of an entity-tag.
    fn name(&self, field: &str) -> Option<String> {
        let name = self.response.headers().get(field)?.to_str().ok()?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        (name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain)).then(|| name.to_owned())
    }
}

/// Who made an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MadeBy {
    /// None: it is not encoded.
    pub encoder: Option<String>,
    /// Where that is another kind than the film was looked into on.
    pub processor: Option<String>,
}
