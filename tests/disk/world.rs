//! An origin whose bodies say what they are, and the check that an answer is one of them.

use crate::support::{Connection, Edge, Origin, Received, Reply, Request, Response};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

const PAGE: usize = 4096;

/// `/o/{name}/{bytes}`: a body of that many bytes, in the version the world is at; kept for an hour, tagged with its name.
pub(super) struct World {
    pub(super) origin: Origin,
    versions: Arc<Mutex<HashMap<String, u64>>>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|_, reply| reply)
    }

    /// With a last touch to every answer.
    pub(super) fn with(touch: impl Fn(&Received, Reply) -> Reply + Send + Sync + 'static) -> Self {
        let versions = Arc::new(Mutex::new(HashMap::<String, u64>::new()));
        let known = Arc::clone(&versions);
        let origin = Origin::start().handle("*", move |request| {
            let version = known.lock().get(request.path()).copied().unwrap_or(1);
            let etag = etag(version);
            let headers = |reply: Reply| {
                let reply = reply.header("Cache-Control", "max-age=3600").header("ETag", &etag);
                reply.header("Cache-Tag", name(request.path()))
            };
            if request.method == "POST" {
                return Reply::status(204);
            }
            let reply = match request.header("If-None-Match") {
                Some(known) if known == etag => headers(Reply::status(304)),
                _ => headers(Reply::ok(body(request.path(), version))),
            };
            touch(request, reply)
        });
        Self { origin, versions }
    }

    pub(super) fn version(&self, path: &str) -> u64 {
        self.versions.lock().get(path).copied().unwrap_or(1)
    }

    /// From now on the origin has another body there.
    pub(super) fn change(&self, path: &str) -> u64 {
        let mut versions = self.versions.lock();
        let version = versions.entry(path.to_owned()).or_insert(1);
        *version += 1;
        *version
    }

    /// Requests that reached the origin.
    pub(super) fn asked(&self) -> usize {
        self.origin.count("*")
    }
}

pub(super) fn path(name: impl std::fmt::Display, bytes: usize) -> String {
    format!("/o/{name}/{bytes}")
}

fn name(path: &str) -> &str {
    path.split('/').nth(2).unwrap_or_default()
}

fn etag(version: u64) -> String {
    format!("\"v{version}\"")
}

/// Each page begins with its URL, version and place; the rest of it is a pattern of these.
pub(super) fn body(path: &str, version: u64) -> Vec<u8> {
    let bytes: usize = path.rsplit('/').next().and_then(|bytes| bytes.parse().ok()).unwrap_or_default();
    let mut body = Vec::with_capacity(bytes + PAGE);
    let seed = path.bytes().fold(version, |seed, byte| seed.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte));
    while body.len() < bytes {
        let page = format!("{path} v{version} @{}\n", body.len());
        let pattern = (seed ^ body.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        let rest = PAGE - page.len();
        body.extend_from_slice(page.as_bytes());
        body.extend_from_slice(&pattern.repeat(rest / 8 + 1)[..rest]);
    }
    body.truncate(bytes);
    body
}

/// The version a whole answer is of; every byte is compared.
#[track_caller]
pub(super) fn version_of(path: &str, response: &Response) -> u64 {
    assert_eq!(response.status, 200, "{path}: {:?}", response.headers);
    assert!(response.complete, "{path}: cut short at {} bytes", response.body.len());
    let version = claimed(response);
    expect_bytes(path, version, 0, &response.body, true);
    version
}

/// What its ETag says.
#[track_caller]
pub(super) fn claimed(response: &Response) -> u64 {
    let version = response.header("etag").and_then(|tag| tag.trim_start_matches("W/").strip_prefix("\"v"));
    let version = version.and_then(|tag| tag.strip_suffix('"')?.parse().ok());
    version.unwrap_or_else(|| panic!("no version: {} {:?}", response.status, response.headers))
}

/// That `bytes` are those from `offset` on of this version; `whole`: to its end.
#[track_caller]
pub(super) fn expect_bytes(path: &str, version: u64, offset: usize, bytes: &[u8], whole: bool) {
    let expected = body(path, version);
    let expected = &expected[offset.min(expected.len())..];
    let length = if whole { expected.len() } else { bytes.len() };
    assert_eq!(bytes.len(), length, "{path} v{version}");
    if expected.get(..length) != Some(bytes) {
        let at = expected.iter().zip(bytes).position(|(a, b)| a != b);
        let shown = at.map(|at| String::from_utf8_lossy(&bytes[at / PAGE * PAGE..][..64.min(length)]).into_owned());
        panic!("{path} v{version}: wrong bytes at {at:?}: {shown:?}");
    }
}

/// A GET on a connection of its own; every byte is compared.
#[track_caller]
pub(super) fn get(edge: &Edge, path: &str) -> (u64, Response) {
    let response = edge.get(path);
    (version_of(path, &response), response)
}

/// As [`get`], of many, by `clients` at once, in any order: how many were hits.
#[track_caller]
pub(super) fn get_all(edge: &Edge, paths: &[String], clients: usize) -> u64 {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let hits = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        let client = || {
            let mut connection = Connection::open(edge.http());
            while let Some(path) = paths.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                let response = connection.exchange(&Request::get(path));
                version_of(path, &response);
                hits.fetch_add(u64::from(response.is_hit()), std::sync::atomic::Ordering::Relaxed);
            }
        };
        (0..clients).for_each(|_| _ = scope.spawn(client));
    });
    hits.into_inner()
}
