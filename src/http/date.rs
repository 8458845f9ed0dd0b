//! HTTP-dates (RFC 9110 §5.6.7), read as a cache should: in all three forms, in any letter case (RFC 9111 §4.2), whatever day of
//! the week they claim. Another zone than GMT, another spelling or a day that does not exist is no date.

use std::time::{Duration, SystemTime};

const MONTHS: [&[u8; 3]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
const SHORT_DAYS: [&[u8]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];
const LONG_DAYS: [&[u8]; 7] = [b"monday", b"tuesday", b"wednesday", b"thursday", b"friday", b"saturday", b"sunday"];
/// `Wednesday, 09-Nov-94 08:49:37 GMT`
const LENGTH_MAX: usize = 33;

/// None for what is no date, or one before 1970. Blanks around it are ignored.
pub fn parse(value: &[u8]) -> Option<SystemTime> {
    let value = value.trim_ascii();
    if value.len() > LENGTH_MAX {
        return None;
    }
    let value = &value.to_ascii_lowercase()[..];
    match value.iter().position(|byte| *byte == b',') {
        // Sun, 06 Nov 1994 08:49:37 GMT
        Some(3) => {
            let (day, rest) = (&value[..3], value[3..].strip_prefix(b", ")?);
            let [d1, d2, b' ', m1, m2, m3, b' ', y1, y2, y3, y4, b' ', time @ ..] = rest else { return None };
            let time = time.strip_suffix(b" gmt")?;
            SHORT_DAYS.contains(&day).then_some(())?;
            unix(number(&[*y1, *y2, *y3, *y4])?, [*m1, *m2, *m3], number(&[*d1, *d2])?, time)
        }
        // Sunday, 06-Nov-94 08:49:37 GMT
        Some(comma) => {
            let (day, rest) = (&value[..comma], value[comma..].strip_prefix(b", ")?);
            let [d1, d2, b'-', m1, m2, m3, b'-', y1, y2, b' ', time @ ..] = rest else { return None };
            let time = time.strip_suffix(b" gmt")?;
            LONG_DAYS.contains(&day).then_some(())?;
            let year = number(&[*y1, *y2])?;
            let century = if year < 70 { 2000 } else { 1900 };
            unix(century + year, [*m1, *m2, *m3], number(&[*d1, *d2])?, time)
        }
        // Sun Nov  6 08:49:37 1994
        None => {
            let [w1, w2, w3, b' ', m1, m2, m3, b' ', d1, d2, b' ', rest @ ..] = value else { return None };
            let (time, year) = rest.split_at_checked(8)?;
            let [b' ', y1, y2, y3, y4] = year else { return None };
            SHORT_DAYS.contains(&&[*w1, *w2, *w3][..]).then_some(())?;
            let day = if *d1 == b' ' { number(&[*d2])? } else { number(&[*d1, *d2])? };
            unix(number(&[*y1, *y2, *y3, *y4])?, [*m1, *m2, *m3], day, time)
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

/// `time`: `08:49:37`; a leap second counts as the first of the next minute.
fn unix(year: u64, month: [u8; 3], day: u64, time: &[u8]) -> Option<SystemTime> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = time else { return None };
    let (hour, minute, second) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?, number(&[*s1, *s2])?);
    let month = MONTHS.iter().position(|name| **name == month)?;
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let valid = year >= 1970 && (1..=lengths[month]).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    valid.then_some(())?;
    let leap_days_before = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leap_days_before(year - 1) - leap_days_before(1969);
    let days = years + lengths[..month].iter().sum::<u64>() + day - 1;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(value: &str) -> Option<u64> {
        Some(parse(value.as_bytes())?.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn rfc9110_5_6_7_all_three_forms() {
        for value in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            " Sun, 06 Nov 1994 08:49:37 GMT\t",
        ] {
            assert_eq!(seconds(value), Some(784_111_777), "{value}");
        }
        assert_eq!(seconds("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800));
        assert_eq!(seconds("Thu Aug 18 02:01:18 2050"), Some(2_544_400_878));
    }

    #[test]
    fn rfc9111_4_2_any_letter_case_and_day_of_the_week() {
        for value in ["SUN, 06 Nov 1994 08:49:37 GMT", "Sun, 06 nov 1994 08:49:37 gMT", "Mon, 06 Nov 1994 08:49:37 GMT"]
        {
            assert_eq!(seconds(value), Some(784_111_777), "{value}");
        }
    }

    #[test]
    fn rfc9111_4_2_what_is_no_date_in_gmt_is_none() {
        for value in [
            "",
            "0",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov  1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Xyz, 06 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Wed, 29 Feb 2023 00:00:00 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Thu, 01 Jan 0000 00:00:00 GMT",
        ] {
            assert_eq!(seconds(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0u64..253_402_300_800) {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            prop_assert_eq!(parse(httpdate::fmt_http_date(time).as_bytes()), Some(time));
        }

        #[test]
        fn no_bytes_panic(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            parse(&value);
        }

        #[test]
        fn what_another_reader_takes_is_the_same(value in "(Sun|Monday)?,? ?[0-3 ][0-9][ -][A-Z][a-z]{2}[ -]([0-9]{2}){1,2} [0-2][0-9]:[0-5][0-9]:[0-5][0-9] GMT") {
            if let Ok(time) = httpdate::parse_http_date(&value) {
                prop_assert_eq!(parse(value.as_bytes()), Some(time));
            }
        }
    }
}
