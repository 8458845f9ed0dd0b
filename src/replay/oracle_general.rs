//! libCacheSim's binary trace: packed records, little endian, of 24 bytes: `u32` time in seconds, `u64` object, `u32` size in
//! bytes, `i64` the number of the object's next request (or −1). The last is not read: it is not true of a sample or of several
//! files in a row, and is cheap to know.

use super::reference::{Extent, Reference, mix};

pub(super) const RECORD_BYTES: usize = 24;

pub(super) fn parse(record: &[u8; RECORD_BYTES]) -> Reference {
    let [_, _, _, _, a, b, c, d, e, f, g, h, i, j, k, l, ..] = *record;
    let object = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let bytes = u32::from_le_bytes([i, j, k, l]);
    Reference { key: mix(object), bytes: bytes.into(), extent: Extent::Whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_are_read_at_their_offsets(time in any::<u32>(), object in any::<u64>(), size in any::<u32>(), next in any::<i64>()) {
            let mut record = Vec::new();
            record.extend(time.to_le_bytes());
            record.extend(object.to_le_bytes());
            record.extend(size.to_le_bytes());
            record.extend(next.to_le_bytes());
            let record: [u8; RECORD_BYTES] = record.try_into().expect("24 bytes");
            let expected = Reference { key: mix(object), bytes: size.into(), extent: Extent::Whole };
            prop_assert_eq!(parse(&record), expected);
        }
    }
}
