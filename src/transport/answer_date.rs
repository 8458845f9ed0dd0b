//! The `Date` of an answer that was made earlier or elsewhere (RFC 9110 §6.6.1), on HTTP/1.
//!
//! Pingora's HTTP/1 server writes the present time over every `Date`, which makes a stored answer look new. The edge says what it
//! was ([`super::Connection::answer_dated`]), and the head is mended on its way out: an HTTP-date always has the same length.
//! HTTP/2 compresses its heads, so there the present time stays; `Age` tells the truth on both.
//!
//! Invariants: it changes nothing but the value of `Date`, in nothing but the head the date was meant for.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// `Sun, 06 Nov 1994 08:49:37 GMT`
const LENGTH: usize = 29;

/// A date in the form that is kept.
pub(super) fn is_usual(date: &[u8]) -> bool {
    date.len() == LENGTH && date.ends_with(b" GMT")
}

/// See the module. One per connection.
#[derive(Debug, Default)]
pub(super) struct AnswerDate {
    awaited: AtomicBool,
    date: Mutex<[u8; LENGTH]>,
}

impl AnswerDate {
    /// The next final head carries this date; None, or what is no date in the usual form: the present time.
    pub(super) fn set(&self, date: Option<&[u8]>) {
        let date = date.filter(|date| is_usual(date)).and_then(|date| <[u8; LENGTH]>::try_from(date).ok());
        if let Some(date) = date {
            *self.date.lock() = date;
        }
        self.awaited.store(date.is_some(), Ordering::Release);
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Acquire)
    }

    /// Mends a head in place. Informational heads go before the one that is meant.
    pub(super) fn mend(&self, written: &mut [u8]) {
        if written.starts_with(b"HTTP/1.1 1") {
            return;
        }
        self.awaited.store(false, Ordering::Release);
        let mut start = 0;
        for line in written.split(|byte| *byte == b'\n') {
            let name = b"date: ";
            if line.len() == name.len() + LENGTH + 1 && line[..name.len()].eq_ignore_ascii_case(name) {
                let value = start + name.len();
                written[value..value + LENGTH].copy_from_slice(&*self.date.lock());
                return;
            }
            if line.len() <= 1 {
                return;
            }
            start += line.len() + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THEN: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    fn mended(date: &AnswerDate, head: &str) -> String {
        let mut bytes = head.as_bytes().to_vec();
        if date.is_awaited() {
            date.mend(&mut bytes);
        }
        String::from_utf8(bytes).unwrap()
    }

    fn head(date: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nX-Date: {date}\r\nDate: {date}\r\nX: y\r\n\r\ndate: {date}\r\n")
    }

    #[test]
    fn a_stored_answer_would_look_new() {
        let (now, then) = ("Mon, 07 Nov 1994 08:49:37 GMT", std::str::from_utf8(THEN).unwrap());
        let date = AnswerDate::default();
        date.set(Some(THEN));
        let early = format!("HTTP/1.1 103 Early Hints\r\ndate: {now}\r\n\r\n");
        assert_eq!(mended(&date, &early), early);
        let (before, after) = (head(now), head(now).replacen(&format!("\nDate: {now}"), &format!("\nDate: {then}"), 1));
        assert_eq!(mended(&date, &before), after);
        assert_eq!(mended(&date, &before), before, "the next head is not of this answer");
    }

    #[test]
    fn what_is_no_date_leaves_the_present_time() {
        let date = AnswerDate::default();
        for value in [None, Some(&b"foo"[..]), Some(b"Sunday, 06-Nov-94 08:49:37 GMT"), Some(&[b'x'; LENGTH])] {
            date.set(value);
            assert!(!date.is_awaited(), "{value:?}");
        }
        date.set(Some(THEN));
        let body = "no head\r\n\r\nDate: Mon, 07 Nov 1994 08:49:37 GMT\r\n";
        assert_eq!(mended(&date, body), body);
        assert!(!date.is_awaited(), "a head too large to be gathered gives up its date");
    }

    proptest! {
        #[test]
        fn nothing_else_changes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let date = AnswerDate::default();
            date.set(Some(THEN));
            let mut written = bytes.clone();
            date.mend(&mut written);
            prop_assert_eq!(written.len(), bytes.len());
            let changed = written.iter().zip(&bytes).filter(|(new, old)| new != old).count();
            prop_assert!(changed <= LENGTH);
        }
    }
}
