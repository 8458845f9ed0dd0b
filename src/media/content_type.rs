//! The media type of a file by its name. Media types that players depend on are listed here with their source; everything
//! else is `mime_guess`'s table. It never looks into a file.

/// What an unknown extension gets (RFC 9110 §8.3).
pub const UNKNOWN: &str = "application/octet-stream";

/// The media type of a file name or path, case-insensitively by extension.
pub fn of_name(name: &str) -> &'static str {
    let file = name.rsplit('/').next().unwrap_or_default();
    let Some((_, extension)) = file.rsplit_once('.') else { return UNKNOWN };
    let extension = extension.to_ascii_lowercase();
    match extension.as_str() {
        // RFC 8216 §4: the registered type; `application/x-mpegURL` is the older name.
        "m3u8" => "application/vnd.apple.mpegurl",
        // ISO/IEC 23009-1, annex C.
        "mpd" => "application/dash+xml",
        // Registered by ISO/IEC 23009-1 for segments of the ISO base media file format; `video/mp4` is for a file that can
        // be played by itself.
        "m4s" => "video/iso.segment",
        // ISO/IEC 23000-19: CMAF tracks are MP4.
        "mp4" | "m4v" | "cmfv" => "video/mp4",
        "m4a" | "cmfa" => "audio/mp4",
        "cmft" => "application/mp4",
        // RFC 3555. `mime_guess` knows `ts` as a programming language.
        "ts" | "m2t" | "m2ts" | "mts" => "video/mp2t",
        "aac" => "audio/aac",
        // RFC 9559 §27.3; `video/x-matroska` is the older name.
        "mkv" => "video/matroska",
        "mka" => "audio/matroska",
        "webm" => "video/webm",
        "mov" => "video/quicktime",
        "ogv" | "ogm" => "video/ogg",
        "avi" | "divx" => "video/x-msvideo",
        "mpg" | "mpeg" | "m2p" | "vob" => "video/mpeg",
        // W3C WebVTT: always UTF-8.
        "vtt" | "webvtt" => "text/vtt",
        "srt" => "application/x-subrip",
        "ass" | "ssa" => "text/x-ssa",
        "ttml" | "dfxp" => "application/ttml+xml",
        // RFC 9239: `text/javascript` is the one to use.
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "jpg" | "jpeg" => "image/jpeg",
        extension => mime_guess::from_ext(extension).first_raw().unwrap_or(UNKNOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn players_get_the_types_they_depend_on() {
        for (name, content_type) in [
            ("a/master.m3u8", "application/vnd.apple.mpegurl"),
            ("manifest.MPD", "application/dash+xml"),
            ("1.ts", "video/mp2t"),
            ("1.m4s", "video/iso.segment"),
            ("init.mp4", "video/mp4"),
            ("Film.Name.mkv", "video/matroska"),
            ("en.vtt", "text/vtt"),
            ("poster.JPG", "image/jpeg"),
            ("poster.webp", "image/webp"),
            ("x.wasm", "application/wasm"),
            ("no-extension", UNKNOWN),
            ("folder.mp4/file", UNKNOWN),
            ("x.unheard-of", UNKNOWN),
        ] {
            assert_eq!(of_name(name), content_type, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_answer_is_a_valid_header_value(name in any::<String>()) {
            let content_type = of_name(&name);
            prop_assert!(::http::HeaderValue::from_str(content_type).is_ok());
            prop_assert!(content_type.contains('/'));
        }
    }
}
