//! Media playlists (RFC 8216 §4.3.2 and §4.3.3): read, and written again with the URLs of an added rung. All other lines stay: durations,
//! sequence numbers, discontinuities, dates, the end.
//!
//! Left alone, as [`Unfit`]: encryption, byte ranges, low-latency parts, deltas, variables, keyframe-only playlists.

use super::address::{file_and_query, tag};
use super::{Container, Unfit};

/// Segments of a playlist: a week of four seconds.
const SEGMENTS_MAX: usize = 200_000;
/// Longer segments would keep an encoder busy for too long.
const SEGMENT_S_MAX: f64 = 30.0;

/// A playlist whose segments others can be made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Media<'a> {
    pub segments: Vec<Segment<'a>>,
    pub container: Container,
}

/// A segment of an origin's media playlist.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment<'a> {
    pub uri: &'a str,
    /// `EXT-X-MAP`.
    pub map: Option<&'a str>,
    pub sequence: u64,
    /// It goes on where the one before it in the playlist ends.
    pub follows: bool,
}

impl Segment<'_> {
    /// See [`tag`].
    pub fn tag(&self) -> String {
        tag(self.uri, self.map)
    }
}

impl<'a> Media<'a> {
    /// A segment by its number and tag, and the one before, where that goes on in it.
    pub fn find(&self, sequence: u64, tag: &str) -> Option<(&Segment<'a>, Option<&Segment<'a>>)> {
        let first = self.segments.first()?.sequence;
        let index = usize::try_from(sequence.checked_sub(first)?).ok()?;
        let found = self.segments.get(index).filter(|segment| segment.tag() == tag)?;
        Some((found, index.checked_sub(1).map(|before| &self.segments[before]).filter(|_| found.follows)))
    }

    /// The first segment with this head.
    pub fn first_of_map(&self, tag_of_map: &str) -> Option<&Segment<'a>> {
        let mut seen = None;
        self.segments.iter().find(|segment| {
            let new = seen != segment.map;
            seen = segment.map;
            new && segment.map.is_some_and(|map| tag("", Some(map)) == tag_of_map)
        })
    }
}

/// What a line of a playlist is, to us.
enum Line<'a> {
    Uri(&'a str),
    Map(&'a str),
    Inf(f64),
    Sequence(u64),
    Discontinuity,
    /// It means nothing for what is made, or leads elsewhere.
    Dropped,
    Kept,
}

fn line(line: &str) -> Result<Line<'_>, Unfit> {
    if line.is_empty() {
        return Ok(Line::Kept);
    }
    if !line.starts_with('#') {
        return Ok(Line::Uri(line));
    }
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    Ok(match name {
        "#EXTINF" => {
            let seconds: f64 = value.split(',').next().unwrap_or("").trim().parse().map_err(|_| Unfit::Unreadable)?;
            Line::Inf(seconds)
        }
        "#EXT-X-MEDIA-SEQUENCE" => Line::Sequence(value.trim().parse().map_err(|_| Unfit::Unreadable)?),
        "#EXT-X-DISCONTINUITY" => Line::Discontinuity,
        "#EXT-X-KEY" if value.trim() != "METHOD=NONE" => return Err(Unfit::Encrypted),
        "#EXT-X-MAP" => {
            let uri = value.split_once("URI=\"").and_then(|(_, rest)| rest.split_once('"')).ok_or(Unfit::Unreadable)?.0;
            if value.contains("BYTERANGE") {
                return Err(Unfit::Feature);
            }
            Line::Map(uri)
        }
        "#EXT-X-BYTERANGE"
        | "#EXT-X-PART"
        | "#EXT-X-PART-INF"
        | "#EXT-X-PRELOAD-HINT"
        | "#EXT-X-SKIP"
        | "#EXT-X-DEFINE"
        | "#EXT-X-I-FRAMES-ONLY"
        | "#EXT-X-STREAM-INF" => return Err(Unfit::Feature),
        "#EXT-X-SERVER-CONTROL" | "#EXT-X-RENDITION-REPORT" | "#EXT-X-BITRATE" | "#EXT-X-KEY" => Line::Dropped,
        _ if value.contains("URI=") => Line::Dropped,
        _ => Line::Kept,
    })
}

/// Reads a playlist.
pub fn read(text: &str) -> Result<Media<'_>, Unfit> {
    let mut lines = text.lines().map(str::trim);
    if lines.next().map(|line| line.trim_start_matches('\u{feff}')) != Some("#EXTM3U") {
        return Err(Unfit::Unreadable);
    }
    let mut segments: Vec<Segment<'_>> = Vec::new();
    let (mut sequence, mut map, mut follows, mut timed) = (0, None, false, false);
    for text in lines {
        match line(text)? {
            Line::Inf(seconds) if (0.0..=SEGMENT_S_MAX).contains(&seconds) => timed = true,
            Line::Inf(_) => return Err(Unfit::TooLong),
            Line::Sequence(first) if segments.is_empty() => sequence = first,
            Line::Sequence(_) => return Err(Unfit::Unreadable),
            Line::Discontinuity => follows = false,
            Line::Map(uri) => {
                follows &= map == Some(uri);
                map = Some(uri);
            }
            Line::Uri(uri) => {
                if !std::mem::take(&mut timed) || segments.len() == SEGMENTS_MAX {
                    return Err(Unfit::Unreadable);
                }
                segments.push(Segment { uri, map, sequence, follows });
                sequence = sequence.checked_add(1).ok_or(Unfit::Unreadable)?;
                follows = true;
            }
            Line::Dropped | Line::Kept => {}
        }
    }
    let container = match segments.iter().filter(|segment| segment.map.is_some()).count() {
        0 if segments.iter().all(|segment| is_ts(segment.uri)) => Container::MpegTs,
        0 => return Err(Unfit::Streams),
        mapped if mapped == segments.len() => Container::Fmp4,
        _ => return Err(Unfit::Streams),
    };
    Ok(Media { segments, container })
}

/// By its name; without an extension, nobody knows yet.
fn is_ts(uri: &str) -> bool {
    let path = uri.split(['?', '#']).next().unwrap_or("");
    let file = path.rsplit('/').next().unwrap_or("");
    let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
    ["", "ts", "m2ts", "mts"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// The playlist of an added rung; `source` is the path and query of the one it is written from, which `media` was read from.
pub fn write(text: &str, media: &Media<'_>, source: &str) -> String {
    let (file, query) = file_and_query(source);
    // A name with a colon would be taken for a scheme (RFC 3986 §4.2).
    let at = if file.contains(':') { format!("./{file}") } else { file.to_owned() };
    let mut segments = media.segments.iter();
    let mut written = String::with_capacity(text.len() + media.segments.len() * 32);
    for text in text.lines().map(str::trim) {
        match line(text) {
            Ok(Line::Uri(_)) => {
                let Some(segment) = segments.next() else { break };
                let extension = media.container.extension();
                written += &format!("{at}/{}-{}.{extension}{query}\n", segment.sequence, segment.tag());
            }
            Ok(Line::Map(uri)) => {
                written += &format!("#EXT-X-MAP:URI=\"{at}/init-{}.mp4{query}\"\n", tag("", Some(uri)));
            }
            Ok(Line::Dropped) | Err(_) => {}
            Ok(_) => {
                written += text;
                written.push('\n');
            }
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_but_the_urls_stays() {
        let text = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:5\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-MAP:URI=\"init.mp4\"\n\
            #EXT-X-PROGRAM-DATE-TIME:2024-01-01T00:00:00Z\n#EXTINF:4.004,title\nseg7.m4s?s=1\n#EXT-X-DISCONTINUITY\n\
            #EXT-X-BITRATE:900\n#EXTINF:2,\n/x/seg8.m4s\n#EXTINF:2,\nseg9.m4s\n#EXT-X-ENDLIST\n";
        let media = read(text).unwrap();
        let tags: Vec<String> = media.segments.iter().map(Segment::tag).collect();
        let init = tag("", Some("init.mp4"));
        assert_eq!(
            write(text, &media, "/f/i.m3u8?t=1"),
            format!(
                "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:5\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-MAP:URI=\"i.m3u8/init-{init}.mp4?t=1\"\n\
                 #EXT-X-PROGRAM-DATE-TIME:2024-01-01T00:00:00Z\n#EXTINF:4.004,title\ni.m3u8/7-{}.m4s?t=1\n#EXT-X-DISCONTINUITY\n\
                 #EXTINF:2,\ni.m3u8/8-{}.m4s?t=1\n#EXTINF:2,\ni.m3u8/9-{}.m4s?t=1\n#EXT-X-ENDLIST\n",
                tags[0], tags[1], tags[2],
            )
        );
        assert_eq!(media.find(8, &tags[1]).map(|(found, before)| (found.uri, before)), Some(("/x/seg8.m4s", None)));
        let (found, before) = media.find(9, &tags[2]).unwrap();
        assert_eq!((found.uri, before.map(|before| before.uri)), ("seg9.m4s", Some("/x/seg8.m4s")));
        assert_eq!(media.find(9, &tags[1]), None, "another segment has its number by now");
        assert_eq!(media.find(6, &tags[0]), None);
        assert_eq!(media.first_of_map(&init).map(|segment| segment.sequence), Some(7));
    }

    #[test]
    fn what_is_not_supported_is_left_alone() {
        let of = |middle: &str| read(&format!("#EXTM3U\n{middle}\n#EXTINF:4,\na.ts\n")).err();
        assert_eq!(of("#EXT-X-KEY:METHOD=NONE"), None);
        assert_eq!(of("#EXT-X-KEY:METHOD=AES-128,URI=\"k\""), Some(Unfit::Encrypted));
        assert_eq!(of("#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\""), Some(Unfit::Encrypted));
        for feature in [
            "#EXT-X-BYTERANGE:1@0",
            "#EXT-X-MAP:URI=\"i\",BYTERANGE=\"1@0\"",
            "#EXT-X-PART:URI=\"p\"",
            "#EXT-X-I-FRAMES-ONLY",
            "#EXT-X-DEFINE:NAME=\"a\",VALUE=\"b\"",
            "#EXT-X-SKIP:SKIPPED-SEGMENTS=3",
        ] {
            assert_eq!(of(feature), Some(Unfit::Feature), "{feature}");
        }
        assert_eq!(read("#EXTM3U\n#EXTINF:31,\na.ts\n"), Err(Unfit::TooLong));
        assert_eq!(read("#EXTM3U\n#EXTINF:nan,\na.ts\n"), Err(Unfit::TooLong));
        assert_eq!(read("#EXTM3U\n#EXTINF:4,\na.aac\n"), Err(Unfit::Streams));
        assert_eq!(read("#EXTM3U\na.ts\n"), Err(Unfit::Unreadable));
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_written_with_as_many_segments(
            text in "(#EXTM3U\n)?(#EXTINF:[0-9.]{0,4},\n|#EXT-X-MAP:URI=\"[a-z]{0,3}\"\n|#EXT-X-MEDIA-SEQUENCE:[0-9]{0,21}\n|[a-z]{1,3}\n|#EXT-X-DISCONTINUITY\n|\\PC{0,6}\n){0,10}"
        ) {
            if let Ok(media) = read(&text) {
                let written = write(&text, &media, "/a/i.m3u8?q");
                let again = read(&written).unwrap();
                prop_assert_eq!(again.segments.len(), media.segments.len());
                for (one, other) in again.segments.iter().zip(&media.segments) {
                    prop_assert_eq!((one.sequence, one.follows), (other.sequence, other.follows));
                }
            }
        }
    }
}
