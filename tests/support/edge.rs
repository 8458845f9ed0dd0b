//! The real `reelgate serve` as a child process, with a configuration built by the test.

use super::{Origin, Request, Response, Samples, eventually, free_port, patience, wait_for};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Instant;

/// A configuration in the making: keys by path (`sites.0.cache.enabled`), written as YAML. `PORT` in a string becomes a free
/// port, another one at each place.
#[derive(Debug, Clone)]
pub struct EdgeBuilder {
    config: Value,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    folder: Arc<tempfile::TempDir>,
}

/// A running edge; killed when dropped. When the test fails its output is printed; when it panicked, the test fails.
pub struct Edge {
    child: Mutex<Child>,
    config: Mutex<Value>,
    folder: Arc<tempfile::TempDir>,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

/// A configuration file nobody serves; gone when dropped.
pub struct Written {
    file: PathBuf,
    _folder: Arc<tempfile::TempDir>,
}

impl Written {
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// As an argument.
    pub fn name(&self) -> &str {
        self.file.to_str().expect("a temporary path is UTF-8")
    }
}

/// Runs the binary with these arguments to its end (`timeout` ends it after patience, with exit code 124).
pub fn reelgate(arguments: &[&str]) -> Output {
    Command::new("timeout")
        .arg(patience().as_secs().to_string())
        .arg(env!("CARGO_BIN_EXE_reelgate"))
        .args(arguments)
        .env_remove("REELGATE_TOKEN")
        .stdin(Stdio::null())
        .output()
        .expect("timeout (coreutils) runs")
}

impl Edge {
    /// One listener in clear, one site, this origin, the admin listener on loopback.
    pub fn of(origin: &Origin) -> EdgeBuilder {
        Self::of_url(&origin.url())
    }

    pub fn of_url(url: &str) -> EdgeBuilder {
        let config = json!({
            "listen": [{"address": "127.0.0.1:PORT"}],
            "origins": {"main": {"kind": "http", "servers": [url]}},
            "sites": [{"origin": "main"}],
            "cache": {"memory": "64MiB"},
            "admin": {"address": "127.0.0.1:PORT"},
            "shutdown": {"notice": "0s"},
        });
        let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        EdgeBuilder { config, environment: Vec::new(), wrapper: Vec::new(), folder }
    }

    fn at(&self, pointer: &str) -> Option<String> {
        self.config.lock().pointer(pointer).and_then(Value::as_str).map(str::to_owned)
    }

    /// The address of entry `index` of `listen`.
    #[track_caller]
    pub fn listener(&self, index: usize) -> SocketAddr {
        let address = self.at(&format!("/listen/{index}/address")).expect("a listener's address");
        address.parse().unwrap_or_else(|e| panic!("{address}: {e}"))
    }

    /// The first listener.
    #[track_caller]
    pub fn http(&self) -> SocketAddr {
        self.listener(0)
    }

    /// Where a client that speaks so connects.
    #[track_caller]
    pub fn speaks(&self, speech: super::Speech) -> SocketAddr {
        if speech.is_tls() { self.https() } else { self.http() }
    }

    /// The first listener with TLS.
    #[track_caller]
    pub fn https(&self) -> SocketAddr {
        let config = self.config.lock();
        let listeners = config["listen"].as_array().expect("listen is a list");
        let index = listeners.iter().position(|l| l.get("tls").is_some()).expect("a listener with tls");
        drop(config);
        self.listener(index)
    }

    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        self.at("/admin/address").expect("an admin address").parse().expect("host and port")
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.send(&Request::get(target))
    }

    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        request.send(self.http())
    }

    #[track_caller]
    pub fn admin_get(&self, target: &str) -> Response {
        let request = Request::get(target).header("Connection", "close");
        match self.at("/admin/token") {
            Some(token) => request.header("Authorization", &format!("Bearer {token}")),
            None => request,
        }
        .send(self.admin())
    }

    #[track_caller]
    pub fn metrics(&self) -> Samples {
        Samples::parse(&self.admin_get("/metrics").expect_status(200).text())
    }

    /// Waits until the metric, summed over what carries `labels`, is `value`: counters follow an answer, they do not lead it.
    #[track_caller]
    pub fn expect_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut last = f64::NAN;
        let deadline = Instant::now() + patience();
        while Instant::now() < deadline {
            last = self.metrics().value(name, labels);
            if (last - value).abs() < 1e-9 {
                return;
            }
            super::pause(std::time::Duration::from_millis(50));
        }
        panic!("{name}{labels:?} is {last}, not {value}");
    }

    /// The same, for a metric that must have moved.
    #[track_caller]
    pub fn expect_metric_at_least(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        eventually(&format!("{name}{labels:?} ≥ {value}"), || self.metrics().value(name, labels) >= value);
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("reelgate.yaml")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Changes one key and writes the file, as an editor does: a new file in place of the old.
    pub fn configure(&self, path: &str, value: impl Into<Value>) {
        let mut config = self.config.lock();
        assign(&mut config, path, value.into());
        write_config(&self.config_file(), &to_yaml(&config));
    }

    /// Writes anything at all as the configuration file.
    pub fn write_config(&self, text: &str) {
        write_config(&self.config_file(), text);
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().id()
    }

    /// Resident bytes that are the process's own, not a file's (Linux).
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process lives");
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).expect("a resident size");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("kB") << 10
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.is_ok_and(|s| s.success()), "kill -{name}");
    }

    pub fn reload(&self) {
        self.signal("HUP");
    }

    pub fn sigterm(&self) {
        self.signal("TERM");
    }

    pub fn exited(&self) -> Option<ExitStatus> {
        self.child.lock().try_wait().expect("a child can be waited for")
    }

    #[track_caller]
    pub fn expect_exit(&self) -> ExitStatus {
        wait_for("the edge is gone", || self.exited())
    }

    /// What it wrote so far to standard output: the access log.
    pub fn stdout(&self) -> String {
        self.stdout.lock().clone()
    }

    /// What it wrote so far to standard error: the process log.
    pub fn stderr(&self) -> String {
        self.stderr.lock().clone()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
        let (stdout, stderr) = (self.stdout.lock().clone(), self.stderr.lock().clone());
        if std::thread::panicking() {
            eprintln!("--- configuration\n{}", std::fs::read_to_string(self.config_file()).unwrap_or_default());
            eprintln!("--- the edge's standard output\n{stdout}\n--- the edge's standard error\n{stderr}");
        } else if let Some(line) = stderr.lines().find(|line| line.contains("panicked at")) {
            panic!("the edge panicked: {line}");
        }
    }
}

impl EdgeBuilder {
    /// Sets the key at `path`; lists grow as needed, `null` takes a key away.
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        assign(&mut self.config, path, value.into());
        self
    }

    /// One more listener; its address defaults to a free port of 127.0.0.1.
    pub fn listen(mut self, mut listener: Value) -> Self {
        if listener.get("address").is_none() {
            listener["address"] = json!("127.0.0.1:PORT");
        }
        self.config["listen"].as_array_mut().expect("listen is a list").push(listener);
        self
    }

    /// One more listener, with a self-signed certificate; HTTP/3 beside it.
    pub fn tls(self) -> Self {
        self.listen(json!({"tls": "self-signed", "http3": true}))
    }

    pub fn origin(self, name: &str, url: &str) -> Self {
        self.set(&format!("origins.{name}"), json!({"kind": "http", "servers": [url]}))
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Started by this command, which gets the edge's own as further arguments and must become it (`exec`).
    pub fn wrapped(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Where the configuration will lie; certificates and the like may be put there first.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file as it would be, ports picked: for `check`, `config show` and the like.
    pub fn write(&self) -> Written {
        let mut config = self.config.clone();
        pick_ports(&mut config);
        let file = self.folder.path().join("reelgate.yaml");
        write_config(&file, &to_yaml(&config));
        Written { file, _folder: Arc::clone(&self.folder) }
    }

    /// Starts the edge and waits until it is ready; other ports are tried where one was taken meanwhile.
    #[track_caller]
    pub fn run(self) -> Edge {
        for attempt in 1.. {
            let mut config = self.config.clone();
            pick_ports(&mut config);
            let edge = self.start(config);
            let mut exited = None;
            eventually("the edge is ready", || {
                exited = edge.exited();
                exited.is_some() || is_ready(&edge)
            });
            match exited {
                None => return edge,
                Some(_) if attempt < 4 && edge.stderr().contains("another program listens there") => {}
                Some(status) => panic!("the edge did not start: {status}"),
            }
        }
        unreachable!("the loop returns or panics")
    }

    fn start(&self, config: Value) -> Edge {
        let file = self.folder.path().join("reelgate.yaml");
        write_config(&file, &to_yaml(&config));
        // Another build of the edge, to measure it.
        let binary =
            std::env::var("REELGATE_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_reelgate").to_owned());
        let mut command = self.wrapper.iter().chain([&binary]);
        let mut child = Command::new(command.next().expect("the binary is there"))
            .args(command)
            .args(["serve", "-c"])
            .arg(&file)
            .env_remove("REELGATE_TOKEN")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the edge's binary runs");
        let stdout = collect(child.stdout.take().expect("standard output is piped"));
        let stderr = collect(child.stderr.take().expect("standard error is piped"));
        Edge { child: Mutex::new(child), config: Mutex::new(config), folder: Arc::clone(&self.folder), stdout, stderr }
    }
}

fn is_ready(edge: &Edge) -> bool {
    let Ok(stream) = std::net::TcpStream::connect(edge.admin()) else { return false };
    drop(stream);
    let request = Request::get("/readyz").header("Connection", "close");
    super::Connection::open(edge.admin()).send(request.to_bytes()).response("GET").is_some_and(|r| r.status == 200)
}

fn collect(mut from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let collected = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&collected);
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            into.lock().push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    });
    collected
}

fn pick_ports(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("PORT") => *text = text.replace("PORT", &free_port().to_string()),
        Value::Array(items) => items.iter_mut().for_each(pick_ports),
        Value::Object(fields) => fields.values_mut().for_each(pick_ports),
        _ => {}
    }
}

fn to_yaml(config: &Value) -> String {
    serde_yaml::to_string(config).expect("JSON is YAML")
}

fn write_config(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("the configuration is written");
    std::fs::rename(&new, file).expect("the configuration is put in place");
}

fn assign(config: &mut Value, path: &str, value: Value) {
    let (parents, last) = path.rsplit_once('.').map_or((None, path), |(parents, last)| (Some(parents), last));
    let mut at = config;
    for key in parents.into_iter().flat_map(|p| p.split('.')) {
        at = child_of(at, key);
    }
    if value.is_null() {
        if let Some(fields) = at.as_object_mut() {
            fields.remove(last);
        }
    } else {
        *child_of(at, last) = value;
    }
}

fn child_of<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    if let Ok(index) = key.parse::<usize>() {
        if !value.is_array() {
            *value = json!([]);
        }
        let items = value.as_array_mut().expect("made a list above");
        while items.len() <= index {
            items.push(json!({}));
        }
        return &mut items[index];
    }
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("made an object above").entry(key).or_insert(Value::Null)
}
