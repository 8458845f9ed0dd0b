//! `time,key,size`: the text form of traces. The order of the lines is the order of the requests; the time is not read. The
//! key is everything between the first comma and the last, so it may hold commas; quotes around it are no part of it.

use super::reference::{Extent, Parsed, Reference, hash};

pub(super) fn parse(line: &[u8]) -> Parsed {
    const WRONG: &str = "not `time,key,size` (size: a whole number of bytes)";
    let first = line.iter().position(|byte| *byte == b',').ok_or(WRONG)?;
    let last = line.iter().rposition(|byte| *byte == b',').filter(|last| *last > first).ok_or(WRONG)?;
    let size = std::str::from_utf8(&line[last + 1..]).ok().and_then(|size| size.trim().parse().ok()).ok_or(WRONG)?;
    let key = line[first + 1..last].trim_ascii();
    let key = key.strip_prefix(b"\"").and_then(|key| key.strip_suffix(b"\"")).unwrap_or(key);
    if key.is_empty() {
        return Err(WRONG);
    }
    Ok(Some(Reference { key: hash(&[key]), bytes: size, extent: Extent::Whole }))
}

/// A first line of names: three fields or more, the last one no number.
pub(super) fn is_header(line: &[u8]) -> bool {
    let mut fields = line.rsplit(|byte| *byte == b',');
    let last = fields.next().unwrap_or_default().trim_ascii();
    fields.count() >= 2 && last.first().is_some_and(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_with_and_without_quotes_and_commas() {
        let key = |line: &str| parse(line.as_bytes()).expect("understood").map(|r| (r.key, r.bytes));
        assert_eq!(key("1,a,10"), key("2.5, \"a\" , 10"));
        assert_ne!(key("1,a,b,10"), key("1,a,10"));
        for line in ["", "a", "1,2", "1,,3", "1,a,x", "1,a,-3", "1,a,99999999999999999999"] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_header_is_told_from_a_wrong_line() {
        assert!(is_header(b"time,key,size") && is_header(b"t, k ,bytes"));
        assert!(!is_header(b"1,a,10") && !is_header(b"a,b") && !is_header(b""));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(time in any::<u32>(), key in "[a-z0-9/,\\.]{0,20}x", size in any::<u64>()) {
            let expected = Reference { key: hash(&[key.as_bytes()]), bytes: size, extent: Extent::Whole };
            prop_assert_eq!(parse(format!("{time},{key},{size}").as_bytes()), Ok(Some(expected)));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), text in "[,0-9\"a ]{0,12}") {
            let _ = (parse(&bytes), is_header(&bytes), parse(text.as_bytes()));
        }
    }
}
