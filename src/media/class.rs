//! What kind of object a request is for, from its path and, once known, its answer's `Content-Type`. The class is a metric
//! label and chooses defaults; it never decides whether a request is allowed.

use std::borrow::Cow;

/// The kinds, in the order of a playback: the playlist, its initialisation section, its segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// An HLS playlist (RFC 8216) or a DASH manifest (ISO/IEC 23009-1).
    Playlist,
    /// One media segment.
    Segment,
    /// The initialisation section of fragmented MP4.
    Init,
    Image,
    Subtitle,
    /// A whole film or track in one file.
    Film,
    /// A web page or what it is made of: script, style, font.
    Page,
    /// An answer for programs: JSON, XML.
    Api,
    Other,
}

impl Class {
    /// Every class, for tables and tests.
    pub const ALL: [Self; 9] = [
        Self::Playlist,
        Self::Segment,
        Self::Init,
        Self::Image,
        Self::Subtitle,
        Self::Film,
        Self::Page,
        Self::Api,
        Self::Other,
    ];

    /// The metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Playlist => "playlist",
            Self::Segment => "segment",
            Self::Init => "init",
            Self::Image => "image",
            Self::Subtitle => "subtitle",
            Self::Film => "film",
            Self::Page => "page",
            Self::Api => "api",
            Self::Other => "other",
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The class of a request. `path` may still carry its query; `content_type` is the answer's, where there is one.
///
/// The extension goes first: origins are careless with the media types of playlists and segments, and an error page behind
/// a segment's URL is still an answer to a segment's request.
pub fn classify(path: &str, content_type: Option<&str>) -> Class {
    let path = lower_case(path.split(['?', '#']).next().unwrap_or_default());
    let (parent, file) = path.rsplit_once('/').unwrap_or(("", &path));
    let by_extension = file.rsplit_once('.').and_then(|(stem, extension)| of_extension(parent, stem, extension));
    by_extension.or_else(|| content_type.and_then(of_content_type)).unwrap_or_else(|| of_path(&path))
}

fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) { text.to_ascii_lowercase().into() } else { text.into() }
}

fn of_extension(parent: &str, stem: &str, extension: &str) -> Option<Class> {
    Some(match extension {
        "m3u8" | "m3u" | "mpd" => Class::Playlist,
        "mp4" | "m4s" | "m4v" | "m4a" | "cmfv" | "cmfa" if is_init(stem) => Class::Init,
        // Jellyfin names fragmented MP4 segments `/videos/{id}/hls1/main/{number}.mp4`.
        "mp4" if is_hls_folder(parent) && stem.bytes().all(|b| b.is_ascii_digit()) => Class::Segment,
        "ts" | "m4s" | "cmfv" | "cmfa" | "cmft" | "aac" => Class::Segment,
        "mp4" | "m4v" | "mkv" | "webm" | "mov" | "avi" | "mpg" | "mpeg" | "m2ts" | "mts" | "wmv" | "flv" | "ogv"
        | "divx" | "m2t" | "m2p" | "vob" | "asf" | "ogm" | "3gp" | "m4a" | "mp3" | "flac" | "ogg" | "oga" | "opus"
        | "wav" => Class::Film,
        "vtt" | "webvtt" | "srt" | "ass" | "ssa" | "ttml" | "dfxp" => Class::Subtitle,
        "jpg" | "jpeg" | "png" | "webp" | "avif" | "gif" | "svg" | "ico" | "bmp" | "bif" => Class::Image,
        "html" | "htm" | "js" | "mjs" | "css" | "wasm" | "map" | "woff" | "woff2" | "ttf" | "otf" | "eot"
        | "webmanifest" => Class::Page,
        "json" | "xml" => Class::Api,
        _ => return None,
    })
}

/// `init.mp4`, `init-0.m4s`, and Jellyfin's segment number −1.
fn is_init(stem: &str) -> bool {
    stem.starts_with("init") || stem == "-1"
}

/// Below a folder such as Jellyfin's `hls1`.
fn is_hls_folder(parent: &str) -> bool {
    parent.split('/').any(|name| name.strip_prefix("hls").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit())))
}

/// The class of an answer whose path says nothing.
pub fn of_content_type(content_type: &str) -> Option<Class> {
    let essence = lower_case(content_type.split(';').next().unwrap_or_default().trim());
    let (kind, subtype) = essence.split_once('/')?;
    Some(match (kind, subtype) {
        (_, "vnd.apple.mpegurl" | "x-mpegurl" | "mpegurl" | "dash+xml") => Class::Playlist,
        (_, "mp2t" | "iso.segment") => Class::Segment,
        ("text", "vtt" | "x-ssa" | "srt") | ("application", "x-subrip" | "ttml+xml") => Class::Subtitle,
        ("video" | "audio", _) => Class::Film,
        ("image", _) => Class::Image,
        ("font", _)
        | ("text", "html" | "css" | "javascript")
        | ("application", "javascript" | "wasm" | "xhtml+xml") => Class::Page,
        ("application" | "text", "json" | "xml") => Class::Api,
        ("application", subtype) if subtype.ends_with("+json") || subtype.ends_with("+xml") => Class::Api,
        _ => return None,
    })
}

fn of_path(path: &str) -> Class {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if first == "api" {
        Class::Api
    } else if path == "/" {
        Class::Page
    } else {
        Class::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extensions_decide_in_any_case() {
        for (path, class) in [
            ("/a/master.m3u8?x=1.ts", Class::Playlist),
            ("/a/Manifest.MPD", Class::Playlist),
            ("/a/seg-1.ts", Class::Segment),
            ("/a/chunk.M4S", Class::Segment),
            ("/a/v.cmfv", Class::Segment),
            ("/a/init.mp4", Class::Init),
            ("/a/init-stream0.m4s", Class::Init),
            ("/Videos/9/hls1/main/-1.mp4", Class::Init),
            ("/Videos/9/hls1/main/17.mp4", Class::Segment),
            ("/films/2012.mp4", Class::Film),
            ("/films/A.B.mkv", Class::Film),
            ("/a/subs.en.vtt", Class::Subtitle),
            ("/a/poster.JPG", Class::Image),
            ("/web/main.bundle.js", Class::Page),
            ("/titles.json", Class::Api),
            ("/api/v1/items", Class::Api),
            ("/", Class::Page),
            ("/watch/abc", Class::Other),
            ("", Class::Other),
        ] {
            assert_eq!(classify(path, None), class, "{path}");
        }
    }

    #[test]
    fn content_type_decides_where_the_path_says_nothing() {
        for (content_type, class) in [
            ("application/vnd.apple.mpegurl; charset=utf-8", Class::Playlist),
            ("Application/X-MpegURL", Class::Playlist),
            ("video/mp2t", Class::Segment),
            ("video/mp4", Class::Film),
            ("image/webp", Class::Image),
            ("text/html", Class::Page),
            ("application/problem+json", Class::Api),
            ("text/vtt", Class::Subtitle),
            ("application/octet-stream", Class::Other),
            ("nonsense", Class::Other),
        ] {
            assert_eq!(classify("/t/abc/file", Some(content_type)), class, "{content_type}");
        }
    }

    #[test]
    fn an_error_page_behind_a_segment_is_still_a_segment_request() {
        assert_eq!(classify("/a/1.ts", Some("text/html")), Class::Segment);
    }

    #[test]
    fn labels_are_distinct() {
        let labels: std::collections::HashSet<_> = Class::ALL.iter().map(|class| class.as_str()).collect();
        assert_eq!(labels.len(), Class::ALL.len());
    }

    proptest! {
        #[test]
        fn case_never_matters(path in "[/a-zA-Z0-9.-]{0,40}") {
            prop_assert_eq!(classify(&path, None), classify(&path.to_ascii_uppercase(), None));
        }

        #[test]
        fn any_text_has_a_class(path in any::<String>(), content_type in any::<Option<String>>()) {
            let _ = classify(&path, content_type.as_deref());
        }
    }
}
