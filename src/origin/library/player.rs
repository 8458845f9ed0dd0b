//! The library and player pages, built from `src/page` and embedded in the binary.
//!
//! | path | what | fresh for |
//! |---|---|---|
//! | `/`, `/watch/{id}` | the pages, the title's name written into the second | `no-cache` |
//! | `/sw.js` | the service worker | `no-cache` |
//! | `/_page/{name}` | scripts, styles and pictures, a hash in each name | a year, immutable |
//!
//! Invariants: nothing from elsewhere is loaded, and nothing inline is run (`Content-Security-Policy`); a name from a file is text. It
//! knows no titles: pages ask for them. Without built files it answers nothing, and `page` serves plain ones.

use super::answer::{Answer, text};
use super::page::escaped;
use crate::media::content_type;
use ::http::{HeaderMap, HeaderValue, Method, header};

include!(concat!(env!("OUT_DIR"), "/page.rs"));

const HTML: &str = "text/html; charset=utf-8";
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; \
     connect-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
);
const FRESH: &str = "no-cache";
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Whether this binary was built with the pages.
pub fn is_built() -> bool {
    !FILES.is_empty()
}

/// What lies at a path and is the same for all titles; the catalog need not be there yet.
pub fn answer(method: &Method, headers: &HeaderMap, path: &[&str]) -> Option<Answer> {
    of(FILES, method, headers, path)
}

/// `/watch/{id}` of a title with this name.
pub fn watch(method: &Method, headers: &HeaderMap, name: &str) -> Option<Answer> {
    let page = file(FILES, "watch/index.html")?;
    Some(secured(text(method, headers, named(page, name), HTML, FRESH)))
}

type Files = [(&'static str, &'static [u8])];

fn file(files: &Files, name: &str) -> Option<&'static [u8]> {
    files.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}

fn of(files: &Files, method: &Method, headers: &HeaderMap, path: &[&str]) -> Option<Answer> {
    let (name, cache_control) = match path {
        [] => ("index.html".to_owned(), FRESH),
        ["sw.js"] => ("sw.js".to_owned(), FRESH),
        ["_page", name] => (format!("_page/{name}"), IMMUTABLE),
        _ => return None,
    };
    let content_type = if path.is_empty() { HTML } else { content_type::of_name(&name) };
    Some(secured(text(method, headers, file(files, &name)?, content_type, cache_control)))
}

/// The page with a title's name in place of its mark.
fn named(page: &[u8], name: &str) -> String {
    String::from_utf8_lossy(page).replacen("<title>TITLE</title>", &format!("<title>{}</title>", escaped(name)), 1)
}

/// A policy also binds the service worker, whose script carries it.
fn secured(mut answer: Answer) -> Answer {
    let fields = answer.headers_mut();
    fields.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    fields.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &Files = &[("_page/a-1.js", b"run()"), ("index.html", b"<!doctype html>"), ("sw.js", b"keep()")];

    fn fields(path: &[&str]) -> Option<(String, String)> {
        let answer = of(SMALL, &Method::GET, &HeaderMap::new(), path)?;
        let text = |name| answer.headers()[&name].to_str().expect("ASCII").to_owned();
        assert_eq!(text(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert!(text(header::ETAG).starts_with('"') && !text(header::CONTENT_SECURITY_POLICY).contains("unsafe"));
        Some((text(header::CONTENT_TYPE), text(header::CACHE_CONTROL)))
    }

    #[test]
    fn a_file_with_a_hash_in_its_name_is_kept_for_good_and_a_page_never_unasked() {
        assert_eq!(fields(&[]), Some((HTML.into(), FRESH.into())));
        assert_eq!(fields(&["sw.js"]), Some(("text/javascript; charset=utf-8".into(), FRESH.into())));
        assert_eq!(fields(&["_page", "a-1.js"]), Some(("text/javascript; charset=utf-8".into(), IMMUTABLE.into())));
    }

    #[test]
    fn only_the_pages_own_files_are_served() {
        for path in [&["index.html"][..], &["_page"], &["_page", "b.js"], &["_page", "../sw.js"], &["_page", "a", "b"]]
        {
            assert_eq!(fields(path), None, "{path:?}");
        }
        assert!(of(&[], &Method::GET, &HeaderMap::new(), &[]).is_none(), "not built");
    }

    #[test]
    fn a_name_is_text_in_the_page() {
        assert_eq!(named(b"<title>TITLE</title>", "</title><b>"), "<title>&lt;/title&gt;&lt;b&gt;</title>");
    }

    #[test]
    fn the_built_page_has_a_place_for_the_name() {
        let Some(page) = file(FILES, "watch/index.html") else { return };
        assert!(named(page, "A film").contains("<title>A film</title>"));
    }
}
