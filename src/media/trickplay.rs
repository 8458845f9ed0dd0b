//! Trickplay: small pictures of a title every few seconds, as tiles of sheets, and the lists that say where each lies: WebVTT with
//! media fragments (`#xywh=`, W3C Media Fragments §4.2.2), an HLS image media playlist (Image Media Playlist 0.4, as Roku reads it),
//! and a thumbnail adaptation set of DASH (DASH-IF IOP, thumbnail tiles; written by `dash`).
//!
//! Tile n shows the title at n times the interval: the last keyframe by then. Sheets are whole, also the last one, whose rest is black.
//!
//! Invariant: where sheets and tiles lie depends on the title's length and shape alone.

use super::pictures::fit;
use super::webvtt::clock;
use std::fmt::Write as _;

/// Seconds between tiles.
pub const INTERVAL_S: u64 = 10;
pub const COLUMNS: u32 = 5;
pub const ROWS: u32 = 5;
const TILES: u64 = COLUMNS as u64 * ROWS as u64;
/// Seconds of a sheet: what is made at once.
pub const SHEET_S: u64 = INTERVAL_S * TILES;
/// The longer side of a tile.
const SIDE: u32 = 320;
/// Bytes of a sheet as lists announce them; a sheet of a busy film.
const BYTES_EXPECTED: u64 = 250_000;
/// Where everything of it lies, beside a title's playlists.
pub const FOLDER: &str = "trickplay";

/// The sheets of a title.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sheets<'a> {
    pub duration_s: f64,
    /// Of a tile.
    pub tile: (u32, u32),
    /// The folder they lie in.
    pub version: &'a str,
}

/// The size of a tile of a film.
pub fn tile(width: u32, height: u32) -> (u32, u32) {
    fit((width, height), (SIDE, SIDE))
}

/// Tiles of a title: at least one.
pub fn tiles(duration_s: f64) -> u64 {
    (((duration_s - 0.001) / INTERVAL_S as f64).floor().max(0.0) as u64).saturating_add(1)
}

/// Sheets of a title: at least one.
pub fn sheets(duration_s: f64) -> u64 {
    tiles(duration_s).div_ceil(TILES)
}

impl Sheets<'_> {
    /// Of a whole sheet.
    pub fn size(&self) -> (u32, u32) {
        (self.tile.0 * COLUMNS, self.tile.1 * ROWS)
    }

    /// As lists announce it.
    pub fn bits_per_s() -> u64 {
        BYTES_EXPECTED * 8 / SHEET_S
    }

    /// `trickplay.vtt`, for addresses beside it.
    pub fn vtt(&self) -> String {
        let mut text = String::from("WEBVTT\n");
        let (width, height) = self.tile;
        for tile in 0..tiles(self.duration_s) {
            let start_ms = tile * INTERVAL_S * 1000;
            let end_ms = ((self.duration_s * 1000.0) as u64).clamp(start_ms + 1, start_ms + INTERVAL_S * 1000);
            let place = u32::try_from(tile % TILES).unwrap_or(0);
            let (x, y) = (place % COLUMNS * width, place / COLUMNS * height);
            let _ = write!(
                text,
                "\n{} --> {}\n{FOLDER}/{}/{}.jpg#xywh={x},{y},{width},{height}\n",
                clock(start_ms),
                clock(end_ms),
                self.version,
                tile / TILES,
            );
        }
        text
    }

    /// `trickplay/index.m3u8`.
    pub fn playlist(&self) -> String {
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-IMAGES-ONLY\n",
            self.seconds_of(0).ceil().max(1.0),
        );
        let (width, height) = self.tile;
        for sheet in 0..sheets(self.duration_s) {
            let _ = write!(
                text,
                "#EXTINF:{:.6},\n#EXT-X-TILES:RESOLUTION={width}x{height},LAYOUT={COLUMNS}x{ROWS},DURATION={INTERVAL_S}\n{}/{sheet}.jpg\n",
                self.seconds_of(sheet),
                self.version,
            );
        }
        text + "#EXT-X-ENDLIST\n"
    }

    /// The line of the multivariant playlist.
    pub fn hls_stream(&self) -> String {
        format!(
            "#EXT-X-IMAGE-STREAM-INF:BANDWIDTH={},RESOLUTION={}x{},CODECS=\"jpeg\",URI=\"{FOLDER}/index.m3u8\"\n",
            Self::bits_per_s(),
            self.tile.0,
            self.tile.1,
        )
    }

    fn seconds_of(&self, sheet: u64) -> f64 {
        (self.duration_s - (sheet * SHEET_S) as f64).clamp(0.001, SHEET_S as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(duration_s: f64) -> Sheets<'static> {
        Sheets { duration_s, tile: tile(1920, 1080), version: "v1" }
    }

    #[test]
    fn tiles_and_sheets_cover_a_title_and_no_more() {
        for (duration_s, expected) in [(0.0, (1, 1)), (9.9, (1, 1)), (10.0, (1, 1)), (10.04, (2, 1)), (250.0, (25, 1))]
        {
            assert_eq!((tiles(duration_s), sheets(duration_s)), expected, "{duration_s}");
        }
        assert_eq!((tiles(250.04), sheets(250.04)), (26, 2));
        assert_eq!((tiles(f64::NAN), sheets(-1.0)), (1, 1));
        assert_eq!((tile(1920, 1080), tile(1080, 1920), of(1.0).size()), ((320, 180), (180, 320), (1600, 900)));
    }

    #[test]
    fn web_vtt_golden() {
        let text = of(272.5).vtt();
        assert!(text.starts_with(
            "WEBVTT\n\n00:00:00.000 --> 00:00:10.000\ntrickplay/v1/0.jpg#xywh=0,0,320,180\n\n00:00:10.000"
        ));
        assert!(text.contains("\n00:01:10.000 --> 00:01:20.000\ntrickplay/v1/0.jpg#xywh=640,180,320,180\n"), "{text}");
        assert!(text.ends_with("\n00:04:30.000 --> 00:04:32.500\ntrickplay/v1/1.jpg#xywh=640,0,320,180\n"), "{text}");
        assert_eq!(text.matches("-->").count(), 28);
    }

    #[test]
    fn hls_golden() {
        let expected = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:250\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n\
            #EXT-X-IMAGES-ONLY\n#EXTINF:250.000000,\n#EXT-X-TILES:RESOLUTION=320x180,LAYOUT=5x5,DURATION=10\nv1/0.jpg\n\
            #EXTINF:22.500000,\n#EXT-X-TILES:RESOLUTION=320x180,LAYOUT=5x5,DURATION=10\nv1/1.jpg\n#EXT-X-ENDLIST\n";
        assert_eq!(of(272.5).playlist(), expected);
        assert_eq!(
            of(272.5).hls_stream(),
            "#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=8000,RESOLUTION=320x180,CODECS=\"jpeg\",URI=\"trickplay/index.m3u8\"\n"
        );
    }
}
