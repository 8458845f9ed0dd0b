//! Answers made in memory: errors, lists, pages. Small by construction.

use crate::http::precondition::{Outcome, Validators, evaluate};
use ::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use sha2::{Digest, Sha256};
use std::io;

/// Whole, or as it comes.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;
/// The library's answer to a request.
pub type Answer = Response<Body>;

/// An error as `application/problem+json` (RFC 9457). Not to be cached: the film may be there in a moment.
pub fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or_default();
    let body = serde_json::json!({ "status": status.as_u16(), "title": title, "detail": detail });
    let mut response = Response::new(full(body.to_string()));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A text, or what else is small, with an entity-tag of its own bytes, and 304 where the client has it already.
pub fn text(
    method: &Method,
    headers: &HeaderMap,
    body: impl Into<Bytes>,
    content_type: &'static str,
    cache_control: &'static str,
) -> Answer {
    let body = body.into();
    let etag = format!("\"{}\"", hex::encode(&Sha256::digest(&body)[..16]));
    let validators = Validators { etag: Some(&etag), last_modified: None };
    let mut response = match evaluate(method, headers, validators) {
        Outcome::Proceed => Response::new(full(body)),
        Outcome::NotModified => {
            let mut response = Response::new(full(Bytes::new()));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        Outcome::Failed => return problem(StatusCode::PRECONDITION_FAILED, "the answer is another version"),
    };
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    insert(fields, header::ETAG, &etag);
    response
}

/// Sets a field whose value is ASCII by construction.
pub fn insert(fields: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(name, value);
    }
}

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
