//! An open file as an answer: validators, conditions, ranges, and a body that keeps its promise.
//!
//! Invariant: a file is opened once; its length and validators are those of what was opened. If it changes while it is sent, the
//! body fails, which aborts the connection: bytes of two versions never make one response.

use super::answer::{self, Answer, problem};
use crate::http::byte_range::{ByteRange, Selection, select, unsatisfied_content_range};
use crate::http::precondition::{Outcome, Validators, evaluate};
use crate::source::Stamp;
use ::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Read at a time, off the async threads; one chunk per response waits for its reader.
const CHUNK_BYTES: u64 = 128 * 1024;

/// A strong entity-tag (RFC 9110 §8.8.3) of a version.
fn etag(stamp: &Stamp) -> String {
    format!("\"{}\"", hex::encode(&Sha256::digest(stamp.to_bytes())[..16]))
}

/// For `Last-Modified`: None where the clock says it is still to come (§8.8.2.1).
fn modified(stamp: &Stamp, now: SystemTime) -> Option<SystemTime> {
    let since = Duration::new(u64::try_from(stamp.modified_s).ok()?, u32::try_from(stamp.modified_ns).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(since).filter(|modified| *modified <= now)
}

/// A film file that is being answered with: what is read is of this version.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    pub stamp: Stamp,
}

impl OpenFile {
    pub fn new(file: File) -> io::Result<Self> {
        let stamp = Stamp::of(&file)?;
        Ok(Self { file, stamp })
    }

    /// How long it has been as it is.
    pub fn age(&self, now: SystemTime) -> Duration {
        modified(&self.stamp, now).and_then(|modified| now.duration_since(modified).ok()).unwrap_or_default()
    }

    /// Exactly these bytes of the version that was opened, or an error. Blocking.
    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; length];
        self.file.read_exact_at(&mut buffer, offset)?;
        // After the read: what was read before the change was seen must not go out either.
        if Stamp::of(&self.file)? == self.stamp {
            Ok(buffer.into())
        } else {
            Err(io::Error::other("the file changed while it was being sent"))
        }
    }
}

/// Answers a GET or HEAD for a file.
pub fn answer(
    method: &Method,
    headers: &HeaderMap,
    file: OpenFile,
    content_type: &'static str,
    cache_control: &'static str,
) -> Answer {
    let now = SystemTime::now();
    let length = file.stamp.bytes;
    let etag = etag(&file.stamp);
    let last_modified = modified(&file.stamp, now);
    let validators = Validators { etag: Some(&etag), last_modified };

    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    let fields = response.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
    answer::insert(fields, header::ETAG, &etag);
    if let Some(modified) = last_modified {
        answer::insert(fields, header::LAST_MODIFIED, &httpdate::fmt_http_date(modified));
    }
    match evaluate(method, headers, validators) {
        Outcome::NotModified => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        Outcome::Failed => return problem(StatusCode::PRECONDITION_FAILED, "the file is another version"),
        Outcome::Proceed => {}
    }
    fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

    let selection = if method == Method::GET { select(headers, validators, length, now) } else { Selection::Whole };
    let part = match selection {
        Selection::Whole => None,
        Selection::Part(range) => Some(range),
        Selection::Unsatisfiable => {
            let mut refused = problem(StatusCode::RANGE_NOT_SATISFIABLE, "the range lies beyond the end of the file");
            answer::insert(refused.headers_mut(), header::CONTENT_RANGE, &unsatisfied_content_range(length));
            return refused;
        }
    };
    if let Some(range) = part {
        answer::insert(fields, header::CONTENT_RANGE, &range.content_range(length));
    }
    let (offset, sent) = part.map_or((0, length), |range: ByteRange| (range.first, range.length()));
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(sent));
    if part.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if method == Method::GET {
        *response.body_mut() = body(file, offset, sent);
    }
    response
}

fn body(file: OpenFile, offset: u64, length: u64) -> answer::Body {
    let file = Arc::new(file);
    let chunks = futures_util::stream::try_unfold((offset, length), move |(offset, left)| {
        let file = Arc::clone(&file);
        async move {
            if left == 0 {
                return Ok(None);
            }
            let size = left.min(CHUNK_BYTES);
            let chunk = tokio::task::spawn_blocking(move || file.read(offset, size as usize));
            let chunk = chunk.await.map_err(io::Error::other).flatten();
            match chunk {
                Ok(chunk) => Ok(Some((Frame::data(chunk), (offset + size, left - size)))),
                Err(error) => {
                    tracing::warn!(%error, "library: response aborted: its file could not be read as promised");
                    Err(error)
                }
            }
        }
    });
    StreamBody::new(chunks).boxed_unsync()
}
