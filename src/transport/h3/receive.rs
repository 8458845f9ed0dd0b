//! What a client sends on a request's stream, as it is asked for: nothing is read ahead but one piece, so a body flows as fast as it is
//! taken. What it says is [`super::message`]'s.

use super::code::{Broken, Code};
use super::message::{Fault, Message};
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

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Broken(broken) => Self::Broken(broken),
            Fault::TooLarge => Self::TooLarge,
        }
    }
}

/// See the module. Dropped before the end, it tells the client to send no more.
#[derive(Debug)]
pub struct Receiver {
    stream: RecvStream,
    message: Message,
    ahead: Option<Bytes>,
    stop: Code,
}

impl Receiver {
    pub fn new(stream: RecvStream, message: Message) -> Self {
        Self { stream, message, ahead: None, stop: Code::NO_ERROR }
    }

    /// The request's head. Cancel-safe until it returns.
    pub async fn head(&mut self) -> Result<http::request::Parts, Ended> {
        loop {
            if let Some(head) = self.message.head()? {
                return Ok(head);
            }
            self.more().await?;
        }
    }

    /// The next bytes of the body; None: it is whole. Cancel-safe.
    pub async fn body(&mut self) -> Result<Option<Bytes>, Ended> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        while !self.message.has_ended() {
            if let Some(data) = self.message.data()? {
                return Ok(Some(data));
            }
            self.more().await?;
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
        self.ahead.is_none() && self.message.is_done()
    }

    /// Whether there never was a body, as far as is known.
    pub fn is_empty(&self) -> bool {
        self.message.received() == 0 && self.is_done()
    }

    /// Why the client is told to stop, should this be dropped before the end.
    pub fn stop_with(&mut self, code: Code) {
        self.stop = code;
    }

    async fn more(&mut self) -> Result<(), Ended> {
        match self.stream.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => self.message.push(chunk.bytes),
            Ok(None) => self.message.end()?,
            Err(ReadError::Reset(_)) => return Err(Ended::Cancelled),
            Err(_) => return Err(Ended::Lost),
        }
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It may have ended or been stopped already.
        let _ = self.stream.stop(self.stop.into());
    }
}
