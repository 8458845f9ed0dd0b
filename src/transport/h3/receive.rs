//! What a client sends on a request's stream: one head, a body, perhaps trailers, the end (RFC 9114, section 4.1). Nothing is read
//! ahead of who asks for it but one piece, so a body flows as fast as it is taken.

use super::code::{Broken, Code};
use super::fields::{self, Refused};
use super::wire::{DATA, Frames, HEADERS, Part, Place};
use bytes::Bytes;
use quinn::{ReadError, RecvStream};

/// Why no more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// What came breaks the protocol.
    Broken(Broken),
    /// The head is larger than we said we take.
    TooLarge,
    /// The client gave the request up.
    Cancelled,
    /// The connection is gone.
    Lost,
}

impl From<Refused> for Ended {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unreadable => Self::Broken(Broken::Connection(Code::QPACK_DECOMPRESSION_FAILED)),
            Refused::TooLarge => Self::TooLarge,
            Refused::Malformed(_) => Self::Broken(Broken::Stream(Code::MESSAGE_ERROR)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
    Trailers,
    Done,
}

/// See the module. Dropped before the end, it tells the client to send no more.
#[derive(Debug)]
pub struct Receiver {
    stream: RecvStream,
    frames: Frames,
    fields_bytes_max: usize,
    stage: Stage,
    /// Content-Length.
    length: Option<u64>,
    received: u64,
    ahead: Option<Bytes>,
    stop: Code,
}

impl Receiver {
    /// `fields_bytes_max`: of a head, as RFC 9114 counts; `frame_bytes_max`: of a HEADERS frame.
    pub fn new(stream: RecvStream, fields_bytes_max: usize, frame_bytes_max: u64) -> Self {
        Self {
            stream,
            frames: Frames::new(Place::Request(frame_bytes_max)),
            fields_bytes_max,
            stage: Stage::Head,
            length: None,
            received: 0,
            ahead: None,
            stop: Code::NO_ERROR,
        }
    }

    /// The request's head. Cancel-safe until it returns.
    pub async fn head(&mut self) -> Result<http::request::Parts, Ended> {
        match self.part().await? {
            Some(Part::Frame(HEADERS, section)) => {
                self.stage = Stage::Body;
                let request = fields::request(&section, self.fields_bytes_max).inspect_err(|refused| {
                    tracing::debug!(?refused, "an HTTP/3 request refused");
                })?;
                self.length = request.headers.get(http::header::CONTENT_LENGTH).and_then(fields::number);
                Ok(request)
            }
            Some(_) => Err(Ended::Broken(Broken::Connection(Code::FRAME_UNEXPECTED))),
            None => Err(Ended::Broken(Broken::Stream(Code::REQUEST_INCOMPLETE))),
        }
    }

    /// The next bytes of the body; None: it is whole. Cancel-safe.
    pub async fn body(&mut self) -> Result<Option<Bytes>, Ended> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        while self.stage != Stage::Done {
            match (self.part().await?, self.stage) {
                (Some(Part::Data(data)), Stage::Body) => {
                    self.received += data.len() as u64;
                    if self.length.is_some_and(|length| self.received > length) {
                        return Err(Ended::Broken(Broken::Stream(Code::MESSAGE_ERROR)));
                    }
                    return Ok(Some(data));
                }
                (Some(Part::Frame(HEADERS, section)), Stage::Body) => {
                    fields::trailers(&section, self.fields_bytes_max)?;
                    self.stage = Stage::Trailers;
                }
                (Some(_), _) => return Err(Ended::Broken(Broken::Connection(Code::FRAME_UNEXPECTED))),
                (None, _) => {
                    self.stage = Stage::Done;
                    if self.length.is_some_and(|length| self.received != length) {
                        return Err(Ended::Broken(Broken::Stream(Code::MESSAGE_ERROR)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Reads until it is known whether there is a body. Cancel-safe.
    pub async fn look_ahead(&mut self) -> Result<(), Ended> {
        if self.ahead.is_none() {
            self.ahead = self.body().await?;
        }
        Ok(())
    }

    /// Whether the body has been taken whole.
    pub fn is_done(&self) -> bool {
        self.ahead.is_none() && (self.stage == Stage::Done || self.length == Some(0))
    }

    /// Whether there never was a body, as far as is known.
    pub fn is_empty(&self) -> bool {
        self.received == 0 && self.is_done()
    }

    /// Why the client is told to stop, should this be dropped before the end.
    pub fn stop_with(&mut self, code: Code) {
        self.stop = code;
    }

    /// None: the stream ended where it may. Empty parts of bodies are not worth a turn.
    async fn part(&mut self) -> Result<Option<Part>, Ended> {
        loop {
            if let Some(part) = self.frames.next().map_err(|code| Ended::Broken(Broken::Connection(code)))? {
                debug_assert!(!matches!(part, Part::Frame(DATA, _)));
                return Ok(Some(part));
            }
            match self.stream.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => self.frames.push(chunk.bytes),
                Ok(None) if self.frames.is_at_boundary() => return Ok(None),
                Ok(None) => return Err(Ended::Broken(Broken::Connection(Code::FRAME_ERROR))),
                Err(ReadError::Reset(_)) => return Err(Ended::Cancelled),
                Err(_) => return Err(Ended::Lost),
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It may have ended or been stopped already.
        let _ = self.stream.stop(self.stop.into());
    }
}
