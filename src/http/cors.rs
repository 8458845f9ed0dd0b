//! Cross-origin resource sharing (Fetch Standard, "CORS protocol"): players run on other origins.

use http::{HeaderName, Method};
use std::time::Duration;

/// `sites[].cors`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Serialised origins (`https://app.example.org`); `*` alone allows any.
    pub origins: Vec<String>,
    pub methods: Vec<Method>,
    pub request_headers: Vec<HeaderName>,
    pub expose_headers: Vec<HeaderName>,
    pub max_age: Duration,
    pub credentials: bool,
}
