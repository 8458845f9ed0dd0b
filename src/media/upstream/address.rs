//! URLs of what is added. Of an origin's media playlist `/film/720p/index.m3u8?token=1`, with `240p` for
//! [`super::multivariant::Size::named`]:
//!
//! | URL | what |
//! |---|---|
//! | `/film/720p/_reelgate/240p/index.m3u8?token=1` | the media playlist of the rung `240p`, made from it |
//! | `/film/720p/_reelgate/240p/index.m3u8/17-{tag}.ts?token=1` | its segment with sequence number 17 |
//! | `/film/720p/_reelgate/240p/index.m3u8/init-{tag}.mp4?token=1` | the head of its fMP4 segments |
//!
//! So a URL says all that is needed to make what it names, and nothing is remembered. The tag stands for what the origin's playlist
//! calls the segment: where that changes, so does the URL.
//!
//! Invariants: a URL that leads to another host, or into what was added, resolves to nothing.

use sha2::{Digest, Sha256};

/// The reserved path segment.
pub const RESERVED: &str = "_reelgate";
/// Bytes of a URL in a playlist.
const URI_BYTES_MAX: usize = 4096;

/// What a URL of ours names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub rung: String,
    /// Path and query of the origin's media playlist.
    pub source: String,
    pub resource: Resource,
}

/// What there is of an added rung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    Playlist,
    Init { tag: String },
    Segment { sequence: u64, tag: String },
}

/// Whether a path is one of ours, well formed or not.
pub fn is_reserved(target: &str) -> bool {
    path_of(target).split('/').any(|segment| segment == RESERVED)
}

/// Reads path and query. None: it is none of ours.
pub fn read(target: &str) -> Option<Asked> {
    let path = path_of(target);
    let query = &target[path.len()..];
    let mut parts = path.rsplitn(2, "/_reelgate/");
    let (rest, folder) = (parts.next()?, parts.next()?);
    if is_reserved(folder) {
        return None;
    }
    let mut rest = rest.split('/');
    let (rung, file, name) = (rest.next()?, rest.next()?, rest.next());
    if rest.next().is_some() || file.is_empty() || rung.is_empty() {
        return None;
    }
    let resource = match name {
        None => Resource::Playlist,
        Some(name) => {
            let (stem, extension) = name.rsplit_once('.')?;
            let (which, tag) = stem.split_once('-')?;
            match (which, extension) {
                ("init", "mp4") => Resource::Init { tag: tag.to_owned() },
                (number, "ts" | "m4s") if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                    Resource::Segment { sequence: number.parse().ok()?, tag: tag.to_owned() }
                }
                _ => return None,
            }
        }
    };
    Some(Asked { rung: rung.to_owned(), source: format!("{folder}/{file}{query}"), resource })
}

/// A media playlist's URI as an added rung's, as it is written in a playlist. None: it names no file.
pub fn insert(uri: &str, rung: &str) -> Option<String> {
    let end = uri.find(['?', '#']).unwrap_or(uri.len());
    let (path, rest) = uri.split_at(end);
    let file = path.rfind('/').map_or(0, |slash| slash + 1);
    (file < path.len()).then(|| format!("{}{RESERVED}/{rung}/{}{rest}", &path[..file], &path[file..]))
}

/// The last part of a path, and the query: what the URIs of an added playlist's segments begin and end with.
pub fn file_and_query(target: &str) -> (&str, &str) {
    let path = path_of(target);
    (path.rsplit('/').next().unwrap_or(""), &target[path.len()..])
}

/// Stands for what a playlist calls a segment and its head.
pub fn tag(uri: &str, map: Option<&str>) -> String {
    let mut hash = Sha256::new();
    hash.update(uri.as_bytes());
    hash.update(b"\n");
    hash.update(map.unwrap_or_default().as_bytes());
    hex::encode(&hash.finalize()[..8])
}

/// Path and query that a URI of a playlist at `base` (path and query) means (RFC 3986 §5.2), where that is on the host that was asked.
pub fn resolve(base: &str, authority: &str, uri: &str) -> Option<String> {
    let uri = uri.split('#').next()?;
    if uri.is_empty()
        || uri.len() > URI_BYTES_MAX
        || !uri.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'\\')
    {
        return None;
    }
    let scheme = uri.find([':', '/', '?']).filter(|at| uri.as_bytes()[*at] == b':');
    let relative = match scheme {
        Some(at) if ["http", "https"].iter().any(|known| uri[..at].eq_ignore_ascii_case(known)) => {
            uri[at + 1..].strip_prefix("//").map(|_| &uri[at + 1..])?
        }
        Some(_) => return None,
        None => uri,
    };
    let base_path = path_of(base);
    let joined = if let Some(elsewhere) = relative.strip_prefix("//") {
        let end = elsewhere.find(['/', '?']).unwrap_or(elsewhere.len());
        let (host, rest) = elsewhere.split_at(end);
        if !host.eq_ignore_ascii_case(authority) {
            return None;
        }
        if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") }
    } else if relative.starts_with('/') {
        relative.to_owned()
    } else if relative.starts_with('?') {
        format!("{base_path}{relative}")
    } else {
        format!("{}{relative}", &base_path[..=base_path.rfind('/')?])
    };
    let path = path_of(&joined);
    let resolved = format!("{}{}", without_dots(path), &joined[path.len()..]);
    (resolved.starts_with('/') && !resolved.starts_with("//") && !is_reserved(&resolved)).then_some(resolved)
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            part => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

fn path_of(target: &str) -> &str {
    &target[..target.find('?').unwrap_or(target.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_inserted_is_read_again() {
        let uri = insert("/film/720p/index.m3u8?token=a/b", "240p").unwrap();
        assert_eq!(uri, "/film/720p/_reelgate/240p/index.m3u8?token=a/b");
        let asked = Asked {
            rung: "240p".into(),
            source: "/film/720p/index.m3u8?token=a/b".into(),
            resource: Resource::Playlist,
        };
        assert_eq!(read(&uri), Some(asked.clone()));
        let resource = Resource::Segment { sequence: 17, tag: "ab".into() };
        assert_eq!(read("/film/720p/_reelgate/240p/index.m3u8/17-ab.ts?token=a/b"), Some(Asked { resource, ..asked }));
        assert_eq!(insert("index.m3u8", "240p").as_deref(), Some("_reelgate/240p/index.m3u8"));
        assert_eq!(insert("http://a/b.m3u8#x", "240p").as_deref(), Some("http://a/_reelgate/240p/b.m3u8#x"));
        assert_eq!(insert("folder/?x", "240p"), None);
    }

    #[test]
    fn what_is_nearly_ours_is_nothing() {
        for target in [
            "/_reelgate",
            "/a/_reelgate/",
            "/a/_reelgate/240p",
            "/a/_reelgate/240p/",
            "/a/_reelgate/240p/i.m3u8/x",
            "/a/_reelgate/240p/i.m3u8/-1-ab.ts",
            "/a/_reelgate/240p/i.m3u8/1-a.ts/b",
            "/a/_reelgate/240p/b/_reelgate/360p/i.m3u8",
            "/a/i.m3u8?x=/_reelgate/240p/i.m3u8",
        ] {
            assert_eq!(read(target), None, "{target}");
        }
        assert!(!is_reserved("/a/i.m3u8?x=/_reelgate/"), "a query is nobody's path");
        assert!(is_reserved("/a/_reelgate"));
    }

    #[test]
    fn only_the_host_that_was_asked_is_named() {
        let to = |uri| resolve("/film/master.m3u8?t=1", "media.example:8080", uri);
        assert_eq!(to("720p/i.m3u8?a=1").as_deref(), Some("/film/720p/i.m3u8?a=1"));
        assert_eq!(to("../x/./i.m3u8").as_deref(), Some("/x/i.m3u8"));
        assert_eq!(to("../../../etc/passwd").as_deref(), Some("/etc/passwd"), "still a path of the same host");
        assert_eq!(to("/i.m3u8").as_deref(), Some("/i.m3u8"));
        assert_eq!(to("?b").as_deref(), Some("/film/master.m3u8?b"));
        assert_eq!(to("HTTPS://Media.example:8080/i.m3u8").as_deref(), Some("/i.m3u8"));
        assert_eq!(to("//media.example:8080").as_deref(), Some("/"));
        for elsewhere in [
            "http://other/i.m3u8",
            "//other/i.m3u8",
            "http://media.example/i.m3u8",
            "http:i.m3u8",
            "file:///etc/passwd",
            "http://media.example:8080@other/i",
            "data:,x",
            "",
            "a b",
            "a\\b",
            "/a\r\nb",
            "_reelgate/240p/i.m3u8",
            "..//x/../..//evil",
            "/.//evil",
        ] {
            let found = to(elsewhere);
            assert!(
                found.as_deref().is_none_or(|found| found.starts_with('/') && !found.starts_with("//")),
                "{elsewhere}"
            );
            if !elsewhere.starts_with("..//") && !elsewhere.starts_with("/./") {
                assert_eq!(found, None, "{elsewhere}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_uri_stays_on_its_host(uri in "(http:|https:|file:)?(//)?[a-z./?#_@:\\\\-]{0,24}", base in "/[a-z./]{0,12}(\\?x)?") {
            if let Some(found) = resolve(&base, "a", &uri) {
                prop_assert!(found.starts_with('/') && !found.starts_with("//") && !is_reserved(&found));
            }
            let _ = read(&format!("{base}{uri}"));
            if let Some(inserted) = insert(&uri, "240p") {
                prop_assert_eq!(inserted.replacen("_reelgate/240p/", "", 1), uri);
            }
        }
    }
}
