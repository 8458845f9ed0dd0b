//! Exact rationals for times and rates. Seconds as floating point lose a frame within hours; these lose nothing.
//!
//! Invariants: the denominator is positive; always in lowest terms, so equal values are equal; no panic on any numbers.

use serde::{Deserialize, Serialize};

/// Numerator and denominator; as JSON, a list of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(i64, i64)", into = "(i64, i64)")]
pub struct Fraction {
    numerator: i64,
    denominator: i64,
}

impl Fraction {
    /// In lowest terms; None for a denominator of 0 and for what does not fit into 64 bits.
    pub fn new(numerator: impl Into<i128>, denominator: impl Into<i128>) -> Option<Self> {
        let (numerator, denominator): (i128, i128) = (numerator.into(), denominator.into());
        if denominator == 0 {
            return None;
        }
        let divisor = greatest_common_divisor(numerator.unsigned_abs(), denominator.unsigned_abs());
        let sign = denominator.signum();
        let divisor = i128::try_from(divisor).ok()?;
        Some(Self {
            numerator: i64::try_from(numerator / divisor * sign).ok()?,
            denominator: i64::try_from(denominator / divisor * sign).ok()?,
        })
    }

    /// `30000/1001`, `8:9` or `25`.
    pub fn parse(text: &str) -> Option<Self> {
        let (numerator, denominator) = text.split_once(['/', ':']).unwrap_or((text, "1"));
        Self::new(numerator.parse::<i64>().ok()?, denominator.parse::<i64>().ok()?)
    }

    /// Has the sign.
    pub const fn numerator(self) -> i64 {
        self.numerator
    }

    /// Positive.
    pub const fn denominator(self) -> i64 {
        self.denominator
    }

    /// None for what does not fit into 64 bits.
    pub fn times(self, other: Self) -> Option<Self> {
        let numerator = i128::from(self.numerator) * i128::from(other.numerator);
        Self::new(numerator, i128::from(self.denominator) * i128::from(other.denominator))
    }

    /// The nearest there is: for people and for ffmpeg, never to count frames with.
    pub fn as_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }
}

impl std::fmt::Display for Fraction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.numerator, self.denominator)
    }
}

impl TryFrom<(i64, i64)> for Fraction {
    type Error = &'static str;

    fn try_from((numerator, denominator): (i64, i64)) -> Result<Self, Self::Error> {
        Self::new(numerator, denominator).ok_or("a denominator of 0")
    }
}

impl From<Fraction> for (i64, i64) {
    fn from(fraction: Fraction) -> Self {
        (fraction.numerator, fraction.denominator)
    }
}

fn greatest_common_divisor(a: u128, b: u128) -> u128 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_and_ratios_are_read_in_lowest_terms() {
        for (text, read) in [("60000/2002", "30000/1001"), ("25", "25/1"), ("64:-48", "-4/3"), ("0/9", "0/1")] {
            assert_eq!(Fraction::parse(text).unwrap().to_string(), read);
        }
        for text in ["", "1/0", "0/0", "a/1", "1/2/3", "99999999999999999999"] {
            assert_eq!(Fraction::parse(text), None, "{text}");
        }
    }

    #[test]
    fn products_are_exact() {
        let third = Fraction::parse("1/3").unwrap();
        assert_eq!(third.times(Fraction::parse("-3/7").unwrap()).unwrap().to_string(), "-1/7");
    }

    proptest! {
        #[test]
        fn any_numbers_are_taken(a in any::<i64>(), b in any::<i64>(), c in any::<i64>(), d in any::<i64>()) {
            if let (Some(left), Some(right)) = (Fraction::new(a, b), Fraction::new(c, d)) {
                prop_assert!(left.denominator() > 0);
                let _ = left.times(right);
            }
        }
    }
}
