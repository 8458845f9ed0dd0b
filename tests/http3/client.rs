//! Runs `client.py`: steps in, what came of them out.

use crate::support::{Edge, patience};
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A connection and what is done on it.
#[derive(Debug, Clone)]
pub struct Talk {
    address: SocketAddr,
    connect: Value,
    steps: Vec<Value>,
}

/// A client at work; what it tells comes at its end.
pub struct Running(Child);

#[derive(Debug)]
pub struct Told(Value);

/// One request's outcome.
#[derive(Debug)]
pub struct Stream<'a>(&'a Value);

impl Talk {
    pub fn with(edge: &Edge) -> Self {
        Self { address: edge.https(), connect: json!({}), steps: Vec::new() }
    }

    /// Connects there instead.
    pub fn to(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// A setting of the connection: `name`, `max_data`, `max_stream_data`, `idle_s`, `cafile`, `resume`, `early`.
    pub fn connect(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.connect[key] = value.into();
        self
    }

    pub fn step(mut self, step: Value) -> Self {
        self.steps.push(step);
        self
    }

    /// A request with more fields, and its other parts: `body`, `size`, `trailers`, `end`.
    pub fn send(self, method: &str, path: &str, fields: &[(&str, &str)], more: Value) -> Self {
        let mut all = vec![(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
        all.extend(fields);
        let mut step = json!({"do": "send", "fields": all});
        if let (Some(step), Some(more)) = (step.as_object_mut(), more.as_object()) {
            step.extend(more.clone());
        }
        self.step(step)
    }

    /// Exactly these fields.
    pub fn send_fields(self, fields: &[(&str, &str)]) -> Self {
        self.step(json!({"do": "send", "fields": fields}))
    }

    /// Sends and waits for the end of the answer.
    pub fn get(self, path: &str) -> Self {
        self.get_with(path, &[])
    }

    pub fn get_with(self, path: &str, fields: &[(&str, &str)]) -> Self {
        self.send("GET", path, fields, json!({})).end()
    }

    /// Bytes on a stream: `new`, `uni`, `control`, `encoder`, `decoder`, or a request's number.
    pub fn raw(self, stream: impl Into<Value>, bytes: &[u8], end: bool) -> Self {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.step(json!({"do": "raw", "stream": stream.into(), "hex": hex, "end": end}))
    }

    /// The latest request's answer has ended, one way or another.
    pub fn end(self) -> Self {
        self.step(json!({"do": "end"}))
    }

    /// All have.
    pub fn ends(self) -> Self {
        self.step(json!({"do": "ends"}))
    }

    pub fn closed(self) -> Self {
        self.step(json!({"do": "closed"}))
    }

    #[track_caller]
    pub fn start(&self) -> Running {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http3");
        let mut child = Command::new(folder.join(".venv/bin/python"))
            .arg(folder.join("client.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the client runs (tests/run installs it in tests/http3/.venv)");
        let program = json!({
            "address": [self.address.ip().to_string(), self.address.port()],
            "patience_s": patience().as_secs(),
            "connect": self.connect,
            "steps": self.steps,
        });
        let mut stdin = child.stdin.take().expect("standard input is piped");
        stdin.write_all(program.to_string().as_bytes()).expect("the client reads");
        Running(child)
    }

    /// To the end; a step that was waited for in vain fails the test.
    #[track_caller]
    pub fn run(&self) -> Told {
        let told = self.start().told();
        assert_eq!(told.0["failed"], Value::Null, "{told:?}");
        told
    }
}

impl Running {
    #[track_caller]
    pub fn told(self) -> Told {
        let output = self.0.wait_with_output().expect("the client ends");
        Told(serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}")))
    }
}

impl Told {
    #[track_caller]
    pub fn stream(&self, number: usize) -> Stream<'_> {
        let stream = &self.0["streams"][number];
        assert!(stream.is_object(), "no stream {number}: {self:?}");
        Stream(stream)
    }

    pub fn streams(&self) -> Vec<Stream<'_>> {
        self.0["streams"].as_array().map(|all| all.iter().map(Stream).collect()).unwrap_or_default()
    }

    /// The error code the edge closed the connection with.
    pub fn closed(&self) -> Option<u64> {
        self.0["closed"]["code"].as_u64()
    }

    pub fn goaways(&self) -> Vec<u64> {
        self.0["goaway"].as_array().map(|all| all.iter().filter_map(Value::as_u64).collect()).unwrap_or_default()
    }

    pub fn retried(&self) -> bool {
        self.0["retried"] == true
    }

    /// What it tells of its handshake: `resumed`, `early_sent`, `early_accepted`, `answered_early`.
    pub fn is(&self, what: &str) -> bool {
        self.0[what].as_bool().unwrap_or_else(|| panic!("{what}: {self:?}"))
    }

    /// Bytes of the largest packet that came.
    pub fn largest(&self) -> u64 {
        self.0["largest"].as_u64().unwrap_or_default()
    }

    pub fn failed(&self) -> Option<&str> {
        self.0["failed"].as_str()
    }
}

impl Stream<'_> {
    pub fn status(&self) -> Option<u64> {
        self.0["status"].as_u64()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.0["fields"].as_array()?;
        fields.iter().find(|field| field[0] == name)?[1].as_str()
    }

    pub fn body(&self) -> &str {
        self.0["body"].as_str().unwrap_or_default()
    }

    pub fn length(&self) -> u64 {
        self.0["length"].as_u64().unwrap_or_default()
    }

    pub fn sha256(&self) -> &str {
        self.0["sha256"].as_str().unwrap_or_default()
    }

    pub fn ended(&self) -> bool {
        self.0["ended"] == true
    }

    pub fn reset(&self) -> Option<u64> {
        self.0["reset"].as_u64()
    }

    /// A whole answer with this status.
    #[track_caller]
    pub fn expect(&self, status: u64) -> &Self {
        assert_eq!((self.status(), self.ended(), self.reset()), (Some(status), true, None), "{self:?}");
        self
    }
}
