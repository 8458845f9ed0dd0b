//! What `http::freshness` decided of an answer, as bytes: its fields in their order, times as `head` writes them.

use super::super::bans::Reader;
use super::{put_duration, put_time, take_duration, take_flag, take_time};
use crate::http::freshness::{Storable, TtlSource};

/// By number: one that moves would be another one's.
const SOURCES: [TtlSource; 6] = [
    TtlSource::SMaxage,
    TtlSource::MaxAge,
    TtlSource::Expires,
    TtlSource::Heuristic,
    TtlSource::Site,
    TtlSource::Validation,
];

/// None where it cannot be written.
pub(super) fn put(bytes: &mut Vec<u8>, decided: &Storable) -> Option<()> {
    // Taken apart, so that a field added later is not forgotten here.
    let Storable {
        fresh_for,
        stale_for,
        source,
        age_at_receipt,
        vary,
        withheld,
        validate_always,
        no_stale,
        immutable,
        stale_while_revalidate,
        stale_if_error,
        codable,
        strong_date,
        modified,
    } = decided;
    let source = SOURCES.iter().position(|known| known == source)?;
    for duration in [fresh_for, stale_for, age_at_receipt, stale_while_revalidate] {
        put_duration(bytes, *duration);
    }
    put_time(bytes, *modified);
    bytes.push(source as u8);
    bytes.extend([validate_always, no_stale, immutable, codable, strong_date].map(|flag| u8::from(*flag)));
    bytes.push(u8::from(stale_if_error.is_some()));
    stale_if_error.iter().for_each(|duration| put_duration(bytes, *duration));
    put_names(bytes, vary)?;
    put_names(bytes, withheld)
}

/// None: this is none.
pub(super) fn take(fields: &mut Reader<'_>) -> Option<Storable> {
    Some(Storable {
        fresh_for: take_duration(fields)?,
        stale_for: take_duration(fields)?,
        age_at_receipt: take_duration(fields)?,
        stale_while_revalidate: take_duration(fields)?,
        modified: take_time(fields)?,
        source: *SOURCES.get(usize::from(fields.u8()?))?,
        validate_always: take_flag(fields)?,
        no_stale: take_flag(fields)?,
        immutable: take_flag(fields)?,
        codable: take_flag(fields)?,
        strong_date: take_flag(fields)?,
        stale_if_error: if take_flag(fields)? { Some(take_duration(fields)?) } else { None },
        vary: take_names(fields)?,
        withheld: take_names(fields)?,
    })
}

fn put_names(bytes: &mut Vec<u8>, names: &[String]) -> Option<()> {
    bytes.extend(u16::try_from(names.len()).ok()?.to_le_bytes());
    for name in names {
        bytes.extend(u16::try_from(name.len()).ok()?.to_le_bytes());
        bytes.extend(name.as_bytes());
    }
    Some(())
}

fn take_names(fields: &mut Reader<'_>) -> Option<Vec<String>> {
    let count = fields.u16()?;
    let name = |fields: &mut Reader<'_>| {
        let bytes = fields.u16()?;
        String::from_utf8(fields.take(usize::from(bytes))?.to_vec()).ok()
    };
    (0..count).map(|_| name(fields)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    fn decisions() -> impl Strategy<Value = Storable> {
        let duration = || (0..1_u64 << 40, 0..1_000_000_000_u32).prop_map(|(s, ns)| Duration::new(s, ns));
        let names = || prop::collection::vec("[a-z-]{0,12}", 0..4);
        let durations = (duration(), duration(), duration(), duration(), duration(), prop::option::of(duration()));
        let flags = prop::array::uniform5(any::<bool>());
        (durations, 0..SOURCES.len(), names(), names(), flags).prop_map(|(durations, source, vary, withheld, flags)| {
            Storable {
                fresh_for: durations.0,
                stale_for: durations.1,
                source: SOURCES[source],
                age_at_receipt: durations.2,
                vary,
                withheld,
                validate_always: flags[0],
                no_stale: flags[1],
                immutable: flags[2],
                stale_while_revalidate: durations.3,
                stale_if_error: durations.5,
                codable: flags[3],
                strong_date: flags[4],
                modified: UNIX_EPOCH + durations.4,
            }
        })
    }

    proptest! {
        #[test]
        fn a_decision_comes_back_as_it_was(decided in decisions(), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            put(&mut bytes, &decided).expect("it can be written");
            let mut fields = Reader(&bytes);
            prop_assert_eq!(take(&mut fields), Some(decided));
            prop_assert!(fields.end().is_some());
            prop_assert!(take(&mut Reader(&bytes[..cut.index(bytes.len())])).is_none());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = take(&mut Reader(&bytes));
        }
    }
}
