//! Names of pictures: what each asks for, and where a name that is not the one spelling is sent to. Pure.

use super::super::answer::{Answer, full, insert, problem};
use super::super::catalog::Kind;
use super::super::respond::query_value;
use crate::media::pictures::{Format, WIDTHS, width};
use crate::media::trickplay::FOLDER;
use ::http::request::Parts;
use ::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;

/// What is asked for, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture<'a> {
    /// None: whichever format fits.
    Poster(Option<Format>),
    Thumb {
        second: u64,
        format: Option<Format>,
    },
    Sheet {
        version: &'a str,
        sheet: u64,
        format: Option<Format>,
    },
    Vtt,
    Playlist,
}

impl<'a> Picture<'a> {
    /// None: the path is something else. Folders with HLS have their own files; only their poster is ours.
    pub fn named(kind: Kind, rest: &[&'a str]) -> Option<Self> {
        match (kind, rest) {
            (_, [name]) if name.starts_with("poster.") => {
                let (_, format) = split(name)?;
                Some(Self::Poster(format))
            }
            (Kind::File, ["thumb", name]) => {
                let (second, format) = split(name)?;
                Some(Self::Thumb { second: number(second)?, format })
            }
            (Kind::File, ["trickplay.vtt"]) => Some(Self::Vtt),
            (Kind::File, [FOLDER, "index.m3u8"]) => Some(Self::Playlist),
            (Kind::File, [FOLDER, version, name]) => {
                let (sheet, format) = split(name)?;
                Some(Self::Sheet { version, sheet: number(sheet)?, format })
            }
            _ => None,
        }
    }

    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Poster(format) | Self::Thumb { format, .. } | Self::Sheet { format, .. } => *format,
            Self::Vtt | Self::Playlist => None,
        }
    }

    /// For metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Thumb { .. } => "thumb",
            Self::Sheet { .. } => "sheet",
            _ => "picture",
        }
    }
}

/// A name and what its extension asks for: `jpg` for any format.
fn split(name: &str) -> Option<(&str, Option<Format>)> {
    let (stem, extension) = name.rsplit_once('.')?;
    match extension {
        "jpg" => Some((stem, None)),
        _ => Format::ALL.into_iter().find(|format| format.extension() == extension).map(|format| (stem, Some(format))),
    }
}

/// One spelling only: others would be other objects in the cache.
fn number(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| plain)
}

/// The width asked for, where the request is spelled as it is answered; else where to ask instead.
pub fn spelled(request: &Parts, default: u32, second: u64, snapped: u64) -> Result<u32, Box<Answer>> {
    let query = request.uri.query();
    let wanted = query_value(query, "width");
    let Ok(wanted) = wanted.map(|text| text.parse::<u32>()).transpose() else {
        let widths = WIDTHS.map(|width| width.to_string()).join(", ");
        let detail = format!("`width` is a number of pixels: one of {widths}");
        return Err(Box::new(problem(StatusCode::BAD_REQUEST, &detail)));
    };
    let canonical = wanted.map(|wanted| format!("width={}", width(wanted)));
    if query == canonical.as_deref() && second == snapped {
        return Ok(wanted.unwrap_or(default));
    }
    let name = name_of(request);
    let extension = name.rsplit_once('.').map_or("jpg", |(_, extension)| extension);
    let name = if second == snapped { name.to_owned() } else { format!("{snapped}.{extension}") };
    Err(Box::new(redirect(&canonical.map_or(name.clone(), |query| format!("{name}?{query}")))))
}

/// The last part of a request's path.
pub fn name_of(request: &Parts) -> &str {
    request.uri.path().rsplit('/').next().unwrap_or_default()
}

/// To a name beside this one. Not kept: there are as many as anybody can think of.
pub fn redirect(name: &str) -> Answer {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    insert(response.headers_mut(), header::LOCATION, name);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_one_name() {
        let named = |path: &'static str| Picture::named(Kind::File, &path.split('/').collect::<Vec<_>>());
        assert_eq!(named("poster.jpg"), Some(Picture::Poster(None)));
        assert_eq!(named("poster.avif"), Some(Picture::Poster(Some(Format::Avif))));
        assert_eq!(named("thumb/120.webp"), Some(Picture::Thumb { second: 120, format: Some(Format::Webp) }));
        let sheet = Picture::Sheet { version: "0a", sheet: 3, format: None };
        assert_eq!(named("trickplay/0a/3.jpg"), Some(sheet));
        assert_eq!(
            (named("trickplay.vtt"), named("trickplay/index.m3u8")),
            (Some(Picture::Vtt), Some(Picture::Playlist))
        );
        for other in [
            "poster.png",
            "poster.",
            "poster",
            "thumb/01.jpg",
            "thumb/+1.jpg",
            "thumb/-1.jpg",
            "thumb/.jpg",
            "thumb/1",
            "thumb/99999999999999999999.jpg",
            "trickplay/0a/00.jpg",
            "trickplay/0a/1.vtt",
            "360p/0a/1.m4s",
            "thumb/a/1.jpg",
        ] {
            assert_eq!(named(other), None, "{other}");
        }
        assert_eq!(Picture::named(Kind::Hls, &["thumb", "10.jpg"]), None);
        assert_eq!(Picture::named(Kind::Hls, &["poster.jpg"]), Some(Picture::Poster(None)));
    }

    #[test]
    fn other_spellings_are_sent_to_the_one_that_is_answered() {
        let asked = |target: &str, second, snapped| {
            let (request, ()) = ::http::Request::get(target).body(()).unwrap().into_parts();
            match spelled(&request, 480, second, snapped) {
                Ok(width) => Ok(width),
                Err(answer) => {
                    let location = answer.headers().get(header::LOCATION).map(|to| to.to_str().unwrap().to_owned());
                    Err(location.unwrap_or_else(|| answer.status().as_u16().to_string()))
                }
            }
        };
        let to = |name: &str| Err(name.to_owned());
        assert_eq!(asked("/t/1/poster.jpg", 0, 0), Ok(480));
        assert_eq!(asked("/t/1/poster.webp?width=960", 0, 0), Ok(960));
        assert_eq!(asked("/t/1/poster.jpg?width=317", 0, 0), to("poster.jpg?width=320"));
        assert_eq!(asked("/t/1/poster.jpg?width=0320", 0, 0), to("poster.jpg?width=320"));
        assert_eq!(asked("/t/1/poster.jpg?width=99999", 0, 0), to("poster.jpg?width=1280"));
        assert_eq!(asked("/t/1/poster.jpg?x=1", 0, 0), to("poster.jpg"));
        assert_eq!(asked("/t/1/poster.jpg?width=320&x=1", 0, 0), to("poster.jpg?width=320"));
        assert_eq!(asked("/t/1/thumb/17.webp?width=160", 17, 10), to("10.webp?width=160"));
        assert_eq!(asked("/t/1/poster.jpg?width=wide", 0, 0), to("400"));
    }
}
