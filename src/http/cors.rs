//! Cross-origin resource sharing (Fetch Standard, "CORS protocol"): players run on other origins.
//!
//! An answer is stored without these fields and gets them anew for each request, so that one origin's permission is never
//! served to another: the edge removes [`REPLACED`] from what it received, sets the fields and adds `Vary`. With
//! credentials the wildcard is never sent; the asking origin is echoed instead, but never the opaque `null`.

use super::fields::{HeaderView, is_token, list};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
};
use http::{HeaderName, HeaderValue, Method};
use std::time::Duration;

/// `sites[].cors`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Serialised origins (`https://app.example.org`); `*` alone allows any.
    pub origins: Vec<String>,
    pub methods: Vec<Method>,
    /// `*` allows any; `Range` is always allowed.
    pub request_headers: Vec<HeaderName>,
    pub expose_headers: Vec<HeaderName>,
    pub max_age: Duration,
    pub credentials: bool,
}

/// The origin's own CORS fields, to be removed before a site's are set.
pub const REPLACED: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// Names a client asks for in a preflight, at most; with more, none is allowed.
const ASKED_NAMES_MAX: usize = 64;

/// Fields for an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CorsFields {
    /// Each replaces what is there. Empty: the asking origin is not allowed, or none asked.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// To be added to `Vary`, allowed or not, asked or not: the same URL answers others differently.
    pub vary: Option<HeaderValue>,
}

/// Whether a request is a CORS preflight: OPTIONS with Origin and Access-Control-Request-Method.
pub fn is_preflight<H: HeaderView>(method: &Method, headers: &H) -> bool {
    *method == Method::OPTIONS && headers.has("origin") && headers.has("access-control-request-method")
}

impl Cors {
    /// The fields of the 204 that answers a preflight. It is answered whether allowed or not; the browser decides.
    pub fn preflight<H: HeaderView>(&self, headers: &H) -> CorsFields {
        let vary = "origin, access-control-request-method, access-control-request-headers";
        let mut fields = CorsFields { set: self.allow_origin(headers), vary: Some(HeaderValue::from_static(vary)) };
        if fields.set.is_empty() {
            return fields;
        }
        push(&mut fields.set, ACCESS_CONTROL_ALLOW_METHODS, &join(self.methods.iter().map(Method::as_str)));
        push(&mut fields.set, ACCESS_CONTROL_ALLOW_HEADERS, &self.allowed_headers(headers));
        push(&mut fields.set, ACCESS_CONTROL_MAX_AGE, &self.max_age.as_secs().to_string());
        fields
    }

    /// The fields of any other answer, errors among them: without them a player cannot see what went wrong.
    pub fn response<H: HeaderView>(&self, headers: &H) -> CorsFields {
        let vary = (!self.is_open()).then(|| HeaderValue::from_static("origin"));
        let mut fields = CorsFields { set: self.allow_origin(headers), vary };
        if !fields.set.is_empty() {
            let exposed = join(self.expose_headers.iter().map(HeaderName::as_str));
            push(&mut fields.set, ACCESS_CONTROL_EXPOSE_HEADERS, &exposed);
        }
        fields
    }

    /// One answer fits every origin.
    fn is_open(&self) -> bool {
        !self.credentials && self.allows_any()
    }

    fn allows_any(&self) -> bool {
        self.origins.iter().any(|origin| origin == "*")
    }

    fn allow_origin<H: HeaderView>(&self, headers: &H) -> Vec<(HeaderName, HeaderValue)> {
        if self.is_open() {
            return vec![(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))];
        }
        let mut origins = headers.all("origin");
        let (Some(origin), None) = (origins.next(), origins.next()) else { return Vec::new() };
        let listed = self.origins.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(origin));
        // Any sandboxed frame has the origin `null`: it must be listed by name.
        let allowed = listed || (self.allows_any() && origin != b"null");
        if !allowed {
            return Vec::new();
        }
        let Ok(origin) = HeaderValue::from_bytes(origin) else { return Vec::new() };
        let mut fields = vec![(ACCESS_CONTROL_ALLOW_ORIGIN, origin)];
        if self.credentials {
            fields.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        }
        fields
    }

    /// Range is always allowed: browsers take only its simplest forms for safe, older ones none, and players seek by it.
    /// `*` means any name only without credentials, and never Authorization: the names asked for are echoed instead.
    fn allowed_headers<H: HeaderView>(&self, headers: &H) -> String {
        let any = self.request_headers.iter().any(|name| name.as_str() == "*");
        let listed = self.request_headers.iter().map(|name| name.as_str().to_owned()).filter(|name| name != "*");
        let mut names: Vec<String> = listed.collect();
        if any {
            let asked = list(headers.all("access-control-request-headers"));
            let asked: Vec<&[u8]> = asked.filter(|name| is_token(name)).take(ASKED_NAMES_MAX + 1).collect();
            if asked.len() <= ASKED_NAMES_MAX {
                names.extend(asked.iter().map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()));
            }
        }
        names.push("range".to_owned());
        names.sort_unstable();
        names.dedup();
        join(names.iter().map(String::as_str))
    }
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Adds a field; one without a value is left out.
fn push(fields: &mut Vec<(HeaderName, HeaderValue)>, name: HeaderName, value: &str) {
    if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_str(value)) {
        fields.push((name, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use proptest::prelude::*;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        Cors {
            origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            methods: vec![Method::GET, Method::HEAD],
            request_headers: vec![HeaderName::from_static("x-emby-token")],
            expose_headers: vec![HeaderName::from_static("content-range")],
            max_age: Duration::from_secs(600),
            credentials,
        }
    }

    fn request(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn value<'a>(fields: &'a CorsFields, name: &str) -> Option<&'a str> {
        fields.set.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_str().unwrap())
    }

    const ASK: (&str, &str) = ("access-control-request-method", "GET");

    #[test]
    fn an_open_site_answers_everyone_alike() {
        let fields = cors(&["*"], false).response(&request(&[]));
        assert_eq!(value(&fields, "access-control-allow-origin"), Some("*"));
        assert_eq!(value(&fields, "access-control-expose-headers"), Some("content-range"));
        assert_eq!(fields.vary, None);
    }

    #[test]
    fn with_credentials_the_origin_is_echoed_but_never_null() {
        let site = cors(&["*"], true);
        let fields = site.response(&request(&[("origin", "https://app.org")]));
        assert_eq!(value(&fields, "access-control-allow-origin"), Some("https://app.org"));
        assert_eq!(value(&fields, "access-control-allow-credentials"), Some("true"));
        assert!(site.response(&request(&[("origin", "null")])).set.is_empty());
        assert_eq!(site.response(&request(&[])).vary.unwrap(), "origin");
    }

    #[test]
    fn only_listed_origins_are_allowed_and_the_rest_still_varies() {
        let site = cors(&["https://app.org", "https://tv.org"], false);
        let fields = site.response(&request(&[("origin", "https://tv.org")]));
        assert_eq!(value(&fields, "access-control-allow-origin"), Some("https://tv.org"));
        assert_eq!(value(&fields, "access-control-allow-credentials"), None);
        for origin in ["https://tv.org.evil.org", "https://tv.org:444", "http://tv.org", "null", "*"] {
            let fields = site.response(&request(&[("origin", origin)]));
            assert!(fields.set.is_empty() && fields.vary.is_some(), "{origin}");
        }
        let twice = request(&[("origin", "https://tv.org"), ("origin", "https://app.org")]);
        assert!(site.response(&twice).set.is_empty());
    }

    #[test]
    fn a_preflight_allows_what_is_configured_and_range() {
        let headers = request(&[("origin", "https://app.org"), ASK]);
        assert!(is_preflight(&Method::OPTIONS, &headers));
        assert!(!is_preflight(&Method::GET, &headers));
        assert!(!is_preflight(&Method::OPTIONS, &request(&[("origin", "x")])));
        let fields = cors(&["https://app.org"], false).preflight(&headers);
        assert_eq!(value(&fields, "access-control-allow-methods"), Some("GET, HEAD"));
        assert_eq!(value(&fields, "access-control-allow-headers"), Some("range, x-emby-token"));
        assert_eq!(value(&fields, "access-control-max-age"), Some("600"));
        assert!(fields.vary.unwrap().to_str().unwrap().contains("access-control-request-headers"));
    }

    #[test]
    fn a_preflight_from_elsewhere_allows_nothing() {
        let fields = cors(&["https://app.org"], false).preflight(&request(&[("origin", "https://evil.org"), ASK]));
        assert!(fields.set.is_empty() && fields.vary.is_some());
    }

    #[test]
    fn any_header_means_those_asked_for() {
        let mut site = cors(&["*"], true);
        site.request_headers = vec![HeaderName::from_bytes(b"*").unwrap()];
        let ask = |names: &str| {
            let headers = request(&[("origin", "https://a.org"), ASK, ("access-control-request-headers", names)]);
            value(&site.preflight(&headers), "access-control-allow-headers").unwrap().to_owned()
        };
        assert_eq!(ask("Authorization, x-b, bad name"), "authorization, range, x-b");
        assert_eq!(ask(&vec!["x"; ASKED_NAMES_MAX + 1].join(",")), "range");
    }

    proptest! {
        #[test]
        fn no_request_panics_or_is_allowed_by_chance(origin in "[ -~]{0,20}", names in "[ -~]{0,40}") {
            let headers = request(&[("origin", &origin), ASK, ("access-control-request-headers", &names)]);
            let fields = cors(&["https://app.org"], true).preflight(&headers);
            prop_assert_eq!(fields.set.is_empty(), !origin.eq_ignore_ascii_case("https://app.org"));
            let mut open = cors(&["*"], true);
            open.request_headers = vec![HeaderName::from_bytes(b"*").unwrap()];
            open.preflight(&headers);
        }
    }
}
