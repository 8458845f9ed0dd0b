//! Which media types are worth coding: the operator's list, and those that no list brings in because they are compressed
//! already. A second compression of a film costs CPU and makes it larger.

use super::super::fields::is_token;

/// What is coded where the operator says nothing: text, whatever its name. Playlists and subtitles among it, though two
/// playlist types say `audio/`.
pub const DEFAULT: [&str; 23] = [
    "text/*",
    "*+json",
    "*+xml",
    "application/json",
    "application/javascript",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xml",
    "application/wasm",
    "application/vnd.apple.mpegurl",
    "application/x-mpegurl",
    "audio/mpegurl",
    "audio/x-mpegurl",
    "application/x-subrip",
    "application/vnd.ms-fontobject",
    "application/x-font-ttf",
    "font/ttf",
    "font/otf",
    "font/collection",
    "image/bmp",
    "image/vnd.microsoft.icon",
    "image/x-icon",
    "image/x-ms-bmp",
];

/// Rooms of compressed media. What in them is not compressed stands in [`DESPITE_NEVER`].
const NEVER_KINDS: [&str; 3] = ["audio", "image", "video"];

/// Compressed, or a stream of parts that are; and events, which stay open for hours for a few bytes a minute.
const NEVER: [&str; 37] = [
    "application/epub+zip",
    "application/font-woff",
    "application/font-woff2",
    "application/gzip",
    "application/java-archive",
    "application/mp4",
    "application/mxf",
    "application/ogg",
    "application/pdf",
    "application/vnd.android.package-archive",
    "application/vnd.apple.installer+xml",
    "application/vnd.rar",
    "application/vnd.rn-realmedia",
    "application/x-7z-compressed",
    "application/x-apple-diskimage",
    "application/x-brotli",
    "application/x-bzip",
    "application/x-bzip2",
    "application/x-compress",
    "application/x-compressed",
    "application/x-font-woff",
    "application/x-gzip",
    "application/x-lzip",
    "application/x-lzma",
    "application/x-mpegts",
    "application/x-rar-compressed",
    "application/x-shockwave-flash",
    "application/x-xz",
    "application/x-zip-compressed",
    "application/x-zstd",
    "application/zip",
    "application/zstd",
    "font/woff",
    "font/woff2",
    "multipart/byteranges",
    "multipart/x-mixed-replace",
    "text/event-stream",
];

/// Families of packed office documents.
const NEVER_PREFIXES: [&str; 2] =
    ["application/vnd.oasis.opendocument.", "application/vnd.openxmlformats-officedocument."];

/// Structured syntax suffixes (RFC 6838 §4.2.8) that mean "compressed".
const NEVER_SUFFIXES: [&str; 3] = ["+gzip", "+zip", "+zstd"];

/// Not compressed, whatever the kind says. Of images also every `+xml` and `+json`.
const DESPITE_NEVER: [&str; 12] = [
    "audio/mpegurl",
    "audio/x-mpegurl",
    "image/bmp",
    "image/svg",
    "image/vnd.microsoft.icon",
    "image/x-icon",
    "image/x-ms-bmp",
    "image/x-portable-anymap",
    "image/x-portable-bitmap",
    "image/x-portable-graymap",
    "image/x-portable-pixmap",
    "image/x-win-bitmap",
];

/// A list of media types. Compares without letter case and without parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeRules(Vec<Rule>);

/// One entry. Lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// None: any.
    kind: Option<String>,
    subtype: Subtype,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Subtype {
    Any,
    /// With its `+`.
    Suffix(String),
    Exact(String),
}

impl Default for TypeRules {
    fn default() -> Self {
        Self(DEFAULT.iter().filter_map(|text| Rule::parse(text).ok()).collect())
    }
}

impl TypeRules {
    /// Reads a list of entries like `application/json`, `text/*`, `*+json`, `image/*+xml` and `*/*`.
    ///
    /// # Errors
    /// The index of the first entry that is none, and how to write it.
    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Result<Self, (usize, String)> {
        let rule = |(index, text): (usize, &T)| Rule::parse(text.as_ref()).map_err(|message| (index, message));
        entries.iter().enumerate().map(rule).collect::<Result<_, _>>().map(Self)
    }

    /// Reads one entry only to say what is wrong with it.
    ///
    /// # Errors
    /// How to write it.
    pub fn check(entry: &str) -> Result<(), String> {
        Rule::parse(entry).map(drop)
    }

    /// Whether answers of this `Content-Type` are coded. What is compressed already never is, and what is no media type is not.
    pub fn matches(&self, content_type: &str) -> bool {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let Some((kind, subtype)) = essence.split_once('/') else { return false };
        if !is_token(kind.as_bytes()) || !is_token(subtype.as_bytes()) || is_compressed(&essence, kind) {
            return false;
        }
        self.0.iter().any(|rule| rule.matches(kind, subtype))
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        const HOW: &str = "write a media type like application/json, a whole kind like text/*, or a suffix like *+json";
        let lower = text.trim().to_ascii_lowercase();
        if lower.contains(';') {
            return Err("parameters say nothing here: leave out everything from `;` on".to_owned());
        }
        let (kind, subtype) = match lower.split_once('/') {
            Some(parts) => parts,
            // `*+json` is short for `*/*+json`.
            None if lower.starts_with("*+") => ("*", lower.as_str()),
            None => return Err(format!("not a media type; {HOW}")),
        };
        let token = |text: &str| is_token(text.as_bytes()) && !text.contains('*');
        let subtype = match subtype {
            "*" => Subtype::Any,
            suffix if suffix.starts_with("*+") && suffix.len() > 2 && token(&suffix[1..]) => {
                Subtype::Suffix(suffix[1..].to_owned())
            }
            exact if token(exact) => Subtype::Exact(exact.to_owned()),
            _ => return Err(format!("not a media type; {HOW}")),
        };
        match kind {
            "*" if matches!(subtype, Subtype::Exact(_)) => Err(format!("`*/` needs `*` or a suffix behind it; {HOW}")),
            "*" => Ok(Self { kind: None, subtype }),
            kind if token(kind) => Ok(Self { kind: Some(kind.to_owned()), subtype }),
            _ => Err(format!("not a media type; {HOW}")),
        }
    }

    fn matches(&self, kind: &str, subtype: &str) -> bool {
        self.kind.as_deref().is_none_or(|wanted| wanted == kind)
            && match &self.subtype {
                Subtype::Any => true,
                Subtype::Suffix(suffix) => subtype.ends_with(suffix.as_str()),
                Subtype::Exact(wanted) => wanted == subtype,
            }
    }
}

/// `essence` is the whole type in lower case, `kind` what stands before its `/`.
fn is_compressed(essence: &str, kind: &str) -> bool {
    if NEVER_KINDS.contains(&kind) {
        let text = DESPITE_NEVER.contains(&essence) || essence.ends_with("+xml") || essence.ends_with("+json");
        return !text;
    }
    NEVER.contains(&essence)
        || NEVER_PREFIXES.iter().any(|prefix| essence.starts_with(prefix))
        || NEVER_SUFFIXES.iter().any(|suffix| essence.ends_with(suffix))
}
