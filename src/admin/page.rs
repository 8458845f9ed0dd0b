//! The dashboard: one file, without anything from elsewhere, and the policy that lets a browser run exactly its script and style
//! and nothing else. It holds no data: it asks `/api/v1/events` with the token the operator types in, which it keeps in the tab's
//! `sessionStorage`.

use axum::http::HeaderValue;
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

pub(super) const HTML: &str = include_str!("dashboard.html");

/// `Content-Security-Policy` (CSP Level 3) naming the page's own script and style by hash.
pub(super) fn policy() -> HeaderValue {
    let hash = |tag| STANDARD.encode(Sha256::digest(inner(tag)));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style"),
    );
    HeaderValue::from_str(&policy).expect("hashes are ASCII")
}

/// What stands between a tag and its end; the page has one of each.
fn inner(tag: &str) -> &'static str {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let from = HTML.find(&open).expect("the page has one") + open.len();
    let to = HTML.find(&close).expect("the page has one");
    &HTML[from..to]
}
