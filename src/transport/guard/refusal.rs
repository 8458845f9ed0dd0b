//! A raw HTTP/1.1 answer to a request head that broke a limit, and a close that lets the client read it: what it still sends is
//! read and dropped for a moment, since closing a socket with unread bytes resets it and discards the answer (RFC 9112,
//! section 9.6).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long and how much is read and dropped after the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Refusal {
    answer: &'static [u8],
    step: Step,
    dropped: usize,
    deadline: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Write,
    Close,
    Linger,
}

impl Refusal {
    /// RFC 9110, section 15.5.9.
    pub(super) fn timed_out() -> Self {
        Self::new(
            b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 35\r\n\r\n\
              The request's headers took too long",
        )
    }

    /// RFC 6585, section 5.
    pub(super) fn headers_too_large() -> Self {
        Self::new(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Type: text/plain\r\n\
              Content-Length: 35\r\n\r\n\
              The request's headers are too large",
        )
    }

    /// As a metric's label.
    pub(super) fn status(&self) -> &'static str {
        std::str::from_utf8(&self.answer["HTTP/1.1 ".len()..][..3]).unwrap_or("other")
    }

    fn new(answer: &'static [u8]) -> Self {
        Self { answer, step: Step::Write, dropped: 0, deadline: None }
    }

    /// Ready once there is no more to do for this client; errors end it too.
    pub(super) fn poll<S: AsyncRead + AsyncWrite + Unpin>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            match self.step {
                Step::Write if self.answer.is_empty() => self.step = Step::Close,
                Step::Write => match std::task::ready!(Pin::new(&mut *io).poll_write(cx, self.answer)) {
                    Ok(written) if written > 0 => self.answer = &self.answer[written..],
                    _ => return Poll::Ready(()),
                },
                Step::Close => match std::task::ready!(Pin::new(&mut *io).poll_shutdown(cx)) {
                    Ok(()) => self.step = Step::Linger,
                    Err(_) => return Poll::Ready(()),
                },
                Step::Linger => {
                    let mut chunk = [0; 4096];
                    let mut buf = ReadBuf::new(&mut chunk);
                    match std::task::ready!(Pin::new(&mut *io).poll_read(cx, &mut buf)) {
                        Ok(()) if !buf.filled().is_empty() => self.dropped += buf.filled().len(),
                        _ => return Poll::Ready(()),
                    }
                    if self.dropped > LINGER_BYTES_MAX {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lengths_are_true() {
        for refusal in [Refusal::timed_out(), Refusal::headers_too_large()] {
            let text = std::str::from_utf8(refusal.answer).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        }
    }
}
