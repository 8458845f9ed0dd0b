//! The Huffman code of HPACK and QPACK (RFC 7541, Appendix B), to be read. It is canonical (codes of one length are in the order
//! of their symbols), so lengths are all there is to store. We write plain text: a head costs less to make than to shrink.

const SYMBOLS: usize = 257;
const END_OF_STRING: u16 = 256;
const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// Bits of each symbol's code; the last is the end of the string.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];

/// The codes of one length.
#[derive(Clone, Copy)]
struct Group {
    first: u32,
    count: u32,
    /// Where they begin in the symbols.
    offset: u32,
}

struct Table {
    groups: [Group; LONGEST + 1],
    /// By length, then by value.
    symbols: [u16; SYMBOLS],
}

static TABLE: Table = table();

const fn table() -> Table {
    let mut groups = [Group { first: 0, count: 0, offset: 0 }; LONGEST + 1];
    let mut symbols = [0; SYMBOLS];
    let (mut length, mut code, mut placed) = (1, 0, 0);
    while length <= LONGEST {
        code <<= 1;
        let (mut symbol, mut count) = (0, 0);
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                symbols[placed + count] = symbol as u16;
                count += 1;
            }
            symbol += 1;
        }
        groups[length] = Group { first: code, count: count as u32, offset: placed as u32 };
        placed += count;
        code += count as u32;
        length += 1;
    }
    Table { groups, symbols }
}

/// Appends what `coded` stands for. False: it is no such text (RFC 7541, section 5.2).
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> bool {
    let mut input = coded.iter();
    let (mut window, mut bits) = (0_u64, 0_usize);
    loop {
        while bits < LONGEST
            && let Some(byte) = input.next()
        {
            window = (window << 8) | u64::from(*byte);
            bits += 8;
        }
        let symbol = (SHORTEST..=LONGEST.min(bits)).find_map(|length| {
            let code = ((window >> (bits - length)) & ((1 << length) - 1)) as u32;
            let group = TABLE.groups[length];
            let place = code.checked_sub(group.first).filter(|place| *place < group.count)?;
            Some((TABLE.symbols[(group.offset + place) as usize], length))
        });
        match symbol {
            Some((END_OF_STRING, _)) => return false,
            Some((symbol, length)) => {
                out.push(symbol as u8);
                bits -= length;
            }
            // What is left is padding: less than a byte, of ones.
            None => return bits < 8 && window & ((1 << bits) - 1) == (1 << bits) - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        decode(coded, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_examples_of_rfc_7541_are_read() {
        let coded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&coded).unwrap(), "www.example.com");
        assert_eq!(decoded(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(), "no-cache");
        assert_eq!(decoded(&[]).unwrap(), "");
    }

    #[test]
    fn padding_is_short_and_of_ones() {
        assert_eq!(decoded(&[0x1f]).unwrap(), "a");
        assert_eq!(decoded(&[0x18]), None, "padding of zeros");
        assert_eq!(decoded(&[0x1f, 0xff]), None, "a whole byte of padding");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None, "the end of the string, spelled out");
    }
}
