//! curl, h2load and openssl as a test uses them: HTTP/2, h2c, TLS and the PROXY protocol by tools that are not ours.

use super::{Response, parse_response, patience};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// One run of curl. Certificates are not verified unless [`Curl::trusting`] says so.
#[derive(Debug, Clone)]
pub struct Curl {
    arguments: Vec<String>,
    verify: bool,
}

impl Curl {
    pub fn new(url: &str) -> Self {
        Self { arguments: vec![url.into()], verify: false }
    }

    pub fn http(address: SocketAddr, path: &str) -> Self {
        Self::new(&format!("http://{address}{path}"))
    }

    pub fn https(address: SocketAddr, path: &str) -> Self {
        Self::new(&format!("https://{address}{path}"))
    }

    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub fn header(self, field: &str) -> Self {
        self.arg("-H").arg(field)
    }

    pub fn http1(self) -> Self {
        self.arg("--http1.1")
    }

    /// By ALPN over TLS, by prior knowledge in clear.
    pub fn http2(self) -> Self {
        let clear = self.arguments[0].starts_with("http://");
        self.arg(if clear { "--http2-prior-knowledge" } else { "--http2" })
    }

    /// Verifies the server against this certificate.
    pub fn trusting(mut self, certificate: &Path) -> Self {
        self.verify = true;
        self.arg("--cacert").arg(&certificate.display().to_string())
    }

    /// The raw outcome: for exit codes.
    pub fn output(&self) -> Output {
        let mut command = Command::new("curl");
        command.args(["-sS", "-i", "--path-as-is", "--noproxy", "*", "--max-time", &patience().as_secs().to_string()]);
        if !self.verify {
            command.arg("-k");
        }
        command.args(&self.arguments).output().expect("curl runs (tests/run installs it)")
    }

    /// None: curl failed without a whole head. `complete` is curl's own judgement of the body.
    pub fn try_send(&self) -> Option<Response> {
        let output = self.output();
        let mut response = parse_response(&output.stdout)?;
        response.complete = output.status.success();
        Some(response)
    }

    #[track_caller]
    pub fn send(&self) -> Response {
        let output = self.output();
        assert!(output.status.success(), "curl {:?}: {}", self.arguments, String::from_utf8_lossy(&output.stderr));
        parse_response(&output.stdout).unwrap_or_else(|| panic!("curl {:?}: no answer", self.arguments))
    }
}

/// Runs h2load and gives its report; fails the test when it fails.
#[track_caller]
pub fn h2load(arguments: &[&str]) -> String {
    let output =
        Command::new("h2load").args(arguments).output().expect("h2load runs (tests/run installs nghttp2-client)");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "h2load {arguments:?}: {report}{}", String::from_utf8_lossy(&output.stderr));
    report
}

/// A fresh self-signed certificate for `name` (and its key) in `folder`, by openssl.
pub fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let file = name.replace('*', "wildcard");
    let (cert, key) = (folder.join(format!("{file}.crt")), folder.join(format!("{file}.key")));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl runs (tests/run installs it)");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    (cert, key)
}
