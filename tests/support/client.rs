//! HTTP/1.1 to the byte: a request as text over a socket of one's own, and a reader that knows when a body is short.

use super::patience;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// An answer as a client sees it.
#[derive(Debug, Clone, Default)]
pub struct Response {
    pub version: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// False: the connection ended, or was reset, before the body did.
    pub complete: bool,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// How many fields of this name there are.
    pub fn fields(&self, name: &str) -> usize {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.text()))
    }

    /// The edge's member of `Cache-Status` (RFC 9211), or nothing.
    pub fn cache_status(&self) -> &str {
        self.header("cache-status").unwrap_or_default()
    }

    pub fn is_hit(&self) -> bool {
        self.cache_status().split(';').any(|p| p.trim() == "hit")
    }

    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub fn expect_miss(self) -> Self {
        let status = self.cache_status();
        assert!(status.starts_with("reelgate") && status.contains("fwd=") && !self.is_hit(), "no miss: {self:?}");
        self
    }

    #[track_caller]
    pub fn expect_hit(self) -> Self {
        assert!(self.cache_status().starts_with("reelgate") && self.is_hit(), "no hit: {self:?}");
        self
    }
}

/// A request to send, by default `GET` with `Host: localhost` on a connection of its own.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), headers: Vec::new(), body: Vec::new() }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub fn host(self, host: &str) -> Self {
        self.header("Host", host)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With its `Content-Length`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("Content-Length", &length)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("host")) {
            head.push_str("Host: localhost\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    #[track_caller]
    pub fn send(&self, address: SocketAddr) -> Response {
        Connection::open(address).exchange(self)
    }

    #[track_caller]
    pub fn send_unix(&self, path: &Path) -> Response {
        Connection::open_unix(path).exchange(self)
    }
}

/// A client connection of a test. Reads time out with [`patience`], so a hang is a failed test, not a stuck one.
pub struct Connection {
    reader: BufReader<Socket>,
}

enum Socket {
    Tcp(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
    Unix(UnixStream),
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(s) => s.read(buffer),
            Self::Tls(s) => s.read(buffer),
            Self::Unix(s) => s.read(buffer),
        }
    }
}

impl Socket {
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(s) => Some(s),
            Self::Tls(s) => Some(&s.sock),
            Self::Unix(_) => None,
        }
    }
}

impl Connection {
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, patience()).unwrap_or_else(|e| panic!("{address}: {e}"));
        stream.set_nodelay(true).expect("a connected socket takes options");
        stream.set_read_timeout(Some(patience())).expect("a connected socket takes options");
        stream.set_write_timeout(Some(patience())).expect("a connected socket takes options");
        Self { reader: BufReader::new(Socket::Tcp(stream)) }
    }

    /// Where the peer may be gone: none, if it does not listen.
    pub fn try_open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&address, patience()).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(patience())).ok()?;
        stream.set_write_timeout(Some(patience())).ok()?;
        Some(Self { reader: BufReader::new(Socket::Tcp(stream)) })
    }

    /// HTTP/1.1 over TLS; certificates are not verified.
    #[track_caller]
    pub fn open_tls(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, patience()).unwrap_or_else(|e| panic!("{address}: {e}"));
        stream.set_nodelay(true).expect("a connected socket takes options");
        stream.set_read_timeout(Some(patience())).expect("a connected socket takes options");
        let name = "localhost".try_into().expect("a name");
        let tls = rustls::ClientConnection::new(super::player::tls(false), name).expect("a TLS client");
        Self { reader: BufReader::new(Socket::Tls(Box::new(rustls::StreamOwned::new(tls, stream)))) }
    }

    #[track_caller]
    pub fn open_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        stream.set_read_timeout(Some(patience())).expect("a connected socket takes options");
        Self { reader: BufReader::new(Socket::Unix(stream)) }
    }

    /// A client that reads slowly: its window stays as small as the kernel lets it.
    #[track_caller]
    pub fn open_narrow(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)
            .expect("a new socket");
        socket.set_recv_buffer_size(4096).expect("a small receive buffer");
        socket.connect(&address.into()).unwrap_or_else(|e| panic!("{address}: {e}"));
        let stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(patience())).expect("a connected socket takes options");
        Self { reader: BufReader::with_capacity(1024, Socket::Tcp(stream)) }
    }

    /// Errors are ignored: the peer may rightly have closed, and the answer shows it.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        match self.reader.get_mut() {
            Socket::Tcp(s) => s.write_all(bytes).ok(),
            Socket::Tls(s) => s.write_all(bytes).and_then(|()| s.flush()).ok(),
            Socket::Unix(s) => s.write_all(bytes).ok(),
        };
        self
    }

    pub fn finish_sending(&mut self) -> &mut Self {
        match self.reader.get_ref() {
            Socket::Unix(s) => s.shutdown(Shutdown::Write).ok(),
            socket => socket.tcp().and_then(|s| s.shutdown(Shutdown::Write).ok()),
        };
        self
    }

    /// Closes with RST, as a client that vanishes.
    pub fn abort(self) {
        if let Some(stream) = self.reader.get_ref().tcp() {
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
        }
    }

    #[track_caller]
    pub fn exchange(&mut self, request: &Request) -> Response {
        self.send(request.to_bytes());
        self.response(&request.method).unwrap_or_else(|| panic!("no answer to {request:?}"))
    }

    /// The next answer, 1xx skipped; None: the connection ended without one.
    pub fn response(&mut self, method: &str) -> Option<Response> {
        loop {
            let mut response = self.head()?;
            if (100..200).contains(&response.status) && response.status != 101 {
                continue;
            }
            let bodiless = method == "HEAD" || matches!(response.status, 101 | 204 | 304);
            response.complete = bodiless || self.body(&mut response);
            return Some(response);
        }
    }

    /// Status line and fields only.
    pub fn head(&mut self) -> Option<Response> {
        let line = self.line()?;
        let mut parts = line.splitn(3, ' ');
        let version = parts.next()?.to_owned();
        let status = parts.next()?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(Response { version, status, headers, ..Response::default() });
            }
            let (name, value) = line.split_once(':')?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).ok()?;
        line.pop()?;
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).ok()
    }

    fn body(&mut self, response: &mut Response) -> bool {
        let chunked = response.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
        if chunked {
            loop {
                let size = self.line().and_then(|l| usize::from_str_radix(l.split(';').next()?.trim(), 16).ok());
                match size {
                    None => return false,
                    Some(0) => return self.line().is_some(),
                    Some(size) => {
                        if !self.take(size as u64, &mut response.body) || self.line().is_none() {
                            return false;
                        }
                    }
                }
            }
        }
        match response.header("content-length").and_then(|v| v.parse().ok()) {
            Some(length) => self.take(length, &mut response.body),
            None => self.reader.read_to_end(&mut response.body).is_ok(),
        }
    }

    fn take(&mut self, bytes: u64, into: &mut Vec<u8>) -> bool {
        let before = into.len() as u64;
        let read = (&mut self.reader).take(bytes).read_to_end(into);
        read.is_ok() && into.len() as u64 - before == bytes
    }

    /// Exactly `bytes` bytes, or what came before the end.
    pub fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut into = Vec::new();
        self.take(bytes as u64, &mut into);
        into
    }

    /// Everything until the peer closes; what came before a reset or patience's end is kept.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let _ = self.reader.read_to_end(&mut all);
        all
    }

    /// True: the peer closed (or reset); false: it is still open when `within` has passed.
    pub fn closed_within(&mut self, within: Duration) -> bool {
        match self.reader.get_ref() {
            Socket::Unix(s) => s.set_read_timeout(Some(within)).ok(),
            socket => socket.tcp().and_then(|s| s.set_read_timeout(Some(within)).ok()),
        };
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(e) => !matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        }
    }
}

/// An answer as text (curl's `-i`), 1xx skipped.
pub fn parse_response(mut bytes: &[u8]) -> Option<Response> {
    loop {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let version = first.next()?.to_owned();
        let status: u16 = first.next()?.parse().ok()?;
        bytes = &bytes[end + 4..];
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let headers = lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_owned(), v.trim().to_owned()));
        return Some(Response { version, status, headers: headers.collect(), body: bytes.to_vec(), complete: true });
    }
}
