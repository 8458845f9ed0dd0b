//! What the library reads of an HLS playlist (RFC 8216): its duration, and where its first media playlist is. It is no
//! playlist parser: it validates nothing and keeps nothing.
//!
//! Invariant: any text is read in one pass over its lines; the caller bounds the text.

/// Seconds of a finished media playlist: the sum of its `EXTINF` durations (§4.3.2.1). None for anything else: a master
/// playlist, one that is still growing (no `EXT-X-ENDLIST`, §4.3.3.4), one with a duration that is no number.
pub fn duration_s(playlist: &str) -> Option<f64> {
    let mut lines = lines(playlist)?;
    let mut ended = false;
    let mut segments = 0_u64;
    let sum = lines.try_fold(0.0, |sum, line| {
        ended |= line == "#EXT-X-ENDLIST";
        let Some(value) = line.strip_prefix("#EXTINF:") else { return Some(sum) };
        segments += 1;
        let seconds: f64 = value.split(',').next()?.trim().parse().ok()?;
        (seconds.is_finite() && seconds >= 0.0).then_some(sum + seconds)
    })?;
    (ended && segments > 0 && sum.is_finite()).then_some(sum)
}

/// The URI of the first variant of a master playlist (§4.3.4.2), as written.
pub fn first_variant(master: &str) -> Option<&str> {
    let mut lines = lines(master)?.skip_while(|line| !line.starts_with("#EXT-X-STREAM-INF:")).skip(1);
    lines.find(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Lines of a playlist; None where it does not start as one (§4.3.1.1).
fn lines(playlist: &str) -> Option<impl Iterator<Item = &str>> {
    let mut lines = playlist.trim_start_matches('\u{feff}').lines().map(str::trim);
    (lines.next()? == "#EXTM3U").then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_finished_media_playlist_has_the_sum_of_its_segments() {
        let playlist = "#EXTM3U\r\n#EXT-X-TARGETDURATION:6\r\n#EXTINF:6.000000,\r\n0.ts\r\n#EXTINF:4.5,name\r\n1.ts\r\n#EXT-X-ENDLIST\r\n";
        assert_eq!(duration_s(playlist), Some(10.5));
    }

    #[test]
    fn what_is_no_finished_media_playlist_has_no_duration() {
        assert_eq!(duration_s("#EXTM3U\n#EXTINF:6,\n0.ts\n"), None, "still growing");
        assert_eq!(duration_s("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n"), None, "master");
        assert_eq!(duration_s("#EXTM3U\n#EXTINF:nan,\n0.ts\n#EXT-X-ENDLIST\n"), None);
        assert_eq!(duration_s("#EXTM3U\n#EXTINF:-3,\n0.ts\n#EXT-X-ENDLIST\n"), None);
        assert_eq!(duration_s("#EXTINF:6,\n#EXT-X-ENDLIST\n"), None, "no playlist");
        assert_eq!(duration_s(""), None);
    }

    #[test]
    fn the_first_variant_is_the_line_after_its_tag() {
        let master =
            "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,URI=\"a.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n# note\n\nv/720.m3u8\n";
        assert_eq!(first_variant(master), Some("v/720.m3u8"));
        assert_eq!(first_variant("#EXTM3U\n#EXTINF:1,\n0.ts\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(#EXTM3U\n)?(#EXTINF:[0-9.eE,nai-]{0,8}\n|#EXT-X-STREAM-INF:\n|#EXT-X-ENDLIST\n|\\PC{0,8}\n){0,8}") {
            let _ = first_variant(&text);
            if let Some(seconds) = duration_s(&text) {
                prop_assert!(seconds.is_finite() && seconds >= 0.0);
            }
        }
    }
}
