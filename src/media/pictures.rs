//! Still pictures of a title: formats, the sizes there are, and the size a film's picture gets.
//!
//! Invariant: sizes are few, so that nobody can have pictures made without end.

/// What a picture is encoded as. In the order they are preferred: for the same look, each takes fewer bytes than the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Avif,
    Webp,
    Jpeg,
}

impl Format {
    pub const ALL: [Self; 3] = [Self::Avif, Self::Webp, Self::Jpeg];

    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Avif => "image/avif",
            Self::Webp => "image/webp",
            Self::Jpeg => "image/jpeg",
        }
    }

    pub fn from_media_type(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.media_type() == name)
    }

    /// Of a file's name; `jpg` is not among them: that one is negotiated, and means "a picture".
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Avif => "avif",
            Self::Webp => "webp",
            Self::Jpeg => "jpeg",
        }
    }

    /// Whether bytes begin as this format does: ISO/IEC 23000-22 (`ftyp`), RFC 9649 (`RIFF`, `WEBP`), ISO/IEC 10918-1 (SOI, and the
    /// next marker's first byte).
    pub fn begins(self, bytes: &[u8]) -> bool {
        match self {
            Self::Avif => bytes.get(4..12) == Some(b"ftypavif"),
            Self::Webp => bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
            Self::Jpeg => bytes.starts_with(&[0xff, 0xd8, 0xff]),
        }
    }
}

/// The widths there are, in pixels.
pub const WIDTHS: [u32; 6] = [160, 320, 480, 640, 960, 1280];
/// The width of who asks for none.
pub const WIDTH: u32 = 480;
/// A picture is at most so many times as high as it is wide.
const HEIGHT_TIMES_MAX: u32 = 2;

/// The next width there is from a wanted one on, else the largest.
pub fn width(wanted: u32) -> u32 {
    WIDTHS.into_iter().find(|width| *width >= wanted).unwrap_or(WIDTHS[WIDTHS.len() - 1])
}

/// The highest a picture of that width may be.
pub const fn height_max(width: u32) -> u32 {
    width.saturating_mul(HEIGHT_TIMES_MAX)
}

/// The size of a picture within bounds: never larger than what it is of, of its shape, and even.
pub fn fit(size: (u32, u32), within: (u32, u32)) -> (u32, u32) {
    let (width, height) = (u64::from(size.0.max(1)), u64::from(size.1.max(1)));
    let (most_wide, most_high) = (u64::from(within.0), u64::from(within.1));
    let (wide, high) = if width <= most_wide && height <= most_high {
        (width, height)
    } else if width * most_high >= height * most_wide {
        (most_wide, height * most_wide / width)
    } else {
        (width * most_high / height, most_high)
    };
    let even = |side: u64| u32::try_from(side).unwrap_or(0).max(2) & !1;
    (even(wide), even(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_the_films_shape_within_its_bounds() {
        for (film, within, picture) in [
            ((1920, 1080), (480, 960), (480, 270)),
            ((1080, 1920), (480, 960), (480, 852)),
            ((1080, 1920), (320, 320), (180, 320)),
            ((320, 180), (480, 960), (320, 180)),
            ((63, 1), (480, 960), (62, 2)),
            ((8192, 2), (480, 960), (480, 2)),
            ((2, 8192), (480, 960), (2, 960)),
            ((0, 0), (480, 960), (2, 2)),
        ] {
            assert_eq!(fit(film, within), picture, "{film:?}");
        }
    }

    #[test]
    fn any_width_becomes_one_of_a_few() {
        assert_eq!([0, 160, 161, 480, 1280, u32::MAX].map(width), [160, 160, 320, 480, 1280, 1280]);
        assert!(WIDTHS.contains(&WIDTH) && WIDTHS.is_sorted());
    }
}
