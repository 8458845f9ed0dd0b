//! Field sections (RFC 9204), with the static table only: our SETTINGS allow no other, so no section ever waits for another
//! stream. Reading and writing are pure.

use super::huffman;
use super::static_table::{self, Found, ROWS};
use bytes::BufMut;
use std::borrow::Cow;

/// Why a section cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// QPACK_DECOMPRESSION_FAILED: ends the connection.
    Malformed,
    /// The section is longer than we said we take.
    TooLarge,
}

/// What each field adds to a section's size (RFC 9114, section 4.2.2).
const FIELD_BYTES: usize = 32;

/// Hands each field of a section to `take`, in order. Its size, as RFC 9114 counts it, is at most `bytes_max`.
pub fn decode(mut section: &[u8], bytes_max: usize, mut take: impl FnMut(&[u8], &[u8])) -> Result<(), Unreadable> {
    // Required Insert Count and Base: there are no inserts to require.
    if integer(&mut section, 8)?.1 != 0 {
        return Err(Unreadable::Malformed);
    }
    integer(&mut section, 7)?;
    let mut left = bytes_max;
    while let Some(first) = section.first().copied() {
        let field: (Cow<'_, [u8]>, Cow<'_, [u8]>) = if first & 0x80 != 0 {
            let (name, value) = row(&mut section, 6, first & 0x40 != 0)?;
            (Cow::Borrowed(name.as_bytes()), Cow::Borrowed(value.as_bytes()))
        } else if first & 0x40 != 0 {
            let (name, _) = row(&mut section, 4, first & 0x10 != 0)?;
            (Cow::Borrowed(name.as_bytes()), string(&mut section, 7, left)?)
        } else if first & 0x20 != 0 {
            let name = string(&mut section, 3, left)?;
            let value = string(&mut section, 7, left)?;
            (name, value)
        } else {
            // Post-base: refers to the dynamic table.
            return Err(Unreadable::Malformed);
        };
        let size = field.0.len() + field.1.len() + FIELD_BYTES;
        left = left.checked_sub(size).ok_or(Unreadable::TooLarge)?;
        take(&field.0, &field.1);
    }
    Ok(())
}

/// A row of the static table, by an index with a prefix of so many bits.
fn row(section: &mut &[u8], prefix: u32, is_static: bool) -> Result<(&'static str, &'static str), Unreadable> {
    let (_, index) = integer(section, prefix)?;
    let row = usize::try_from(index).ok().and_then(|index| ROWS.get(index));
    row.copied().filter(|_| is_static).ok_or(Unreadable::Malformed)
}

/// An integer with a prefix of so many bits, and the first byte whole (RFC 7541, section 5.1). At most 2^62.
fn integer(section: &mut &[u8], prefix: u32) -> Result<(u8, u64), Unreadable> {
    let mut next = || {
        let (byte, rest) = section.split_first().ok_or(Unreadable::Malformed)?;
        *section = rest;
        Ok(*byte)
    };
    let first = next()?;
    let mask = u64::from(u8::MAX >> (8 - prefix));
    let mut value = u64::from(first) & mask;
    if value < mask {
        return Ok((first, value));
    }
    for shift in (0..56).step_by(7) {
        let byte = next()?;
        value += u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((first, value));
        }
    }
    Err(Unreadable::Malformed)
}

/// A string whose length has a prefix of so many bits, below the bit that says whether it is coded.
fn string<'a>(section: &mut &'a [u8], prefix: u32, bytes_max: usize) -> Result<Cow<'a, [u8]>, Unreadable> {
    let (first, length) = integer(section, prefix)?;
    let length = usize::try_from(length).map_err(|_| Unreadable::Malformed)?;
    let bytes = section.get(..length).ok_or(Unreadable::Malformed)?;
    *section = &section[length..];
    if first & (1 << prefix) == 0 {
        return Ok(Cow::Borrowed(bytes));
    }
    // The shortest code has five bits, so this much text it is at most.
    if length * 5 / 8 > bytes_max {
        return Err(Unreadable::TooLarge);
    }
    let mut text = Vec::with_capacity(length * 8 / 5 + 1);
    if huffman::decode(bytes, &mut text) { Ok(Cow::Owned(text)) } else { Err(Unreadable::Malformed) }
}

/// What begins a section that refers to no dynamic table.
pub fn begin(out: &mut impl BufMut) {
    out.put_u16(0);
}

/// Appends a field to a section.
pub fn put(out: &mut impl BufMut, name: &str, value: &[u8]) {
    match static_table::find(name, value) {
        Found::Field(index) => return put_integer(out, 0xc0, 6, index),
        Found::Name(index) => put_integer(out, 0x50, 4, index),
        Found::Nothing => {
            put_integer(out, 0x20, 3, name.len());
            out.put_slice(name.as_bytes());
        }
    }
    put_integer(out, 0, 7, value.len());
    out.put_slice(value);
}

fn put_integer(out: &mut impl BufMut, pattern: u8, prefix: u32, value: usize) {
    let mask = usize::from(u8::MAX >> (8 - prefix));
    if value < mask {
        return out.put_u8(pattern | value as u8);
    }
    out.put_u8(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.put_u8(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(section: &[u8], bytes_max: usize) -> Result<Vec<(String, String)>, Unreadable> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        decode(section, bytes_max, |name, value| fields.push((text(name), text(value))))?;
        Ok(fields)
    }

    #[test]
    fn the_first_example_of_rfc_9204_is_read() {
        let section = [&[0x00, 0x00, 0x51, 0x0b][..], b"/index.html"].concat();
        assert_eq!(read(&section, 100), Ok(vec![(":path".to_owned(), "/index.html".to_owned())]));
    }

    #[test]
    fn the_dynamic_table_is_refused() {
        for section in [&[0x02, 0x00][..], &[0, 0, 0x80], &[0, 0, 0x10], &[0, 0, 0x40, 0x00], &[0, 0, 0x00, 0x00]] {
            assert_eq!(read(section, 1000), Err(Unreadable::Malformed), "{section:?}");
        }
        assert_eq!(read(&[0, 0, 0xff, 0x24], 1000), Err(Unreadable::Malformed), "no such row");
    }

    #[test]
    fn a_section_that_unpacks_beyond_the_limit_is_too_large() {
        let section = [&[0, 0][..], &[0xc0 | 25; 10]].concat();
        assert_eq!(read(&section, 10 * (32 + 10)).map(|fields| fields.len()), Ok(10));
        assert_eq!(read(&section, 10 * (32 + 10) - 1), Err(Unreadable::TooLarge));
    }

    #[test]
    fn endless_integers_are_refused() {
        assert_eq!(
            read(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], 9),
            Err(Unreadable::Malformed)
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(fields in prop::collection::vec(("[a-z-]{1,200}|:status|cache-control", "[ -~]{0,300}|200|no-store"), 0..9)) {
            let mut section = Vec::new();
            begin(&mut section);
            for (name, value) in &fields {
                put(&mut section, name, value.as_bytes());
            }
            prop_assert_eq!(read(&section, usize::MAX), Ok(fields));
        }

        #[test]
        fn any_bytes_are_fields_or_an_error(section in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut size = 0;
            if decode(&section, 1000, |name, value| size += name.len() + value.len() + 32).is_ok() {
                prop_assert!(size <= 1000);
            }
        }
    }
}
