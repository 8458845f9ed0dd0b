//! The pages. Where the binary was built with them (`player`), `/watch/{id}` is the player's; the plain ones here, a list of titles
//! and one title in a `<video>` element, without script, are for a binary built without.
//!
//! Invariants: every text from a file name is escaped; links are relative, so that the pages work under any prefix.

use super::answer::{Answer, full, problem, text};
use super::catalog::{Kind, Title};
use super::player;
use super::scan::MASTER;
use ::http::{HeaderMap, HeaderValue, Method, StatusCode, header};

const HTML: &str = "text/html; charset=utf-8";
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; media-src 'self' blob:; form-action 'self'; \
     base-uri 'none'",
);
const STYLE: &str = ":root{color-scheme:dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;\
padding:1.5rem 1rem;background:#111417;color:#e8eaed}a{color:#7cc4ff;text-decoration:none}a:hover{text-decoration:underline}\
h1{font-size:1.5rem;margin:.5rem 0 1rem;overflow-wrap:anywhere}form{display:flex;gap:.5rem}\
input,button{font:inherit;padding:.4rem .8rem;border:1px solid #3a4048;border-radius:.4rem;background:#1b1f24;color:inherit}\
input{flex:1;min-width:0}ul{list-style:none;margin:1rem 0;padding:0}\
li{display:flex;gap:1rem;justify-content:space-between;border-bottom:1px solid #262b31}\
li a{flex:1;padding:.7rem 0;overflow-wrap:anywhere}small{color:#9aa3ad}li small{padding:.7rem 0}\
video{display:block;width:100%;aspect-ratio:16/9;max-height:75vh;background:#000;border-radius:.4rem}";
const WITHOUT_PLAYER: &str =
    "Built without the player: run <code>npm ci &amp;&amp; npm run build</code> in src/page, and build again.";

/// `/`
pub fn index(method: &Method, headers: &HeaderMap, titles: &[&Title], query: Option<&str>) -> Answer {
    let mut list = String::new();
    for title in titles {
        let length = title.duration_s.map(|seconds| format!("<small>{}</small>", clock(seconds))).unwrap_or_default();
        list += &format!("<li><a href=\"watch/{}\">{}</a>{length}</li>\n", title.id, escaped(&title.name));
    }
    let search = query.filter(|query| !query.is_empty());
    if titles.is_empty() {
        let nothing = match search {
            Some(_) => "<small>No title has this in its name.</small> <small><a href=\"./\">All titles</a></small>",
            None => "<small>No films in the library's folders yet.</small>",
        };
        list += &format!("<li>{nothing}</li>\n");
    }
    let body = format!(
        "<h1>Titles</h1>\n<form><input type=\"search\" name=\"q\" aria-label=\"Search\" placeholder=\"Search\" value=\"{}\"> <button>Search</button></form>\n\
         <ul>\n{list}</ul>\n<p><small><a href=\"titles.json\">titles.json</a></small></p>",
        escaped(search.unwrap_or_default()),
    );
    page(method, headers, "Titles", &body)
}

/// `/watch/{id}`. In the plain page, a poster that is not there would keep a browser from showing the first frame.
pub fn watch(method: &Method, headers: &HeaderMap, title: &Title, has_poster: bool) -> Answer {
    if let Some(page) = player::watch(method, headers, &title.name) {
        return page;
    }
    let name = escaped(&title.name);
    let (file, link, note) = match title.kind {
        Kind::File => ("file", "The film file", "It plays here if your browser knows its format."),
        Kind::Hls => {
            (MASTER, "The HLS playlist", "It plays here if your browser knows HLS; else give its address to a player.")
        }
    };
    let source = format!("../t/{}/{file}", title.id);
    let poster = if has_poster { format!(" poster=\"../t/{}/poster.jpg\"", title.id) } else { String::new() };
    let body = format!(
        "<a href=\"../\">← All titles</a>\n<h1>{name}</h1>\n\
         <video controls playsinline preload=\"metadata\"{poster} src=\"{source}\"></video>\n\
         <p><a href=\"{source}\">{link}</a> <small>{note}</small></p>"
    );
    page(method, headers, &name, &body)
}

/// `/watch/{id}` of no title, for people: links to films outlive them. 404.
pub fn no_title() -> Answer {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <link rel=\"icon\" href=\"data:,\"><title>Not here</title><style>{STYLE}</style></head>\n\
         <body>\n<h1>There is no such title</h1>\n<p>Its film was renamed, moved or removed. <a href=\"../\">All titles</a></p>\n\
         </body>\n</html>\n"
    );
    let mut answer = problem(StatusCode::NOT_FOUND, "");
    *answer.body_mut() = full(html);
    let fields = answer.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(HTML));
    fields.insert(header::VARY, HeaderValue::from_static("Accept"));
    fields.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    answer
}

/// `title` and `body` are HTML. The empty icon keeps browsers from asking the site for one.
fn page(method: &Method, headers: &HeaderMap, title: &str, body: &str) -> Answer {
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><link rel=\"icon\" href=\"data:,\"><title>{title}</title><style>{STYLE}</style></head>\n\
         <body>\n{body}\n<p><small>{WITHOUT_PLAYER}</small></p>\n</body>\n</html>\n"
    );
    let mut answer = text(method, headers, html, HTML, "no-cache");
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
    answer
}

/// Safe in text and in quoted attributes.
pub fn escaped(text: &str) -> String {
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
