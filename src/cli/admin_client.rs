//! Asking a running edge over its admin API. Plain HTTP, as the admin listener speaks it; the token never appears in a message.

use super::{ConfigFile, EXIT_INVALID};
use crate::config::{Admin, Secret};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpStream;

/// An answer larger than this is not one of ours.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Which running edge a command asks: that of a configuration, or one at an address.
#[derive(clap::Args)]
#[group(id = "edge", required = true, multiple = false)]
pub struct RunningEdge {
    /// Configuration file (YAML): the edge at its `admin.address` is asked, with its token.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    path: Option<PathBuf>,
    /// Admin address of a running edge; the token comes from REELGATE_TOKEN.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
}

impl RunningEdge {
    /// How to ask it; or the exit code, what is wrong printed.
    pub fn client(&self) -> Result<AdminClient, ExitCode> {
        let invalid = |error: String| {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_INVALID)
        };
        if let Some(admin) = &self.admin {
            return AdminClient::at(admin).map_err(invalid);
        }
        let path = self.path.clone().unwrap_or_default();
        let loaded = ConfigFile { path }.load()?;
        let admin = loaded.config.admin.as_ref().map(AdminClient::of);
        admin.ok_or_else(|| invalid("the configuration has no `admin`, so its edge cannot be asked; add it".to_owned()))
    }
}

/// Where the admin listener is, and what it wants to see.
pub struct AdminClient {
    /// `host:port`
    authority: String,
    token: Option<Secret>,
}

impl AdminClient {
    /// At a URL given by a person; the token from `REELGATE_TOKEN`.
    pub fn at(url: &str) -> Result<Self, String> {
        let uri: Uri =
            url.parse().map_err(|_| format!("--admin {url}: not a URL; for example http://127.0.0.1:9090"))?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http"));
        let authority = authority.ok_or_else(|| format!("--admin {url}: give http://HOST:PORT"))?;
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { authority: format!("{}:{port}", authority.host()), token: token_of_environment() })
    }

    /// At the address of a configuration; the token from there, else from the environment.
    pub fn of(admin: &Admin) -> Self {
        let mut address = admin.address;
        if address.ip().is_unspecified() {
            let loopback = if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
            address.set_ip(loopback);
        }
        Self { authority: address.to_string(), token: admin.token.clone().or_else(token_of_environment) }
    }

    pub fn explain(&self, url: &str) -> Result<serde_json::Value, String> {
        self.ask(&format!("/api/v1/explain?url={}", utf8_percent_encode(url, NON_ALPHANUMERIC)), None)
    }

    /// One purge, as the API takes it; returns when it is in force.
    pub fn purge(&self, purge: &serde_json::Value) -> Result<serde_json::Value, String> {
        self.ask("/api/v1/purge", Some(purge))
    }

    /// Begins to optimise a title.
    pub fn optimise(&self, title: &str) -> Result<serde_json::Value, String> {
        self.ask("/api/v1/optimise", Some(&serde_json::json!({ "title": title })))
    }

    /// Those that were asked for lately.
    pub fn optimisations(&self) -> Result<serde_json::Value, String> {
        self.ask("/api/v1/optimise", None)
    }

    /// A GET, or with a body a POST.
    fn ask(&self, target: &str, body: Option<&serde_json::Value>) -> Result<serde_json::Value, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let exchange = async { tokio::time::timeout(TIMEOUT, self.exchange(target, body)).await };
        match runtime.block_on(exchange) {
            Ok(answer) => answer.map_err(|error| format!("the edge at {} does not answer: {error}", self.authority))?,
            Err(_) => Err(format!("the edge at {} does not answer in time", self.authority)),
        }
    }

    async fn exchange(
        &self,
        target: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<Result<serde_json::Value, String>, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = match body {
            Some(_) => Request::post(target).header("content-type", "application/json"),
            None => Request::get(target),
        };
        let mut request = request.header("host", &self.authority).header("accept", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {}", token.expose()));
        }
        let response = sender
            .send_request(request.body(Full::new(Bytes::from(body.map(ToString::to_string).unwrap_or_default())))?)
            .await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await?.to_bytes();
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        Ok(match status {
            StatusCode::OK => Ok(value),
            StatusCode::UNAUTHORIZED if self.token.is_some() => {
                Err("the edge has another token than REELGATE_TOKEN, or admin.token of the file given".to_owned())
            }
            StatusCode::UNAUTHORIZED => Err("the edge wants its token; set REELGATE_TOKEN".to_owned()),
            _ => Err(value["detail"].as_str().map_or_else(
                || {
                    format!(
                        "{} answered {status}, as no admin listener does; give the address of `admin`",
                        self.authority
                    )
                },
                str::to_owned,
            )),
        })
    }
}

fn token_of_environment() -> Option<Secret> {
    std::env::var("REELGATE_TOKEN").ok().filter(|token| !token.is_empty()).map(Secret::new)
}
