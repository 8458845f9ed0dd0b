//! A scriptable HTTP/1.1 origin on a real socket: routes to [`Reply`]s, counts and keeps what it received.

use super::reply::{Reply, Step};
use super::{patience, pause};
use parking_lot::Mutex;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

type Answer = Box<dyn Fn(&Received) -> Reply + Send + Sync>;

/// A request as it arrived. `head` is to the byte, so that a test sees what the edge really sent.
#[derive(Debug, Clone)]
pub struct Received {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub head: String,
    /// The first MiB of the body.
    pub body: Vec<u8>,
    pub body_bytes: u64,
    /// False: the body ended before its framing said so.
    pub complete: bool,
}

impl Received {
    /// The field's values joined by `, `; None where it is absent.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

#[derive(Default)]
struct State {
    routes: Mutex<Vec<(String, Arc<Answer>)>>,
    received: Mutex<Vec<Received>>,
    /// Bytes after a request on the same connection that were no request: what smuggling leaves behind.
    garbage: Mutex<Vec<String>>,
    early: Mutex<Vec<String>>,
    panics: Mutex<Vec<String>>,
    connections: AtomicUsize,
    stopped: AtomicBool,
}

/// The server; ends when dropped.
pub struct Origin {
    state: Arc<State>,
    address: Address,
}

#[derive(Clone)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Origin {
    /// On a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self::listen("127.0.0.1:0")
    }

    /// On a free port of ::1.
    pub fn start_ipv6() -> Self {
        Self::listen("[::1]:0")
    }

    pub fn listen(address: &str) -> Self {
        let listener = TcpListener::bind(address).expect("an origin's port");
        let address = Address::Tcp(listener.local_addr().expect("a bound socket has an address"));
        Self::serve(address, move || listener.accept().map(|(stream, _)| Stream::Tcp(stream)))
    }

    pub fn start_unix(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("an origin's unix socket");
        Self::serve(Address::Unix(path.into()), move || listener.accept().map(|(stream, _)| Stream::Unix(stream)))
    }

    fn serve(address: Address, accept: impl Fn() -> std::io::Result<Stream> + Send + 'static) -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok(stream) = accept() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let state = Arc::clone(&shared);
                std::thread::spawn(move || {
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| connection(&state, stream)));
                    if let Err(panic) = outcome {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                        state.panics.lock().push(text.unwrap_or_else(|| "a panic without a text".into()));
                    }
                });
            }
        });
        Self { state, address }
    }

    /// Answers `path` (without its query) with `reply`; the latest route for a path wins, so a test may change its mind.
    pub fn route(self, path: &str, reply: Reply) -> Self {
        self.set_route(path, reply);
        self
    }

    pub fn set_route(&self, path: &str, reply: Reply) {
        self.set_handler(path, move |_| reply.clone());
    }

    pub fn handle(self, path: &str, answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        self.set_handler(path, answer);
        self
    }

    /// `*` answers every path without a route.
    pub fn set_handler(&self, path: &str, answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        self.state.routes.lock().push((path.to_owned(), Arc::new(Box::new(answer))));
    }

    /// Answers `path` before it reads the request's body, as a server that refuses an upload; then reads it all.
    pub fn early(self, path: &str) -> Self {
        self.state.early.lock().push(path.to_owned());
        self
    }

    /// As written in `origins.*.servers`.
    pub fn url(&self) -> String {
        match &self.address {
            Address::Tcp(address) => format!("http://{address}"),
            Address::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Requests received for `path`, whatever their query; `*`: all.
    pub fn count(&self, path: &str) -> usize {
        self.state.received.lock().iter().filter(|r| path == "*" || r.path() == path).count()
    }

    pub fn received(&self) -> Vec<Received> {
        self.state.received.lock().clone()
    }

    #[track_caller]
    pub fn last(&self, path: &str) -> Received {
        let received = self.state.received.lock();
        received
            .iter()
            .rev()
            .find(|r| r.path() == path)
            .cloned()
            .unwrap_or_else(|| panic!("no request for {path} came"))
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// What arrived where a request was expected and was none.
    pub fn garbage(&self) -> Vec<String> {
        self.state.garbage.lock().clone()
    }

    /// Refuses from here on: the listener is gone. What was received stays readable.
    pub fn stop(&self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        match &self.address {
            Address::Tcp(address) => drop(TcpStream::connect_timeout(address, Duration::from_secs(1))),
            Address::Unix(path) => drop(UnixStream::connect(path)),
        }
        if let Address::Tcp(address) = &self.address {
            super::eventually("the origin's port is closed", || TcpStream::connect(address).is_err());
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        match &self.address {
            Address::Tcp(address) => drop(TcpStream::connect_timeout(address, Duration::from_secs(1))),
            Address::Unix(path) => drop(UnixStream::connect(path)),
        }
        let panics = std::mem::take(&mut *self.state.panics.lock());
        if !panics.is_empty() && !std::thread::panicking() {
            panic!("the origin panicked: {}", panics.join("; "));
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn duplicate(&self) -> std::io::Result<Self> {
        match self {
            Self::Tcp(s) => s.try_clone().map(Self::Tcp),
            Self::Unix(s) => s.try_clone().map(Self::Unix),
        }
    }

    fn configure(&self) {
        match self {
            Self::Tcp(s) => {
                s.set_nodelay(true).ok();
                s.set_read_timeout(Some(3 * patience())).ok();
            }
            Self::Unix(s) => drop(s.set_read_timeout(Some(3 * patience()))),
        }
    }

    fn close(&self) {
        match self {
            Self::Tcp(s) => s.shutdown(Shutdown::Both).ok(),
            Self::Unix(s) => s.shutdown(Shutdown::Both).ok(),
        };
    }

    /// RST in place of FIN (TCP only).
    fn reset(&self) {
        if let Self::Tcp(s) = self {
            socket2::SockRef::from(s).set_linger(Some(Duration::ZERO)).ok();
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(s) => s.read(buffer),
            Self::Unix(s) => s.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(s) => s.write(buffer),
            Self::Unix(s) => s.write(buffer),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn connection(state: &State, mut stream: Stream) {
    stream.configure();
    let Ok(reading) = stream.duplicate() else { return };
    let mut reader = BufReader::new(reading);
    while let Some(head) = read_head(&mut reader) {
        let Some(mut request) = parse_head(&head) else {
            state.garbage.lock().push(head);
            return stream.close();
        };
        let path = request.path().to_owned();
        let answer = {
            let routes = state.routes.lock();
            let exact = routes.iter().rev().find(|(p, _)| *p == path);
            exact.or_else(|| routes.iter().rev().find(|(p, _)| p == "*")).map(|(_, a)| Arc::clone(a))
        };
        if request.header("expect").is_some() && stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_err() {
            return;
        }
        let early = state.early.lock().contains(&path);
        if !early {
            read_body(&mut reader, &mut request);
        }
        let at = {
            let mut received = state.received.lock();
            received.push(request.clone());
            received.len() - 1
        };
        let reply = answer.map_or_else(|| Reply::status(404), |answer| answer(&request));
        let (steps, reusable) = reply.script(request.method == "HEAD");
        for step in steps {
            match perform(state, &mut stream, &mut reader, step) {
                After::Go => {}
                After::Close => return stream.close(),
                // Dropping both handles sends the RST; `close` would send FIN first.
                After::Reset => return stream.reset(),
            }
        }
        if early {
            read_body(&mut reader, &mut request);
            state.received.lock()[at] = request;
        }
        if !reusable {
            return stream.close();
        }
    }
}

enum After {
    Go,
    Close,
    Reset,
}

fn go_if(ok: bool) -> After {
    if ok { After::Go } else { After::Close }
}

fn perform(state: &State, stream: &mut Stream, reader: &mut BufReader<Stream>, step: Step) -> After {
    let stopped = || state.stopped.load(Ordering::SeqCst);
    match step {
        Step::Send(bytes) => go_if(stream.write_all(&bytes).is_ok()),
        Step::Pattern(bytes) => {
            let block = super::pattern(251 * 1024);
            let mut left = bytes;
            while left > 0 {
                let part = left.min(block.len() as u64) as usize;
                if stream.write_all(&block[..part]).is_err() {
                    return After::Close;
                }
                left -= part as u64;
            }
            After::Go
        }
        Step::Pause(time) => {
            pause(time);
            go_if(!stopped())
        }
        Step::Wait(gate) => go_if(gate.wait(stopped)),
        Step::Hang => {
            let mut byte = [0];
            while matches!(reader.read(&mut byte), Ok(1)) && !stopped() {}
            After::Close
        }
        Step::Close => After::Close,
        Step::Reset => After::Reset,
        Step::Echo => {
            let mut buffer = [0; 4096];
            loop {
                match reader.read(&mut buffer) {
                    Ok(n) if n > 0 && stream.write_all(&buffer[..n]).is_ok() => {}
                    _ => return After::Close,
                }
            }
        }
    }
}

/// To the empty line, included; None: the connection ended before one byte of it, or it is endless.
fn read_head(reader: &mut BufReader<Stream>) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while head.len() < 4 << 20 {
        match reader.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
        if head.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    (!head.is_empty()).then(|| String::from_utf8_lossy(&head).into_owned())
}

/// Strict: what is not a request line and fields, each ended by CRLF, is garbage.
fn parse_head(head: &str) -> Option<Received> {
    let mut lines = head.strip_suffix("\r\n\r\n")?.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target, version) = (first.next()?, first.next()?, first.next()?);
    if first.next().is_some() || !version.starts_with("HTTP/1.") || !method.bytes().all(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    });
    Some(Received {
        method: method.into(),
        target: target.into(),
        headers: headers.collect::<Option<_>>()?,
        head: head.into(),
        body: Vec::new(),
        body_bytes: 0,
        complete: true,
    })
}

fn read_body(reader: &mut BufReader<Stream>, request: &mut Received) {
    let chunked = request.header("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked"));
    if chunked {
        while let Some(size) = read_line(reader).and_then(|l| u64::from_str_radix(l.split(';').next()?.trim(), 16).ok())
        {
            if size == 0 {
                while read_line(reader).is_some_and(|line| !line.is_empty()) {}
                return;
            }
            if !take_body(reader, request, size) || read_line(reader).is_none() {
                break;
            }
        }
        request.complete = false;
    } else if let Some(length) = request.header("content-length").and_then(|v| v.parse().ok()) {
        request.complete = take_body(reader, request, length);
    }
}

fn take_body(reader: &mut BufReader<Stream>, request: &mut Received, mut left: u64) -> bool {
    let mut buffer = [0; 64 * 1024];
    while left > 0 {
        let part = left.min(buffer.len() as u64) as usize;
        let Ok(n @ 1..) = reader.read(&mut buffer[..part]) else { return false };
        left -= n as u64;
        request.body_bytes += n as u64;
        if request.body.len() < 1 << 20 {
            request.body.extend_from_slice(&buffer[..n]);
        }
    }
    true
}

fn read_line(reader: &mut BufReader<Stream>) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < 8192 {
        if reader.read(&mut byte).ok()? == 0 {
            return None;
        }
        line.push(byte[0]);
        if line.ends_with(b"\r\n") {
            line.truncate(line.len() - 2);
            return String::from_utf8(line).ok();
        }
    }
    None
}
