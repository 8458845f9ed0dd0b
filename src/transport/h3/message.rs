//! What a request's stream says: one head, a body, perhaps trailers, the end (RFC 9114, section 4.1). Pure: bytes in, a request out; no
//! stream, no clock. It keeps one frame of fields at most, within its bound.

use super::code::{Broken, Code};
use super::fields::{self, Refused};
use super::wire::{DATA, Frames, HEADERS, Part, Place};
use bytes::Bytes;
use http::request;

/// Why it is no request we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What came breaks the protocol.
    Broken(Broken),
    /// Fields larger than we said we take.
    TooLarge,
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unreadable => connection(Code::QPACK_DECOMPRESSION_FAILED),
            Refused::TooLarge => Self::TooLarge,
            Refused::Malformed(_) => stream(Code::MESSAGE_ERROR),
        }
    }
}

fn connection(code: Code) -> Fault {
    Fault::Broken(Broken::Connection(code))
}

fn stream(code: Code) -> Fault {
    Fault::Broken(Broken::Stream(code))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
    Trailers,
    Ended,
}

/// See the module.
#[derive(Debug)]
pub struct Message {
    frames: Frames,
    fields_bytes_max: usize,
    stage: Stage,
    /// Content-Length.
    length: Option<u64>,
    received: u64,
}

impl Message {
    /// `fields_bytes_max`: of a head, as RFC 9114 counts; `frame_bytes_max`: of a HEADERS frame.
    pub fn new(fields_bytes_max: usize, frame_bytes_max: u64) -> Self {
        Self {
            frames: Frames::new(Place::Request(frame_bytes_max)),
            fields_bytes_max,
            stage: Stage::Head,
            length: None,
            received: 0,
        }
    }

    /// What the stream brought; to be called when there is nothing more to take.
    pub fn push(&mut self, input: Bytes) {
        self.frames.push(input);
    }

    /// The request's head, once; None: it is not whole.
    pub fn head(&mut self) -> Result<Option<request::Parts>, Fault> {
        match self.frames.next().map_err(connection)? {
            None => Ok(None),
            Some(Part::Frame(HEADERS, section)) => {
                self.stage = Stage::Body;
                let request = fields::request(&section, self.fields_bytes_max).inspect_err(|refused| {
                    tracing::debug!(?refused, "an HTTP/3 request refused");
                })?;
                self.length = request.headers.get(http::header::CONTENT_LENGTH).and_then(fields::number);
                Ok(Some(request))
            }
            Some(_) => Err(connection(Code::FRAME_UNEXPECTED)),
        }
    }

    /// After the head: the next bytes of the body, never none; None: there are no more yet.
    pub fn data(&mut self) -> Result<Option<Bytes>, Fault> {
        while let Some(part) = self.frames.next().map_err(connection)? {
            debug_assert!(!matches!(part, Part::Frame(DATA, _)));
            match (part, self.stage) {
                (Part::Data(data), Stage::Body) if data.is_empty() => {}
                (Part::Data(data), Stage::Body) => {
                    self.received += data.len() as u64;
                    if self.length.is_some_and(|length| self.received > length) {
                        return Err(stream(Code::MESSAGE_ERROR));
                    }
                    return Ok(Some(data));
                }
                (Part::Frame(HEADERS, section), Stage::Body) => {
                    fields::trailers(&section, self.fields_bytes_max)?;
                    self.stage = Stage::Trailers;
                }
                _ => return Err(connection(Code::FRAME_UNEXPECTED)),
            }
        }
        Ok(None)
    }

    /// The stream has ended, after all that it brought was taken.
    pub fn end(&mut self) -> Result<(), Fault> {
        if !self.frames.is_at_boundary() {
            return Err(connection(Code::FRAME_ERROR));
        }
        if self.stage == Stage::Head {
            return Err(stream(Code::REQUEST_INCOMPLETE));
        }
        self.stage = Stage::Ended;
        if self.length.is_some_and(|length| self.received != length) {
            return Err(stream(Code::MESSAGE_ERROR));
        }
        Ok(())
    }

    pub fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Whether there is no more body to come, as far as is known.
    pub fn is_done(&self) -> bool {
        self.has_ended() || self.length == Some(0)
    }

    /// Bytes of the body so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes kept for a frame that is not whole, and of what was pushed and not taken.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.frames.held()
    }
}
