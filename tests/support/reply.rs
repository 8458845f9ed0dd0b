//! What a scripted origin answers: a head and a list of steps, so that every way of misbehaving is a line in a test.

use super::Gate;
use std::time::Duration;

/// One thing an origin does on the connection.
#[derive(Debug, Clone)]
pub enum Step {
    Send(Vec<u8>),
    /// As many bytes of `super::pattern` as said, from its start; never held in memory as a whole.
    Pattern(u64),
    Pause(Duration),
    Wait(Gate),
    /// Nothing more, ever, until the peer goes away or the origin ends.
    Hang,
    /// End the connection: with FIN …
    Close,
    /// … or with RST.
    Reset,
    /// Send back every byte received until the peer closes.
    Echo,
}

/// An answer: built from a status, headers and a body, or raw.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    before_head: Vec<Step>,
    /// In place of a plain body.
    body_steps: Option<Vec<Step>>,
    framing: Framing,
    raw: Option<Vec<Step>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(Option<u64>),
    Chunked,
    /// The end of the connection is the end of the body.
    UntilClose,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            before_head: Vec::new(),
            body_steps: None,
            framing: Framing::Length(None),
            raw: None,
        }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::status(200) }
    }

    pub fn status_with(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::status(status) }
    }

    /// 200, kept for a minute by any cache.
    pub fn cacheable(body: impl Into<Vec<u8>>) -> Self {
        Self::ok(body).header("Cache-Control", "public, max-age=60")
    }

    /// 200 with `bytes` bytes of `super::pattern`.
    pub fn large(bytes: u64) -> Self {
        Self::status(200).length(bytes).steps(vec![Step::Pattern(bytes)])
    }

    /// Sends exactly these steps and no head of its own.
    pub fn raw(steps: Vec<Step>) -> Self {
        Self { raw: Some(steps), ..Self::status(200) }
    }

    /// Sends these bytes, then ends the connection.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::raw(vec![Step::Send(bytes.into()), Step::Close])
    }

    /// Reads the request and never answers.
    pub fn hang() -> Self {
        Self::raw(vec![Step::Hang])
    }

    /// 101, then every byte comes back (the edge must not care what flows in a tunnel).
    pub fn upgrade_echo() -> Self {
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        Self::raw(vec![Step::Send(head.into()), Step::Echo])
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The length claimed, whatever the body is.
    pub fn length(mut self, bytes: u64) -> Self {
        self.framing = Framing::Length(Some(bytes));
        self
    }

    pub fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    /// No length; the end of the connection ends the body.
    pub fn until_close(mut self) -> Self {
        self.framing = Framing::UntilClose;
        self
    }

    /// The body as steps. With [`Reply::chunked`] every `Send` is one chunk and the last chunk follows by itself, unless a
    /// step ended the connection.
    pub fn steps(mut self, steps: Vec<Step>) -> Self {
        self.body_steps = Some(steps);
        self
    }

    /// Waits at `gate` before the head is sent.
    pub fn gated(mut self, gate: &Gate) -> Self {
        self.before_head.push(Step::Wait(gate.clone()));
        self
    }

    /// The body in pieces of `bytes` with a pause between them.
    pub fn drip(self, bytes: usize, gap: Duration) -> Self {
        let total = self.body.len() as u64;
        let steps = self.body.chunks(bytes.max(1)).flat_map(|c| [Step::Send(c.to_vec()), Step::Pause(gap)]).collect();
        let claimed = self.framing == Framing::Length(None);
        let reply = self.steps(steps);
        if claimed { reply.length(total) } else { reply }
    }

    /// The connection dies after `bytes` bytes of the body, whatever was promised.
    pub fn die_after(self, bytes: usize) -> Self {
        let total = self.body.len() as u64;
        let steps = vec![Step::Send(self.body[..bytes].to_vec()), Step::Close];
        let claimed = self.framing == Framing::Length(None);
        let reply = self.steps(steps);
        if claimed { reply.length(total) } else { reply }
    }

    /// Everything to do for one request; `head_only` for HEAD. The second value: the connection may go on.
    pub(super) fn script(&self, head_only: bool) -> (Vec<Step>, bool) {
        if let Some(raw) = &self.raw {
            return (raw.clone(), false);
        }
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let bodiless = matches!(self.status, 100..=199 | 204 | 304);
        match self.framing {
            Framing::Length(claimed) if !bodiless => {
                let length = claimed.unwrap_or(self.body.len() as u64);
                head.push_str(&format!("Content-Length: {length}\r\n"));
            }
            Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::UntilClose => head.push_str("Connection: close\r\n"),
            Framing::Length(_) => {}
        }
        head.push_str("\r\n");
        let mut steps = self.before_head.clone();
        steps.push(Step::Send(head.into_bytes()));
        if head_only || bodiless {
            return (steps, self.framing != Framing::UntilClose);
        }
        let body = self.body_steps.clone().unwrap_or_else(|| vec![Step::Send(self.body.clone())]);
        if self.framing == Framing::Chunked {
            let ends = body.iter().any(|s| matches!(s, Step::Close | Step::Reset | Step::Hang));
            steps.extend(body.into_iter().filter(|s| !matches!(s, Step::Send(b) if b.is_empty())).map(as_chunk));
            if !ends {
                steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
            }
        } else {
            steps.extend(body);
        }
        (steps, self.framing != Framing::UntilClose)
    }
}

fn as_chunk(step: Step) -> Step {
    match step {
        Step::Send(bytes) => {
            let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
            chunk.extend(bytes);
            chunk.extend(b"\r\n");
            Step::Send(chunk)
        }
        other => other,
    }
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Other")
}
