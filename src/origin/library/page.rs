//! The pages: a list of titles, and one title in a `<video>` element. Plain on purpose; no script, nothing from elsewhere.
//!
//! Invariants: every text from a file name is escaped; links are relative, so that the pages work under any prefix.

use super::answer::{Answer, text};
use super::catalog::{Kind, Title};
use super::scan::MASTER;
use ::http::{HeaderMap, HeaderValue, Method, header};

const HTML: &str = "text/html; charset=utf-8";
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; media-src 'self' blob:; form-action 'self'; \
     base-uri 'none'",
);
const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
background:#111;color:#eee}a{color:#8cf}video{width:100%;background:#000}li{margin:.3rem 0}small{color:#999}";

/// `/`
pub fn index(method: &Method, headers: &HeaderMap, titles: &[&Title], query: Option<&str>) -> Answer {
    let mut list = String::new();
    for title in titles {
        let length = title.duration_s.map(|seconds| format!(" <small>{}</small>", clock(seconds))).unwrap_or_default();
        list += &format!("<li><a href=\"watch/{}\">{}</a>{length}</li>\n", title.id, escaped(&title.name));
    }
    if titles.is_empty() {
        list += "<li>No titles found.</li>\n";
    }
    let body = format!(
        "<h1>Titles</h1>\n<form><input type=\"search\" name=\"q\" aria-label=\"Search\" value=\"{}\"> <button>Search</button></form>\n\
         <ul>\n{list}</ul>\n<p><small><a href=\"titles.json\">titles.json</a></small></p>",
        escaped(query.unwrap_or_default()),
    );
    page(method, headers, "Titles", &body)
}

/// `/watch/{id}`
pub fn watch(method: &Method, headers: &HeaderMap, title: &Title) -> Answer {
    let name = escaped(&title.name);
    let (file, note) = match title.kind {
        Kind::File => ("file", "The film file itself: your browser must know its format."),
        Kind::Hls => (MASTER, "HLS: browsers without it need a player that has; give it this address."),
    };
    let source = format!("../t/{}/{file}", title.id);
    let body = format!(
        "<p><a href=\"../\">All titles</a></p>\n<h1>{name}</h1>\n\
         <video controls playsinline preload=\"metadata\" poster=\"../t/{}/poster.jpg\" src=\"{source}\"></video>\n\
         <p><a href=\"{source}\">{source}</a> <small>{note}</small></p>",
        title.id,
    );
    page(method, headers, &name, &body)
}

/// `title` and `body` are HTML.
fn page(method: &Method, headers: &HeaderMap, title: &str, body: &str) -> Answer {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\n\
         <body>\n{body}\n</body>\n</html>\n"
    );
    let mut answer = text(method, headers, html, HTML, "no-cache");
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
    answer
}

/// Safe in text and in quoted attributes.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

/// `1:02:03`
fn clock(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_name_is_text() {
        assert_eq!(escaped("<a b='\"&\">"), "&lt;a b=&#39;&quot;&amp;&quot;&gt;");
    }

    #[test]
    fn durations_read_like_a_clock() {
        assert_eq!((clock(59.9), clock(61.0), clock(3723.0)), ("0:59".into(), "1:01".into(), "1:02:03".into()));
    }
}
