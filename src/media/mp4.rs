//! What the library reads of an MP4 file (ISO/IEC 14496-12): how long it is. Not a parser of boxes in general, and never a
//! reader of whole boxes: a few headers and one payload of at most 32 bytes, through a function the caller lends.
//!
//! Invariants: no panic on any bytes; at most [`READS_MAX`] reads of at most 32 bytes; no read beyond the length given.

/// Reads before the file is given up. A film has about ten boxes before the ones read here; a long fragmented one, whose
/// `moov` comes first, fewer.
pub const READS_MAX: u32 = 512;

/// Seconds, from the movie header (§8.2.2), or where that says 0 the movie extends header (§8.8.2). None: unknown or no MP4.
///
/// `read_at(offset, buffer)` fills the buffer or fails.
pub fn duration_s<E>(length: u64, read_at: impl FnMut(u64, &mut [u8]) -> Result<(), E>) -> Result<Option<f64>, E> {
    let mut file = Walker { read_at, reads_left: READS_MAX };
    let Some(movie) = file.child(Payload { start: 0, end: length }, b"moov")? else { return Ok(None) };
    let Some(header) = file.child(movie, b"mvhd")? else { return Ok(None) };
    let Some(header) = file.header(header)? else { return Ok(None) };
    if header.timescale == 0 {
        return Ok(None);
    }
    let units = match header.duration {
        Some(0) => file.fragments_duration(movie)?,
        other => other,
    };
    Ok(units.filter(|units| *units > 0).map(|units| units as f64 / f64::from(header.timescale)))
}

/// Where the content of a box lies.
#[derive(Clone, Copy)]
struct Payload {
    start: u64,
    end: u64,
}

struct MovieHeader {
    timescale: u32,
    /// In units of `timescale`; None where the file says it is unknown (all ones).
    duration: Option<u64>,
}

struct Walker<R> {
    read_at: R,
    reads_left: u32,
}

impl<E, R: FnMut(u64, &mut [u8]) -> Result<(), E>> Walker<R> {
    /// The first `N` bytes of a payload; None where it is shorter or the reads are used up.
    fn start<const N: usize>(&mut self, payload: Payload) -> Result<Option<[u8; N]>, E> {
        if payload.end.saturating_sub(payload.start) < N as u64 || self.reads_left == 0 {
            return Ok(None);
        }
        self.reads_left -= 1;
        let mut bytes = [0; N];
        (self.read_at)(payload.start, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// The payload of the first child of that type (§4.2).
    fn child(&mut self, parent: Payload, kind: &[u8; 4]) -> Result<Option<Payload>, E> {
        let mut at = parent.start;
        while let Some(head) = self.start::<8>(Payload { start: at, end: parent.end })? {
            let [a, b, c, d, ref found @ ..] = head;
            let (size, head_bytes) = match u32::from_be_bytes([a, b, c, d]) {
                0 => (parent.end - at, 8),
                1 => match self.start::<8>(Payload { start: at + 8, end: parent.end })? {
                    Some(large) => (u64::from_be_bytes(large), 16),
                    None => return Ok(None),
                },
                size => (u64::from(size), 8),
            };
            let end = at.saturating_add(size).min(parent.end);
            if size < head_bytes || end < at + head_bytes {
                return Ok(None);
            }
            if found == kind {
                return Ok(Some(Payload { start: at + head_bytes, end }));
            }
            at = end;
        }
        Ok(None)
    }

    fn header(&mut self, payload: Payload) -> Result<Option<MovieHeader>, E> {
        // Version and flags, then creation and modification time, timescale and duration: 32 or 64 bits by version.
        Ok(match self.start::<4>(payload)? {
            Some([0, ..]) => self.start::<20>(payload)?.map(|b| MovieHeader {
                timescale: u32_at(&b, 12),
                duration: Some(u32_at(&b, 16)).filter(|units| *units != u32::MAX).map(u64::from),
            }),
            Some([1, ..]) => self.start::<32>(payload)?.map(|b| MovieHeader {
                timescale: u32_at(&b, 20),
                duration: Some(u64_at(&b, 24)).filter(|units| *units != u64::MAX),
            }),
            _ => None,
        })
    }

    /// A fragmented file's duration, which its movie header leaves 0.
    fn fragments_duration(&mut self, movie: Payload) -> Result<Option<u64>, E> {
        let Some(extends) = self.child(movie, b"mvex")? else { return Ok(None) };
        let Some(header) = self.child(extends, b"mehd")? else { return Ok(None) };
        Ok(match self.start::<4>(header)? {
            Some([0, ..]) => self.start::<8>(header)?.map(|b| u64::from(u32_at(&b, 4))),
            Some([1, ..]) => self.start::<12>(header)?.map(|b| u64_at(&b, 4)),
            _ => None,
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}

#[cfg(test)]
mod tests {
    use super::super::fragment;
    use super::*;
    use proptest::prelude::*;

    fn boxed(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
        fragment::boxed(kind, &[payload])
    }

    fn mvhd(timescale: u32, duration: u32) -> Vec<u8> {
        boxed(b"mvhd", &[&[0; 12][..], &timescale.to_be_bytes(), &duration.to_be_bytes(), &[0; 80]].concat())
    }

    fn read(bytes: &[u8]) -> Option<f64> {
        let mut reads = 0;
        let result = duration_s(bytes.len() as u64, |offset, buffer: &mut [u8]| {
            reads += 1;
            let start = usize::try_from(offset).unwrap();
            buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
            Ok::<_, std::convert::Infallible>(())
        });
        assert!(reads <= READS_MAX);
        let Ok(seconds) = result;
        seconds
    }

    #[test]
    fn the_movie_header_says_how_long_a_film_is() {
        let film =
            [boxed(b"ftyp", b"isom0000"), boxed(b"mdat", &[7; 99]), boxed(b"moov", &mvhd(1000, 62_500))].concat();
        assert_eq!(read(&film), Some(62.5));
    }

    #[test]
    fn a_64_bit_header_and_a_64_bit_box_size_are_read() {
        let header =
            boxed(b"mvhd", &[&[1, 0, 0, 0][..], &[0; 16], &600_u32.to_be_bytes(), &6000_u64.to_be_bytes()].concat());
        let data = [&1_u32.to_be_bytes()[..], b"mdat", &20_u64.to_be_bytes(), &[0; 4]].concat();
        assert_eq!(read(&[data, boxed(b"moov", &header)].concat()), Some(10.0));
    }

    #[test]
    fn a_fragmented_film_says_it_in_the_extends_header() {
        let extends = boxed(b"mvex", &boxed(b"mehd", &[0, 0, 0, 0, 0, 0, 0x27, 0x10]));
        let movie = boxed(b"moov", &[mvhd(1000, 0), extends].concat());
        assert_eq!(read(&movie), Some(10.0));
    }

    #[test]
    fn what_says_nothing_has_no_duration() {
        assert_eq!(read(b""), None);
        assert_eq!(read(&boxed(b"moov", &mvhd(0, 5))), None, "no timescale");
        assert_eq!(read(&boxed(b"moov", &mvhd(1000, u32::MAX))), None, "unknown");
        assert_eq!(read(&boxed(b"moov", &mvhd(1000, 0))), None, "fragmented, not said");
        assert_eq!(read(&[0, 0, 0, 4, b'm', b'o', b'o', b'v']), None, "a size smaller than its own header");
        assert_eq!(read(&[0, 0, 0, 1, b'f', b'r', b'e', b'e', 0, 0]), None, "cut in a large size");
    }

    #[test]
    fn a_file_of_tiny_boxes_is_given_up() {
        let film = [boxed(b"free", &[]).repeat(READS_MAX as usize + 1), boxed(b"moov", &mvhd(1, 5))].concat();
        assert_eq!(read(&film), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_within_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_damaged_film_is_read_without_panic(at in 0_usize..160, byte in any::<u8>(), cut in 0_usize..160) {
            let extends = boxed(b"mvex", &boxed(b"mehd", &[0; 8]));
            let mut film = [boxed(b"ftyp", b"isom0000"), boxed(b"moov", &[mvhd(1000, 0), extends].concat())].concat();
            let index = at % film.len();
            film[index] = byte;
            film.truncate(film.len() - cut % film.len());
            if let Some(seconds) = read(&film) {
                prop_assert!(seconds.is_finite() && seconds > 0.0);
            }
        }
    }
}
