//! A library on a real socket over a temporary folder, and a client for it.

use super::super::*;
use ::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::fs;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const HOUR: Duration = Duration::from_secs(3600);
/// More than sockets and buffers hold, so that the server is still reading while a test meddles.
pub const LARGE_BYTES: u64 = 16 * 1024 * 1024;

pub struct Fixture {
    pub directory: tempfile::TempDir,
    pub metrics: Arc<Metrics>,
    pub library: Arc<Library>,
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Result<Vec<u8>, hyper::Error>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.as_ref().unwrap().clone()).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

pub fn settings(folders: Vec<PathBuf>, rescan_interval: Duration) -> LibraryOrigin {
    LibraryOrigin { folders, rescan_interval, index: None, codecs: None }
}

/// A library over `films/` of a new directory, scanned.
pub async fn library(fill: impl FnOnce(&Path)) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let films = directory.path().join("films");
    fs::create_dir(&films).unwrap();
    fill(&films);
    let metrics = Arc::new(Metrics::new());
    let socket = directory.path().join("library.sock");
    let library = Library::start("films", &settings(vec![films], HOUR), Arc::clone(&metrics), socket, None).unwrap();
    timeout(PATIENCE, library.scanned()).await.unwrap();
    Fixture { directory, metrics, library }
}

pub async fn connect(socket: &Path) -> SendRequest<Empty<Bytes>> {
    let stream = UnixStream::connect(socket).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

pub fn request(method: Method, path: &str, fields: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", "library");
    fields.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(Empty::new()).unwrap()
}

pub async fn first_chunk(body: &mut Incoming) -> Bytes {
    timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap().into_data().unwrap()
}

impl Fixture {
    pub fn films(&self) -> PathBuf {
        self.directory.path().join("films")
    }

    pub async fn ask(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Reply {
        let mut sender = connect(self.library.socket()).await;
        let response = timeout(PATIENCE, sender.send_request(request(method, path, fields))).await.unwrap().unwrap();
        let (parts, body) = response.into_parts();
        let body = timeout(PATIENCE, body.collect()).await.unwrap().map(|body| body.to_bytes().to_vec());
        Reply { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.ask(Method::GET, path, &[]).await
    }

    pub async fn titles(&self, query: &str) -> Vec<Value> {
        let body: Value = serde_json::from_str(&self.get(&format!("/titles.json{query}")).await.text()).unwrap();
        body["titles"].as_array().unwrap().clone()
    }

    /// The path of a title by its name.
    pub async fn path_of(&self, name: &str) -> String {
        let titles = self.titles("").await;
        let title = titles.iter().find(|title| title["name"] == name).unwrap();
        format!("/t/{}", title["id"].as_str().unwrap())
    }

    /// Polls until a title of that name is listed.
    pub async fn eventually_lists(&self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.titles("").await.iter().any(|title| title["name"] == name) {
            assert!(Instant::now() < deadline, "{name} was not found");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

pub fn hls_title(folder: &Path) {
    fs::create_dir_all(folder.join("v")).unwrap();
    fs::write(folder.join("master.m3u8"), "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv/index.m3u8\n").unwrap();
    fs::write(folder.join("v/index.m3u8"), "#EXTM3U\n#EXTINF:4.0,\n0.ts\n#EXTINF:2.25,\n1.ts\n#EXT-X-ENDLIST\n")
        .unwrap();
    fs::write(folder.join("v/0.ts"), "segment").unwrap();
    fs::write(folder.join("v/.secret"), "hidden").unwrap();
    fs::write(folder.join("whole.mp4"), "part of the title").unwrap();
}

pub fn movie(timescale: u32, duration: u32) -> Vec<u8> {
    let header = [&[0; 12][..], &timescale.to_be_bytes(), &duration.to_be_bytes()].concat();
    let boxed = |kind: &[u8], payload: &[u8]| [&(payload.len() as u32 + 8).to_be_bytes(), kind, payload].concat();
    boxed(b"moov", &boxed(b"mvhd", &header))
}
